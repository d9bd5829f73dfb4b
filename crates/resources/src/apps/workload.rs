//! What kinds that make pods from a template share: the template against the selector, and columns.

use std::collections::BTreeMap;

use api::core::v1::{Container, PodTemplateSpec};
use api::field::{FieldErrors, Path};
use api::meta::v1;
use api::{IntOrString, LabelSelector};
use serde_json::Value;

use crate::checks;
use crate::core::pod_template;

/// The template of a kind whose pods always restart: valid, and matched by the selector.
pub fn validate_template(
    errors: &mut FieldErrors,
    path: &Path,
    template: &PodTemplateSpec,
    selector: &LabelSelector,
    kind: &str,
) {
    validate_match(errors, path, template, selector);
    pod_template::validate_template(errors, path, template);
    validate_endless(errors, path, template, kind);
}

/// The template's labels are what the selector selects.
pub fn validate_match(errors: &mut FieldErrors, path: &Path, template: &PodTemplateSpec, selector: &LabelSelector) {
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let selects_something = !selector.is_nothing() && !selector.is_everything();
    if selects_something && !selector.matches(&labels) {
        let path = path.child("metadata").child("labels");
        errors.invalid(&path, checks::shown(&labels), "`selector` does not match template `labels`");
    }
}

/// The template's pods always restart, and have no deadline.
pub fn validate_endless(errors: &mut FieldErrors, path: &Path, template: &PodTemplateSpec, kind: &str) {
    let spec = template.spec.as_ref();
    let policy = spec.and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default();
    let spec_path = path.child("spec");
    if policy != "Always" {
        errors.not_supported(&spec_path.child("restartPolicy"), policy, &["Always"]);
    }
    if spec.is_some_and(|spec| spec.active_deadline_seconds.is_some()) {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&spec_path.child("activeDeadlineSeconds"), why);
    }
}

/// A selector that must select something; the parsed one if it can be parsed.
pub fn validate_selector(
    errors: &mut FieldErrors,
    path: &Path,
    selector: &v1::LabelSelector,
    kind: &str,
) -> Option<LabelSelector> {
    checks::label_selector(errors, path, Some(selector));
    if checks::is_empty_selector(selector) {
        errors.invalid(path, checks::shown(selector), format!("empty selector is invalid for {kind}"));
    }
    let parsed = LabelSelector::from_api(Some(selector));
    if parsed.is_err() {
        errors.invalid(path, checks::shown(selector), "invalid label selector");
    }
    parsed.ok()
}

/// Counts of a status that may not exceed others.
pub fn validate_counts(errors: &mut FieldErrors, path: &Path, counts: &[(&str, i32)], all: i32, ready: i32) {
    for (name, count) in counts {
        checks::not_negative(errors, &path.child(name), i64::from(*count));
    }
    for (name, count) in counts.iter().filter(|(name, count)| *name != "replicas" && *count > all) {
        errors.invalid(&path.child(name), *count, "cannot be greater than status.replicas");
    }
    for (name, count) in counts.iter().filter(|(name, count)| *name == "availableReplicas" && *count > ready) {
        errors.invalid(&path.child(name), *count, "cannot be greater than readyReplicas");
    }
}

/// A collision count that is not negative and does not fall.
pub fn validate_collisions(errors: &mut FieldErrors, path: &Path, count: Option<i32>, before: Option<i32>) {
    let path = path.child("collisionCount");
    checks::not_negative(errors, &path, i64::from(count.unwrap_or_default()));
    if before.is_some_and(|before| count.is_none_or(|now| now < before)) {
        errors.invalid(&path, count.unwrap_or_default(), "cannot be decremented");
    }
}

/// The number in a count or a percentage; 0 if there is none.
pub fn number(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => checks::percentage(text).unwrap_or_else(|| text.parse().unwrap_or_default()),
    }
}

/// A pod template's defaults.
pub fn default_template(template: &mut PodTemplateSpec) {
    template.metadata.get_or_insert_default();
    pod_template::defaults::default_spec(template.spec.get_or_insert_default());
}

fn joined(template: &PodTemplateSpec, text: impl Fn(&Container) -> String) -> Value {
    let containers = template.spec.iter().flat_map(|spec| &spec.containers);
    Value::from(containers.map(text).collect::<Vec<_>>().join(","))
}

/// The names of the template's containers.
pub fn container_names(template: &PodTemplateSpec) -> Value {
    joined(template, |container| container.name.clone())
}

/// The images of the template's containers.
pub fn images(template: &PodTemplateSpec) -> Value {
    joined(template, |container| container.image.clone().unwrap_or_default())
}

/// A selector as the Selector column shows it.
pub fn selector_text(selector: Option<&v1::LabelSelector>) -> String {
    match LabelSelector::from_api(selector) {
        Err(_) => "<error>".to_owned(),
        Ok(selector) => match selector.to_string() {
            text if text.is_empty() => "<none>".to_owned(),
            text => text,
        },
    }
}

/// Labels as a column shows them: `a=b,c=d`.
pub fn labels_text(labels: Option<&BTreeMap<String, String>>) -> String {
    let labels = labels.into_iter().flatten();
    match labels.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",") {
        text if text.is_empty() => "<none>".to_owned(),
        text => text,
    }
}

/// A selector in the text form of list requests, for `status.selector` of a scale.
pub fn scale_selector(selector: Option<&v1::LabelSelector>) -> String {
    LabelSelector::from_api(selector).map(|selector| selector.to_string()).unwrap_or_default()
}
