//! The flow schemas and priority levels that a server suggests, and what must be done to have them: who wrote
//! `apf.kubernetes.io/autoupdate-spec: "false"` on one keeps it as it is.
//!
//! Pure. Upstream: pkg/apis/flowcontrol/bootstrap, pkg/registry/flowcontrol/ensurer.

use api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use api::{Object, Typed, downcast};
use resources::flowcontrol::mandatory;
use serde_json::{Value, json};

/// Whether the server keeps an object's spec as it suggests it.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Suggested levels: name, shares, lendable percent, queues, hand size.
const LEVELS: &[(&str, u32, u32, u32, u32)] = &[
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];
const QUEUE_LEN: u32 = 50;

fn level(&(name, shares, lendable, queues, hand): &(&str, u32, u32, u32, u32)) -> PriorityLevelConfiguration {
    let value = json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": shares,
        "lendablePercent": lendable,
        "limitResponse": {"type": "Queue", "queuing": {
            "queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LEN,
        }},
    }}});
    PriorityLevelConfiguration::from_value(value).expect("the fields above are a priority level's")
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
}

fn everyone() -> Vec<Value> {
    vec![group("system:unauthenticated"), group("system:authenticated")]
}

fn everything() -> Value {
    json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
            "clusterScope": true}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn leases() -> Value {
    json!({"resourceRules": [{"verbs": ["get", "create", "update"], "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"], "namespaces": ["*"]}]})
}

fn schema(name: &str, level: &str, precedence: i32, by: &str, who: Vec<Value>, mut what: Value) -> FlowSchema {
    what["subjects"] = Value::Array(who);
    let by = if by.is_empty() { Value::Null } else { json!({"type": by}) };
    let value = json!({"metadata": {"name": name}, "spec": {
        "matchingPrecedence": precedence,
        "priorityLevelConfiguration": {"name": level},
        "distinguisherMethod": by,
        "rules": [what],
    }});
    FlowSchema::from_value(value).expect("the fields above are a flow schema's")
}

fn suggested_schemas() -> Vec<FlowSchema> {
    const MANAGER: &str = "system:kube-controller-manager";
    const SCHEDULER: &str = "system:kube-scheduler";
    let nodes = || vec![group("system:nodes")];
    let node_high = json!({"resourceRules": [
        {"verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "namespaces": ["*"],
            "clusterScope": true},
        {"verbs": ["*"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"]},
    ]});
    let probes = json!({"nonResourceRules": [
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]},
    ]});
    let endpoints = json!({"resourceRules": [{"verbs": ["get", "create", "update"], "apiGroups": [""],
        "resources": ["endpoints"], "namespaces": ["*"]}]});
    let endpoint_controllers =
        vec![user(MANAGER), account("endpoint-controller"), account("endpointslicemirroring-controller")];
    let leaders = vec![user(MANAGER), user(SCHEDULER), account("*")];
    vec![
        schema("probes", "exempt", 2, "", everyone(), probes),
        schema("system-leader-election", "leader-election", 100, "ByUser", leaders, leases()),
        schema("endpoint-controller", "workload-high", 150, "ByUser", endpoint_controllers, endpoints),
        schema("workload-leader-election", "leader-election", 200, "ByUser", vec![account("*")], leases()),
        schema("system-node-high", "node-high", 400, "ByUser", nodes(), node_high),
        schema("system-nodes", "system", 500, "ByUser", nodes(), everything()),
        schema("kube-controller-manager", "workload-high", 800, "ByNamespace", vec![user(MANAGER)], everything()),
        schema("kube-scheduler", "workload-high", 800, "ByNamespace", vec![user(SCHEDULER)], everything()),
        schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", vec![account("*")], everything()),
        schema("service-accounts", "workload-low", 9000, "ByUser", vec![group("system:serviceaccounts")], everything()),
        schema("global-default", "global-default", 9900, "ByUser", everyone(), everything()),
    ]
}

/// Everything that is to be there; levels come before the schemas that name them.
pub fn all() -> Vec<Box<dyn Object>> {
    let mut all: Vec<Box<dyn Object>> = Vec::new();
    let levels = mandatory::priority_levels().into_iter().chain(LEVELS.iter().map(level));
    all.extend(levels.map(|mut level| {
        annotate(&mut level.metadata, true);
        Box::new(level) as Box<dyn Object>
    }));
    let schemas = mandatory::flow_schemas().into_iter().chain(suggested_schemas());
    all.extend(schemas.map(|mut schema| {
        annotate(&mut schema.metadata, true);
        Box::new(schema) as Box<dyn Object>
    }));
    all
}

fn annotate(metadata: &mut api::meta::v1::ObjectMeta, kept: bool) {
    metadata.annotations.get_or_insert_default().insert(AUTOUPDATE.to_owned(), kept.to_string());
}

/// Whether an object must be as it is, whatever is written on it.
fn is_mandatory(name: &str) -> bool {
    matches!(name, mandatory::EXEMPT | mandatory::CATCH_ALL)
}

