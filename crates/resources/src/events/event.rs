//! Event: A report of something that happened to an object, in the newer form; stored as the core one.

use api::Typed;
use api::core::v1 as core;
use api::events::v1::{Event, EventSeries};

use crate::core::event as core_event;
use crate::prelude::*;
use crate::strategy::StoredAs;
use crate::{Strategy as _, checks};

pub struct Strategy;

/// How events of this group are kept as core events.
pub const STORED_AS: StoredAs = StoredAs {
    kind: <core::Event as Typed>::KIND,
    to_stored: |event| Box::new(to_core(api::downcast(event).expect("an events.k8s.io/v1 Event"))),
    from_stored: |event| Box::new(from_core(api::downcast(event).expect("a v1 Event"))),
    stored_path: |path| match path {
        "reportingController" => "reportingComponent".to_owned(),
        _ => path.replacen("regarding.", "involvedObject.", 1),
    },
};

macro_rules! as_core {
    ($($path:literal => $core:literal),* $(,)?) => { &[$( Selectable { path: $path, value: |event| core_value(event,
        $core) }, )*] };
}

macro_rules! core_column {
    ($index:literal) => {
        Column {
            name: core_event::Strategy::COLUMNS[$index].name,
            type_: core_event::Strategy::COLUMNS[$index].type_,
            format: core_event::Strategy::COLUMNS[$index].format,
            description: core_event::Strategy::COLUMNS[$index].description,
            priority: core_event::Strategy::COLUMNS[$index].priority,
            cell: |event, now| (core_event::Strategy::COLUMNS[$index].cell)(&to_core(event), now),
        }
    };
}

impl crate::Strategy for Strategy {
    type Object = Event;

    const NAMES: Names = Names::new("events", "event").short(&["ev"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "events" };
    const STORED_AS: Option<&'static StoredAs> = Some(&STORED_AS);
    const CREATE_ON_UPDATE: bool = true;
    const TTL_SECONDS: Option<u64> = Some(3600);
    const SELECTABLE: &'static [Selectable<Event>] = as_core! {
        "regarding.kind" => "involvedObject.kind",
        "regarding.namespace" => "involvedObject.namespace",
        "regarding.name" => "involvedObject.name",
        "regarding.uid" => "involvedObject.uid",
        "regarding.apiVersion" => "involvedObject.apiVersion",
        "regarding.resourceVersion" => "involvedObject.resourceVersion",
        "regarding.fieldPath" => "involvedObject.fieldPath",
        "reason" => "reason",
        "reportingController" => "reportingComponent",
        "type" => "type",
    };
    const COLUMNS: &'static [Column<Event>] = &[
        core_column!(0),
        core_column!(1),
        core_column!(2),
        core_column!(3),
        core_column!(4),
        core_column!(5),
        core_column!(6),
        core_column!(7),
        core_column!(8),
        core_column!(9),
    ];

    fn validate(event: &Event) -> FieldErrors {
        let mut errors = core_event::check(&to_core(event), "reportingController");
        validate_series(&mut errors, event.series.as_ref());
        if event.event_time.is_none() {
            errors.required(&Path::new("eventTime"), "");
        }
        let type_ = event.type_.as_deref().unwrap_or_default();
        if !matches!(type_, "Normal" | "Warning") {
            errors.invalid(&Path::new("type"), "", format!("has invalid value: {type_}"));
        }
        let source = event.deprecated_source.clone().unwrap_or_default();
        let unset = [
            ("firstTimestamp", event.deprecated_first_timestamp.is_some()),
            ("lastTimestamp", event.deprecated_last_timestamp.is_some()),
            ("count", event.deprecated_count.unwrap_or_default() != 0),
            ("source", source != core::EventSource::default()),
        ];
        for (name, _) in unset.iter().filter(|(_, set)| *set) {
            errors.invalid(&Path::new(name), "", "needs to be unset");
        }
        errors
    }

    fn validate_update(new: &Event, old: &Event) -> FieldErrors {
        let mut errors = core_event::check(&to_core(new), "reportingController");
        if new.series != old.series {
            validate_series(&mut errors, new.series.as_ref());
        }
        macro_rules! immutable {
            ($($field:ident: $name:literal),* $(,)?) => { $( checks::immutable(&mut errors, &Path::new($name),
                &new.$field, &old.$field); )* };
        }
        immutable! {
            regarding: "involvedObject",
            reason: "reason",
            note: "message",
            deprecated_source: "source",
            deprecated_first_timestamp: "firstTimestamp",
            deprecated_last_timestamp: "lastTimestamp",
            deprecated_count: "count",
            type_: "type",
            event_time: "eventTime",
            action: "action",
            related: "related",
            reporting_controller: "reportingController",
            reporting_instance: "reportingInstance",
        }
        errors
    }
}

