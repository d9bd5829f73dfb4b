//! Versions that are another spelling of the version that is stored: every hook is the stored version's, with objects
//! turned into its form and back. Where the two have the same fields, a version is one line.
//!
//! This module never looks at a kind's fields but through its conversion.

use api::meta::v1::DeleteOptions;
use api::table::ColumnDefinition;
use api::{FieldErrors, Kind, Object, Timestamp, Typed};
use serde_json::Value;

use crate::strategy::{AnyStrategy, Names, Scope, Storage, StoredAs, Subresource};

/// Rewrites an object's value tree; `apiVersion` is taken care of.
pub type Rewrite = fn(&mut Value);

/// One such version.
pub struct Spelling {
    pub kind: &'static Kind,
    /// The version that is stored.
    pub base: &'static dyn AnyStrategy,
    pub stored_as: &'static StoredAs,
    pub deprecated: Option<&'static str>,
}

/// The object as the other version has it. `rewrite` moves what lies elsewhere there.
pub fn respell<To: Typed>(object: &dyn Object, rewrite: Rewrite) -> Box<dyn Object> {
    let mut value = object.to_value();
    value["apiVersion"] = To::KIND.api_version.into();
    rewrite(&mut value);
    Box::new(To::from_value(value).expect("both versions have the same fields, once moved"))
}

/// Nothing lies elsewhere.
pub fn same(_: &mut Value) {}

/// A [`StoredAs`] between two types.
macro_rules! stored_as {
    ($served:ty, $stored:ty) => {
        $crate::spelling::stored_as!($served, $stored, $crate::spelling::same, $crate::spelling::same)
    };
    ($served:ty, $stored:ty, $to:expr, $from:expr) => {
        &$crate::StoredAs {
            kind: <$stored as api::Typed>::KIND,
            to_stored: |object| $crate::spelling::respell::<$stored>(object, $to),
            from_stored: |object| $crate::spelling::respell::<$served>(object, $from),
            stored_path: str::to_owned,
        }
    };
}

pub(crate) use stored_as;

impl Spelling {
    fn stored(&self, object: &dyn Object) -> Box<dyn Object> {
        (self.stored_as.to_stored)(object)
    }

    /// Runs a hook that changes the object.
    fn change(&self, object: &mut dyn Object, hook: impl FnOnce(&mut dyn Object)) {
        let mut stored = self.stored(object);
        hook(&mut *stored);
        object.assign((self.stored_as.from_stored)(&*stored));
    }
}

impl AnyStrategy for Spelling {
    fn kind(&self) -> &'static Kind {
        self.kind
    }
    fn names(&self) -> &Names {
        self.base.names()
    }
    fn scope(&self) -> Scope {
        self.base.scope()
    }
    fn storage(&self) -> Storage {
        self.base.storage()
    }
    fn subresources(&self) -> &'static [Subresource] {
        self.base.subresources()
    }
    fn verbs(&self) -> &'static [&'static str] {
        self.base.verbs()
    }
    fn create_on_update(&self) -> bool {
        self.base.create_on_update()
    }
    fn unconditional_update(&self) -> bool {
        self.base.unconditional_update()
    }
    fn orphans_dependents(&self) -> bool {
        self.base.orphans_dependents()
    }
    fn ttl_seconds(&self) -> Option<u64> {
        self.base.ttl_seconds()
    }
    fn deprecated(&self) -> Option<&'static str> {
        self.deprecated
    }
    fn stored_as(&self) -> Option<&'static StoredAs> {
        Some(self.stored_as)
    }
    fn default(&self, object: &mut dyn Object) {
        self.change(object, |object| self.base.default(object));
    }
    fn prepare_create(&self, object: &mut dyn Object) {
        self.change(object, |object| self.base.prepare_create(object));
    }
    fn prepare_update(&self, new: &mut dyn Object, old: &dyn Object) {
        self.change(new, |new| self.base.prepare_update(new, &*self.stored(old)));
    }
    fn prepare_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        self.change(new, |new| self.base.prepare_status_update(new, &*self.stored(old)));
    }
    fn validate(&self, object: &dyn Object) -> FieldErrors {
        self.base.validate(&*self.stored(object))
    }
    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        self.base.validate_update(&*self.stored(new), &*self.stored(old))
    }
    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        self.base.validate_status_update(&*self.stored(new), &*self.stored(old))
    }
    fn prepare_subresource_update(&self, subresource: Subresource, new: &mut dyn Object, old: &dyn Object) {
        self.change(new, |new| self.base.prepare_subresource_update(subresource, new, &*self.stored(old)));
    }
    fn validate_subresource_update(&self, subresource: Subresource, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        self.base.validate_subresource_update(subresource, &*self.stored(new), &*self.stored(old))
    }
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        self.base.validate_name(name, prefix)
    }
    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        self.base.warnings(&*self.stored(object))
    }
    fn delete_grace_seconds(&self, object: &dyn Object, options: &DeleteOptions) -> Option<i64> {
        self.base.delete_grace_seconds(&*self.stored(object), options)
    }
    fn columns(&self) -> Vec<ColumnDefinition> {
        self.base.columns()
    }
    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        self.base.cells(&*self.stored(object), now)
    }
    fn selectable_paths(&self) -> Vec<&str> {
        self.base.selectable_paths()
    }
    fn selectable_values(&self, object: &dyn Object) -> Vec<String> {
        self.base.selectable_values(&*self.stored(object))
    }
    fn scale(&self, object: &dyn Object) -> Option<api::autoscaling::v1::Scale> {
        self.base.scale(&*self.stored(object))
    }
    fn set_scale(&self, object: &mut dyn Object, replicas: i32) {
        self.change(object, |object| self.base.set_scale(object, replicas));
    }
}
