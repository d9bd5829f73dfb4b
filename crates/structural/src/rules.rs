//! `x-kubernetes-validations`: rules in CEL, compiled with the types of their schema.

mod check;
mod evaluate;
mod field_path;
mod types;

use api::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule};
use cel::{CompileError, Environment, Program, Type};

use crate::node::{Additional, Node};

pub(crate) use check::{Costs, check};
pub(crate) use evaluate::evaluate;
pub(crate) use types::root as declared_type;

/// The rules of one place of a schema.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What `self` is.
    ty: Type,
    list: Box<[Rule]>,
}

#[derive(Debug)]
struct Rule {
    /// For messages, if the rule brings none.
    shown: Box<str>,
    message: Option<Box<str>>,
    reason: Reason,
    field_path: Option<Box<str>>,
    optional_old: bool,
    program: Program,
    message_program: Option<Program>,
}

#[derive(Debug, Clone, Copy)]
enum Reason {
    Invalid,
    Forbidden,
    Required,
    Duplicate,
}

const REASONS: [(&str, Reason); 4] = [
    ("FieldValueRequired", Reason::Required),
    ("FieldValueInvalid", Reason::Invalid),
    ("FieldValueForbidden", Reason::Forbidden),
    ("FieldValueDuplicate", Reason::Duplicate),
];

/// A rule's expressions, or why they are none.
struct Compiled {
    program: Result<Program, String>,
    message: Option<Result<Program, String>>,
}

fn compile(environment: &Environment, text: &str, wanted: &Type, otherwise: &str) -> Result<Program, String> {
    let program = environment.compile(text).map_err(|error: CompileError| format!("compilation failed: {error}"))?;
    let own = program.result_type();
    if own == wanted || own.is_dyn() { Ok(program) } else { Err(otherwise.to_owned()) }
}

fn has_text(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

impl Compiled {
    fn new(rule: &ValidationRule, ty: &Type) -> Self {
        let old = match rule.optional_old_self {
            Some(true) => Type::optional(ty.clone()),
            _ => ty.clone(),
        };
        let environment = Environment::new().variable("self", ty.clone()).variable("oldSelf", old);
        let program = compile(&environment, &rule.rule, &Type::Bool, "cel expression must evaluate to a bool");
        let message = has_text(rule.message_expression.as_deref()).map(|text| {
            let compiled = compile(&environment, text, &Type::STRING, "messageExpression must evaluate to a string");
            compiled.map_err(|why| match why.strip_prefix("compilation failed") {
                Some(rest) => format!("messageExpression compilation failed{rest}"),
                None => why,
            })
        });
        Self { program, message }
    }
}

/// The schemas below one, each with the compiled form of it.
fn below<'a>(node: &'a mut Node, props: &'a JSONSchemaProps) -> Vec<(&'a mut Node, &'a JSONSchemaProps)> {
    let mut found: Vec<(&mut Node, &JSONSchemaProps)> = Vec::new();
    for (name, below) in &mut node.properties {
        let props = props.properties.as_ref().and_then(|properties| properties.get(&**name));
        found.extend(props.map(|props| (below, props)));
    }
    if let (Some(items), Some(JSONSchemaPropsOrArray::Schema(props))) = (node.items.as_deref_mut(), &props.items) {
        found.push((items, props));
    }
    if let (Some(Additional::Of(values)), Some(JSONSchemaPropsOrBool::Schema(props))) =
        (node.additional.as_deref_mut(), &props.additional_properties)
    {
        found.push((values, props));
    }
    found
}

/// Compiles the rules of a schema and of all below it. Those that do not compile were refused when the definition was
/// written.
pub(crate) fn attach(node: &mut Node, props: &JSONSchemaProps, is_root: bool) {
    let mut below_it = false;
    for (node, props) in below(node, props) {
        attach(node, props, false);
        below_it |= node.has_rules;
    }
    let all = props.x_kubernetes_validations.as_deref().unwrap_or_default();
    if !all.is_empty()
        && let Some(ty) = types::of(node, "selfType", is_root || node.embedded)
    {
        let list: Box<[Rule]> = all.iter().filter_map(|rule| Rule::new(rule, &ty, node)).collect();
        node.rules = Some(Box::new(Rules { ty, list }));
    }
    node.has_rules = below_it || node.rules.is_some();
}

impl Rule {
    fn new(rule: &ValidationRule, ty: &Type, node: &Node) -> Option<Self> {
        let compiled = Compiled::new(rule, ty);
        let reason = rule.reason.as_deref().unwrap_or("FieldValueInvalid");
        let message = has_text(rule.message.as_deref());
        let path = rule.field_path.as_deref().filter(|path| !path.is_empty());
        Some(Self {
            shown: message.unwrap_or(rule.rule.trim()).into(),
            message: message.map(Into::into),
            reason: REASONS.iter().find(|(name, _)| *name == reason).map_or(Reason::Invalid, |(_, reason)| *reason),
            field_path: path.and_then(|path| field_path::normalized(path, node).ok()).map(Into::into),
            optional_old: rule.optional_old_self == Some(true),
            program: compiled.program.ok()?,
            message_program: compiled.message.and_then(Result::ok),
        })
    }
}

#[cfg(test)]
mod tests;
