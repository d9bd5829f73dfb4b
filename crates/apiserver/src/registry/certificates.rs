//! What is particular to certificates: who asks for one is written by the server, and what requests, certificates and
//! trust bundles hold is read with the server's own eyes.

use api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition, ClusterTrustBundle};
use api::core::v1::Secret;
use api::meta::v1::Time;
use api::{ByteString, FieldErrors, Object, Path, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Caller;

const REQUEST: &str = "CERTIFICATE REQUEST";
pub(super) const CERTIFICATE: &str = "CERTIFICATE";
/// What is shown in place of a trust bundle.
pub(super) const OMITTED: &str = "<value omitted>";

/// Writes who asks.
pub fn prepare_create(object: &mut dyn Object, caller: &Caller) {
    let Some(request) = object.as_any_mut().downcast_mut::<CertificateSigningRequest>() else { return };
    let spec = &mut request.spec;
    let set = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    spec.username = set(&caller.name);
    spec.uid = set(&caller.uid);
    spec.groups = Some(caller.groups.clone()).filter(|groups| !groups.is_empty());
    spec.extra = Some(caller.extra.clone()).filter(|extra| !extra.is_empty());
}

/// Writes since when conditions hold, where they do not say.
pub fn prepare_update(new: &mut dyn Object, old: &dyn Object, now: Timestamp) {
    let Some(new) = new.as_any_mut().downcast_mut::<CertificateSigningRequest>() else { return };
    let Some(old) = old.as_any().downcast_ref::<CertificateSigningRequest>() else { return };
    let before = |condition: &CertificateSigningRequestCondition| {
        let mut all = old.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let same = all.find(|old| old.type_ == condition.type_ && old.status == condition.status);
        same.and_then(|same| same.last_transition_time.clone())
    };
    let now = Time(super::metadata::whole_second(now));
    for condition in new.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten()) {
        condition.last_update_time.get_or_insert_with(|| now.clone());
        if condition.last_transition_time.is_none() {
            condition.last_transition_time = before(condition).or_else(|| Some(now.clone()));
        }
    }
}

/// What is wrong with a signing request itself.
pub fn validate_request(object: &dyn Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let Some(request) = object.as_any().downcast_ref::<CertificateSigningRequest>() else { return errors };
    if let Err(why) = read_request(&request.spec.request.0) {
        let shown = STANDARD.encode(&request.spec.request.0);
        errors.invalid(&Path::new("spec").child("request"), shown, why);
    }
    errors
}

/// Reads a signing request; its signature must be good.
///
/// # Errors
/// Why it cannot be read.
pub fn read_request(pem: &[u8]) -> Result<pki::Csr, String> {
    let block = blocks(pem).next().filter(|block| block.label == REQUEST);
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    pki::Csr::from_der(&block.der).map_err(|why| why.to_string())
}

/// What a Secret of type `kubernetes.io/tls` is warned of: no server can use its certificate with its key. In the words
/// of Go's `tls.X509KeyPair`, which upstream asks.
pub fn warnings(object: &dyn Object) -> Vec<String> {
    let Some(secret) = object.as_any().downcast_ref::<Secret>() else { return Vec::new() };
    if secret.type_.as_deref() != Some("kubernetes.io/tls") {
        return Vec::new();
    }
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0);
    check_pair(data("tls.crt"), data("tls.key")).err().map(|why| format!("tls: {why}")).into_iter().collect()
}

fn check_pair(certificates: &[u8], key: &[u8]) -> Result<(), &'static str> {
    let is_key = |block: &Block| block.label == "PRIVATE KEY" || block.label.ends_with(" PRIVATE KEY");
    let mut chain = Vec::new();
    let mut others = Vec::new();
    for block in blocks(certificates) {
        if block.label == CERTIFICATE { chain.push(CertificateDer::from(block.der)) } else { others.push(block) }
    }
    match &others[..] {
        _ if !chain.is_empty() => {}
        [] => return Err("failed to find any PEM data in certificate input"),
        [only] if is_key(only) => {
            return Err("failed to find certificate PEM data in certificate input, but did find a private key; PEM \
                        inputs may have been switched");
        }
        _ => return Err("failed to find \"CERTIFICATE\" PEM block in certificate input"),
    }
    let mut others = Vec::new();
    let key = blocks(key).find_map(|block| {
        if is_key(&block) {
            Some(block)
        } else {
            others.push(block);
            None
        }
    });
    let Some(key) = key else {
        return Err(match &others[..] {
            [] => "failed to find any PEM data in key input",
            [only] if only.label == CERTIFICATE => {
                "found a certificate rather than a key in the PEM for the private key"
            }
            _ => "failed to find PEM block with type ending in \"PRIVATE KEY\" in key input",
        });
    };
    let key = PrivateKeyDer::try_from(key.der).map_err(|_| "failed to parse private key")?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Err(rustls::Error::InconsistentKeys(_)) => Err("private key does not match public key"),
        Err(rustls::Error::InvalidCertificate(_)) => Err("failed to parse certificate"),
        Err(_) => Err("failed to parse private key"),
        Ok(_) => Ok(()),
    }
}

/// What is wrong with certificates. Those that were there before are taken as they are.
pub fn validate_certificates(object: &dyn Object, old: Option<&dyn Object>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let any = object.as_any();
    if let Some(request) = any.downcast_ref::<CertificateSigningRequest>() {
        let old = old.and_then(|old| old.as_any().downcast_ref());
        let now = issued(request);
        if now != old.and_then(issued)
            && let Some(Err(why)) = now.map(|now| validate_chain(&now.0))
        {
            errors.invalid(&Path::new("status").child("certificate"), "<certificate data>", why);
        }
    } else if let Some(bundle) = any.downcast_ref::<ClusterTrustBundle>() {
        let old: Option<&ClusterTrustBundle> = old.and_then(|old| old.as_any().downcast_ref());
        if old.is_none_or(|old| old.spec.trust_bundle != bundle.spec.trust_bundle) {
            for why in bundle_problems(&bundle.spec.trust_bundle) {
                errors.invalid(&Path::new("spec").child("trustBundle"), OMITTED, why);
            }
        }
    }
    errors
}

