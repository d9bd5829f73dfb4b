//! The resources of flowcontrol.apiserver.k8s.io/v1: how the server shares itself out among requests.

pub mod flow_schema;
pub mod mandatory;
pub mod priority_level_configuration;
