//! Custom resources: what CustomResourceDefinitions define, served like everything else.
//!
//! A definition is compiled when it changes, never per request: [`define::Defined`] holds a [`Version`] for each
//! version, which is the resource's strategy. [`follow`] keeps the catalogue true to the definitions, accepts their
//! names, and empties what is to go.
//!
//! Upstream: staging/src/k8s.io/apiextensions-apiserver.

pub(crate) mod convert;
pub(crate) mod define;
mod describe;
pub(crate) mod follow;
mod names;
mod strategy;
pub(crate) mod terminate;
mod webhook;

pub(crate) use define::Version;
