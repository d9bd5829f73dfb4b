//! PodTemplate: A pod to be, for controllers of others. Nothing of Kubernetes' own acts on it.
//!
//! Below it is what every kind that makes pods shares: defaults, validation and warnings of a pod spec and template.

pub mod containers;
pub mod defaults;
pub mod env;
pub mod probes;
pub mod resources;
pub mod scheduling;
pub mod security;
pub mod spec;
pub mod volumes;
pub mod warnings;

use api::core::v1::{Container, EphemeralContainer, PodSpec, PodTemplate};

use crate::apps::workload;
use crate::checks;
use crate::prelude::*;

pub use spec::{Context, validate_spec, validate_template};

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = PodTemplate;

    const NAMES: Names = Names::new("podtemplates", "podtemplate");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "podtemplates" };
    const COLUMNS: &'static [Column<PodTemplate>] = &[
        Column::name(),
        Column::new("Containers", "string", |template: &PodTemplate, _| {
            template.template.as_ref().map_or(Value::Null, workload::container_names)
        })
        .describe("Names of each container in the template."),
        Column::new("Images", "string", |template: &PodTemplate, _| {
            template.template.as_ref().map_or(Value::Null, workload::images)
        })
        .describe("Images referenced by each container in the template."),
        Column::new("Pod Labels", "string", |template: &PodTemplate, _| {
            let metadata = template.template.as_ref().and_then(|template| template.metadata.as_ref());
            let labels = metadata.into_iter().flat_map(|metadata| metadata.labels.iter().flatten());
            let text = labels.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
            Value::from(if text.is_empty() { "<none>".to_owned() } else { text })
        })
        .describe("The labels for the pod template."),
    ];

    fn default(template: &mut PodTemplate) {
        workload::default_template(template.template.get_or_insert_default());
    }

    fn prepare_create(template: &mut PodTemplate) {
        template.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut PodTemplate, old: &PodTemplate) {
        let generation = old.metadata.generation.unwrap_or_default();
        let changed = !checks::same(&new.template, &old.template);
        new.metadata.generation = Some(if changed { generation + 1 } else { generation });
    }

    fn validate(template: &PodTemplate) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let empty = Default::default();
        let path = Path::new("template");
        validate_template(&mut errors, &path, template.template.as_ref().unwrap_or(&empty));
        errors
    }

    fn warnings(template: &PodTemplate) -> Vec<String> {
        let own = template.template.as_ref();
        own.map(|own| warnings::template(&Path::new("template"), own)).unwrap_or_default()
    }
}

/// Every container of a spec with its path: init containers, containers, then ephemeral ones.
pub(crate) fn each_container<'a>(spec: &'a PodSpec, path: &Path) -> Vec<(Path, std::borrow::Cow<'a, Container>)> {
    use std::borrow::Cow::{Borrowed, Owned};
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(index, container)| (path.child("initContainers").index(index), Borrowed(container)));
    let normal = spec.containers.iter().enumerate();
    let normal = normal.map(|(index, container)| (path.child("containers").index(index), Borrowed(container)));
    let ephemeral = spec.ephemeral_containers.iter().flatten().enumerate();
    let ephemeral = ephemeral
        .map(|(index, container)| (path.child("ephemeralContainers").index(index), Owned(as_container(container))));
    init.chain(normal).chain(ephemeral).collect()
}

/// An ephemeral container as a container, which has every field but `targetContainerName`.
pub(crate) fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        target_container_name: _,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = ephemeral.clone();
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    }
}
