//! Pod: Containers that run together on one node.

pub mod display;
pub mod subresources;
pub mod update;

use crate::prelude::*;
use api::core::v1::{Binding, Pod, PodCondition, PodIP, PodSpec, PodStatus};
use api::meta::v1::DeleteOptions;

use super::pod_template::{self, defaults, resources, scheduling, security};
use crate::checks;
use display::{or_none, summary};

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Pod;

    const NAMES: Names = Names::new("pods", "pod").short(&["po"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "pods" };
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource::Attach,
        Subresource::Binding,
        Subresource::EphemeralContainers,
        Subresource::Eviction,
        Subresource::Exec,
        Subresource::Log,
        Subresource::PortForward,
        Subresource::Proxy,
        Subresource::Resize,
        Subresource::Status,
    ];
    const COLUMNS: &'static [Column<Pod>] = &[
        Column::name(),
        Column::new("Ready", "string", |pod, _| {
            let summary = summary(pod);
            Value::from(format!("{}/{}", summary.ready, summary.total))
        })
        .describe("The aggregate readiness state of this pod for accepting traffic."),
        Column::new("Status", "string", |pod, _| Value::from(summary(pod).status))
            .describe("The aggregate status of the containers in this pod."),
        Column::new("Restarts", "string", |pod, now| Value::from(summary(pod).restarts_text(now))).describe(
            "The number of times the containers in this pod have been restarted and when the last container in this \
             pod has restarted.",
        ),
        Column::age(),
        Column::new("IP", "string", |pod, _| or_none(first_ip(pod)))
            .wide()
            .describe("IP address allocated to the pod."),
        Column::new("Node", "string", |pod, _| or_none(spec(pod).and_then(|spec| spec.node_name.as_deref())))
            .wide()
            .describe("The node the pod runs on."),
        Column::new("Nominated Node", "string", |pod, _| {
            or_none(status(pod).and_then(|status| status.nominated_node_name.as_deref()))
        })
        .wide()
        .describe("The node on which room is made for the pod."),
        Column::new("Readiness Gates", "string", |pod, _| Value::from(display::readiness_gates(pod)))
            .wide()
            .describe("How many of the pod's readiness gates are open."),
    ];
    const SELECTABLE: &'static [Selectable<Pod>] = &[
        Selectable { path: "spec.nodeName", value: |pod| text(spec(pod), |spec| spec.node_name.as_ref()) },
        Selectable { path: "spec.restartPolicy", value: |pod| text(spec(pod), |spec| spec.restart_policy.as_ref()) },
        Selectable { path: "spec.schedulerName", value: |pod| text(spec(pod), |spec| spec.scheduler_name.as_ref()) },
        Selectable {
            path: "spec.serviceAccountName",
            value: |pod| text(spec(pod), |spec| spec.service_account_name.as_ref()),
        },
        Selectable {
            path: "spec.hostNetwork",
            value: |pod| spec(pod).is_some_and(|spec| spec.host_network == Some(true)).to_string(),
        },
        Selectable { path: "status.phase", value: |pod| text(status(pod), |status| status.phase.as_ref()) },
        Selectable { path: "status.podIP", value: |pod| first_ip(pod).unwrap_or_default().to_owned() },
        Selectable {
            path: "status.nominatedNodeName",
            value: |pod| text(status(pod), |status| status.nominated_node_name.as_ref()),
        },
    ];

    fn default(pod: &mut Pod) {
        let spec = pod.spec.get_or_insert_default();
        defaults::default_spec(spec);
        defaults::default_pod(spec);
        if let Some(status) = &mut pod.status {
            default_ips(status);
        }
    }

    fn prepare_create(pod: &mut Pod) {
        pod.metadata.generation = Some(1);
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let spec = pod.spec.get_or_insert_default();
        scheduling::resolve_label_keys(spec, &labels);
        let mut status = PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(resources::qos_class(spec).to_owned()),
            ..Default::default()
        };
        if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
            status.conditions = Some(vec![PodCondition {
                type_: "PodScheduled".to_owned(),
                status: "False".to_owned(),
                reason: Some("SchedulingGated".to_owned()),
                message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
                ..Default::default()
            }]);
        }
        pod.status = Some(status);
    }

    fn prepare_update(new: &mut Pod, old: &Pod) {
        new.status.clone_from(&old.status);
        bump_generation(new, old);
    }

    fn prepare_status_update(new: &mut Pod, old: &Pod) {
        update::prepare_status(new, old);
    }

    fn validate(pod: &Pod) -> FieldErrors {
        let mut errors = validate_pod(pod);
        let path = Path::new("spec");
        let Some(spec) = &pod.spec else { return errors };
        if spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
            errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
        }
        let scheduled = spec.node_name.as_ref().is_some_and(|name| !name.is_empty());
        if scheduled && spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
            let why = "cannot be set until all schedulingGates have been cleared";
            errors.forbidden(&path.child("nodeName"), why);
        }
        security::validate_annotations_match_fields(&mut errors, &path, pod.metadata.annotations.as_ref(), spec);
        errors
    }

    fn validate_update(new: &Pod, old: &Pod) -> FieldErrors {
        update::validate(new, old)
    }

    fn validate_status_update(new: &Pod, old: &Pod) -> FieldErrors {
        update::validate_status(new, old)
    }

    fn prepare_subresource_update(subresource: Subresource, new: &mut Pod, old: &Pod) {
        match subresource {
            Subresource::EphemeralContainers => subresources::prepare_ephemeral_containers(new, old),
            Subresource::Resize => subresources::prepare_resize(new, old),
            _ => Self::prepare_status_update(new, old),
        }
    }

    fn validate_subresource_update(subresource: Subresource, new: &Pod, old: &Pod) -> FieldErrors {
        match subresource {
            Subresource::EphemeralContainers => subresources::validate_ephemeral_containers(new, old),
            Subresource::Resize => subresources::validate_resize(new, old),
            _ => Self::validate_status_update(new, old),
        }
    }

    fn warnings(pod: &Pod) -> Vec<String> {
        let problems = api::name::dns1123_label(pod.name(), false);
        let mut warnings = Vec::new();
        if !problems.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS \
                 label is recommended: [{}]",
                problems.join(" ")
            ));
        }
        if let Some(spec) = &pod.spec {
            warnings.extend(pod_template::warnings::pod(spec, pod.metadata.annotations.as_ref()));
        }
        warnings
    }

    /// What the client wished, else what the pod asks for; none for a pod that no node runs or that is done.
    fn delete_grace_seconds(pod: &Pod, options: &DeleteOptions) -> Option<i64> {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let wished = options.grace_period_seconds.or(spec.termination_grace_period_seconds).unwrap_or_default();
        let unscheduled = spec.node_name.as_deref().unwrap_or_default().is_empty();
        let phase = status(pod).and_then(|status| status.phase.as_deref());
        Some(match wished {
            _ if unscheduled || matches!(phase, Some("Failed" | "Succeeded")) => 0,
            negative if negative < 0 => 1,
            seconds => seconds,
        })
    }
}

