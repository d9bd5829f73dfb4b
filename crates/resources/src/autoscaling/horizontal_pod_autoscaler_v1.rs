//! HorizontalPodAutoscaler as `autoscaling/v1` has it: one CPU target. What the older form has no fields for travels in
//! annotations, whose names and shapes are upstream's, so that nothing is lost by who reads and writes this version.

use api::autoscaling::{v1, v2};
use api::{Typed, downcast};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, json};

use super::horizontal_pod_autoscaler::{self as newer, CPU_PERCENT};
use crate::Strategy as _;
use crate::prelude::*;
use crate::strategy::StoredAs;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// How objects of this version are kept.
pub const STORED_AS: StoredAs = StoredAs {
    kind: <v2::HorizontalPodAutoscaler as Typed>::KIND,
    to_stored: |scaler| Box::new(to_v2(downcast(scaler).expect("an autoscaling/v1 HorizontalPodAutoscaler"))),
    from_stored: |scaler| Box::new(from_v2(downcast(scaler).expect("an autoscaling/v2 HorizontalPodAutoscaler"))),
    stored_path: str::to_owned,
};

pub struct Strategy;

macro_rules! newer_column {
    ($index:literal) => {
        Column {
            name: newer::Strategy::COLUMNS[$index].name,
            type_: newer::Strategy::COLUMNS[$index].type_,
            format: newer::Strategy::COLUMNS[$index].format,
            description: newer::Strategy::COLUMNS[$index].description,
            priority: newer::Strategy::COLUMNS[$index].priority,
            cell: |scaler, now| (newer::Strategy::COLUMNS[$index].cell)(&to_v2(scaler), now),
        }
    };
}

impl crate::Strategy for Strategy {
    type Object = v1::HorizontalPodAutoscaler;

    const NAMES: Names = newer::Strategy::NAMES;
    const SCOPE: Scope = newer::Strategy::SCOPE;
    const STORAGE: Storage = newer::Strategy::STORAGE;
    const STORED_AS: Option<&'static StoredAs> = Some(&STORED_AS);
    const SUBRESOURCES: &'static [Subresource] = newer::Strategy::SUBRESOURCES;
    const COLUMNS: &'static [Column<v1::HorizontalPodAutoscaler>] = &[
        newer_column!(0),
        newer_column!(1),
        newer_column!(2),
        newer_column!(3),
        newer_column!(4),
        newer_column!(5),
        newer_column!(6),
    ];

    fn default(scaler: &mut v1::HorizontalPodAutoscaler) {
        scaler.spec.min_replicas.get_or_insert(1);
    }

    fn prepare_create(scaler: &mut v1::HorizontalPodAutoscaler) {
        let mut all = to_v2(scaler);
        newer::Strategy::prepare_create(&mut all);
        *scaler = from_v2(&all);
    }

    fn prepare_update(new: &mut v1::HorizontalPodAutoscaler, old: &v1::HorizontalPodAutoscaler) {
        let mut all = to_v2(new);
        newer::Strategy::prepare_update(&mut all, &to_v2(old));
        *new = from_v2(&all);
    }

    fn prepare_status_update(new: &mut v1::HorizontalPodAutoscaler, old: &v1::HorizontalPodAutoscaler) {
        let mut all = to_v2(new);
        newer::Strategy::prepare_status_update(&mut all, &to_v2(old));
        *new = from_v2(&all);
    }

    fn validate(scaler: &v1::HorizontalPodAutoscaler) -> FieldErrors {
        newer::Strategy::validate(&to_v2(scaler))
    }

    fn validate_status_update(new: &v1::HorizontalPodAutoscaler, old: &v1::HorizontalPodAutoscaler) -> FieldErrors {
        newer::Strategy::validate_status_update(&to_v2(new), &to_v2(old))
    }
}

/// The same autoscaler as the newer version has it.
pub fn to_v2(scaler: &v1::HorizontalPodAutoscaler) -> v2::HorizontalPodAutoscaler {
    let mut metadata = scaler.metadata.clone();
    let mut noted = |name: &str| {
        let text = metadata.annotations.as_mut()?.remove(name)?;
        serde_json::from_str::<Value>(&text).ok()
    };
    let (metrics, behavior) = (noted(METRICS), noted(BEHAVIOR).and_then(parsed));
    let (current, conditions) = (noted(CURRENT_METRICS), noted(CONDITIONS).and_then(parsed));
    metadata.annotations = metadata.annotations.filter(|annotations| !annotations.is_empty());
    let spec = &scaler.spec;
    let mut all: Vec<v2::MetricSpec> = spec.target_cpu_utilization_percentage.map(newer::cpu).into_iter().collect();
    all.extend(metrics.and_then(|metrics| from_older::<v2::MetricSpec>(&metrics, Part::Spec)).unwrap_or_default());
    if all.is_empty() {
        all.push(newer::cpu(CPU_PERCENT));
    }
    let mut out = v2::HorizontalPodAutoscaler {
        metadata,
        spec: v2::HorizontalPodAutoscalerSpec {
            behavior,
            max_replicas: spec.max_replicas,
            metrics: Some(all),
            min_replicas: spec.min_replicas,
            scale_target_ref: v2::CrossVersionObjectReference {
                api_version: spec.scale_target_ref.api_version.clone(),
                kind: spec.scale_target_ref.kind.clone(),
                name: spec.scale_target_ref.name.clone(),
            },
        },
        status: None,
    };
    newer::Strategy::default(&mut out);
    out.status = scaler.status.as_ref().map(|status| {
        let percent = status.current_cpu_utilization_percentage;
        let mut all: Vec<v2::MetricStatus> = percent.map(measured_cpu).into_iter().collect();
        all.extend(current.and_then(|current| from_older(&current, Part::Status)).unwrap_or_default());
        v2::HorizontalPodAutoscalerStatus {
            conditions,
            current_metrics: Some(all).filter(|all| !all.is_empty()),
            current_replicas: Some(status.current_replicas),
            desired_replicas: status.desired_replicas,
            last_scale_time: status.last_scale_time.clone(),
            observed_generation: status.observed_generation,
        }
    });
    out
}

