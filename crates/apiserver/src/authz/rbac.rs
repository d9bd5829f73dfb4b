//! Role-based access control from memory: bindings indexed by subject, roles by name, both kept up to date from the
//! watch caches at the price of what changed.
//!
//! Upstream: plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac/validation.

use std::collections::HashMap;
use std::sync::Arc;

use api::meta::v1::ObjectMeta;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use api::{Object, Typed};
use parking_lot::{RwLock, RwLockWriteGuard};

use super::follow::{Follower, cache_of};
use super::{Attributes, Authorizer, Decision, Rules, What, rule};
use crate::cache::Entry;
use crate::{Caller, Lookup};

/// Allows what a ClusterRoleBinding or RoleBinding grants; has no opinion on the rest.
#[derive(Default)]
pub struct Rbac {
    index: RwLock<Index>,
}

/// A binding.
struct Binding {
    /// As it is named in reasons.
    kind: &'static str,
    shown: String,
    /// `""` for a ClusterRoleBinding.
    namespace: String,
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// Bindings by whom they are for; each list in order of the bindings' names.
#[derive(Default)]
struct BySubject {
    users: HashMap<String, Vec<Arc<Binding>>>,
    groups: HashMap<String, Vec<Arc<Binding>>>,
}

#[derive(Default)]
struct Index {
    seen_cluster_roles: Follower,
    seen_roles: Follower,
    seen_cluster_bindings: Follower,
    seen_bindings: Follower,
    cluster_roles: HashMap<String, Arc<[PolicyRule]>>,
    roles: HashMap<(String, String), Arc<[PolicyRule]>>,
    cluster_bindings: BySubject,
    bindings: HashMap<String, BySubject>,
}

impl Rbac {
    fn read<R>(&self, lookup: &Lookup, f: impl FnOnce(&Index) -> R) -> R {
        let index = self.index.read();
        if index.is_current(lookup) {
            return f(&index);
        }
        drop(index);
        let mut index = self.index.write();
        index.advance(lookup);
        f(&RwLockWriteGuard::downgrade(index))
    }

    /// The rules of a role that a binding in `namespace` (`""`: none) refers to.
    ///
    /// # Errors
    /// Why there are none, in upstream's words.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str, lookup: &Lookup) -> Result<Arc<[PolicyRule]>, String> {
        self.read(lookup, |index| index.role_rules(role, namespace))
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, attributes: &Attributes<'_>, lookup: &Lookup) -> Decision {
        self.read(lookup, |index| index.authorize(attributes))
    }

    fn rules(&self, caller: &Caller, namespace: &str, lookup: &Lookup) -> Rules {
        self.read(lookup, |index| {
            let mut all = Rules::default();
            for binding in index.matching(caller, namespace) {
                match index.role_rules(&binding.role, &binding.namespace) {
                    Ok(rules) => all.rules.extend(rules.iter().cloned()),
                    Err(error) => all.errors.push(error),
                }
            }
            all
        })
    }
}

impl Index {
    fn is_current(&self, lookup: &Lookup) -> bool {
        self.seen_cluster_roles.is_current(cache_of::<ClusterRole>(lookup))
            && self.seen_cluster_bindings.is_current(cache_of::<ClusterRoleBinding>(lookup))
            && self.seen_roles.is_current(cache_of::<Role>(lookup))
            && self.seen_bindings.is_current(cache_of::<RoleBinding>(lookup))
    }

    fn advance(&mut self, lookup: &Lookup) {
        let Self { cluster_roles, roles, cluster_bindings, bindings, .. } = self;
        self.seen_cluster_roles.advance(cache_of::<ClusterRole>(lookup), |old, new| match typed::<ClusterRole>(new) {
            Some(role) => drop(cluster_roles.insert(name(&role.metadata), shared(&role.rules))),
            None => drop(old.and_then(|old| cluster_roles.remove(old.name()))),
        });
        self.seen_roles.advance(cache_of::<Role>(lookup), |old, new| match typed::<Role>(new) {
            Some(role) => drop(roles.insert((role.namespace().to_owned(), name(&role.metadata)), shared(&role.rules))),
            None => {
                old.and_then(|old| roles.remove(&(old.namespace().to_owned(), old.name().to_owned())));
            }
        });
        self.seen_cluster_bindings.advance(cache_of::<ClusterRoleBinding>(lookup), |old, new| {
            if let Some(old) = typed::<ClusterRoleBinding>(old) {
                cluster_bindings.remove(&Binding::of_cluster(&old));
            }
            if let Some(new) = typed::<ClusterRoleBinding>(new) {
                cluster_bindings.add(Binding::of_cluster(&new));
            }
        });
        self.seen_bindings.advance(cache_of::<RoleBinding>(lookup), |old, new| {
            if let Some(old) = typed::<RoleBinding>(old)
                && let Some(here) = bindings.get_mut(old.namespace())
            {
                here.remove(&Binding::of_namespace(&old));
                if here.users.is_empty() && here.groups.is_empty() {
                    bindings.remove(old.namespace());
                }
            }
            if let Some(new) = typed::<RoleBinding>(new) {
                bindings.entry(new.namespace().to_owned()).or_default().add(Binding::of_namespace(&new));
            }
        });
    }

    fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Arc<[PolicyRule]>, String> {
        let missing = |plural: &str| format!("{plural}.rbac.authorization.k8s.io {:?} not found", role.name);
        match role.kind.as_str() {
            "ClusterRole" => self.cluster_roles.get(&role.name).cloned().ok_or_else(|| missing("clusterrole")),
            "Role" => {
                let key = (namespace.to_owned(), role.name.clone());
                self.roles.get(&key).cloned().ok_or_else(|| missing("role"))
            }
            other => Err(format!("unsupported role reference kind: {other:?}")),
        }
    }

