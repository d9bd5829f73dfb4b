//! Owner references: who controls an object.

use crate::meta::v1::OwnerReference;
use crate::object::Object;

/// The owner reference with `controller: true`, of which an object has at most one.
pub fn controller_of(object: &dyn Object) -> Option<&OwnerReference> {
    object.metadata().owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// Whether the controller of `object` is the object with that uid.
pub fn is_controlled_by(object: &dyn Object, uid: &str) -> bool {
    controller_of(object).is_some_and(|owner| owner.uid == uid)
}

/// The reference that makes `owner` the controller of what carries it. It blocks the owner's foreground deletion, as
/// upstream's `metav1.NewControllerRef`.
pub fn controller_reference(owner: &dyn Object) -> OwnerReference {
    OwnerReference {
        api_version: owner.kind().api_version.to_owned(),
        kind: owner.kind().kind.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
