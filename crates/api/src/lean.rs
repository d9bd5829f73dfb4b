//! The lean forms of objects: what they keep who follow *all* objects of a kind, decide by them, and never write them
//! back. A lean form is a type of its own, so that what it leaves out cannot be taken for something unset, nor be
//! written back.

mod pod;
mod resource_list;

use crate::object::Decoded;
use crate::{Kind, Object, Typed};

pub use pod::{Container, ContainerStatus, Pod, PodSpec, PodStatus, ResourceRequirements};
pub use resource_list::ResourceList;

/// How objects of a kind become lean.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// From the JSON of a whole one.
    pub decode: fn(&[u8]) -> Decoded,
    /// From a whole one; what is lean already stays as it is.
    pub of: fn(Box<dyn Object>) -> Box<dyn Object>,
}

/// Whether an object is in a lean form.
pub fn is(object: &dyn Object) -> bool {
    object.as_any().is::<Pod>()
}

/// The lean form of a kind; `None` if its objects are kept whole.
pub fn form(kind: &Kind) -> Option<&'static Form> {
    (kind == Pod::KIND).then_some(&pod::FORM)
}
