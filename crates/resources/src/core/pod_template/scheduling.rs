//! Validation of what a pod asks of the scheduler: tolerations, affinity, topology spread, gates.

use std::collections::BTreeSet;

use api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
    PodSchedulingGate, PodSpec, Taint, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use api::field::{FieldError, FieldErrors, Path, Problem};
use api::meta::v1::LabelSelector;

use crate::checks;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Tolerations of taints.
pub fn validate_tolerations(errors: &mut FieldErrors, path: &Path, tolerations: &[Toleration]) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (key, operator) = (text(&toleration.key), text(&toleration.operator));
        let (value, effect) = (text(&toleration.value), text(&toleration.effect));
        let operator_path = path.child("operator");
        if !key.is_empty() {
            checks::label_key(errors, &path.child("key"), &key);
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&operator_path, operator.as_str(), why);
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect.as_str(), why);
        }
        match operator.as_str() {
            "" | "Equal" => {
                let problems = api::name::label_value(&value);
                if !problems.is_empty() {
                    errors.invalid(&operator_path, value.as_str(), problems.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(&operator_path, value.as_str(), "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            other => errors.not_supported(&operator_path, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            checks::optional_one_of(errors, &path.child("effect"), Some(&effect), &EFFECTS);
        }
    }
}

/// Taints of a node.
pub fn validate_taints(errors: &mut FieldErrors, path: &Path, taints: &[Taint]) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        checks::label_key(errors, &path.child("key"), &taint.key);
        let value = taint.value.as_deref().unwrap_or_default();
        let problems = api::name::label_value(value);
        if !problems.is_empty() {
            errors.invalid(&path.child("value"), value, problems.join(";"));
        }
        checks::one_of(errors, &path.child("effect"), Some(&taint.effect), &EFFECTS);
        if !seen.insert((&taint.key, &taint.effect)) {
            let problem = Problem::Duplicate(checks::shown(taint));
            let detail = "taints must be unique by key and effect pair".to_owned();
            errors.0.push(FieldError { path, problem, detail });
        }
    }
}

/// Affinity to nodes and pods.
pub fn validate_affinity(errors: &mut FieldErrors, path: &Path, affinity: &Affinity) {
    if let Some(node) = &affinity.node_affinity {
        validate_node_affinity(errors, &path.child("nodeAffinity"), node);
    }
    if let Some(pod) = &affinity.pod_affinity {
        let path = path.child("podAffinity");
        let required = pod.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pod.preferred_during_scheduling_ignored_during_execution.as_deref();
        validate_pod_terms(errors, &path, required.unwrap_or_default(), preferred.unwrap_or_default());
    }
    if let Some(pod) = &affinity.pod_anti_affinity {
        let path = path.child("podAntiAffinity");
        let required = pod.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pod.preferred_during_scheduling_ignored_during_execution.as_deref();
        validate_pod_terms(errors, &path, required.unwrap_or_default(), preferred.unwrap_or_default());
    }
}

fn validate_node_affinity(errors: &mut FieldErrors, path: &Path, affinity: &NodeAffinity) {
    if let Some(selector) = &affinity.required_during_scheduling_ignored_during_execution {
        validate_node_selector(errors, &path.child(REQUIRED), selector);
    }
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (index, term) in preferred.enumerate() {
        let path = path.child(PREFERRED).index(index);
        validate_weight(errors, &path, term.weight);
        // Values that are no label values match nothing, which a mere preference survives.
        validate_node_term(errors, &path.child("preference"), &term.preference, false);
    }
}

fn validate_weight(errors: &mut FieldErrors, path: &Path, weight: i32) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// A node selector: at least one term.
pub fn validate_node_selector(errors: &mut FieldErrors, path: &Path, selector: &NodeSelector) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        validate_node_term(errors, &path.index(index), term, true);
    }
}

fn validate_node_term(errors: &mut FieldErrors, path: &Path, term: &NodeSelectorTerm, check_values: bool) {
    for (index, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        validate_node_expression(errors, &path, requirement, check_values);
    }
    for (index, requirement) in term.match_fields.iter().flatten().enumerate() {
        validate_node_field(errors, &path.child("matchFields").index(index), requirement);
    }
}

