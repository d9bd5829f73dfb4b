//! The table of functions: each overload is a line of text (name, id, parameters, result) and the code that runs it.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::error::EvalError;
use crate::library;
use crate::types::{Opaque, Type};
use crate::value::{Map, Thing, Value};

pub(crate) type Outcome<'a> = Result<Value<'a>, EvalError>;
pub(crate) type Run = for<'a> fn(&[Value<'a>]) -> Outcome<'a>;

/// `"name id receiver.(parameters) result"`, without blanks within the parameters; `A`, `B` stand for any type.
pub(crate) type Declaration = (&'static str, Run);

pub(crate) struct Overload {
    pub function: &'static str,
    pub id: &'static str,
    pub member: bool,
    /// The receiver is the first.
    pub params: Vec<Type>,
    pub result: Type,
    pub run: Run,
}

impl std::fmt::Debug for Overload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

static TABLE: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, Vec<Overload>> = HashMap::new();
    for declarations in library::ALL {
        for declaration in *declarations {
            let overload = parse(declaration);
            table.entry(overload.function).or_default().push(overload);
        }
    }
    table
});

/// Every overload of a function.
pub(crate) fn overloads(function: &str) -> Option<&'static [Overload]> {
    TABLE.get(function).map(Vec::as_slice)
}

fn parse(&(text, run): &Declaration) -> Overload {
    let mut words = text.split_whitespace();
    let mut word = || words.next().expect("declarations have four words, which the tests of this file see to");
    let (function, id, params, result) = (word(), word(), word(), word());
    let (receiver, params) = match params.split_once(".(") {
        Some((receiver, params)) => (Some(receiver), params),
        None => (None, &params[1..]),
    };
    let params = params.strip_suffix(')').expect("parameters end with a bracket");
    let types = receiver.into_iter().chain(split(params)).map(type_of).collect();
    Overload { function, id, member: receiver.is_some(), params: types, result: type_of(result), run }
}

/// At the commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn type_of(text: &str) -> Type {
    if let Some((outer, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let inner = split(inner);
        let first = type_of(inner[0]);
        return match outer {
            "list" => Type::list(first),
            "map" => Type::map(first, type_of(inner[1])),
            "optional" => Type::optional(first),
            "type" => Type::Type(std::sync::Arc::new(first)),
            other => unreachable!("no type {other} of types"),
        };
    }
    match text {
        "A" => Type::Param(0),
        "B" => Type::Param(1),
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::STRING,
        "bytes" => Type::BYTES,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "dyn" => Type::DYN,
        name => {
            let short = |opaque: &&Opaque| opaque.name().rsplit('.').next() == Some(name);
            Type::Opaque(*Opaque::ALL.iter().find(short).expect("declarations name types that there are"))
        }
    }
}

/// Whether an overload takes this value in this place.
pub(crate) fn accepts(ty: &Type, value: &Value<'_>) -> bool {
    match (ty, value) {
        (Type::Dyn(_) | Type::Param(_) | Type::Error, _) => true,
        (Type::Null, Value::Null)
        | (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String(_), Value::String(_))
        | (Type::Bytes(_), Value::Bytes(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::Map(_), Value::Map(_))
        | (Type::Optional(_), Value::Optional(_))
        | (Type::Type(_), Value::Type(_)) => true,
        (Type::List(list), Value::List(items)) => match items.get(0) {
            Some(first) => accepts(&list.elem, &first),
            None => true,
        },
        (Type::Object(object), Value::Map(map)) => match map {
            Map::Entries(entries) => entries.type_name.as_deref() == Some(&object.name),
            Map::Json(..) => true,
        },
        (Type::Opaque(opaque), Value::Opaque(thing)) => match (&**thing, opaque) {
            // one value plays the authorizer's every stage
            (Thing::Check(check), opaque) => check.stage.opaque() == *opaque,
            (thing, opaque) => thing.opaque() == *opaque,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_reads_and_no_id_is_there_twice() {
        let mut ids = std::collections::BTreeSet::new();
        for overload in TABLE.values().flatten() {
            assert!(ids.insert((overload.function, overload.id)), "{} twice", overload.id);
        }
        assert!(ids.len() > 200, "{}", ids.len());
    }
}
