//! What a HorizontalPodAutoscaler may say, whichever version it was written in.

use api::Quantity;
use api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec, MetricIdentifier,
    MetricSpec, MetricTarget,
};
use api::field::{FieldErrors, Path};
use api::quantity;

use crate::checks;

const PERIOD_SECONDS_MAX: i32 = 1800;
const STABILIZATION_SECONDS_MAX: i32 = 3600;
const METRIC_TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

/// All problems of a spec.
pub fn validate_spec(errors: &mut FieldErrors, path: &Path, spec: &HorizontalPodAutoscalerSpec) {
    let most = spec.max_replicas;
    if let Some(fewest) = spec.min_replicas.filter(|fewest| *fewest < 1) {
        errors.invalid(&path.child("minReplicas"), fewest, "must be greater than or equal to 1");
    }
    if most < 1 {
        errors.invalid(&path.child("maxReplicas"), most, "must be greater than 0");
    }
    if spec.min_replicas.is_some_and(|fewest| fewest > most) {
        errors.invalid(&path.child("maxReplicas"), most, "must be greater than or equal to `minReplicas`");
    }
    validate_reference(errors, &path.child("scaleTargetRef"), &spec.scale_target_ref);
    for (index, metric) in spec.metrics.iter().flatten().enumerate() {
        validate_metric(errors, &path.child("metrics").index(index), metric);
    }
    if let Some(behavior) = &spec.behavior {
        let path = path.child("behavior");
        for (name, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
            if let Some(rules) = rules {
                validate_rules(errors, &path.child(name), rules);
            }
        }
    }
}

fn validate_reference(errors: &mut FieldErrors, path: &Path, reference: &CrossVersionObjectReference) {
    checks::required_segment(errors, &path.child("kind"), &reference.kind);
    checks::required_segment(errors, &path.child("name"), &reference.name);
    let version = reference.api_version.as_deref().unwrap_or_default();
    if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        errors.invalid(&path.child("apiVersion"), version, why);
    }
}