fn validate_node_expression(
    errors: &mut FieldErrors,
    path: &Path,
    requirement: &NodeSelectorRequirement,
    check_values: bool,
) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let values_path = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            if values.is_empty() {
                errors.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&values_path, why);
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                errors.required(&values_path, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
        }
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    checks::label_key(errors, &path.child("key"), &requirement.key);
    for (index, value) in values.iter().enumerate().filter(|_| check_values) {
        checks::problems(errors, &values_path.index(index), value.as_str(), api::name::label_value(value));
    }
}

fn validate_node_field(errors: &mut FieldErrors, path: &Path, requirement: &NodeSelectorRequirement) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" => {
            if values.len() != 1 {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&path.child("values"), why);
            }
        }
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    if requirement.key != "metadata.name" {
        errors.invalid(&path.child("key"), requirement.key.as_str(), "not a valid field selector key");
        return;
    }
    for (index, value) in values.iter().enumerate() {
        checks::dns_subdomain(errors, &path.child("values").index(index), value);
    }
}

fn validate_pod_terms(
    errors: &mut FieldErrors,
    path: &Path,
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
) {
    for (index, term) in required.iter().enumerate() {
        validate_pod_term(errors, &path.child(REQUIRED).index(index), term);
    }
    for (index, term) in preferred.iter().enumerate() {
        let path = path.child(PREFERRED).index(index);
        validate_weight(errors, &path, term.weight);
        validate_pod_term(errors, &path.child("podAffinityTerm"), &term.pod_affinity_term);
    }
}

fn validate_pod_term(errors: &mut FieldErrors, path: &Path, term: &PodAffinityTerm) {
    checks::label_selector(errors, &path.child("labelSelector"), term.label_selector.as_ref());
    checks::label_selector(errors, &path.child("namespaceSelector"), term.namespace_selector.as_ref());
    for namespace in term.namespaces.iter().flatten() {
        checks::dns_label(errors, &path.child("namespace"), namespace);
    }
    validate_label_keys(errors, path, term);
    let key_path = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.required(&key_path, "can not be empty");
    }
    checks::label_key(errors, &key_path, &term.topology_key);
}

/// `matchLabelKeys` and `mismatchLabelKeys`. The selector has already been given their expressions, so a key that
/// occurs twice was named by the user as well.
fn validate_label_keys(errors: &mut FieldErrors, path: &Path, term: &PodAffinityTerm) {
    let matching = term.match_label_keys.as_deref().unwrap_or_default();
    let mismatching = term.mismatch_label_keys.as_deref().unwrap_or_default();
    for (name, keys) in [("matchLabelKeys", matching), ("mismatchLabelKeys", mismatching)] {
        let path = path.child(name);
        if !keys.is_empty() && term.label_selector.is_none() {
            errors.forbidden(&path, "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            checks::label_key(errors, &path.index(index), key);
        }
    }
    if let Some(selector) = &term.label_selector {
        let mut seen: BTreeSet<&str> = selector.match_labels.iter().flatten().map(|(key, _)| key.as_str()).collect();
        for expression in selector.match_expressions.iter().flatten() {
            let key = expression.key.as_str();
            let position = matching.iter().rposition(|candidate| candidate == key);
            if let (Some(index), true) = (position, seen.contains(key)) {
                errors.invalid(&path.index(index), key, "exists in both matchLabelKeys and labelSelector");
            }
            seen.insert(key);
        }
    }
    for (index, key) in matching.iter().enumerate() {
        if mismatching.contains(key) {
            let path = path.child("matchLabelKeys").index(index);
            errors.invalid(&path, key.as_str(), "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

/// Constraints on how pods spread.
pub fn validate_spread(errors: &mut FieldErrors, path: &Path, constraints: &[TopologySpreadConstraint]) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        let when = constraint.when_unsatisfiable.as_str();
        if constraint.max_skew <= 0 {
            errors.invalid(&path.child("maxSkew"), constraint.max_skew, "must be greater than zero");
        }
        if constraint.topology_key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        let when_path = path.child("whenUnsatisfiable");
        checks::optional_one_of(errors, &when_path, Some(when), &["DoNotSchedule", "ScheduleAnyway"]);
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == constraint.topology_key && other.when_unsatisfiable == when
        };
        if constraints[index + 1..].iter().any(same) {
            let pair = format!("{{{}, {when}}}", constraint.topology_key);
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), pair);
        }
        if let Some(domains) = constraint.min_domains {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.invalid(&path, domains, "must be greater than zero");
            }
            if when != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
                errors.invalid(&path, domains, why);
            }
        }
        let policies = [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ];
        for (name, policy) in policies {
            checks::optional_one_of(errors, &path.child(name), policy.as_deref(), &["Honor", "Ignore"]);
        }
        validate_spread_keys(errors, &path.child("matchLabelKeys"), constraint);
        checks::label_selector(errors, &path.child("labelSelector"), constraint.label_selector.as_ref());
    }
}

