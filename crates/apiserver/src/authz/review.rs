//! Answers to SubjectAccessReview and its kin.
//!
//! Upstream: pkg/registry/authorization, pkg/apis/authorization/validation.

use api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, NonResourceRule, ResourceAttributes, ResourceRule,
    SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview, SubjectAccessReviewSpec,
    SubjectAccessReviewStatus, SubjectRulesReviewStatus,
};
use api::meta::v1::{FieldSelectorRequirement, LabelSelectorRequirement};
use api::{FieldErrors, Path, Status, Typed};

use super::{Attributes, Decision, What, rule};
use crate::{Caller, Server};

/// Fills in the status of a SubjectAccessReview.
///
/// # Errors
/// 422 if the question is malformed.
pub async fn subject(server: &Server, review: &mut SubjectAccessReview) -> Result<(), Status> {
    invalid::<SubjectAccessReview>(validate_spec(&review.spec))?;
    review.status = Some(decide_for(server, &review.spec).await);
    Ok(())
}

/// Fills in the status of a LocalSubjectAccessReview made in `namespace`.
///
/// # Errors
/// 422 if the question is malformed or about another namespace.
pub async fn local(server: &Server, namespace: &str, review: &mut LocalSubjectAccessReview) -> Result<(), Status> {
    let mut errors = validate_spec(&review.spec);
    let spec = Path::new("spec");
    if let Some(resource) = &review.spec.resource_attributes
        && text(&resource.namespace) != namespace
    {
        let path = spec.child("resourceAttributes").child("namespace");
        errors.invalid(&path, text(&resource.namespace), "must match metadata.namespace");
    }
    if review.spec.non_resource_attributes.is_some() {
        let path = spec.child("nonResourceAttributes");
        errors.invalid(&path, serde_json::Value::Null, "disallowed on this kind of request");
    }
    invalid::<LocalSubjectAccessReview>(errors)?;
    review.status = Some(decide_for(server, &review.spec).await);
    Ok(())
}

/// Fills in the status of a SelfSubjectAccessReview.
///
/// # Errors
/// 422 if the question is malformed.
pub async fn own(server: &Server, caller: &Caller, review: &mut SelfSubjectAccessReview) -> Result<(), Status> {
    let (resource, path) = (&review.spec.resource_attributes, &review.spec.non_resource_attributes);
    invalid::<SelfSubjectAccessReview>(validate_attributes(resource.as_ref(), path.as_ref()))?;
    review.status = Some(decide(server, caller, resource.as_ref(), path.as_ref()).await);
    Ok(())
}

/// Fills in the status of a SelfSubjectRulesReview.
///
/// # Errors
/// 400 without a namespace.
pub fn own_rules(server: &Server, caller: &Caller, review: &mut SelfSubjectRulesReview) -> Result<(), Status> {
    let namespace = text(&review.spec.namespace);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let found = server.options().authorizer.rules(caller, namespace, server.lookup());
    let mut status = SubjectRulesReviewStatus {
        incomplete: found.incomplete,
        evaluation_error: (!found.errors.is_empty()).then(|| rule::aggregate(&found.errors)),
        ..Default::default()
    };
    for rule in found.rules {
        if rule.resources.as_ref().is_some_and(|list| !list.is_empty()) {
            status.resource_rules.push(ResourceRule {
                api_groups: rule.api_groups,
                resource_names: rule.resource_names,
                resources: rule.resources,
                verbs: rule.verbs.clone(),
            });
        }
        if rule.non_resource_urls.as_ref().is_some_and(|list| !list.is_empty()) {
            let non_resource_urls = rule.non_resource_urls;
            status.non_resource_rules.push(NonResourceRule { non_resource_urls, verbs: rule.verbs });
        }
    }
    review.status = Some(status);
    Ok(())
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

fn invalid<T: Typed>(errors: FieldErrors) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(T::KIND.group, T::KIND.kind, "", &errors)) }
}