/// What an existing object must become; `None`: it may stay.
pub fn mend(existing: &dyn Object, wanted: &dyn Object) -> Option<Box<dyn Object>> {
    // Nobody has said: an object that was never changed is the server's.
    let said = existing.annotation(AUTOUPDATE).and_then(|text| text.parse::<bool>().ok());
    let kept = is_mandatory(wanted.name()) || said.unwrap_or(existing.metadata().generation == Some(1));
    let annotated = existing.annotation(AUTOUPDATE) == Some(if kept { "true" } else { "false" });
    if !kept && annotated {
        return None;
    }
    let mut mended = existing.boxed_clone();
    let mut differs = !annotated;
    annotate(mended.metadata_mut(), kept);
    if kept {
        let any = mended.as_any_mut();
        if let (Some(own), Some(wanted)) = (any.downcast_mut::<FlowSchema>(), downcast::<FlowSchema>(wanted)) {
            differs |= own.spec != wanted.spec;
            own.spec.clone_from(&wanted.spec);
        } else if let (Some(own), Some(wanted)) =
            (any.downcast_mut::<PriorityLevelConfiguration>(), downcast::<PriorityLevelConfiguration>(wanted))
        {
            let mut spec = wanted.spec.clone();
            if wanted.name() == mandatory::EXEMPT {
                // How many seats count for the exempt is the operator's to say.
                spec.exempt = own.spec.exempt.clone().or(spec.exempt);
            }
            differs |= own.spec != spec;
            own.spec = spec;
        }
    }
    differs.then_some(mended)
}

/// Whether an object was the server's and is not suggested any more.
pub fn is_left_over(existing: &dyn Object, wanted: &[Box<dyn Object>]) -> bool {
    existing.annotation(AUTOUPDATE) == Some("true")
        && !wanted.iter().any(|wanted| wanted.kind() == existing.kind() && wanted.name() == existing.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str, kind: &str) -> Box<dyn Object> {
        all().into_iter().find(|one| one.name() == name && one.kind().kind == kind).unwrap()
    }

    #[test]
    fn all_are_valid_and_name_levels_that_exist() {
        use resources::Strategy as _;
        use resources::flowcontrol::{flow_schema, priority_level_configuration};
        let all = all();
        assert_eq!(all.len(), 8 + 13);
        let mut levels = Vec::new();
        for object in &all {
            if let Some(level) = downcast::<PriorityLevelConfiguration>(&**object) {
                let errors = priority_level_configuration::Strategy::validate(level);
                assert!(errors.is_empty(), "{errors}");
                let mut defaulted = level.clone();
                priority_level_configuration::Strategy::default(&mut defaulted);
                assert_eq!(&defaulted, level, "nothing is left to defaults");
                levels.push(level.name().to_owned());
            }
            if let Some(schema) = downcast::<FlowSchema>(&**object) {
                let errors = flow_schema::Strategy::validate(schema);
                assert!(errors.is_empty(), "{errors}");
                assert!(levels.contains(&schema.spec.priority_level_configuration.name));
            }
        }
    }

    #[test]
    fn what_was_changed_is_set_right_unless_it_was_taken_over() {
        let wanted = find("global-default", "FlowSchema");
        assert!(mend(&*wanted, &*wanted).is_none());
        let mut own = wanted.boxed_clone();
        own.as_any_mut().downcast_mut::<FlowSchema>().unwrap().spec.matching_precedence = Some(5);
        let mended = mend(&*own, &*wanted).unwrap();
        assert_eq!(downcast::<FlowSchema>(&*mended).unwrap().spec.matching_precedence, Some(9900));
        annotate(own.metadata_mut(), false);
        assert!(mend(&*own, &*wanted).is_none());
        // Nobody said anything, but somebody changed it.
        own.metadata_mut().annotations = None;
        own.metadata_mut().generation = Some(2);
        let noted = mend(&*own, &*wanted).unwrap();
        assert_eq!(noted.annotation(AUTOUPDATE), Some("false"));
        assert_eq!(downcast::<FlowSchema>(&*noted).unwrap().spec.matching_precedence, Some(5));
    }

    #[test]
    fn the_mandatory_cannot_be_taken_over_but_for_the_exempt_levels_seats() {
        let wanted = find("exempt", "PriorityLevelConfiguration");
        let mut own = wanted.boxed_clone();
        annotate(own.metadata_mut(), false);
        let level = own.as_any_mut().downcast_mut::<PriorityLevelConfiguration>().unwrap();
        level.spec.exempt.as_mut().unwrap().nominal_concurrency_shares = Some(10);
        let mended = mend(&*own, &*wanted).unwrap();
        assert_eq!(mended.annotation(AUTOUPDATE), Some("true"));
        let spec = &downcast::<PriorityLevelConfiguration>(&*mended).unwrap().spec;
        assert_eq!(spec.exempt.as_ref().unwrap().nominal_concurrency_shares, Some(10));
    }

    #[test]
    fn what_is_not_suggested_any_more_is_left_over() {
        let all = all();
        let mut old = find("probes", "FlowSchema");
        assert!(!is_left_over(&*old, &all));
        old.metadata_mut().name = Some("formerly-suggested".to_owned());
        assert!(is_left_over(&*old, &all));
        annotate(old.metadata_mut(), false);
        assert!(!is_left_over(&*old, &all));
    }
}