/// The same autoscaler as this version has it.
pub fn from_v2(scaler: &v2::HorizontalPodAutoscaler) -> v1::HorizontalPodAutoscaler {
    let mut metadata = scaler.metadata.clone();
    let mut note = |name: &str, value: Value| {
        metadata.annotations.get_or_insert_default().insert(name.to_owned(), value.to_string());
    };
    let metrics = scaler.spec.metrics.as_deref().unwrap_or_default();
    let busy = |metric: &v2::MetricSpec| {
        let source = metric.resource.as_ref().filter(|source| source.name == "cpu")?;
        source.target.average_utilization
    };
    let others: Vec<&v2::MetricSpec> = metrics.iter().filter(|metric| busy(metric).is_none()).collect();
    if !others.is_empty() {
        note(METRICS, to_older(&others, Part::Spec));
    }
    if let Some(behavior) = &scaler.spec.behavior {
        note(BEHAVIOR, crate::checks::shown(behavior));
    }
    let status = scaler.status.as_ref();
    let measured = status.and_then(|status| status.current_metrics.as_deref()).unwrap_or_default();
    let measured_busy = |metric: &v2::MetricStatus| {
        metric.resource.as_ref().filter(|source| source.name == "cpu")?.current.average_utilization
    };
    let others: Vec<&v2::MetricStatus> = measured.iter().filter(|metric| measured_busy(metric).is_none()).collect();
    if !others.is_empty() {
        note(CURRENT_METRICS, to_older(&others, Part::Status));
    }
    if let Some(conditions) = status.and_then(|status| status.conditions.as_ref()).filter(|all| !all.is_empty()) {
        note(CONDITIONS, crate::checks::shown(conditions));
    }
    v1::HorizontalPodAutoscaler {
        metadata,
        spec: v1::HorizontalPodAutoscalerSpec {
            max_replicas: scaler.spec.max_replicas,
            min_replicas: scaler.spec.min_replicas,
            scale_target_ref: v1::CrossVersionObjectReference {
                api_version: scaler.spec.scale_target_ref.api_version.clone(),
                kind: scaler.spec.scale_target_ref.kind.clone(),
                name: scaler.spec.scale_target_ref.name.clone(),
            },
            target_cpu_utilization_percentage: metrics.iter().find_map(busy),
        },
        status: status.map(|status| v1::HorizontalPodAutoscalerStatus {
            current_cpu_utilization_percentage: measured.iter().find_map(measured_busy),
            current_replicas: status.current_replicas.unwrap_or_default(),
            desired_replicas: status.desired_replicas,
            last_scale_time: status.last_scale_time.clone(),
            observed_generation: status.observed_generation,
        }),
    }
}

fn measured_cpu(percent: i32) -> v2::MetricStatus {
    let current = v2::MetricValueStatus { average_utilization: Some(percent), ..Default::default() };
    let resource = v2::ResourceMetricStatus { name: "cpu".to_owned(), current };
    v2::MetricStatus { type_: "Resource".to_owned(), resource: Some(resource), ..Default::default() }
}

fn parsed<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

/// Which list of metrics is meant.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Spec,
    Status,
}

