//! Node: A machine that runs pods.

use std::collections::BTreeSet;

use api::core::v1::{Node, NodeSpec, NodeStatus, NodeSystemInfo};

use super::pod_template::{defaults, resources, scheduling};
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Node;

    const NAMES: Names = Names::new("nodes", "node").short(&["no"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "minions" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const SELECTABLE: &'static [Selectable<Node>] =
        &[Selectable { path: "spec.unschedulable", value: |node| is_unschedulable(node).to_string() }];
    const COLUMNS: &'static [Column<Node>] = &[
        Column::name(),
        Column::new("Status", "string", |node, _| Value::from(status_text(node))).describe("The status of the node"),
        Column::new("Roles", "string", |node, _| Value::from(roles(node))).describe("The roles of the node"),
        Column::age(),
        Column::new("Version", "string", |node, _| {
            Value::from(info(node).map_or("", |info| info.kubelet_version.as_str()))
        })
        .describe("The version of the node agent."),
        Column::new("Internal-IP", "string", |node, _| Value::from(address(node, "InternalIP")))
            .wide()
            .describe("The node's address inside the cluster."),
        Column::new("External-IP", "string", |node, _| Value::from(address(node, "ExternalIP")))
            .wide()
            .describe("The node's address outside the cluster."),
        Column::new("OS-Image", "string", |node, _| known(node, |info| &info.os_image))
            .wide()
            .describe("The operating system."),
        Column::new("Kernel-Version", "string", |node, _| known(node, |info| &info.kernel_version))
            .wide()
            .describe("The kernel."),
        Column::new("Container-Runtime", "string", |node, _| known(node, |info| &info.container_runtime_version))
            .wide()
            .describe("The container runtime and its version."),
    ];

    fn default(node: &mut Node) {
        if let Some(spec) = &mut node.spec {
            let first = spec.pod_cidrs.as_ref().and_then(|ranges| ranges.first()).cloned();
            match (&spec.pod_cidr, first) {
                (None, Some(first)) => spec.pod_cidr = Some(first),
                (Some(range), None) if !range.is_empty() => spec.pod_cidrs = Some(vec![range.clone()]),
                _ => {}
            }
        }
        if let Some(status) = &mut node.status {
            for list in [&mut status.capacity, &mut status.allocatable].into_iter().flatten() {
                defaults::canonical_list(list);
            }
            if status.allocatable.is_none() {
                status.allocatable.clone_from(&status.capacity);
            }
        }
    }

    fn prepare_update(new: &mut Node, old: &Node) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut Node, old: &Node) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(node: &Node) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_always(&mut errors, node);
        let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
        validate_ranges(&mut errors, &Path::new("spec").child("podCIDRs"), ranges);
        errors
    }

    fn validate_update(new: &Node, old: &Node) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_always(&mut errors, new);
        let mut seen = BTreeSet::new();
        for (index, address) in status(new).iter().flat_map(|status| status.addresses.iter().flatten()).enumerate() {
            if !seen.insert((&address.type_, &address.address)) {
                let path = Path::new("status").child("addresses").index(index);
                errors.duplicate(&path, checks::shown(address));
            }
        }
        let path = Path::new("spec");
        let empty = NodeSpec::default();
        let (spec, before) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        let ranges = |spec: &NodeSpec| spec.pod_cidrs.clone().unwrap_or_default();
        if !ranges(before).is_empty() && ranges(spec) != ranges(before) {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&path.child("podCIDRs"), why);
        }
        let provider = |spec: &NodeSpec| spec.provider_id.clone().unwrap_or_default();
        if !provider(before).is_empty() && provider(spec) != provider(before) {
            let why = "node updates may not change providerID except from \"\" to valid";
            errors.forbidden(&path.child("providerID"), why);
        }
        if spec.external_id != before.external_id {
            errors.forbidden(&path.child("externalID"), "may not be updated");
        }
        errors
    }

    fn validate_status_update(new: &Node, old: &Node) -> FieldErrors {
        Self::validate_update(new, old)
    }
}

fn status(node: &Node) -> Option<&NodeStatus> {
    node.status.as_ref()
}

