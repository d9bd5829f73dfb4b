//! Values of an evaluation. What came as JSON stays where it is and is looked at when it is asked for.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::quantity::Amount;
use base64::Engine;
use serde_json::Value as Json;

use crate::library::authorizer::{Authorizer, Check, Decision};
use crate::library::cidr::Cidr;
use crate::library::format::Named;
use crate::library::semver::Version;
use crate::library::url::Url;
use crate::types::{ListKind, Opaque, Type};

/// A text that is borrowed from an input, or shared.
#[derive(Debug, Clone)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Text<'_> {
    pub fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

#[derive(Debug, Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    /// In nanoseconds.
    Duration(i64),
    Timestamp(jiff::Timestamp),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Arc<str>),
    Opaque(Arc<Thing>),
}

#[derive(Debug, Clone)]
pub enum List<'a> {
    Json(&'a [Json], Option<&'a Type>),
    Items(Arc<Vec<Value<'a>>>),
}

#[derive(Debug, Clone)]
pub enum Map<'a> {
    Json(&'a serde_json::Map<String, Json>, Option<&'a Type>),
    Entries(Arc<Entries<'a>>),
}

/// Values of the libraries' own types.
#[derive(Debug)]
pub enum Thing {
    Quantity(Amount),
    Ip(IpAddr),
    Cidr(Cidr),
    Url(Url),
    Semver(Version),
    Format(&'static Named),
    Authorizer(Arc<dyn Authorizer>),
    Check(Check),
    Decision(Decision),
}

impl Thing {
    pub fn opaque(&self) -> Opaque {
        match self {
            Thing::Quantity(_) => Opaque::Quantity,
            Thing::Ip(_) => Opaque::Ip,
            Thing::Cidr(_) => Opaque::Cidr,
            Thing::Url(_) => Opaque::Url,
            Thing::Semver(_) => Opaque::Semver,
            Thing::Format(_) => Opaque::Format,
            Thing::Authorizer(_) => Opaque::Authorizer,
            Thing::Check(check) => check.stage.opaque(),
            Thing::Decision(_) => Opaque::Decision,
        }
    }
}

/// A map that an expression made, in the order of its making, or an object it made (then with the type's name).
#[derive(Debug, Clone, Default)]
pub struct Entries<'a> {
    pub type_name: Option<Arc<str>>,
    items: Vec<(Value<'a>, Value<'a>)>,
    index: HashMap<Key, usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Bool(bool),
    Number(i128),
    String(Arc<str>),
}

impl Key {
    fn of(value: &Value<'_>) -> Option<Key> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Number(i128::from(*value)),
            Value::Uint(value) => Key::Number(i128::from(*value)),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e20 => Key::Number(*value as i128),
            Value::String(Text::Shared(text)) => Key::String(text.clone()),
            Value::String(Text::Borrowed(text)) => Key::String(Arc::from(*text)),
            _ => return None,
        })
    }
}

impl<'a> Entries<'a> {
    pub(crate) fn object(type_name: Arc<str>) -> Self {
        Entries { type_name: Some(type_name), ..Entries::default() }
    }

    /// False if the key is there already, or can be none.
    pub(crate) fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> bool {
        let Some(hashed) = Key::of(&key) else { return false };
        if self.index.contains_key(&hashed) {
            return false;
        }
        self.index.insert(hashed, self.items.len());
        self.items.push((key, value));
        true
    }

