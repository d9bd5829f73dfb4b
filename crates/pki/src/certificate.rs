//! What a certificate says, read once into plain fields.

use std::net::IpAddr;

use base::Timestamp;
use der::asn1::{Any, Ia5StringRef, ObjectIdentifier, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use der::{Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, SubjectAltName, SubjectKeyIdentifier};
use x509_cert::name::Name;
use x509_cert::time::Time;

use crate::error::{Error, Result};
use crate::key::sha256;
use crate::pem;

pub(crate) const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
pub(crate) const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
/// The user's UID in a client certificate's subject (upstream's `asn1util.X509UID`).
const USER_UID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57683.2");

/// A certificate's contents. Reading one verifies nothing: that is the handshake's or [`crate::tls::Trust`]'s work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's (last) `CN`; empty when it has none.
    pub common_name: String,
    /// Every `O` of the subject, in order: Kubernetes' groups.
    pub organizations: Vec<String>,
    /// The issuer's `CN`; empty when it has none.
    pub issuer_common_name: String,
    /// DNS names it is valid for.
    pub dns_names: Vec<String>,
    /// Addresses it is valid for.
    pub ip_addresses: Vec<IpAddr>,
    /// The serial number in lower-case hex.
    pub serial: String,
    /// The first moment of its life.
    pub not_before: Timestamp,
    /// The last moment of its life.
    pub not_after: Timestamp,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// The DER `SubjectPublicKeyInfo`.
    pub public_key_der: Vec<u8>,
    pub(crate) subject: Name,
    issuer: Name,
    pub(crate) subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    user_uids: Vec<Any>,
}

fn malformed(reason: impl ToString) -> Error {
    Error::malformed("certificate", reason)
}

impl Certificate {
    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_pem(pem: &str) -> Result<Self> {
        Self::from_der(&pem::certificates(pem)?[0])
    }

    /// Reads a DER certificate.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let certificate = x509_cert::Certificate::from_der(der).map_err(malformed)?;
        let tbs = certificate.tbs_certificate();
        let names = match tbs.get_extension::<SubjectAltName>().map_err(malformed)? {
            Some((_, names)) => names.0,
            None => Vec::new(),
        };
        let (dns_names, ip_addresses) = alternative_names(&names);
        let is_ca = tbs.get_extension::<BasicConstraints>().map_err(malformed)?.is_some_and(|(_, basic)| basic.ca);
        let key_id = tbs.get_extension::<SubjectKeyIdentifier>().map_err(malformed)?;
        let issuer_id = tbs.get_extension::<AuthorityKeyIdentifier>().map_err(malformed)?;
        let subject = Subject::read(tbs.subject())?;
        Ok(Self {
            common_name: subject.common_name,
            organizations: subject.organizations,
            issuer_common_name: Subject::read(tbs.issuer())?.common_name,
            dns_names,
            ip_addresses,
            serial: serial_hex(tbs.serial_number().as_bytes()),
            not_before: timestamp(tbs.validity().not_before)?,
            not_after: timestamp(tbs.validity().not_after)?,
            is_ca,
            public_key_der: tbs.subject_public_key_info().to_der().map_err(malformed)?,
            subject: tbs.subject().clone(),
            issuer: tbs.issuer().clone(),
            subject_key_id: key_id.map(|(_, id)| id.0.as_bytes().to_vec()),
            authority_key_id: issuer_id.and_then(|(_, id)| id.key_identifier).map(|id| id.as_bytes().to_vec()),
            user_uids: subject.user_uids,
        })
    }

    /// Whether the certificate says that `ca` signed it. Proves nothing: signatures are checked by the handshake.
    pub fn names_as_issuer(&self, ca: &Self) -> bool {
        let same_key = match (&self.authority_key_id, &ca.subject_key_id) {
            (Some(own), Some(cas)) => own == cas,
            _ => true,
        };
        same_key && self.issuer == ca.subject
    }

    /// Whether the certificate should be replaced: less than a third of its life is left, or it is not valid yet
    /// (the clock was wrong when it was made).
    pub fn renewal_due(&self, now: Timestamp) -> bool {
        now < self.not_before || now >= self.renewal_time()
    }

    /// When [`Certificate::renewal_due`] begins to hold.
    pub fn renewal_time(&self) -> Timestamp {
        let life_seconds = self.not_after.as_second() - self.not_before.as_second();
        Timestamp::from_second(self.not_after.as_second() - life_seconds / 3).unwrap_or(self.not_after)
    }
}

