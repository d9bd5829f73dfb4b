//! A request to the API and its answer, apart from any transport. HTTP decodes into these; components in the same
//! process hand them over as they are.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::meta::v1::DeleteOptions;
use crate::object::{Kind, Object};
use crate::status::Status;

/// What is asked for, in the words of authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The verb as RBAC rules and audit events spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// Which resource, and which object of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// `""` is the core group.
    pub group: Cow<'static, str>,
    /// For example `v1`.
    pub version: Cow<'static, str>,
    /// The plural name.
    pub resource: Cow<'static, str>,
    /// For example `status`.
    pub subresource: Option<Cow<'static, str>>,
    /// `None`: cluster-scoped, or all namespaces.
    pub namespace: Option<String>,
    /// `None` for collections.
    pub name: Option<String>,
}

impl Target {
    /// All objects of a kind, in all namespaces.
    pub fn kind(kind: &'static Kind) -> Self {
        Self {
            group: Cow::Borrowed(kind.group),
            version: Cow::Borrowed(kind.version),
            resource: Cow::Borrowed(kind.plural),
            ..Self::default()
        }
    }

    /// Narrowed to a namespace; `""` means cluster-scoped.
    pub fn namespaced(mut self, namespace: &str) -> Self {
        self.namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        self
    }

    /// Narrowed to one object.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// A subresource of it.
    pub fn subresource(mut self, subresource: &'static str) -> Self {
        self.subresource = Some(Cow::Borrowed(subresource));
        self
    }
}

/// How strictly unknown and repeated fields of a body are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// The query parameters of a request. Absent is `None` or `false`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub resource_version: Option<String>,
    /// `NotOlderThan` or `Exact`.
    pub resource_version_match: Option<String>,
    pub limit: Option<u64>,
    pub continue_token: Option<String>,
    pub timeout_seconds: Option<u64>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
    /// Server-side apply takes over fields of others.
    pub force: bool,
    /// Says of a reader in the server's process that it looks at each object once, so that typed forms need not be
    /// kept for it. Not part of the API.
    pub passing: bool,
    /// Says of a reader that it takes objects in their lean form if their kind has one ([`crate::lean`]), and that
    /// typed forms are worth keeping for it. Not part of the API.
    pub lean: bool,
    /// Only the metadata is wanted, of objects of this kind: they come as [`crate::Custom`] without fields of their own
    /// (over HTTPS asked for as `PartialObjectMetadata`).
    pub metadata_of: Option<&'static Kind>,
}

/// The format of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902, `application/json-patch+json`.
    Json,
    /// RFC 7386, `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// Server-side apply, `application/apply-patch+yaml`.
    Apply,
}

/// What a request carries.
#[derive(Debug, Clone, Default)]
pub enum Body {
    #[default]
    None,
    /// An object of the same process.
    Object(Arc<dyn Object>),
    /// JSON text (YAML is turned into JSON at the transport).
    Json(Bytes),
    /// YAML text.
    Yaml(Bytes),
    /// A patch in its own text.
    Patch(PatchKind, Bytes),
    /// Options of delete and deletecollection.
    Delete(Box<DeleteOptions>),
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    pub verb: Verb,
    pub target: Target,
    pub options: Options,
    pub body: Body,
}

impl Call {
    /// A request without options and body.
    pub fn new(verb: Verb, target: Target) -> Self {
        Self { verb, target, options: Options::default(), body: Body::None }
    }
}

/// A list of objects of one kind.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// The revision at which the list is exact.
    pub resource_version: String,
    /// Not empty: more is to be had with it.
    pub continue_token: String,
    pub remaining_item_count: Option<u64>,
    pub items: Vec<Arc<dyn Object>>,
}

/// The answer to one request.
#[derive(Debug, Clone)]
pub enum Reply {
    Object(Arc<dyn Object>),
    List(List),
    /// A success without an object (delete of an object that is gone at once).
    Status(Box<Status>),
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    Added(Arc<dyn Object>),
    Modified(Arc<dyn Object>),
    Deleted(Arc<dyn Object>),
    /// Everything up to this revision was sent. `initial_events_end` marks the end of a streamed initial list.
    Bookmark {
        resource_version: String,
        initial_events_end: bool,
    },
    /// The watch ends; 410 means list anew.
    Error(Box<Status>),
}
