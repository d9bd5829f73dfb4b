//! What a cluster has from its first moment: system namespaces, default roles and bindings, priority classes, the
//! `kubernetes` service and what extension servers must know. Reconciled at every start: what is missing is made,
//! what users added stays.
//!
//! Upstream: pkg/registry/rbac/rest, pkg/controlplane/controller, plugin/pkg/auth/authorizer/rbac/bootstrappolicy.

pub mod objects;
pub mod policy;
mod service_cidr;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::{ConfigMap, Endpoints, Service};
use api::discovery::v1::EndpointSlice;
use api::meta::v1::ObjectMeta;
use api::networking::v1::ServiceCIDR;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use api::{Body, Call, Object, Reason, Status, Target, Verb, downcast};
use futures_util::future::join_all;

use crate::authz::rule;
use crate::{Caller, Lookup, Server};

/// How often a write is tried anew when somebody else was faster.
const TRIES: usize = 3;

/// What the cluster's own objects depend on.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where clients reach the API server.
    pub advertise_address: IpAddr,
    /// On which port.
    pub port: u16,
    /// The cluster IP of the service `kubernetes`: the first of the service network.
    pub service_ip: IpAddr,
    /// The CAs that sign client certificates, PEM.
    pub client_ca_pem: String,
    /// The CA of the front proxy, PEM; empty without one.
    pub front_proxy_ca_pem: String,
    /// What all nodes are told alike; empty: nobody keeps it.
    pub node_settings: BTreeMap<String, String>,
    /// Roles and bindings of components that this crate does not know (controllers).
    pub extra: Vec<(ClusterRole, ClusterRoleBinding)>,
}

/// One write that brings the cluster nearer to what is wanted.
#[derive(Debug)]
pub enum Step {
    Create(Box<dyn Object>),
    Update(Box<dyn Object>),
    /// Delete, then create: what differs cannot be changed in place.
    Replace(Box<dyn Object>),
}

/// What must be done so that `wanted` is there; `None` if nothing.
pub fn plan(existing: Option<&dyn Object>, wanted: &dyn Object) -> Option<Step> {
    let Some(existing) = existing else { return Some(Step::Create(wanted.boxed_clone())) };
    if existing.annotation(policy::AUTOUPDATE) == Some("false") {
        return None;
    }
    if !same_role(existing, wanted) {
        return Some(Step::Replace(wanted.boxed_clone()));
    }
    let mut merged = existing.boxed_clone();
    let changed = merge(&mut *merged, wanted);
    changed.then_some(Step::Update(merged))
}

/// Whether two bindings are to the same role; true for everything else.
fn same_role(existing: &dyn Object, wanted: &dyn Object) -> bool {
    let role = |object: &dyn Object| {
        let cluster = downcast::<ClusterRoleBinding>(object).map(|binding| binding.role_ref.clone());
        cluster.or_else(|| downcast::<RoleBinding>(object).map(|binding| binding.role_ref.clone()))
    };
    match (role(existing), role(wanted)) {
        (Some(own), Some(wanted)) => own.kind == wanted.kind && own.name == wanted.name,
        _ => true,
    }
}