fn validate_spec(spec: &SubjectAccessReviewSpec) -> FieldErrors {
    let mut errors = validate_attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    if text(&spec.user).is_empty() && spec.groups.as_ref().is_none_or(Vec::is_empty) {
        let path = Path::new("spec").child("user");
        errors.invalid(&path, text(&spec.user), "at least one of user or group must be specified");
    }
    errors
}

fn validate_attributes(resource: Option<&ResourceAttributes>, path: Option<&NonResourceAttributes>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let spec = Path::new("spec");
    match (resource, path) {
        (Some(_), Some(_)) => errors.invalid(
            &spec.child("nonResourceAttributes"),
            serde_json::Value::Null,
            "cannot be specified in combination with resourceAttributes",
        ),
        (None, None) => errors.invalid(
            &spec.child("resourceAttributes"),
            serde_json::Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
    errors
}

async fn decide_for(server: &Server, spec: &SubjectAccessReviewSpec) -> SubjectAccessReviewStatus {
    let caller = Caller {
        name: text(&spec.user).to_owned(),
        uid: text(&spec.uid).to_owned(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    };
    decide(server, &caller, spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref()).await
}

async fn decide(
    server: &Server,
    caller: &Caller,
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
) -> SubjectAccessReviewStatus {
    let (fields, labels) = resource.map_or((None, None), selectors);
    let (verb, what) = match (resource, path) {
        (Some(resource), _) => {
            let what = What::Resource {
                group: text(&resource.group),
                version: resource.version.as_deref().filter(|version| !version.is_empty()).unwrap_or("*"),
                resource: text(&resource.resource),
                subresource: text(&resource.subresource),
                namespace: text(&resource.namespace),
                name: text(&resource.name),
                field_selector: fields.as_deref(),
                label_selector: labels.as_deref(),
            };
            (text(&resource.verb), what)
        }
        (None, Some(path)) => (text(&path.verb), What::Path(text(&path.path))),
        (None, None) => ("", What::Path("")),
    };
    let attributes = Attributes { caller, verb, what };
    let decision = server.options().authorizer.ask(&attributes, server.lookup()).await;
    let mut evaluation_error = None;
    let (allowed, denied, reason) = match decision {
        Decision::Allow(reason) => (true, false, reason),
        Decision::Deny(reason) => (false, true, reason),
        Decision::NoOpinion(reason) => (false, false, reason),
        Decision::Failed { why, denies } => {
            evaluation_error = Some(why);
            (false, denies, String::new())
        }
    };
    SubjectAccessReviewStatus {
        allowed,
        denied: denied.then_some(true),
        reason: (!reason.is_empty()).then_some(reason),
        evaluation_error,
    }
}

/// The field and the label selector in their text form.
fn selectors(resource: &ResourceAttributes) -> (Option<String>, Option<String>) {
    let fields = resource.field_selector.as_ref().and_then(|own| match text(&own.raw_selector) {
        "" => joined(own.requirements.iter().flatten().filter_map(field_term)),
        raw => Some(raw.to_owned()),
    });
    let labels = resource.label_selector.as_ref().and_then(|own| match text(&own.raw_selector) {
        "" => joined(own.requirements.iter().flatten().filter_map(label_term)),
        raw => Some(raw.to_owned()),
    });
    (fields, labels)
}

fn joined(terms: impl Iterator<Item = String>) -> Option<String> {
    let terms: Vec<String> = terms.collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

fn field_term(term: &FieldSelectorRequirement) -> Option<String> {
    let [value] = term.values.as_deref()? else { return None };
    match term.operator.as_str() {
        "In" => Some(format!("{}={value}", term.key)),
        "NotIn" => Some(format!("{}!={value}", term.key)),
        _ => None,
    }
}

fn label_term(term: &LabelSelectorRequirement) -> Option<String> {
    let values = term.values.as_deref().unwrap_or_default().join(",");
    match term.operator.as_str() {
        "In" => Some(format!("{} in ({values})", term.key)),
        "NotIn" => Some(format!("{} notin ({values})", term.key)),
        "Exists" => Some(term.key.clone()),
        "DoesNotExist" => Some(format!("!{}", term.key)),
        _ => None,
    }
}
