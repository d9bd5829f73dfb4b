//! `autoscaling`: one kind, served in two versions and stored in the newer one.

pub mod horizontal_pod_autoscaler;
pub mod horizontal_pod_autoscaler_v1;
