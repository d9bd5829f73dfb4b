//! NodeRestriction: a node changes itself and its own pods, and not in ways that would draw others' pods to it.
//!
//! Upstream: plugin/pkg/admission/noderestriction.

mod requests;

use std::collections::{BTreeMap, BTreeSet};

use api::authentication::v1::TokenRequest;
use api::core::v1::{Node, Pod};
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};
use crate::authz::node::{self, Thing};

pub struct Plugin;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// The labels of upstream's domains that a node sets on itself.
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/windows-build",
];
/// The same for whole domains and what is below them.
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, _subresource: &str) -> bool {
        operation != Operation::Connect
            && matches!(
                (group, resource),
                ("", "pods" | "nodes" | "serviceaccounts" | "persistentvolumeclaims")
                    | ("coordination.k8s.io", "leases")
                    | ("storage.k8s.io", "csinodes")
                    | ("resource.k8s.io", "resourceslices")
                    | ("certificates.k8s.io", "certificatesigningrequests" | "podcertificaterequests")
            )
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let caller = request.caller.clone();
        let Some(node) = node::identity(&caller) else { return done(Ok(())) };
        if node.is_empty() {
            let why = format!("could not determine node from user {:?}", caller.name);
            return done(Err(request.forbidden(&why)));
        }
        done(check(node, request).map_err(|refused| match refused {
            Refused::Because(why) => request.forbidden(&why),
            Refused::With(status) => status,
        }))
    }
}