fn issued(request: &CertificateSigningRequest) -> Option<&ByteString> {
    let certificate = request.status.as_ref()?.certificate.as_ref()?;
    (!certificate.0.is_empty()).then_some(certificate)
}

fn validate_chain(pem: &[u8]) -> Result<(), String> {
    let mut count = 0;
    for block in blocks(pem) {
        if block.label != CERTIFICATE {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".to_owned());
        }
        count += 1;
        pki::Certificate::from_der(&block.der).map_err(|why| why.to_string())?;
    }
    if count == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

fn bundle_problems(pem: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut anchors: Vec<(Vec<u8>, Vec<usize>)> = Vec::new();
    for (index, block) in blocks(pem.as_bytes()).enumerate() {
        if block.label != CERTIFICATE {
            problems.push(format!("entry {index} has bad block type: {}", block.label));
        } else if block.has_headers {
            problems.push(format!("entry {index} has PEM block headers"));
        } else {
            match pki::Certificate::from_der(&block.der) {
                Err(_) => problems.push(format!("entry {index} does not parse as X.509")),
                Ok(certificate) if !certificate.is_ca => {
                    problems.push(format!("entry {index} does not have the CA bit set"));
                }
                Ok(_) => match anchors.iter_mut().find(|(der, _)| *der == block.der) {
                    Some((_, indices)) => indices.push(index),
                    None => anchors.push((block.der, vec![index])),
                },
            }
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    if anchors.is_empty() {
        problems.push("at least one trust anchor must be provided".to_owned());
    }
    for (_, indices) in anchors.iter().filter(|(_, indices)| indices.len() > 1) {
        let indices: Vec<String> = indices.iter().map(usize::to_string).collect();
        problems.push(format!("duplicate trust anchor (indices [{}])", indices.join(" ")));
    }
    problems
}

/// One block of a PEM file.
pub(super) struct Block {
    pub label: String,
    has_headers: bool,
    pub der: Vec<u8>,
}

/// The well-formed blocks of a PEM file; what is between them is skipped.
pub(super) fn blocks(pem: &[u8]) -> impl Iterator<Item = Block> {
    let text = String::from_utf8_lossy(pem).into_owned();
    let mut blocks = Vec::new();
    let mut open: Option<(String, bool, String)> = None;
    for line in text.lines().map(str::trim_end) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
            open = Some((label.to_owned(), false, String::new()));
        } else if let Some(label) = line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----")) {
            let closed = open.take().filter(|(own, ..)| own == label);
            if let Some((label, has_headers, body)) = closed
                && let Ok(der) = STANDARD.decode(body)
            {
                blocks.push(Block { label, has_headers, der });
            }
        } else if let Some((_, has_headers, body)) = &mut open {
            if line.contains(':') {
                *has_headers = true;
            } else {
                body.push_str(line.trim());
            }
        }
    }
    blocks.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_are_none() {
        let (now, valid) = ("2026-01-01T00:00:00Z".parse().unwrap(), std::time::Duration::from_secs(3600));
        let ca = pki::Ca::generate("ca", now, valid).unwrap();
        let pair = |name: &str| {
            let identity = ca.issue(&pki::Request::client(name, &[], valid), now).unwrap();
            (identity.cert_pem().to_owned(), identity.key_pem().to_string())
        };
        let ((one, one_key), (_, other_key)) = (pair("one"), pair("two"));
        let check = |certificate: &str, key: &str| check_pair(certificate.as_bytes(), key.as_bytes());
        assert_eq!(check(&one, &one_key), Ok(()));
        let none = "failed to find any PEM data in certificate input";
        assert_eq!(check("", &one_key).unwrap_err(), none);
        assert_eq!(check(&one, "x").unwrap_err(), none.replace("certificate", "key"));
        assert!(check(&one_key, &one).unwrap_err().ends_with("PEM inputs may have been switched"));
        assert!(check(&one, &one).unwrap_err().starts_with("found a certificate rather than a key"));
        assert_eq!(check(&one, &other_key).unwrap_err(), "private key does not match public key");
    }

    #[test]
    fn blocks_are_told_apart() {
        let pem = "junk\n-----BEGIN A-----\nx: y\n\nYWI=\n-----END A-----\n-----BEGIN B-----\nYWI=\n-----END C-----\n";
        let found: Vec<_> = blocks(pem.as_bytes()).map(|block| (block.label, block.has_headers, block.der)).collect();
        assert_eq!(found, [("A".to_owned(), true, b"ab".to_vec())]);
    }

    #[test]
    fn bundles_hold_roots() {
        assert_eq!(bundle_problems(""), ["at least one trust anchor must be provided"]);
        let block = |label: &str| format!("-----BEGIN {label}-----\nYWI=\n-----END {label}-----\n");
        let bad = block("KEY") + &block("CERTIFICATE");
        assert_eq!(bundle_problems(&bad), ["entry 0 has bad block type: KEY", "entry 1 does not parse as X.509"]);
    }

    #[test]
    fn requests_are_read() {
        let why = read_request(b"x").unwrap_err();
        assert_eq!(why, "PEM block type must be CERTIFICATE REQUEST");
        assert!(
            read_request(b"-----BEGIN CERTIFICATE REQUEST-----\nYWI=\n-----END CERTIFICATE REQUEST-----\n").is_err()
        );
    }
}
