//! What a resource says of itself: typed hooks inside, one erased vtable outside, so that the generic registry is
//! compiled once and not once per kind.
//!
//! The registry calls the hooks in one order, for every resource alike: `default`, mutating admission, `prepare_*`,
//! `validate*`, validating admission, store.

use std::ops::Deref;
use std::sync::Arc;

use api::codec::DecodeError;
use api::meta::v1::DeleteOptions;
use api::table::ColumnDefinition;
use api::{FieldErrors, Kind, Object, Timestamp, Typed};
use serde_json::Value;

use crate::column::Column;

/// Whether objects live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// The names a resource is known by.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// As in URLs and RBAC rules.
    pub plural: &'static str,
    pub singular: &'static str,
    pub short: &'static [&'static str],
    /// Groups of resources `kubectl get` knows, such as `all`.
    pub categories: &'static [&'static str],
}

impl Names {
    pub const fn new(plural: &'static str, singular: &'static str) -> Self {
        Self { plural, singular, short: &[], categories: &[] }
    }

    pub const fn short(mut self, short: &'static [&'static str]) -> Self {
        self.short = short;
        self
    }

    pub const fn categories(mut self, categories: &'static [&'static str]) -> Self {
        self.categories = categories;
        self
    }
}

/// What is served below an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subresource {
    Status,
    Scale,
    /// Pod: bind to a node.
    Binding,
    /// Pod: delete, unless a disruption budget forbids.
    Eviction,
    Log,
    Exec,
    Attach,
    PortForward,
    /// Pod, Service, Node: HTTP through the API server.
    Proxy,
    /// Pod: add ephemeral containers.
    EphemeralContainers,
    /// Pod: change container resources.
    Resize,
    /// ServiceAccount: a TokenRequest.
    Token,
    /// CertificateSigningRequest: approve or deny.
    Approval,
    /// Namespace: remove finalizers.
    Finalize,
}

impl Subresource {
    /// Its path segment.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Token => "token",
            Self::Approval => "approval",
            Self::Finalize => "finalize",
        }
    }
}

/// How objects of the resource are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Under `/registry/<segment>/...`, upstream's own layout (`pods`, `services/specs`, `minions`, `leases`).
    Stored { segment: &'static str },
    /// Created, answered and forgotten (reviews).
    Virtual,
}

/// Which write is under way, for hooks that care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
}

/// A field that field selectors may name, beyond `metadata.name` and `metadata.namespace`.
pub struct Selectable<T: 'static> {
    pub path: &'static str,
    pub value: fn(&T) -> String,
}

/// A scale subresource: where the replica count and the selector are.
pub struct Scale<T: 'static> {
    pub spec_replicas: fn(&T) -> i32,
    pub status_replicas: fn(&T) -> i32,
    /// The label selector in its text form.
    pub selector: fn(&T) -> String,
    pub set_replicas: fn(&mut T, i32),
}

/// A resource that is stored as another kind, under the other's keys (events of `events.k8s.io` as core events).
pub struct StoredAs {
    /// What is stored.
    pub kind: &'static Kind,
    /// From the served kind; panics if handed another.
    pub to_stored: fn(&dyn Object) -> Box<dyn Object>,
    /// To the served kind; panics if handed another.
    pub from_stored: fn(&dyn Object) -> Box<dyn Object>,
    /// A path of a field selector in the stored form.
    pub stored_path: fn(&str) -> String,
}

impl PartialEq for StoredAs {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// One resource. Every hook has a default that does nothing; a file overrides what it needs.
pub trait Strategy: Send + Sync + 'static {
    type Object: Typed;

