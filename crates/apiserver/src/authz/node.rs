//! What a node may do: what it needs for itself and for the pods that are bound to it.
//!
//! Upstream: plugin/pkg/auth/authorizer/node.

mod graph;

use api::FieldSelector;
use parking_lot::{RwLock, RwLockWriteGuard};

use self::graph::Graph;
pub use self::graph::{Thing, uses};
use super::{Attributes, Authorizer, Decision, Rules, What, rule};
use crate::bootstrap::policy;
use crate::{Caller, Lookup};

const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
const LEASES: &str = "kube-node-lease";

/// The node a caller is; `Some("")` for one that is in the group of nodes without being a node by name.
pub fn identity(caller: &Caller) -> Option<&str> {
    let name = caller.name.strip_prefix(USER_PREFIX)?;
    caller.is_in(GROUP).then_some(name)
}

/// Authorizes nodes; has no opinion on anyone else.
pub struct Node {
    graph: RwLock<Graph>,
    rules: Vec<api::rbac::v1::PolicyRule>,
}

impl Default for Node {
    fn default() -> Self {
        Self { graph: RwLock::default(), rules: policy::node_rules() }
    }
}

/// A request for a resource by a node.
struct Asked<'a> {
    node: &'a str,
    verb: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
    field_selector: Option<&'a str>,
}

impl Asked<'_> {
    /// Whether only what is on the node is asked for.
    fn selects_own(&self) -> bool {
        let selector = self.field_selector.and_then(|text| FieldSelector::parse(text).ok());
        selector.is_some_and(|selector| selector.exact("spec.nodeName") == Some(self.node))
    }
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

impl Authorizer for Node {
    fn authorize(&self, attributes: &Attributes<'_>, lookup: &Lookup) -> Decision {
        let Some(node) = identity(attributes.caller) else { return no("") };
        if node.is_empty() {
            return no(format!("unknown node for user {:?}", attributes.caller.name));
        }
        if let What::Resource { group, resource, subresource, namespace, name, field_selector, .. } = attributes.what {
            let asked = Asked { node, verb: attributes.verb, subresource, namespace, name, field_selector };
            match (group, resource) {
                ("", "secrets") => return self.read_one(&asked, Thing::Secret, lookup),
                ("", "configmaps") => return self.read_one(&asked, Thing::ConfigMap, lookup),
                ("", "persistentvolumeclaims") if subresource == "status" => {
                    return match asked.verb {
                        "update" | "patch" => self.related(&asked, Thing::Claim, lookup),
                        _ => no("can only get/update/patch this type"),
                    };
                }
                ("", "persistentvolumeclaims") => return self.get(&asked, Thing::Claim, lookup),
                ("", "persistentvolumes") => return self.get(&asked, Thing::Volume, lookup),
                ("", "serviceaccounts") if asked.verb != "get" || !subresource.is_empty() => {
                    return self.create_token(&asked, lookup);
                }
                ("", "serviceaccounts") => return self.get(&asked, Thing::ServiceAccount, lookup),
                ("", "nodes") => return own_node(&asked),
                ("", "pods") => return self.pod(&asked, lookup),
                ("coordination.k8s.io", "leases") => {
                    // A node's heartbeat keeps the graph near the present, and what it was compared with short-lived.
                    self.read(lookup, |_| ());
                    return lease(&asked);
                }
                ("storage.k8s.io", "csinodes") => return csi_node(&asked),
                ("storage.k8s.io", "volumeattachments") => return self.get(&asked, Thing::Attachment, lookup),
                ("resource.k8s.io", "resourceclaims") => return self.get(&asked, Thing::ResourceClaim, lookup),
                ("resource.k8s.io", "resourceslices") => return self.slice(&asked, lookup),
                ("certificates.k8s.io", "podcertificaterequests") => return self.pod_certificate(&asked, lookup),
                _ => {}
            }
        }
        if self.rules.iter().any(|own| rule::allows(own, attributes)) { yes() } else { no("") }
    }

