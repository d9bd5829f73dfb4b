//! What a value is made of, as far as ownership of its fields goes: of built-in types the table says it, of custom
//! resources a tree that is made of their schema at run time.

use serde_json::Value;

use crate::go;
use crate::schema::{self, Definition};

/// The type of an object whose fields are owned.
#[derive(Debug, Clone, Copy)]
pub enum Types<'a> {
    BuiltIn(&'static Definition),
    Custom(&'a Shape),
}

impl From<&'static Definition> for Types<'_> {
    fn from(definition: &'static Definition) -> Self {
        Self::BuiltIn(definition)
    }
}

impl<'a> From<&'a Shape> for Types<'a> {
    fn from(shape: &'a Shape) -> Self {
        Self::Custom(shape)
    }
}

/// A type that is known at run time only.
#[derive(Debug, Clone)]
pub struct Shape {
    pub form: Form,
    /// The value is replaced as a whole, never merged.
    pub atomic: bool,
}

#[derive(Debug, Clone)]
pub enum Form {
    Text,
    Number,
    Boolean,
    /// Anything. An object's fields are owned each, a list as a whole.
    Any,
    /// Sorted by name, and what other fields are; without it there may be none.
    Fields(Box<[(Box<str>, Shape)]>, Option<Box<Shape>>),
    List(Box<Shape>, Items),
    BuiltIn(&'static Definition),
}

/// How items are told apart.
#[derive(Debug, Clone)]
pub enum Items {
    Atomic,
    Set,
    /// By these keys, each with its default.
    Keyed(Box<[(Box<str>, Option<Value>)]>),
}

/// What is in anything.
pub(super) static ANY: Shape = Shape { form: Form::Any, atomic: false };

impl Shape {
    pub fn new(form: Form) -> Self {
        Self { form, atomic: false }
    }

    /// A field's shape, and whether it is a declared one (others are items of a map).
    pub(super) fn field(&self, name: &str) -> Option<(&Self, bool)> {
        match &self.form {
            Form::Fields(fields, rest) => match fields.binary_search_by(|(known, _)| (**known).cmp(name)) {
                Ok(index) => Some((&fields[index].1, true)),
                Err(_) => rest.as_deref().map(|rest| (rest, false)),
            },
            Form::Any => Some((&ANY, false)),
            _ => None,
        }
    }

    /// Everything that keeps a value from being of this shape, in the words of `structured-merge-diff`.
    pub(super) fn check(&self, value: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        self.walk(value, "", &mut problems);
        problems
    }

    fn walk(&self, value: &Value, path: &str, problems: &mut Vec<String>) {
        let mut wrong = |expected: &str, got: String| problems.push(format!("{path}: expected {expected}, got {got}"));
        let unstructured = || format!("&value.valueUnstructured{{Value:{}}}", go::syntax(value));
        match (&self.form, value) {
            (_, Value::Null) | (Form::Any, _) => {}
            (Form::Text, Value::String(_)) | (Form::Number, Value::Number(_)) | (Form::Boolean, Value::Bool(_)) => {}
            (Form::Text, _) => wrong("string", unstructured()),
            (Form::Number, _) => wrong("numeric (int or float)", go::type_of(value).to_owned()),
            (Form::Boolean, _) => wrong("boolean", format!("&{{{}}}", go::plain(value))),
            (Form::Fields(..), Value::Object(map)) => {
                for (name, value) in map {
                    let path = format!("{path}.{name}");
                    match self.field(name) {
                        Some((shape, _)) => shape.walk(value, &path, problems),
                        None => problems.push(format!("{path}: field not declared in schema")),
                    }
                }
            }
            (Form::Fields(..), _) => wrong("map", format!("&{{{}}}", go::plain(value))),
            (Form::List(of, items), Value::Array(list)) => check_list(of, items, list, path, problems),
            (Form::List(..), _) => wrong("list", format!("&{{{}}}", go::plain(value))),
            (Form::BuiltIn(definition), value) => {
                let checked = schema::check(value, definition);
                let unknown = checked.unknown.iter().map(|name| format!("{path}.{name}: field not declared in schema"));
                problems.extend(unknown);
                problems.extend(checked.type_error.map(|error| format!("{path}: {error}")));
            }
        }
    }
}

fn check_list(of: &Shape, items: &Items, list: &[Value], path: &str, problems: &mut Vec<String>) {
    let mut seen: Vec<String> = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let step = match items {
            Items::Atomic => None,
            Items::Set => Some(format!("[={item}]")),
            Items::Keyed(keys) => {
                let value = |(key, default): &(Box<str>, Option<Value>)| {
                    let value = item.get(&**key).or(default.as_ref())?;
                    Some(format!("{key}={value}"))
                };
                let mut shown: Vec<String> = keys.iter().filter_map(value).collect();
                shown.sort_unstable();
                if shown.is_empty() {
                    let names: Vec<&str> = keys.iter().map(|(key, _)| &**key).collect();
                    problems.push(format!(
                        "{path}: element {index}: associative list with keys has an element that omits key field {:?} \
                         (and doesn't have default value)",
                        names.first().copied().unwrap_or_default()
                    ));
                    continue;
                }
                Some(format!("[{}]", shown.join(",")))
            }
        };
        if let Some(step) = &step {
            if seen.contains(step) {
                problems.push(format!("{path}: duplicate entries for key {step}"));
                continue;
            }
            seen.push(step.clone());
        }
        of.walk(item, &format!("{path}{}", step.unwrap_or_else(|| format!("[{index}]"))), problems);
    }
}
