//! The parts of a checked expression, whatever its kind.

use crate::node::{Node, NodeKind};

pub(crate) fn children_mut(node: &mut Node, each: &mut dyn FnMut(&mut Node)) {
    match &mut node.kind {
        NodeKind::Const(_) | NodeKind::Variable { .. } | NodeKind::Local(_) => {}
        NodeKind::Select { operand, .. } => each(operand),
        NodeKind::Index { operand, index, .. } => {
            each(operand);
            each(index);
        }
        NodeKind::Operator { args, .. } | NodeKind::Call { args, .. } | NodeKind::And(args) | NodeKind::Or(args) => {
            args.iter_mut().for_each(each);
        }
        NodeKind::Conditional(parts) => parts.iter_mut().for_each(each),
        NodeKind::List(items) => items.iter_mut().for_each(|(item, _)| each(item)),
        NodeKind::Map(entries) => {
            for (key, value, _) in entries {
                each(key);
                each(value);
            }
        }
        NodeKind::Struct { fields, .. } => fields.iter_mut().for_each(|(_, value, _)| each(value)),
        NodeKind::Else { optional, other, .. } => {
            each(optional);
            each(other);
        }
        NodeKind::Fold(fold) => {
            each(&mut fold.range);
            if let Some(filter) = &mut fold.filter {
                each(filter);
            }
            each(&mut fold.body);
        }
    }
}

/// Whether `holds` is true of a part, or of a part of it.
pub(crate) fn any(node: &Node, holds: &mut dyn FnMut(&Node) -> bool) -> bool {
    if holds(node) {
        return true;
    }
    match &node.kind {
        NodeKind::Const(_) | NodeKind::Variable { .. } | NodeKind::Local(_) => false,
        NodeKind::Select { operand, .. } => any(operand, holds),
        NodeKind::Index { operand, index, .. } => any(operand, holds) || any(index, holds),
        NodeKind::Operator { args, .. } | NodeKind::Call { args, .. } | NodeKind::And(args) | NodeKind::Or(args) => {
            args.iter().any(|arg| any(arg, holds))
        }
        NodeKind::Conditional(parts) => parts.iter().any(|part| any(part, holds)),
        NodeKind::List(items) => items.iter().any(|(item, _)| any(item, holds)),
        NodeKind::Map(entries) => entries.iter().any(|(key, value, _)| any(key, holds) || any(value, holds)),
        NodeKind::Struct { fields, .. } => fields.iter().any(|(_, value, _)| any(value, holds)),
        NodeKind::Else { optional, other, .. } => any(optional, holds) || any(other, holds),
        NodeKind::Fold(fold) => {
            any(&fold.range, holds)
                || fold.filter.as_ref().is_some_and(|filter| any(filter, holds))
                || any(&fold.body, holds)
        }
    }
}
