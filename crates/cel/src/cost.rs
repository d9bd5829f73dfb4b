//! The worst case: what an evaluation may cost, by the bounds that declared types state.
//!
//! Upstream decides by it which rules a schema may have, so it counts as upstream's estimator does.

mod call;
mod range;

use crate::ast::FoldKind;
use crate::node::{Access, FoldNode, Node, NodeKind, Operator};
use crate::types::{Size, Type};
use crate::value::Value;
pub use range::CostEstimate;
use range::CostEstimate as Range;

/// What is known of an expression: its cost, its size, that of its keys and items, and where in a declared type it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Estimate {
    pub cost: Range,
    pub size: Option<Range>,
    /// Of keys and values.
    pub entry: Option<(Range, Range)>,
    /// The declared type the value comes from, reached from a variable.
    pub declared: Option<Type>,
}

impl Estimate {
    pub fn size_or_unknown(&self) -> Range {
        self.size.unwrap_or(Range::UNKNOWN)
    }
}

pub(crate) fn estimate(root: &Node, _names: &[String]) -> Range {
    let mut locals = Vec::new();
    of(root, &mut locals).cost
}

/// The bound a declared type states; what is no collection has no size at all.
fn declared_size(ty: &Type) -> Option<Range> {
    let bounded = |size: &Size| size.0.map(|max| Range { min: 0, max });
    match ty {
        Type::String(size) | Type::Bytes(size) | Type::Dyn(size) => bounded(size),
        Type::List(list) => bounded(&list.max_items),
        Type::Map(map) => bounded(&map.max_properties),
        Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Null | Type::Object(_) => Some(Range::fixed(0)),
        Type::Duration | Type::Timestamp => Some(Range::fixed(0)),
        _ => None,
    }
}

fn type_size(ty: &Type) -> Option<Range> {
    matches!(ty, Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Duration | Type::Timestamp)
        .then(|| Range::fixed(1))
}

/// What comes from a declaration.
fn placed(cost: Range, declared: Option<Type>, node: &Node) -> Estimate {
    let size = declared.as_ref().and_then(declared_size).or_else(|| type_size(&node.ty));
    Estimate { cost, size, entry: None, declared }
}

fn of(node: &Node, locals: &mut Vec<Estimate>) -> Estimate {
    match &node.kind {
        NodeKind::Const(value) => constant(value),
        NodeKind::Variable { dots, .. } => placed(Range::fixed(1 + dots), Some(node.ty.clone()), node),
        NodeKind::Local(slot) => match locals.get(*slot) {
            Some(local) => {
                let size =
                    local.declared.as_ref().and_then(declared_size).or_else(|| type_size(&node.ty)).or(local.size);
                Estimate { cost: Range::fixed(1), size, ..local.clone() }
            }
            None => placed(Range::fixed(1), None, node),
        },
        NodeKind::Select { operand, name, access, .. } => {
            let operand = of(operand, locals);
            if *access == Access::Test {
                return Estimate { cost: operand.cost, size: Some(Range::fixed(1)), ..Estimate::default() };
            }
            let declared = operand.declared.as_ref().and_then(|ty| match ty {
                Type::Object(object) => object.fields.get(&**name).map(|field| field.ty.clone()),
                Type::Map(map) => Some(map.value.clone()),
                _ => None,
            });
            placed(operand.cost.plus(Range::fixed(1)), declared, node)
        }
        NodeKind::Index { operand, index, .. } => {
            let (operand, index) = (of(operand, locals), of(index, locals));
            let declared = operand.declared.as_ref().and_then(Type::elem).cloned();
            let mut found = placed(operand.cost.plus(index.cost).plus(Range::fixed(1)), declared, node);
            found.size = operand.entry.map(|(_, value)| value).or(found.size);
            found
        }
        NodeKind::Operator { operator, args } => {
            let args: Vec<Estimate> = args.iter().map(|arg| of(arg, locals)).collect();
            of_operator(node, *operator, &args)
        }
        NodeKind::And(terms) | NodeKind::Or(terms) => {
            let mut costs = terms.iter().map(|term| of(term, locals).cost);
            let first = costs.next().unwrap_or_default();
            let max = costs.fold(first.max, |sum, cost| sum.saturating_add(cost.max));
            Estimate { cost: Range { min: first.min, max }, size: Some(Range::fixed(1)), ..Estimate::default() }
        }
        NodeKind::Conditional(parts) => {
            let [condition, yes, no] = [&parts[0], &parts[1], &parts[2]].map(|part| of(part, locals));
            Estimate {
                cost: condition.cost.plus(yes.cost.union(no.cost)),
                size: Some(yes.size_or_unknown().union(no.size_or_unknown())),
                entry: both(yes.entry, no.entry),
                declared: None,
            }
        }
        NodeKind::List(items) => {
            let items: Vec<Estimate> = items.iter().map(|(item, _)| of(item, locals)).collect();
            let cost = items.iter().fold(Range::fixed(10), |sum, item| sum.plus(item.cost));
            let size = Some(Range::fixed(items.len() as u64));
            Estimate { cost, size, entry: Some((Range::fixed(1), all_sizes(&items))), declared: None }
        }
        NodeKind::Map(entries) => {
            let keys: Vec<Estimate> = entries.iter().map(|(key, ..)| of(key, locals)).collect();
            let values: Vec<Estimate> = entries.iter().map(|(_, value, _)| of(value, locals)).collect();
            let cost = keys.iter().chain(&values).fold(Range::fixed(30), |sum, part| sum.plus(part.cost));
            let size = Some(Range::fixed(entries.len() as u64));
            Estimate { cost, size, entry: Some((all_sizes(&keys), all_sizes(&values))), declared: None }
        }
        NodeKind::Struct { fields, .. } => {
            let costs = fields.iter().map(|(_, value, _)| of(value, locals).cost);
            Estimate { cost: costs.fold(Range::fixed(40), Range::plus), ..Estimate::default() }
        }
        NodeKind::Call { overloads, args, .. } => {
            let args: Vec<(&Node, Estimate)> = args.iter().map(|arg| (arg, of(arg, locals))).collect();
            call::of(node, overloads, &args)
        }
        NodeKind::Else { optional, other, .. } => {
            let (optional, other) = (of(optional, locals), of(other, locals));
            Estimate { cost: optional.cost.plus(other.cost).plus(Range::fixed(1)), ..Estimate::default() }
        }
        NodeKind::Fold(fold) => of_fold(fold, locals),
    }
}

