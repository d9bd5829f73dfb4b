//! Expressions of webhooks and policies: what they may name, how they are compiled, and how they are evaluated for one
//! request under one budget.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::{Arc, LazyLock};

use api::admissionregistration::v1::MatchCondition;
use cel::library::authorizer::Answer;
use cel::{Environment, EvalError, ObjectType, Opaque, Program, Resolve, Type, Value};
use serde_json::Value as Json;

use super::Request;
use crate::authz::{Attributes, Authorizer, Decision, What};
use crate::{Caller, Lookup};

/// What all match conditions of one webhook or policy may cost.
pub const MATCH_BUDGET: u64 = cel::PER_REQUEST_LIMIT / 4;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The type of the variable `request`.
static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let object = |name: &str, fields: &[(&str, Type)]| {
        let fields = fields.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone()));
        Type::object(ObjectType::plain(name, fields))
    };
    let text = Type::STRING;
    let kind = object(
        "kubernetes.GroupVersionKind",
        &[("group", text.clone()), ("version", text.clone()), ("kind", text.clone())],
    );
    let resource = object(
        "kubernetes.GroupVersionResource",
        &[("group", text.clone()), ("version", text.clone()), ("resource", text.clone())],
    );
    let extra = Type::map(Type::STRING, Type::list(Type::STRING));
    let user = object(
        "kubernetes.UserInfo",
        &[("username", text.clone()), ("uid", text.clone()), ("groups", Type::list(text.clone())), ("extra", extra)],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text.clone()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text.clone()),
            ("name", text.clone()),
            ("namespace", text.clone()),
            ("operation", text),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::DYN),
        ],
    )
});

/// What expressions may name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Names {
    pub params: bool,
    pub namespace: bool,
    pub authorizer: bool,
}

/// The variables that `names` allows.
pub fn environment(names: Names) -> Environment {
    typed_environment(names, Type::DYN, Type::DYN)
}

/// The same for objects and parameters of known types.
pub fn typed_environment(names: Names, object: Type, params: Type) -> Environment {
    let mut environment = Environment::new()
        .variable("object", object.clone())
        .variable("oldObject", object)
        .variable("request", REQUEST.clone());
    if names.params {
        environment = environment.variable("params", params);
    }
    if names.namespace {
        environment = environment.variable("namespaceObject", Type::DYN);
    }
    if names.authorizer {
        environment = environment
            .variable("authorizer", Type::Opaque(Opaque::Authorizer))
            .variable("authorizer.requestResource", Type::Opaque(Opaque::ResourceCheck));
    }
    environment
}

/// An expression, compiled if it could be.
#[derive(Debug)]
pub struct Expression {
    pub text: String,
    program: Result<Program, String>,
}

impl Expression {
    /// Compiles; a result of another type than `wanted` is an error.
    pub fn compile(environment: &Environment, text: &str, wanted: &[Type]) -> Self {
        let program = environment.compile(text).map_err(|error| format!("compilation failed: {error}"));
        let program = program.and_then(|program| {
            let own = program.result_type();
            if wanted.is_empty() || matches!(own, Type::Dyn(_)) || wanted.iter().any(|one| one == own) {
                return Ok(program);
            }
            let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            Err(match names.as_slice() {
                [one] => format!("must evaluate to {one}"),
                many => format!("must evaluate to one of [{}]", many.join(" ")),
            })
        });
        Self { text: text.to_owned(), program }
    }

    /// The type it has, if it was compiled.
    pub fn result_type(&self) -> Type {
        self.program.as_ref().map_or(Type::DYN, |program| program.result_type().clone())
    }

    /// Why it could not be compiled.
    pub fn error(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }
}

/// A named expression that later ones use as `variables.NAME`.
#[derive(Debug)]
pub struct Variable {
    /// `variables.NAME`.
    full_name: String,
    pub expression: Expression,
}

/// Compiles variables in their order; each knows those before it. What comes out knows all.
pub fn variables<'a>(
    mut environment: Environment,
    list: impl Iterator<Item = (&'a str, &'a str)>,
) -> (Environment, Vec<Variable>) {
    let (mut out, mut fields): (Vec<Variable>, Vec<(String, Type)>) = (Vec::new(), Vec::new());
    environment = environment.variable("variables", Type::object(ObjectType::new("kubernetes.variables", [])));
    for (name, text) in list {
        let expression = Expression::compile(&environment, text, &[]);
        let full_name = format!("variables.{name}");
        fields.push((name.to_owned(), expression.result_type()));
        environment = environment
            .variable(full_name.clone(), expression.result_type())
            .variable("variables", Type::object(ObjectType::new("kubernetes.variables", fields.clone())));
        out.push(Variable { full_name, expression });
    }
    (environment, out)
}

/// What the expressions of one request see.
#[derive(Debug, Default)]
pub struct Input {
    pub object: Json,
    pub old: Json,
    pub request: Json,
    pub namespace: Json,
    pub params: Json,
    pub asker: Option<Arc<Asker>>,
}

/// Evaluates expressions of one request; what variables are is found out at most once.
pub struct Scope<'a> {
    input: &'a Input,
    variables: &'a [Variable],
    values: RefCell<Vec<Option<Result<Value<'a>, EvalError>>>>,
    budget: Cell<u64>,
}

