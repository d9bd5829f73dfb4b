//! Structural schemas of custom resources: pruning, defaulting, validation, OpenAPI, and the validation
//! of CustomResourceDefinitions themselves.
//!
//! Pure: never does I/O, never reads a clock.

mod default;
pub mod definition;
mod format;
pub mod json_path;
mod metadata;
mod node;
mod openapi;
mod prune;
mod rules;
mod shape;
mod validate;

use api::FieldErrors;
use api::apiextensions::v1::JSONSchemaProps;
use api::field::Path;
use serde_json::Value;

use node::Node;

/// A compiled schema. Immutable; shared behind an `Arc`.
#[derive(Debug)]
pub struct Schema {
    root: Node,
    /// The schema's JSON text, from which OpenAPI is made when somebody asks.
    source: Box<[u8]>,
}

impl Schema {
    /// Compiles a schema; errors name what no compiled form can say. Whether it is structural is asked of
    /// [`definition::structural`].
    pub fn compile(props: &JSONSchemaProps) -> Result<Self, FieldErrors> {
        let mut errors = FieldErrors::new();
        let mut root = Node::compile(props, &Path::default(), &mut errors);
        rules::attach(&mut root, props, true);
        if !errors.is_empty() {
            return Err(errors);
        }
        let source = serde_json::to_vec(props).expect("string keys and finite numbers always encode");
        Ok(Self { root, source: source.into_boxed_slice() })
    }

    /// Removes fields that the schema does not know; their paths, sorted. `apiVersion`, `kind` and the fields of
    /// `metadata` always stay.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(object, &self.root)
    }

    /// Fills in defaults, and removes nulls where null is no value. Idempotent.
    pub fn default(&self, object: &mut Value) {
        default::default(object, &self.root);
        default::prune_nulls(object, &self.root);
    }

    /// All problems of a new object.
    pub fn validate(&self, object: &Value) -> FieldErrors {
        validate::validate(object, None, &self.root)
    }

    /// All problems of a change. What is as it was is not found fault with again.
    pub fn validate_update(&self, new: &Value, old: &Value) -> FieldErrors {
        validate::validate(new, Some(old), &self.root)
    }

    /// The schema as OpenAPI v3 serves it.
    pub fn openapi_v3(&self) -> Value {
        openapi::v3(self.source())
    }

    /// The schema as OpenAPI v2 serves it, without what v2 cannot say.
    pub fn openapi_v2(&self) -> Value {
        openapi::v2(self.source())
    }

    /// What expressions take an object to be, with metadata of that type; `None` if its fields are not known.
    pub fn declared_type(&self, name: &str, metadata: cel::Type) -> Option<cel::Type> {
        rules::declared_type(&self.root, name, metadata)
    }

    /// What of an object has owners of its own.
    pub fn shape(&self) -> api::managed::Shape {
        shape::root(&self.root)
    }

    fn source(&self) -> Value {
        serde_json::from_slice(&self.source).expect("encoded by compile")
    }
}

#[cfg(test)]
mod tests;
