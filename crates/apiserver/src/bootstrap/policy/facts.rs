//! The default roles and bindings, whole, against the table in `facts.txt`: what each role may do with which resource,
//! name and path, and who holds it. The order and grouping of rules do not count. `UPDATE_EXPECT=1` writes the table
//! anew; compare what changed with upstream's own roles before it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use api::Object;
use api::rbac::v1::{PolicyRule, RoleRef, Subject};

use super::{AUTOUPDATE, cluster_role_bindings, cluster_roles, controllers, role_bindings, roles};

const EXPECTED: &str = include_str!("facts.txt");

/// One row for each resource (with the names it is kept to) and path: `apps/daemonsets  get list watch`.
fn rows(table: &mut String, rules: &[PolicyRule]) {
    let mut held: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for rule in rules {
        let names = rule.resource_names.iter().flatten().map(String::as_str).collect::<Vec<&str>>();
        let names = if names.is_empty() { String::new() } else { format!("[{}]", names.join(" ")) };
        let groups = rule.api_groups.iter().flatten().map(|group| match group.as_str() {
            "" => "core",
            group => group,
        });
        let resources =
            groups.flat_map(|group| rule.resources.iter().flatten().map(move |resource| format!("{group}/{resource}")));
        let paths = rule.non_resource_urls.iter().flatten().cloned();
        for what in resources.map(|what| what + &names).chain(paths) {
            held.entry(what).or_default().extend(rule.verbs.iter().map(String::as_str));
        }
    }
    for (what, verbs) in held {
        let _ = writeln!(table, "  {what}  {}", verbs.into_iter().collect::<Vec<&str>>().join(" "));
    }
}

fn holders(subjects: Option<&Vec<Subject>>) -> String {
    let names = subjects.into_iter().flatten().map(|subject| match &subject.namespace {
        Some(namespace) => format!("{} {namespace}/{}", subject.kind, subject.name),
        None => format!("{} {}", subject.kind, subject.name),
    });
    let names: BTreeSet<String> = names.collect();
    if names.is_empty() { "nobody".to_owned() } else { names.into_iter().collect::<Vec<String>>().join(", ") }
}

fn held(table: &mut String, key: &str, to: &RoleRef, subjects: Option<&Vec<Subject>>) {
    let role = format!("{} {}", to.kind, to.name);
    let role = if key.rsplit('/').next() == Some(&*to.name) { &*to.kind } else { &*role };
    let _ = writeln!(table, "{key}: {role} to {}", holders(subjects));
}

#[test]
fn every_default_role_and_who_holds_it() {
    let (controller_roles, controller_bindings): (Vec<_>, Vec<_>) = controllers::roles(&[]).into_iter().unzip();
    let mut table = String::from("# ClusterRoles\n");
    let mut wide: Vec<_> = cluster_roles().into_iter().chain(controller_roles).collect();
    wide.sort_by_key(|role| role.name().to_owned());
    for role in &wide {
        assert_eq!(role.annotation(AUTOUPDATE), Some("true"), "{}", role.name());
        let labels = role.metadata.labels.iter().flatten();
        let labels =
            labels.filter_map(|(key, _)| key.split_once("/aggregate-to-")).map(|(_, to)| format!(" (to {to})"));
        let _ = writeln!(table, "\n{}{}", role.name(), labels.collect::<String>());
        let selected = role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
        let mut whole = true;
        for label in selected.flat_map(|selector| selector.match_labels.iter().flatten()) {
            let _ = writeln!(table, "  all of {}={}", label.0, label.1);
            whole = false;
        }
        if whole {
            rows(&mut table, role.rules.as_deref().unwrap_or_default());
        }
    }
    table.push_str("\n# Roles\n");
    let mut local = roles();
    local.sort_by_key(Object::key);
    for role in &local {
        let _ = writeln!(table, "\n{}", role.key());
        rows(&mut table, role.rules.as_deref().unwrap_or_default());
    }
    table.push_str("\n# ClusterRoleBindings\n\n");
    let mut wide: Vec<_> = cluster_role_bindings().into_iter().chain(controller_bindings).collect();
    wide.sort_by_key(|binding| binding.name().to_owned());
    for binding in &wide {
        held(&mut table, binding.name(), &binding.role_ref, binding.subjects.as_ref());
    }
    table.push_str("\n# RoleBindings\n\n");
    let mut local = role_bindings();
    local.sort_by_key(Object::key);
    for binding in &local {
        held(&mut table, &binding.key(), &binding.role_ref, binding.subjects.as_ref());
    }
    if std::env::var("UPDATE_EXPECT").is_ok_and(|value| value == "1") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bootstrap/policy/facts.txt");
        std::fs::write(path, &table).unwrap();
        return;
    }
    for (made, expected) in table.lines().zip(EXPECTED.lines()) {
        assert_eq!(made, expected, "UPDATE_EXPECT=1 writes the table anew");
    }
    assert_eq!(table.lines().count(), EXPECTED.lines().count(), "UPDATE_EXPECT=1 writes the table anew");
}
