//! Which resources are served, each with its cache. Built from the strategies once at start.

use std::collections::HashMap;
use std::sync::Arc;

use api::{Kind, Object, Status};
use resources::{AnyStrategy, Scope, Storage, Subresource};

use crate::cache::{Cache, Caches, Entry, Transform};
use crate::convert::{self, Convert};

/// One resource in one version.
pub struct Resource {
    pub strategy: &'static dyn AnyStrategy,
    /// `None`: nothing is kept (reviews).
    pub cache: Option<Arc<Cache>>,
    /// Set if what is stored is another version or group's form.
    pub convert: Option<&'static Convert>,
}

impl Resource {
    pub fn kind(&self) -> &'static Kind {
        self.strategy.kind()
    }

    pub fn group(&self) -> &'static str {
        self.strategy.kind().group
    }

    pub fn plural(&self) -> &'static str {
        self.strategy.names().plural
    }

    pub fn namespaced(&self) -> bool {
        self.strategy.scope() == Scope::Namespaced
    }

    pub fn has(&self, subresource: Subresource) -> bool {
        self.strategy.subresources().contains(&subresource)
    }

    /// The cache of a resource that is kept.
    ///
    /// # Errors
    /// 405 for one that is not.
    pub fn cache(&self, verb: &str) -> Result<&Arc<Cache>, Status> {
        self.cache.as_ref().ok_or_else(|| Status::method_not_allowed(self.group(), self.plural(), verb))
    }

    /// An entry's object in this version.
    ///
    /// # Errors
    /// 500 if it cannot be decoded.
    pub fn object(&self, entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        let object = entry.object()?;
        Ok(match self.convert {
            None => object,
            Some(convert) => Arc::from((convert.from_stored)(&*object)),
        })
    }

    /// As [`Resource::object`], whole, to change.
    ///
    /// # Errors
    /// As [`Resource::object`].
    pub fn object_to_change(&self, entry: &Entry) -> Result<Box<dyn Object>, Status> {
        let object = entry.object_to_change()?;
        Ok(match self.convert {
            None => object,
            Some(convert) => (convert.from_stored)(&*object),
        })
    }

    /// As [`Resource::object`], without keeping what was decoded.
    ///
    /// # Errors
    /// As [`Resource::object`].
    pub fn object_to_look_at(&self, entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        let object = entry.object_to_look_at()?;
        Ok(match self.convert {
            None => object,
            Some(convert) => Arc::from((convert.from_stored)(&*object)),
        })
    }

    /// Appends an entry's JSON as an item of a list.
    pub fn write_item(&self, entry: &Entry, out: &mut Vec<u8>) {
        match self.convert {
            None => entry.write_item(out),
            Some(_) => self.write(entry, out),
        }
    }

    /// Appends an entry's JSON in this version.
    pub fn write(&self, entry: &Entry, out: &mut Vec<u8>) {
        match self.convert {
            None => entry.write(out),
            Some(_) => match self.object_to_change(entry) {
                Ok(object) => out.extend_from_slice(&object.encode()),
                Err(error) => {
                    tracing::error!(key = %entry.key, %error, "an object cannot be converted");
                    entry.write(out);
                }
            },
        }
    }

    /// 404 for an object of this resource.
    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(self.group(), self.plural(), name)
    }
}

/// All resources served.
#[derive(Default)]
pub struct Catalog {
    by_plural: HashMap<&'static str, Vec<Arc<Resource>>>,
    all: Vec<Arc<Resource>>,
}

impl Catalog {
    /// Makes a cache for each storage segment. `transforms` names the segments whose bytes are not plain JSON.
    pub fn new(
        strategies: &[&'static dyn AnyStrategy],
        caches: &Caches,
        transforms: &[(String, Arc<dyn Transform>)],
    ) -> Self {
        let mut catalog = Self::default();
        let stored_as = |strategy: &dyn AnyStrategy| convert::find(strategy.kind());
        // The strategy of a segment's cache is the one whose kind is stored: those come first.
        type Strategies = Vec<&'static dyn AnyStrategy>;
        let (plain, converted): (Strategies, Strategies) =
            strategies.iter().copied().partition(|strategy| stored_as(*strategy).is_none());
        for strategy in plain.into_iter().chain(converted) {
            let cache = match strategy.storage() {
                Storage::Stored { segment } => {
                    let transform = transforms.iter().find(|(own, _)| own == segment).map(|(_, t)| t.clone());
                    Some(caches.add(segment, strategy, transform))
                }
                Storage::Virtual => None,
            };
            let resource = Arc::new(Resource { strategy, cache, convert: stored_as(strategy) });
            catalog.by_plural.entry(strategy.names().plural).or_default().push(resource.clone());
            catalog.all.push(resource);
        }
        catalog
    }

    /// The resource at `group`/`version`/`plural`.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_plural.get(plural)?.iter().find(|r| r.kind().group == group && r.kind().version == version)
    }

    /// The resource of a built-in kind.
    pub fn of_kind(&self, kind: &Kind) -> Option<&Arc<Resource>> {
        self.find(kind.group, kind.version, kind.plural)
    }

    /// The resource in whichever version is served.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_plural.get(plural)?.iter().find(|r| r.kind().group == group)
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Resource>] {
        &self.all
    }
}
