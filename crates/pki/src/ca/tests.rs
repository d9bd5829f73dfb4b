//! What a CA signs is what was asked for, and only by who asked.

use super::*;
use crate::csr;
use crate::tls::Trust;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);

fn chain(cert_pem: &str) -> Vec<rustls_pki_types::CertificateDer<'static>> {
    crate::pem::certificates(cert_pem).unwrap()
}

#[test]
fn every_group_is_read_back_in_order() {
    let ca = Ca::generate("kubernetes", now(), 24 * HOUR).unwrap();
    let request = Request::client("system:node:a, with a comma", &["system:nodes", "b", "system:nodes:x=y+z"], HOUR);
    let identity = ca.issue(&request, now()).unwrap();
    let certificate = identity.certificate();
    assert_eq!(certificate.common_name, "system:node:a, with a comma");
    assert_eq!(certificate.organizations, ["system:nodes", "b", "system:nodes:x=y+z"]);
    assert_eq!(certificate.issuer_common_name, "kubernetes");
    assert!(!certificate.is_ca);
    assert_eq!(certificate.not_before, now() - BACKDATE);
    assert_eq!(certificate.not_after, now() + HOUR);
    assert!(certificate.names_as_issuer(ca.certificate()));

    let peer = Trust::new(ca.cert_pem()).unwrap().verify_client(&chain(identity.cert_pem()), now()).unwrap();
    assert_eq!(peer.common_name, request.common_name);
    assert_eq!(peer.organizations, request.organizations);
    assert_eq!(peer.uid, None);
    assert_eq!(peer.serial, certificate.serial);
    assert!(peer.credential_id.starts_with("X509SHA256=") && peer.credential_id.len() == 11 + 64);
}

#[test]
fn trust_ends_with_time_usage_and_authority() {
    let ca = Ca::generate("kubernetes", now(), 24 * HOUR).unwrap();
    let other = Ca::generate("kubernetes", now(), 24 * HOUR).unwrap();
    let trust = Trust::new(ca.cert_pem()).unwrap();
    let client = ca.issue(&Request::client("jane", &[], HOUR), now()).unwrap();
    let client = chain(client.cert_pem());
    assert!(trust.verify_client(&client, now()).is_ok());
    assert!(matches!(trust.verify_client(&client, now() + 2 * HOUR), Err(Error::Refused(_))));
    assert!(matches!(trust.verify_client(&client, now() - HOUR), Err(Error::Refused(_))));
    assert!(matches!(trust.verify_client(&[], now()), Err(Error::Refused(_))));
    assert!(matches!(Trust::new(other.cert_pem()).unwrap().verify_client(&client, now()), Err(Error::Refused(_))));
    let server = Request { usage: Usage::Server, ..Request::client("jane", &[], HOUR) };
    let server = ca.issue(&server, now()).unwrap();
    assert!(matches!(trust.verify_client(&chain(server.cert_pem()), now()), Err(Error::Refused(_))));
    // Certificates of two CAs in one bundle are both trusted.
    let both = Trust::new(&format!("{}{}", other.cert_pem(), ca.cert_pem())).unwrap();
    assert!(both.verify_client(&client, now()).is_ok());
}

