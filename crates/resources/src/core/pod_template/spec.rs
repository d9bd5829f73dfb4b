//! Validation of a whole pod spec and of a pod template.

use std::collections::{BTreeMap, BTreeSet};

use api::core::v1::{
    Container, HostAlias, PodDNSConfig, PodResourceClaim, PodSpec, PodTemplateSpec, ResourceRequirements,
};
use api::field::{FieldErrors, Path};

use super::containers::{self, Surroundings};
use super::resources::{self, Level};
use super::{scheduling, security, volumes};
use crate::checks;

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCHES_LEN_MAX: usize = 2048;

/// Where a spec stands.
#[derive(Debug, Clone, Copy)]
pub enum Context<'a> {
    /// In a pod of that name (which may be empty).
    Pod { name: &'a str },
    /// In a template.
    Template,
}

impl<'a> Context<'a> {
    fn pod_name(self) -> Option<&'a str> {
        match self {
            Self::Pod { name } => Some(name),
            Self::Template => None,
        }
    }
}

/// All problems of a pod template (upstream's `ValidatePodTemplateSpec`).
pub fn validate_template(errors: &mut FieldErrors, path: &Path, template: &PodTemplateSpec) {
    let empty = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&empty);
    let metadata = template.metadata.clone().unwrap_or_default();
    let annotations_path = path.child("annotations");
    checks::labels(errors, &path.child("labels"), metadata.labels.as_ref());
    checks::annotations(errors, &annotations_path, metadata.annotations.as_ref());
    validate_annotations(errors, &annotations_path, metadata.annotations.as_ref(), spec);
    let spec_path = path.child("spec");
    validate_spec(errors, &spec_path, spec, Context::Template);
    security::validate_annotations_match_fields(errors, &spec_path, metadata.annotations.as_ref(), spec);
    if spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        let why = "ephemeral containers not allowed in pod template";
        errors.forbidden(&spec_path.child("ephemeralContainers"), why);
    }
}

/// Annotations that mean something to pods.
pub fn validate_annotations(
    errors: &mut FieldErrors,
    path: &Path,
    annotations: Option<&BTreeMap<String, String>>,
    spec: &PodSpec,
) {
    if let Some(value) = annotations.and_then(|annotations| annotations.get(MIRROR))
        && spec.node_name.as_deref().unwrap_or_default().is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(MIRROR), value.as_str(), why);
    }
    if let Some(value) = annotations.and_then(|annotations| annotations.get(DELETION_COST)) {
        let canonical =
            value.parse::<i32>().is_ok_and(|_| !value.starts_with('+')) && !(value.len() > 1 && value.starts_with('0'));
        if !canonical {
            errors.invalid(&path.key(DELETION_COST), value.as_str(), "must be a 32bit integer");
        }
    }
    security::validate_annotations(errors, path, annotations, spec);
}

/// All problems of a pod spec (upstream's `ValidatePodSpec`).
pub fn validate_spec(errors: &mut FieldErrors, path: &Path, spec: &PodSpec, context: Context<'_>) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let volumes = volumes::validate_volumes(errors, &path.child("volumes"), volumes, context.pod_name());
    let claims = spec.resource_claims.as_deref().unwrap_or_default();
    let around = Surroundings {
        volumes,
        claims: claims.iter().map(|claim| claim.name.as_str()).filter(|name| !name.is_empty()).collect(),
        grace_seconds: spec.termination_grace_period_seconds,
        pod_restart_policy: spec.restart_policy.as_deref().unwrap_or_default(),
        host_users: spec.host_users != Some(false),
    };
    validate_claims(errors, &path.child("resourceClaims"), claims);
    containers::validate_containers(errors, &path.child("containers"), spec, &around);
    containers::validate_init_containers(errors, &path.child("initContainers"), spec, &around);
    containers::validate_ephemeral_containers(errors, &path.child("ephemeralContainers"), spec, &around);
    resources::validate_pod_level(errors, &path.child("resources"), spec, &around.claims);
    validate_host_ports(errors, &path.child("containers"), spec, context);
    let restart_policy = spec.restart_policy.as_deref();
    checks::one_of(errors, &path.child("restartPolicy"), restart_policy, &["Always", "OnFailure", "Never"]);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    checks::one_of(errors, &path.child("dnsPolicy"), spec.dns_policy.as_deref(), &policies);
    checks::labels(errors, &path.child("nodeSelector"), spec.node_selector.as_ref());
    if let Some(context) = &spec.security_context {
        security::validate_pod(errors, &path.child("securityContext"), context, spec);
    }
    if let Some(affinity) = &spec.affinity {
        scheduling::validate_affinity(errors, &path.child("affinity"), affinity);
    }
    validate_dns(errors, &path.child("dnsConfig"), spec);
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        checks::qualified(errors, &path, &gate.condition_type);
    }
    let gates = spec.scheduling_gates.as_deref().unwrap_or_default();
    scheduling::validate_gates(errors, &path.child("schedulingGates"), gates);
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    scheduling::validate_spread(errors, &path.child("topologySpreadConstraints"), constraints);
    security::validate_host_process(errors, path, spec);
    validate_host_users(errors, path, spec);
    validate_names(errors, path, spec);
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    scheduling::validate_tolerations(errors, &path.child("tolerations"), tolerations);
    validate_host_aliases(errors, &path.child("hostAliases"), spec.host_aliases.as_deref().unwrap_or_default());
    let preemption = spec.preemption_policy.as_deref();
    if preemption.is_some() {
        let policies = ["PreemptLowerPriority", "Never"];
        checks::one_of(errors, &path.child("preemptionPolicy"), preemption, &policies);
    }
    if let Some(overhead) = &spec.overhead {
        let overhead = ResourceRequirements { limits: Some(overhead.clone()), ..Default::default() };
        let path = path.child("overhead");
        resources::validate_requirements(errors, &path, &overhead, Level::Container, &BTreeSet::new());
    }
    security::validate_os(errors, path, spec);
}