/// The sources of metrics: the field, and for each field of the older form where the newer one has it. `{}` is `target`
/// in a spec and `current` in a status.
const SOURCES: &[(&str, &[(&str, &str)])] = &[
    (
        "resource",
        &[
            ("name", "/name"),
            ("{}AverageUtilization", "/{}/averageUtilization"),
            ("{}AverageValue", "/{}/averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "/name"),
            ("container", "/container"),
            ("{}AverageUtilization", "/{}/averageUtilization"),
            ("{}AverageValue", "/{}/averageValue"),
        ],
    ),
    (
        "pods",
        &[("metricName", "/metric/name"), ("selector", "/metric/selector"), ("{}AverageValue", "/{}/averageValue")],
    ),
    (
        "object",
        &[
            ("target", "/describedObject"),
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("{}Value", "/{}/value"),
            ("averageValue", "/{}/averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "/metric/name"),
            ("metricSelector", "/metric/selector"),
            ("{}Value", "/{}/value"),
            ("{}AverageValue", "/{}/averageValue"),
        ],
    ),
];

impl Part {
    fn named(self, template: &str) -> String {
        template.replace("{}", if self == Self::Spec { "target" } else { "current" })
    }
}

fn to_older<T: Serialize>(metrics: &[T], part: Part) -> Value {
    let one = |metric: &T| {
        let metric = crate::checks::shown(metric);
        let mut out = Map::from_iter([("type".to_owned(), metric["type"].clone())]);
        for (source, fields) in SOURCES.iter().filter(|(source, _)| metric.get(source).is_some()) {
            let mut older = Map::new();
            for (old, new) in *fields {
                if let Some(value) = metric[source].pointer(&part.named(new)) {
                    older.insert(part.named(old), value.clone());
                }
            }
            // The older form has no object metric without a value.
            if *source == "object" {
                older.entry(part.named("{}Value")).or_insert_with(|| "0".into());
            }
            out.insert((*source).to_owned(), Value::Object(older));
        }
        Value::Object(out)
    };
    Value::Array(metrics.iter().map(one).collect())
}

/// `None` if it is no such list: an annotation that cannot be read says nothing.
fn from_older<T: DeserializeOwned>(metrics: &Value, part: Part) -> Option<Vec<T>> {
    let one = |metric: &Value| {
        let mut out = json!({"type": metric.get("type")?});
        for (source, fields) in SOURCES {
            let Some(older) = metric.get(source) else { continue };
            let mut newer = json!({});
            for (old, new) in *fields {
                if let Some(value) = older.get(part.named(old)) {
                    put(&mut newer, &part.named(new), value.clone());
                }
            }
            let amounts = newer.get_mut(part.named("{}"));
            if let Some(Value::Object(amounts)) = amounts {
                if amounts.contains_key("averageValue") && amounts.get("value").is_some_and(|value| value == "0") {
                    amounts.remove("value");
                }
                if part == Part::Spec {
                    amounts.insert("type".to_owned(), target_type(amounts).into());
                }
            }
            out[source] = newer;
        }
        serde_json::from_value(out).ok()
    };
    metrics.as_array()?.iter().map(one).collect()
}

fn target_type(amounts: &Map<String, Value>) -> &'static str {
    if amounts.contains_key("averageUtilization") {
        "Utilization"
    } else if amounts.contains_key("averageValue") {
        "AverageValue"
    } else {
        "Value"
    }
}

fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for segment in pointer.split('/').skip(1) {
        place = &mut place[segment];
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_the_older_version() {
        let scaler = v2::HorizontalPodAutoscaler::from_value(json!({
            "metadata": {"name": "h", "annotations": {"own": "kept"}},
            "spec": {
                "minReplicas": 2, "maxReplicas": 9, "scaleTargetRef": {"kind": "Deployment", "name": "d",
                    "apiVersion": "apps/v1"},
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization",
                        "averageUtilization": 50}}},
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue",
                        "averageValue": "1Gi"}}},
                    {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                        "target": {"type": "Utilization", "averageUtilization": 70}}},
                    {"type": "Pods", "pods": {"metric": {"name": "p", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "AverageValue", "averageValue": "10"}}},
                    {"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "i"},
                        "metric": {"name": "o"}, "target": {"type": "AverageValue", "averageValue": "3"}}},
                    {"type": "External", "external": {"metric": {"name": "e"},
                        "target": {"type": "Value", "value": "5"}}},
                ],
            },
            "status": {"currentReplicas": 3, "desiredReplicas": 4,
                "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40}}},
                    {"type": "External", "external": {"metric": {"name": "e"}, "current": {"value": "6"}}},
                ]},
        }))
        .unwrap();
        let mut scaler = scaler;
        newer::Strategy::default(&mut scaler);
        let older = from_v2(&scaler);
        assert_eq!(older.spec.target_cpu_utilization_percentage, Some(50));
        assert_eq!(older.status.as_ref().unwrap().current_cpu_utilization_percentage, Some(40));
        let annotations = older.metadata.annotations.clone().unwrap();
        assert_eq!(
            annotations[CURRENT_METRICS],
            r#"[{"type":"External","external":{"metricName":"e","currentValue":"6"}}]"#
        );
        assert_eq!(to_v2(&older), scaler);
        assert!(Strategy::validate(&older).is_empty(), "{}", Strategy::validate(&older));
    }

    #[test]
    fn an_annotation_that_cannot_be_read_says_nothing() {
        let older = v1::HorizontalPodAutoscaler::from_value(json!({
            "metadata": {"name": "h", "annotations": {METRICS: "[{]", BEHAVIOR: "7"}},
            "spec": {"maxReplicas": 9, "scaleTargetRef": {"kind": "Deployment", "name": "d"}},
        }))
        .unwrap();
        let scaler = to_v2(&older);
        assert_eq!(scaler.spec.metrics, Some(vec![newer::cpu(80)]));
        assert_eq!((scaler.spec.behavior, scaler.metadata.annotations), (None, None));
    }
}
