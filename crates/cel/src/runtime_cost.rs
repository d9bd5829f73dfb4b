//! What each step of an evaluation costs, in upstream's units: one for a step, a tenth for a character walked over.

use crate::functions::Overload;
use crate::node::Operator;
use crate::value::{Map, Value};

pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;

/// Per character that is walked over.
pub(crate) const WALK: f64 = 0.1;
/// Per character of a pattern, for each character it is tried on.
pub(crate) const PATTERN: f64 = 0.25;
/// Of one question to the authorizer; so no expression asks more than twice.
pub(crate) const CHECK: u64 = 350_000;

fn walked(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn size(args: &[Value<'_>], at: usize) -> u64 {
    args.get(at).map_or(1, Value::cost_size)
}

/// How many items of lists are joined for one. Upstream joins without copying and takes one, whatever their length.
const JOINED_ITEMS: u64 = 20;

pub(crate) fn of_operator(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> u64 {
    let texts = matches!((left, right), (Value::String(_), Value::String(_)) | (Value::Bytes(_), Value::Bytes(_)));
    match operator {
        Operator::Add if texts => walked(left.cost_size() + right.cost_size(), WALK),
        Operator::Add => match (left, right) {
            (Value::List(left), Value::List(right)) => 1 + (left.len() + right.len()) as u64 / JOINED_ITEMS,
            _ => 1,
        },
        Operator::Equal | Operator::NotEqual => walked(left.cost_size().min(right.cost_size()), WALK),
        Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual if texts => {
            walked(left.cost_size().min(right.cost_size()), WALK)
        }
        Operator::In => match right {
            Value::List(list) => list.len() as u64,
            _ => 1,
        },
        _ => 1,
    }
}

/// What has to be paid for before the call is made, because the call itself is dear.
pub(crate) fn before_call(overload: &Overload, args: &[Value<'_>]) -> Option<u64> {
    match overload.function {
        "check" => Some(CHECK),
        "matches" | "find" | "findAll" => Some(pattern(args)),
        "contains" if overload.id == "contains_string" => {
            Some(walked(size(args, 0), WALK) * walked(size(args, 1), WALK))
        }
        _ => None,
    }
}

fn pattern(args: &[Value<'_>]) -> u64 {
    walked(size(args, 0) + 1, WALK).saturating_mul(walked(size(args, 1), PATTERN))
}

/// What a call costs, given its result; nothing for what [`before_call`] took.
pub(crate) fn of_call(overload: &Overload, args: &[Value<'_>], result: &Value<'_>) -> u64 {
    let first = || size(args, 0);
    match overload.function {
        "check" | "matches" | "find" | "findAll" => 0,
        "contains" if overload.id == "contains_string" => 0,
        "startsWith" | "endsWith" => walked(first(), WALK),
        "bytes" | "string" if matches!(overload.id, "string_to_bytes" | "bytes_to_string") => walked(first(), WALK),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" => walked(first(), WALK),
        "jsonpatch.escapeKey" => walked(first(), WALK),
        "replace" | "split" => walked(first(), 2.0 * WALK),
        "join" => walked(result.cost_size(), 2.0 * WALK),
        "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" => walked(first(), WALK),
        "ip" if overload.id != "cidr_ip" => walked(first(), WALK),
        "ip.isCanonical" => walked(first(), 2.0 * WALK),
        "containsIP" | "containsCIDR" => contained(overload, args),
        "validate" => validated(args),
        "semver" | "isSemver" => walked(first(), WALK),
        "sets.contains" | "sets.intersects" => 1 + first() * size(args, 1),
        "sets.equivalent" => 1 + 2 * first() * size(args, 1),
        "format" => walked(first(), WALK),
        _ => 1,
    }
}

fn contained(overload: &Overload, args: &[Value<'_>]) -> u64 {
    let cidr = size(args, 0);
    let mut cost = walked(2 * cidr, WALK);
    if overload.function == "containsCIDR" {
        cost += walked(cidr, WALK) + 1;
    }
    if overload.id.ends_with("_string") {
        cost += walked(size(args, 1), WALK);
    }
    cost
}

fn validated(args: &[Value<'_>]) -> u64 {
    let Some(Value::Opaque(thing)) = args.first() else { return 1 };
    let crate::value::Thing::Format(named) = &**thing else { return 1 };
    pattern_like(size(args, 1), named.pattern_len)
}

fn pattern_like(text: u64, pattern: u64) -> u64 {
    walked(text + 1, WALK).saturating_mul(walked(pattern, PATTERN))
}

/// Of walking through a value with all its parts.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * WALK) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * WALK) as u64,
        Value::List(list) => list.iter().map(|item| traversal(&item)).sum(),
        Value::Map(map @ (Map::Json(..) | Map::Entries(_))) => {
            map.entries().iter().map(|(key, value)| traversal(key) + traversal(value)).sum()
        }
        _ => 1,
    }
}
