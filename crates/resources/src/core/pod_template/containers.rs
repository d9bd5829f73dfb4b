//! Validation of containers: regular, init and ephemeral.

use std::collections::{BTreeMap, BTreeSet};

use api::core::v1::{Container, ContainerPort, ContainerResizePolicy, PodSpec, Volume, VolumeDevice, VolumeMount};
use api::field::{FieldErrors, Path};

use super::resources::{self, Level};
use super::{as_container, env, probes, security, spec};
use crate::checks;

/// What a container's fields are checked against.
pub struct Surroundings<'a> {
    /// The pod's valid volumes by name.
    pub volumes: BTreeMap<&'a str, &'a Volume>,
    /// The names of the pod's resource claims.
    pub claims: BTreeSet<&'a str>,
    pub grace_seconds: Option<i64>,
    pub pod_restart_policy: &'a str,
    /// Whether the pod shares the host's user namespace.
    pub host_users: bool,
}

/// The regular containers.
pub fn validate_containers(errors: &mut FieldErrors, path: &Path, spec: &PodSpec, around: &Surroundings<'_>) {
    if spec.containers.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut names = BTreeSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.index(index);
        validate_container(errors, &path, container, around);
        checks::unique(errors, &path.child("name"), &mut names, &container.name);
        validate_handlers(errors, &path, container, around);
        if container.restart_policy.is_some() {
            errors.forbidden(&path.child("restartPolicy"), "may not be set for non-init containers");
        }
    }
    let mut ports = BTreeSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        unique_host_ports(errors, &path.index(index), container, &mut ports);
    }
}

/// The init containers; those that restart `Always` are sidecars and may have probes.
pub fn validate_init_containers(errors: &mut FieldErrors, path: &Path, spec: &PodSpec, around: &Surroundings<'_>) {
    const SIDECARS_ONLY: &str = "may not be set for init containers without restartPolicy=Always";
    let mut names: BTreeSet<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let list = path;
        let path = path.index(index);
        validate_container(errors, &path, container, around);
        if let Some(policy) = &container.restart_policy {
            checks::optional_one_of(errors, &path.child("restartPolicy"), Some(policy), &["Always"]);
        }
        if !container.name.is_empty() {
            checks::unique(errors, &path.child("name"), &mut names, &container.name);
        }
        unique_host_ports(errors, &list.index(0), container, &mut BTreeSet::new());
        if container.restart_policy.as_deref() == Some("Always") {
            validate_handlers(errors, &path, container, around);
            continue;
        }
        let set = [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ];
        for (name, _) in set.iter().filter(|(_, set)| *set) {
            errors.forbidden(&path.child(name), SIDECARS_ONLY);
        }
        if container.resize_policy.as_ref().is_some_and(|policies| !policies.is_empty()) {
            let path = path.child("resizePolicy");
            errors.invalid(&path, checks::shown(&container.resize_policy), "must not be set for init containers");
        }
    }
}

/// The ephemeral containers, which only help to look at a running pod.
pub fn validate_ephemeral_containers(errors: &mut FieldErrors, path: &Path, spec: &PodSpec, around: &Surroundings<'_>) {
    const NOT_FOR_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";
    let others = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let others: BTreeSet<&str> = others.map(|container| container.name.as_str()).collect();
    let mut names = others.clone();
    for (index, ephemeral) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let path = path.index(index);
        let container = as_container(ephemeral);
        validate_container(errors, &path, &container, around);
        spec::validate_image_spaces(errors, &path, &container);
        checks::unique(errors, &path.child("name"), &mut names, &ephemeral.name);
        if let Some(target) = ephemeral.target_container_name.as_deref()
            && !target.is_empty()
            && !others.contains(target)
        {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        let no_resources = Default::default();
        let set = [
            ("ports", ephemeral.ports.as_ref().is_some_and(|ports| !ports.is_empty())),
            ("resources", ephemeral.resources.as_ref().is_some_and(|resources| *resources != no_resources)),
            ("resizePolicy", ephemeral.resize_policy.as_ref().is_some_and(|policies| !policies.is_empty())),
            ("restartPolicy", ephemeral.restart_policy.is_some()),
            ("livenessProbe", ephemeral.liveness_probe.is_some()),
            ("readinessProbe", ephemeral.readiness_probe.is_some()),
            ("startupProbe", ephemeral.startup_probe.is_some()),
            ("lifecycle", ephemeral.lifecycle.is_some()),
        ];
        for (name, _) in set.iter().filter(|(_, set)| *set) {
            errors.forbidden(&path.child(name), NOT_FOR_EPHEMERAL);
        }
        for (index, mount) in ephemeral.volume_mounts.iter().flatten().enumerate() {
            let path = path.child("volumeMounts").index(index);
            for (name, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
                if value.as_ref().is_some_and(|value| !value.is_empty()) {
                    errors.forbidden(&path.child(name), NOT_FOR_EPHEMERAL);
                }
            }
        }
    }
}

