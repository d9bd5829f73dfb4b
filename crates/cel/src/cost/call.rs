//! What calls of functions may cost, and how large their results may be.

use super::range::CostEstimate as Range;
use super::{Estimate, declared_size, type_size};
use crate::functions::Overload;
use crate::node::{Node, NodeKind};
use crate::runtime_cost::{CHECK, PATTERN, WALK};
use crate::types::Type;
use crate::value::Value;

/// Over all the overloads that may be meant.
pub(super) fn of(node: &Node, overloads: &[&'static Overload], args: &[(&Node, Estimate)]) -> Estimate {
    let mut found: Option<(Range, Option<Range>)> = None;
    for overload in overloads {
        let (cost, size) = of_overload(overload, args);
        found = Some(match found {
            None => (cost, size),
            Some((before, None)) => (before.union(cost), size),
            Some((before, Some(known))) => (before.union(cost), Some(size.map_or(known, |size| known.union(size)))),
        });
    }
    let (cost, size) = found.unwrap_or_default();
    let cost = args.iter().fold(cost, |sum, (_, arg)| sum.plus(arg.cost));
    if let ("dyn", Some((_, arg))) = (overloads.first().map_or("", |o| o.function), args.first()) {
        return Estimate { cost, ..arg.clone() };
    }
    Estimate { cost, size: size.or_else(|| type_size(&node.ty)), ..Estimate::default() }
}

fn walk(size: Range) -> Range {
    size.times_factor(WALK)
}

fn pattern(text: Range, pattern: Range) -> Range {
    walk(text.plus(Range::fixed(1))).times(pattern.times_factor(PATTERN))
}

fn of_overload(overload: &Overload, args: &[(&Node, Estimate)]) -> (Range, Option<Range>) {
    let size = |at: usize| args.get(at).map_or(Range::UNKNOWN, |(_, arg)| arg.size_or_unknown());
    let one = Range::fixed(1);
    match overload.function {
        "check" => (Range::fixed(CHECK), None),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => (extremes(&args[0]), None),
        "url" => (walk(size(0)), None),
        "lowerAscii" | "upperAscii" | "substring" | "trim" => (walk(size(0)), Some(size(0))),
        "replace" => (size(0).times_factor(2.0 * WALK), Some(replaced(size(0), size(1), size(2)))),
        "split" => (size(0).times_factor(2.0 * WALK), Some(Range { min: 0, max: parts(size(0).max, args) })),
        "join" => {
            let joined = joined(&args[0], args.get(1).map(|_| size(1)));
            (walk(joined), Some(joined))
        }
        "find" | "findAll" => (pattern(size(0), size(1)), Some(Range { min: 0, max: size(0).max })),
        "matches" => (pattern(size(0), size(1)), None),
        "contains" if overload.id == "contains_string" => (walk(size(0)).times(walk(size(1))), None),
        "startsWith" | "endsWith" => (walk(size(1)), None),
        "bytes" if overload.id == "string_to_bytes" => {
            (walk(size(0)), Some(Range { min: size(0).min, max: size(0).max.saturating_mul(4) }))
        }
        "string" if overload.id == "bytes_to_string" => {
            (walk(size(0)), Some(Range { min: size(0).min / 4, max: size(0).max }))
        }
        "format" => (walk(size(0)), None),
        "strings.quote" => (walk(size(0)), Some(size(0).times(Range::fixed(2)).plus(Range::fixed(2)))),
        // of functions that are no methods upstream's estimator knows only the fixed cost
        "cidr" | "isIP" | "isCIDR" | "ip" | "ip.isCanonical" | "quantity" | "isQuantity" => (one, None),
        "containsIP" | "containsCIDR" => (contained(overload, size(1)), None),
        "validate" => (pattern(size(1), Range { min: 0, max: 1000 }), None),
        "semver" | "isSemver" => (walk(size(0)), None),
        "sets.contains" | "sets.intersects" => (size(0).times(size(1)).plus(one), None),
        "sets.equivalent" => (size(0).times(size(1)).times(Range::fixed(2)).plus(one), None),
        _ => (one, None),
    }
}

/// One for each item; its length, too, where it has one.
fn extremes((node, arg): &(&Node, Estimate)) -> Range {
    let Type::List(list) = &node.ty else { return walk(arg.size_or_unknown()) };
    let mut each = Range::fixed(1);
    if matches!(list.elem, Type::String(_) | Type::Bytes(_)) {
        each = each.plus(walk(item_size(arg)));
    }
    arg.size_or_unknown().times(each)
}

fn item_size(list: &Estimate) -> Range {
    list.declared.as_ref().and_then(Type::elem).and_then(declared_size).unwrap_or(Range::UNKNOWN)
}

fn replaced(text: Range, old: Range, new: Range) -> Range {
    let share = |whole: u64, part: u64| (whole as f64 / part as f64).ceil() as u64;
    // the longest: the smallest found as often as it fits, each time replaced by the largest
    let (most, kept) = if old.min == 0 {
        (text.max.saturating_add(1), text.max)
    } else if new.max <= old.min {
        (0, text.max)
    } else {
        (share(text.max, old.min), 0)
    };
    let (least, left) = if old.max == 0 {
        (text.min.saturating_add(1), text.min)
    } else if old.max <= new.min {
        (0, text.min)
    } else {
        (share(text.min, old.max), 0)
    };
    Range { min: least, max: most }.times(new).plus(Range { min: left, max: kept })
}

/// In how many parts a text may fall: as many as it has characters, or as the call allows.
fn parts(most: u64, args: &[(&Node, Estimate)]) -> u64 {
    match args.get(2).map(|(node, _)| &node.kind) {
        Some(NodeKind::Const(Value::Int(limit))) => u64::try_from(*limit).unwrap_or(most),
        _ => most,
    }
}

fn joined((_, list): &(&Node, Estimate), separator: Option<Range>) -> Range {
    let count = list.size_or_unknown();
    let texts = count.times(item_size(list));
    let gaps = Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
    separator.map_or(texts, |separator| texts.plus(separator.times(gaps)))
}

fn contained(overload: &Overload, other: Range) -> Range {
    let bytes = Range { min: 4, max: 16 };
    let mut cost = walk(bytes.plus(bytes));
    if overload.function == "containsCIDR" {
        cost = cost.plus(walk(bytes)).plus(Range::fixed(1));
    }
    if overload.id.ends_with("_string") {
        cost = cost.plus(walk(other));
    }
    cost
}
