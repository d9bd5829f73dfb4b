//! What counts for what, which scopes hold, and the words of a refusal.

use serde_json::{Value, json};

use super::*;
use crate::object::Typed;

const PODS: What<'_> = What { group: "", plural: "pods" };

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn pod(spec: Value) -> Pod {
    Pod::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})).unwrap()
}

fn asking(requests: Value, limits: Value) -> Pod {
    pod(json!({"containers": [{"name": "c", "resources": {"requests": requests, "limits": limits}}]}))
}

fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
}

fn quota(hard: Value, used: Value, spec: Value) -> ResourceQuota {
    ResourceQuota::from_value(json!({
        "metadata": {"name": "q", "namespace": "n"}, "spec": spec, "status": {"hard": hard, "used": used}
    }))
    .unwrap()
}

#[test]
fn a_pod_counts_for_what_it_asks_as_a_whole() {
    let own = pod(json!({
        "overhead": {"cpu": "10m"},
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
            {"name": "i", "resources": {"requests": {"cpu": "900m", "memory": "1Gi"}}},
        ],
        "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "200m", "example.com/gpu": "2"}, "limits": {"memory": "1Gi"}}},
            {"name": "b", "resources": {"requests": {"cpu": "300m", "hugepages-2Mi": "4Mi"}}},
        ],
    }));
    assert_eq!(
        shown(&PODS.usage(&own, now())),
        "count/pods=1 cpu=1010m hugepages-2Mi=4Mi limits.memory=1Gi memory=1Gi pods=1 requests.cpu=1010m \
         requests.example.com/gpu=2 requests.hugepages-2Mi=4Mi requests.memory=1Gi"
    );
    let mut over = asking(json!({"cpu": "1"}), json!({}));
    over.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
    assert_eq!(shown(&PODS.usage(&over, now())), "count/pods=1");
    let mut late = asking(json!({"cpu": "1"}), json!({}));
    late.metadata.deletion_timestamp = Some(crate::meta::v1::Time("2025-12-31T23:59:00Z".parse().unwrap()));
    late.metadata.deletion_grace_period_seconds = Some(30);
    assert_eq!(shown(&PODS.usage(&late, now())), "count/pods=1");
    late.metadata.deletion_grace_period_seconds = Some(90);
    assert!(PODS.usage(&late, now()).contains_key("pods"));
}

#[test]
fn services_claims_and_others_count() {
    let service = |spec: Value| {
        let service = Service::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
        shown(&What { group: "", plural: "services" }.usage(&service, now()))
    };
    let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30000}]);
    assert_eq!(
        service(json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false})),
        "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1"
    );
    assert_eq!(
        service(json!({"type": "NodePort", "ports": ports})),
        "count/services=1 services=1 services.loadbalancers=0 services.nodeports=2"
    );
    let claims = What { group: "", plural: "persistentvolumeclaims" };
    let claim = PersistentVolumeClaim::from_value(json!({
        "metadata": {"name": "c"},
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"allocatedResources": {"storage": "2Gi"}},
    }))
    .unwrap();
    assert_eq!(
        shown(&claims.usage(&claim, now())),
        "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
         gold.storageclass.storage.k8s.io/requests.storage=2Gi persistentvolumeclaims=1 requests.storage=2Gi"
    );
    assert!(claims.counts_for("gold.storageclass.storage.k8s.io/requests.storage") && !claims.counts_for("pods"));
    let deployments = What { group: "apps", plural: "deployments" };
    assert!(deployments.counts_for("count/deployments.apps") && !deployments.counts_for("count/deployments"));
    let maps = What { group: "", plural: "configmaps" };
    assert!(maps.counts_for("configmaps") && maps.counts_for("count/configmaps"));
    assert!(PODS.counts_for("requests.example.com/gpu") && !PODS.counts_for("example.com/gpu"));
}