    /// The bindings that apply: cluster-wide ones first, each kind in order of names.
    fn matching(&self, caller: &Caller, namespace: &str) -> Vec<&Arc<Binding>> {
        let mut found = Vec::new();
        self.cluster_bindings.matching(caller, &mut found);
        if let Some(here) = self.bindings.get(namespace) {
            here.matching(caller, &mut found);
        }
        found
    }

    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let namespace = match attributes.what {
            What::Resource { namespace, .. } => namespace,
            What::Path(_) => "",
        };
        let mut errors = Vec::new();
        for binding in self.matching(attributes.caller, namespace) {
            match self.role_rules(&binding.role, &binding.namespace) {
                Ok(rules) if rules.iter().any(|one| rule::allows(one, attributes)) => {
                    return Decision::Allow(format!("RBAC: allowed by {}", binding.describe(attributes.caller)));
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            return Decision::NoOpinion(String::new());
        }
        Decision::NoOpinion(format!("RBAC: {}", rule::aggregate(&errors)))
    }
}

/// The object of an entry, without leaving its typed form behind in the cache.
fn typed<T: Typed>(entry: Option<&Entry>) -> Option<Box<T>> {
    entry?.object_to_change().ok()?.into_any_box().downcast().ok()
}

fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}

fn shared(rules: &Option<Vec<PolicyRule>>) -> Arc<[PolicyRule]> {
    rules.as_deref().unwrap_or_default().into()
}

impl Binding {
    fn of_cluster(binding: &ClusterRoleBinding) -> Self {
        Self {
            kind: "ClusterRoleBinding",
            shown: name(&binding.metadata),
            namespace: String::new(),
            role: binding.role_ref.clone(),
            subjects: binding.subjects.clone().unwrap_or_default(),
        }
    }

    fn of_namespace(binding: &RoleBinding) -> Self {
        Self {
            kind: "RoleBinding",
            shown: format!("{}/{}", binding.name(), binding.namespace()),
            namespace: binding.namespace().to_owned(),
            role: binding.role_ref.clone(),
            subjects: binding.subjects.clone().unwrap_or_default(),
        }
    }

    fn service_account_namespace<'a>(&'a self, subject: &'a Subject) -> &'a str {
        subject.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(&self.namespace)
    }

    /// The user name a subject stands for; `None` for groups and what is unknown.
    fn user(&self, subject: &Subject) -> Option<String> {
        match subject.kind.as_str() {
            "User" => Some(subject.name.clone()),
            "ServiceAccount" => {
                let namespace = self.service_account_namespace(subject);
                (!namespace.is_empty()).then(|| pki::token::username(namespace, &subject.name))
            }
            _ => None,
        }
    }

    fn applies(&self, subject: &Subject, caller: &Caller) -> bool {
        match subject.kind.as_str() {
            "Group" => caller.is_in(&subject.name),
            _ => self.user(subject).is_some_and(|user| user == caller.name),
        }
    }

    /// The binding, its role and the subject through which it applies.
    fn describe(&self, caller: &Caller) -> String {
        let subject = self.subjects.iter().find(|subject| self.applies(subject, caller));
        let subject = subject.map_or_else(String::new, |subject| match subject.kind.as_str() {
            "ServiceAccount" => {
                let full = format!("{}/{}", subject.name, self.service_account_namespace(subject));
                format!("{} {full:?}", subject.kind)
            }
            kind => format!("{kind} {:?}", subject.name),
        });
        format!("{} {:?} of {} {:?} to {subject}", self.kind, self.shown, self.role.kind, self.role.name)
    }
}

impl BySubject {
    fn lists(&mut self, binding: &Binding, mut each: impl FnMut(&mut HashMap<String, Vec<Arc<Binding>>>, String)) {
        for subject in &binding.subjects {
            match binding.user(subject) {
                Some(user) => each(&mut self.users, user),
                None if subject.kind == "Group" => each(&mut self.groups, subject.name.clone()),
                None => {}
            }
        }
    }

    fn add(&mut self, binding: Binding) {
        let binding = Arc::new(binding);
        self.lists(&binding, |map, subject| {
            let list = map.entry(subject).or_default();
            if let Err(at) = list.binary_search_by(|own| own.shown.cmp(&binding.shown)) {
                list.insert(at, binding.clone());
            }
        });
    }

    fn remove(&mut self, binding: &Binding) {
        self.lists(binding, |map, subject| {
            let Some(list) = map.get_mut(&subject) else { return };
            list.retain(|own| own.shown != binding.shown);
            if list.is_empty() {
                map.remove(&subject);
            }
        });
    }

    fn matching<'a>(&'a self, caller: &Caller, found: &mut Vec<&'a Arc<Binding>>) {
        let start = found.len();
        found.extend(self.users.get(&caller.name).into_iter().flatten());
        let user_only = found.len();
        for group in &caller.groups {
            found.extend(self.groups.get(group).into_iter().flatten());
        }
        if found.len() > user_only {
            found[start..].sort_by(|a, b| a.shown.cmp(&b.shown));
            let mut last: Option<*const Binding> = None;
            let mut at = 0;
            found.retain(|binding| {
                at += 1;
                let this = Arc::as_ptr(binding);
                let again = at > start && last == Some(this);
                last = Some(this);
                !again
            });
        }
    }
}

#[cfg(test)]
mod tests;
