//! What the cluster itself gives and to whom: the bootstrap roles and bindings. Whatever is beyond them somebody added.

use std::collections::BTreeMap;

use api::rbac::v1::{PolicyRule, Subject};
use apiserver::bootstrap::policy;

/// Where a role or binding is: its kind, its namespace (`""`: cluster-wide) and its name.
pub type Key = (&'static str, String, String);

/// A default binding.
pub struct Binding {
    pub role: String,
    pub subjects: Vec<Subject>,
}

/// The defaults.
#[derive(Default)]
pub struct Defaults {
    pub rules: BTreeMap<Key, Vec<PolicyRule>>,
    pub bindings: BTreeMap<Key, Binding>,
}

pub fn defaults() -> Defaults {
    let mut all = Defaults::default();
    let key = |kind, metadata: &api::meta::v1::ObjectMeta| -> Key {
        (kind, metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    };
    let controllers = policy::controllers::roles(&crate::server::declared_roles());
    let (roles, bindings): (Vec<_>, Vec<_>) = controllers.into_iter().unzip();
    for role in policy::cluster_roles().into_iter().chain(roles) {
        all.rules.insert(key("ClusterRole", &role.metadata), role.rules.unwrap_or_default());
    }
    for role in policy::roles() {
        all.rules.insert(key("Role", &role.metadata), role.rules.unwrap_or_default());
    }
    for binding in policy::cluster_role_bindings().into_iter().chain(bindings) {
        let own = Binding { role: binding.role_ref.name, subjects: binding.subjects.unwrap_or_default() };
        all.bindings.insert(key("ClusterRoleBinding", &binding.metadata), own);
    }
    for binding in policy::role_bindings() {
        let own = Binding { role: binding.role_ref.name, subjects: binding.subjects.unwrap_or_default() };
        all.bindings.insert(key("RoleBinding", &binding.metadata), own);
    }
    all
}
