//! What a certificate's key may be used for, in the certificates API's words.

use der::asn1::ObjectIdentifier;
use der::flagset::FlagSet;
use x509_cert::ext::pkix::KeyUsages;

use crate::error::{Error, Result};

/// The two sides of a TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Serves.
    Server,
    /// Authenticates itself to a server.
    Client,
    /// Does both, as kubelets and etcd peers may.
    Both,
}

/// Key usages and extended key usages of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usages {
    pub(crate) key: FlagSet<KeyUsages>,
    pub(crate) extended: Vec<ObjectIdentifier>,
}

pub(crate) const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
pub(crate) const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// `certificates.k8s.io/v1` KeyUsage values and their bits (RFC 5280, 4.2.1.3).
const KEY_USAGES: &[(&str, KeyUsages)] = &[
    ("signing", KeyUsages::DigitalSignature),
    ("digital signature", KeyUsages::DigitalSignature),
    ("content commitment", KeyUsages::NonRepudiation),
    ("key encipherment", KeyUsages::KeyEncipherment),
    ("key agreement", KeyUsages::KeyAgreement),
    ("data encipherment", KeyUsages::DataEncipherment),
    ("cert sign", KeyUsages::KeyCertSign),
    ("crl sign", KeyUsages::CRLSign),
    ("encipher only", KeyUsages::EncipherOnly),
    ("decipher only", KeyUsages::DecipherOnly),
];

/// `certificates.k8s.io/v1` KeyUsage values and their object identifiers (RFC 5280, 4.2.1.12).
const EXTENDED_USAGES: &[(&str, ObjectIdentifier)] = &[
    ("any", ObjectIdentifier::new_unwrap("2.5.29.37.0")),
    ("server auth", SERVER_AUTH),
    ("client auth", CLIENT_AUTH),
    ("code signing", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3")),
    ("email protection", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4")),
    ("s/mime", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4")),
    ("ipsec end system", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.5")),
    ("ipsec tunnel", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.6")),
    ("ipsec user", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.7")),
    ("timestamping", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8")),
    ("ocsp signing", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9")),
    ("microsoft sgc", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.3.3")),
    ("netscape sgc", ObjectIdentifier::new_unwrap("2.16.840.1.113730.4.1")),
];

impl Usages {
    /// From the `spec.usages` of a CertificateSigningRequest.
    ///
    /// # Errors
    /// [`Error::Malformed`] naming the values that are not known, in upstream's words.
    pub fn parse(usages: &[impl AsRef<str>]) -> Result<Self> {
        let mut parsed = Self { key: FlagSet::default(), extended: Vec::new() };
        let mut unknown = Vec::new();
        for usage in usages.iter().map(AsRef::as_ref) {
            if let Some((_, bit)) = KEY_USAGES.iter().find(|(name, _)| *name == usage) {
                parsed.key |= *bit;
            } else if let Some((_, oid)) = EXTENDED_USAGES.iter().find(|(name, _)| *name == usage) {
                if !parsed.extended.contains(oid) {
                    parsed.extended.push(*oid);
                }
            } else {
                unknown.push(format!("{usage:?}"));
            }
        }
        if !unknown.is_empty() {
            return Err(Error::malformed("usages", format!("unrecognized usage values: [{}]", unknown.join(" "))));
        }
        parsed.extended.sort();
        Ok(parsed)
    }
}

impl From<Usage> for Usages {
    fn from(usage: Usage) -> Self {
        let extended = match usage {
            Usage::Server => vec![SERVER_AUTH],
            Usage::Client => vec![CLIENT_AUTH],
            Usage::Both => vec![SERVER_AUTH, CLIENT_AUTH],
        };
        Self { key: KeyUsages::DigitalSignature.into(), extended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits_and_unknown_ones_are_all_named() {
        let usages = Usages::parse(&["client auth", "digital signature", "server auth", "client auth"]).unwrap();
        assert_eq!(usages, Usage::Both.into());
        let error = Usages::parse(&["client auth", "flying", "s/mime", "diving"]).unwrap_err();
        assert_eq!(error.to_string(), r#"usages: unrecognized usage values: ["flying" "diving"]"#);
    }
}
