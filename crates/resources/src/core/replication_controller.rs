//! ReplicationController: A number of pods of one template; what ReplicaSets came after.

use api::core::v1::{PodTemplateSpec, ReplicationController, ReplicationControllerSpec, ReplicationControllerStatus};

use crate::apps::workload;
use crate::checks;
use crate::core::pod_template;
use crate::prelude::*;

pub struct Strategy;

const SCALE: Scale<ReplicationController> = Scale {
    spec_replicas: |controller| spec(controller).and_then(|spec| spec.replicas).unwrap_or_default(),
    status_replicas: |controller| status(controller).map(|status| status.replicas).unwrap_or_default(),
    selector: |controller| match workload::labels_text(selector(controller)).as_str() {
        "<none>" => String::new(),
        text => text.to_owned(),
    },
    set_replicas: |controller, replicas| controller.spec.get_or_insert_default().replicas = Some(replicas),
};

impl crate::Strategy for Strategy {
    type Object = ReplicationController;

    const NAMES: Names =
        Names::new("replicationcontrollers", "replicationcontroller").short(&["rc"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "controllers" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const SCALE: Option<&'static Scale<ReplicationController>> = Some(&SCALE);
    const SELECTABLE: &'static [Selectable<ReplicationController>] =
        &[Selectable { path: "status.replicas", value: |controller| (SCALE.status_replicas)(controller).to_string() }];
    const COLUMNS: &'static [Column<ReplicationController>] = &[
        Column::name(),
        Column::new("Desired", "integer", |controller, _| Value::from((SCALE.spec_replicas)(controller)))
            .describe("Number of pods there should be."),
        Column::new("Current", "integer", |controller, _| Value::from((SCALE.status_replicas)(controller)))
            .describe("Number of pods there are."),
        Column::new("Ready", "integer", |controller: &ReplicationController, _| {
            Value::from(status(controller).and_then(|status| status.ready_replicas).unwrap_or_default())
        })
        .describe("Number of pods that are ready."),
        Column::age(),
        Column::new("Containers", "string", |controller: &ReplicationController, _| {
            template(controller).map_or(Value::Null, workload::container_names)
        })
        .wide()
        .describe("Names of each container in the template."),
        Column::new("Images", "string", |controller: &ReplicationController, _| {
            template(controller).map_or(Value::Null, workload::images)
        })
        .wide()
        .describe("Images referenced by each container in the template."),
        Column::new("Selector", "string", |controller: &ReplicationController, _| {
            Value::from(workload::labels_text(selector(controller)))
        })
        .wide()
        .describe("Which pods belong to the controller."),
    ];

    fn default(controller: &mut ReplicationController) {
        let spec = controller.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        let Some(template) = &mut spec.template else { return };
        workload::default_template(template);
        let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
        let Some(labels) = labels.filter(|labels| !labels.is_empty()) else { return };
        if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            spec.selector = Some(labels.clone());
        }
        if controller.metadata.labels.as_ref().is_none_or(|own| own.is_empty()) {
            controller.metadata.labels = Some(labels);
        }
    }

    fn prepare_create(controller: &mut ReplicationController) {
        controller.status = Some(ReplicationControllerStatus::default());
        controller.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut ReplicationController, old: &ReplicationController) {
        new.status.clone_from(&old.status);
        let changed = !checks::same(&new.spec, &old.spec);
        checks::count_generation(&mut new.metadata, &old.metadata, changed);
    }

    fn prepare_status_update(new: &mut ReplicationController, old: &ReplicationController) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(controller: &ReplicationController) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        let empty = ReplicationControllerSpec::default();
        let spec = spec(controller).unwrap_or(&empty);
        let min_ready_seconds = i64::from(spec.min_ready_seconds.unwrap_or_default());
        checks::not_negative(&mut errors, &path.child("minReadySeconds"), min_ready_seconds);
        let wanted = spec.selector.clone().unwrap_or_default();
        if wanted.is_empty() {
            errors.required(&path.child("selector"), "");
        }
        checks::not_negative(&mut errors, &path.child("replicas"), i64::from(spec.replicas.unwrap_or_default()));
        let path = path.child("template");
        let Some(template) = &spec.template else {
            errors.required(&path, "");
            return errors;
        };
        let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        if !wanted.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            let path = path.child("metadata").child("labels");
            errors.invalid(&path, checks::shown(&labels), "`selector` does not match template `labels`");
        }
        pod_template::validate_template(&mut errors, &path, template);
        workload::validate_endless(&mut errors, &path, template, "ReplicationController");
        errors
    }

    fn validate_status_update(new: &ReplicationController, _old: &ReplicationController) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status");
        let Some(status) = status(new) else { return errors };
        let counts = [
            ("replicas", status.replicas),
            ("fullyLabeledReplicas", status.fully_labeled_replicas.unwrap_or_default()),
            ("readyReplicas", status.ready_replicas.unwrap_or_default()),
            ("availableReplicas", status.available_replicas.unwrap_or_default()),
        ];
        workload::validate_counts(&mut errors, &path, &counts, counts[0].1, counts[2].1);
        let generation = status.observed_generation.unwrap_or_default();
        checks::not_negative(&mut errors, &path.child("observedGeneration"), generation);
        errors
    }

    fn warnings(controller: &ReplicationController) -> Vec<String> {
        let path = Path::new("spec").child("template");
        template(controller).map(|template| pod_template::warnings::template(&path, template)).unwrap_or_default()
    }
}

fn spec(controller: &ReplicationController) -> Option<&ReplicationControllerSpec> {
    controller.spec.as_ref()
}

fn template(controller: &ReplicationController) -> Option<&PodTemplateSpec> {
    spec(controller)?.template.as_ref()
}

fn selector(controller: &ReplicationController) -> Option<&std::collections::BTreeMap<String, String>> {
    spec(controller)?.selector.as_ref()
}

fn status(controller: &ReplicationController) -> Option<&ReplicationControllerStatus> {
    controller.status.as_ref()
}
