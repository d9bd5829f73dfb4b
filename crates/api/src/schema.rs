//! The schema of every built-in type: fields, types, and how lists and maps merge.
//!
//! The facts are a checked-in table made from Kubernetes' published OpenAPI of v1.37 (names and types only; texts come
//! from the generated types). It is parsed on first use, once.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::object::Kind;

mod check;
mod descriptions;
mod normalize;
mod table;

pub use check::{Checked, check, strict_message};
pub use descriptions::Descriptions;
pub use normalize::{normalize, normalize_applied};

/// What a value may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    String,
    /// Base64 text.
    Bytes,
    /// RFC 3339 text.
    Time,
    Boolean,
    Int32,
    Int64,
    Double,
    Quantity,
    IntOrString,
    /// A JSON object of any form (`RawExtension`, `FieldsV1`).
    Object,
    /// Any JSON value.
    Any,
    List(Box<Type>),
    Map(Box<Type>),
    /// An object with known fields; see [`Type::definition`].
    Struct(DefinitionId),
}

/// The place of a definition in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefinitionId(usize);

impl Type {
    /// The definition of a struct.
    pub fn definition(&self) -> Option<&'static Definition> {
        match self {
            Self::Struct(DefinitionId(index)) => TABLE.definitions.get(*index),
            _ => None,
        }
    }
}

/// How the items of a list are told apart (`x-kubernetes-list-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// One field of a definition.
#[derive(Debug, Clone)]
pub struct Property {
    pub name: &'static str,
    pub type_: Type,
    /// The definition's name if the value is one that is not a struct (`...resource.Quantity`), or is one.
    pub reference: Option<&'static str>,
    pub required: bool,
    /// Optional, but written although it is empty: upstream's field has no `omitempty`.
    pub kept: bool,
    /// `None`: not said, which means atomic.
    pub list_type: Option<ListType>,
    /// For [`ListType::Map`].
    pub list_map_keys: Vec<&'static str>,
    /// Maps and structs that are replaced as a whole (`x-kubernetes-map-type: atomic`).
    pub map_atomic: bool,
    /// `merge`, `retainKeys`, `replace`, comma-separated; `""` if not said.
    pub patch_strategy: &'static str,
    /// The key by which a strategic merge patch tells items apart; `""` if there is none.
    pub patch_merge_key: &'static str,
}

/// One type of the API.
#[derive(Debug, Clone)]
pub struct Definition {
    /// For example `io.k8s.api.apps.v1.Deployment`.
    pub name: &'static str,
    /// [`Type::Struct`] of itself for structs; what it is otherwise for the few others (`Quantity`, `Time`).
    pub type_: Type,
    /// The whole struct is replaced, never merged.
    pub map_atomic: bool,
    /// Group, version and kind of top-level types.
    pub kinds: Vec<(&'static str, &'static str, &'static str)>,
    /// Sorted by name.
    pub properties: Vec<Property>,
}

impl Definition {
    /// A field by its name.
    pub fn property(&self, name: &str) -> Option<&Property> {
        let index = self.properties.binary_search_by(|property| property.name.cmp(name)).ok()?;
        self.properties.get(index)
    }

    /// The type's short name, `Deployment`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// Whether it is an object with known fields.
    pub fn is_struct(&self) -> bool {
        matches!(self.type_, Type::Struct(_))
    }
}

struct Table {
    definitions: Vec<Definition>,
    by_name: HashMap<&'static str, usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let definitions = table::parse(include_str!("schema/v1.37.tsv"));
    let by_name = definitions.iter().enumerate().map(|(index, definition)| (definition.name, index)).collect();
    Table { definitions, by_name }
});

/// The definition of that name, for example `io.k8s.api.apps.v1.Deployment`.
pub fn definition(name: &str) -> Option<&'static Definition> {
    TABLE.by_name.get(name).and_then(|index| TABLE.definitions.get(*index))
}

/// The definition of a built-in kind.
pub fn of_kind(kind: &Kind) -> Option<&'static Definition> {
    definition(kind.definition)
}

/// Every definition, sorted by name.
pub fn all() -> &'static [Definition] {
    &TABLE.definitions
}

#[cfg(test)]
mod tests;
