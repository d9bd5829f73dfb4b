//! Evaluates the rules of a schema on an object, under one budget.

use std::sync::Arc;

use api::field::{FieldError, FieldErrors, Path, Problem};
use cel::{EvalError, Value as Cel};
use serde_json::Value;

use super::{Reason, Rule, Rules};
use crate::node::Node;
use crate::validate::correlate;

/// The longest message that an expression makes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

struct Evaluation {
    /// What is left; `None`: nothing, and no rule is run any more.
    budget: Option<u64>,
    errors: FieldErrors,
}

/// What a place was before.
#[derive(Clone, Copy)]
struct Before<'a> {
    /// The value that is `oldSelf`.
    value: Option<&'a Value>,
    /// Nothing in it has changed: what fails now has failed before.
    unchanged: bool,
}

/// All rules that do not hold. `old` is what the object was before.
pub(crate) fn evaluate(new: &Value, old: Option<&Value>, root: &Node) -> FieldErrors {
    let mut evaluation = Evaluation { budget: Some(cel::PER_REQUEST_LIMIT), errors: FieldErrors::new() };
    let before = Before { value: old, unchanged: old == Some(new) };
    evaluation.walk(new, before, root, &Path::default());
    evaluation.errors
}

/// A path as errors name it: the object itself has none.
fn shown(path: &Path) -> Path {
    if path.as_str().is_empty() { Path::new("<nil>") } else { path.clone() }
}

/// The type as errors name it.
fn type_name(node: &Node) -> &'static str {
    node.kind.map_or("", |kind| kind.name())
}

impl Evaluation {
    fn invalid(&mut self, path: &Path, node: &Node, why: impl Into<String>) {
        self.errors.invalid(&shown(path), type_name(node), why.into());
    }

    fn walk(&mut self, new: &Value, before: Before<'_>, node: &Node, path: &Path) {
        if !node.has_rules || new.is_null() || self.budget.is_none() {
            return;
        }
        if let Some(rules) = node.rules.as_deref() {
            self.rules(rules, new, before, node, path);
        }
        let below = |old: Option<&'_ Value>, new: &Value| old.is_some_and(|old| old == new) || before.unchanged;
        match new {
            Value::Object(map) => {
                let correlated = before.value.filter(|_| !node.map_atomic);
                for (name, value) in map {
                    let old = correlated.and_then(|old| old.get(name));
                    let before = Before { value: old, unchanged: below(old, value) };
                    if let Some(node) = node.property(name) {
                        self.walk(value, before, node, &path.child(name));
                    } else if let Some(node) = node.values() {
                        self.walk(value, before, node, &path.key(name));
                    }
                }
            }
            Value::Array(items) => {
                let Some(of) = node.items.as_deref() else { return };
                for (index, item) in items.iter().enumerate() {
                    let old = correlate(item, before.value, node);
                    let before = Before { value: old, unchanged: below(old, item) };
                    self.walk(item, before, of, &path.index(index));
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, rules: &Rules, new: &Value, before: Before<'_>, node: &Node, path: &Path) {
        let own = Cel::typed(new, &rules.ty);
        let old = before.value.filter(|old| !old.is_null()).map(|old| Cel::typed(old, &rules.ty));
        for rule in &rules.list {
            let uses_old = rule.program.uses("oldSelf");
            if uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            let mut variables = vec![("self", own.clone())];
            if rule.optional_old {
                variables.push(("oldSelf", Cel::Optional(old.clone().map(Arc::new))));
            } else if let Some(old) = &old {
                variables.push(("oldSelf", old.clone()));
            }
            let Some(holds) = self.holds(rule, &variables, node, path) else {
                if self.budget.is_none() {
                    return;
                }
                continue;
            };
            if holds {
                continue;
            }
            let Some(detail) = self.detail(rule, &variables, node, path) else { return };
            // what has not changed is not found fault with, unless the rule is about the change
            if uses_old || !before.unchanged {
                self.errors.0.push(failure(rule, node, path, detail));
            }
        }
    }

    /// Whether a rule holds; `None` if it could not be said, and the error is noted.
    fn holds(&mut self, rule: &Rule, variables: &[(&str, Cel<'_>)], node: &Node, path: &Path) -> Option<bool> {
        let left = self.budget?;
        let (result, cost) = rule.program.evaluate_with(&variables, cel::PER_CALL_LIMIT);
        let Some(left) = left.checked_sub(cost) else {
            self.budget = None;
            let why = "validation failed due to running out of cost budget, no further validation rules will be run";
            self.invalid(path, node, why);
            return None;
        };
        self.budget = Some(left);
        match result {
            Ok((value, _)) => Some(value.as_bool() == Some(true)),
            Err(EvalError::CostExceeded) => {
                self.budget = None;
                let why = format!(
                    "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    EvalError::CostExceeded,
                    rule.shown
                );
                self.invalid(path, node, why);
                None
            }
            Err(error) => {
                let text = error.to_string();
                let why = if text.starts_with("no such overload") {
                    format!(
                        "'{text}': call arguments did not match a supported operator, function or macro signature for \
                         rule: {}",
                        rule.shown
                    )
                } else {
                    format!("{text} evaluating rule: {}", rule.shown)
                };
                self.invalid(path, node, why);
                None
            }
        }
    }

    /// What is said of a rule that does not hold; `None` if saying it took the budget, and the error is noted.
    fn detail(&mut self, rule: &Rule, variables: &[(&str, Cel<'_>)], node: &Node, path: &Path) -> Option<String> {
        let usual = || rule.message.as_deref().map_or_else(|| format!("failed rule: {}", rule.shown), str::to_owned);
        let Some(program) = &rule.message_program else { return Some(usual()) };
        let left = self.budget?;
        let (result, cost) = program.evaluate_with(&variables, cel::PER_CALL_LIMIT);
        let Some(left) = left.checked_sub(cost) else {
            self.budget = None;
            let why = "messageExpression evaluation failed due to running out of cost budget, no further validation \
                       rules will be run";
            self.invalid(path, node, why);
            return None;
        };
        self.budget = Some(left);
        if result == Err(EvalError::CostExceeded) {
            self.budget = None;
            let why = "no further validation rules will be run due to call cost exceeds limit for messageExpression";
            self.invalid(path, node, why);
            return None;
        }
        let made = result.ok().and_then(|(value, _)| value.as_str().map(|text| text.trim().to_owned()));
        let fits = |text: &String| !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
        Some(made.filter(fits).unwrap_or_else(usual))
    }
}

fn failure(rule: &Rule, node: &Node, path: &Path, detail: String) -> FieldError {
    let path = match rule.field_path.as_deref() {
        Some(below) => path.child(below),
        None => shown(path),
    };
    let value = Value::from(type_name(node));
    let (problem, detail) = match rule.reason {
        Reason::Invalid => (Problem::Invalid(value), detail),
        Reason::Forbidden => (Problem::Forbidden, detail),
        Reason::Required => (Problem::Required, detail),
        Reason::Duplicate => (Problem::Duplicate(value), String::new()),
    };
    FieldError { path, problem, detail }
}
