//! Event: A report of something that happened to an object. Expires after an hour.

use api::core::v1::{Event, EventSource};

use crate::checks;
use crate::column;
use crate::prelude::*;

const TEXT_LEN_MAX: usize = 128;
const MESSAGE_LEN_MAX: usize = 1024;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Event;

    const NAMES: Names = Names::new("events", "event").short(&["ev"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "events" };
    const CREATE_ON_UPDATE: bool = true;
    const TTL_SECONDS: Option<u64> = Some(3600);
    const SELECTABLE: &'static [Selectable<Event>] = &[
        Selectable { path: "involvedObject.kind", value: |event| text(&event.involved_object.kind) },
        Selectable { path: "involvedObject.namespace", value: |event| text(&event.involved_object.namespace) },
        Selectable { path: "involvedObject.name", value: |event| text(&event.involved_object.name) },
        Selectable { path: "involvedObject.uid", value: |event| text(&event.involved_object.uid) },
        Selectable { path: "involvedObject.apiVersion", value: |event| text(&event.involved_object.api_version) },
        Selectable {
            path: "involvedObject.resourceVersion",
            value: |event| text(&event.involved_object.resource_version),
        },
        Selectable { path: "involvedObject.fieldPath", value: |event| text(&event.involved_object.field_path) },
        Selectable { path: "reason", value: |event| text(&event.reason) },
        Selectable { path: "reportingComponent", value: |event| text(&event.reporting_component) },
        Selectable {
            path: "source",
            value: |event| match source(event).component {
                Some(component) if !component.is_empty() => component,
                _ => text(&event.reporting_component),
            },
        },
        Selectable { path: "type", value: |event| text(&event.type_) },
    ];
    const COLUMNS: &'static [Column<Event>] = &[
        Column::new("Last Seen", "string", |event, now| Value::from(last_seen(event, now)))
            .describe("The time at which the most recent occurrence of this event was recorded."),
        Column::new("Type", "string", |event: &Event, _| Value::from(text(&event.type_)))
            .describe("Type of this event (Normal, Warning), new types could be added in the future"),
        Column::new("Reason", "string", |event: &Event, _| Value::from(text(&event.reason)))
            .describe("Why the event happened, in one word."),
        Column::new("Object", "string", |event, _| Value::from(object_text(event)))
            .describe("The object the event is about."),
        Column::new("Subobject", "string", |event: &Event, _| Value::from(text(&event.involved_object.field_path)))
            .wide()
            .describe("The part of the object the event is about."),
        Column::new("Source", "string", |event, _| Value::from(source_text(event)))
            .wide()
            .describe("The component that reported the event."),
        Column::new("Message", "string", |event: &Event, _| Value::from(text(&event.message).trim()))
            .describe("What happened."),
        Column::new("First Seen", "string", |event, now| Value::from(first_seen(event, now)))
            .wide()
            .describe("The time at which the event was first recorded."),
        Column::new("Count", "string", |event, _| Value::from(count(event)))
            .wide()
            .describe("The number of times this event has occurred."),
        Column::name().wide(),
    ];

    fn validate(event: &Event) -> FieldErrors {
        check(event, "reportingComponent")
    }
}

/// What every event must say. `controller_field`: what the version of the request calls the reporting controller.
pub fn check(event: &Event, controller_field: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let namespace = event.namespace();
    let about = text(&event.involved_object.namespace);
    let namespace_path = Path::new("involvedObject").child("namespace");
    let strict = event.event_time.is_some();
    let matches = match (strict, about.as_str()) {
        (false, "") => matches!(namespace, "" | "default"),
        (false, about) => namespace == about,
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (true, _) => true,
    };
    if !matches {
        errors.invalid(&namespace_path, about, "does not match event.namespace");
    }
    if strict {
        validate_strictly(&mut errors, event, controller_field);
    }
    errors
}

/// What events with a time to the microsecond must say.
fn validate_strictly(errors: &mut FieldErrors, event: &Event, controller_field: &str) {
    let controller = text(&event.reporting_component);
    let controller_path = Path::new(controller_field);
    if controller.is_empty() {
        errors.required(&controller_path, "");
    }
    checks::qualified(errors, &controller_path, &controller);
    let texts =
        [("reportingInstance", &event.reporting_instance), ("action", &event.action), ("reason", &event.reason)];
    for (name, value) in texts {
        let value = text(value);
        if value.is_empty() {
            errors.required(&Path::new(name), "");
        }
        if value.len() > TEXT_LEN_MAX {
            errors.invalid(&Path::new(name), "", format!("can have at most {TEXT_LEN_MAX} characters"));
        }
    }
    if text(&event.message).len() > MESSAGE_LEN_MAX {
        errors.invalid(&Path::new("message"), "", format!("can have at most {MESSAGE_LEN_MAX} characters"));
    }
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

fn source(event: &Event) -> EventSource {
    event.source.clone().unwrap_or_default()
}

fn first_seen(event: &Event, now: Timestamp) -> String {
    let first = event.first_timestamp.as_ref().map(|time| time.0);
    column::age(first.or(event.event_time.as_ref().map(|time| time.0)), now)
}

fn last_seen(event: &Event, now: Timestamp) -> String {
    if let Some(series) = &event.series {
        return column::age(series.last_observed_time.as_ref().map(|time| time.0), now);
    }
    match &event.last_timestamp {
        Some(last) => column::age(Some(last.0), now),
        None => first_seen(event, now),
    }
}

fn count(event: &Event) -> i32 {
    match &event.series {
        Some(series) => series.count.unwrap_or_default(),
        None => event.count.filter(|count| *count != 0).unwrap_or(1),
    }
}

fn object_text(event: &Event) -> String {
    let kind = text(&event.involved_object.kind).to_lowercase();
    match text(&event.involved_object.name) {
        name if name.is_empty() => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source_text(event: &Event) -> String {
    let or = |value: Option<String>, other: &Option<String>| {
        value.filter(|value| !value.is_empty()).unwrap_or_else(|| text(other))
    };
    let source = source(event);
    let component = or(source.component, &event.reporting_component);
    match or(source.host, &event.reporting_instance) {
        host if host.is_empty() => component,
        host => format!("{component}, {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy as Events;
    use crate::Strategy as _;
    use api::Typed;
    use api::core::v1::Event;
    use serde_json::json;

    #[test]
    fn columns_show_when_what_and_how_often() {
        let event = Event::from_value(json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled",
            "involvedObject": {"kind": "Pod", "name": "p"}, "message": " hi ", "count": 3,
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:00Z",
            "source": {"component": "kubelet", "host": "n"}}))
        .unwrap();
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let cells: Vec<_> = Events::COLUMNS.iter().map(|column| (column.cell)(&event, now)).collect();
        assert_eq!(
            serde_json::to_value(cells).unwrap(),
            json!(["60s", "Normal", "Pulled", "pod/p", "", "kubelet, n", "hi", "10m", 3, "e"])
        );
    }

    #[test]
    fn namespaces_must_agree() {
        let check = |namespace: &str, about: serde_json::Value| {
            let event = json!({"metadata": {"name": "e", "namespace": namespace}, "involvedObject": about});
            Events::validate(&Event::from_value(event).unwrap()).to_string()
        };
        assert_eq!(check("a", json!({"namespace": "a"})), "[]");
        assert_eq!(check("default", json!({"kind": "Node"})), "[]");
        assert_eq!(
            check("a", json!({"namespace": "b"})),
            "involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"
        );
    }
}
