//! The catalogue of resources: one file per resource says its names, scope, defaults, validation, columns,
//! subresources and selectable fields, and nothing more. Discovery, routes, OpenAPI, tables and RBAC names derive
//! from [`ALL`].
//!
//! This crate is pure: it never does I/O, never reads a clock and knows no async runtime.

mod checks;
pub mod column;
pub mod metadata;
mod prelude;
pub mod spelling;
pub mod strategy;
pub mod unstable;

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;
pub mod storagemigration;

pub use column::Column;
pub use strategy::{
    AnyStrategy, Erased, Names, Operation, Scope, Selectable, Shared, Storage, StoredAs, StoredObject, Strategy,
    Subresource,
};

/// Every resource that is served by default, in discovery order within its group. [`unstable::ALL`] has the others.
pub static ALL: &[&dyn AnyStrategy] = &[
    &Erased(core::binding::Strategy),
    &Erased(core::component_status::Strategy),
    &Erased(core::config_map::Strategy),
    &Erased(core::endpoints::Strategy),
    &Erased(core::event::Strategy),
    &Erased(core::limit_range::Strategy),
    &Erased(core::namespace::Strategy),
    &Erased(core::node::Strategy),
    &Erased(core::persistent_volume_claim::Strategy),
    &Erased(core::persistent_volume::Strategy),
    &Erased(core::pod::Strategy),
    &Erased(core::pod_template::Strategy),
    &Erased(core::resource_quota::Strategy),
    &Erased(core::replication_controller::Strategy),
    &Erased(core::secret::Strategy),
    &Erased(core::service_account::Strategy),
    &Erased(core::service::Strategy),
    &Erased(admissionregistration::mutating_admission_policy_binding::Strategy),
    &Erased(admissionregistration::mutating_admission_policy::Strategy),
    &Erased(admissionregistration::mutating_webhook_configuration::Strategy),
    &Erased(admissionregistration::validating_admission_policy_binding::Strategy),
    &Erased(admissionregistration::validating_admission_policy::Strategy),
    &Erased(admissionregistration::validating_webhook_configuration::Strategy),
    &Erased(apiextensions::custom_resource_definition::Strategy),
    &Erased(apiregistration::api_service::Strategy),
    &Erased(apps::controller_revision::Strategy),
    &Erased(apps::daemon_set::Strategy),
    &Erased(apps::deployment::Strategy),
    &Erased(apps::replica_set::Strategy),
    &Erased(apps::stateful_set::Strategy),
    &Erased(authentication::self_subject_review::Strategy),
    &Erased(authentication::token_review::Strategy),
    &Erased(authorization::local_subject_access_review::Strategy),
    &Erased(authorization::self_subject_access_review::Strategy),
    &Erased(authorization::self_subject_rules_review::Strategy),
    &Erased(authorization::subject_access_review::Strategy),
    &Erased(autoscaling::horizontal_pod_autoscaler::Strategy),
    &Erased(autoscaling::horizontal_pod_autoscaler_v1::Strategy),
    &Erased(batch::cron_job::Strategy),
    &Erased(batch::job::Strategy),
    &Erased(certificates::certificate_signing_request::Strategy),
    &Erased(certificates::cluster_trust_bundle::Strategy),
    &Erased(certificates::pod_certificate_request::Strategy),
    &Erased(coordination::lease::Strategy),
    &Erased(discovery::endpoint_slice::Strategy),
    &Erased(events::event::Strategy),
    &Erased(flowcontrol::flow_schema::Strategy),
    &Erased(flowcontrol::priority_level_configuration::Strategy),
    &Erased(networking::ingress_class::Strategy),
    &Erased(networking::ingress::Strategy),
    &Erased(networking::ip_address::Strategy),
    &Erased(networking::network_policy::Strategy),
    &Erased(networking::service_cidr::Strategy),
    &Erased(node::runtime_class::Strategy),
    &Erased(policy::pod_disruption_budget::Strategy),
    &Erased(rbac::cluster_role_binding::Strategy),
    &Erased(rbac::cluster_role::Strategy),
    &Erased(rbac::role_binding::Strategy),
    &Erased(rbac::role::Strategy),
    &Erased(resource::device_class::Strategy),
    &Erased(resource::device_taint_rule::Strategy),
    &Erased(resource::resource_claim_template::Strategy),
    &Erased(resource::resource_claim::Strategy),
    &Erased(resource::resource_slice::Strategy),
    &Erased(scheduling::priority_class::Strategy),
    &Erased(storage::csi_driver::Strategy),
    &Erased(storage::csi_node::Strategy),
    &Erased(storage::csi_storage_capacity::Strategy),
    &Erased(storage::storage_class::Strategy),
    &Erased(storage::volume_attachment::Strategy),
    &Erased(storage::volume_attributes_class::Strategy),
    &Erased(storagemigration::storage_version_migration::Strategy),
];

/// The resource served at `group`/`version`/`plural`.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static dyn AnyStrategy> {
    ALL.iter().copied().find(|s| {
        let kind = s.kind();
        kind.group == group && kind.version == version && s.names().plural == plural
    })
}

#[cfg(test)]
mod tests;
