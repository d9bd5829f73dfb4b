//! Warnings about a pod spec: what is accepted, but hardly meant.

use std::collections::{BTreeMap, BTreeSet};

use api::Quantity;
use api::core::v1::{Affinity, Container, ContainerPort, NodeAffinity, NodeSelectorTerm, PodSpec, PodTemplateSpec};
use api::field::Path;
use api::quantity::amount;

use super::each_container;
use super::security::{APP_ARMOR, SECCOMP_CONTAINER, SECCOMP_POD};

mod volumes;

pub use volumes::claim;

type Annotations = BTreeMap<String, String>;

/// Annotations that mean nothing any more.
const DEPRECATED_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];
const NO_SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

/// Labels that were replaced, and by what.
const DEPRECATED_NODE_LABELS: [(&str, &str); 6] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

fn deprecated_label(key: &str) -> Option<&'static str> {
    DEPRECATED_NODE_LABELS.iter().find(|(label, _)| *label == key).map(|(_, message)| *message)
}

/// Warns of a label that was replaced, where a field asks for it.
pub fn label(warnings: &mut Vec<String>, path: &Path, key: &str) {
    if let Some(message) = deprecated_label(key) {
        warnings.push(format!("{path}: {key} is {message}"));
    }
}

/// Warns of labels that were replaced in a term of a node selector.
pub fn node_selector_term(warnings: &mut Vec<String>, path: &Path, term: &NodeSelectorTerm) {
    for (index, expression) in term.match_expressions.iter().flatten().enumerate() {
        label(warnings, &path.child("matchExpressions").index(index).child("key"), &expression.key);
    }
}

fn affinity(warnings: &mut Vec<String>, path: &Path, affinity: &NodeAffinity) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let path = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            node_selector_term(warnings, &path.index(index), term);
        }
    }
    let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (index, term) in preferred.enumerate() {
        node_selector_term(warnings, &path.index(index).child("preference"), &term.preference);
    }
}

/// Warnings about a pod template; `path` is its path.
pub fn template(path: &Path, template: &PodTemplateSpec) -> Vec<String> {
    let annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    template.spec.as_ref().map(|spec| warnings(path, spec, annotations, true)).unwrap_or_default()
}

/// Warnings about a pod.
pub fn pod(spec: &PodSpec, annotations: Option<&Annotations>) -> Vec<String> {
    warnings(&Path::default(), spec, annotations, false)
}

/// `path` is the path of what holds the spec (empty for a pod).
fn warnings(path: &Path, spec: &PodSpec, annotations: Option<&Annotations>, is_template: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let spec_path = path.child("spec");
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{}: {message}", spec_path.child("nodeSelector").key(key)));
        }
    }
    if let Some(node_affinity) = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref()) {
        affinity(&mut warnings, &spec_path.child("affinity").child("nodeAffinity"), node_affinity);
    }
    for (index, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let path = spec_path.child("topologySpreadConstraints").index(index);
        label(&mut warnings, &path.child("topologyKey"), &constraint.topology_key);
        null_selector(&mut warnings, &path, constraint.label_selector.is_some());
    }
    let mut annotated = Annotated { warnings: &mut warnings, path: path.child("metadata"), annotations };
    for (key, message) in DEPRECATED_ANNOTATIONS {
        annotated.warn(key, message);
    }
    volumes::volumes(&mut warnings, &spec_path, spec);
    duplicates(&mut warnings, spec.host_aliases.iter().flatten().map(|alias| alias.ip.as_str()), |index, ip| {
        format!("{}: duplicate ip {ip:?}", spec_path.child("hostAliases").index(index).child("ip"))
    });
    let secrets = spec.image_pull_secrets.as_deref().unwrap_or_default();
    let secret_path = |index: usize| spec_path.child("imagePullSecrets").index(index).child("name");
    duplicates(&mut warnings, secrets.iter().map(|secret| secret.name.as_str()), |index, name| {
        format!("{}: duplicate name {name:?}", secret_path(index))
    });
    for (index, _) in secrets.iter().enumerate().filter(|(_, secret)| secret.name.is_empty()) {
        warnings.push(format!("{}: invalid empty name \"\"", secret_path(index)));
    }
    bytes(&mut warnings, &spec_path.child("overhead"), spec.overhead.as_ref());
    let context = spec.security_context.as_ref();
    let mut annotated = Annotated { warnings: &mut warnings, path: path.child("metadata"), annotations };
    if context.is_none_or(|context| context.seccomp_profile.is_none()) {
        annotated.warn(SECCOMP_POD, NO_SECCOMP);
    }
    let confined = context.is_some_and(|context| context.app_armor_profile.is_some());
    let containers = each_container(spec, &spec_path);
    for (container_path, container) in &containers {
        let own = container.security_context.as_ref();
        let mut annotated = Annotated { warnings: &mut warnings, path: path.child("metadata"), annotations };
        if own.is_none_or(|own| own.seccomp_profile.is_none()) {
            annotated.warn(&format!("{SECCOMP_CONTAINER}{}", container.name), NO_SECCOMP);
        }
        // Of a pod the server itself makes a field of it.
        if is_template && !confined && own.is_none_or(|own| own.app_armor_profile.is_none()) {
            let message = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            annotated.warn(&format!("{APP_ARMOR}{}", container.name), message);
        }
        container_warnings(&mut warnings, container_path, container);
    }
    port_warnings(&mut warnings, &containers);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        let path = spec_path.child("terminationGracePeriodSeconds");
        warnings.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    if let Some(affinity) = &spec.affinity {
        null_selectors(&mut warnings, &spec_path.child("affinity"), affinity);
    }
    warnings
}

