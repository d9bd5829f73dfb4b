//! The controllers: each watches objects and makes the world match them. One file per controller; the harness does
//! the queueing, back-off, writing, events and metrics.
//!
//! A controller reaches objects only through the API, under its own identity. This crate never reads a clock: the
//! time is handed to `plan`.

pub mod harness;
mod pod;

mod certificates;
mod endpoints;
mod protection;
mod taints;

mod clusterrole_aggregation;
mod csr_approving;
mod csr_cleaner;
mod csr_signing;
mod deployment;
mod disruption;
mod endpoint;
mod endpointslice;
mod garbage_collector;
mod ip_address;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod pod_certificate_cleaner;
mod pod_gc;
mod pod_group_protection;
mod pv_protection;
mod pvc_protection;
mod replicaset;
mod resourcequota;
mod root_ca;
mod service_account;
mod service_cidr;
mod service_ip;
mod taint_eviction;
mod token_cleaner;
mod trust_bundle_publisher;
mod ttl_after_finished;

pub use harness::{
    Acting, Actor, AnyController, Context, Controller, Erased, Facts, Plan, Read, Signing, Step, View, Write,
};

/// Every controller.
pub static ALL: &[&dyn AnyController] = &[
    &Erased(deployment::Controller),
    &Erased(replicaset::Controller),
    &Erased(disruption::Controller),
    &Erased(disruption::Stale),
    &Erased(endpointslice::Controller),
    &Erased(endpoint::Controller),
    &Erased(service_account::Controller),
    &Erased(service_cidr::Controller),
    &Erased(service_ip::Controller),
    &Erased(ip_address::Controller),
    &Erased(root_ca::Controller),
    &Erased(trust_bundle_publisher::Controller),
    &Erased(clusterrole_aggregation::Controller),
    &Erased(csr_cleaner::Controller),
    &Erased(pod_certificate_cleaner::Controller),
    &Acting(csr_approving::Controller),
    &Acting(csr_signing::Controller),
    &Erased(node_lifecycle::Controller),
    &Erased(taint_eviction::Controller),
    &Erased(token_cleaner::Controller),
    &Erased(ttl_after_finished::Controller),
    &Erased(pv_protection::Controller),
    &Acting(namespace::Controller),
    &Acting(node_ipam::Controller),
    &Acting(pvc_protection::Controller),
    &Acting(pod_group_protection::Controller),
    &resourcequota::CONTROLLER,
    &garbage_collector::Controller,
    &pod_gc::Controller,
];
