//! An object as the machinery sees it: a kind, its metadata, and bytes when asked.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::codec::DecodeError;
use crate::meta::v1::ObjectMeta;

/// An object read from its encoding, or why it could not be read.
pub type Decoded = Result<Box<dyn Object>, DecodeError>;

/// The identity of a type, built in or defined at run time ([`Kind::custom`]): group, version, kind and resource
/// (plural) name.
#[derive(Debug)]
pub struct Kind {
    /// `""` is the core group.
    pub group: &'static str,
    /// For example `v1`.
    pub version: &'static str,
    /// For example `Deployment`.
    pub kind: &'static str,
    /// `v1`, `apps/v1`.
    pub api_version: &'static str,
    /// The resource's plural name as in its URL, `deployments`; empty for kinds that are only bodies (`Eviction`).
    pub plural: &'static str,
    /// The schema definition's name, `io.k8s.api.apps.v1.Deployment`.
    pub definition: &'static str,
    pub(crate) codec: Codec,
}

/// How objects of a kind are read.
#[derive(Debug)]
pub(crate) enum Codec {
    /// By a type of ours.
    BuiltIn {
        decode: fn(&[u8]) -> Decoded,
        from_value: fn(serde_json::Value) -> Decoded,
        /// Adds the type's schema, with its texts, to a generator.
        describe: fn(&mut crate::schemars::SchemaGenerator),
    },
    /// As [`crate::Custom`].
    Custom,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.api_version == other.api_version && self.kind == other.kind
    }
}

/// Any object. Objects read from a cache are shared as `Arc<dyn Object>` and never changed; clone to change one.
pub trait Object: Any + Send + Sync + fmt::Debug {
    /// Which type this is.
    fn kind(&self) -> &'static Kind;
    /// The object's metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// The object's metadata, to change.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// A copy.
    fn boxed_clone(&self) -> Box<dyn Object>;
    /// JSON, with `apiVersion`, `kind` and `metadata` first.
    fn encode(&self) -> Vec<u8>;
    /// The same as a value tree.
    fn to_value(&self) -> serde_json::Value;
    /// For downcasting; see [`downcast`].
    fn as_any(&self) -> &dyn Any;
    /// For downcasting to change.
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// For downcasting a shared object; see [`downcast_arc`].
    fn into_any_arc(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// For downcasting an owned object.
    fn into_any_box(self: Box<Self>) -> Box<dyn Any>;
    /// Becomes the other, which is of the same type; panics if it is not.
    fn assign(&mut self, other: Box<dyn Object>);

    /// `metadata.name`, or `""`.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`, or `""` for cluster-scoped objects.
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`, or `""`.
    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// `metadata.resourceVersion`, or `""`.
    fn resource_version(&self) -> &str {
        self.metadata().resource_version.as_deref().unwrap_or_default()
    }

    /// `namespace/name`, or `name` for cluster-scoped objects: the key of work queues and caches.
    fn key(&self) -> String {
        match self.namespace() {
            "" => self.name().to_owned(),
            namespace => format!("{namespace}/{}", self.name()),
        }
    }

    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str> {
        self.metadata().labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The value of an annotation.
    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether deletion was asked for.
    fn is_terminating(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
}

/// A concrete kind. Implemented in [`crate::kinds`] for every registered type.
pub trait Typed: Object + Clone + Default + Sized {
    /// The type's identity.
    const KIND: &'static Kind;
    /// Whether this is the kind's lean form ([`crate::lean`]), which is read and never written.
    const LEAN: bool = false;

    /// From JSON; unknown fields are dropped.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
    /// From a value tree; unknown fields are dropped.
    fn from_value(value: serde_json::Value) -> Result<Self, DecodeError>;
}

/// The object as `T`, if it is one.
pub fn downcast<T: Typed>(object: &dyn Object) -> Option<&T> {
    object.as_any().downcast_ref()
}

/// The shared object as `T`, if it is one.
pub fn downcast_arc<T: Typed>(object: Arc<dyn Object>) -> Option<Arc<T>> {
    object.into_any_arc().downcast().ok()
}

impl Clone for Box<dyn Object> {
    fn clone(&self) -> Self {
        self.boxed_clone()
    }
}