/// Adds what is missing; true if something was. Objects whose content is not listed here are left as they are.
fn merge(into: &mut dyn Object, wanted: &dyn Object) -> bool {
    let any = into.as_any_mut();
    if let (Some(own), Some(wanted)) = (any.downcast_mut::<ClusterRole>(), downcast::<ClusterRole>(wanted)) {
        let aggregation = own.aggregation_rule.is_none() && wanted.aggregation_rule.is_some();
        if aggregation {
            own.aggregation_rule.clone_from(&wanted.aggregation_rule);
        }
        return merge_metadata(&mut own.metadata, &wanted.metadata)
            | merge_rules(&mut own.rules, wanted.rules.as_deref().unwrap_or_default())
            | aggregation;
    }
    if let (Some(own), Some(wanted)) = (any.downcast_mut::<Role>(), downcast::<Role>(wanted)) {
        return merge_metadata(&mut own.metadata, &wanted.metadata)
            | merge_rules(&mut own.rules, wanted.rules.as_deref().unwrap_or_default());
    }
    if let (Some(own), Some(wanted)) =
        (any.downcast_mut::<ClusterRoleBinding>(), downcast::<ClusterRoleBinding>(wanted))
    {
        return merge_metadata(&mut own.metadata, &wanted.metadata)
            | merge_subjects(&mut own.subjects, wanted.subjects.as_deref().unwrap_or_default());
    }
    if let (Some(own), Some(wanted)) = (any.downcast_mut::<RoleBinding>(), downcast::<RoleBinding>(wanted)) {
        return merge_metadata(&mut own.metadata, &wanted.metadata)
            | merge_subjects(&mut own.subjects, wanted.subjects.as_deref().unwrap_or_default());
    }
    if let (Some(own), Some(wanted)) = (any.downcast_mut::<ConfigMap>(), downcast::<ConfigMap>(wanted)) {
        return take(&mut own.data, &wanted.data);
    }
    if let (Some(own), Some(wanted)) = (any.downcast_mut::<Endpoints>(), downcast::<Endpoints>(wanted)) {
        return take(&mut own.subsets, &wanted.subsets);
    }
    if let (Some(own), Some(wanted)) = (any.downcast_mut::<EndpointSlice>(), downcast::<EndpointSlice>(wanted)) {
        return take(&mut own.endpoints, &wanted.endpoints) | take(&mut own.ports, &wanted.ports);
    }
    if let (Some(own), Some(wanted)) = (any.downcast_mut::<ServiceCIDR>(), downcast::<ServiceCIDR>(wanted)) {
        return service_cidr::merge(own, wanted);
    }
    if let (Some(own), Some(wanted)) = (any.downcast_mut::<Service>(), downcast::<Service>(wanted)) {
        let (Some(own), Some(wanted)) = (&mut own.spec, &wanted.spec) else { return false };
        return take(&mut own.ports, &wanted.ports);
    }
    false
}

fn take<T: Clone + PartialEq>(own: &mut T, wanted: &T) -> bool {
    let changed = own != wanted;
    if changed {
        own.clone_from(wanted);
    }
    changed
}

fn merge_metadata(own: &mut ObjectMeta, wanted: &ObjectMeta) -> bool {
    merge_map(&mut own.labels, &wanted.labels) | merge_map(&mut own.annotations, &wanted.annotations)
}

fn merge_map(own: &mut Option<BTreeMap<String, String>>, wanted: &Option<BTreeMap<String, String>>) -> bool {
    let mut changed = false;
    for (key, value) in wanted.iter().flatten() {
        changed |= own.get_or_insert_default().insert(key.clone(), value.clone()).as_ref() != Some(value);
    }
    changed
}

fn merge_rules(own: &mut Option<Vec<PolicyRule>>, wanted: &[PolicyRule]) -> bool {
    let missing = rule::uncovered(own.as_deref().unwrap_or_default(), wanted);
    let changed = !missing.is_empty();
    if changed {
        own.get_or_insert_default().extend(missing);
    }
    changed
}

fn merge_subjects(own: &mut Option<Vec<Subject>>, wanted: &[Subject]) -> bool {
    let same = |a: &Subject, b: &Subject| a.kind == b.kind && a.name == b.name && a.namespace == b.namespace;
    let has = |own: &Option<Vec<Subject>>, subject: &Subject| own.iter().flatten().any(|one| same(one, subject));
    let missing: Vec<Subject> = wanted.iter().filter(|subject| !has(own, subject)).cloned().collect();
    let changed = !missing.is_empty();
    if changed {
        own.get_or_insert_default().extend(missing);
    }
    changed
}

/// Makes what is missing. Namespaces come first; everything else is written at once, so that the store commits it in
/// few
/// batches.
///
/// # Errors
/// The first write that failed for another reason than that somebody else did it.
pub async fn run(server: &Arc<Server>, options: &Options) -> Result<(), Status> {
    let caller = Arc::new(Caller::apiserver());
    all(server, &caller, objects::namespaces()).await?;
    let mut wanted = objects::all(options);
    wanted.push(Box::new(service_cidr::wanted(server)));
    let (own, flow, registered) = tokio::join!(
        all(server, &caller, wanted),
        crate::flow::ensure(server, &caller),
        crate::aggregation::register::at_start(server, &caller),
    );
    own.and(flow).and(registered)?;
    service_cidr::ensure_ready(server, &caller).await?;
    server.flow.keep_defaults();
    // Whoever comes next finds its roles in effect.
    server.lookup().wait_fresh().await
}

/// Tells extension API servers which CAs are trusted now.
///
/// # Errors
/// As [`run`].
pub async fn publish_cas(server: &Arc<Server>, client_ca_pem: &str, front_proxy_ca_pem: &str) -> Result<(), Status> {
    let caller = Arc::new(Caller::apiserver());
    one(server, &caller, &objects::extension_authentication(client_ca_pem, front_proxy_ca_pem)).await
}

