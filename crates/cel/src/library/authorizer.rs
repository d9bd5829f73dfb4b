//! Questions to the authorizer: built step by step, answered by whoever the caller brought.

use std::fmt;
use std::sync::Arc;

use super::text;
use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::types::Opaque;
use crate::value::{Thing, Value};

/// Answers whether a request would be allowed.
pub trait Authorizer: fmt::Debug + Send + Sync {
    fn check(&self, request: &Request) -> Answer;
}

/// What is asked. With a path it is about no resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub verb: String,
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
    /// Namespace and name of the account to ask for, in place of the user of the request.
    pub service_account: Option<(String, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    pub reason: String,
    /// Why the authorizer could not tell.
    pub error: Option<String>,
}

/// How far a question has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

impl Stage {
    pub(crate) fn opaque(self) -> Opaque {
        match self {
            Stage::Authorizer => Opaque::Authorizer,
            Stage::Path => Opaque::PathCheck,
            Stage::Group => Opaque::GroupCheck,
            Stage::Resource => Opaque::ResourceCheck,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Check {
    pub authorizer: Arc<dyn Authorizer>,
    pub stage: Stage,
    pub request: Request,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision(pub Answer);

impl Value<'_> {
    /// A question about a resource that is asked already but for its verb (`authorizer.requestResource`).
    pub fn resource_check(authorizer: Arc<dyn Authorizer>, request: Request) -> Self {
        Value::thing(Thing::Check(Check { authorizer, stage: Stage::Resource, request }))
    }
}

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("path authorizer_path Authorizer.(string) PathCheck", |args| {
        let path = text(args, 1)?;
        if path.is_empty() {
            return Err(EvalError::runtime("path must not be empty"));
        }
        next(args, Stage::Path, |request| request.path = Some(path.to_owned()))
    }),
    ("group authorizer_group Authorizer.(string) GroupCheck", |args| {
        let group = text(args, 1)?;
        next(args, Stage::Group, |request| request.group = group.to_owned())
    }),
    ("serviceAccount authorizer_serviceaccount Authorizer.(string,string) Authorizer", service_account),
    ("resource groupcheck_resource GroupCheck.(string) ResourceCheck", |args| {
        let resource = text(args, 1)?;
        next(args, Stage::Resource, |request| request.resource = resource.to_owned())
    }),
    ("subresource resourcecheck_subresource ResourceCheck.(string) ResourceCheck", |args| {
        let subresource = text(args, 1)?;
        next(args, Stage::Resource, |request| request.subresource = subresource.to_owned())
    }),
    ("namespace resourcecheck_namespace ResourceCheck.(string) ResourceCheck", |args| {
        let namespace = text(args, 1)?;
        next(args, Stage::Resource, |request| request.namespace = namespace.to_owned())
    }),
    ("name resourcecheck_name ResourceCheck.(string) ResourceCheck", |args| {
        let name = text(args, 1)?;
        next(args, Stage::Resource, |request| request.name = name.to_owned())
    }),
    ("fieldSelector authorizer_fieldselector ResourceCheck.(string) ResourceCheck", |args| {
        let selector = text(args, 1)?;
        next(args, Stage::Resource, |request| request.field_selector = Some(selector.to_owned()))
    }),
    ("labelSelector authorizer_labelselector ResourceCheck.(string) ResourceCheck", |args| {
        let selector = text(args, 1)?;
        next(args, Stage::Resource, |request| request.label_selector = Some(selector.to_owned()))
    }),
    ("check pathcheck_check PathCheck.(string) Decision", check),
    ("check resourcecheck_check ResourceCheck.(string) Decision", check),
    ("allowed decision_allowed Decision.() bool", |args| Ok(Value::Bool(decision(args)?.allowed))),
    ("reason decision_reason Decision.() string", |args| Ok(Value::string(decision(args)?.reason.as_str()))),
    ("errored decision_errored Decision.() bool", |args| Ok(Value::Bool(decision(args)?.error.is_some()))),
    ("error decision_error Decision.() string", |args| {
        Ok(Value::string(decision(args)?.error.as_deref().unwrap_or("")))
    }),
];

fn check_of(args: &[Value<'_>]) -> Result<Check, EvalError> {
    let Some(Value::Opaque(thing)) = args.first() else { return Err(EvalError::no_overload()) };
    match &**thing {
        Thing::Authorizer(authorizer) => {
            Ok(Check { authorizer: authorizer.clone(), stage: Stage::Authorizer, request: Request::default() })
        }
        Thing::Check(check) => Ok(check.clone()),
        _ => Err(EvalError::no_overload()),
    }
}

fn next<'a>(args: &[Value<'a>], stage: Stage, set: impl FnOnce(&mut Request)) -> Outcome<'a> {
    let mut check = check_of(args)?;
    let from = match stage {
        Stage::Authorizer | Stage::Path | Stage::Group => &[Stage::Authorizer][..],
        Stage::Resource => &[Stage::Group, Stage::Resource][..],
    };
    if !from.contains(&check.stage) {
        return Err(EvalError::no_overload());
    }
    check.stage = stage;
    set(&mut check.request);
    Ok(Value::thing(Thing::Check(check)))
}

fn service_account<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (namespace, name) = (text(args, 1)?, text(args, 2)?);
    for (what, problems) in
        [("name", api::name::dns1123_subdomain(name, false)), ("namespace", api::name::dns1123_label(namespace, false))]
    {
        if !problems.is_empty() {
            return Err(EvalError::runtime(format!("Invalid service account {what}")));
        }
    }
    next(args, Stage::Authorizer, |request| request.service_account = Some((namespace.to_owned(), name.to_owned())))
}

fn check<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let mut check = check_of(args)?;
    if !matches!(check.stage, Stage::Path | Stage::Resource) {
        return Err(EvalError::no_overload());
    }
    check.request.verb = text(args, 1)?.to_owned();
    Ok(Value::thing(Thing::Decision(Decision(check.authorizer.check(&check.request)))))
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Answer, EvalError> {
    match args.first() {
        Some(Value::Opaque(thing)) => match &**thing {
            Thing::Decision(Decision(answer)) => Ok(answer),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}