#[test]
fn scopes_take_in_what_they_name() {
    let plain = pod(json!({"containers": [{"name": "c"}]}));
    let busy = asking(json!({"cpu": "1"}), json!({}));
    let timed = pod(json!({"activeDeadlineSeconds": 0, "containers": [{"name": "c"}]}));
    let high = pod(json!({"priorityClassName": "high", "containers": [{"name": "c"}]}));
    let nosy = pod(json!({"containers": [{"name": "c"}], "affinity": {"podAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "namespaceSelector": {}}}]}}}));
    let all: [(&str, &Pod); 5] =
        [("plain", &plain), ("busy", &busy), ("timed", &timed), ("high", &high), ("nosy", &nosy)];
    let in_it = |spec: Value| -> String {
        let quota = quota(json!({}), json!({}), spec);
        let found = all.iter().filter(|(_, pod)| in_scopes(&quota, *pod)).map(|(name, _)| *name);
        found.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(in_it(json!({"scopes": ["Terminating"]})), "timed");
    assert_eq!(in_it(json!({"scopes": ["NotTerminating", "BestEffort"]})), "plain high nosy");
    assert_eq!(in_it(json!({"scopes": ["NotBestEffort"]})), "busy");
    assert_eq!(in_it(json!({"scopes": ["PriorityClass"]})), "high");
    assert_eq!(in_it(json!({"scopes": ["CrossNamespacePodAffinity"]})), "nosy");
    let select = |operator: &str, values: Value| {
        in_it(json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}}))
    };
    assert_eq!(select("In", json!(["high", "low"])), "high");
    assert_eq!(select("NotIn", json!(["high"])), "plain busy timed nosy");
    assert_eq!(select("DoesNotExist", json!([])), "plain busy timed nosy");
    let claim =
        |name: &str| PersistentVolumeClaim::from_value(json!({"spec": {"volumeAttributesClassName": name}})).unwrap();
    let fast = quota(
        json!({}),
        json!({}),
        json!({"scopeSelector": {"matchExpressions": [
        {"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["fast"]}]}}),
    );
    assert!(in_scopes(&fast, &claim("fast")) && !in_scopes(&fast, &claim("slow")) && !in_scopes(&fast, &plain));
}

fn try_charge(quota: &ResourceQuota, object: &Pod, old: Option<&Pod>) -> Result<String, String> {
    let old = old.map(|old| old as &dyn Object);
    let charge = Charge { what: PODS, object, old, status: false, now: now() };
    super::charge(&[quota], &charge).map(|changed| changed.iter().map(|(_, used)| shown(used)).collect())
}

#[test]
fn what_does_not_fit_is_refused_in_upstreams_words() {
    let small =
        quota(json!({"pods": "2", "requests.cpu": "1"}), json!({"pods": "1", "requests.cpu": "500m"}), json!({}));
    assert_eq!(try_charge(&small, &asking(json!({"cpu": "500m"}), json!({})), None).unwrap(), "pods=2 requests.cpu=1");
    assert_eq!(
        try_charge(&small, &asking(json!({"cpu": "600m"}), json!({})), None).unwrap_err(),
        "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1"
    );
    let two = pod(json!({"containers": [{"name": "b"}, {"name": "a"}], "initContainers": [{"name": "i"}]}));
    let limits = quota(json!({"limits.cpu": "1", "memory": "1"}), json!({"limits.cpu": "0", "memory": "0"}), json!({}));
    assert_eq!(
        try_charge(&limits, &two, None).unwrap_err(),
        "failed quota: q: must specify limits.cpu for: a,b,i; memory for: a,b,i"
    );
    let unknown = quota(json!({"pods": "2", "count/pods": "5"}), json!({}), json!({}));
    assert_eq!(
        try_charge(&unknown, &two, None).unwrap_err(),
        "status unknown for quota: q, resources: count/pods,pods"
    );
    let negative = asking(json!({"cpu": "-1"}), json!({}));
    assert_eq!(
        try_charge(&small, &negative, None).unwrap_err(),
        "quota usage is negative for resource(s): cpu,requests.cpu"
    );
    let (small_pod, large_pod) = (asking(json!({"cpu": "100m"}), json!({})), asking(json!({"cpu": "400m"}), json!({})));
    assert_eq!(try_charge(&small, &large_pod, Some(&small_pod)).unwrap(), "pods=1 requests.cpu=800m", "a resize");
    assert_eq!(try_charge(&small, &small_pod, Some(&large_pod)).unwrap(), "", "less is counted later");
    let scoped = quota(json!({"pods": "0"}), json!({"pods": "0"}), json!({"scopes": ["BestEffort"]}));
    assert_eq!(try_charge(&scoped, &small_pod, None).unwrap(), "", "out of scope");
}