async fn all(server: &Server, caller: &Arc<Caller>, wanted: Vec<Box<dyn Object>>) -> Result<(), Status> {
    let served = |object: &dyn Object| server.lookup().catalog().of_kind(object.kind()).is_some();
    let wanted: Vec<_> = wanted.into_iter().filter(|object| served(&**object)).collect();
    let written = join_all(wanted.iter().map(|object| one(server, caller, &**object))).await;
    written.into_iter().collect()
}

async fn one(server: &Server, caller: &Arc<Caller>, wanted: &dyn Object) -> Result<(), Status> {
    let mut last = Ok(());
    for _ in 0..TRIES {
        let existing = find(server.lookup(), wanted);
        let Some(step) = plan(existing.as_deref(), wanted) else { return Ok(()) };
        last = act(server, caller, step).await;
        match &last {
            Err(status) if status.is(Reason::Conflict) || status.is(Reason::AlreadyExists) => {
                server.lookup().wait_fresh().await?;
            }
            _ => break,
        }
    }
    last.map_err(|mut status| {
        let what = format!("{} {:?}", wanted.kind().kind, wanted.key());
        status.0.message = Some(format!("unable to initialize {what}: {}", status.message()));
        status
    })
}

fn find(lookup: &Lookup, wanted: &dyn Object) -> Option<Arc<dyn Object>> {
    let kind = wanted.kind();
    lookup.get_any(kind.group, kind.plural, wanted.namespace(), wanted.name())
}

async fn act(server: &Server, caller: &Arc<Caller>, step: Step) -> Result<(), Status> {
    let target = |object: &dyn Object| Target::kind(object.kind()).namespaced(object.namespace());
    let (verb, object) = match step {
        Step::Create(object) => (Verb::Create, object),
        Step::Update(object) => (Verb::Update, object),
        Step::Replace(object) => {
            let delete = Call::new(Verb::Delete, target(&*object).named(object.name()));
            match server.call(caller, delete).await {
                Err(status) if !status.is(Reason::NotFound) => return Err(status),
                _ => (Verb::Create, object),
            }
        }
    };
    let mut target = target(&*object);
    if verb == Verb::Update {
        target = target.named(object.name());
    }
    let mut call = Call::new(verb, target);
    call.body = Body::Object(Arc::from(object));
    server.call(caller, call).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::rule::resources;

    fn role() -> ClusterRole {
        policy::cluster_roles().into_iter().find(|role| role.name() == "system:basic-user").unwrap()
    }

    #[test]
    fn what_is_there_is_left_alone() {
        assert!(matches!(plan(None, &role()), Some(Step::Create(_))));
        assert!(plan(Some(&role()), &role()).is_none());
    }

    #[test]
    fn missing_rules_come_back_and_added_ones_stay() {
        let mut existing = role();
        let own = resources(&["example.com"], &["widgets"], &["get"]);
        existing.rules = Some(vec![own.clone()]);
        let Some(Step::Update(merged)) = plan(Some(&existing), &role()) else { panic!("no update") };
        let rules = downcast::<ClusterRole>(&*merged).unwrap().rules.clone().unwrap();
        assert!(rules.contains(&own));
        assert!(rule::uncovered(&rules, &role().rules.unwrap()).is_empty());
        assert!(plan(Some(&*merged), &role()).is_none());
    }

    #[test]
    fn a_role_can_be_taken_over() {
        let mut existing = role();
        existing.rules = None;
        existing.metadata.annotations.as_mut().unwrap().insert(policy::AUTOUPDATE.into(), "false".into());
        assert!(plan(Some(&existing), &role()).is_none());
    }

    #[test]
    fn a_binding_to_another_role_is_replaced() {
        let wanted = policy::cluster_role_bindings().remove(0);
        let mut existing = wanted.clone();
        existing.role_ref.name = "view".into();
        assert!(matches!(plan(Some(&existing), &wanted), Some(Step::Replace(_))));
        let mut existing = wanted.clone();
        existing.subjects = None;
        let Some(Step::Update(merged)) = plan(Some(&existing), &wanted) else { panic!("no update") };
        assert_eq!(downcast::<ClusterRoleBinding>(&*merged).unwrap().subjects, wanted.subjects);
    }
}