fn core_value(event: &Event, path: &str) -> String {
    let event = to_core(event);
    let field = core_event::Strategy::SELECTABLE.iter().find(|field| field.path == path);
    field.map(|field| (field.value)(&event)).unwrap_or_default()
}

fn validate_series(errors: &mut FieldErrors, series: Option<&EventSeries>) {
    if series.is_some_and(|series| series.count < 2) {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
}

/// The same event as the core group has it.
pub fn to_core(event: &Event) -> core::Event {
    let event = event.clone();
    core::Event {
        metadata: event.metadata,
        involved_object: event.regarding.unwrap_or_default(),
        related: event.related,
        reason: event.reason,
        message: event.note,
        source: event.deprecated_source,
        first_timestamp: event.deprecated_first_timestamp,
        last_timestamp: event.deprecated_last_timestamp,
        count: event.deprecated_count,
        type_: event.type_,
        event_time: event.event_time,
        series: event.series.map(|series| core::EventSeries {
            count: Some(series.count),
            last_observed_time: Some(series.last_observed_time),
        }),
        action: event.action,
        reporting_component: event.reporting_controller,
        reporting_instance: event.reporting_instance,
    }
}

/// The same event as this group has it.
pub fn from_core(event: &core::Event) -> Event {
    let event = event.clone();
    Event {
        metadata: event.metadata,
        regarding: Some(event.involved_object),
        related: event.related,
        reason: event.reason,
        note: event.message,
        deprecated_source: event.source,
        deprecated_first_timestamp: event.first_timestamp,
        deprecated_last_timestamp: event.last_timestamp,
        deprecated_count: event.count,
        type_: event.type_,
        event_time: event.event_time,
        series: event.series.map(|series| EventSeries {
            count: series.count.unwrap_or_default(),
            last_observed_time: series
                .last_observed_time
                .unwrap_or(api::meta::v1::MicroTime(api::Timestamp::UNIX_EPOCH)),
        }),
        action: event.action,
        reporting_controller: event.reporting_component,
        reporting_instance: event.reporting_instance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_survives_the_store() {
        let event = Event::from_value(json!({"metadata": {"name": "e", "namespace": "n"},
            "regarding": {"kind": "Pod", "name": "p", "namespace": "n"}, "note": "hi", "reason": "R", "type": "Normal",
            "action": "A", "reportingController": "c", "reportingInstance": "i",
            "eventTime": "2026-01-01T00:00:00.000001Z",
            "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}))
        .unwrap();
        assert!(Strategy::validate(&event).is_empty(), "{}", Strategy::validate(&event));
        let stored = (STORED_AS.to_stored)(&event);
        assert_eq!(stored.kind().api_version, "v1");
        let back = (STORED_AS.from_stored)(stored.as_ref());
        assert_eq!(api::downcast::<Event>(back.as_ref()), Some(&event));
        let mut changed = event.clone();
        changed.note = Some("other".into());
        assert_eq!(
            Strategy::validate_update(&changed, &event).to_string(),
            "message: Invalid value: \"other\": field is immutable"
        );
    }
}
