//! The plugins, one file each, in the order they filter: cheap and decisive ones first.

mod balanced_allocation;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod scheduling_gates;
mod taint_toleration;

use crate::framework::Plugin;

pub use scheduling_gates::is_gated;

/// Every plugin.
pub static ALL: &[&dyn Plugin] = &[
    &node_unschedulable::Plugin,
    &node_name::Plugin,
    &taint_toleration::Plugin,
    &node_affinity::Plugin,
    &node_ports::Plugin,
    &node_resources_fit::Plugin,
    &balanced_allocation::Plugin,
];
