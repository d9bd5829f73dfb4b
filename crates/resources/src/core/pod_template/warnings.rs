//! Warnings about a pod spec: what is accepted, but hardly meant.

use std::collections::{BTreeMap, BTreeSet};

use api::Quantity;
use api::core::v1::{Container, NodeAffinity, NodeSelectorTerm, PodSpec};
use api::field::Path;
use api::quantity::amount;

use super::each_container;

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

/// Warnings about a spec; `path` is the path of what holds the spec (empty for a pod).
pub fn warnings(path: &Path, spec: &PodSpec) -> Vec<String> {
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
        if constraint.label_selector.is_none() {
            let path = path.child("labelSelector");
            warnings.push(format!("{path}: a null labelSelector results in matching no pod"));
        }
    }
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
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        let path = spec_path.child("terminationGracePeriodSeconds");
        warnings.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1."));
    }
    removed_volumes(&mut warnings, &spec_path, spec);
    let containers = each_container(spec, &spec_path);
    for (path, container) in &containers {
        container_warnings(&mut warnings, path, container);
    }
    port_warnings(&mut warnings, &containers);
    warnings
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

fn removed_volumes(warnings: &mut Vec<String>, path: &Path, spec: &PodSpec) {
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = path.child("volumes").index(index);
        let removed = [
            ("photonPersistentDisk", volume.photon_persistent_disk.is_some(), "v1.11, non-functional in v1.16+"),
            ("gitRepo", volume.git_repo.is_some(), "v1.11, and disabled by default in v1.33+"),
            ("scaleIO", volume.scale_io.is_some(), "v1.16, non-functional in v1.22+"),
            ("flocker", volume.flocker.is_some(), "v1.22, non-functional in v1.25+"),
            ("storageOS", volume.storageos.is_some(), "v1.22, non-functional in v1.25+"),
            ("quobyte", volume.quobyte.is_some(), "v1.22, non-functional in v1.25+"),
            ("glusterfs", volume.glusterfs.is_some(), "v1.25, non-functional in v1.26+"),
            ("cephfs", volume.cephfs.is_some(), "v1.28, non-functional in v1.31+"),
            ("rbd", volume.rbd.is_some(), "v1.28, non-functional in v1.31+"),
        ];
        for (name, _, since) in removed.iter().filter(|(_, set, _)| *set) {
            warnings.push(format!("{}: deprecated in {since}", path.child(name)));
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

fn container_warnings(warnings: &mut Vec<String>, path: &Path, container: &Container) {
    if let Some(resources) = &container.resources {
        for name in ["memory", "ephemeral-storage"] {
            for (list, values) in [("limits", &resources.limits), ("requests", &resources.requests)] {
                if let Some(value) = values.as_ref().and_then(|values| values.get(name)) {
                    fractional_bytes(warnings, &path.child("resources").child(list).key(name), value);
                }
            }
        }
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