/// Who a verified client certificate says its bearer is, as upstream's x509 authenticator reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The user name. Empty: the certificate names no user, and must not authenticate one.
    pub common_name: String,
    /// The groups.
    pub organizations: Vec<String>,
    /// The user's UID, when the subject has the attribute 1.3.6.1.4.1.57683.2.
    pub uid: Option<String>,
    /// The serial number in lower-case hex.
    pub serial: String,
    /// Until when the certificate is valid.
    pub not_after: Timestamp,
    /// The value of the user's extra `authentication.kubernetes.io/credential-id`: `X509SHA256=<hex>`.
    pub credential_id: String,
}

/// Reads the identity in a DER client certificate that a handshake has already verified.
///
/// # Errors
/// [`Error::Malformed`] when it is no certificate, or its UID attribute is repeated, empty or not a string.
pub fn peer_identity(der: &[u8]) -> Result<PeerIdentity> {
    let certificate = Certificate::from_der(der)?;
    let uid = match certificate.user_uids.as_slice() {
        [] => None,
        [uid] => match text(uid) {
            Some(uid) if !uid.is_empty() => Some(uid),
            Some(_) => return Err(malformed("UID cannot be an empty string")),
            None => return Err(malformed("unable to parse UID into a string")),
        },
        _ => return Err(malformed("expected 1 UID, but found multiple")),
    };
    Ok(PeerIdentity {
        common_name: certificate.common_name,
        organizations: certificate.organizations,
        uid,
        serial: certificate.serial,
        not_after: certificate.not_after,
        credential_id: format!("X509SHA256={}", hex::encode(sha256(der))),
    })
}

/// The pin of a CA as kubeadm writes it (`--discovery-token-ca-cert-hash`): `sha256:` and the hex SHA-256 of the
/// certificate's `SubjectPublicKeyInfo`. Takes the first certificate of `ca_pem`.
///
/// # Errors
/// [`Error::Malformed`].
pub fn spki_hash(ca_pem: &str) -> Result<String> {
    Ok(spki_hash_of(&Certificate::from_pem(ca_pem)?))
}

pub(crate) fn spki_hash_of(certificate: &Certificate) -> String {
    format!("sha256:{}", hex::encode(sha256(&certificate.public_key_der)))
}

/// The parts of a distinguished name that Kubernetes reads.
pub(crate) struct Subject {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
    user_uids: Vec<Any>,
}

impl Subject {
    pub(crate) fn read(name: &Name) -> Result<Self> {
        let mut subject = Self { common_name: String::new(), organizations: Vec::new(), user_uids: Vec::new() };
        let string = |value| text(value).ok_or_else(|| malformed("a name in a string type that is not supported"));
        for attribute in name.iter() {
            match attribute.oid {
                COMMON_NAME => subject.common_name = string(&attribute.value)?,
                ORGANIZATION => subject.organizations.push(string(&attribute.value)?),
                USER_UID => subject.user_uids.push(attribute.value.clone()),
                _ => {}
            }
        }
        Ok(subject)
    }
}

fn text(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::PrintableString => PrintableStringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::TeletexString => TeletexStringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        _ => None,
    }
}

pub(crate) fn alternative_names(names: &[GeneralName]) -> (Vec<String>, Vec<IpAddr>) {
    let mut dns_names = Vec::new();
    let mut ip_addresses = Vec::new();
    for name in names {
        match name {
            GeneralName::DnsName(name) => dns_names.push(name.as_str().to_owned()),
            GeneralName::IpAddress(octets) => {
                let octets = octets.as_bytes();
                if let Ok(v4) = <[u8; 4]>::try_from(octets) {
                    ip_addresses.push(v4.into());
                } else if let Ok(v6) = <[u8; 16]>::try_from(octets) {
                    ip_addresses.push(v6.into());
                }
            }
            _ => {}
        }
    }
    (dns_names, ip_addresses)
}

fn serial_hex(bytes: &[u8]) -> String {
    let significant = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    hex::encode(&bytes[significant..])
}

fn timestamp(time: Time) -> Result<Timestamp> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).map_err(malformed)?;
    Timestamp::from_second(seconds).map_err(malformed)
}

#[cfg(test)]
mod tests;
