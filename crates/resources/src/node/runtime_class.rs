//! RuntimeClass: Which container runtime handler runs a pod, and what it costs.

use std::collections::BTreeSet;

use api::core::v1::ResourceRequirements;
use api::node::v1::RuntimeClass;

use crate::checks;
use crate::core::pod_template::resources::{self, Level};
use crate::core::pod_template::{defaults, scheduling};
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = RuntimeClass;

    const NAMES: Names = Names::new("runtimeclasses", "runtimeclass");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "runtimeclasses" };
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<RuntimeClass>] = &[
        Column::name(),
        Column::new("Handler", "string", |class: &RuntimeClass, _| Value::from(class.handler.as_str()))
            .describe("What the node's container runtime calls the handler."),
        Column::age(),
    ];

    fn default(class: &mut RuntimeClass) {
        if let Some(list) = class.overhead.as_mut().and_then(|overhead| overhead.pod_fixed.as_mut()) {
            defaults::canonical_list(list);
        }
    }

    fn validate(class: &RuntimeClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        checks::dns_label(&mut errors, &Path::new("handler"), &class.handler);
        if let Some(overhead) = &class.overhead {
            let list = ResourceRequirements { limits: overhead.pod_fixed.clone(), ..Default::default() };
            let path = Path::new("overhead");
            resources::validate_requirements(&mut errors, &path, &list, Level::Container, &BTreeSet::new());
        }
        if let Some(wishes) = &class.scheduling {
            let path = Path::new("scheduling");
            checks::labels(&mut errors, &path.child("nodeSelector"), wishes.node_selector.as_ref());
            let tolerations = wishes.tolerations.as_deref().unwrap_or_default();
            scheduling::validate_tolerations(&mut errors, &path.child("tolerations"), tolerations);
        }
        errors
    }

    fn validate_update(new: &RuntimeClass, old: &RuntimeClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        checks::immutable(&mut errors, &Path::new("handler"), &new.handler, &old.handler);
        errors
    }
}