    const NAMES: Names;
    const SCOPE: Scope;
    const STORAGE: Storage;
    const SUBRESOURCES: &'static [Subresource] = &[];
    const COLUMNS: &'static [Column<Self::Object>];
    const SELECTABLE: &'static [Selectable<Self::Object>] = &[];
    const SCALE: Option<&'static Scale<Self::Object>> = None;
    /// Verbs other than those every stored resource has; empty means all (virtual resources: `create`).
    const VERBS: &'static [&'static str] = &[];
    /// Whether an update of a missing object creates it (Lease, Node, Event, Endpoints ...).
    const CREATE_ON_UPDATE: bool = false;
    /// Whether an update without resourceVersion overwrites whatever is there.
    const UNCONDITIONAL_UPDATE: bool = true;
    /// Whether a delete that does not say what is to become of dependents leaves them behind, with a warning.
    const ORPHANS_DEPENDENTS: bool = false;
    /// Set if what is stored is of another kind than what is served.
    const STORED_AS: Option<&'static StoredAs> = None;
    /// What whoever uses this version is told with every answer, if it is about to go.
    const DEPRECATED: Option<&'static str> = None;
    /// Seconds after which an untouched object expires (Events: 3600).
    const TTL_SECONDS: Option<u64> = None;

    /// Fills absent fields. Never fails, never overwrites. Runs on every write, and is idempotent.
    fn default(_object: &mut Self::Object) {}
    /// Clears what clients may not set (status), sets `generation` 1.
    fn prepare_create(_object: &mut Self::Object) {}
    /// Keeps what this endpoint may not change (status), bumps `generation` when the spec changed.
    fn prepare_update(_new: &mut Self::Object, _old: &Self::Object) {}
    /// The same for `/status`: keeps everything but the status.
    fn prepare_status_update(_new: &mut Self::Object, _old: &Self::Object) {}
    /// All problems of a new object beyond its metadata (which the registry checks for every kind, except that the
    /// rule for names is [`Strategy::validate_name`]).
    fn validate(_object: &Self::Object) -> FieldErrors {
        FieldErrors::new()
    }
    /// All problems of an update, those of [`Strategy::validate`] included.
    fn validate_update(new: &Self::Object, _old: &Self::Object) -> FieldErrors {
        Self::validate(new)
    }
    /// All problems of an update of `/status`.
    fn validate_status_update(_new: &Self::Object, _old: &Self::Object) -> FieldErrors {
        FieldErrors::new()
    }
    /// The same as [`Strategy::prepare_status_update`] for any writable subresource, `/status` among them.
    fn prepare_subresource_update(_subresource: Subresource, new: &mut Self::Object, old: &Self::Object) {
        Self::prepare_status_update(new, old);
    }
    /// The same as [`Strategy::validate_status_update`] for any writable subresource, `/status` among them.
    fn validate_subresource_update(_subresource: Subresource, new: &Self::Object, old: &Self::Object) -> FieldErrors {
        Self::validate_status_update(new, old)
    }
    /// The rule of names: `None` if good, else why not. `prefix`: it is a `generateName`.
    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        api::name::dns1123_subdomain(name, prefix)
    }
    /// Warnings of a create or update, sent as `Warning` headers.
    fn warnings(_object: &Self::Object) -> Vec<String> {
        Vec::new()
    }
    /// The grace period of a delete in seconds; `None`: deleted at once. `options.grace_period_seconds` is the
    /// client's wish.
    fn delete_grace_seconds(_object: &Self::Object, _options: &DeleteOptions) -> Option<i64> {
        None
    }
}

/// An object from stored bytes, and the bytes that are to be kept instead, if any.
pub type StoredObject = (Box<dyn Object>, Option<Vec<u8>>);

