//! Admission: what is asked of a write between authorization and the store. Plugins change objects (`admit`) or refuse
//! them (`validate`); the registry calls the two phases in its one order.

pub mod always;
pub mod always_pull_images;
pub mod certificate_approval;
pub mod certificate_signing;
pub mod certificate_subject_restriction;
pub mod cluster_trust_bundle_attest;
mod connect;
mod conversion;
mod declared;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod deny_service_external_ips;
pub mod event_rate_limit;
mod expression;
pub mod extended_resource_toleration;
mod followed;
pub mod image_policy_webhook;
pub mod limit_pod_hard_anti_affinity_topology;
pub mod limit_ranger;
mod matching;
pub mod mutating_policy;
pub mod mutating_webhook;
pub mod namespace_auto_provision;
pub mod namespace_exists;
pub mod namespace_lifecycle;
pub mod node_declared_feature_validator;
pub mod node_restriction;
pub mod owner_references_permission_enforcement;
pub mod persistent_volume_claim_resize;
pub mod pod_group_protection;
pub mod pod_node_selector;
pub mod pod_resize_validator;
pub mod pod_security;
pub mod pod_toleration_restriction;
pub mod pod_topology_labels;
mod policy;
pub mod priority;
pub mod rbac_escalation;
mod reinvocation;
pub mod resource_quota;
mod review;
pub mod runtime_class;
pub mod service_account;
mod settings;
pub(crate) mod signers;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;
pub(crate) mod type_check;
pub mod validating_policy;
pub mod validating_webhook;
mod webhook;

use std::sync::Arc;

use api::meta::v1::DeleteOptions;
use api::{Kind, Object, Status, Typed};
use futures_util::future::BoxFuture;

use crate::{Caller, Lookup, Server};

pub(crate) use connect::options as connect_options;
pub use reinvocation::Reinvocation;
pub use settings::Settings;

/// What happens to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// exec, attach, port-forward, proxy.
    Connect,
}

impl Operation {
    /// As rules name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What was compiled from the cluster's own configuration of admission.
#[derive(Default)]
pub struct External {
    mutating_webhooks: followed::Followed<Vec<webhook::Hook>>,
    validating_webhooks: followed::Followed<Vec<webhook::Hook>>,
    validating_policies: followed::Followed<validating_policy::Validating>,
    validating_bindings: followed::Followed<policy::Binding>,
    mutating_policies: followed::Followed<mutating_policy::Mutating>,
    mutating_bindings: followed::Followed<policy::Binding>,
    quotas: resource_quota::Turns,
}

/// One write, as plugins see it (upstream's `admission.Attributes`).
pub struct Request<'a> {
    pub server: &'a Server,
    pub caller: &'a Arc<Caller>,
    pub operation: Operation,
    /// The kind of `object`: for subresources it may differ from the resource's (`Scale`, `Binding`).
    pub kind: &'static Kind,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    /// `""`: the resource itself.
    pub subresource: &'a str,
    /// `""`: cluster-scoped.
    pub namespace: &'a str,
    /// `""`: a create with `generateName` whose name is not made yet.
    pub name: &'a str,
    /// The new object; `None` for deletes and connects.
    pub object: Option<&'a mut Box<dyn Object>>,
    /// The object as it is; `None` for creates.
    pub old: Option<&'a Arc<dyn Object>>,
    pub dry_run: bool,
    /// What the client asked for beside the object.
    pub options: Option<&'a api::Options>,
    /// Of a connect: `PodExecOptions` and the like.
    pub connect: Option<serde_json::Value>,
    /// The options of a delete.
    pub delete_options: Option<&'a DeleteOptions>,
    /// Sent to the client as `Warning` headers.
    pub warnings: Vec<String>,
    /// Written to the audit event.
    pub annotations: Vec<(String, String)>,
    /// Who is asked again because the object changed.
    pub reinvocation: Reinvocation,
}

