//! Finalizers that keep an object while it is used: what the controllers for claims and volumes share.
//!
//! Upstream: pkg/controller/volume/protectionutil.

use api::Object;

/// What is to be done about an object's finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is going, and the finalizer keeps it: to be taken away once nobody uses it.
    Removal,
    /// It was made without the finalizer.
    Addition,
}

/// What is due; `None`: nothing.
pub fn due(object: &dyn Object, finalizer: &str) -> Option<Due> {
    let has = object.metadata().finalizers.iter().flatten().any(|own| own == finalizer);
    match (object.is_terminating(), has) {
        (true, true) => Some(Due::Removal),
        (false, false) => Some(Due::Addition),
        _ => None,
    }
}

impl Due {
    /// The object with that done.
    pub fn done<T: Object>(self, mut object: T, finalizer: &str) -> T {
        let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
        match self {
            Self::Removal => finalizers.retain(|own| own != finalizer),
            Self::Addition => finalizers.push(finalizer.to_owned()),
        }
        object
    }
}