/// Annotations that are looked for.
struct Annotated<'a> {
    warnings: &'a mut Vec<String>,
    /// Of the metadata.
    path: Path,
    annotations: Option<&'a Annotations>,
}

impl Annotated<'_> {
    fn warn(&mut self, key: &str, message: &str) {
        if self.annotations.is_some_and(|all| all.contains_key(key)) {
            self.warnings.push(format!("{}: {message}", self.path.child("annotations").key(key)));
        }
    }
}

fn null_selector(warnings: &mut Vec<String>, path: &Path, is_set: bool) {
    if !is_set {
        let path = path.child("labelSelector");
        warnings.push(format!("{path}: a null labelSelector results in matching no pod"));
    }
}

fn null_selectors(warnings: &mut Vec<String>, path: &Path, affinity: &Affinity) {
    let (near, far) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    for (name, required, preferred) in [
        (
            "podAffinity",
            near.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref()),
            near.and_then(|own| own.preferred_during_scheduling_ignored_during_execution.as_ref()),
        ),
        (
            "podAntiAffinity",
            far.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref()),
            far.and_then(|own| own.preferred_during_scheduling_ignored_during_execution.as_ref()),
        ),
    ] {
        let path = path.child(name);
        for (index, term) in required.into_iter().flatten().enumerate() {
            let path = path.child("requiredDuringSchedulingIgnoredDuringExecution").index(index);
            null_selector(warnings, &path, term.label_selector.is_some());
        }
        for (index, term) in preferred.into_iter().flatten().enumerate() {
            let path = path.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
            null_selector(warnings, &path.child("podAffinityTerm"), term.pod_affinity_term.label_selector.is_some());
        }
    }
}

fn duplicates<'a>(
    warnings: &mut Vec<String>,
    values: impl Iterator<Item = &'a str>,
    text: impl Fn(usize, &str) -> String,
) {
    let mut seen = BTreeSet::new();
    for (index, value) in values.enumerate() {
        if !seen.insert(value) {
            warnings.push(text(index, value));
        }
    }
}

/// Warns of an amount of bytes that is no whole number.
pub fn fractional_bytes(warnings: &mut Vec<String>, path: &Path, value: &Quantity) {
    let value = amount(value);
    if value.milli_value() % 1000 != 0 {
        let text = value.to_string();
        warnings.push(format!("{path}: fractional byte value {text:?} is invalid, must be an integer"));
    }
}

/// Warns of amounts in a list that are no whole bytes.
fn bytes(warnings: &mut Vec<String>, path: &Path, list: Option<&BTreeMap<String, Quantity>>) {
    for name in ["memory", "ephemeral-storage"] {
        if let Some(value) = list.and_then(|list| list.get(name)) {
            fractional_bytes(warnings, &path.key(name), value);
        }
    }
}

fn container_warnings(warnings: &mut Vec<String>, path: &Path, container: &Container) {
    if let Some(resources) = &container.resources {
        let path = path.child("resources");
        bytes(warnings, &path.child("limits"), resources.limits.as_ref());
        bytes(warnings, &path.child("requests"), resources.requests.as_ref());
    }
    let mut seen = BTreeSet::new();
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let reference = format!("$({})", variable.name);
        let value = variable.value.as_deref().unwrap_or_default();
        let hides = variable.value_from.is_some() || value == reference || !value.contains(&reference);
        if !seen.insert(variable.name.as_str()) && hides {
            let path = path.child("env").index(index);
            let name = &variable.name;
            warnings
                .push(format!("{path}: hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}

/// A port that was named before: where, and its host address and port.
type Seen<'a> = (Path, &'a str, i32);

fn port_warnings(warnings: &mut Vec<String>, containers: &[(Path, std::borrow::Cow<'_, Container>)]) {
    let mut seen: BTreeMap<(i32, &str), Vec<Seen<'_>>> = BTreeMap::new();
    for (path, container) in containers {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let path = path.child("ports").index(index);
            let host_ip = port.host_ip.as_deref().unwrap_or_default();
            let host_port = port.host_port.unwrap_or_default();
            if !host_ip.is_empty() && host_port == 0 {
                warnings.push(format!("{path}: hostIP set without hostPort: {}", shown(port)));
            }
            let others = seen.entry((port.container_port, port.protocol.as_deref().unwrap_or_default())).or_default();
            for (other, other_ip, other_port) in others.iter() {
                if host_ip == *other_ip && host_port == *other_port {
                    warnings.push(format!("{path}: duplicate port definition with {other}"));
                } else if host_port == 0 || *other_port == 0 {
                    warnings.push(format!("{path}: overlapping port definition with {other}"));
                } else if host_port == *other_port && (host_ip.is_empty() || other_ip.is_empty()) {
                    warnings.push(format!("{path}: dangerously ambiguous port definition with {other}"));
                }
            }
            others.push((path, host_ip, host_port));
        }
    }
}

/// As Go shows a structure.
fn shown(port: &ContainerPort) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        text(&port.name),
        port.host_port.unwrap_or_default(),
        port.container_port,
        text(&port.protocol),
        text(&port.host_ip)
    )
}