fn validate_spread_keys(errors: &mut FieldErrors, path: &Path, constraint: &TopologySpreadConstraint) {
    let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
    if keys.is_empty() {
        return;
    }
    let Some(selector) = &constraint.label_selector else {
        errors.forbidden(path, "must not be specified when labelSelector is not set");
        return;
    };
    for (index, key) in keys.iter().enumerate() {
        let path = path.index(index);
        checks::label_key(errors, &path, key);
        let labelled = selector.match_labels.as_ref().is_some_and(|labels| labels.contains_key(key));
        // One expression is the one that the key itself was turned into.
        let expressions = selector.match_expressions.iter().flatten().filter(|e| e.key == *key);
        if labelled || expressions.filter(|e| e.operator != "In").count() > 0 || is_twice(selector, key) {
            errors.invalid(&path, key.as_str(), "exists in both matchLabelKeys and labelSelector");
        }
    }
}

fn is_twice(selector: &LabelSelector, key: &str) -> bool {
    selector.match_expressions.iter().flatten().filter(|expression| expression.key == key).count() > 1
}

/// Gates that keep the pod from being scheduled.
pub fn validate_gates(errors: &mut FieldErrors, path: &Path, gates: &[PodSchedulingGate]) {
    let mut seen = BTreeSet::new();
    for (index, gate) in gates.iter().enumerate() {
        checks::qualified(errors, &path.index(index), &gate.name);
        checks::unique(errors, &path.index(index), &mut seen, &gate.name);
    }
}

fn merge_keys(
    selector: &mut LabelSelector,
    keys: &[String],
    operator: &str,
    labels: &std::collections::BTreeMap<String, String>,
) {
    for key in keys {
        let Some(value) = labels.get(key) else { continue };
        let requirement = api::meta::v1::LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.to_owned(),
            values: Some(vec![value.clone()]),
        };
        selector.match_expressions.get_or_insert_default().push(requirement);
    }
}

/// Turns the label keys of affinity terms and spread constraints into expressions on the pod's own label values, as
/// upstream does when a pod is created.
pub fn resolve_label_keys(spec: &mut PodSpec, labels: &std::collections::BTreeMap<String, String>) {
    let resolve = |term: &mut PodAffinityTerm| {
        if let Some(selector) = &mut term.label_selector {
            merge_keys(selector, term.match_label_keys.as_deref().unwrap_or_default(), "In", labels);
            merge_keys(selector, term.mismatch_label_keys.as_deref().unwrap_or_default(), "NotIn", labels);
        }
    };
    if let Some(affinity) = &mut spec.affinity {
        if let Some(pod) = &mut affinity.pod_affinity {
            let preferred = pod.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
            preferred.for_each(|term| resolve(&mut term.pod_affinity_term));
            pod.required_during_scheduling_ignored_during_execution.iter_mut().flatten().for_each(resolve);
        }
        if let Some(pod) = &mut affinity.pod_anti_affinity {
            let preferred = pod.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
            preferred.for_each(|term| resolve(&mut term.pod_affinity_term));
            pod.required_during_scheduling_ignored_during_execution.iter_mut().flatten().for_each(resolve);
        }
    }
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        if let Some(selector) = &mut constraint.label_selector {
            merge_keys(selector, constraint.match_label_keys.as_deref().unwrap_or_default(), "In", labels);
        }
    }
}
