//! The texts of types and fields. They are large, so they are made when asked for and not kept.

use serde_json::{Map, Value};

use crate::meta::v1;
use crate::object::{Codec, Kind};
use crate::schemars::SchemaGenerator;

/// The descriptions of some kinds and of all types they are made of.
#[derive(Debug, Default)]
pub struct Descriptions(Map<String, Value>);

impl Descriptions {
    /// Of these kinds, and of the types every API group shares (`Status`, `DeleteOptions`, `ListMeta`).
    pub fn of(kinds: &[&Kind]) -> Self {
        let mut generator = SchemaGenerator::default();
        generator.subschema_for::<v1::Status>();
        generator.subschema_for::<v1::DeleteOptions>();
        generator.subschema_for::<v1::APIResourceList>();
        for kind in kinds {
            if let Codec::BuiltIn { describe, .. } = kind.codec {
                describe(&mut generator);
            }
        }
        Self(generator.take_definitions(false))
    }

    /// What a type is.
    pub fn definition(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.get("description")?.as_str()
    }

    /// What a field of a type is.
    pub fn property(&self, definition: &str, property: &str) -> Option<&str> {
        self.0.get(definition)?.get("properties")?.get(property)?.get("description")?.as_str()
    }
}
