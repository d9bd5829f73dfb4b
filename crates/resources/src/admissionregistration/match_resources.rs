//! What webhooks and policies share: the rules that say which requests they are for, and conditions on them.

use std::collections::BTreeSet;

use api::admissionregistration::v1::{MatchCondition, MatchResources, NamedRuleWithOperations, RuleWithOperations};
use api::field::{FieldErrors, Path};

use super::expressions::{Naming, Use};
use crate::checks;

/// The failure policies.
pub const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
/// The match policies.
pub const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MUTABLE_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const CONDITIONS_MAX: usize = 64;

/// Fills what a rule for requests leaves out.
pub fn default_rule(rule: &mut RuleWithOperations) {
    rule.scope.get_or_insert_with(|| "*".to_owned());
}

/// Fills what a policy or binding leaves out of what it matches.
pub fn default(matches: &mut MatchResources) {
    matches.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    matches.namespace_selector.get_or_insert_default();
    matches.object_selector.get_or_insert_default();
    let rules = matches.resource_rules.iter_mut().chain(matches.exclude_resource_rules.iter_mut());
    for rule in rules.flatten() {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
}

/// All problems of what a policy or binding matches.
pub fn validate(errors: &mut FieldErrors, path: &Path, matches: &MatchResources) {
    checks::one_of(errors, &path.child("matchPolicy"), matches.match_policy.as_deref(), &MATCH_POLICIES);
    for (name, selector) in
        [("namespaceSelector", &matches.namespace_selector), ("objectSelector", &matches.object_selector)]
    {
        match selector {
            Some(selector) => checks::label_selector(errors, &path.child(name), Some(selector)),
            None => errors.required(&path.child(name), ""),
        }
    }
    for (name, rules) in
        [("resourceRules", &matches.resource_rules), ("excludeResourceRules", &matches.exclude_resource_rules)]
    {
        for (index, rule) in rules.iter().flatten().enumerate() {
            validate_named_rule(errors, &path.child(name).index(index), rule);
        }
    }
}

/// All problems of what a policy matches: it must say at least one kind of objects.
pub fn validate_constraints(errors: &mut FieldErrors, path: &Path, matches: Option<&MatchResources>) {
    let Some(matches) = matches else {
        errors.required(path, "");
        return;
    };
    validate(errors, path, matches);
    if matches.resource_rules.as_ref().is_none_or(Vec::is_empty) {
        errors.required(&path.child("resourceRules"), "");
    }
}

/// Nothing is left to change in a delete.
pub fn validate_mutable(errors: &mut FieldErrors, path: &Path, matches: Option<&MatchResources>) {
    let rules = matches.and_then(|matches| matches.resource_rules.as_deref()).unwrap_or_default();
    let path = path.child("resourceRules").child("operations");
    for operation in rules.iter().flat_map(|rule| rule.operations.iter().flatten()) {
        checks::optional_one_of(errors, &path, Some(operation), &MUTABLE_OPERATIONS);
    }
}

fn validate_named_rule(errors: &mut FieldErrors, path: &Path, rule: &NamedRuleWithOperations) {
    let mut seen = BTreeSet::new();
    for (index, name) in rule.resource_names.iter().flatten().enumerate() {
        let path = path.child("resourceNames").index(index);
        checks::problems(errors, &path, name.as_str(), api::name::path_segment(name, false));
        checks::unique(errors, &path, &mut seen, name);
    }
    let rule = RuleWithOperations {
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        operations: rule.operations.clone(),
        resources: rule.resources.clone(),
        scope: rule.scope.clone(),
    };
    validate_rule(errors, path, &rule);
}

/// All problems of a rule for requests.
pub fn validate_rule(errors: &mut FieldErrors, path: &Path, rule: &RuleWithOperations) {
    let operations = rule.operations.as_deref().unwrap_or_default();
    let operations_path = path.child("operations");
    all_or_some(errors, &operations_path, operations, "operations");
    for (index, operation) in operations.iter().enumerate() {
        checks::optional_one_of(errors, &operations_path.index(index), Some(operation), &OPERATIONS);
    }
    all_or_some(errors, &path.child("apiGroups"), rule.api_groups.as_deref().unwrap_or_default(), "API groups");
    let versions = rule.api_versions.as_deref().unwrap_or_default();
    let versions_path = path.child("apiVersions");
    all_or_some(errors, &versions_path, versions, "API versions");
    for (index, _) in versions.iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errors.required(&versions_path.index(index), "");
    }
    validate_resources(errors, &path.child("resources"), rule.resources.as_deref().unwrap_or_default());
    checks::optional_one_of(errors, &path.child("scope"), rule.scope.as_deref(), &SCOPES);
}

