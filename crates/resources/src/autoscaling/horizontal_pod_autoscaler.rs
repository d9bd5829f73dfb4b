//! HorizontalPodAutoscaler (`autoscaling/v2`): How many replicas a workload has, by what is measured of it.

mod validation;

use api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ResourceMetricSource,
};

use crate::checks;
use crate::column::some_of;
use crate::prelude::*;

/// The share of the requested CPU that is aimed at where nothing else is said.
pub(super) const CPU_PERCENT: i32 = 80;
/// So many metrics are shown in a row of a table.
const TARGETS_SHOWN: usize = 2;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = HorizontalPodAutoscaler;

    const NAMES: Names =
        Names::new("horizontalpodautoscalers", "horizontalpodautoscaler").short(&["hpa"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "horizontalpodautoscalers" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<HorizontalPodAutoscaler>] = &[
        Column::name(),
        Column::new("Reference", "string", |scaler: &HorizontalPodAutoscaler, _| {
            let target = &scaler.spec.scale_target_ref;
            Value::from(format!("{}/{}", target.kind, target.name))
        })
        .describe("What is scaled."),
        Column::new("Targets", "string", |scaler: &HorizontalPodAutoscaler, _| Value::from(targets(scaler)))
            .describe("What is measured, and what is aimed at."),
        Column::new("MinPods", "string", |scaler: &HorizontalPodAutoscaler, _| {
            Value::from(scaler.spec.min_replicas.map_or_else(|| "<unset>".to_owned(), |min| min.to_string()))
        })
        .describe("The fewest replicas."),
        Column::new("MaxPods", "string", |scaler: &HorizontalPodAutoscaler, _| Value::from(scaler.spec.max_replicas))
            .describe("The most replicas."),
        Column::new("Replicas", "string", |scaler: &HorizontalPodAutoscaler, _| {
            Value::from(scaler.status.as_ref().and_then(|status| status.current_replicas).unwrap_or_default())
        })
        .describe("The replicas that were last seen."),
        Column::age(),
    ];

    fn default(scaler: &mut HorizontalPodAutoscaler) {
        let spec = &mut scaler.spec;
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            spec.metrics = Some(vec![cpu(CPU_PERCENT)]);
        }
        if let Some(behavior) = &mut spec.behavior {
            let policy = |type_: &str, value| HPAScalingPolicy { type_: type_.to_owned(), value, period_seconds: 15 };
            let up = behavior.scale_up.get_or_insert_default();
            up.stabilization_window_seconds.get_or_insert(0);
            default_rules(up, &[policy("Pods", 4), policy("Percent", 100)]);
            default_rules(behavior.scale_down.get_or_insert_default(), &[policy("Percent", 100)]);
        }
    }

    fn prepare_create(scaler: &mut HorizontalPodAutoscaler) {
        scaler.status = Some(HorizontalPodAutoscalerStatus::default());
        scaler.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler) {
        new.status.clone_from(&old.status);
        let changed = !checks::same(&new.spec, &old.spec);
        checks::count_generation(&mut new.metadata, &old.metadata, changed);
    }

    fn prepare_status_update(new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(scaler: &HorizontalPodAutoscaler) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validation::validate_spec(&mut errors, &Path::new("spec"), &scaler.spec);
        errors
    }

    fn validate_status_update(new: &HorizontalPodAutoscaler, _old: &HorizontalPodAutoscaler) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status");
        let Some(status) = &new.status else { return errors };
        let current = status.current_replicas.unwrap_or_default();
        checks::not_negative(&mut errors, &path.child("currentReplicas"), i64::from(current));
        checks::not_negative(&mut errors, &path.child("desiredReplicas"), i64::from(status.desired_replicas));
        errors
    }
}

/// The metric of a scaler that says only how busy its pods shall be.
pub(super) fn cpu(percent: i32) -> MetricSpec {
    let target =
        MetricTarget { type_: "Utilization".to_owned(), average_utilization: Some(percent), ..MetricTarget::default() };
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..MetricSpec::default()
    }
}

fn default_rules(rules: &mut HPAScalingRules, policies: &[HPAScalingPolicy]) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    rules.policies.get_or_insert_with(|| policies.to_vec());
}

fn targets(scaler: &HorizontalPodAutoscaler) -> String {
    let metrics = scaler.spec.metrics.as_deref().unwrap_or_default();
    let current = scaler.status.as_ref().and_then(|status| status.current_metrics.as_deref()).unwrap_or_default();
    let shown: Vec<String> =
        metrics.iter().enumerate().map(|(index, metric)| target(metric, current.get(index))).collect();
    match shown.len() {
        0 => "<none>".to_owned(),
        count if count > TARGETS_SHOWN => some_of(&shown, TARGETS_SHOWN).replacen(',', ", ", TARGETS_SHOWN - 1),
        _ => shown.join(", "),
    }
}

/// One metric: what was measured, and what is aimed at.
fn target(metric: &MetricSpec, current: Option<&MetricStatus>) -> String {
    let of = |measured: Option<&MetricValueStatus>, target: &MetricTarget, averages_are_named: bool| {
        let amount = |measured: Option<String>| measured.unwrap_or_else(|| "<unknown>".to_owned());
        if let Some(average) = &target.average_value {
            let measured = measured.and_then(|measured| measured.average_value.as_ref());
            let suffix = if averages_are_named { " (avg)" } else { "" };
            return format!("{}/{}{suffix}", amount(measured.map(|measured| measured.0.clone())), average.0);
        }
        if let Some(value) = &target.value {
            let measured = measured.and_then(|measured| measured.value.as_ref());
            return format!("{}/{}", amount(measured.map(|measured| measured.0.clone())), value.0);
        }
        let measured = measured.and_then(|measured| measured.average_utilization);
        let aim = target.average_utilization.map_or_else(|| "<auto>".to_owned(), |percent| format!("{percent}%"));
        format!("{}/{aim}", amount(measured.map(|percent| format!("{percent}%"))))
    };
    if let Some(source) = &metric.resource {
        let measured = current.and_then(|current| current.resource.as_ref()).map(|measured| &measured.current);
        return format!("{}: {}", source.name, of(measured, &source.target, false));
    }
    if let Some(source) = &metric.container_resource {
        let measured = current.and_then(|current| current.container_resource.as_ref());
        return format!("{}: {}", source.name, of(measured.map(|measured| &measured.current), &source.target, false));
    }
    if let Some(source) = &metric.pods {
        let measured = current.and_then(|current| current.pods.as_ref()).map(|measured| &measured.current);
        return of(measured, &source.target, false);
    }
    if let Some(source) = &metric.object {
        let measured = current.and_then(|current| current.object.as_ref()).map(|measured| &measured.current);
        return of(measured, &source.target, true);
    }
    if let Some(source) = &metric.external {
        let measured = current.and_then(|current| current.external.as_ref()).map(|measured| &measured.current);
        return of(measured, &source.target, true);
    }
    "<unknown type>".to_owned()
}
