//! Tests of `node`.

use std::sync::Arc;

use api::Object;
use api::core::v1::{
    Container, EnvFromSource, LocalObjectReference, Pod, PodResourceClaim, PodSpec, SecretEnvSource,
    SecretVolumeSource, Volume,
};
use base::Clock;

use super::*;
use crate::cache::Caches;
use crate::catalog::Catalog;

async fn view(pods: &[Pod]) -> Lookup {
    let store = store::Store::memory();
    let caches = Arc::new(Caches::new(store.clone(), Clock::system(), Default::default()));
    let catalog = Arc::new(Catalog::new(resources::ALL, &caches));
    for pod in pods {
        store.create(&format!("/registry/pods/{}", pod.key()), pod.encode().into(), None).await.unwrap();
    }
    caches.fill().await.unwrap();
    Lookup { caches, catalog }
}

fn pod(name: &str, node: &str, secret: &str) -> Pod {
    let volume = Volume {
        name: "v".into(),
        secret: Some(SecretVolumeSource { secret_name: Some(secret.into()), ..Default::default() }),
        ..Volume::default()
    };
    let env = EnvFromSource {
        secret_ref: Some(SecretEnvSource { name: format!("{secret}-env"), ..Default::default() }),
        ..EnvFromSource::default()
    };
    let container = Container { name: "c".into(), env_from: Some(vec![env]), ..Container::default() };
    let mut pod = Pod {
        spec: Some(PodSpec {
            node_name: Some(node.into()),
            service_account_name: Some("robot".into()),
            image_pull_secrets: Some(vec![LocalObjectReference { name: "pull".into() }]),
            containers: vec![container],
            volumes: Some(vec![volume]),
            resource_claims: Some(vec![PodResourceClaim {
                name: "gpu".into(),
                resource_claim_name: Some(if node == "n1" { "gpu" } else { "other" }.into()),
                ..PodResourceClaim::default()
            }]),
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    pod.metadata.name = Some(name.into());
    pod.metadata.namespace = Some("ns".into());
    pod
}

/// `resource[/subresource]` in `ns`, or cluster-wide if it begins with `/`.
fn ask(node: &Node, lookup: &Lookup, verb: &str, resource: &str, name: &str, selector: Option<&str>) -> Decision {
    let caller = Caller::new("system:node:n1", &[GROUP]);
    let (group, resource) = resource.split_once('#').unwrap_or(("", resource));
    let (namespace, resource) = resource.strip_prefix('/').map_or(("ns", resource), |cluster| ("", cluster));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let what = What::Resource {
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        field_selector: selector,
        label_selector: None,
    };
    node.authorize(&Attributes { caller: &caller, verb, what }, lookup)
}

#[tokio::test]
async fn a_node_reads_what_its_pods_use() {
    let lookup = view(&[pod("mine", "n1", "s1"), pod("other", "n2", "s2")]).await;
    let node = Node::default();
    let unrelated = "no relationship found between node 'n1' and this object";
    let table = [
        ("get", "secrets", "s1", ""),
        ("watch", "secrets", "s1-env", ""),
        ("list", "secrets", "pull", ""),
        ("get", "secrets", "s2", unrelated),
        ("get", "secrets", "", "No Object name found"),
        ("create", "secrets", "s1", "can only read resources of this type"),
        ("get", "/secrets", "s1", "can only read namespaced object of this type"),
        ("get", "configmaps", "s1", unrelated),
        ("create", "serviceaccounts/token", "robot", ""),
        ("create", "serviceaccounts/token", "admin", unrelated),
        ("delete", "serviceaccounts", "robot", "can only create tokens for individual service accounts"),
        ("get", "pods", "mine", ""),
        ("get", "pods", "other", unrelated),
        ("list", "pods", "", "can only list/watch pods with spec.nodeName field selector"),
        ("patch", "pods/status", "mine", ""),
        ("get", "/nodes", "n1", ""),
        ("get", "/nodes", "n2", "node 'n1' cannot read 'n2', only its own Node object"),
        ("list", "/nodes", "", "node 'n1' cannot read all nodes, only its own Node object"),
        ("list", "/services", "", ""),
        ("list", "coordination.k8s.io#leases", "", "can only get, create, update, patch, or delete a node lease"),
        (
            "get",
            "coordination.k8s.io#leases",
            "n1",
            "can only access leases in the \"kube-node-lease\" system namespace",
        ),
        ("get", "resource.k8s.io#resourceclaims", "gpu", ""),
        ("get", "resource.k8s.io#resourceclaims", "other", unrelated),
        ("list", "resource.k8s.io#resourceclaims", "", "can only get individual resources of this type"),
        ("get", "storage.k8s.io#/volumeattachments", "a", unrelated),
        ("create", "resource.k8s.io#/resourceslices", "", ""),
        ("patch", "resource.k8s.io#/resourceslices", "a", unrelated),
        (
            "deletecollection",
            "resource.k8s.io#/resourceslices",
            "",
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        ("get", "certificates.k8s.io#podcertificaterequests", "a", unrelated),
        (
            "list",
            "certificates.k8s.io#podcertificaterequests",
            "",
            "can only list/watch podcertificaterequests with nodeName field selector",
        ),
    ];
    for (verb, resource, name, why) in table {
        let decision = ask(&node, &lookup, verb, resource, name, None);
        let expected = if why.is_empty() { yes() } else { no(why) };
        assert_eq!(decision, expected, "{verb} {resource} {name}");
    }
    assert_eq!(ask(&node, &lookup, "list", "/pods", "", Some("spec.nodeName=n1")), yes());
    assert!(matches!(ask(&node, &lookup, "list", "/pods", "", Some("spec.nodeName=n2")), Decision::NoOpinion(_)));
}

#[tokio::test]
async fn others_are_none_of_its_business() {
    let lookup = view(&[]).await;
    let what = What::Path("/metrics");
    let node = Node::default();
    for caller in [Caller::new("jane", &[GROUP]), Caller::new("system:node:n1", &[])] {
        assert_eq!(node.authorize(&Attributes { caller: &caller, verb: "get", what }, &lookup), no(""));
    }
}