fn constant(value: &Value<'_>) -> Estimate {
    let size = match value {
        Value::Null | Value::Type(_) => None,
        value => Some(Range::fixed(value.cost_size())),
    };
    Estimate { cost: Range::fixed(0), size, ..Estimate::default() }
}

fn all_sizes(parts: &[Estimate]) -> Range {
    parts.iter().map(Estimate::size_or_unknown).reduce(Range::union).unwrap_or_default()
}

fn both(a: Option<(Range, Range)>, b: Option<(Range, Range)>) -> Option<(Range, Range)> {
    let ((ak, av), (bk, bv)) = (a?, b?);
    Some((ak.union(bk), av.union(bv)))
}

fn of_operator(node: &Node, operator: Operator, args: &[Estimate]) -> Estimate {
    let sum = args.iter().fold(Range::default(), |sum, arg| sum.plus(arg.cost));
    let sizes: Vec<Range> = args.iter().map(Estimate::size_or_unknown).collect();
    let result = |cost: Range, size| Estimate { cost: cost.plus(sum), size, ..Estimate::default() };
    let smaller = || {
        let max = sizes[0].max.min(sizes[1].max);
        Range { min: u64::from(max > 0), max }.times_factor(crate::runtime_cost::WALK)
    };
    match operator {
        Operator::Add if matches!(node.ty, Type::String(_) | Type::Bytes(_) | Type::Dyn(_)) => {
            let size = sizes[0].plus(sizes[1]);
            result(size.times_factor(crate::runtime_cost::WALK), Some(size))
        }
        Operator::Add if matches!(node.ty, Type::List(_)) => {
            let mut joined = result(Range::fixed(1), Some(sizes[0].plus(sizes[1])));
            joined.entry = both(args[0].entry, args[1].entry);
            joined
        }
        Operator::Equal | Operator::NotEqual => result(smaller(), Some(Range::fixed(1))),
        Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual
            if args
                .iter()
                .all(|arg| arg.size.is_none_or(|size| size != Range::fixed(1) && size != Range::fixed(0))) =>
        {
            result(smaller(), Some(Range::fixed(1)))
        }
        Operator::In => result(sizes[1], Some(Range::fixed(1))),
        _ => result(Range::fixed(1), type_size(&node.ty)),
    }
}

fn of_fold(fold: &FoldNode, locals: &mut Vec<Estimate>) -> Estimate {
    let range = of(&fold.range, locals);
    let base = locals.len();
    let list = !matches!(fold.range.ty, Type::Map(_));
    let elem = range.declared.as_ref().and_then(Type::elem).cloned();
    let key_type = range.declared.as_ref().and_then(|ty| match ty {
        Type::Map(map) => Some(map.key.clone()),
        _ => None,
    });
    let local = |size: Option<Range>, declared: Option<Type>| Estimate { size, declared, ..Estimate::default() };
    let (keys, values) = (range.entry.map(|entry| entry.0), range.entry.map(|entry| entry.1));
    match (fold.second.is_some(), list) {
        (true, _) => {
            locals.push(local(keys, key_type));
            locals.push(local(values, elem));
        }
        (false, true) => locals.push(local(values, elem)),
        (false, false) => locals.push(local(keys, key_type)),
    }
    // slots count from the outermost macro, as the checker gave them out
    debug_assert_eq!(base, fold.first);
    let filter = fold.filter.as_ref().map(|filter| of(filter, locals));
    let body = of(&fold.body, locals);
    locals.truncate(base);

    let count = range.size_or_unknown();
    let fixed = Range::fixed;
    let skipping = |taken: Range| match &filter {
        Some(filter) => filter.cost.plus(taken.union(fixed(1))),
        None => taken,
    };
    let decided = Range { min: 1, max: body.cost.max.saturating_add(1) };
    let (init, step, result) = match fold.kind {
        FoldKind::All => (0, fixed(2).plus(decided), 1),
        FoldKind::Exists => (0, fixed(3).plus(decided), 1),
        FoldKind::ExistsOne => (0, body.cost.plus(Range { min: 1, max: 2 }), 2),
        FoldKind::Map => (10, skipping(fixed(12).plus(body.cost)), 1),
        FoldKind::Filter => (10, body.cost.plus(Range { min: 1, max: 13 }), 1),
        FoldKind::TransformMap => (30, skipping(fixed(3).plus(body.cost)), 1),
        FoldKind::TransformMapEntry => (30, skipping(fixed(2).plus(body.cost)), 1),
        FoldKind::OptMap | FoldKind::OptFlatMap => {
            let cost = range.cost.plus(body.cost).plus(fixed(3));
            return Estimate { cost, ..Estimate::default() };
        }
    };
    let cost = range.cost.plus(fixed(init + result)).plus(count.times(step));
    let (size, entry) = match fold.kind {
        FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => (fixed(1), None),
        FoldKind::Filter => (count, range.entry),
        FoldKind::Map => (count, body.size.map(|size| (fixed(1), size))),
        _ => (count, None),
    };
    Estimate { cost, size: Some(size), entry, declared: None }
}
