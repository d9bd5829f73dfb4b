//! How each message is written: its fields by their JSON names, with numbers and types. Made once from the schema, the
//! field numbers, and the few messages that no schema describes.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{Field as Row, NUMBERS};
use crate::schema::{self, Definition, Type};

/// How many messages may lie inlined in one another.
const PATH_LEN_MAX: usize = 3;

/// The numbers that lead to a field: those of the messages that JSON inlines, then its own; zeros after that.
pub(super) type Path = [u32; PATH_LEN_MAX];

/// What a value looks like on the wire.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Text,
    Bytes,
    Bool,
    Integer,
    Double,
    Quantity,
    Time {
        micro: bool,
    },
    IntOrString,
    /// JSON text in a message with one field.
    Raw,
    /// A boolean, or a message: field 1 or 2 (`JSONSchemaPropsOrBool`).
    OrBool(usize),
    /// A message, or a list of them (`JSONSchemaPropsOrArray`).
    OrArray(usize),
    /// A message, or a list of texts (`JSONSchemaPropsOrStringArray`).
    OrTexts(usize),
    Message(usize),
    List(Box<Shape>),
    Map(Box<Shape>),
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub path: Path,
    pub shape: Shape,
}

/// A message.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// Whether some fields lie in messages that JSON inlines.
    pub inlines: bool,
}

impl Message {
    pub fn field(&self, name: &[u8]) -> Option<&Field> {
        let at = self.fields.binary_search_by(|field| field.name.as_bytes().cmp(name)).ok()?;
        self.fields.get(at)
    }
}

/// All messages.
pub(super) struct Plan {
    messages: Vec<Message>,
    by_name: HashMap<&'static str, usize>,
}

impl Plan {
    pub fn find(&self, name: &str) -> Option<&Message> {
        self.by_name.get(name).and_then(|at| self.messages.get(*at))
    }

    pub fn at(&self, index: usize) -> Option<&Message> {
        self.messages.get(index)
    }
}

pub(super) static PLAN: LazyLock<Plan> = LazyLock::new(plan);

/// Messages that are no types of the published schema: name, then fields and types.
const OTHERS: &[(&str, &[(&str, &str)])] = &[
    (
        "io.k8s.api.apidiscovery.v2.APIGroupDiscoveryList",
        &[
            ("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
            ("items", "[]io.k8s.api.apidiscovery.v2.APIGroupDiscovery"),
        ],
    ),
    (
        "io.k8s.api.apidiscovery.v2.APIGroupDiscovery",
        &[
            ("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            ("versions", "[]io.k8s.api.apidiscovery.v2.APIVersionDiscovery"),
        ],
    ),
    (
        "io.k8s.api.apidiscovery.v2.APIVersionDiscovery",
        &[("version", ""), ("resources", "[]io.k8s.api.apidiscovery.v2.APIResourceDiscovery"), ("freshness", "")],
    ),
    (
        "io.k8s.api.apidiscovery.v2.APIResourceDiscovery",
        &[
            ("resource", ""),
            ("responseKind", "io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionKind"),
            ("scope", ""),
            ("singularResource", ""),
            ("verbs", "[]"),
            ("shortNames", "[]"),
            ("categories", "[]"),
            ("subresources", "[]io.k8s.api.apidiscovery.v2.APISubresourceDiscovery"),
        ],
    ),
    (
        "io.k8s.api.apidiscovery.v2.APISubresourceDiscovery",
        &[
            ("subresource", ""),
            ("responseKind", "io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionKind"),
            ("acceptedTypes", "[]io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionKind"),
            ("verbs", "[]"),
        ],
    ),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionKind", &[("group", ""), ("version", ""), ("kind", "")]),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
        &[("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")],
    ),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
        &[
            ("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
            ("items", "[]io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata"),
        ],
    ),
];

/// Where the JSON schemas of custom resources are, whose fields are values of several forms.
pub(super) const JSON_SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

fn plan() -> Plan {
    let described = schema::all().iter().filter(|one| one.is_struct()).map(|one| one.name);
    let names = described.filter(|name| NUMBERS.contains_key(name)).chain(OTHERS.iter().map(|(name, _)| *name));
    let by_name: HashMap<&'static str, usize> = names.enumerate().map(|(at, name)| (name, at)).collect();
    let mut messages: Vec<Message> = Vec::new();
    messages.resize_with(by_name.len(), Message::default);
    let builder = Builder { by_name: &by_name };
    for (name, at) in &by_name {
        let fields = match schema::definition(name) {
            Some(definition) => builder.described(definition),
            None => builder.other(name),
        };
        let inlines = fields.iter().any(|field| field.path[1] != 0);
        messages[*at] = Message { fields, inlines };
    }
    Plan { messages, by_name }
}

struct Builder<'a> {
    by_name: &'a HashMap<&'static str, usize>,
}

