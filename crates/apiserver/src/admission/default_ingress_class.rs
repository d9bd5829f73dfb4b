//! DefaultIngressClass: an ingress that names no class gets the one that is the default.
//!
//! Upstream: plugin/pkg/admission/network/defaultingressclass.

use std::cmp::Reverse;
use std::sync::Arc;

use api::networking::v1::{Ingress, IngressClass};
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Create && (group, resource, subresource) == ("networking.k8s.io", "ingresses", "")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let class = default_class(request.lookup().list::<IngressClass>(None));
        if let (Some(class), Some(ingress)) = (class, request.object::<Ingress>())
            && names_no_class(ingress)
        {
            ingress.spec.get_or_insert_default().ingress_class_name = Some(class);
        }
        done(Ok(()))
    }
}

fn names_no_class(ingress: &Ingress) -> bool {
    let annotated = ingress.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CLASS_ANNOTATION));
    !annotated && ingress.spec.as_ref().is_none_or(|spec| spec.ingress_class_name.is_none())
}

/// The name of the class that is the default; of several the newest.
fn default_class(classes: Vec<Arc<IngressClass>>) -> Option<String> {
    let is_default = |class: &Arc<IngressClass>| {
        let annotations = class.metadata.annotations.as_ref();
        annotations.is_some_and(|all| all.get(IS_DEFAULT).is_some_and(|value| value == "true"))
    };
    let rank = |class: &Arc<IngressClass>| {
        let created = class.metadata.creation_timestamp.as_ref().map(|created| created.0);
        (Reverse(created), class.name().to_owned())
    };
    classes.into_iter().filter(is_default).min_by_key(rank).map(|class| class.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;
    use serde_json::json;

    #[test]
    fn the_newest_default_wins() {
        let class = |name: &str, created: &str, default: &str| {
            let metadata = json!({"name": name, "creationTimestamp": created, "annotations": {IS_DEFAULT: default}});
            Arc::new(IngressClass::from_value(json!({"metadata": metadata})).unwrap())
        };
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        assert_eq!(default_class(vec![class("a", new, "false")]), None);
        let classes = vec![class("a", old, "true"), class("c", new, "true"), class("b", new, "true")];
        assert_eq!(default_class(classes).as_deref(), Some("b"));
    }
}