    pub fn get(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        self.index.get(&Key::of(key)?).map(|at| &self.items[*at].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Value<'a>, Value<'a>)> {
        self.items.iter()
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, _) => items.len(),
            List::Items(items) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Json(items, ty) => Some(Value::of(items.get(index)?, ty.and_then(Type::elem))),
            List::Items(items) => items.get(index).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(crate) fn kind(&self) -> &ListKind {
        match self {
            List::Json(_, Some(Type::List(list))) => &list.kind,
            _ => &ListKind::Atomic,
        }
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json(map, _) => map.len(),
            Map::Entries(entries) => entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Json(..), Value::String(key)) => self.field(key),
            (Map::Json(..), _) => None,
            (Map::Entries(entries), key) => entries.get(key).cloned(),
        }
    }

    /// By the name in an expression: of an object of a known type, its unescaped form is looked for.
    pub(crate) fn select(&self, name: &str, plain: &str) -> Option<Value<'a>> {
        match self {
            Map::Json(_, Some(Type::Object(_))) => self.field(plain),
            _ => self.field(name),
        }
    }

    fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Json(map, ty) => Some(Value::of(map.get(name)?, ty.and_then(|ty| ty.json_field(name)))),
            Map::Entries(entries) => entries.get(&Value::String(Text::Borrowed(name))).cloned(),
        }
    }

    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Map::Json(map, _) => map.keys().map(|key| Value::String(Text::Borrowed(key))).collect(),
            Map::Entries(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
        }
    }

    pub fn entries(&self) -> Vec<(Value<'a>, Value<'a>)> {
        match self {
            Map::Json(map, ty) => map
                .iter()
                .map(|(key, json)| {
                    let value = Value::of(json, ty.and_then(|ty| ty.json_field(key)));
                    (Value::String(Text::Borrowed(key)), value)
                })
                .collect(),
            Map::Entries(entries) => entries.items.clone(),
        }
    }
}

impl<'a> Value<'a> {
    /// JSON of a shape nobody declared.
    pub fn json(json: &'a Json) -> Self {
        Self::of(json, None)
    }

    /// JSON that follows a declared type.
    pub fn typed(json: &'a Json, ty: &'a Type) -> Self {
        Self::of(json, Some(ty))
    }

    pub(crate) fn of(json: &'a Json, ty: Option<&'a Type>) -> Self {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match ty {
                Some(Type::Double) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
                Some(Type::Uint) if number.as_u64().is_some() => Value::Uint(number.as_u64().unwrap_or_default()),
                Some(Type::Int) if number.as_i64().is_none() => match number.as_f64() {
                    Some(value) if value.fract() == 0.0 && value.abs() < 9.2e18 => Value::Int(value as i64),
                    value => Value::Double(value.unwrap_or(f64::NAN)),
                },
                _ => match number.as_i64() {
                    Some(value) => Value::Int(value),
                    None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
                },
            },
            Json::String(text) => Self::formatted(text, ty).unwrap_or(Value::String(Text::Borrowed(text))),
            Json::Array(items) => Value::List(List::Json(items, ty)),
            Json::Object(map) => Value::Map(Map::Json(map, ty)),
        }
    }

    /// A text that stands for something else by its declared type.
    fn formatted(text: &str, ty: Option<&Type>) -> Option<Self> {
        match ty? {
            Type::Timestamp => crate::library::time::parse_date_or_timestamp(text).map(Value::Timestamp),
            Type::Duration => crate::library::time::parse_duration(text).map(Value::Duration),
            Type::Bytes(_) => {
                base64::engine::general_purpose::STANDARD.decode(text).ok().map(|bytes| Value::Bytes(bytes.into()))
            }
            _ => None,
        }
    }

    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Value::String(Text::Shared(text.into()))
    }

    pub fn borrowed(text: &'a str) -> Self {
        Value::String(Text::Borrowed(text))
    }

    pub fn list(items: Vec<Value<'a>>) -> Self {
        Value::List(List::Items(Arc::new(items)))
    }

    pub fn authorizer(authorizer: Arc<dyn Authorizer>) -> Self {
        Value::Opaque(Arc::new(Thing::Authorizer(authorizer)))
    }

    pub(crate) fn thing(thing: Thing) -> Self {
        Value::Opaque(Arc::new(thing))
    }

    pub(crate) fn some(value: Value<'a>) -> Self {
        Value::Optional(Some(Arc::new(value)))
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// What `type()` says.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::List(_) => "list",
            Value::Map(Map::Json(_, Some(Type::Object(object)))) => &object.name,
            Value::Map(Map::Entries(entries)) => entries.type_name.as_deref().unwrap_or("map"),
            Value::Map(_) => "map",
            Value::Optional(_) => "optional_type",
            Value::Type(_) => "type",
            Value::Opaque(thing) => thing.opaque().name(),
        }
    }

    /// What costs are counted by; 1 for what has no size.
    pub(crate) fn cost_size(&self) -> u64 {
        match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Opaque(thing) => match &**thing {
                Thing::Ip(IpAddr::V4(_)) => 4,
                Thing::Ip(IpAddr::V6(_)) => 16,
                Thing::Cidr(cidr) => cidr.cost_size(),
                _ => 1,
            },
            _ => 1,
        }
    }

    /// The value as JSON, as a patch or a message would carry it.
    pub fn to_json(&self) -> Result<Json, String> {
        Ok(match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => Json::from(*value),
            Value::Uint(value) => Json::from(*value),
            Value::Double(value) => Json::from(*value),
            Value::String(text) => Json::String(text.as_str().to_owned()),
            Value::Bytes(bytes) => Json::String(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Value::Duration(nanos) => Json::String(crate::library::time::duration_text(*nanos)),
            Value::Timestamp(at) => Json::String(at.to_string()),
            Value::List(List::Json(items, _)) => Json::Array(items.to_vec()),
            Value::List(list) => Json::Array(list.iter().map(|item| item.to_json()).collect::<Result<_, _>>()?),
            Value::Map(Map::Json(map, _)) => Json::Object((*map).clone()),
            Value::Map(Map::Entries(entries)) => {
                let mut map = serde_json::Map::new();
                for (key, value) in entries.iter() {
                    let Value::String(key) = key else {
                        return Err("only maps with string keys have a JSON form".into());
                    };
                    map.insert(key.as_str().to_owned(), value.to_json()?);
                }
                Json::Object(map)
            }
            Value::Optional(Some(value)) => value.to_json()?,
            Value::Optional(None) => Json::Null,
            other => return Err(format!("a value of type {} has no JSON form", other.type_name())),
        })
    }
}

