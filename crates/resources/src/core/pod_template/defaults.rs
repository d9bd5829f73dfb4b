//! Defaults of a pod spec: those of every spec, and those that only a real pod gets.

use std::collections::BTreeMap;

use api::core::v1::{
    Container, ContainerPort, EnvVar, EphemeralContainer, HTTPGetAction, Lifecycle, PodSpec, Probe,
    ResourceRequirements, Volume,
};
use api::quantity::Amount;
use api::{IntOrString, Quantity};

use super::resources;

/// Mode of files in secret, configMap, downwardAPI and projected volumes: 0644.
const FILE_MODE: i32 = 0o644;
/// Lifetime of a projected service account token.
const TOKEN_SECONDS: i64 = 3600;

fn fill(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

fn fill_number(field: &mut Option<i32>, value: i32) {
    if field.is_none_or(|number| number == 0) {
        *field = Some(value);
    }
}

/// Defaults of a spec wherever it stands.
pub fn default_spec(spec: &mut PodSpec) {
    fill(&mut spec.dns_policy, "ClusterFirst");
    fill(&mut spec.restart_policy, "Always");
    fill(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    // The deprecated name of the field follows the new one, and stands in for it.
    match (&spec.service_account_name, &spec.service_account) {
        (Some(name), _) if !name.is_empty() => spec.service_account = Some(name.clone()),
        (_, Some(name)) if !name.is_empty() => spec.service_account_name = Some(name.clone()),
        _ => {}
    }
    for volume in spec.volumes.iter_mut().flatten() {
        default_volume(volume);
    }
    for container in spec.init_containers.iter_mut().flatten() {
        default_container(container);
    }
    for container in &mut spec.containers {
        default_container(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        default_ephemeral(container);
    }
    if let Some(overhead) = &mut spec.overhead {
        canonical_list(overhead);
    }
    if let Some(resources) = &mut spec.resources {
        canonical(resources);
    }
}

/// Defaults that only a pod gets, after [`default_spec`].
pub fn default_pod(spec: &mut PodSpec) {
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(resources) = &mut container.resources
            && let Some(limits) = &resources.limits
        {
            let requests = resources.requests.get_or_insert_default();
            for (name, limit) in limits {
                requests.entry(name.clone()).or_insert_with(|| limit.clone());
            }
        }
    }
    default_pod_level_resources(spec);
    spec.enable_service_links.get_or_insert(true);
    if spec.host_network == Some(true) {
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            for port in container.ports.iter_mut().flatten() {
                if port.host_port.is_none_or(|number| number == 0) {
                    port.host_port = Some(port.container_port);
                }
            }
        }
    }
}

fn default_container(container: &mut Container) {
    let image = container.image.as_deref().unwrap_or_default();
    if container.image_pull_policy.as_deref().is_none_or(str::is_empty) {
        container.image_pull_policy = Some(pull_policy(image).to_owned());
    }
    fill(&mut container.termination_message_path, "/dev/termination-log");
    fill(&mut container.termination_message_policy, "File");
    default_ports(container.ports.as_mut());
    default_env(container.env.as_mut());
    canonical(container.resources.get_or_insert_default());
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe] {
        default_probe(probe.as_mut());
    }
    default_lifecycle(container.lifecycle.as_mut());
    default_security(container.security_context.as_mut());
}

fn default_ephemeral(container: &mut EphemeralContainer) {
    let image = container.image.as_deref().unwrap_or_default();
    if container.image_pull_policy.as_deref().is_none_or(str::is_empty) {
        container.image_pull_policy = Some(pull_policy(image).to_owned());
    }
    fill(&mut container.termination_message_path, "/dev/termination-log");
    fill(&mut container.termination_message_policy, "File");
    default_ports(container.ports.as_mut());
    default_env(container.env.as_mut());
    canonical(container.resources.get_or_insert_default());
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe] {
        default_probe(probe.as_mut());
    }
    default_lifecycle(container.lifecycle.as_mut());
    default_security(container.security_context.as_mut());
}

fn default_security(context: Option<&mut api::core::v1::SecurityContext>) {
    if let Some(mount) = context.and_then(|context| context.proc_mount.as_mut())
        && mount.is_empty()
    {
        "Default".clone_into(mount);
    }
}

fn default_ports(ports: Option<&mut Vec<ContainerPort>>) {
    for port in ports.into_iter().flatten() {
        fill(&mut port.protocol, "TCP");
    }
}

