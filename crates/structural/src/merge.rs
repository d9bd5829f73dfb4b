//! How values merge: the schema seen as server-side apply sees it, one step at a time.

use crate::node::{Additional, Kind, ListType, Node};

/// A place in a schema.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    node: Option<&'a Node>,
}

/// What a value at a place consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts<'a> {
    /// Nothing that is owned apart from the rest: scalars, atomic maps and lists.
    Atomic,
    /// Fields, each owned apart: a struct or a map.
    Fields,
    /// Scalars, each owned apart.
    Set,
    /// Items told apart by these keys.
    Keyed(&'a [Box<str>]),
    /// Nothing is declared: maps are granular, lists atomic.
    Untyped,
}

impl<'a> Place<'a> {
    pub(crate) fn new(node: &'a Node) -> Self {
        Self { node: Some(node) }
    }

    pub fn parts(self) -> Parts<'a> {
        let Some(node) = self.node else { return Parts::Untyped };
        match (node.kind, &node.list) {
            (Some(Kind::Object), _) if node.map_atomic => Parts::Atomic,
            (Some(Kind::Object), _) => Parts::Fields,
            (Some(Kind::Array), Some(ListType::Set)) => Parts::Set,
            (Some(Kind::Array), Some(ListType::Map(keys))) => Parts::Keyed(keys),
            (None, _) if node.preserve => Parts::Untyped,
            _ => Parts::Atomic,
        }
    }

    /// The place of a field; `None` if no such field is declared.
    pub fn field(self, name: &str) -> Option<Self> {
        let Some(node) = self.node else { return Some(self) };
        if let Some(node) = node.property(name) {
            return Some(Self::new(node));
        }
        match node.additional.as_deref() {
            Some(Additional::Of(node)) => Some(Self::new(node)),
            Some(Additional::Allowed(true)) => Some(Self { node: None }),
            _ if node.preserve => Some(Self { node: None }),
            _ => None,
        }
    }

    /// The place of a list's items.
    pub fn item(self) -> Self {
        Self { node: self.node.and_then(|node| node.items.as_deref()) }
    }

    /// The default of a list's key field.
    pub fn key_default(self, key: &str) -> Option<&'a serde_json::Value> {
        self.node?.items.as_deref()?.property(key)?.default.as_deref()
    }
}
