//! Certificates made by another implementation, with values that it computed.

use super::*;

/// Two groups in one multi-valued set, a common name, a user's UID; a P-384 key; self-signed.
const WITH_UID: &str = include_str!("uid.crt");
const WITH_TWO_UIDS: &str = include_str!("two-uids.crt");

fn identity(pem: &str) -> Result<PeerIdentity> {
    peer_identity(&pem::certificates(pem)?[0])
}

#[test]
fn a_foreign_certificate_says_who_it_is() {
    let identity = identity(WITH_UID).unwrap();
    assert_eq!(
        identity,
        PeerIdentity {
            common_name: "jane".to_owned(),
            organizations: vec!["testers".to_owned(), "developers".to_owned()],
            uid: Some("uid-1".to_owned()),
            serial: "027f5926338b5b74bc92f6a4420d92459b6338f9".to_owned(),
            not_after: "2126-10-29T19:45:50Z".parse().unwrap(),
            credential_id: "X509SHA256=0bf6004b9f7b3ca6fdb2d36e3f91fed67c6e83cb75460ec1126d3d1fca046ab2".to_owned(),
        }
    );
    assert!(Certificate::from_pem(WITH_UID).unwrap().is_ca);
}

#[test]
fn two_uids_are_refused() {
    let error = identity(WITH_TWO_UIDS).unwrap_err();
    assert_eq!(error.to_string(), "certificate: expected 1 UID, but found multiple");
}

#[test]
fn the_hash_is_kubeadms() {
    assert_eq!(spki_hash(WITH_UID).unwrap(), "sha256:07e7d6273a0fb05457bbe3fc8f3432a1b6573f07e835b4bc243e63beda31ce2a");
}

#[test]
fn what_is_no_certificate_is_malformed() {
    for pem in ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(Certificate::from_pem(pem), Err(Error::Malformed { .. })), "{pem}");
    }
}