fn default_env(env: Option<&mut Vec<EnvVar>>) {
    for source in env.into_iter().flatten().filter_map(|variable| variable.value_from.as_mut()) {
        if let Some(field) = &mut source.field_ref {
            fill(&mut field.api_version, "v1");
        }
        if let Some(field) = &mut source.resource_field_ref {
            default_divisor(&mut field.divisor);
        }
        if let Some(file) = &mut source.file_key_ref {
            file.optional.get_or_insert(false);
        }
    }
}

/// The wire form of an unset divisor is `"0"`.
fn default_divisor(divisor: &mut Option<Quantity>) {
    match divisor {
        None => *divisor = Some(Quantity("0".to_owned())),
        Some(quantity) => canonical_quantity(quantity),
    }
}

fn default_probe(probe: Option<&mut Probe>) {
    let Some(probe) = probe else { return };
    fill_number(&mut probe.timeout_seconds, 1);
    fill_number(&mut probe.period_seconds, 10);
    fill_number(&mut probe.success_threshold, 1);
    fill_number(&mut probe.failure_threshold, 3);
    default_http(probe.http_get.as_mut());
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_lifecycle(lifecycle: Option<&mut Lifecycle>) {
    let Some(lifecycle) = lifecycle else { return };
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
        default_http(handler.http_get.as_mut());
    }
}

fn default_http(action: Option<&mut HTTPGetAction>) {
    let Some(action) = action else { return };
    fill(&mut action.path, "/");
    fill(&mut action.scheme, "HTTP");
}

