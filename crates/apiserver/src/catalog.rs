//! Which resources are served, each with its cache. Built from the strategies once at start.

use std::collections::HashMap;
use std::sync::Arc;

use api::{Kind, Object, Status};
use arc_swap::ArcSwap;
use imbl::OrdMap;
use resources::{AnyStrategy, Scope, Shared, Storage, StoredAs, Subresource};

use crate::cache::{Cache, Caches, Entry};
use crate::custom;

/// One resource in one version.
pub struct Resource {
    pub strategy: Shared,
    /// `None`: nothing is kept (reviews).
    pub cache: Option<Arc<Cache>>,
    /// Set if what is stored is another version or group's form.
    pub convert: Option<&'static StoredAs>,
    /// Set if it is defined at run time.
    pub(crate) custom: Option<Arc<custom::Version>>,
}

impl Resource {
    pub fn kind(&self) -> &'static Kind {
        self.strategy.kind()
    }

    pub fn group(&self) -> &'static str {
        self.strategy.kind().group
    }

    pub fn plural(&self) -> &'static str {
        self.strategy.kind().plural
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

    /// As [`Resource::object`], in the lean form that its followers share.
    ///
    /// # Errors
    /// As [`Resource::object`].
    pub fn lean_object(&self, entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        let object = entry.lean_object()?;
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

    /// An entry's metadata, of an object of this version.
    ///
    /// # Errors
    /// As [`Resource::object`].
    pub fn metadata_only(&self, entry: &Entry) -> Result<Arc<dyn Object>, Status> {
        entry.metadata_only(self.kind())
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

    /// What whoever uses this version is told, if it is about to go.
    pub fn deprecation(&self) -> Option<String> {
        let built_in = self.strategy.deprecated().map(str::to_owned);
        built_in.or_else(|| self.custom.as_ref().and_then(|version| version.deprecation.clone()))
    }

    /// 404 for an object of this resource.
    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(self.group(), self.plural(), name)
    }
}

/// All resources served: those built in, and those defined at run time.
#[derive(Default)]
pub struct Catalog {
    by_plural: HashMap<&'static str, Vec<Arc<Resource>>>,
    all: Vec<Arc<Resource>>,
    custom: ArcSwap<OrdMap<Served, Arc<Resource>>>,
    /// The resources that share a cache, by its address: what is stored is served as each of them.
    sharing: ArcSwap<OrdMap<usize, Arc<[Arc<Resource>]>>>,
}

fn served(kind: &'static Kind) -> Served {
    (kind.plural, kind.group, kind.version)
}

/// Where a resource's objects are kept, as a key.
fn place(resource: &Resource) -> Option<usize> {
    resource.cache.as_ref().map(|cache| Arc::as_ptr(cache).addr())
}

/// Plural, group, version.
type Served = (&'static str, &'static str, &'static str);

impl Catalog {
    /// Makes a cache for each storage segment.
    pub fn new(strategies: &[&'static dyn AnyStrategy], caches: &Caches) -> Self {
        let mut catalog = Self::default();
        // The strategy of a segment's cache is the one whose kind is stored: those come first.
        type Strategies = Vec<&'static dyn AnyStrategy>;
        let (plain, converted): (Strategies, Strategies) =
            strategies.iter().copied().partition(|strategy| strategy.stored_as().is_none());
        for strategy in plain.into_iter().chain(converted) {
            let cache = match strategy.storage() {
                Storage::Stored { segment } => Some(caches.add(segment, Shared::BuiltIn(strategy))),
                Storage::Virtual => None,
            };
            let convert = strategy.stored_as();
            let resource = Arc::new(Resource { strategy: Shared::BuiltIn(strategy), cache, convert, custom: None });
            catalog.by_plural.entry(strategy.kind().plural).or_default().push(resource.clone());
            catalog.all.push(resource);
        }
        let mut sharing: HashMap<usize, Vec<Arc<Resource>>> = HashMap::new();
        for resource in &catalog.all {
            if let Some(place) = place(resource) {
                sharing.entry(place).or_default().push(resource.clone());
            }
        }
        let sharing = sharing.into_iter().filter(|(_, all)| all.len() > 1);
        let sharing: OrdMap<usize, Arc<[Arc<Resource>]>> =
            sharing.map(|(place, all)| (place, Arc::from(all))).collect();
        catalog.sharing.store(Arc::new(sharing));
        catalog
    }

    fn built_in(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_plural.get(plural)?.iter().find(|r| r.kind().group == group && r.kind().version == version)
    }

    /// The resource at `group`/`version`/`plural`.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let found = self.built_in(group, version, plural).cloned();
        found.or_else(|| self.custom.load().get(&(plural, group, version)).cloned())
    }

    /// The resource of a built-in kind.
    pub fn of_kind(&self, kind: &Kind) -> Option<&Arc<Resource>> {
        self.built_in(kind.group, kind.version, kind.plural)
    }

    /// The resource in whichever version is served.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        let found = self.by_plural.get(plural).and_then(|all| all.iter().find(|r| r.kind().group == group)).cloned();
        found.or_else(|| {
            let custom = self.custom.load();
            let custom: &OrdMap<(&str, &str, &str), Arc<Resource>> = &custom;
            let (key, resource) = custom.range((plural, group, "")..).next()?;
            ((key.0, key.1) == (plural, group)).then(|| resource.clone())
        })
    }

    /// The other versions and groups in which a resource's objects are served.
    pub fn equivalents(&self, resource: &Resource) -> Vec<Arc<Resource>> {
        let sharing = self.sharing.load();
        let all = place(resource).and_then(|place| sharing.get(&place)).map(|all| &**all).unwrap_or_default();
        all.iter().filter(|other| other.kind() != resource.kind()).cloned().collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.all.iter().chain(self.custom.load().values()).cloned().collect()
    }

    /// The resources defined at run time.
    pub(crate) fn custom(&self) -> Arc<OrdMap<Served, Arc<Resource>>> {
        self.custom.load_full()
    }

    /// Serves these versions of `plural`.`group` from now on, and no others. Only one task calls this.
    pub(crate) fn serve_custom(&self, group: &str, plural: &str, resources: Vec<Arc<Resource>>) {
        let mut custom = OrdMap::clone(&self.custom.load());
        let mut sharing = OrdMap::clone(&self.sharing.load());
        let gone: Vec<(Served, Option<usize>)> = {
            // The keys live for ever, what is asked for does not.
            let custom: &OrdMap<(&str, &str, &str), Arc<Resource>> = &custom;
            let old = custom.range((plural, group, "")..).take_while(|(key, _)| (key.0, key.1) == (plural, group));
            old.map(|(_, resource)| (served(resource.kind()), place(resource))).collect()
        };
        for (key, place) in gone {
            custom.remove(&key);
            place.and_then(|place| sharing.remove(&place));
        }
        if let Some(place) = resources.first().and_then(|first| place(first)) {
            sharing.insert(place, resources.iter().cloned().collect());
        }
        for resource in resources {
            custom.insert(served(resource.kind()), resource);
        }
        self.custom.store(Arc::new(custom));
        self.sharing.store(Arc::new(sharing));
    }
}
