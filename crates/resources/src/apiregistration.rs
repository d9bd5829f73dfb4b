//! The resources of apiregistration.k8s.io/v1: who serves which group and version.

pub mod api_service;
