//! SchedulingGates: a pod with gates is not tried at all until they are gone.

use api::lean::Pod;

/// Whether the pod still has gates; it then never enters the queue.
pub fn is_gated(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
}
