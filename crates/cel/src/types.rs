//! The types of CEL as Kubernetes sees them, with the bounds a schema gives (for worst-case costs).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How many elements (characters, bytes, items, entries) a value may have at most; `None`: nobody says.
///
/// It takes no part in comparing types.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size(pub Option<u64>);

impl Size {
    pub const UNKNOWN: Size = Size(None);

    pub const fn at_most(max: u64) -> Self {
        Size(Some(max))
    }
}

impl PartialEq for Size {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String(Size),
    Bytes(Size),
    Duration,
    Timestamp,
    /// Anything; checked when evaluated. Bounded where a schema says so (int-or-string).
    Dyn(Size),
    List(Arc<ListType>),
    Map(Arc<MapType>),
    Object(Arc<ObjectType>),
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    Opaque(Opaque),
    /// A type that is still to be found out; only within declarations and while checking.
    Param(u32),
    /// What could not be checked; suppresses errors that follow from the first.
    Error,
}

/// Types that Kubernetes' libraries bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opaque {
    Quantity,
    Ip,
    Cidr,
    Url,
    Semver,
    Format,
    Authorizer,
    PathCheck,
    GroupCheck,
    ResourceCheck,
    Decision,
}

impl Opaque {
    pub const ALL: &[Opaque] = &[
        Opaque::Quantity,
        Opaque::Ip,
        Opaque::Cidr,
        Opaque::Url,
        Opaque::Semver,
        Opaque::Format,
        Opaque::Authorizer,
        Opaque::PathCheck,
        Opaque::GroupCheck,
        Opaque::ResourceCheck,
        Opaque::Decision,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Opaque::Quantity => "kubernetes.Quantity",
            Opaque::Ip => "net.IP",
            Opaque::Cidr => "net.CIDR",
            Opaque::Url => "kubernetes.URL",
            Opaque::Semver => "kubernetes.Semver",
            Opaque::Format => "kubernetes.NamedFormat",
            Opaque::Authorizer => "kubernetes.authorization.Authorizer",
            Opaque::PathCheck => "kubernetes.authorization.PathCheck",
            Opaque::GroupCheck => "kubernetes.authorization.GroupCheck",
            Opaque::ResourceCheck => "kubernetes.authorization.ResourceCheck",
            Opaque::Decision => "kubernetes.authorization.Decision",
        }
    }
}

/// How items of a list belong together (`x-kubernetes-list-type`): it decides equality and `+`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    /// By the values of these fields.
    Map(Vec<String>),
}

#[derive(Debug, Clone)]
pub struct ListType {
    pub elem: Type,
    pub max_items: Size,
    pub kind: ListKind,
}

impl PartialEq for ListType {
    fn eq(&self, other: &Self) -> bool {
        self.elem == other.elem
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct MapType {
    pub key: Type,
    pub value: Type,
    pub max_properties: Size,
}

/// An object with known fields. Two are the same type when their names are.
#[derive(Debug, Clone)]
pub struct ObjectType {
    pub name: String,
    /// By the name an expression uses, which is the escaped one (see [`crate::escape`]).
    pub fields: BTreeMap<String, Field>,
    /// Any field may be set and read, each of type dyn.
    pub open: bool,
}

impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

#[derive(Debug, Clone)]
pub struct Field {
    /// The name in JSON.
    pub json: String,
    pub ty: Type,
}

impl ObjectType {
    /// A type of these fields, given by their JSON names; those whose names cannot be escaped are left out.
    pub fn new(name: impl Into<String>, fields: impl IntoIterator<Item = (String, Type)>) -> Self {
        let fields = fields
            .into_iter()
            .filter_map(|(json, ty)| Some((crate::escape::escape(&json)?, Field { json, ty })))
            .collect();
        ObjectType { name: name.into(), fields, open: false }
    }

    /// The same with names as they are, also those that CEL reserves (`request.namespace`): for types that Kubernetes
    /// declares by hand, not from a schema.
    pub fn plain(name: impl Into<String>, fields: impl IntoIterator<Item = (String, Type)>) -> Self {
        let fields = fields.into_iter().map(|(json, ty)| (json.clone(), Field { json, ty })).collect();
        ObjectType { name: name.into(), fields, open: false }
    }
}

impl Type {
    pub const STRING: Type = Type::String(Size::UNKNOWN);
    pub const BYTES: Type = Type::Bytes(Size::UNKNOWN);
    pub const DYN: Type = Type::Dyn(Size::UNKNOWN);

    pub fn list(elem: Type) -> Self {
        Self::list_of(elem, Size::UNKNOWN, ListKind::Atomic)
    }

    pub fn list_of(elem: Type, max_items: Size, kind: ListKind) -> Self {
        Type::List(Arc::new(ListType { elem, max_items, kind }))
    }

    pub fn map(key: Type, value: Type) -> Self {
        Self::map_of(key, value, Size::UNKNOWN)
    }

    pub fn map_of(key: Type, value: Type, max_properties: Size) -> Self {
        Type::Map(Arc::new(MapType { key, value, max_properties }))
    }

    pub fn object(object: ObjectType) -> Self {
        Type::Object(Arc::new(object))
    }

    pub fn optional(inner: Type) -> Self {
        Type::Optional(Arc::new(inner))
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn(_) | Type::Error)
    }

    /// The type of what a list or map holds.
    pub fn elem(&self) -> Option<&Type> {
        match self {
            Type::List(list) => Some(&list.elem),
            Type::Map(map) => Some(&map.value),
            _ => None,
        }
    }

    /// The type of the field with this JSON name.
    pub fn json_field(&self, name: &str) -> Option<&Type> {
        match self {
            Type::Map(map) => Some(&map.value),
            Type::Object(object) => match object.fields.get(name).filter(|field| field.json == name) {
                Some(field) => Some(&field.ty),
                None => crate::escape::escape(name).and_then(|name| object.fields.get(&name)).map(|field| &field.ty),
            },
            _ => None,
        }
    }

    /// The name `type()` shows, without parameters.
    pub fn runtime_name(&self) -> &str {
        match self {
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String(_) => "string",
            Type::Bytes(_) => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Dyn(_) | Type::Param(_) => "dyn",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Object(object) => &object.name,
            Type::Optional(_) => "optional_type",
            Type::Type(_) => "type",
            Type::Opaque(opaque) => opaque.name(),
            Type::Error => "error",
        }
    }
}

/// As messages of the type checker write them.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Null => f.write_str("null"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::List(list) => write!(f, "list({})", list.elem),
            Type::Map(map) => write!(f, "map({}, {})", map.key, map.value),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Type(inner) => write!(f, "type({inner})"),
            Type::Error => f.write_str("!error!"),
            other => f.write_str(other.runtime_name()),
        }
    }
}
