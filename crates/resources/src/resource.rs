//! The resources of resource.k8s.io/v1: devices that pods claim.

mod claim;
mod device;
pub mod device_class;
pub mod device_taint_rule;
mod expression;
pub mod resource_claim;
mod resource_claim_status;
pub mod resource_claim_template;
pub mod resource_slice;
