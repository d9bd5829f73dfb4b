//! Requests at the doors of the schemas that a server suggests, and of some odder ones.

use super::*;
use crate::Caller;
use api::{Typed, downcast};

fn matchers() -> Vec<(String, Matcher)> {
    let all = super::super::defaults::all();
    let mut schemas: Vec<(String, Matcher)> = all
        .iter()
        .filter_map(|object| downcast::<FlowSchema>(&**object))
        .map(|schema| (api::Object::name(schema).to_owned(), Matcher::new(schema)))
        .collect();
    schemas.sort_by(|a, b| (a.1.precedence, &a.0).cmp(&(b.1.precedence, &b.0)));
    schemas
}

fn resource<'a>(group: &'a str, resource: &'a str, subresource: &'a str, namespace: &'a str) -> What<'a> {
    What::Resource {
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name: "",
        field_selector: None,
        label_selector: None,
    }
}

fn schema_of(caller: &Caller, verb: &str, what: What<'_>) -> String {
    let request = Attributes { caller, verb, what };
    let found = matchers().into_iter().find(|(_, matcher)| matcher.matches(&request));
    found.map_or_else(String::new, |(name, _)| name)
}

#[test]
fn the_suggested_schemas_take_whom_upstreams_take() {
    let account = |name: &str| {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
        Caller::new(format!("system:serviceaccount:kube-system:{name}"), &groups)
    };
    let node = Caller::new("system:node:n", &["system:nodes"]);
    let manager = Caller::new("system:kube-controller-manager", &[]);
    let elsewhere = Caller::new("system:serviceaccount:apps:web", &["system:serviceaccounts"]);
    let pods = resource("", "pods", "", "default");
    let lease = resource("coordination.k8s.io", "leases", "", "kube-system");
    for (caller, verb, what, expected) in [
        (&Caller::new("root", &["system:masters"]), "get", pods, "exempt"),
        (&Caller::anonymous(), "get", What::Path("/readyz"), "probes"),
        (&Caller::anonymous(), "get", What::Path("/readyz/ping"), "global-default"),
        (&manager, "update", lease, "system-leader-election"),
        (&manager, "delete", lease, "kube-controller-manager"),
        (&manager, "update", resource("", "endpoints", "", "a"), "endpoint-controller"),
        (&account("endpoint-controller"), "create", resource("", "endpoints", "", "a"), "endpoint-controller"),
        (&account("job-controller"), "create", pods, "kube-system-service-accounts"),
        (&Caller::new("system:kube-scheduler", &[]), "list", resource("", "pods", "", ""), "kube-scheduler"),
        (&node, "patch", resource("", "nodes", "status", ""), "system-node-high"),
        (&node, "update", resource("coordination.k8s.io", "leases", "", "kube-node-lease"), "system-node-high"),
        (&node, "get", pods, "system-nodes"),
        (&elsewhere, "get", pods, "service-accounts"),
        (&Caller::new("ann", &[]), "get", pods, "global-default"),
        (&Caller::default(), "get", pods, ""),
    ] {
        assert_eq!(schema_of(caller, verb, what), expected, "{} {verb} {what:?}", caller.name);
    }
}

#[test]
fn rules_are_about_places_subresources_and_paths() {
    let schema = FlowSchema::from_value(serde_json::json!({"spec": {
        "matchingPrecedence": 7,
        "priorityLevelConfiguration": {"name": "x"},
        "distinguisherMethod": {"type": "ByNamespace"},
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "*"}}],
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"],
                "namespaces": ["a"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/apis/*", "/version"]}],
        }],
    }}));
    let matcher = Matcher::new(&schema.unwrap());
    let caller = Caller::new("ann", &[]);
    let ask = |verb, what| matcher.matches(&Attributes { caller: &caller, verb, what });
    assert!(ask("get", resource("", "pods", "", "a")));
    assert!(ask("get", resource("", "pods", "log", "a")));
    assert!(!ask("get", resource("", "pods", "status", "a")));
    assert!(!ask("get", resource("", "pods", "", "b")));
    assert!(!ask("get", resource("", "pods", "", "")), "not of a cluster's scope");
    assert!(!ask("list", resource("", "pods", "", "a")));
    assert!(ask("get", What::Path("/apis/apps")) && ask("get", What::Path("/version")));
    assert!(!ask("get", What::Path("/apis")) && !ask("get", What::Path("/versions")));
    let request = Attributes { caller: &caller, verb: "get", what: resource("", "pods", "", "a") };
    assert_eq!(matcher.distinguisher.of(&request), "a");
    assert_eq!(Distinguisher::User.of(&request), "ann");
}
