//! Priority: a pod's priority is its class's number, never its own.
//!
//! Upstream: plugin/pkg/admission/priority.

use api::core::v1::{Pod, PodSpec};
use api::scheduling::v1::PriorityClass;
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};
use crate::Lookup;

pub struct Plugin;

const PREEMPT: &str = "PreemptLowerPriority";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && subresource.is_empty()
            && matches!((group, resource), ("", "pods") | ("scheduling.k8s.io", "priorityclasses"))
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if request.operation == Operation::Update {
            let old = request.old_object::<Pod>().and_then(|pod| pod.spec.clone());
            if let (Some(spec), Some(old)) = (request.object::<Pod>().and_then(|pod| pod.spec.as_mut()), old) {
                keep(spec, &old);
            }
            return done(Ok(()));
        }
        let lookup = request.lookup();
        let Some(spec) = request.object::<Pod>().map(|pod| pod.spec.get_or_insert_default()) else {
            return done(Ok(()));
        };
        let name = spec.priority_class_name.clone().unwrap_or_default();
        if name.is_empty() {
            let class = default_class(lookup);
            return done(resolve(spec, class.as_deref()).map_err(|why| request.forbidden(&why)));
        }
        if let Some(class) = lookup.get::<PriorityClass>("", &name) {
            return done(resolve(spec, Some(&class)).map_err(|why| request.forbidden(&why)));
        }
        Box::pin(async move {
            let Some(class) = request.lookup().get_live::<PriorityClass>("", &name).await? else {
                return Err(request.forbidden(&format!("no PriorityClass with name {name} was found")));
            };
            match request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) {
                Some(spec) => resolve(spec, Some(&class)).map_err(|why| request.forbidden(&why)),
                None => Ok(()),
            }
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let lookup = request.lookup();
        let Some(class) = request.object::<PriorityClass>() else { return done(Ok(())) };
        if class.global_default != Some(true) {
            return done(Ok(()));
        }
        let own = class.name().to_owned();
        let other = default_class(lookup).filter(|class| class.name() != own);
        done(other.map_or(Ok(()), |other| {
            Err(request.forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name()
            )))
        }))
    }
}

/// The class of pods that name none: of several by mistake, the least.
fn default_class(lookup: &Lookup) -> Option<std::sync::Arc<PriorityClass>> {
    let classes = lookup.list::<PriorityClass>(None);
    classes.into_iter().filter(|class| class.global_default == Some(true)).min_by_key(|class| class.value)
}

/// An update that leaves the priority out means the old one.
fn keep(spec: &mut PodSpec, old: &PodSpec) {
    spec.priority = spec.priority.or(old.priority);
    if spec.preemption_policy.is_none() {
        spec.preemption_policy.clone_from(&old.preemption_policy);
    }
}

fn resolve(spec: &mut PodSpec, class: Option<&PriorityClass>) -> Result<(), String> {
    let priority = class.and_then(|class| class.value).unwrap_or(0);
    let policy = class.and_then(|class| class.preemption_policy.as_deref()).unwrap_or(PREEMPT);
    if let Some(own) = spec.priority.filter(|own| *own != priority) {
        return Err(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; \
             priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    if let Some(own) = spec.preemption_policy.as_deref().filter(|own| *own != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    if let Some(class) = class {
        spec.priority_class_name = Some(class.name().to_owned());
    }
    spec.priority = Some(priority);
    spec.preemption_policy = Some(policy.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, value: i32, policy: Option<&str>) -> PriorityClass {
        let mut class = PriorityClass { value: Some(value), ..PriorityClass::default() };
        class.metadata.name = Some(name.into());
        class.preemption_policy = policy.map(str::to_owned);
        class
    }

    #[test]
    fn priority_comes_from_the_class() {
        let mut spec = PodSpec::default();
        resolve(&mut spec, Some(&class("high", 1000, Some("Never")))).unwrap();
        assert_eq!(spec.priority, Some(1000));
        assert_eq!(spec.preemption_policy.as_deref(), Some("Never"));
        assert_eq!(spec.priority_class_name.as_deref(), Some("high"));
        let mut spec = PodSpec::default();
        resolve(&mut spec, None).unwrap();
        assert_eq!((spec.priority, spec.preemption_policy.as_deref()), (Some(0), Some(PREEMPT)));
        assert_eq!(spec.priority_class_name, None);
    }

    #[test]
    fn a_number_of_ones_own_is_refused() {
        let mut spec = PodSpec { priority: Some(7), ..PodSpec::default() };
        let why = resolve(&mut spec, Some(&class("high", 1000, None))).unwrap_err();
        assert_eq!(
            why,
            "the integer value of priority (7) must not be provided in pod spec; \
             priority admission controller computed 1000 from the given PriorityClass name"
        );
        spec.priority = Some(1000);
        resolve(&mut spec, Some(&class("high", 1000, None))).unwrap();
    }
}