/// Why a node may not.
#[derive(Debug)]
enum Refused {
    Because(String),
    With(Status),
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

impl From<&str> for Refused {
    fn from(why: &str) -> Self {
        Self::Because(why.to_owned())
    }
}

fn check(node: &str, request: &mut Request<'_>) -> Result<(), Refused> {
    match (request.resource, request.subresource) {
        ("pods", "") => pod(node, request),
        ("pods", "status") => pod_status(node, request),
        ("pods", "eviction") => eviction(node, request),
        ("pods", other) => {
            Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed").into())
        }
        ("nodes", _) => own_node(node, request),
        ("persistentvolumeclaims", "status") => Ok(()),
        ("persistentvolumeclaims", _) => Err("may only update PVC status".into()),
        ("serviceaccounts", _) => token(node, request),
        ("leases", _) if request.namespace != LEASES => {
            Err(format!("can only access leases in the {LEASES:?} system namespace").into())
        }
        ("leases", _) if request.name != node => {
            Err("can only access node lease with the same name as the requesting node".into())
        }
        ("csinodes", _) if request.name != node => {
            Err("can only access CSINode with the same name as the requesting node".into())
        }
        ("resourceslices", _) => requests::slice(node, request),
        ("certificatesigningrequests", _) => requests::signing(node, request),
        ("podcertificaterequests", _) => requests::pod_certificate(node, request),
        _ => Ok(()),
    }
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn pod(node: &str, request: &mut Request<'_>) -> Result<(), Refused> {
    match request.operation {
        Operation::Create => {
            let uid = request.lookup().get::<Node>("", node).map(|node| node.uid().to_owned());
            match request.object::<Pod>() {
                Some(pod) => mirror(node, uid.as_deref(), pod),
                None => Ok(()),
            }
        }
        Operation::Delete => {
            let existing = existing(request, request.name)?;
            if node_of(&existing) != node {
                return Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself").into());
            }
            Ok(())
        }
        other => {
            let operation = format!("{other:?}").to_uppercase();
            let why =
                format!("unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods");
            Err(why.into())
        }
    }
}

fn existing(request: &Request<'_>, name: &str) -> Result<std::sync::Arc<Pod>, Refused> {
    let found = request.lookup().get::<Pod>(request.namespace, name);
    found.ok_or_else(|| Refused::With(Status::not_found("", "pods", name)))
}

/// What a node may create: a pod that stands for one of its static pods.
fn mirror(node: &str, node_uid: Option<&str>, pod: &Pod) -> Result<(), Refused> {
    let only = |what: &str| Err(format!("node {node:?} can only create pods with {what}").into());
    if pod.annotation(MIRROR).is_none() {
        let why = format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods");
        return Err(why.into());
    }
    if node_of(pod) != node {
        return only("spec.nodeName set to itself");
    }
    let [owner] = pod.metadata.owner_references.as_deref().unwrap_or_default() else {
        return only(match pod.metadata.owner_references.as_deref() {
            Some([_, _, ..]) => "a single owner reference set to itself",
            _ => "an owner reference set to itself",
        });
    };
    if (owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str()) != ("v1", "Node", node) {
        return only("an owner reference set to itself");
    }
    if owner.controller != Some(true) {
        return only("a controller owner reference set to itself");
    }
    if owner.block_owner_deletion == Some(true) {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference").into());
    }
    match node_uid {
        None => return Err(Refused::With(Status::not_found("", "nodes", node))),
        Some(uid) if uid != owner.uid => {
            return Err(format!("node {node} UID mismatch: expected {} got {uid}", owner.uid).into());
        }
        Some(_) => {}
    }
    let Some(spec) = &pod.spec else { return Ok(()) };
    let what = node::uses(pod.name(), spec).first().map(|(thing, _)| *thing);
    let what = match what {
        None => return Ok(()),
        Some(Thing::ServiceAccount) => "a service account",
        Some(Thing::Secret) => "secrets",
        Some(Thing::ConfigMap) => "configmaps",
        Some(Thing::ResourceClaim) => "resourceclaims",
        Some(_) => "persistentvolumeclaims",
    };
    Err(format!("node {node:?} can not create pods that reference {what}").into())
}

fn pod_status(node: &str, request: &mut Request<'_>) -> Result<(), Refused> {
    if request.operation != Operation::Update {
        let operation = format!("{:?}", request.operation).to_uppercase();
        return Err(format!("unexpected operation {operation:?}").into());
    }
    let Some(old) = request.old_object::<Pod>() else { return Ok(()) };
    if node_of(old) != node {
        let why = format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
        return Err(why.into());
    }
    let old_labels = old.metadata.labels.clone().unwrap_or_default();
    match request.object::<Pod>() {
        Some(new) if new.metadata.labels.clone().unwrap_or_default() != old_labels => {
            Err(format!("node {node:?} cannot update labels through pod status").into())
        }
        _ => Ok(()),
    }
}

fn eviction(node: &str, request: &mut Request<'_>) -> Result<(), Refused> {
    if request.name.is_empty() {
        return Err("could not determine pod from request data".into());
    }
    let existing = existing(request, request.name)?;
    if node_of(&existing) != node {
        return Err(format!("node {node} can only evict pods with spec.nodeName set to itself").into());
    }
    Ok(())
}

fn own_node(node: &str, request: &mut Request<'_>) -> Result<(), Refused> {
    if request.name != node {
        return Err(format!("node {node:?} is not allowed to modify node {:?}", request.name).into());
    }
    let old = request.old_object::<Node>().map(|old| {
        let taints = old.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        (old.metadata.labels.clone().unwrap_or_default(), taints, ranges_of(old))
    });
    let operation = request.operation;
    let Some(new) = request.object::<Node>() else { return Ok(()) };
    let labels = new.metadata.labels.clone().unwrap_or_default();
    // Every other node makes a route of it. Upstream lets a node say what it likes.
    if ranges_of(new) != old.as_ref().map(|(_, _, ranges)| ranges.clone()).unwrap_or_default() {
        return Err(format!("node {node:?} is not allowed to modify podCIDR").into());
    }
    match (operation, old) {
        (Operation::Create, _) => match forbidden_labels(&labels, &BTreeMap::new()) {
            none if none.is_empty() => Ok(()),
            some => Err(format!("node {node:?} is not allowed to set the following labels: {some}").into()),
        },
        (Operation::Update, Some((old_labels, old_taints, _))) => {
            let taints = new.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
            if taints != old_taints {
                return Err(format!("node {node:?} is not allowed to modify taints").into());
            }
            match forbidden_labels(&labels, &old_labels) {
                none if none.is_empty() => Ok(()),
                some => Err(format!("is not allowed to modify labels: {some}").into()),
            }
        }
        _ => Ok(()),
    }
}

/// The pods' addresses of a node.
fn ranges_of(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    spec.pod_cidr.iter().chain(spec.pod_cidrs.iter().flatten()).cloned().collect()
}

/// The labels among those changed that a node has no say in, as they are listed in a refusal.
fn forbidden_labels(new: &BTreeMap<String, String>, old: &BTreeMap<String, String>) -> String {
    let changed = new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key));
    let forbidden: BTreeSet<&str> = changed.map(String::as_str).filter(|key| !is_own_label(key)).collect();
    forbidden.into_iter().collect::<Vec<_>>().join(", ")
}

