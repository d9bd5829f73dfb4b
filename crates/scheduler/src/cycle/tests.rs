//! Whole cycles over small clusters.

use api::Typed;
use api::core::v1::Node;
use api::lean::Pod;
use serde_json::{Value, json};

use super::*;
use crate::snapshot::Cache;

fn node(name: &str, more: Value) -> Arc<Node> {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}},
    });
    merge(&mut node, more);
    Arc::new(Node::from_value(node).expect("a node"))
}

fn merge(to: &mut Value, from: Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                merge(to.entry(key).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from,
    }
}

fn pod(spec: Value) -> PodInfo {
    let mut whole = json!({"containers": [{"name": "c"}]});
    merge(&mut whole, spec);
    let pod = json!({"metadata": {"name": "p", "namespace": "default", "uid": "p"}, "spec": whole});
    PodInfo::new(Arc::new(Pod::from_value(pod).expect("a pod")))
}

fn cluster(nodes: Vec<Arc<Node>>) -> Cache {
    let mut cache = Cache::default();
    for node in nodes {
        cache.set_node(node);
    }
    cache
}

fn place(pod: &PodInfo, cache: &Cache) -> Result<String, String> {
    schedule(pod, &cache.snapshot(), crate::ALL, 0, |_| 0).map_err(|why| why.message())
}

#[test]
fn reasons_are_counted_in_upstreams_words() {
    let cache = cluster(vec![
        node("a", json!({"spec": {"unschedulable": true}})),
        node("b", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})),
        node("c", json!({})),
        node("d", json!({})),
    ]);
    let big = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "2Gi"}}}]}));
    assert_eq!(
        place(&big, &cache),
        Err("0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, \
             2 Insufficient cpu, 2 Insufficient memory."
            .to_owned())
    );
    assert_eq!(place(&big, &cluster(Vec::new())), Err("no nodes available to schedule pods".to_owned()));
}

#[test]
fn the_emptier_node_is_better() {
    let mut cache = cluster(vec![node("a", json!({})), node("b", json!({}))]);
    let small = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "300m", "memory": "300Mi"}}}]});
    cache.assume(&pod(small.clone()), "a");
    assert_eq!(place(&pod(small), &cache), Ok("b".to_owned()));
}

#[test]
fn required_and_preferred_affinity() {
    let cache = cluster(vec![
        node("a", json!({"metadata": {"labels": {"disk": "ssd"}}})),
        node("b", json!({"metadata": {"labels": {"disk": "hdd", "zone": "z1"}}})),
        node("c", json!({})),
    ]);
    let required = |expression: Value| {
        pod(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}}))
    };
    assert_eq!(place(&required(json!({"key": "disk", "operator": "In", "values": ["hdd"]})), &cache), Ok("b".into()));
    assert_eq!(place(&required(json!({"key": "disk", "operator": "DoesNotExist"})), &cache), Ok("c".into()));
    let preferred = pod(json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 5, "preference": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}}]}}}));
    assert_eq!(place(&preferred, &cache), Ok("b".into()));
    let nowhere = pod(json!({"nodeSelector": {"disk": "tape"}}));
    assert_eq!(
        place(&nowhere, &cache),
        Err("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.".into())
    );
}

#[test]
fn host_ports_and_pod_counts_are_limits() {
    let mut cache = cluster(vec![node("a", json!({"status": {"allocatable": {"pods": "1"}}}))]);
    let web = pod(json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}));
    assert_eq!(place(&web, &cache), Ok("a".into()));
    cache.assume(&web, "a");
    assert_eq!(
        place(&web, &cache),
        Err("0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.".into())
    );
    assert_eq!(place(&pod(json!({})), &cache), Err("0/1 nodes are available: 1 Too many pods.".into()));
    cache.forget("p");
    assert_eq!(place(&web, &cache), Ok("a".into()), "what was only assumed is given back");
}