/// A [`Strategy`] behind one vtable. Hooks panic if handed an object of another kind: the registry never does.
pub trait AnyStrategy: Send + Sync {
    fn kind(&self) -> &'static Kind;
    fn names(&self) -> &Names;
    fn scope(&self) -> Scope;
    fn storage(&self) -> Storage;
    fn subresources(&self) -> &'static [Subresource];
    fn verbs(&self) -> &'static [&'static str];
    fn create_on_update(&self) -> bool;
    fn unconditional_update(&self) -> bool;
    /// Whether a delete that does not say what is to become of dependents leaves them behind, with a warning.
    fn orphans_dependents(&self) -> bool {
        false
    }
    fn ttl_seconds(&self) -> Option<u64>;
    /// What whoever uses this version is told with every answer, if it is about to go.
    fn deprecated(&self) -> Option<&'static str> {
        None
    }
    /// How objects are turned into the kind that is stored, and back; `None`: they are stored as they are.
    fn stored_as(&self) -> Option<&'static StoredAs>;
    fn default(&self, object: &mut dyn Object);
    fn prepare_create(&self, object: &mut dyn Object);
    fn prepare_update(&self, new: &mut dyn Object, old: &dyn Object);
    fn prepare_status_update(&self, new: &mut dyn Object, old: &dyn Object);
    fn validate(&self, object: &dyn Object) -> FieldErrors;
    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors;
    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors;
    /// As `prepare_status_update`, for any writable subresource (`status`, `ephemeralcontainers`, `resize`,
    /// `finalize`).
    fn prepare_subresource_update(&self, subresource: Subresource, new: &mut dyn Object, old: &dyn Object);
    /// As `validate_status_update`, for any writable subresource.
    fn validate_subresource_update(&self, subresource: Subresource, new: &dyn Object, old: &dyn Object) -> FieldErrors;
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String>;
    fn warnings(&self, object: &dyn Object) -> Vec<String>;
    fn delete_grace_seconds(&self, object: &dyn Object, options: &DeleteOptions) -> Option<i64>;
    fn columns(&self) -> Vec<ColumnDefinition>;
    /// The cells of one table row, in the columns' order.
    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value>;
    /// An object of the stored kind from stored bytes, and what is to be kept instead of these, if they are not as they
    /// would be written today.
    ///
    /// # Errors
    /// If they are no object of that kind.
    fn decode_stored(&self, bytes: &[u8]) -> Result<StoredObject, DecodeError> {
        Ok((self.kind().decode(bytes)?, None))
    }
    /// The paths field selectors may name, beyond `metadata.name` and `metadata.namespace`.
    fn selectable_paths(&self) -> Vec<&str>;
    /// Their values for one object, in the paths' order.
    fn selectable_values(&self, object: &dyn Object) -> Vec<String>;
    /// The object's scale; `None` if the resource has none.
    fn scale(&self, object: &dyn Object) -> Option<api::autoscaling::v1::Scale>;
    /// Writes a replica count into the object.
    fn set_scale(&self, object: &mut dyn Object, replicas: i32);
}

/// A strategy as the registry holds it: of the catalogue, or made at run time.
#[derive(Clone)]
pub enum Shared {
    BuiltIn(&'static dyn AnyStrategy),
    Made(Arc<dyn AnyStrategy>),
}

impl Deref for Shared {
    type Target = dyn AnyStrategy;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::BuiltIn(strategy) => *strategy,
            Self::Made(strategy) => &**strategy,
        }
    }
}

/// Turns a [`Strategy`] into an [`AnyStrategy`]: `&Erased(deployment::Strategy)` is a line of `ALL`.
pub struct Erased<S>(pub S);

fn typed<S: Strategy>(object: &dyn Object) -> &S::Object {
    object.as_any().downcast_ref().expect("the registry hands a strategy objects of its own kind")
}

fn typed_mut<S: Strategy>(object: &mut dyn Object) -> &mut S::Object {
    object.as_any_mut().downcast_mut().expect("the registry hands a strategy objects of its own kind")
}