fn is_own_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    if within(RESTRICTED) {
        return false;
    }
    let upstreams = within("kubernetes.io") || within("k8s.io");
    !upstreams || OWN_LABELS.contains(&key) || OWN_DOMAINS.iter().any(|own| within(own))
}

fn token(node: &str, request: &mut Request<'_>) -> Result<(), Refused> {
    if request.operation != Operation::Create || request.subresource != "token" {
        return Ok(());
    }
    let Some(asked) = request.object::<TokenRequest>() else { return Ok(()) };
    let bound = asked.spec.as_ref().and_then(|spec| spec.bound_object_ref.clone()).unwrap_or_default();
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (name, uid) = (text(&bound.name), text(&bound.uid));
    if text(&bound.api_version) != "v1" || text(&bound.kind) != "Pod" || name.is_empty() {
        return Err("node requested token not bound to a pod".into());
    }
    if uid.is_empty() {
        return Err("node requested token with a pod binding without a uid".into());
    }
    let pod = existing(request, &name)?;
    if pod.uid() != uid {
        return Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        )
        .into());
    }
    if node_of(&pod) != node {
        return Err("node requested token bound to a pod scheduled on a different node".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::core::v1::PodSpec;
    use api::meta::v1::OwnerReference;

    use super::*;

    fn labels(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_a_node_has_no_say_in() {
        let none = BTreeMap::new();
        let own = [
            ("kubernetes.io/hostname", "a"),
            ("topology.kubernetes.io/zone", "z"),
            ("node.kubernetes.io/x", "y"),
            ("x.kubelet.kubernetes.io/a", "b"),
            ("example.com/gpu", "true"),
            ("plain", "1"),
        ];
        assert_eq!(forbidden_labels(&labels(&own), &none), "");
        let others = [
            ("node-restriction.kubernetes.io/secure", "true"),
            ("node-role.kubernetes.io/control-plane", ""),
            ("a.node-restriction.kubernetes.io/b", ""),
        ];
        assert_eq!(
            forbidden_labels(&labels(&others), &none),
            "a.node-restriction.kubernetes.io/b, node-restriction.kubernetes.io/secure, \
             node-role.kubernetes.io/control-plane"
        );
        assert_eq!(forbidden_labels(&labels(&others), &labels(&others)), "");
        assert_eq!(forbidden_labels(&none, &labels(&others[1..2])), "node-role.kubernetes.io/control-plane");
    }

    #[test]
    fn a_node_creates_mirror_pods_of_its_own() {
        let why = |pod: &Pod| match mirror("n1", Some("u1"), pod) {
            Ok(()) => String::new(),
            Err(Refused::Because(why)) => why,
            Err(Refused::With(status)) => status.to_string(),
        };
        let mut pod = Pod::default();
        assert!(why(&pod).contains("can only create mirror pods"));
        pod.metadata.annotations = Some(labels(&[(MIRROR, "hash")]));
        assert_eq!(why(&pod), "node \"n1\" can only create pods with spec.nodeName set to itself");
        pod.spec = Some(PodSpec { node_name: Some("n1".into()), ..PodSpec::default() });
        assert_eq!(why(&pod), "node \"n1\" can only create pods with an owner reference set to itself");
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: "n1".into(),
            uid: "u2".into(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        pod.metadata.owner_references = Some(vec![owner]);
        assert_eq!(why(&pod), "node n1 UID mismatch: expected u2 got u1");
        pod.metadata.owner_references.as_mut().unwrap()[0].uid = "u1".into();
        assert_eq!(why(&pod), "");
        pod.spec.as_mut().unwrap().service_account_name = Some("web".into());
        assert_eq!(why(&pod), "node \"n1\" can not create pods that reference a service account");
    }
}
