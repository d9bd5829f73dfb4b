//! Kubernetes' types and what can be decided about them without I/O: metadata, selectors, quantities, Status,
//! validation errors, schemas, patches, and the codec.
//!
//! This crate never reads a clock, never does I/O and knows no async runtime. It is the only one that names
//! `k8s_openapi`, and the only one where concrete kinds are (de)serialized.

pub mod call;
pub mod codec;
pub mod cron;
pub mod custom;
pub mod disruption;
pub mod field;
mod go;
pub mod kinds;
pub mod lean;
pub mod managed;
pub mod name;
pub mod object;
pub mod owner;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;

pub use call::{Body, Call, List, Options, Reply, Target, Verb, WatchEvent};
pub use custom::Custom;
pub use field::{FieldErrors, Path};
pub use object::{Kind, Object, Typed, downcast, downcast_arc};
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Reason, Status};

pub use k8s_openapi::ByteString;
pub use k8s_openapi::api::{
    admissionregistration, apps, authentication, authorization, autoscaling, batch, certificates, coordination, core,
    discovery, events, flowcontrol, networking, node, policy, rbac, resource, scheduling, storage, storagemigration,
};
pub use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::apis::meta;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
pub use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
pub use k8s_openapi::schemars;

/// A point on the UTC time line. Object timestamps are `meta::v1::Time` (whole seconds on the wire) and
/// `meta::v1::MicroTime`.
pub type Timestamp = jiff::Timestamp;