/// At least one; and nothing beside `*`.
fn all_or_some(errors: &mut FieldErrors, path: &Path, values: &[String], what: &str) {
    if values.is_empty() {
        errors.required(path, "");
    }
    if values.len() > 1 && values.iter().any(|value| value == "*") {
        errors.invalid(path, checks::shown(&values), format!("if '*' is present, must not specify other {what}"));
    }
}

fn validate_resources(errors: &mut FieldErrors, path: &Path, resources: &[String]) {
    if resources.is_empty() {
        errors.required(path, "");
    }
    let (mut whole_resources, mut whole_subresources) = (BTreeSet::new(), BTreeSet::new());
    let mut last_is_bare = false;
    for (index, resource) in resources.iter().enumerate() {
        let path = path.index(index);
        if resource.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let Some((name, subresource)) = resource.split_once('/') else {
            last_is_bare = resource != "*";
            continue;
        };
        if whole_resources.contains(name) {
            let why = format!("if '{name}/*' is present, must not specify {resource}");
            errors.invalid(&path, resource.as_str(), why);
        }
        if whole_subresources.contains(subresource) {
            let why = format!("if '*/{subresource}' is present, must not specify {resource}");
            errors.invalid(&path, resource.as_str(), why);
        }
        if subresource == "*" {
            whole_resources.insert(name);
        }
        if name == "*" {
            whole_subresources.insert(subresource);
        }
    }
    let has = |wanted: &str| resources.iter().any(|resource| resource == wanted);
    if resources.len() > 1 && has("*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, checks::shown(&resources), why);
    }
    if has("*") && last_is_bare {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, checks::shown(&resources), why);
    }
}

/// All problems of the expressions that a request must fulfil.
pub fn validate_conditions(errors: &mut FieldErrors, path: &Path, conditions: &[MatchCondition], params: bool) {
    let naming = Naming { params, ..Naming::default() };
    if conditions.len() > CONDITIONS_MAX {
        errors.too_many(path, conditions.len(), CONDITIONS_MAX);
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        match condition.expression.trim() {
            "" => errors.required(&path.child("expression"), ""),
            text => naming.check(errors, &path.child("expression"), Use::Condition, text),
        }
        let name_path = path.child("name");
        if condition.name.is_empty() {
            errors.required(&name_path, "");
        } else {
            checks::qualified(errors, &name_path, &condition.name);
            checks::unique(errors, &name_path, &mut seen, &condition.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rule_errors(rule: Value) -> Vec<String> {
        let rule: RuleWithOperations = serde_json::from_value(rule).unwrap();
        let mut errors = FieldErrors::new();
        validate_rule(&mut errors, &Path::new("r"), &rule);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_name_all_or_some() {
        let good = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["pods", "pods/status", "*/scale"], "scope": "Namespaced"});
        assert_eq!(rule_errors(good), Vec::<String>::new());
        assert_eq!(
            rule_errors(json!({})),
            [
                "r.operations: Required value",
                "r.apiGroups: Required value",
                "r.apiVersions: Required value",
                "r.resources: Required value",
            ]
        );
        assert_eq!(
            rule_errors(json!({"operations": ["*", "PATCH"], "apiGroups": ["*", "apps"], "apiVersions": [""],
                "resources": ["pods/*", "pods/log", "*", "pods"], "scope": "Here"})),
            [
                "r.operations: Invalid value: [\"*\",\"PATCH\"]: if '*' is present, must not specify other operations",
                "r.operations[1]: Unsupported value: \"PATCH\": supported values: \"*\", \"CONNECT\", \"CREATE\", \
                 \"DELETE\", \"UPDATE\"",
                "r.apiGroups: Invalid value: [\"*\",\"apps\"]: if '*' is present, must not specify other API groups",
                "r.apiVersions[0]: Required value",
                "r.resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
                "r.resources: Invalid value: [\"pods/*\",\"pods/log\",\"*\",\"pods\"]: if '*' is present, must not \
                 specify other resources without subresources",
                "r.scope: Unsupported value: \"Here\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ]
        );
    }
}