/// What holds for containers of all kinds.
fn validate_container(errors: &mut FieldErrors, path: &Path, container: &Container, around: &Surroundings<'_>) {
    if container.name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        checks::dns_label(errors, &path.child("name"), &container.name);
    }
    if container.image.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("image"), "");
    }
    let policy = container.termination_message_policy.as_deref();
    let path_policy = path.child("terminationMessagePolicy");
    checks::one_of(errors, &path_policy, policy, &["File", "FallbackToLogsOnError"]);
    validate_ports(errors, &path.child("ports"), container.ports.as_deref().unwrap_or_default());
    env::validate_env(errors, &path.child("env"), container.env.as_deref().unwrap_or_default());
    env::validate_env_from(errors, &path.child("envFrom"), container.env_from.as_deref().unwrap_or_default());
    validate_mounts(errors, &path.child("volumeMounts"), container, around);
    validate_devices(errors, &path.child("volumeDevices"), container, around);
    validate_pull_policy(errors, &path.child("imagePullPolicy"), container.image_pull_policy.as_deref());
    if let Some(requirements) = &container.resources {
        let path = path.child("resources");
        resources::validate_requirements(errors, &path, requirements, Level::Container, &around.claims);
    }
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    validate_resize_policy(errors, &path.child("resizePolicy"), policies, around.pod_restart_policy);
    if container.restart_policy_rules.as_ref().is_some_and(|rules| !rules.is_empty()) {
        errors.forbidden(&path.child("restartPolicyRules"), "restart rules of single containers are not supported");
    }
    if let Some(context) = &container.security_context {
        security::validate_container(errors, &path.child("securityContext"), context, around.host_users);
    }
}

/// `Always`, `IfNotPresent` or `Never`.
pub fn validate_pull_policy(errors: &mut FieldErrors, path: &Path, policy: Option<&str>) {
    checks::one_of(errors, path, policy, &["Always", "IfNotPresent", "Never"]);
}

fn validate_handlers(errors: &mut FieldErrors, path: &Path, container: &Container, around: &Surroundings<'_>) {
    if let Some(lifecycle) = &container.lifecycle {
        probes::validate_lifecycle(errors, &path.child("lifecycle"), lifecycle, around.grace_seconds);
    }
    let probes = [
        (probes::Role::Liveness, "livenessProbe", &container.liveness_probe),
        (probes::Role::Readiness, "readinessProbe", &container.readiness_probe),
        (probes::Role::Startup, "startupProbe", &container.startup_probe),
    ];
    for (role, name, probe) in probes {
        if let Some(probe) = probe {
            probes::validate_probe(errors, &path.child(name), probe, role);
        }
    }
}

fn validate_ports(errors: &mut FieldErrors, path: &Path, ports: &[ContainerPort]) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let problems = api::name::port_name(name);
            if problems.is_empty() {
                checks::unique(errors, &path.child("name"), &mut names, name);
            }
            checks::problems(errors, &path.child("name"), name, problems);
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else {
            checks::port(errors, &path.child("containerPort"), port.container_port);
        }
        if let Some(host_port) = port.host_port.filter(|number| *number != 0) {
            checks::port(errors, &path.child("hostPort"), host_port);
        }
        checks::protocol(errors, &path.child("protocol"), port.protocol.as_deref());
    }
}

/// No two ports of the host may be the same.
fn unique_host_ports(errors: &mut FieldErrors, path: &Path, container: &Container, seen: &mut BTreeSet<String>) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let Some(number) = port.host_port.filter(|number| *number != 0) else { continue };
        let protocol = port.protocol.as_deref().unwrap_or_default();
        let key = format!("{protocol}/{}/{number}", port.host_ip.as_deref().unwrap_or_default());
        if seen.contains(&key) {
            errors.duplicate(&path.child("ports").index(index).child("hostPort"), key.as_str());
        }
        seen.insert(key);
    }
}