#[test]
fn a_request_is_signed_with_its_names_and_the_profiles_usages() {
    let ca = Ca::generate("kubernetes", now(), 24 * HOUR).unwrap();
    let key = PrivateKey::generate().unwrap();
    let (dns, ips) = (vec!["node-1".to_owned()], vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
    let csr = csr::create(&key, "system:node:node-1", &["system:nodes".to_owned()], &dns, &ips).unwrap();

    let read = Csr::from_pem(&csr).unwrap();
    assert_eq!(
        (read.common_name.as_str(), &read.organizations[..]),
        ("system:node:node-1", &["system:nodes".into()][..])
    );
    assert_eq!((&read.dns_names, &read.ip_addresses), (&dns, &ips));
    assert!(read.email_addresses.is_empty() && read.uris.is_empty());

    let profile = Profile { usages: Usages::parse(&["client auth", "digital signature"]).unwrap(), valid: 999 * HOUR };
    let cert_pem = ca.sign_csr(&csr, &profile, now()).unwrap();
    let identity = Identity::new(&cert_pem, &key).unwrap();
    assert_eq!(identity.certificate().dns_names, dns);
    assert_eq!(identity.certificate().ip_addresses, ips);
    assert_eq!(identity.not_after(), ca.certificate().not_after, "no certificate outlives its CA");
    assert!(Trust::new(ca.cert_pem()).unwrap().verify_client(&chain(&cert_pem), now()).is_ok());

    assert!(matches!(Identity::new(&cert_pem, &PrivateKey::generate().unwrap()), Err(Error::Refused(_))));
    assert!(matches!(ca.sign_csr(&csr, &profile, now() + 25 * HOUR), Err(Error::Refused(_))));
}

#[test]
fn a_request_must_be_signed_by_its_own_key() {
    let key = PrivateKey::generate().unwrap();
    let pem = csr::create(&key, "jane", &["developers".to_owned()], &[], &[]).unwrap();
    let der = {
        use rustls_pki_types::pem::PemObject;
        rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    };
    assert!(Csr::from_der(&der).is_ok());
    let at = der.windows(4).position(|bytes| bytes == b"jane").unwrap();
    let mut forged = der.clone();
    forged[at..at + 4].copy_from_slice(b"root");
    assert!(matches!(Csr::from_der(&forged), Err(Error::Refused(_))));
    assert!(matches!(Csr::from_der(&der[..der.len() - 1]), Err(Error::Malformed { .. })));
    assert!(matches!(Csr::from_pem("nothing"), Err(Error::Malformed { .. })));
}

/// A request with every kind of alternative name and an RSA key, made by another implementation.
const RSA_REQUEST: &str = include_str!("rsa.csr");

#[test]
fn an_rsa_request_of_another_implementation_is_read_and_signed() {
    let csr = Csr::from_pem(RSA_REQUEST).unwrap();
    assert_eq!(csr.common_name, "jane");
    assert_eq!(csr.organizations, ["developers", "testers"]);
    assert_eq!(csr.dns_names, ["a.example", "*.b.example"]);
    assert_eq!(csr.ip_addresses, ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
    assert_eq!(csr.email_addresses, ["jane@example.com"]);
    assert_eq!(csr.uris, ["spiffe://example/jane"]);
    let ca = Ca::generate("kubernetes", now(), 24 * HOUR).unwrap();
    let profile = Profile { usages: Usage::Client.into(), valid: HOUR };
    let cert_pem = ca.sign_csr(RSA_REQUEST, &profile, now()).unwrap();
    let peer = Trust::new(ca.cert_pem()).unwrap().verify_client(&chain(&cert_pem), now()).unwrap();
    assert_eq!(peer.organizations, ["developers", "testers"]);
}

#[test]
fn a_ca_survives_its_files_and_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("ca.crt"), dir.path().join("ca.key"));
    let ca = Ca::generate("kubernetes", now(), 24 * HOUR).unwrap();
    ca.save(&cert, &key).unwrap();
    let loaded = Ca::load(&cert, &key).unwrap();
    assert_eq!(loaded.certificate(), ca.certificate());
    let leaf = ca.issue(&Request::client("jane", &[], 24 * HOUR), now()).unwrap();
    let renewed = loaded.renewed(now() + 20 * HOUR, 24 * HOUR).unwrap();
    assert_eq!(renewed.spki_hash(), ca.spki_hash());
    assert_ne!(renewed.certificate().serial, ca.certificate().serial);
    let trust = Trust::new(renewed.cert_pem()).unwrap();
    assert!(trust.verify_client(&chain(leaf.cert_pem()), now() + 20 * HOUR).is_ok());
    // A leaf is no CA.
    let leaf_key = leaf.key_pem();
    assert!(matches!(Ca::from_pem(leaf.cert_pem(), leaf_key), Err(Error::Refused(_))));
    assert!(matches!(Ca::from_pem(ca.cert_pem(), leaf_key), Err(Error::Refused(_))));
}

#[test]
fn the_last_third_of_a_life_is_for_renewal() {
    let ca = Ca::generate("kubernetes", now() + BACKDATE, 30 * HOUR - BACKDATE).unwrap();
    let certificate = ca.certificate();
    assert_eq!(certificate.renewal_time(), now() + 20 * HOUR);
    assert!(!certificate.renewal_due(now() + 19 * HOUR));
    assert!(certificate.renewal_due(now() + 20 * HOUR));
    assert!(certificate.renewal_due(now() - HOUR), "not valid yet");
}
