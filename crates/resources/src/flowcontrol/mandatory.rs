//! The flow schemas and priority levels that every server has, and that may not differ.

use api::Typed;
use api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use serde_json::{Value, json};

/// The name of the level that is never held back.
pub const EXEMPT: &str = "exempt";
/// The name of the level that takes what no other takes.
pub const CATCH_ALL: &str = "catch-all";

/// The flow schemas that must be as they are.
pub fn flow_schemas() -> Vec<FlowSchema> {
    let schema = |name: &str, precedence: i32, distinguisher: Value, groups: &[&str]| {
        let subject = |group: &&str| json!({"kind": "Group", "group": {"name": group}});
        let subjects: Vec<Value> = groups.iter().map(subject).collect();
        let value = json!({"metadata": {"name": name}, "spec": {
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": name},
            "distinguisherMethod": distinguisher,
            "rules": [{
                "subjects": subjects,
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
                    "clusterScope": true}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }],
        }});
        FlowSchema::from_value(value).expect("the fields above are a flow schema's")
    };
    vec![
        schema(EXEMPT, 1, Value::Null, &["system:masters"]),
        schema(CATCH_ALL, 10_000, json!({"type": "ByUser"}), &["system:unauthenticated", "system:authenticated"]),
    ]
}

/// The priority levels that must be as they are.
pub fn priority_levels() -> Vec<PriorityLevelConfiguration> {
    let level = |name: &str, spec: Value| {
        PriorityLevelConfiguration::from_value(json!({"metadata": {"name": name}, "spec": spec}))
            .expect("the fields above are a priority level's")
    };
    vec![
        level(EXEMPT, json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})),
        level(
            CATCH_ALL,
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0,
                "limitResponse": {"type": "Reject"}}}),
        ),
    ]
}