impl<S: Strategy> AnyStrategy for Erased<S> {
    fn kind(&self) -> &'static Kind {
        S::Object::KIND
    }
    fn names(&self) -> &Names {
        const { &S::NAMES }
    }
    fn scope(&self) -> Scope {
        S::SCOPE
    }
    fn storage(&self) -> Storage {
        S::STORAGE
    }
    fn subresources(&self) -> &'static [Subresource] {
        S::SUBRESOURCES
    }
    fn verbs(&self) -> &'static [&'static str] {
        match (S::VERBS, S::STORAGE) {
            ([], Storage::Virtual) => &["create"],
            ([], Storage::Stored { .. }) => {
                &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
            }
            (verbs, _) => verbs,
        }
    }
    fn create_on_update(&self) -> bool {
        S::CREATE_ON_UPDATE
    }
    fn unconditional_update(&self) -> bool {
        S::UNCONDITIONAL_UPDATE
    }
    fn orphans_dependents(&self) -> bool {
        S::ORPHANS_DEPENDENTS
    }
    fn ttl_seconds(&self) -> Option<u64> {
        S::TTL_SECONDS
    }
    fn deprecated(&self) -> Option<&'static str> {
        S::DEPRECATED
    }
    fn stored_as(&self) -> Option<&'static StoredAs> {
        S::STORED_AS
    }
    fn default(&self, object: &mut dyn Object) {
        S::default(typed_mut::<S>(object));
    }
    fn prepare_create(&self, object: &mut dyn Object) {
        S::prepare_create(typed_mut::<S>(object));
    }
    fn prepare_update(&self, new: &mut dyn Object, old: &dyn Object) {
        S::prepare_update(typed_mut::<S>(new), typed::<S>(old));
    }
    fn prepare_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        S::prepare_status_update(typed_mut::<S>(new), typed::<S>(old));
    }
    fn validate(&self, object: &dyn Object) -> FieldErrors {
        S::validate(typed::<S>(object))
    }
    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        S::validate_update(typed::<S>(new), typed::<S>(old))
    }
    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        S::validate_status_update(typed::<S>(new), typed::<S>(old))
    }
    fn prepare_subresource_update(&self, subresource: Subresource, new: &mut dyn Object, old: &dyn Object) {
        S::prepare_subresource_update(subresource, typed_mut::<S>(new), typed::<S>(old));
    }
    fn validate_subresource_update(&self, subresource: Subresource, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        S::validate_subresource_update(subresource, typed::<S>(new), typed::<S>(old))
    }
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        S::validate_name(name, prefix)
    }
    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        S::warnings(typed::<S>(object))
    }
    fn delete_grace_seconds(&self, object: &dyn Object, options: &DeleteOptions) -> Option<i64> {
        S::delete_grace_seconds(typed::<S>(object), options)
    }
    fn columns(&self) -> Vec<ColumnDefinition> {
        S::COLUMNS.iter().map(Column::definition).collect()
    }
    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        let object = typed::<S>(object);
        S::COLUMNS.iter().map(|column| (column.cell)(object, now)).collect()
    }
    fn selectable_paths(&self) -> Vec<&str> {
        S::SELECTABLE.iter().map(|field| field.path).collect()
    }
    fn selectable_values(&self, object: &dyn Object) -> Vec<String> {
        let object = typed::<S>(object);
        S::SELECTABLE.iter().map(|field| (field.value)(object)).collect()
    }
    fn scale(&self, object: &dyn Object) -> Option<api::autoscaling::v1::Scale> {
        let scale = S::SCALE?;
        let object = typed::<S>(object);
        let metadata = object.metadata();
        Some(api::autoscaling::v1::Scale {
            metadata: api::meta::v1::ObjectMeta {
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                uid: metadata.uid.clone(),
                resource_version: metadata.resource_version.clone(),
                creation_timestamp: metadata.creation_timestamp.clone(),
                ..Default::default()
            },
            spec: Some(api::autoscaling::v1::ScaleSpec { replicas: Some((scale.spec_replicas)(object)) }),
            status: Some(api::autoscaling::v1::ScaleStatus {
                replicas: (scale.status_replicas)(object),
                selector: Some((scale.selector)(object)),
            }),
        })
    }
    fn set_scale(&self, object: &mut dyn Object, replicas: i32) {
        if let Some(scale) = S::SCALE {
            (scale.set_replicas)(typed_mut::<S>(object), replicas);
        }
    }
}
