//! Kinds that share storage with another: `events.k8s.io` Events are core Events in the store, `autoscaling/v1`
//! HorizontalPodAutoscalers those of `autoscaling/v2`; they are converted at the door.

use api::{Kind, Object, Typed, downcast};
use api::{autoscaling, core, events};
use resources::autoscaling::horizontal_pod_autoscaler_v1 as autoscaler;

/// Between the form served and the form stored. The functions panic if handed another kind: the registry never does.
#[derive(Debug)]
pub struct Convert {
    served: &'static Kind,
    pub stored: &'static Kind,
    pub to_stored: fn(&dyn Object) -> Box<dyn Object>,
    pub from_stored: fn(&dyn Object) -> Box<dyn Object>,
    /// A path of a field selector in the stored form.
    pub stored_path: fn(&str) -> String,
}

static ALL: &[Convert] = &[
    Convert {
        served: <events::v1::Event as Typed>::KIND,
        stored: <core::v1::Event as Typed>::KIND,
        to_stored: |object| Box::new(to_core(downcast(object).expect("an events.k8s.io Event"))),
        from_stored: |object| Box::new(from_core(downcast(object).expect("a core Event"))),
        stored_path: |path| match path {
            "reportingController" => "reportingComponent".to_owned(),
            _ => path.replacen("regarding.", "involvedObject.", 1),
        },
    },
    Convert {
        served: <autoscaling::v1::HorizontalPodAutoscaler as Typed>::KIND,
        stored: <autoscaling::v2::HorizontalPodAutoscaler as Typed>::KIND,
        to_stored: autoscaler::STORED_AS.to_stored,
        from_stored: autoscaler::STORED_AS.from_stored,
        stored_path: str::to_owned,
    },
];

/// How that kind is stored, if not as itself.
pub fn find(kind: &Kind) -> Option<&'static Convert> {
    ALL.iter().find(|convert| convert.served == kind)
}

fn to_core(event: &events::v1::Event) -> core::v1::Event {
    let event = event.clone();
    core::v1::Event {
        metadata: event.metadata,
        action: event.action,
        count: event.deprecated_count,
        event_time: event.event_time,
        first_timestamp: event.deprecated_first_timestamp,
        involved_object: event.regarding.unwrap_or_default(),
        last_timestamp: event.deprecated_last_timestamp,
        message: event.note,
        reason: event.reason,
        related: event.related,
        reporting_component: event.reporting_controller,
        reporting_instance: event.reporting_instance,
        series: event.series.map(|series| core::v1::EventSeries {
            count: Some(series.count),
            last_observed_time: Some(series.last_observed_time),
        }),
        source: event.deprecated_source,
        type_: event.type_,
    }
}

fn from_core(event: &core::v1::Event) -> events::v1::Event {
    let event = event.clone();
    events::v1::Event {
        metadata: event.metadata,
        action: event.action,
        deprecated_count: event.count,
        deprecated_first_timestamp: event.first_timestamp,
        deprecated_last_timestamp: event.last_timestamp,
        deprecated_source: event.source,
        event_time: event.event_time,
        note: event.message,
        reason: event.reason,
        regarding: Some(event.involved_object),
        related: event.related,
        reporting_controller: event.reporting_component,
        reporting_instance: event.reporting_instance,
        series: event.series.map(|series| events::v1::EventSeries {
            count: series.count.unwrap_or_default(),
            last_observed_time: series
                .last_observed_time
                .unwrap_or(api::meta::v1::MicroTime(api::Timestamp::UNIX_EPOCH)),
        }),
        type_: event.type_,
    }
}
