//! RuntimeClass: a pod gets the overhead of its class, and goes where the class runs.
//!
//! Upstream: plugin/pkg/admission/runtimeclass.

use api::Status;
use api::core::v1::{Pod, PodSpec, Toleration};
use api::node::v1::RuntimeClass;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Create && group.is_empty() && resource == "pods" && subresource.is_empty()
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let Some(name) = class_name(request) else { return done(Ok(())) };
        Box::pin(async move {
            let class = match request.lookup().get::<RuntimeClass>("", &name) {
                Some(class) => Some(class),
                None => request.lookup().get_live("", &name).await?,
            };
            let Some(class) = class else {
                return Err(request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found")));
            };
            match request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) {
                Some(spec) => apply(spec, &class).map_err(|why| request.forbidden(&why)),
                None => Ok(()),
            }
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let named = class_name(request).is_some();
        let overhead = |pod: &mut Pod| pod.spec.as_ref().is_some_and(has_overhead);
        if !named && request.object::<Pod>().is_some_and(overhead) {
            return done(Err(request.forbidden(UNFOUNDED)));
        }
        done(Ok(()))
    }
}

const UNFOUNDED: &str = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

fn class_name(request: &mut Request<'_>) -> Option<String> {
    let spec = request.object::<Pod>()?.spec.as_ref()?;
    spec.runtime_class_name.clone().filter(|name| !name.is_empty())
}

fn has_overhead(spec: &PodSpec) -> bool {
    spec.overhead.as_ref().is_some_and(|overhead| !overhead.is_empty())
}

fn apply(spec: &mut PodSpec, class: &RuntimeClass) -> Result<(), String> {
    match class.overhead.as_ref().map(|overhead| overhead.pod_fixed.clone().unwrap_or_default()) {
        Some(fixed) if has_overhead(spec) && spec.overhead.as_ref() != Some(&fixed) => {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
        }
        Some(fixed) => spec.overhead = Some(fixed),
        None if has_overhead(spec) => return Err(UNFOUNDED.to_owned()),
        None => {}
    }
    let Some(scheduling) = &class.scheduling else { return Ok(()) };
    for (key, value) in scheduling.node_selector.iter().flatten() {
        let own = spec.node_selector.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
        if own != value {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; \
                 pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
    }
    let missing: Vec<Toleration> = scheduling.tolerations.iter().flatten().cloned().collect();
    if !missing.is_empty() {
        let own = spec.tolerations.get_or_insert_default();
        own.extend(missing.into_iter().filter(|one| !own.contains(one)).collect::<Vec<_>>());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::Quantity;
    use api::node::v1::{Overhead, Scheduling};

    use super::*;

    fn class() -> RuntimeClass {
        let fixed = BTreeMap::from([("cpu".to_owned(), Quantity("250m".into()))]);
        let selector = BTreeMap::from([("runtime".to_owned(), "kata".to_owned())]);
        let toleration = Toleration { key: Some("kata".into()), ..Toleration::default() };
        RuntimeClass {
            overhead: Some(Overhead { pod_fixed: Some(fixed) }),
            scheduling: Some(Scheduling { node_selector: Some(selector), tolerations: Some(vec![toleration]) }),
            ..RuntimeClass::default()
        }
    }

    #[test]
    fn the_class_shapes_the_pod() {
        let mut spec = PodSpec::default();
        apply(&mut spec, &class()).unwrap();
        assert_eq!(spec.overhead.as_ref().unwrap()["cpu"].0, "250m");
        assert_eq!(spec.node_selector.as_ref().unwrap()["runtime"], "kata");
        let once = spec.clone();
        apply(&mut spec, &class()).unwrap();
        assert_eq!(spec, once);
    }

    #[test]
    fn contradictions_are_refused() {
        let overhead = BTreeMap::from([("cpu".to_owned(), Quantity("1".into()))]);
        let mut spec = PodSpec { overhead: Some(overhead), ..PodSpec::default() };
        assert!(apply(&mut spec, &class()).unwrap_err().contains("doesn't match RuntimeClass"));
        assert_eq!(apply(&mut spec, &RuntimeClass::default()).unwrap_err(), UNFOUNDED);
        let selector = BTreeMap::from([("runtime".to_owned(), "runc".to_owned())]);
        let mut spec = PodSpec { node_selector: Some(selector), ..PodSpec::default() };
        assert_eq!(
            apply(&mut spec, &class()).unwrap_err(),
            "conflict: runtimeClass.scheduling.nodeSelector[runtime] = kata; pod.spec.nodeSelector[runtime] = runc"
        );
    }
}
