//! May the caller do it: attributes in, a decision out. Authorizers look things up in the server's own caches.

mod chain;
pub mod config;
mod figures;
mod follow;
pub mod node;
pub mod rbac;
pub mod review;
pub mod rule;
pub mod webhook;

use std::sync::Arc;

use api::Status;
use api::rbac::v1::PolicyRule;
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;

use crate::{Caller, Lookup};

pub use chain::Chain;
pub use node::Node;
pub use rbac::Rbac;

/// What is asked for, as authorization sees it (upstream's `authorizer.Attributes`).
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    pub caller: &'a Caller,
    /// `get`, `list`, ... for resources; the lower-case HTTP method for other paths.
    pub verb: &'a str,
    pub what: What<'a>,
}

/// A resource, or a path that is none.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    Resource {
        group: &'a str,
        version: &'a str,
        resource: &'a str,
        /// `""`: the resource itself.
        subresource: &'a str,
        /// `""`: cluster-scoped, or all namespaces.
        namespace: &'a str,
        /// `""`: a collection, or a create.
        name: &'a str,
        field_selector: Option<&'a str>,
        label_selector: Option<&'a str>,
    },
    Path(&'a str),
}

/// An authorizer's opinion. Without any `Allow` the answer is no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The reason goes to the audit log.
    Allow(String),
    /// No, and nobody else is asked. The reason is shown to the caller.
    Deny(String),
    /// The reason (may be empty) is shown to the caller if nobody allows.
    NoOpinion(String),
    /// It could not be decided: 500 unless somebody else allows, who is asked unless it `denies`.
    Failed { why: String, denies: bool },
}

/// Decides. Whatever it must know is in the caches behind `lookup`, but for one that asks others.
pub trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, attributes: &Attributes<'_>, lookup: &Lookup) -> Decision;

    /// Whether others are asked, so that [`Authorizer::ask`] is the way to call it.
    fn waits(&self) -> bool {
        false
    }

    /// As [`Authorizer::authorize`], without holding up a thread.
    fn ask<'a>(&'a self, attributes: &'a Attributes<'a>, lookup: &'a Lookup) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(self.authorize(attributes, lookup)))
    }

    /// Adds the authorizer's figures to the server's.
    fn register(&self, _registry: &mut Registry) {}

    /// The kinds of authorizers that decide, in order, as `--authorization-mode` names them.
    fn modes(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// What a caller may do in a namespace (`""`: cluster-wide), as far as it can be listed.
    fn rules(&self, _caller: &Caller, _namespace: &str, _lookup: &Lookup) -> Rules {
        Rules::default()
    }
}

/// The rules that hold for somebody (upstream's `RuleResolver`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    pub rules: Vec<PolicyRule>,
    /// There is more that cannot be listed.
    pub incomplete: bool,
    /// What went wrong; the rules are good nevertheless.
    pub errors: Vec<String>,
}

/// The authorizers of a cluster, in order: health endpoints, `system:masters`, nodes, RBAC.
pub fn standard() -> Arc<dyn Authorizer> {
    Arc::new(Chain::standard(base::Clock::system(), base::Random::system()))
}

/// Lets `system:masters` do everything, as upstream's privileged-group authorizer.
#[derive(Debug, Default, Clone, Copy)]
pub struct Privileged;

impl Authorizer for Privileged {
    fn authorize(&self, attributes: &Attributes<'_>, _lookup: &Lookup) -> Decision {
        if attributes.caller.is_in(crate::authn::MASTERS) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

/// Lets anyone read the health endpoints.
#[derive(Debug, Default, Clone, Copy)]
pub struct AlwaysAllowHealth;

impl Authorizer for AlwaysAllowHealth {
    fn authorize(&self, attributes: &Attributes<'_>, _lookup: &Lookup) -> Decision {
        match attributes.what {
            What::Path("/healthz" | "/livez" | "/readyz") if attributes.verb == "get" => Decision::Allow(String::new()),
            _ => Decision::NoOpinion(String::new()),
        }
    }
}

/// Asks several authorizers in order until one allows or denies.
pub struct Union(pub Vec<Arc<dyn Authorizer>>);

impl Authorizer for Union {
    fn authorize(&self, attributes: &Attributes<'_>, lookup: &Lookup) -> Decision {
        let mut reasons: Vec<String> = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes, lookup) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decision => return decision,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    fn rules(&self, caller: &Caller, namespace: &str, lookup: &Lookup) -> Rules {
        let mut all = Rules::default();
        for authorizer in &self.0 {
            let rules = authorizer.rules(caller, namespace, lookup);
            all.rules.extend(rules.rules);
            all.errors.extend(rules.errors);
            all.incomplete |= rules.incomplete;
        }
        all
    }
}

/// The 403 of a request that nobody allowed, in upstream's words (`responsewriters.Forbidden`).
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let user = format!("User {:?}", attributes.caller.name);
    let tail = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match attributes.what {
        What::Path(path) => {
            let why = format!("{user} cannot {} path {path:?}{tail}", attributes.verb);
            Status::forbidden("", "", "", &why)
        }
        What::Resource { group, resource, subresource, namespace, name, .. } => {
            let slash = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
            let scope = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            let why = format!(
                "{user} cannot {} resource \"{resource}{slash}\" in API group {group:?} {scope}{tail}",
                attributes.verb
            );
            Status::forbidden(group, resource, name, &why)
        }
    }
}
