//! NetworkPolicy: With whom the selected pods may talk.

use api::IntOrString;
use api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};

use crate::apps::workload;
use crate::checks;
use crate::prelude::*;

const TYPES: [&str; 2] = ["Ingress", "Egress"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = NetworkPolicy;

    const NAMES: Names = Names::new("networkpolicies", "networkpolicy").short(&["netpol"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "networkpolicies" };
    const COLUMNS: &'static [Column<NetworkPolicy>] = &[
        Column::name(),
        Column::new("Pod-Selector", "string", |policy: &NetworkPolicy, _| {
            let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
            Value::from(workload::selector_text(selector))
        })
        .describe("The pods it is for."),
        Column::age(),
    ];

    fn default(policy: &mut NetworkPolicy) {
        let spec = policy.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        let ingress = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        let egress = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        for port in ingress.chain(egress) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            let types = TYPES.iter().take(if has_egress { 2 } else { 1 });
            spec.policy_types = Some(types.map(|type_| (*type_).to_owned()).collect());
        }
    }

    fn prepare_create(policy: &mut NetworkPolicy) {
        policy.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut NetworkPolicy, old: &NetworkPolicy) {
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn validate(policy: &NetworkPolicy) -> FieldErrors {
        validate_spec(policy, &[])
    }

    /// Ranges that were there before are taken as they are.
    fn validate_update(new: &NetworkPolicy, old: &NetworkPolicy) -> FieldErrors {
        validate_spec(new, &ranges(old))
    }
}

fn peers(spec: &NetworkPolicySpec) -> impl Iterator<Item = &NetworkPolicyPeer> {
    let from = spec.ingress.iter().flatten().flat_map(|rule| rule.from.iter().flatten());
    from.chain(spec.egress.iter().flatten().flat_map(|rule| rule.to.iter().flatten()))
}

fn ranges(policy: &NetworkPolicy) -> Vec<&str> {
    let blocks = policy.spec.iter().flat_map(peers).filter_map(|peer| peer.ip_block.as_ref());
    blocks
        .flat_map(|block| std::iter::once(&block.cidr).chain(block.except.iter().flatten()))
        .map(String::as_str)
        .collect()
}

fn validate_spec(policy: &NetworkPolicy, known: &[&str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let Some(spec) = &policy.spec else { return errors };
    checks::label_selector(&mut errors, &path.child("podSelector"), spec.pod_selector.as_ref());
    let ingress = spec.ingress.iter().flatten().map(|rule| (&rule.ports, &rule.from));
    let egress = spec.egress.iter().flatten().map(|rule| (&rule.ports, &rule.to));
    let ingress = ingress.enumerate().map(|(index, rule)| ("ingress", "from", index, rule));
    for (field, peers_field, index, (ports, peers)) in
        ingress.chain(egress.enumerate().map(|(index, rule)| ("egress", "to", index, rule)))
    {
        let path = path.child(field).index(index);
        for (index, port) in ports.iter().flatten().enumerate() {
            validate_port(&mut errors, &path.child("ports").index(index), port);
        }
        for (index, peer) in peers.iter().flatten().enumerate() {
            validate_peer(&mut errors, &path.child(peers_field).index(index), peer, known);
        }
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let path = path.child("policyTypes");
    if types.len() > TYPES.len() {
        errors.invalid(&path, checks::shown(&types), "may not specify more than two policyTypes");
        return errors;
    }
    for (index, type_) in types.iter().enumerate().filter(|(_, type_)| !TYPES.contains(&type_.as_str())) {
        errors.not_supported(&path.index(index), type_.as_str(), &TYPES);
    }
    errors
}

fn validate_port(errors: &mut FieldErrors, path: &Path, port: &NetworkPolicyPort) {
    if let Some(protocol) = port.protocol.as_deref().filter(|protocol| !PROTOCOLS.contains(protocol)) {
        errors.not_supported(&path.child("protocol"), protocol, &PROTOCOLS);
    }
    let end_path = path.child("endPort");
    match (&port.port, port.end_port) {
        (None, Some(end)) => errors.invalid(&end_path, end, "may not be specified when `port` is not specified"),
        (None, None) => {}
        (Some(IntOrString::Int(number)), end) => {
            checks::port(errors, &path.child("port"), *number);
            let Some(end) = end else { return };
            if end < *number {
                errors.invalid(&end_path, end, "must be greater than or equal to `port`");
            }
            checks::port(errors, &end_path, end);
        }
        (Some(name @ IntOrString::String(_)), end) => {
            if let Some(end) = end {
                errors.invalid(&end_path, end, "may not be specified when `port` is non-numeric");
            }
            checks::port_or_name(errors, &path.child("port"), name);
        }
    }
}

fn validate_peer(errors: &mut FieldErrors, path: &Path, peer: &NetworkPolicyPeer, known: &[&str]) {
    checks::label_selector(errors, &path.child("podSelector"), peer.pod_selector.as_ref());
    checks::label_selector(errors, &path.child("namespaceSelector"), peer.namespace_selector.as_ref());
    let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    match &peer.ip_block {
        None if !selects => errors.required(path, "must specify a peer"),
        None => {}
        Some(block) => {
            validate_block(errors, &path.child("ipBlock"), block, known);
            if selects {
                errors.forbidden(path, "may not specify both ipBlock and another peer");
            }
        }
    }
}

fn validate_block(errors: &mut FieldErrors, path: &Path, block: &IPBlock, known: &[&str]) {
    if block.cidr.is_empty() {
        return errors.required(&path.child("cidr"), "");
    }
    let check = |errors: &mut FieldErrors, path: &Path, range: &str| {
        if !known.contains(&range) {
            checks::cidr(errors, path, range);
        }
    };
    check(errors, &path.child("cidr"), &block.cidr);
    let Some(whole) = checks::parse_cidr(&block.cidr) else { return };
    for (index, except) in block.except.iter().flatten().enumerate() {
        let path = path.child("except").index(index);
        check(errors, &path, except);
        if checks::parse_cidr(except).is_some_and(|part| !checks::is_strict_subset(part, whole)) {
            errors.invalid(&path, except.as_str(), "must be a strict subset of `cidr`");
        }
    }
}