fn info(node: &Node) -> Option<&NodeSystemInfo> {
    status(node)?.node_info.as_ref()
}

fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

fn status_text(node: &Node) -> String {
    let conditions = status(node).and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let text = match ready.map(|condition| condition.status.as_str()) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    };
    if is_unschedulable(node) { format!("{text},SchedulingDisabled") } else { text.to_owned() }
}

/// The roles that labels name, `control-plane,worker`.
fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let role = |(key, value): (&String, &String)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()).filter(|role| !role.is_empty()),
        None => (key == "kubernetes.io/role" && !value.is_empty()).then(|| value.clone()),
    };
    let roles: BTreeSet<String> = labels.filter_map(role).collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn address(node: &Node, type_: &str) -> String {
    let mut addresses = status(node).into_iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.find(|address| address.type_ == type_).map_or("<none>".to_owned(), |address| address.address.clone())
}

fn known(node: &Node, field: impl Fn(&NodeSystemInfo) -> &String) -> Value {
    let text = info(node).map(field).filter(|text| !text.is_empty());
    Value::from(text.map_or("<unknown>", String::as_str))
}

/// What holds at any time: taints and quantities.
fn validate_always(errors: &mut FieldErrors, node: &Node) {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    scheduling::validate_taints(errors, &Path::new("metadata").child("taints"), taints);
    let Some(status) = status(node) else { return };
    for (field, list) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        for (name, quantity) in list.iter().flatten() {
            let path = Path::new("status").child(field).child(name);
            resources::validate_quantity(errors, &path, name, quantity);
        }
    }
}

fn validate_ranges(errors: &mut FieldErrors, path: &Path, ranges: &[String]) {
    for (index, range) in ranges.iter().enumerate() {
        checks::cidr(errors, &path.index(index), range);
    }
    if ranges.len() < 2 {
        return;
    }
    let addresses: Vec<_> =
        ranges.iter().filter_map(|range| checks::parse_cidr(range)).map(|(address, _)| address).collect();
    if !checks::is_dual_stack(&addresses) || ranges.len() > 2 {
        errors.invalid(path, checks::shown(&ranges), "may specify no more than one CIDR for each IP family");
    }
    let mut seen = BTreeSet::new();
    for (index, range) in ranges.iter().enumerate() {
        checks::unique(errors, &path.index(index), &mut seen, range);
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy as Nodes;
    use crate::Strategy as _;
    use api::Typed;
    use api::core::v1::Node;
    use serde_json::{Value, json};

    fn node(value: Value) -> Node {
        let mut node = Node::from_value(value).unwrap();
        Nodes::default(&mut node);
        node
    }

    #[test]
    fn columns_show_status_roles_and_addresses() {
        let node = node(json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}));
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let cells: Vec<Value> = Nodes::COLUMNS.iter().map(|column| (column.cell)(&node, now)).collect();
        assert_eq!(
            cells,
            [
                "n",
                "Ready,SchedulingDisabled",
                "control-plane",
                "<unknown>",
                "",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]
        );
    }

    #[test]
    fn a_pod_range_is_given_once() {
        let old = node(json!({"spec": {"podCIDR": "10.0.0.0/24"}}));
        assert_eq!(old.spec.as_ref().unwrap().pod_cidrs, Some(vec!["10.0.0.0/24".to_owned()]));
        let new = node(json!({"spec": {"podCIDR": "10.0.1.0/24"}}));
        assert_eq!(
            Nodes::validate_update(&new, &old).to_string(),
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"
        );
        assert!(Nodes::validate_update(&new, &node(json!({}))).is_empty());
    }

    #[test]
    fn capacity_is_allocatable_unless_said_and_taints_are_unique() {
        let node = node(json!({"status": {"capacity": {"cpu": "1000m"}},
            "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}}));
        assert_eq!(serde_json::to_value(&node.status).unwrap()["allocatable"], json!({"cpu": "1"}));
        assert_eq!(
            Nodes::validate(&node).to_string(),
            "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by \
             key and effect pair"
        );
    }
}
