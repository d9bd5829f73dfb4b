//! Policy rules as sets: does a rule allow a request, do some rules cover others.
//!
//! Pure. Upstream: pkg/apis/rbac/v1/evaluation_helpers.go, component-helpers/auth/rbac/validation.

use std::collections::{BTreeMap, BTreeSet};

use api::rbac::v1::PolicyRule;

use super::{Attributes, What};

const ALL: &str = "*";

/// A rule about resources: `groups`, `resources`, `verbs`.
pub fn resources(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(owned(groups)),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..Default::default()
    }
}

/// A rule about paths.
pub fn paths(paths: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule { non_resource_urls: Some(owned(paths)), verbs: owned(verbs), ..Default::default() }
}

fn owned(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn items(list: &Option<Vec<String>>) -> &[String] {
    list.as_deref().unwrap_or_default()
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|own| own == item)
}

/// Whether the rule allows what is asked.
pub fn allows(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    let verb = |verb: &str| rule.verbs.iter().any(|own| own == ALL || own == verb);
    match attributes.what {
        What::Resource { group, resource, subresource, name, .. } => {
            let names = items(&rule.resource_names);
            verb(attributes.verb)
                && items(&rule.api_groups).iter().any(|own| own == ALL || own == group)
                && items(&rule.resources).iter().any(|own| is_resource(own, resource, subresource))
                && (names.is_empty() || has(names, name))
        }
        What::Path(path) => {
            verb(attributes.verb) && items(&rule.non_resource_urls).iter().any(|own| path_covers(own, path))
        }
    }
}

/// Whether a rule's `pods`, `pods/log`, `*/scale` or `*` is the resource.
fn is_resource(own: &str, resource: &str, subresource: &str) -> bool {
    if own == ALL {
        return true;
    }
    match own.split_once('/') {
        None => subresource.is_empty() && own == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == ALL || of == resource),
    }
}

fn path_covers(own: &str, path: &str) -> bool {
    own == path || own.ends_with('*') && path.starts_with(own.trim_end_matches('*'))
}

/// What of `wanted` is not covered by `held`, broken down to single verbs, resources and names, then joined again by
/// verbs where all else is the same.
pub fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let single = wanted.iter().flat_map(break_down);
    compact(single.filter(|rule| !held.iter().any(|own| covers(own, rule))).collect())
}

fn break_down(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut single = Vec::new();
    let names = items(&rule.resource_names);
    for group in items(&rule.api_groups) {
        for resource in items(&rule.resources) {
            for verb in &rule.verbs {
                let one = resources(&[group], &[resource], &[verb]);
                if names.is_empty() {
                    single.push(one);
                    continue;
                }
                single.extend(
                    names.iter().map(|name| PolicyRule { resource_names: Some(vec![name.clone()]), ..one.clone() }),
                );
            }
        }
    }
    for path in items(&rule.non_resource_urls) {
        single.extend(rule.verbs.iter().map(|verb| paths(&[path], &[verb])));
    }
    single
}

/// Whether `own` covers a rule that was broken down.
fn covers(own: &PolicyRule, single: &PolicyRule) -> bool {
    let within = |list: &[String], all: &[String]| all.iter().all(|item| has(list, item));
    let resource = |path: &String| {
        has(items(&own.resources), path)
            || path.split_once('/').is_some_and(|(_, sub)| has(items(&own.resources), &format!("*/{sub}")))
    };
    let path = |path: &String| items(&own.non_resource_urls).iter().any(|mine| path_covers(mine, path));
    let own_names = items(&own.resource_names);
    let names = items(&single.resource_names);
    (has(&own.verbs, ALL) || within(&own.verbs, &single.verbs))
        && (has(items(&own.api_groups), ALL) || within(items(&own.api_groups), items(&single.api_groups)))
        && (has(items(&own.resources), ALL) || items(&single.resources).iter().all(resource))
        && items(&single.non_resource_urls).iter().all(path)
        && (own_names.is_empty() || !names.is_empty() && within(own_names, names))
}

/// Joins rules that differ in their verbs only.
fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut joined: Vec<PolicyRule> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for rule in rules {
        let key = describe(&PolicyRule { verbs: Vec::new(), ..rule.clone() });
        match seen.get(&key) {
            Some(at) => {
                let verbs = &mut joined[*at].verbs;
                verbs.extend(rule.verbs.into_iter().filter(|verb| !verbs.contains(verb)).collect::<Vec<_>>());
            }
            None => {
                seen.insert(key, joined.len());
                joined.push(rule);
            }
        }
    }
    joined
}

