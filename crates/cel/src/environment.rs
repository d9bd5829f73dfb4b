//! What an expression may name, and compiling one against it.

use std::collections::{BTreeMap, HashMap};

use crate::check;
use crate::cost::CostEstimate;
use crate::error::{CompileError, EvalError};
use crate::evaluate::Evaluation;
use crate::node::{Node, NodeKind};
use crate::parse;
use crate::types::{Field, ObjectType, Type};
use crate::value::Value;

/// The variables an expression may use. The functions are Kubernetes' whole set, always.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: HashMap<String, Type>,
    mutation: bool,
}

/// A compiled expression; may be evaluated any number of times, from any thread.
#[derive(Debug)]
pub struct Program {
    root: Node,
    variables: Vec<String>,
    slots: usize,
}

/// Where an evaluation finds its variables. Each is asked for once an evaluation, and only when it is reached.
pub trait Resolve<'a> {
    fn get(&self, name: &str) -> Option<Result<Value<'a>, EvalError>>;
}

impl Environment {
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a variable. A dotted name (`variables.x`) is a variable of its own, which [`Resolve`] is asked for
    /// by the whole name; declare `variables` as an object too, for the message about a field that is not there.
    pub fn variable(mut self, name: impl Into<String>, ty: Type) -> Self {
        self.variables.insert(name.into(), ty);
        self
    }

    /// Allows `Object{...}`, `Object.spec{...}` and `JSONPatch{...}`, as mutations are written.
    pub fn mutation(mut self) -> Self {
        self.mutation = true;
        self
    }

    pub(crate) fn declared(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    /// The type that `Name{...}` makes.
    pub(crate) fn constructible(&self, name: &str) -> Option<ObjectType> {
        if !self.mutation {
            return None;
        }
        if name == "JSONPatch" {
            let field = |json: &str, ty| (json.to_owned(), Field { json: json.to_owned(), ty });
            let text = |json| field(json, Type::STRING);
            let fields = BTreeMap::from([text("op"), text("path"), text("from"), field("value", Type::DYN)]);
            return Some(ObjectType { name: name.to_owned(), fields, open: false });
        }
        let object = name == "Object" || name.starts_with("Object.");
        object.then(|| ObjectType { name: name.to_owned(), fields: BTreeMap::new(), open: true })
    }

    /// Parses and checks an expression.
    pub fn compile(&self, text: &str) -> Result<Program, CompileError> {
        let failed = |places| CompileError::new(text, places);
        let expr = parse::parse(text).map_err(failed)?;
        let (root, checker) = check::check(self, &expr).map_err(failed)?;
        let (variables, slots) = (checker.variables, checker.slots);
        Ok(Program { root, variables, slots })
    }
}

impl Program {
    pub fn result_type(&self) -> &Type {
        &self.root.ty
    }

    /// Whether the expression reads this variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.iter().any(|name| name == variable)
    }

    /// Whether this field of a variable is selected by name anywhere (`claims.email`, `claims.?email`).
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        crate::walk::any(&self.root, &mut |node| match &node.kind {
            NodeKind::Select { operand, plain, .. } => {
                matches!(operand.kind, NodeKind::Variable { index, .. } if self.variables[index] == variable)
                    && **plain == *field
            }
            _ => false,
        })
    }

    /// All variables the expression reads.
    pub fn variables(&self) -> &[String] {
        &self.variables
    }

    /// What an evaluation may cost, given the bounds that the declared types state.
    pub fn estimated_cost(&self) -> CostEstimate {
        crate::cost::estimate(&self.root, &self.variables)
    }

    /// The value and what it cost, with these variables.
    pub fn evaluate<'a>(&self, variables: &[(&str, Value<'a>)], budget: u64) -> Result<(Value<'a>, u64), EvalError> {
        self.evaluate_with(&variables, budget).0
    }

    /// As [`Program::evaluate`]; what it cost is told of failures, too.
    pub fn evaluate_with<'a>(
        &self,
        resolve: &dyn Resolve<'a>,
        budget: u64,
    ) -> (Result<(Value<'a>, u64), EvalError>, u64) {
        let mut evaluation = Evaluation::new(resolve, &self.variables, self.slots, budget);
        let result = evaluation.value(&self.root);
        let cost = evaluation.cost();
        (result.map(|value| (value, cost)), cost)
    }
}

impl<'a> Resolve<'a> for &[(&str, Value<'a>)] {
    fn get(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| Ok(value.clone()))
    }
}
