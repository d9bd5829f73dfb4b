//! Typed verbs over a transport.

use std::sync::Arc;

use api::call::PatchKind;
use api::meta::v1::DeleteOptions;
use api::{Body, Call, Kind, Object, Options, Reply, Target, Typed, Verb, WatchEvent, downcast_arc};
use bytes::Bytes;
use serde_json::Value;

use crate::{BoxStream, Error, Transport};

/// A handle on the API, cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    field_manager: Option<Arc<str>>,
}

/// What to list or watch.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// `None`: all namespaces.
    pub namespace: Option<String>,
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// `Some("0")`: any cached state will do.
    pub resource_version: Option<String>,
    /// The reader follows the whole collection: it is worth keeping typed objects for it. Lean types
    /// ([`api::lean`]) are kept anyway, whole objects of their kinds never.
    pub follows: bool,
}

/// A list and the revision at which it is exact.
#[derive(Debug)]
pub struct Listed<T> {
    pub items: Vec<Arc<T>>,
    pub resource_version: String,
}

/// Whether typed objects are to be kept for a reader: a whole one of a kind that has a lean form is not.
fn kept<T: Typed>(options: &ListOptions) -> bool {
    T::LEAN || (options.follows && api::lean::form(T::KIND).is_none())
}

/// Items asked for per page of a list.
const PAGE_LEN: u64 = 500;