fn validate_mounts(errors: &mut FieldErrors, path: &Path, container: &Container, around: &Surroundings<'_>) {
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    let mut points = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let list = path;
        let path = path.index(index);
        let (name_path, point_path) = (path.child("name"), path.child("mountPath"));
        if mount.name.is_empty() {
            errors.required(&name_path, "");
        }
        if !around.volumes.contains_key(mount.name.as_str()) {
            errors.not_found(&name_path, mount.name.as_str());
        }
        if mount.mount_path.is_empty() {
            errors.required(&point_path, "");
        }
        if !points.insert(mount.mount_path.as_str()) {
            errors.invalid(&point_path, mount.mount_path.as_str(), "must be unique");
        }
        if devices.iter().any(|device| device.name == mount.name) {
            errors.invalid(&name_path, mount.name.as_str(), "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.device_path == mount.mount_path) {
            let why = "must not already exist as a path in volumeDevices";
            errors.invalid(&point_path, mount.mount_path.as_str(), why);
        }
        validate_sub_paths(errors, list, &path, mount, around);
        if let Some(propagation) = mount.mount_propagation.as_deref() {
            validate_propagation(errors, &list.child("mountPropagation"), propagation, container);
        }
        validate_recursive_read_only(errors, &list.child("recursiveReadOnly"), mount);
    }
}

fn validate_sub_paths(
    errors: &mut FieldErrors,
    list: &Path,
    path: &Path,
    mount: &VolumeMount,
    around: &Surroundings<'_>,
) {
    let sub_path = mount.sub_path.as_deref().unwrap_or_default();
    let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
    if around.volumes.get(mount.name.as_str()).is_some_and(|volume| volume.image.is_some()) {
        for (name, value) in [("subPath", sub_path), ("subPathExpr", expression)] {
            if !value.is_empty() {
                errors.invalid(&path.child(name), value, "not allowed in image volume sources");
            }
        }
    }
    if !sub_path.is_empty() {
        checks::relative_path(errors, &list.child("subPath"), sub_path);
    }
    if !expression.is_empty() {
        if !sub_path.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&path.child("subPathExpr"), expression, why);
        }
        checks::relative_path(errors, &list.child("subPathExpr"), expression);
    }
}

fn validate_propagation(errors: &mut FieldErrors, path: &Path, propagation: &str, container: &Container) {
    checks::optional_one_of(errors, path, Some(propagation), &["Bidirectional", "HostToContainer", "None"]);
    let privileged = container.security_context.as_ref().and_then(|context| context.privileged) == Some(true);
    if propagation == "Bidirectional" && !privileged {
        errors.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn validate_recursive_read_only(errors: &mut FieldErrors, path: &Path, mount: &VolumeMount) {
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if mount.mount_propagation.as_deref().is_some_and(|propagation| propagation != "None") {
                errors.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn validate_devices(errors: &mut FieldErrors, path: &Path, container: &Container, around: &Surroundings<'_>) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        let path = path.index(index);
        let (name_path, device_path) = (path.child("name"), path.child("devicePath"));
        let VolumeDevice { name, device_path: point } = device;
        if name.is_empty() {
            errors.required(&name_path, "");
        }
        if names.contains(name) {
            errors.invalid(&name_path, name.as_str(), "must be unique");
        }
        match around.volumes.get(name.as_str()) {
            None => errors.not_found(&name_path, name.as_str()),
            Some(volume) if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&name_path, name.as_str(), why);
            }
            Some(_) => {}
        }
        if point.is_empty() {
            errors.required(&device_path, "");
        }
        if paths.contains(point) {
            errors.invalid(&device_path, point.as_str(), "must be unique");
        }
        if point.split('/').any(|part| part == "..") {
            errors.invalid(&device_path, point.as_str(), "can not contain backsteps ('..')");
        } else {
            paths.insert(point);
        }
        if mounts.iter().any(|mount| mount.name == *name) {
            errors.invalid(&name_path, name.as_str(), "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.mount_path == *point) {
            errors.invalid(&device_path, point.as_str(), "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

fn validate_resize_policy(
    errors: &mut FieldErrors,
    path: &Path,
    policies: &[ContainerResizePolicy],
    pod_restart_policy: &str,
) {
    let mut seen = BTreeSet::new();
    for (index, policy) in policies.iter().enumerate() {
        checks::unique(errors, &path.index(index), &mut seen, &policy.resource_name);
        checks::one_of(errors, path, Some(&policy.resource_name), &["cpu", "memory"]);
        checks::one_of(errors, path, Some(&policy.restart_policy), &["NotRequired", "RestartContainer"]);
        if pod_restart_policy == "Never" && policy.restart_policy != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.invalid(path, policy.restart_policy.as_str(), why);
        }
    }
}
