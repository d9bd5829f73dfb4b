//! What roles and bindings share: rules, references to roles, subjects.

use api::field::{FieldErrors, Path};
use api::rbac::v1::{PolicyRule, RoleRef, Subject};
use serde_json::Value;

use crate::checks;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The rules of a role. `namespaced`: they hold in one namespace.
pub fn validate_rules(errors: &mut FieldErrors, rules: &[PolicyRule], namespaced: bool) {
    for (index, rule) in rules.iter().enumerate() {
        validate_rule(errors, &Path::new("rules").index(index), rule, namespaced);
    }
}

fn validate_rule(errors: &mut FieldErrors, path: &Path, rule: &PolicyRule, namespaced: bool) {
    let list = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
    let (groups, resources) = (list(&rule.api_groups), list(&rule.resources));
    let (names, urls) = (list(&rule.resource_names), list(&rule.non_resource_urls));
    if rule.verbs.is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !urls.is_empty() {
        let path = path.child("nonResourceURLs");
        if namespaced {
            errors.invalid(&path, checks::shown(&urls), "namespaced rules cannot apply to non-resource URLs");
        }
        if !groups.is_empty() || !resources.is_empty() || !names.is_empty() {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&path, checks::shown(&urls), why);
        }
        return;
    }
    if groups.is_empty() {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if resources.is_empty() {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

/// The role that a binding grants.
pub fn validate_role_ref(errors: &mut FieldErrors, role: &RoleRef, kinds: &[&str]) {
    let path = Path::new("roleRef");
    let group = role.api_group.as_deref().unwrap_or_default();
    checks::optional_one_of(errors, &path.child("apiGroup"), Some(group), &[GROUP]);
    checks::optional_one_of(errors, &path.child("kind"), Some(&role.kind), kinds);
    if role.name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        let problems = api::name::path_segment(&role.name, false);
        checks::problems(errors, &path.child("name"), role.name.as_str(), problems);
    }
}

/// A binding never grants another role than at first.
pub fn validate_same_role(errors: &mut FieldErrors, new: &RoleRef, old: &RoleRef) {
    if new != old {
        errors.invalid(&Path::new("roleRef"), checks::shown(new), "cannot change roleRef");
    }
}

/// Whom a binding grants it.
pub fn validate_subjects(errors: &mut FieldErrors, subjects: &[Subject], namespaced: bool) {
    for (index, subject) in subjects.iter().enumerate() {
        let path = Path::new("subjects").index(index);
        let (name_path, group_path) = (path.child("name"), path.child("apiGroup"));
        let group = subject.api_group.as_deref().unwrap_or_default();
        if subject.name.is_empty() {
            errors.required(&name_path, "");
        }
        match subject.kind.as_str() {
            "ServiceAccount" => {
                if !subject.name.is_empty() {
                    checks::dns_subdomain(errors, &name_path, &subject.name);
                }
                checks::optional_one_of(errors, &group_path, Some(group), &[""]);
                if !namespaced && subject.namespace.as_deref().unwrap_or_default().is_empty() {
                    errors.required(&path.child("namespace"), "");
                }
            }
            kind @ ("User" | "Group") => {
                if subject.name.is_empty() {
                    errors.invalid(&name_path, "", format!("{} name cannot be empty", kind.to_lowercase()));
                }
                checks::optional_one_of(errors, &group_path, Some(group), &[GROUP]);
            }
            other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
        }
    }
}

/// Fills API groups that were left out.
pub fn default_binding(role: &mut RoleRef, subjects: &mut Option<Vec<Subject>>) {
    let unset = |group: &Option<String>| group.as_deref().is_none_or(str::is_empty);
    if unset(&role.api_group) {
        role.api_group = Some(GROUP.to_owned());
    }
    for subject in subjects.iter_mut().flatten().filter(|subject| unset(&subject.api_group)) {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

/// `ClusterRole/admin`.
pub fn role_text(role: &RoleRef) -> Value {
    Value::from(format!("{}/{}", role.kind, role.name))
}

/// The names of the subjects of one kind.
pub fn subjects_text(subjects: Option<&Vec<Subject>>, kind: &str) -> Value {
    let of_kind = subjects.into_iter().flatten().filter(|subject| subject.kind == kind);
    let name = |subject: &Subject| match subject.namespace.as_deref() {
        Some(namespace) if kind == "ServiceAccount" && !namespace.is_empty() => format!("{namespace}/{}", subject.name),
        _ => subject.name.clone(),
    };
    Value::from(of_kind.map(name).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(check: impl Fn(&mut FieldErrors)) -> Vec<String> {
        let mut errors = FieldErrors::new();
        check(&mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_for_resources_or_for_urls() {
        let check = |rule: Value, namespaced: bool| {
            let rules: Vec<PolicyRule> = serde_json::from_value(json!([rule])).unwrap();
            texts(|errors| validate_rules(errors, &rules, namespaced))
        };
        assert!(check(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), true).is_empty());
        assert!(check(json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}), false).is_empty());
        assert_eq!(
            check(json!({"verbs": []}), true),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ]
        );
        assert_eq!(
            check(json!({"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}), true),
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and \
                 non-resource URLs",
            ]
        );
    }

    #[test]
    fn subjects_are_users_groups_or_accounts() {
        let check = |subject: Value| {
            let mut subjects: Option<Vec<Subject>> = Some(serde_json::from_value(json!([subject])).unwrap());
            let mut role = RoleRef { kind: "ClusterRole".into(), name: "r".into(), api_group: None };
            default_binding(&mut role, &mut subjects);
            texts(|errors| {
                validate_role_ref(errors, &role, &["ClusterRole"]);
                validate_subjects(errors, subjects.as_deref().unwrap(), false);
            })
        };
        assert!(check(json!({"kind": "User", "name": "jane"})).is_empty());
        assert_eq!(check(json!({"kind": "ServiceAccount", "name": "a"})), ["subjects[0].namespace: Required value"]);
        assert_eq!(
            check(json!({"kind": "Robot", "name": "r"})),
            ["subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \
                 \"Group\""]
        );
        assert_eq!(
            check(json!({"kind": "Group", "name": "g", "apiGroup": "x"})),
            ["subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\""]
        );
    }
}
