//! What the signers `kubernetes.io/...` take, and where a CertificateSigningRequest stands. Pure.
//!
//! Upstream: pkg/apis/certificates/helpers.go, pkg/controller/certificates.

use api::certificates::v1::CertificateSigningRequest;
use pki::Csr;

/// Clients of the API server, whoever they are.
pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Nodes as clients of the API server.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Nodes' own API.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// What was asked for before there were signers' names: signed without rules, trusted by nobody in particular.
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
const DIGITAL_SIGNATURE: &str = "digital signature";
const KEY_ENCIPHERMENT: &str = "key encipherment";
const CLIENT_AUTH: &str = "client auth";
const SERVER_AUTH: &str = "server auth";

/// The statuses of its conditions of that type.
fn conditions<'a>(request: &'a CertificateSigningRequest, kind: &'a str) -> impl Iterator<Item = &'a str> {
    let all = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.filter(move |own| own.type_ == kind).map(|own| own.status.as_str())
}

/// Whether somebody approved or denied it, whatever the condition's status says.
pub fn is_decided(request: &CertificateSigningRequest) -> bool {
    ["Approved", "Denied"].iter().any(|kind| conditions(request, kind).next().is_some())
}

/// Whether it was approved and not denied.
pub fn is_approved(request: &CertificateSigningRequest) -> bool {
    conditions(request, "Approved").next().is_some() && conditions(request, "Denied").next().is_none()
}

/// Whether its signer said that it cannot be signed.
pub fn has_failed(request: &CertificateSigningRequest) -> bool {
    conditions(request, "Failed").any(|status| status == "True")
}

/// Whether it has its certificate.
pub fn is_issued(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|status| status.certificate.as_ref()).is_some_and(|pem| !pem.0.is_empty())
}

/// What it asks its certificate to be for.
pub fn usages(request: &CertificateSigningRequest) -> &[String] {
    request.spec.usages.as_deref().unwrap_or_default()
}

/// What the signer of that name says of a request. `None`: there is no such signer here.
pub fn check(signer: &str, csr: &Csr, usages: &[String]) -> Option<Result<(), String>> {
    match signer {
        API_CLIENT => Some(api_client(usages)),
        KUBELET_CLIENT => Some(kubelet_client(csr, usages)),
        KUBELET_SERVING => Some(kubelet_serving(csr, usages)),
        LEGACY_UNKNOWN => Some(Ok(())),
        _ => None,
    }
}