impl Client {
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, field_manager: None }
    }

    /// The same client, writing under that name in `managedFields`.
    pub fn with_field_manager(&self, name: &str) -> Self {
        Self { transport: self.transport.clone(), field_manager: Some(name.into()) }
    }

    /// Any call, untyped.
    pub async fn call(&self, mut call: Call) -> Result<Reply, Error> {
        if call.options.field_manager.is_none() {
            call.options.field_manager = self.field_manager.as_deref().map(str::to_owned);
        }
        self.transport.call(call).await
    }

    async fn object<T: Typed>(&self, call: Call) -> Result<Arc<T>, Error> {
        match self.call(call).await? {
            Reply::Object(object) => {
                let kind = object.kind();
                downcast_arc(object)
                    .ok_or_else(|| Error::Malformed(format!("expected {}, got {}", T::KIND.kind, kind.kind)))
            }
            Reply::List(_) => Err(Error::Malformed("expected an object, got a list".into())),
            Reply::Status(status) => Err(Error::Status(*status)),
        }
    }

    /// One object; `namespace` is `""` for cluster-scoped kinds.
    pub async fn get<T: Typed>(&self, namespace: &str, name: &str) -> Result<Arc<T>, Error> {
        let mut call = Call::new(Verb::Get, Target::kind(T::KIND).namespaced(namespace).named(name));
        call.options.lean = T::LEAN;
        self.object(call).await
    }

    /// One object, `None` if it does not exist.
    pub async fn find<T: Typed>(&self, namespace: &str, name: &str) -> Result<Option<Arc<T>>, Error> {
        match self.get(namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects that match, page after page, at one revision.
    pub async fn list<T: Typed>(&self, options: &ListOptions) -> Result<Listed<T>, Error> {
        let mut items = Vec::new();
        let mut continue_token = None;
        loop {
            let mut call = Call::new(Verb::List, Target::kind(T::KIND));
            call.target.namespace = options.namespace.clone();
            call.options = Options {
                label_selector: options.label_selector.clone(),
                field_selector: options.field_selector.clone(),
                limit: Some(PAGE_LEN),
                resource_version: if continue_token.is_none() { options.resource_version.clone() } else { None },
                continue_token: continue_token.take(),
                lean: kept::<T>(options),
                ..Options::default()
            };
            let Reply::List(list) = self.call(call).await? else {
                return Err(Error::Malformed("expected a list".into()));
            };
            for item in list.items {
                items.push(downcast_arc(item).ok_or_else(|| Error::Malformed("a list item of another kind".into()))?);
            }
            if list.continue_token.is_empty() {
                return Ok(Listed { items, resource_version: list.resource_version });
            }
            continue_token = Some(list.continue_token);
        }
    }

    /// A watch from after `resource_version`, with bookmarks.
    pub async fn watch<T: Typed>(
        &self,
        options: &ListOptions,
        resource_version: &str,
    ) -> Result<BoxStream<WatchEvent>, Error> {
        let mut call = Call::new(Verb::Watch, Target::kind(T::KIND));
        call.target.namespace = options.namespace.clone();
        call.options = Options {
            label_selector: options.label_selector.clone(),
            field_selector: options.field_selector.clone(),
            resource_version: Some(resource_version.to_owned()),
            allow_watch_bookmarks: true,
            lean: kept::<T>(options),
            ..Options::default()
        };
        self.transport.watch(call).await
    }

    /// Creates `object` in its own `metadata.namespace`.
    pub async fn create<T: Typed>(&self, object: T) -> Result<Arc<T>, Error> {
        const { assert!(!T::LEAN, "a lean form is not written") };
        let mut call = Call::new(Verb::Create, Target::kind(T::KIND).namespaced(object.namespace()));
        call.body = Body::Object(Arc::new(object));
        self.object(call).await
    }

    /// Creates through a subresource: `binding`, `eviction`, `token`. `T` is the object it belongs to.
    pub async fn create_subresource<T: Typed, B: Typed>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &'static str,
        body: B,
    ) -> Result<Reply, Error> {
        const { assert!(!B::LEAN, "a lean form is not written") };
        let target = Target::kind(T::KIND).namespaced(namespace).named(name).subresource(subresource);
        let mut call = Call::new(Verb::Create, target);
        call.body = Body::Object(Arc::new(body));
        self.call(call).await
    }

    async fn put<T: Typed>(&self, object: T, subresource: Option<&'static str>) -> Result<Arc<T>, Error> {
        const { assert!(!T::LEAN, "a lean form is not written") };
        let mut target = Target::kind(T::KIND).namespaced(object.namespace()).named(object.name());
        if let Some(subresource) = subresource {
            target = target.subresource(subresource);
        }
        let mut call = Call::new(Verb::Update, target);
        call.body = Body::Object(Arc::new(object));
        self.object(call).await
    }

    /// Replaces the object; its `resourceVersion`, if set, must be current.
    pub async fn update<T: Typed>(&self, object: T) -> Result<Arc<T>, Error> {
        self.put(object, None).await
    }

    /// Replaces the object's status.
    pub async fn update_status<T: Typed>(&self, object: T) -> Result<Arc<T>, Error> {
        self.put(object, Some("status")).await
    }

    /// Patches an object or one of its subresources.
    pub async fn patch<T: Typed>(
        &self,
        namespace: &str,
        name: &str,
        subresource: Option<&'static str>,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<Arc<T>, Error> {
        const { assert!(!T::LEAN, "what was written comes back whole") };
        let mut target = Target::kind(T::KIND).namespaced(namespace).named(name);
        if let Some(subresource) = subresource {
            target = target.subresource(subresource);
        }
        let mut call = Call::new(Verb::Patch, target);
        call.body = Body::Patch(kind, Bytes::from(patch.to_string()));
        self.object(call).await
    }

    /// Deletes one object. Gone already is an error (404), see [`Error::is_not_found`].
    pub async fn delete<T: Typed>(&self, namespace: &str, name: &str, options: DeleteOptions) -> Result<(), Error> {
        let mut call = Call::new(Verb::Delete, Target::kind(T::KIND).namespaced(namespace).named(name));
        call.body = Body::Delete(Box::new(options));
        self.call(call).await.map(drop)
    }

    /// Deletes all objects of a kind in a namespace.
    pub async fn delete_collection<T: Typed>(&self, namespace: &str, options: DeleteOptions) -> Result<(), Error> {
        let mut call = Call::new(Verb::DeleteCollection, Target::kind(T::KIND).namespaced(namespace));
        call.body = Body::Delete(Box::new(options));
        self.call(call).await.map(drop)
    }

    /// Creates an object of a kind known only at run time.
    pub async fn create_dyn(&self, object: Arc<dyn Object>) -> Result<Arc<dyn Object>, Error> {
        let target = Target::kind(object.kind()).namespaced(object.namespace());
        self.write_dyn(Verb::Create, target, object).await
    }

    /// Replaces an object (or its subresource) of a kind known only at run time.
    pub async fn update_dyn(
        &self,
        object: Arc<dyn Object>,
        subresource: Option<&'static str>,
    ) -> Result<Arc<dyn Object>, Error> {
        let mut target = Target::kind(object.kind()).namespaced(object.namespace()).named(object.name());
        if let Some(subresource) = subresource {
            target = target.subresource(subresource);
        }
        self.write_dyn(Verb::Update, target, object).await
    }

    async fn write_dyn(&self, verb: Verb, target: Target, object: Arc<dyn Object>) -> Result<Arc<dyn Object>, Error> {
        if api::lean::is(&*object) {
            return Err(Error::Malformed("a lean form is not written: much of the object would be lost".into()));
        }
        let mut call = Call::new(verb, target);
        call.body = Body::Object(object);
        match self.call(call).await? {
            Reply::Object(object) => Ok(object),
            Reply::Status(status) => Err(Error::Status(*status)),
            Reply::List(_) => Err(Error::Malformed("expected an object, got a list".into())),
        }
    }

    /// Any object by its kind, for callers that know the kind only at run time (garbage collection).
    pub async fn get_dyn(&self, target: Target) -> Result<Arc<dyn Object>, Error> {
        match self.call(Call::new(Verb::Get, target)).await? {
            Reply::Object(object) => Ok(object),
            Reply::Status(status) => Err(Error::Status(*status)),
            Reply::List(_) => Err(Error::Malformed("expected an object, got a list".into())),
        }
    }

    /// The metadata of an object of any kind; `None` if it does not exist.
    ///
    /// # Errors
    /// Whatever else goes wrong.
    pub async fn find_metadata(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<dyn Object>>, Error> {
        let mut call = Call::new(Verb::Get, Target::kind(kind).namespaced(namespace).named(name));
        call.options.metadata_of = Some(kind);
        match self.call(call).await {
            Ok(Reply::Object(object)) => Ok(Some(object)),
            Ok(Reply::Status(status)) => Err(Error::Status(*status)),
            Ok(Reply::List(_)) => Err(Error::Malformed("expected an object, got a list".into())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A document that describes the API; see [`Transport::document`].
    pub async fn document(&self, path: &'static str, accept: &'static str) -> Result<Bytes, Error> {
        self.transport.document(path, accept).await
    }

    /// A watch of any kind, untyped.
    pub async fn watch_dyn(&self, call: Call) -> Result<BoxStream<WatchEvent>, Error> {
        self.transport.watch(call).await
    }
}