impl<'a> Request<'a> {
    /// The server's own view of the cluster.
    pub fn lookup(&self) -> &'a Lookup {
        self.server.lookup()
    }

    /// The new object, if it is of that kind.
    pub fn object<T: Typed>(&mut self) -> Option<&mut T> {
        self.object.as_mut()?.as_any_mut().downcast_mut()
    }

    /// The object as it is, if it is of that kind.
    pub fn old_object<T: Typed>(&self) -> Option<&T> {
        api::downcast(&**self.old?)
    }

    /// The new object in the version that is stored, if that is of that kind: for what must hold in every version.
    pub fn stored_object<T: Typed>(&self) -> Option<T> {
        self.in_stored_version(&***self.object.as_ref()?)
    }

    /// The object as it is, in the version that is stored.
    pub fn stored_old_object<T: Typed>(&self) -> Option<T> {
        self.in_stored_version(&**self.old?)
    }

    fn in_stored_version<T: Typed>(&self, object: &dyn Object) -> Option<T> {
        if let Some(own) = api::downcast::<T>(object) {
            return Some(own.clone());
        }
        let resource = self.lookup().catalog().find(self.group, self.version, self.resource)?;
        let convert = resource.convert.filter(|_| object.kind() == resource.kind())?;
        (convert.to_stored)(object).into_any_box().downcast().ok().map(|own| *own)
    }

    /// 403 in upstream's words (`admission.NewForbidden`).
    pub fn forbidden(&self, why: &str) -> Status {
        let generated = self.object.as_ref().and_then(|object| object.metadata().generate_name.as_deref());
        let name = if self.name.is_empty() { generated.unwrap_or("Unknown") } else { self.name };
        Status::forbidden(self.group, self.resource, name, why)
    }
}

/// One admission plugin. Both phases default to "fine".
pub trait Plugin: Send + Sync + 'static {
    /// Its name as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Whether it has anything to say about such a request; asked before either phase.
    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool;

    /// May change `request.object`.
    fn admit<'a>(&'a self, _request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// May only refuse.
    fn validate<'a>(&'a self, _request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Every built-in plugin, in the order upstream calls them.
pub static ALL: &[&dyn Plugin] = &[
    &always::Admit,
    &namespace_auto_provision::Plugin,
    &namespace_lifecycle::Plugin,
    &namespace_exists::Plugin,
    &limit_pod_hard_anti_affinity_topology::Plugin,
    &limit_ranger::Plugin,
    &service_account::Plugin,
    &node_restriction::Plugin,
    &taint_nodes_by_condition::Plugin,
    &always_pull_images::Plugin,
    &image_policy_webhook::Plugin,
    &pod_security::Plugin,
    &pod_node_selector::Plugin,
    &priority::Plugin,
    &default_toleration_seconds::Plugin,
    &pod_toleration_restriction::Plugin,
    &event_rate_limit::Plugin,
    &extended_resource_toleration::Plugin,
    &default_storage_class::Plugin,
    &storage_object_in_use_protection::Plugin,
    &pod_group_protection::Plugin,
    &owner_references_permission_enforcement::Plugin,
    &persistent_volume_claim_resize::Plugin,
    &runtime_class::Plugin,
    &certificate_approval::Plugin,
    &certificate_signing::Plugin,
    &cluster_trust_bundle_attest::Plugin,
    &certificate_subject_restriction::Plugin,
    &default_ingress_class::Plugin,
    &deny_service_external_ips::Plugin,
    &pod_topology_labels::Plugin,
    &node_declared_feature_validator::Plugin,
    &pod_resize_validator::Plugin,
    &rbac_escalation::Plugin,
    &mutating_policy::Plugin,
    &mutating_webhook::Plugin,
    &validating_policy::Plugin,
    &validating_webhook::Plugin,
    &resource_quota::Plugin,
    &always::Deny,
];

/// What a plugin without anything to wait for answers.
fn done<'a>(result: Result<(), Status>) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(std::future::ready(result))
}