fn default_volume(volume: &mut Volume) {
    if super::volumes::sources(volume) == 0 {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        config_map.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        for item in downward.items.iter_mut().flatten() {
            default_downward_file(item);
        }
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(FILE_MODE);
        for source in projected.sources.iter_mut().flatten() {
            if let Some(token) = &mut source.service_account_token {
                token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
            }
            for item in source.downward_api.iter_mut().flat_map(|downward| downward.items.iter_mut().flatten()) {
                default_downward_file(item);
            }
            if let Some(certificate) = &mut source.pod_certificate {
                certificate.max_expiration_seconds.get_or_insert(86_400);
            }
        }
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_default();
    }
    if let Some(empty_dir) = &mut volume.empty_dir
        && let Some(limit) = &mut empty_dir.size_limit
    {
        canonical_quantity(limit);
    }
    if let Some(image) = &mut volume.image
        && image.pull_policy.as_deref().is_none_or(str::is_empty)
    {
        image.pull_policy = Some(pull_policy(image.reference.as_deref().unwrap_or_default()).to_owned());
    }
    if let Some(template) = volume.ephemeral.as_mut().and_then(|ephemeral| ephemeral.volume_claim_template.as_mut()) {
        fill(&mut template.spec.volume_mode, "Filesystem");
    }
    if let Some(iscsi) = &mut volume.iscsi {
        fill(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(disk) = &mut volume.azure_disk {
        fill(&mut disk.caching_mode, "ReadWrite");
        fill(&mut disk.kind, "Shared");
        fill(&mut disk.fs_type, "ext4");
        disk.read_only.get_or_insert(false);
    }
    if let Some(rbd) = &mut volume.rbd {
        fill(&mut rbd.pool, "rbd");
        fill(&mut rbd.user, "admin");
        fill(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(scale_io) = &mut volume.scale_io {
        fill(&mut scale_io.storage_mode, "ThinProvisioned");
        fill(&mut scale_io.fs_type, "xfs");
    }
}

fn default_downward_file(item: &mut api::core::v1::DownwardAPIVolumeFile) {
    if let Some(field) = &mut item.field_ref {
        fill(&mut field.api_version, "v1");
    }
    if let Some(field) = &mut item.resource_field_ref {
        default_divisor(&mut field.divisor);
    }
}

/// `Always` for an image whose tag is `latest` (or that has neither tag nor digest), else `IfNotPresent`.
pub fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or_default();
    let latest = match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none() && !image.is_empty(),
    };
    if latest { "Always" } else { "IfNotPresent" }
}

/// Quantities in canonical form, no finer than thousandths.
fn canonical(requirements: &mut ResourceRequirements) {
    for list in [&mut requirements.limits, &mut requirements.requests].into_iter().flatten() {
        canonical_list(list);
    }
}

/// Quantities in canonical form, no finer than thousandths.
pub fn canonical_list(list: &mut BTreeMap<String, Quantity>) {
    for quantity in list.values_mut() {
        if let Ok(amount) = Amount::try_from(&*quantity) {
            let rounded = Amount::from_milli(amount.milli_value(), amount.format());
            // Beyond 64 bits of thousandths there is nothing below a thousandth to round.
            *quantity = if rounded >= amount { rounded.to_quantity() } else { amount.to_quantity() };
        }
    }
}

fn canonical_quantity(quantity: &mut Quantity) {
    if let Ok(amount) = Amount::try_from(&*quantity) {
        *quantity = amount.to_quantity();
    }
}

/// Pod-level requests and limits from each other and from the containers'.
fn default_pod_level_resources(spec: &mut PodSpec) {
    let Some(level) = spec.resources.clone() else { return };
    let (mut requests, mut limits) = (level.requests.unwrap_or_default(), level.limits.unwrap_or_default());
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let container_limits = resources::aggregate(spec, |requirements| requirements.limits.as_ref());
    for (name, limit) in &container_limits {
        if resources::is_huge_page(name) && !requests.contains_key(name) {
            limits.entry(name.clone()).or_insert_with(|| limit.to_quantity());
        }
    }
    if !limits.is_empty() {
        for (name, request) in resources::aggregate(spec, |requirements| requirements.requests.as_ref()) {
            if resources::is_pod_level(&name) && resources::may_overcommit(&name) {
                requests.entry(name).or_insert_with(|| request.to_quantity());
            }
        }
        for (name, limit) in &limits {
            if resources::is_pod_level(name) {
                requests.entry(name.clone()).or_insert_with(|| limit.clone());
            }
        }
    }
    let limits_set = limits.keys().any(|name| resources::is_pod_level(name));
    if !limits_set && requests.keys().any(|name| resources::is_pod_level(name)) {
        for (name, limit) in container_limits {
            let all_limited = spec.containers.iter().chain(spec.init_containers.iter().flatten()).all(|container| {
                let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
                limits.is_some_and(|limits| limits.contains_key(&name))
            });
            if resources::is_pod_level(&name) && resources::may_overcommit(&name) && all_limited {
                limits.entry(name).or_insert_with(|| limit.to_quantity());
            }
        }
    }
    let level = spec.resources.get_or_insert_default();
    if !requests.is_empty() {
        level.requests = Some(requests);
    }
    if !limits.is_empty() {
        level.limits = Some(limits);
    }
}

/// The number an int-or-string holds; text is zero.
pub fn int_value(value: &IntOrString) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => text.parse().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;
    use api::core::v1::Pod;
    use serde_json::{Value, json};

    fn defaulted(spec: Value) -> Value {
        let mut pod = Pod::from_value(json!({"spec": spec})).unwrap();
        let spec = pod.spec.as_mut().unwrap();
        default_spec(spec);
        default_pod(spec);
        let once = serde_json::to_value(&*spec).unwrap();
        default_spec(spec);
        default_pod(spec);
        assert_eq!(serde_json::to_value(&*spec).unwrap(), once, "defaulting is idempotent");
        once
    }

    #[test]
    fn a_plain_pod_is_filled_as_upstream_fills_it() {
        let spec = defaulted(json!({"containers": [{"name": "a", "image": "nginx"}]}));
        assert_eq!(
            spec,
            json!({
                "containers": [{
                    "name": "a", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
                "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
            })
        );
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("reg:5000/nginx", "Always"),
            ("reg:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "Always"),
            ("", "IfNotPresent"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn requests_come_from_limits_and_quantities_are_canonical() {
        let spec = defaulted(json!({"containers": [{"name": "a", "image": "a:1",
            "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": "100m"}}}]}));
        assert_eq!(
            spec["containers"][0]["resources"],
            json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}})
        );
    }

    #[test]
    fn probes_volumes_and_host_ports_are_filled() {
        let spec = defaulted(json!({
            "hostNetwork": true,
            "containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}],
                "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [
                {"name": "e"}, {"name": "s", "secret": {"secretName": "s"}}, {"name": "h", "hostPath": {"path": "/"}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
        }));
        let container = &spec["containers"][0];
        assert_eq!(container["ports"], json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]));
        assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(
            container["livenessProbe"],
            json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "failureThreshold": 3, "periodSeconds": 10,
                "successThreshold": 1, "timeoutSeconds": 1})
        );
        assert_eq!(
            spec["volumes"],
            json!([
                {"name": "e", "emptyDir": {}},
                {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "h", "hostPath": {"path": "/", "type": ""}},
                {"name": "p", "projected": {"defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}},
            ])
        );
    }

    #[test]
    fn pod_level_requests_come_from_containers_then_limits() {
        let spec = defaulted(json!({"resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
            "containers": [{"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "500m"}}}]}));
        assert_eq!(spec["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
    }
}