/// CEL's `==`: numbers by value, lists and maps by their parts, different kinds are never equal.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::String(a), Value::String(b)) => a.as_str() == b.as_str(),
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::List(a), Value::List(b)) => lists_equal(a, b),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len()
                    && a.entries().iter().all(|(key, value)| b.get(key).is_some_and(|other| *value == other))
            }
            (Value::Optional(a), Value::Optional(b)) => a == b,
            (Value::Opaque(a), Value::Opaque(b)) => match (&**a, &**b) {
                (Thing::Quantity(a), Thing::Quantity(b)) => a == b,
                (Thing::Ip(a), Thing::Ip(b)) => a == b,
                (Thing::Cidr(a), Thing::Cidr(b)) => a == b,
                (Thing::Url(a), Thing::Url(b)) => a.text() == b.text(),
                (Thing::Semver(a), Thing::Semver(b)) => a.cmp(b) == Ordering::Equal,
                (Thing::Format(a), Thing::Format(b)) => a.name == b.name,
                _ => Arc::ptr_eq(a, b),
            },
            (a, b) => numbers(a, b) == Some(Ordering::Equal),
        }
    }
}

fn lists_equal(a: &List<'_>, b: &List<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let kind = if *a.kind() == ListKind::Atomic { b.kind() } else { a.kind() };
    let within = |one: &List<'_>, other: &List<'_>| one.iter().all(|item| other.iter().any(|found| found == item));
    match kind {
        ListKind::Atomic => a.iter().zip(b.iter()).all(|(a, b)| a == b),
        // by key or by value: the order says nothing
        ListKind::Set | ListKind::Map(_) => within(a, b) && within(b, a),
    }
}

/// The order of two numbers of any kinds; `None` for NaN and for what is no number.
pub(crate) fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Double(a), Value::Int(b)) => whole(*a, i128::from(*b)),
        (Value::Double(a), Value::Uint(b)) => whole(*a, i128::from(*b)),
        (Value::Int(a), Value::Double(b)) => whole(*b, i128::from(*a)).map(Ordering::reverse),
        (Value::Uint(a), Value::Double(b)) => whole(*b, i128::from(*a)).map(Ordering::reverse),
        _ => None,
    }
}

fn whole(a: f64, b: i128) -> Option<Ordering> {
    if a.is_nan() {
        return None;
    }
    // every 64-bit number is far within what i128 holds; a float beyond is capped by the cast
    let floor = a.floor();
    Some((floor as i128).cmp(&b).then(if a > floor { Ordering::Greater } else { Ordering::Equal }))
}