/// The plugins that are on, in order.
pub struct Chain(pub Vec<&'static dyn Plugin>);

/// Plugins that are on only when they are asked for.
const OFF: [&str; 13] = [
    "AlwaysAdmit",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "LimitPodHardAntiAffinityTopology",
    "AlwaysPullImages",
    "ImagePolicyWebhook",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "OwnerReferencesPermissionEnforcement",
    "DenyServiceExternalIPs",
    "AlwaysDeny",
];

impl Default for Chain {
    fn default() -> Self {
        Self(ALL.iter().copied().filter(|plugin| !OFF.contains(&plugin.name())).collect())
    }
}

impl Chain {
    /// Those that are on by default, with some more and without some (`--enable-admission-plugins`,
    /// `--disable-admission-plugins`).
    ///
    /// # Errors
    /// For names that are unknown or in both lists, in upstream's words.
    pub fn with(enabled: &[String], disabled: &[String]) -> Result<Self, String> {
        for (flag, names) in [("enable-admission-plugins", enabled), ("disable-admission-plugins", disabled)] {
            for name in names {
                if !ALL.iter().any(|plugin| plugin.name() == name) {
                    return Err(format!("{flag} plugin {name:?} is unknown"));
                }
            }
        }
        let both: Vec<&str> = enabled.iter().filter(|name| disabled.contains(name)).map(String::as_str).collect();
        if !both.is_empty() {
            let both = both.join(" ");
            return Err(format!("[{both}] in enable-admission-plugins and disable-admission-plugins overlapped"));
        }
        let is_in = |list: &[String], plugin: &dyn Plugin| list.iter().any(|name| name == plugin.name());
        let on =
            |plugin: &dyn Plugin| (is_in(enabled, plugin) || !OFF.contains(&plugin.name())) && !is_in(disabled, plugin);
        Ok(Self(ALL.iter().copied().filter(|plugin| on(*plugin)).collect()))
    }

    /// Whether a plugin is on.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|plugin| plugin.name() == name)
    }

    /// Whether any plugin cares for such a request; if not, building a [`Request`] can be saved.
    pub fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        self.0.iter().any(|plugin| plugin.handles(operation, group, resource, subresource))
    }

    /// The plugins that are on, and those that are off, by name.
    pub fn names(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let all = ALL.iter().map(|plugin| plugin.name());
        all.partition(|name| self.0.iter().any(|plugin| plugin.name() == *name))
    }

    /// The mutating phase: once, and once more if a webhook or policy changed the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn admit(&self, request: &mut Request<'_>) -> Result<(), Status> {
        self.mutate(request).await?;
        if request.reinvocation.wanted {
            request.reinvocation.round = 1;
            self.mutate(request).await?;
        }
        Ok(())
    }

    async fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        for plugin in &self.0 {
            if plugin.handles(request.operation, request.group, request.resource, request.subresource) {
                plugin.admit(request).await?;
            }
        }
        Ok(())
    }

    /// The validating phase.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        for plugin in &self.0 {
            if plugin.handles(request.operation, request.group, request.resource, request.subresource) {
                plugin.validate(request).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_chosen_by_name() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let names = |chain: &Chain| chain.0.iter().map(|plugin| plugin.name()).collect::<Vec<_>>();
        let standard = names(&Chain::default());
        assert!(standard.contains(&"DefaultStorageClass") && !standard.contains(&"AlwaysDeny"));
        let chosen = Chain::with(&list(&["AlwaysPullImages"]), &list(&["LimitRanger"])).unwrap();
        assert!(names(&chosen).contains(&"AlwaysPullImages") && !names(&chosen).contains(&"LimitRanger"));
        let wrong = |on: &[&str], off: &[&str]| Chain::with(&list(on), &list(off)).map(drop).unwrap_err();
        assert_eq!(wrong(&["Nope"], &[]), "enable-admission-plugins plugin \"Nope\" is unknown");
        assert_eq!(wrong(&[], &["Nope"]), "disable-admission-plugins plugin \"Nope\" is unknown");
        for gone in ["PodGroupWorkloadExists", "JobValidation"] {
            let why = format!("enable-admission-plugins plugin {gone:?} is unknown");
            assert_eq!(wrong(&[gone], &[]), why, "upstream took it back");
        }
        assert_eq!(
            wrong(&["LimitRanger"], &["LimitRanger"]),
            "[LimitRanger] in enable-admission-plugins and disable-admission-plugins overlapped"
        );
    }
}