fn validate_metric(errors: &mut FieldErrors, path: &Path, metric: &MetricSpec) {
    match metric.type_.as_str() {
        "" => errors.required(&path.child("type"), "must specify a metric source type"),
        other if !METRIC_TYPES.contains(&other) => errors.not_supported(&path.child("type"), other, METRIC_TYPES),
        _ => {}
    }
    let mut present = [
        ("containerResource", "ContainerResource", metric.container_resource.is_some()),
        ("external", "External", metric.external.is_some()),
        ("object", "Object", metric.object.is_some()),
        ("pods", "Pods", metric.pods.is_some()),
        ("resource", "Resource", metric.resource.is_some()),
    ]
    .into_iter()
    .filter(|(.., there)| *there)
    .map(|(field, type_, _)| (field, type_))
    .collect::<Vec<_>>();
    let one = present.len() == 1;
    if one {
        validate_source(errors, path, metric);
    }
    let expected = METRIC_TYPES.iter().find(|type_| **type_ == metric.type_);
    if let Some(expected) = expected
        && !present.iter().any(|(_, type_)| type_ == expected)
    {
        let field = format!("{}{}", expected[..1].to_ascii_lowercase(), &expected[1..]);
        errors.required(&path.child(&field), "must populate information for the given metric source");
    }
    if !one {
        present.retain(|(_, type_)| *type_ != metric.type_);
        for (field, _) in present {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn validate_source(errors: &mut FieldErrors, path: &Path, metric: &MetricSpec) {
    if let Some(source) = &metric.object {
        let path = path.child("object");
        validate_reference(errors, &path.child("describedObject"), &source.described_object);
        validate_identifier(errors, &path.child("metric"), &source.metric);
        let path = validate_target(errors, &path, &source.target);
        if source.target.value.is_none() && source.target.average_value.is_none() {
            errors.required(&path.child("averageValue"), "must set either a target value or averageValue");
        }
    }
    if let Some(source) = &metric.external {
        let path = path.child("external");
        validate_identifier(errors, &path.child("metric"), &source.metric);
        let path = validate_target(errors, &path, &source.target);
        match (&source.target.value, &source.target.average_value) {
            (None, None) => {
                let why = "must set either a target value for metric or a per-pod target";
                errors.required(&path.child("averageValue"), why);
            }
            (Some(_), Some(_)) => {
                let why = "may not set both a target value for metric and a per-pod target";
                errors.forbidden(&path.child("value"), why);
            }
            _ => {}
        }
    }
    if let Some(source) = &metric.pods {
        let path = path.child("pods");
        validate_identifier(errors, &path.child("metric"), &source.metric);
        let path = validate_target(errors, &path, &source.target);
        if !source.target.average_value.as_ref().is_some_and(is_positive) {
            errors.required(&path.child("averageValue"), "must specify a positive target averageValue");
        }
    }
    if let Some(source) = &metric.container_resource {
        let path = path.child("containerResource");
        if source.container.is_empty() {
            errors.required(&path.child("container"), "must specify a container");
        }
        validate_usage(errors, &path, &source.name, &source.target);
    }
    if let Some(source) = &metric.resource {
        validate_usage(errors, &path.child("resource"), &source.name, &source.target);
    }
}

/// A resource that pods use: aimed at as a share of what they ask for, or as an amount.
fn validate_usage(errors: &mut FieldErrors, path: &Path, name: &str, target: &MetricTarget) {
    if name.is_empty() {
        errors.required(&path.child("name"), "must specify a resource name");
    }
    let path = validate_target(errors, path, target);
    match (target.average_utilization, &target.average_value) {
        (None, None) => {
            let why = "must set either a target raw value or a target utilization";
            errors.required(&path.child("averageUtilization"), why);
        }
        (Some(_), Some(_)) => {
            let why = "may not set both a target raw value and a target utilization";
            errors.forbidden(&path.child("averageValue"), why);
        }
        _ => {}
    }
}

fn validate_identifier(errors: &mut FieldErrors, path: &Path, metric: &MetricIdentifier) {
    if metric.name.is_empty() {
        errors.required(&path.child("name"), "must specify a metric name");
    } else {
        checks::required_segment(errors, &path.child("name"), &metric.name);
    }
}

/// Answers with the target's own path.
fn validate_target(errors: &mut FieldErrors, path: &Path, target: &MetricTarget) -> Path {
    let path = path.child("target");
    let type_ = target.type_.as_str();
    if type_.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !matches!(type_, "Utilization" | "Value" | "AverageValue") {
        errors.invalid(&path.child("type"), type_, "must be either Utilization, Value, or AverageValue");
    }
    for (name, value) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(value) = value.as_ref().filter(|value| !is_positive(value)) {
            errors.invalid(&path.child(name), value.0.as_str(), "must be positive");
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
    path
}

fn is_positive(quantity: &Quantity) -> bool {
    let amount = quantity::amount(quantity);
    !amount.is_zero() && !amount.is_negative()
}

fn validate_rules(errors: &mut FieldErrors, path: &Path, rules: &HPAScalingRules) {
    if let Some(seconds) = rules.stabilization_window_seconds {
        let path = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.invalid(&path, seconds, "must be greater than or equal to zero");
        }
        if seconds > STABILIZATION_SECONDS_MAX {
            errors.invalid(&path, seconds, format!("must be less than or equal to {STABILIZATION_SECONDS_MAX}"));
        }
    }
    if let Some(select) = rules.select_policy.as_deref()
        && !matches!(select, "Max" | "Min" | "Disabled")
    {
        errors.not_supported(&path.child("selectPolicy"), select, &["Disabled", "Max", "Min"]);
    }
    let policies_path = path.child("policies");
    let policies = rules.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.required(&policies_path, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        validate_policy(errors, &policies_path.index(index), policy);
    }
    if let Some(tolerance) = &rules.tolerance
        && quantity::amount(tolerance).is_negative()
    {
        errors.invalid(&path.child("tolerance"), tolerance.0.as_str(), "must be greater or equal to zero");
    }
}

fn validate_policy(errors: &mut FieldErrors, path: &Path, policy: &HPAScalingPolicy) {
    if !matches!(policy.type_.as_str(), "Pods" | "Percent") {
        errors.not_supported(&path.child("type"), policy.type_.as_str(), &["Percent", "Pods"]);
    }
    if policy.value <= 0 {
        errors.invalid(&path.child("value"), policy.value, "must be greater than zero");
    }
    let period = path.child("periodSeconds");
    if policy.period_seconds <= 0 {
        errors.invalid(&period, policy.period_seconds, "must be greater than zero");
    }
    if policy.period_seconds > PERIOD_SECONDS_MAX {
        let why = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
        errors.invalid(&period, policy.period_seconds, why);
    }
}
