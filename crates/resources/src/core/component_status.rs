//! ComponentStatus: whether a part of the control plane is well. Kept nowhere: found out when one asks.

use crate::prelude::*;
use api::core::v1::{ComponentCondition, ComponentStatus};

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ComponentStatus;

    const NAMES: Names = Names::new("componentstatuses", "componentstatus").short(&["cs"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Virtual;
    const VERBS: &'static [&'static str] = &["get", "list"];
    const DEPRECATED: Option<&'static str> = Some("v1 ComponentStatus is deprecated in v1.19+");
    const COLUMNS: &'static [Column<Self::Object>] = &[
        Column::name(),
        Column::new("Status", "string", |object, _| Value::from(status(object)))
            .describe("Status of the component conditions"),
        Column::new("Message", "string", |object, _| Value::from(of_health(object, |own| own.message.as_deref())))
            .describe("Message of the component conditions"),
        Column::new("Error", "string", |object, _| Value::from(of_health(object, |own| own.error.as_deref())))
            .describe("Error of the component conditions"),
    ];
}

fn health(object: &ComponentStatus) -> Option<&ComponentCondition> {
    object.conditions.iter().flatten().find(|condition| condition.type_ == "Healthy")
}

fn status(object: &ComponentStatus) -> &'static str {
    match health(object).map(|condition| condition.status.as_str()) {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    }
}

fn of_health(object: &ComponentStatus, field: fn(&ComponentCondition) -> Option<&str>) -> &str {
    health(object).and_then(field).unwrap_or_default()
}
