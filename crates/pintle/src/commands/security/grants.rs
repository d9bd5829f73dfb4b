//! Who was given what beyond the cluster's own bindings. Pure.

use api::rbac::v1::{PolicyRule, RoleRef, Subject};
use apiserver::authz::rule;

use super::Offender;
use super::authority::{Defaults, Key};
use super::facts::{Facts, Known, known};

/// Rules that somebody has by a binding, beyond what the cluster gives by itself.
pub struct Grant {
    pub subject: Subject,
    pub binding: Key,
    pub role: String,
    /// The binding or the subject is not one of the cluster's own.
    pub added: bool,
    pub rules: Vec<PolicyRule>,
}

impl Grant {
    /// `ServiceAccount default/web`, `Group system:authenticated`.
    pub fn subject(&self) -> String {
        let Subject { kind, name, namespace, .. } = &self.subject;
        match namespace {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        }
    }

    /// Whether any of the rules allows it. `resource` may have a subresource: `pods/exec`.
    pub fn allows(&self, verbs: &[&str], group: &str, resource: &str) -> bool {
        self.rules.iter().any(|rule| allows(rule, verbs, group, resource))
    }

    /// As an offence: what it gives, and the command that takes it.
    pub fn offence(&self, what: &str) -> Offender {
        let (kind, namespace, name) = &self.binding;
        let why = format!("{} {what} by {kind} {}", self.subject(), place(namespace, name));
        if self.added {
            return (why, format!("kubectl delete {} {name}{}", kind.to_lowercase(), within(namespace)));
        }
        // The binding is the cluster's own: it is the role that was added to.
        let why = format!("{why}: the default role {} was added to", self.role);
        (why, format!("kubectl delete clusterrole {} # a restart makes it anew as it was", self.role))
    }
}

/// ` -n NAMESPACE`, if there is one.
pub fn within(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!(" -n {namespace}") }
}

/// `NAMESPACE/NAME`, or the name alone.
pub fn place(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn has(list: Option<&[String]>, wanted: &str) -> bool {
    list.unwrap_or_default().iter().any(|item| item == "*" || item == wanted)
}

fn allows(rule: &PolicyRule, verbs: &[&str], group: &str, resource: &str) -> bool {
    let any_sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    let resources = rule.resources.as_deref();
    let on = has(resources, resource) || any_sub.is_some_and(|any| resources.unwrap_or_default().contains(&any));
    on && has(rule.api_groups.as_deref(), group) && verbs.iter().any(|verb| has(Some(&rule.verbs), verb))
}

/// The rules of a role; none if it does not exist.
fn rules_of(facts: &Facts, role: &RoleRef, namespace: &str) -> Known<(Key, Vec<PolicyRule>)> {
    if role.kind == "ClusterRole" {
        let found = known(&facts.objects.cluster_roles)?
            .iter()
            .find(|own| own.metadata.name.as_deref() == Some(role.name.as_str()));
        let rules = found.and_then(|own| own.rules.clone()).unwrap_or_default();
        return Ok((("ClusterRole", String::new(), role.name.clone()), rules));
    }
    let found = known(&facts.objects.roles)?.iter().find(|own| {
        own.metadata.name.as_deref() == Some(role.name.as_str()) && own.metadata.namespace.as_deref() == Some(namespace)
    });
    let rules = found.and_then(|own| own.rules.clone()).unwrap_or_default();
    Ok((("Role", namespace.to_owned(), role.name.clone()), rules))
}

fn same(a: &Subject, b: &Subject) -> bool {
    a.kind == b.kind && a.name == b.name && a.namespace == b.namespace
}

/// What a role has beyond its defaults; all of it if it is none of the cluster's own.
pub fn beyond(defaults: &Defaults, key: &Key, rules: &[PolicyRule]) -> Vec<PolicyRule> {
    match defaults.rules.get(key) {
        Some(own) => rule::uncovered(own, rules),
        None => rules.to_vec(),
    }
}

/// All grants that the cluster does not give by itself.
pub fn all(facts: &Facts) -> Known<Vec<Grant>> {
    let mut grants = Vec::new();
    let cluster = known(&facts.objects.cluster_role_bindings)?.iter();
    let cluster = cluster.map(|one| ("ClusterRoleBinding", &one.metadata, &one.role_ref, one.subjects.as_deref()));
    let namespaced = known(&facts.objects.role_bindings)?.iter();
    let namespaced = namespaced.map(|one| ("RoleBinding", &one.metadata, &one.role_ref, one.subjects.as_deref()));
    for (kind, metadata, role, subjects) in cluster.chain(namespaced) {
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let binding: Key = (kind, namespace.clone(), metadata.name.clone().unwrap_or_default());
        let (role_key, rules) = rules_of(facts, role, &namespace)?;
        let default = facts.defaults.bindings.get(&binding).filter(|own| own.role == role.name);
        let added_rules = beyond(&facts.defaults, &role_key, &rules);
        for subject in subjects.unwrap_or_default() {
            let own = default.is_some_and(|own| own.subjects.iter().any(|one| same(one, subject)));
            let given = if own { added_rules.clone() } else { rules.clone() };
            if own && given.is_empty() {
                continue;
            }
            grants.push(Grant {
                subject: subject.clone(),
                binding: binding.clone(),
                role: role.name.clone(),
                added: !own,
                rules: given,
            });
        }
    }
    Ok(grants)
}