impl Builder<'_> {
    fn described(&self, definition: &'static Definition) -> Vec<Field> {
        let mut fields = Vec::new();
        self.collect(definition, definition.name, [0; PATH_LEN_MAX], 0, &mut fields);
        fields.sort_by(|a, b| a.name.cmp(b.name));
        fields
    }

    /// The fields of message `name`, whose members JSON has in an object of `definition`.
    fn collect(&self, definition: &'static Definition, name: &str, path: Path, depth: usize, out: &mut Vec<Field>) {
        let rows = NUMBERS.get(name).into_iter().flatten();
        for (number, row) in rows {
            let mut path = path;
            let Some(own) = path.get_mut(depth) else { continue };
            *own = *number;
            match row {
                Row::Inlined(inner) => self.collect(definition, inner, path, depth + 1, out),
                Row::Named(name) => {
                    let Some(property) = definition.property(name) else { continue };
                    if let Some(shape) = self.property(definition, name, &property.type_, property.reference) {
                        out.push(Field { name, path, shape });
                    }
                }
            }
        }
    }

    fn property(
        &self,
        definition: &Definition,
        name: &str,
        type_: &Type,
        reference: Option<&'static str>,
    ) -> Option<Shape> {
        if definition.name == JSON_SCHEMA {
            let own = *self.by_name.get(JSON_SCHEMA)?;
            match name {
                "additionalItems" | "additionalProperties" => return Some(Shape::OrBool(own)),
                "items" => return Some(Shape::OrArray(own)),
                "dependencies" => return Some(Shape::Map(Box::new(Shape::OrTexts(own)))),
                _ => {}
            }
        }
        self.shape(type_, reference)
    }

    fn shape(&self, type_: &Type, reference: Option<&'static str>) -> Option<Shape> {
        Some(match type_ {
            Type::String => Shape::Text,
            Type::Bytes => Shape::Bytes,
            Type::Boolean => Shape::Bool,
            Type::Int32 | Type::Int64 => Shape::Integer,
            Type::Double => Shape::Double,
            Type::Quantity => Shape::Quantity,
            Type::Time => Shape::Time { micro: reference.is_some_and(|name| name.ends_with("MicroTime")) },
            Type::IntOrString => Shape::IntOrString,
            Type::Object | Type::Any => Shape::Raw,
            Type::List(item) => Shape::List(Box::new(self.shape(item, None)?)),
            Type::Map(item) => Shape::Map(Box::new(self.shape(item, None)?)),
            Type::Struct(_) => Shape::Message(*self.by_name.get(type_.definition()?.name)?),
        })
    }

    fn other(&self, name: &str) -> Vec<Field> {
        let Some((_, own)) = OTHERS.iter().find(|(other, _)| *other == name) else { return Vec::new() };
        let numbers = NUMBERS.get(name);
        let number = |field: &str| {
            let is = |row: &Row| matches!(row, Row::Named(name) if *name == field);
            numbers?.iter().find(|(_, row)| is(row)).map(|(number, _)| *number)
        };
        let of = |text: &str| match text {
            "" => Some(Shape::Text),
            name => self.by_name.get(name).map(|at| Shape::Message(*at)),
        };
        let field = |(name, type_): &(&'static str, &'static str)| {
            let shape = match type_.strip_prefix("[]") {
                Some(item) => Shape::List(Box::new(of(item)?)),
                None => of(type_)?,
            };
            Some(Field { name, path: [number(name)?, 0, 0], shape })
        };
        let mut fields: Vec<Field> = own.iter().filter_map(field).collect();
        fields.sort_by(|a, b| a.name.cmp(b.name));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_message() {
        for kind in crate::kinds::ALL {
            let message = PLAN.find(kind.definition);
            assert!(message.is_some_and(|message| message.field(b"metadata").is_some()), "{kind:?}");
        }
        for (name, fields) in OTHERS {
            let message = PLAN.find(name).unwrap();
            assert_eq!(message.fields.len(), fields.len(), "{name}");
        }
    }

    #[test]
    fn numbers_are_told_apart() {
        for (name, at) in &PLAN.by_name {
            let message = &PLAN.messages[*at];
            let mut paths: Vec<Path> = message.fields.iter().map(|field| field.path).collect();
            paths.sort_unstable();
            paths.dedup();
            assert_eq!(paths.len(), message.fields.len(), "{name}");
            assert!(message.fields.iter().all(|field| field.path[0] > 0), "{name}");
        }
    }
}