impl<'a> Scope<'a> {
    pub fn new(input: &'a Input, variables: &'a [Variable], budget: u64) -> Self {
        let values = RefCell::new(vec![None; variables.len()]);
        Self { input, variables, values, budget: Cell::new(budget) }
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn evaluate(&self, expression: &Expression) -> Result<Value<'a>, String> {
        let failed = |why: &dyn fmt::Display| format!("expression '{}' resulted in error: {why}", expression.text);
        let program = expression.program.as_ref().map_err(|why| failed(&why))?;
        self.run(program).map_err(|error| match error {
            EvalError::CostExceeded if self.budget.get() == 0 => OUT_OF_BUDGET.to_owned(),
            error => failed(&error),
        })
    }

    fn run(&self, program: &Program) -> Result<Value<'a>, EvalError> {
        let allowed = self.budget.get().min(cel::PER_CALL_LIMIT);
        let (result, cost) = program.evaluate_with(self, allowed);
        // Variables that were reached have paid for themselves.
        self.budget.set(self.budget.get().saturating_sub(cost));
        result.map(|(value, _)| value)
    }

    fn variable(&self, at: usize) -> Result<Value<'a>, EvalError> {
        if let Some(known) = &self.values.borrow()[at] {
            return known.clone();
        }
        let value = match &self.variables[at].expression.program {
            Ok(program) => self.run(program),
            Err(why) => Err(EvalError::runtime(format!("composited variable fails to compile: {why}"))),
        };
        self.values.borrow_mut()[at] = Some(value.clone());
        value
    }
}

impl<'a> Resolve<'a> for Scope<'a> {
    fn get(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        let input = self.input;
        Some(Ok(match name {
            "object" => Value::json(&input.object),
            "oldObject" => Value::json(&input.old),
            "request" => Value::typed(&input.request, &REQUEST),
            "namespaceObject" => Value::json(&input.namespace),
            "params" => Value::json(&input.params),
            "authorizer" => Value::authorizer(input.asker.clone()?),
            "authorizer.requestResource" => {
                let asker = input.asker.clone()?;
                let resource = asker.resource.clone();
                Value::resource_check(asker, resource)
            }
            name => {
                let at = self.variables.iter().position(|variable| variable.full_name == name)?;
                return Some(self.variable(at));
            }
        }))
    }
}

/// Asks the server's authorizers for expressions.
pub struct Asker {
    authorizer: Arc<dyn Authorizer>,
    lookup: Lookup,
    caller: Arc<Caller>,
    resource: cel::Request,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("caller", &self.caller.name).finish_non_exhaustive()
    }
}

impl Asker {
    pub fn of(request: &Request<'_>) -> Arc<Self> {
        let resource = cel::Request {
            group: request.group.to_owned(),
            resource: request.resource.to_owned(),
            subresource: request.subresource.to_owned(),
            namespace: request.namespace.to_owned(),
            name: request.name.to_owned(),
            ..Default::default()
        };
        Arc::new(Self {
            authorizer: request.server.options().authorizer.clone(),
            lookup: request.lookup().clone(),
            caller: request.caller.clone(),
            resource,
        })
    }
}

impl cel::Authorizer for Asker {
    fn check(&self, asked: &cel::Request) -> Answer {
        let account = asked.service_account.as_ref().map(|(namespace, name)| {
            let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
            Caller::new(format!("system:serviceaccount:{namespace}:{name}"), &groups)
        });
        let what = match &asked.path {
            Some(path) => What::Path(path),
            None => What::Resource {
                group: &asked.group,
                version: "*",
                resource: &asked.resource,
                subresource: &asked.subresource,
                namespace: &asked.namespace,
                name: &asked.name,
                field_selector: asked.field_selector.as_deref(),
                label_selector: asked.label_selector.as_deref(),
            },
        };
        let caller = account.as_ref().unwrap_or(&self.caller);
        match self.authorizer.authorize(&Attributes { caller, verb: &asked.verb, what }, &self.lookup) {
            Decision::Allow(reason) => Answer { allowed: true, reason, error: None },
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Answer { allowed: false, reason, error: None },
            Decision::Failed { why, .. } => Answer { allowed: false, reason: String::new(), error: Some(why) },
        }
    }
}

/// Conditions that must all hold for a webhook or policy to be asked.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Expression>);

impl Conditions {
    pub fn compile(environment: &Environment, list: Option<&Vec<MatchCondition>>) -> Self {
        let compile = |one: &MatchCondition| Expression::compile(environment, &one.expression, &[Type::Bool]);
        Self(list.into_iter().flatten().map(compile).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that is false decides, whatever the others do.
    ///
    /// # Errors
    /// What could not be evaluated.
    pub fn hold(&self, scope: &Scope<'_>) -> Result<bool, String> {
        let mut errors: Vec<String> = Vec::new();
        for condition in &self.0 {
            match scope.evaluate(condition) {
                Ok(value) if value.as_bool() == Some(false) => return Ok(false),
                Ok(_) => {}
                Err(why) if errors.contains(&why) => {}
                Err(why) => errors.push(why),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_namespace() {
        let environment = environment(Names::default());
        let input = Input { request: serde_json::json!({"namespace": "a"}), ..Input::default() };
        let expression = Expression::compile(&environment, "request.namespace == 'a'", &[Type::Bool]);
        let scope = Scope::new(&input, &[], MATCH_BUDGET);
        assert_eq!(scope.evaluate(&expression).map(|value| value.as_bool()), Ok(Some(true)));
    }
}