/// A list as Go's `%q` prints it.
pub fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// A rule as it is named in messages.
pub fn describe(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", items(&rule.api_groups)),
        ("Resources", items(&rule.resources)),
        ("NonResourceURLs", items(&rule.non_resource_urls)),
        ("ResourceNames", items(&rule.resource_names)),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let parts = parts.iter().filter(|(_, list)| !list.is_empty());
    let parts: Vec<String> = parts.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
    format!("{{{}}}", parts.join(", "))
}

/// Rules as they are listed in a refusal: each once, in order of their text.
pub fn describe_all(rules: &[PolicyRule]) -> String {
    let texts: BTreeSet<String> = rules.iter().map(describe).collect();
    texts.into_iter().collect::<Vec<_>>().join("\n")
}

/// Several errors as upstream's aggregate prints them.
pub fn aggregate(errors: &[String]) -> String {
    let mut once: Vec<&str> = Vec::new();
    for error in errors {
        if !once.contains(&error.as_str()) {
            once.push(error);
        }
    }
    match once.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Caller;

    fn asks<'a>(caller: &'a Caller, verb: &'a str, group: &'a str, path: &'a str, name: &'a str) -> Attributes<'a> {
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        let what = What::Resource {
            group,
            version: "v1",
            resource,
            subresource,
            namespace: "",
            name,
            field_selector: None,
            label_selector: None,
        };
        Attributes { caller, verb, what }
    }

    #[test]
    fn rules_match_as_upstream() {
        let caller = Caller::new("u", &[]);
        let table = [
            (resources(&[""], &["pods"], &["get"]), "get", "pods", true),
            (resources(&[""], &["pods"], &["get"]), "get", "pods/log", false),
            (resources(&[""], &["pods/log"], &["get"]), "get", "pods/log", true),
            (resources(&[""], &["*/log"], &["get"]), "get", "pods/log", true),
            (resources(&[""], &["*/log"], &["get"]), "get", "pods", false),
            (resources(&["*"], &["*"], &["*"]), "patch", "pods/log", true),
            (resources(&["apps"], &["pods"], &["get"]), "get", "pods", false),
            (resources(&[""], &["pods"], &["list"]), "get", "pods", false),
        ];
        for (rule, verb, path, expected) in table {
            assert_eq!(
                allows(&rule, &asks(&caller, verb, "", path, "")),
                expected,
                "{} {verb} {path}",
                describe(&rule)
            );
        }
        let mut named = resources(&[""], &["pods"], &["get"]);
        named.resource_names = Some(vec!["a".into()]);
        assert!(allows(&named, &asks(&caller, "get", "", "pods", "a")));
        assert!(!allows(&named, &asks(&caller, "get", "", "pods", "b")));
        let open = paths(&["/healthz/*", "/version"], &["get"]);
        for (path, expected) in [("/healthz/ping", true), ("/healthz", false), ("/version", true), ("/versions", false)]
        {
            let asked = Attributes { caller: &caller, verb: "get", what: What::Path(path) };
            assert_eq!(allows(&open, &asked), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_held_is_named() {
        let held = [resources(&[""], &["pods", "*/scale"], &["get", "list"])];
        let wanted = [
            resources(&[""], &["pods"], &["get", "delete", "create"]),
            resources(&["apps", ""], &["deployments/scale"], &["get"]),
            paths(&["/metrics"], &["get"]),
        ];
        let missing = uncovered(&held, &wanted);
        assert_eq!(
            describe_all(&missing),
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"create\"]}\n\
             {APIGroups:[\"apps\"], Resources:[\"deployments/scale\"], Verbs:[\"get\"]}\n\
             {NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}"
        );
        let everything = [resources(&["*"], &["*"], &["*"]), paths(&["*"], &["*"])];
        assert!(uncovered(&everything, &wanted).is_empty());
        let mut only = resources(&[""], &["pods"], &["get"]);
        only.resource_names = Some(vec!["a".into()]);
        assert_eq!(uncovered(&[only.clone()], &[resources(&[""], &["pods"], &["get"])]).len(), 1);
        assert!(uncovered(&held, &[only]).is_empty());
    }
}