/// Names of other objects, of the pod on the network, and the deadline.
fn validate_names(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    let subdomains = |errors: &mut FieldErrors, fields: &[(&str, &Option<String>)]| {
        for (field, name) in fields {
            if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
                checks::dns_subdomain(errors, &path.child(field), name);
            }
        }
    };
    subdomains(errors, &[("serviceAccountName", &spec.service_account_name), ("nodeName", &spec.node_name)]);
    if let Some(seconds) = spec.active_deadline_seconds {
        let problems = api::name::in_range(seconds, 1, i64::from(i32::MAX));
        checks::problems(errors, &path.child("activeDeadlineSeconds"), seconds, problems);
    }
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            checks::dns_label(errors, &path.child(field), name);
        }
    }
    validate_hostname_override(errors, &path.child("hostnameOverride"), spec);
    subdomains(errors, &[("priorityClassName", &spec.priority_class_name)]);
    if let Some(name) = &spec.runtime_class_name {
        checks::dns_subdomain(errors, &path.child("runtimeClassName"), name);
    }
}

fn validate_hostname_override(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    const LEN_MAX: usize = 64;
    let Some(name) = spec.hostname_override.as_deref() else { return };
    checks::dns_subdomain(errors, path, name);
    if name.len() > LEN_MAX {
        errors.too_long(path, LEN_MAX);
    }
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.forbidden(path, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.host_network == Some(true) {
        errors.forbidden(path, "may not be specified when hostNetwork is true");
    }
}

fn validate_claims(errors: &mut FieldErrors, path: &Path, claims: &[PodResourceClaim]) {
    let mut names = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let name_path = path.child("name");
        if claim.name.is_empty() {
            errors.required(&name_path, "");
        } else if !names.insert(claim.name.as_str()) {
            errors.duplicate(&name_path, claim.name.as_str());
        } else {
            checks::dns_label(errors, &name_path, &claim.name);
        }
        match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&path, checks::shown(claim), why);
            }
            (None, None) => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&path, checks::shown(claim), why);
            }
            _ => {}
        }
        let references = [
            ("resourceClaimName", &claim.resource_claim_name),
            ("resourceClaimTemplateName", &claim.resource_claim_template_name),
        ];
        for (field, name) in references {
            if let Some(name) = name {
                checks::dns_subdomain(errors, &path.child(field), name);
            }
        }
    }
}

/// On the host's network a host port is the container's port; a template may leave it out.
fn validate_host_ports(errors: &mut FieldErrors, path: &Path, spec: &PodSpec, context: Context<'_>) {
    if spec.host_network != Some(true) {
        return;
    }
    for (container_index, container) in spec.containers.iter().enumerate() {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or_default();
            let must_match = context.pod_name().is_some() || host_port != 0;
            if must_match && host_port != port.container_port {
                let path = path.index(container_index).child("ports").index(index).child("hostPort");
                errors.invalid(&path, host_port, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

/// A user namespace of its own goes with no other namespace of the host.
fn validate_host_users(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    if spec.host_users != Some(false) {
        return;
    }
    for (field, set) in [("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)] {
        if set == Some(true) {
            errors.forbidden(&path.child(field), "when `pod.Spec.HostUsers` is false");
        }
    }
}

fn validate_dns(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    let servers_path = path.child("nameservers");
    let config = spec.dns_config.as_ref();
    if spec.dns_policy.as_deref() == Some("None") {
        let Some(config) = config else {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        };
        if config.nameservers.as_ref().is_none_or(Vec::is_empty) {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&servers_path, why);
            return;
        }
    }
    let Some(PodDNSConfig { nameservers, options, searches }) = config else { return };
    let servers = nameservers.as_deref().unwrap_or_default();
    if servers.len() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&servers_path, checks::shown(&servers), why);
    }
    for (index, server) in servers.iter().enumerate() {
        checks::ip(errors, &servers_path.index(index), server);
    }
    let searches = searches.as_deref().unwrap_or_default();
    let searches_path = path.child("searches");
    if searches.len() > SEARCHES_MAX {
        let why = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&searches_path, checks::shown(&searches), why);
    }
    if searches.join(" ").len() > SEARCHES_LEN_MAX {
        let why =
            format!("must not have more than {SEARCHES_LEN_MAX} characters (including spaces) in the search list");
        errors.invalid(&searches_path, checks::shown(&searches), why);
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| search.as_str() != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        validate_search(errors, &searches_path.index(index), search);
    }
    for (index, option) in options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

/// A DNS subdomain whose labels may hold underscores.
fn validate_search(errors: &mut FieldErrors, path: &Path, search: &str) {
    if !api::name::dns1123_subdomain(&search.replace('_', "a"), false).is_empty() {
        let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', \
                   and must start and end with an alphanumeric character or an underscore (e.g. 'example.com', regex \
                   used for validation is '[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*')";
        errors.invalid(path, search, why);
    }
}

fn validate_host_aliases(errors: &mut FieldErrors, path: &Path, aliases: &[HostAlias]) {
    for (index, alias) in aliases.iter().enumerate() {
        let path = path.index(index);
        checks::ip(errors, &path.child("ip"), &alias.ip);
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            checks::dns_subdomain(errors, &path.child("hostnames").index(index), name);
        }
    }
}

/// In a pod (not in a template) an image has no spaces around it.
pub fn validate_image_spaces(errors: &mut FieldErrors, path: &Path, container: &Container) {
    let image = container.image.as_deref().unwrap_or_default();
    if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}
