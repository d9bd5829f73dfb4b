//! What has become of an owner, as one of its dependents names it.
//!
//! An owner is looked for where the reference says: the same group, kind and name, in the dependent's own namespace or
//! at cluster scope. An object of that uid elsewhere is not the owner.

use std::sync::Arc;

use api::meta::v1::OwnerReference;
use client::{Error, discovery::Resource};

use super::graph::Node;
use super::{FOREGROUND, Shared};

/// An owner's state.
pub(super) enum Owner {
    /// It exists, and keeps its dependents.
    Solid,
    /// It does not exist, or another object has its name.
    Absent,
    /// It is being deleted and waits for its dependents to go first.
    Waiting,
    /// Its kind is not served: whether it exists cannot be said.
    Unknown,
    /// It would have to be in a namespace, and the dependent is in none.
    OutOfReach,
}

pub(super) async fn state(shared: &Shared, owner: &OwnerReference, dependent: &Node) -> Result<Owner, Error> {
    {
        let graph = shared.graph.lock();
        if let Some(node) = graph.get(&owner.uid).filter(|node| node.is_named_by(owner, &dependent.namespace)) {
            return Ok(if node.terminating && node.foreground { Owner::Waiting } else { Owner::Solid });
        }
        if graph.is_absent(owner, &dependent.namespace) {
            return Ok(Owner::Absent);
        }
    }
    let Some(resource) = resource_of(shared, owner) else {
        tracing::debug!(kind = owner.kind, api_version = owner.api_version, "an owner of a kind that is not served");
        return Ok(Owner::Unknown);
    };
    if resource.namespaced && dependent.namespace.is_empty() {
        tracing::debug!(
            name = dependent.name,
            owner = owner.name,
            "a cluster-scoped object refers to a namespaced owner"
        );
        return Ok(Owner::OutOfReach);
    }
    let namespace = if resource.namespaced { dependent.namespace.as_str() } else { "" };
    let found = shared.client.find_metadata(resource.kind, namespace, &owner.name).await?;
    let Some(object) = found.filter(|object| object.uid() == owner.uid) else {
        shared.graph.lock().note_absent(owner, &dependent.namespace);
        return Ok(Owner::Absent);
    };
    let waits = object.metadata().finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
    Ok(if object.is_terminating() && waits { Owner::Waiting } else { Owner::Solid })
}

fn resource_of(shared: &Shared, owner: &OwnerReference) -> Option<Resource> {
    let known: Arc<_> = shared.served.known()?;
    known.of_kind(&owner.api_version, &owner.kind).filter(|resource| resource.can(&["get"])).cloned()
}
