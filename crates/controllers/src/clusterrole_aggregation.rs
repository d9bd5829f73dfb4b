//! A ClusterRole with an aggregation rule holds the rules of those that its selectors name.
//!
//! Upstream: pkg/controller/clusterroleaggregation.

use std::sync::Arc;

use api::rbac::v1::{ClusterRole, PolicyRule};
use api::{LabelSelector, Object, Timestamp};

use crate::harness::{Plan, Read, Step, View, Write};

pub struct Controller;

impl crate::Controller for Controller {
    const NAME: &'static str = "clusterrole-aggregation-controller";
    type Primary = ClusterRole;

    fn reads() -> Vec<Read> {
        // The roles are few, and who is made of whom is only known once labels are compared: all of them are asked.
        vec![Read::mapped::<ClusterRole>(|_, reflectors, keys| {
            let roles = reflectors.of::<ClusterRole>().snapshot();
            let aggregated = roles.iter().filter(|(_, role)| role.aggregation_rule.is_some());
            keys.extend(aggregated.map(|(_, role)| role.name().to_owned()));
        })]
    }

    fn writes() -> Vec<Write> {
        // Whoever puts roles together holds none of their rights; without `escalate` it could give none.
        vec![Write::of::<ClusterRole>(&["escalate", "get", "list", "patch", "update", "watch"])]
    }

    fn plan(&self, role: &Arc<ClusterRole>, view: &View<'_>, _now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        let all = view.all::<ClusterRole>();
        // The snapshot is in the order of names, which the rules keep.
        let others: Vec<&ClusterRole> = all.iter().map(|(_, other)| &**other).collect();
        let Some(rules) = aggregate(role, &others) else { return plan };
        if role.rules.as_deref().unwrap_or_default() != rules {
            let mut new = ClusterRole::clone(role);
            new.rules = Some(rules);
            plan.push(Step::update(new));
        }
        plan
    }
}

/// The rules of the roles that `role` selects, each once; `None` if it is no aggregated role, or a selector is none.
fn aggregate(role: &ClusterRole, all: &[&ClusterRole]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let selector = LabelSelector::from_api(Some(selector)).ok()?;
        let selected = all.iter().filter(|other| selector.matches_labels(other.metadata.labels.as_ref()));
        for rule in selected.filter(|other| other.name() != role.name()).flat_map(|other| other.rules.iter().flatten())
        {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn role(value: Value) -> ClusterRole {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rules_come_from_selected_roles_each_once_and_never_from_itself() {
        let label = json!({"to-all": "true"});
        let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let selectors = json!([{"matchLabels": label}, {"matchExpressions": [{"key": "extra", "operator": "Exists"}]}]);
        let all = role(json!({
            "metadata": {"name": "all", "labels": label}, "rules": [rule("stale")],
            "aggregationRule": {"clusterRoleSelectors": selectors},
        }));
        let a = role(json!({"metadata": {"name": "a", "labels": label}, "rules": [rule("pods"), rule("nodes")]}));
        let b = role(json!({"metadata": {"name": "b", "labels": {"extra": ""}}, "rules": [rule("nodes"), rule("x")]}));
        let c = role(json!({"metadata": {"name": "c"}, "rules": [rule("secrets")]}));
        let made = aggregate(&all, &[&a, &all, &b, &c]).unwrap();
        let made: Vec<String> = made.into_iter().map(|rule| rule.resources.unwrap().join(",")).collect();
        assert_eq!(made, ["pods", "nodes", "x"]);
        assert_eq!(aggregate(&all, &[&all, &c]), Some(Vec::new()), "what is not selected any more goes");
        assert_eq!(aggregate(&c, &[&a]), None);
    }
}