    fn rules(&self, caller: &Caller, _namespace: &str, _lookup: &Lookup) -> Rules {
        if identity(caller).is_none() {
            return Rules::default();
        }
        let errors = vec!["node authorizer does not support user rule resolution".to_owned()];
        Rules { incomplete: true, errors, ..Rules::default() }
    }
}

impl Node {
    fn read<R>(&self, lookup: &Lookup, f: impl FnOnce(&Graph) -> R) -> R {
        let graph = self.graph.read();
        if graph.is_current(lookup) {
            return f(&graph);
        }
        drop(graph);
        let mut graph = self.graph.write();
        graph.advance(lookup);
        f(&RwLockWriteGuard::downgrade(graph))
    }

    fn related(&self, asked: &Asked<'_>, thing: Thing, lookup: &Lookup) -> Decision {
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        let related = self.read(lookup, |graph| graph.has(asked.node, thing, asked.namespace, asked.name, lookup));
        if related { yes() } else { no(format!("no relationship found between node '{}' and this object", asked.node)) }
    }

    fn get(&self, asked: &Asked<'_>, thing: Thing, lookup: &Lookup) -> Decision {
        if asked.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(asked, thing, lookup)
    }

    fn read_one(&self, asked: &Asked<'_>, thing: Thing, lookup: &Lookup) -> Decision {
        if !matches!(asked.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(asked, thing, lookup)
    }

    fn create_token(&self, asked: &Asked<'_>, lookup: &Lookup) -> Decision {
        if asked.verb != "create" || asked.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(asked, Thing::ServiceAccount, lookup)
    }

    fn slice(&self, asked: &Asked<'_>, lookup: &Lookup) -> Decision {
        match asked.verb {
            _ if !asked.subresource.is_empty() => no("cannot authorize ResourceSlice subresources"),
            // NodeRestriction sees to it that it is the node's own.
            "create" => yes(),
            "get" | "update" | "patch" | "delete" => self.related(asked, Thing::Slice, lookup),
            "list" | "watch" | "deletecollection" if asked.selects_own() => yes(),
            "list" | "watch" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, \
                     patch, delete, deletecollection"),
        }
    }

    fn pod_certificate(&self, asked: &Asked<'_>, lookup: &Lookup) -> Decision {
        match asked.verb {
            _ if !asked.subresource.is_empty() => no("cannot authorize PodCertificateRequest subresources"),
            // NodeRestriction sees to it that it is for a pod of the node.
            "create" => yes(),
            "get" => self.related(asked, Thing::PodCertificate, lookup),
            "list" | "watch" if asked.selects_own() => yes(),
            "list" | "watch" => no("can only list/watch podcertificaterequests with nodeName field selector"),
            _ => no("only the following verbs are allowed for a PodCertificateRequest: create, get, list, watch"),
        }
    }

    fn pod(&self, asked: &Asked<'_>, lookup: &Lookup) -> Decision {
        match (asked.subresource, asked.verb) {
            ("", "get") => self.get(asked, Thing::Pod, lookup),
            ("", "list" | "watch") => {
                if asked.selects_own() {
                    return yes();
                }
                if asked.name.is_empty() {
                    return no("can only list/watch pods with spec.nodeName field selector");
                }
                self.related(asked, Thing::Pod, lookup)
            }
            // NodeRestriction sees to it that these are the node's own.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => yes(),
            _ => no(""),
        }
    }
}

fn own_node(asked: &Asked<'_>) -> Decision {
    match (asked.subresource, asked.verb) {
        // NodeRestriction sees to it that these are the node's own.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
        ("", "get" | "list" | "watch") if asked.name == asked.node => yes(),
        ("", "get" | "list" | "watch") if asked.name.is_empty() => {
            no(format!("node '{}' cannot read all nodes, only its own Node object", asked.node))
        }
        ("", "get" | "list" | "watch") => {
            no(format!("node '{}' cannot read '{}', only its own Node object", asked.node, asked.name))
        }
        _ => no(""),
    }
}

fn lease(asked: &Asked<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != LEASES {
        return no(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    if asked.verb != "create" && asked.name != asked.node {
        return no("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn csi_node(asked: &Asked<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != asked.node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    yes()
}

#[cfg(test)]
mod tests;