/// `podIP` is the first of `podIPs`; a client that knows only the former means both.
fn default_ips(status: &mut PodStatus) {
    let first = status.pod_ips.as_ref().and_then(|ips| ips.first()).map(|ip| ip.ip.clone());
    match status.pod_ip.clone().filter(|ip| !ip.is_empty()) {
        None => status.pod_ip = first,
        Some(ip) if first.as_ref() != Some(&ip) => status.pod_ips = Some(vec![PodIP { ip }]),
        Some(_) => {}
    }
}

fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

fn status(pod: &Pod) -> Option<&PodStatus> {
    pod.status.as_ref()
}

fn text<T>(part: Option<&T>, field: impl Fn(&T) -> Option<&String>) -> String {
    part.and_then(field).cloned().unwrap_or_default()
}

fn first_ip(pod: &Pod) -> Option<&str> {
    status(pod)?.pod_ips.as_ref()?.first().map(|ip| ip.ip.as_str())
}

/// What holds for a pod at any time.
fn validate_pod(pod: &Pod) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let annotations = pod.metadata.annotations.as_ref();
    pod_template::spec::validate_annotations(
        &mut errors,
        &Path::new("metadata").child("annotations"),
        annotations,
        spec,
    );
    pod_template::validate_spec(&mut errors, &path, spec, pod_template::Context::Pod { name: pod.name() });
    if spec.service_account_name.as_deref().unwrap_or_default().is_empty() {
        for (index, volume) in spec.volumes.iter().flatten().enumerate() {
            let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
            for (source, _) in sources.enumerate().filter(|(_, source)| source.service_account_token.is_some()) {
                let path = path.child("volumes").index(index).child("projected").child("sources").index(source);
                let why = "must not be specified when serviceAccountName is not set";
                errors.forbidden(&path.child("serviceAccountToken"), why);
            }
        }
    }
    let lists = [("containers", &spec.containers[..]), ("initContainers", init_containers(spec))];
    for (name, list) in lists {
        for (index, container) in list.iter().enumerate() {
            pod_template::spec::validate_image_spaces(&mut errors, &path.child(name).index(index), container);
        }
    }
    errors
}

fn init_containers(spec: &PodSpec) -> &[api::core::v1::Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// A changed spec is a new generation.
fn bump_generation(new: &mut Pod, old: &Pod) {
    let generation = old.metadata.generation.unwrap_or_default();
    new.metadata.generation =
        if checks::same(&new.spec, &old.spec) { old.metadata.generation } else { Some(generation + 1) };
}

/// All problems of a binding of a pod to a node.
pub fn validate_binding(binding: &Binding) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("target");
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if binding.target.name.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("name"), "");
    }
    errors
}

#[cfg(test)]
mod tests;
