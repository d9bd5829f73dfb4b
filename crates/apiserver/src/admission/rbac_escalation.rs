//! Nobody grants what they do not hold: writes of roles and bindings are refused unless the caller has every permission
//! in them, or may `escalate` or `bind`. Upstream does this in the registry of each of the four resources.
//!
//! Upstream: pkg/registry/rbac/{escalation_check,helpers}.go, pkg/registry/rbac/*/policybased.

use api::meta::v1::ObjectMeta;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};
use crate::authn::MASTERS;
use crate::authz::rule::{aggregate, describe_all, quoted, uncovered};
use crate::authz::{Attributes, Authorizer, Decision, What};
use crate::{Caller, Lookup};

pub struct Plugin;

const GROUP: &str = "rbac.authorization.k8s.io";

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, _subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && group == GROUP
            && matches!(resource, "roles" | "clusterroles" | "rolebindings" | "clusterrolebindings")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        done(check(request))
    }
}

/// What a write would grant.
enum Grant {
    /// A role with these rules (and perhaps those of roles it selects).
    Rules { rules: Vec<PolicyRule>, aggregated: bool },
    /// Whatever is in that role.
    Role(RoleRef),
}

fn check(request: &mut Request<'_>) -> Result<(), Status> {
    let caller = request.caller.clone();
    if caller.is_in(MASTERS) {
        return Ok(());
    }
    let Some((grant, metadata)) = request.object.as_deref().and_then(|object| granted(&**object)) else {
        return Ok(());
    };
    if let Some((old, old_metadata)) = request.old.and_then(|old| granted(&**old))
        && same(&grant, &old)
        && only_bookkeeping(&metadata, &old_metadata)
    {
        return Ok(());
    }
    let authorizer = &*request.server.options().authorizer;
    let asks = Asks { authorizer, lookup: request.lookup(), caller: &caller, namespace: request.namespace };
    let rules = match grant {
        Grant::Rules { rules, aggregated } => {
            if asks.may("escalate", request.resource, request.name) {
                return Ok(());
            }
            // Which roles will be selected cannot be told: such a role is as good as any.
            if aggregated && !asks.holds_everything() {
                let why = "must have cluster-admin privileges to use an aggregationRule";
                return Err(request.forbidden(why));
            }
            rules
        }
        Grant::Role(role) => {
            let resource = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
            if asks.may("bind", resource, &role.name) {
                return Ok(());
            }
            asks.rules_of(&role)?
        }
    };
    asks.confirm(&rules).map_err(|why| request.forbidden(&why))
}

fn granted(object: &dyn Object) -> Option<(Grant, ObjectMeta)> {
    let any = object.as_any();
    let grant = if let Some(role) = any.downcast_ref::<Role>() {
        Grant::Rules { rules: role.rules.clone().unwrap_or_default(), aggregated: false }
    } else if let Some(role) = any.downcast_ref::<ClusterRole>() {
        Grant::Rules { rules: role.rules.clone().unwrap_or_default(), aggregated: role.aggregation_rule.is_some() }
    } else if let Some(binding) = any.downcast_ref::<RoleBinding>() {
        Grant::Role(binding.role_ref.clone())
    } else {
        Grant::Role(any.downcast_ref::<ClusterRoleBinding>()?.role_ref.clone())
    };
    Some((grant, object.metadata().clone()))
}

/// Whether an update grants nothing new. Bindings may have new subjects, so they never are the same.
fn same(new: &Grant, old: &Grant) -> bool {
    match (new, old) {
        (Grant::Rules { rules, aggregated }, Grant::Rules { rules: old, aggregated: old_aggregated }) => {
            rules == old && aggregated == old_aggregated
        }
        _ => false,
    }
}

/// Whether nothing differs but what the garbage collector needs to change.
fn only_bookkeeping(new: &ObjectMeta, old: &ObjectMeta) -> bool {
    new.labels == old.labels && new.annotations == old.annotations
}

struct Asks<'a> {
    authorizer: &'a dyn Authorizer,
    lookup: &'a Lookup,
    caller: &'a Caller,
    namespace: &'a str,
}

impl Asks<'_> {
    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let what = What::Resource {
            group: GROUP,
            version: "*",
            resource,
            subresource: "",
            namespace: self.namespace,
            name,
            field_selector: None,
            label_selector: None,
        };
        let attributes = Attributes { caller: self.caller, verb, what };
        matches!(self.authorizer.authorize(&attributes, self.lookup), Decision::Allow(_))
    }

    fn holds_everything(&self) -> bool {
        let all = [crate::authz::rule::resources(&["*"], &["*"], &["*"]), crate::authz::rule::paths(&["*"], &["*"])];
        self.confirm(&all).is_ok()
    }

    fn rules_of(&self, role: &RoleRef) -> Result<Vec<PolicyRule>, Status> {
        let rules = if role.kind == "ClusterRole" {
            self.lookup.get::<ClusterRole>("", &role.name).map(|role| role.rules.clone())
        } else {
            self.lookup.get::<Role>(self.namespace, &role.name).map(|role| role.rules.clone())
        };
        let plural = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
        let rules = rules.ok_or_else(|| Status::not_found(GROUP, plural, &role.name))?;
        Ok(rules.unwrap_or_default())
    }

    fn confirm(&self, rules: &[PolicyRule]) -> Result<(), String> {
        let held = self.authorizer.rules(self.caller, self.namespace, self.lookup);
        let missing = uncovered(&held.rules, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            self.caller.name,
            quoted(&self.caller.groups),
            describe_all(&missing)
        );
        if !held.errors.is_empty() {
            why.push_str(&format!("; resolution errors: {}", aggregate(&held.errors)));
        }
        Err(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::rule::resources;

    #[test]
    fn relabelling_is_not_bookkeeping() {
        let rules = vec![resources(&[""], &["pods"], &["get"])];
        let role = Role { rules: Some(rules), ..Role::default() };
        let mut moved = role.clone();
        moved.metadata.owner_references = Some(Vec::new());
        let (old, old_metadata) = granted(&role).unwrap();
        let (new, new_metadata) = granted(&moved).unwrap();
        assert!(same(&new, &old) && only_bookkeeping(&new_metadata, &old_metadata));
        moved.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert!(!only_bookkeeping(&moved.metadata, &old_metadata));
        moved.rules = None;
        assert!(!same(&granted(&moved).unwrap().0, &old));
        let binding = RoleBinding::default();
        assert!(!same(&granted(&binding).unwrap().0, &granted(&binding).unwrap().0));
    }
}
