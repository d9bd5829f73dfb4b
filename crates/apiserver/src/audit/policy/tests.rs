//! Which rule decides, and how wrong policies are refused.

use super::*;

fn resource<'a>(
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> What<'a> {
    What::Resource {
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        field_selector: None,
        label_selector: None,
    }
}

fn with_rules(rules: &str) -> Result<Policy, String> {
    Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}"))
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = r#"
- {level: None, users: ["system:kube-proxy"], verbs: [watch]}
- {level: Request, userGroups: [auditors], resources: [{group: "", resources: [configmaps], resourceNames: [own]}]}
- {level: RequestResponse, resources: [{group: "", resources: [pods/log, "*/scale", "services/*"]}]}
- {level: Metadata, namespaces: [kube-system], omitStages: [ResponseStarted], omitManagedFields: true}
- {level: Request, resources: [{group: apps}]}
- {level: None, nonResourceURLs: ["/healthz*", /version]}
- {level: Metadata, nonResourceURLs: ["*"]}
- {level: Metadata, resources: [{group: "", resources: ["*"]}], namespaces: [""]}
"#;
    let policy = with_rules(rules).unwrap();
    let (proxy, auditor) = (Caller::new("system:kube-proxy", &[]), Caller::new("a", &["auditors"]));
    let level = |caller, verb, what| policy.decide(&Request { caller, verb, what }).level;
    let get = |what| level(Some(&proxy), "get", what);
    assert_eq!(level(Some(&proxy), "watch", resource("", "services", "", "", "")), Level::None);
    assert_eq!(level(Some(&auditor), "get", resource("", "configmaps", "", "a", "own")), Level::Request);
    assert_eq!(level(Some(&auditor), "get", resource("", "configmaps", "", "a", "other")), Level::None);
    assert_eq!(level(None, "get", resource("", "configmaps", "", "a", "own")), Level::None, "nobody is in no group");
    assert_eq!(get(resource("", "pods", "log", "a", "p")), Level::RequestResponse);
    assert_eq!(get(resource("", "pods", "exec", "a", "p")), Level::None);
    assert_eq!(get(resource("", "replicationcontrollers", "scale", "a", "r")), Level::RequestResponse);
    assert_eq!(
        get(resource("", "services", "", "a", "s")),
        Level::RequestResponse,
        "upstream's services/* has services"
    );
    assert_eq!(get(resource("", "services", "proxy", "a", "s")), Level::RequestResponse);
    assert_eq!(get(resource("", "secrets", "", "kube-system", "s")), Level::Metadata);
    assert_eq!(get(resource("apps", "deployments", "status", "a", "d")), Level::Request);
    assert_eq!(get(resource("", "nodes", "", "", "n")), Level::Metadata, "the namespace of cluster scope is empty");
    assert_eq!(get(What::Path("/healthz/etcd")), Level::None);
    assert_eq!(get(What::Path("/version")), Level::None);
    assert_eq!(get(What::Path("/apis")), Level::Metadata);
    let secret = resource("", "secrets", "", "kube-system", "s");
    let decision = policy.decide(&Request { caller: None, verb: "get", what: secret });
    assert!(decision.records(Stage::ResponseComplete) && !decision.records(Stage::ResponseStarted));
    assert!(decision.omit_managed_fields);
}

#[test]
fn the_standard_policy_never_asks_for_a_body() {
    let policy = Policy::standard();
    let caller = Caller::new("a", &[]);
    for (group, plural) in [("", "secrets"), ("", "configmaps"), ("", "serviceaccounts"), ("apps", "deployments")] {
        for sub in ["", "token", "status"] {
            for verb in ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"] {
                let what = resource(group, plural, sub, "a", "b");
                let decision = policy.decide(&Request { caller: Some(&caller), verb, what });
                assert_eq!(decision.level, Level::Metadata, "{verb} {plural}/{sub}");
                assert!(!decision.records(Stage::RequestReceived) && decision.records(Stage::ResponseStarted));
            }
        }
    }
    let quiet = |verb, what| policy.decide(&Request { caller: Some(&caller), verb, what }).level;
    assert_eq!(quiet("get", What::Path("/readyz/ping")), Level::None);
    assert_eq!(quiet("create", resource("", "events", "", "a", "")), Level::None);
    assert_eq!(quiet("update", resource("coordination.k8s.io", "leases", "", "a", "b")), Level::None);
    assert_eq!(quiet("delete", resource("coordination.k8s.io", "leases", "", "a", "b")), Level::Metadata);
}

#[test]
fn wrong_policies_are_refused_in_upstreams_words() {
    let wrong = |rules: &str| with_rules(rules).map(drop).unwrap_err();
    assert_eq!(wrong("- {users: [a]}"), "rules[0].level: Required value");
    assert_eq!(
        wrong("- {level: Everything}"),
        "rules[0].level: Unsupported value: \"Everything\": supported values: \"None\", \"Metadata\", \"Request\", \
         \"RequestResponse\""
    );
    assert_eq!(
        wrong("- {level: None, nonResourceURLs: [healthz, \"/a*b\"]}"),
        "[rules[0].nonResourceURLs[0]: Invalid value: \"healthz\": non-resource URL rules must begin with a '/' \
         character, rules[0].nonResourceURLs[1]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the \
         final character of the rule]"
    );
    assert_eq!(
        wrong("- {level: None, nonResourceURLs: [/a], namespaces: [b]}"),
        "rules[0].nonResourceURLs: Invalid value: [\"/a\"]: rules cannot apply to both regular resources and \
         non-resource URLs"
    );
    assert_eq!(
        wrong("- {level: None, resources: [{group: \"\", resourceNames: [a]}]}"),
        "rules[0].resources.resourceNames: Invalid value: [\"a\"]: using resourceNames requires at least one resource"
    );
    assert!(wrong("- {level: None, resources: [{group: apps/v1}]}").starts_with(
        "rules[0].resources.group: Invalid value: \"apps/v1\": a lowercase RFC 1123 subdomain must consist of"
    ));
    assert_eq!(
        wrong("- {level: None, omitStages: [Later]}"),
        "rules[0].omitStages[0]: Invalid value: \"Later\": allowed stages are \
         RequestReceived,ResponseStarted,ResponseComplete,Panic"
    );
    assert_eq!(with_rules("  []").map(drop).unwrap_err(), "loaded illegal policy with 0 rules");
    assert_eq!(
        Policy::parse("kind: Policy\nrules: [{level: None}]").map(drop).unwrap_err(),
        "unknown group version field , Kind=Policy in policy"
    );
    assert!(Policy::parse("a: [").map(drop).unwrap_err().starts_with("failed decoding: "));
    assert!(wrong("- {level: [None]}").starts_with("failed decoding: "));
}