fn api_client(usages: &[String]) -> Result<(), String> {
    for usage in usages {
        if ![CLIENT_AUTH, DIGITAL_SIGNATURE, KEY_ENCIPHERMENT].contains(&usage.as_str()) {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    if !usages.iter().any(|usage| usage == CLIENT_AUTH) {
        return Err(format!("missing required usage for client certificate: {CLIENT_AUTH}"));
    }
    Ok(())
}

fn kubelet_client(csr: &Csr, asked: &[String]) -> Result<(), String> {
    of_the_nodes(csr)?;
    let refused = [
        (csr.dns_names.is_empty(), "DNS"),
        (csr.email_addresses.is_empty(), "Email"),
        (csr.ip_addresses.is_empty(), "IP"),
        (csr.uris.is_empty(), "URI"),
    ];
    if let Some((_, kind)) = refused.iter().find(|(absent, _)| !absent) {
        return Err(format!("{kind} subjectAltNames are not allowed"));
    }
    of_a_node(csr)?;
    exactly(asked, CLIENT_AUTH)
}

fn kubelet_serving(csr: &Csr, asked: &[String]) -> Result<(), String> {
    of_the_nodes(csr)?;
    if csr.dns_names.is_empty() && csr.ip_addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    for (absent, kind) in [(csr.email_addresses.is_empty(), "Email"), (csr.uris.is_empty(), "URI")] {
        if !absent {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    exactly(asked, SERVER_AUTH)?;
    of_a_node(csr)
}

fn of_the_nodes(csr: &Csr) -> Result<(), String> {
    if csr.organizations == [NODES] { Ok(()) } else { Err(format!("subject organization is not {NODES}")) }
}

fn of_a_node(csr: &Csr) -> Result<(), String> {
    if csr.common_name.starts_with(NODE_PREFIX) {
        return Ok(());
    }
    Err(format!("subject common name does not begin with {NODE_PREFIX}"))
}

/// `digital signature` and `purpose`, and perhaps `key encipherment` (which RSA keys use), and nothing else.
fn exactly(asked: &[String], purpose: &str) -> Result<(), String> {
    let has = |usage: &str| asked.iter().any(|own| own == usage);
    let known = |usage: &String| usage == DIGITAL_SIGNATURE || usage == KEY_ENCIPHERMENT || usage == purpose;
    if has(DIGITAL_SIGNATURE) && has(purpose) && asked.iter().all(known) {
        return Ok(());
    }
    let mut wanted = [DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, purpose];
    wanted.sort_unstable();
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csr(common_name: &str, organization: &str, dns_names: &[&str]) -> Csr {
        let key = pki::PrivateKey::generate().unwrap();
        let dns_names: Vec<String> = dns_names.iter().map(|name| (*name).to_owned()).collect();
        let pem = pki::csr::create(&key, common_name, &[organization.to_owned()], &dns_names, &[]).unwrap();
        Csr::from_pem(&pem).unwrap()
    }

    fn said(signer: &str, csr: &Csr, usages: &[&str]) -> String {
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        check(signer, csr, &usages).expect("a signer of ours").err().unwrap_or_default()
    }

    const CLIENT: &[&str] = &[DIGITAL_SIGNATURE, CLIENT_AUTH];
    const SERVER: &[&str] = &[SERVER_AUTH, DIGITAL_SIGNATURE, KEY_ENCIPHERMENT];

    #[test]
    fn nodes_are_known_by_their_subject() {
        let node = csr("system:node:n1", NODES, &[]);
        assert_eq!(said(KUBELET_CLIENT, &node, CLIENT), "");
        assert_eq!(said(KUBELET_CLIENT, &node, &[CLIENT_AUTH, DIGITAL_SIGNATURE, KEY_ENCIPHERMENT]), "");
        let wrong = "usages did not match [client auth digital signature key encipherment]";
        assert_eq!(said(KUBELET_CLIENT, &node, &[CLIENT_AUTH]), wrong);
        assert_eq!(said(KUBELET_CLIENT, &node, &[CLIENT_AUTH, DIGITAL_SIGNATURE, SERVER_AUTH]), wrong);
        let other = csr("system:node:n1", "system:masters", &[]);
        assert_eq!(said(KUBELET_CLIENT, &other, CLIENT), "subject organization is not system:nodes");
        let named = csr("system:node:n1", NODES, &["n1"]);
        assert_eq!(said(KUBELET_CLIENT, &named, CLIENT), "DNS subjectAltNames are not allowed");
        let wrong = "subject common name does not begin with system:node:";
        assert_eq!(said(KUBELET_CLIENT, &csr("jane", NODES, &[]), CLIENT), wrong);
        assert_eq!(said(KUBELET_SERVING, &csr("jane", NODES, &["n1"]), SERVER), wrong);
        assert_eq!(said(KUBELET_SERVING, &named, SERVER), "");
        assert_eq!(said(KUBELET_SERVING, &node, SERVER), "DNS or IP subjectAltName is required");
        let wrong = "usages did not match [digital signature key encipherment server auth]";
        assert_eq!(said(KUBELET_SERVING, &named, CLIENT), wrong);
    }

    #[test]
    fn a_client_is_whoever_it_says() {
        let jane = csr("jane", "developers", &["a.example"]);
        assert_eq!(said(API_CLIENT, &jane, &[CLIENT_AUTH]), "");
        assert_eq!(said(API_CLIENT, &jane, SERVER), "invalid usage for client certificate: server auth");
        let missing = "missing required usage for client certificate: client auth";
        assert_eq!(said(API_CLIENT, &jane, &[DIGITAL_SIGNATURE]), missing);
        assert_eq!(said(LEGACY_UNKNOWN, &jane, SERVER), "");
        assert!(check("kubernetes.io/other", &jane, &[]).is_none());
    }
}
