//! Certificate signing requests (PKCS#10, RFC 2986): made for an agent's key, read for a signer.

use std::net::IpAddr;

use aws_lc_rs::signature::{self as algorithms, UnparsedPublicKey, VerificationAlgorithm};
use der::asn1::{BitString, Ia5String, ObjectIdentifier};
use der::{AnyRef, Decode, Encode, Header, Reader, SliceReader};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::builder::Builder;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, ExtensionReq, RequestBuilder};

use crate::ca::name;
use crate::certificate::{Subject, alternative_names};
use crate::error::{Error, Result};
use crate::key::PrivateKey;
use crate::pem;

/// A signing request that is signed by the key it holds.
#[derive(Debug, Clone)]
pub struct Csr {
    /// The subject's `CN`.
    pub common_name: String,
    /// Every `O` of the subject.
    pub organizations: Vec<String>,
    /// DNS names asked for.
    pub dns_names: Vec<String>,
    /// Addresses asked for.
    pub ip_addresses: Vec<IpAddr>,
    /// E-mail addresses asked for.
    pub email_addresses: Vec<String>,
    /// URIs asked for.
    pub uris: Vec<String>,
    pub(crate) subject: Name,
    pub(crate) public_key: SubjectPublicKeyInfoOwned,
    pub(crate) alternative_names: Vec<GeneralName>,
}

fn malformed(reason: impl ToString) -> Error {
    Error::malformed("certificate signing request", reason)
}

impl Csr {
    /// The key the certificate is for, a DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it cannot be encoded.
    pub fn public_key_der(&self) -> Result<Vec<u8>> {
        self.public_key.to_der().map_err(malformed)
    }

    /// Which of [`crate::subject_key::TYPES`] the key is, if it is one.
    pub fn key_type(&self) -> Option<&'static str> {
        crate::subject_key::type_of(&self.public_key)
    }

    /// Reads the first `CERTIFICATE REQUEST` block and checks its signature.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Refused`] when the signature is not by the key in the request.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(malformed)?;
        Self::from_der(&der)
    }

    /// As [`Csr::from_pem`] for DER.
    ///
    /// # Errors
    /// As [`Csr::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let request = CertReq::from_der(der).map_err(malformed)?;
        verify(&request, signed_bytes(der).map_err(malformed)?)?;
        let mut names = requested_names(&request).map_err(malformed)?;
        names.retain(|name| match name {
            // Of any other length it is nobody's address, and not among those that are looked at.
            GeneralName::IpAddress(octets) => matches!(octets.as_bytes().len(), 4 | 16),
            GeneralName::DnsName(_) | GeneralName::Rfc822Name(_) | GeneralName::UniformResourceIdentifier(_) => true,
            _ => false,
        });
        let (dns_names, ip_addresses) = alternative_names(&names);
        let texts = |pick: fn(&GeneralName) -> Option<&Ia5String>| {
            names.iter().filter_map(pick).map(|text| text.as_str().to_owned()).collect()
        };
        let subject = Subject::read(&request.info.subject)?;
        Ok(Self {
            common_name: subject.common_name,
            organizations: subject.organizations,
            dns_names,
            ip_addresses,
            email_addresses: texts(|name| match name {
                GeneralName::Rfc822Name(text) => Some(text),
                _ => None,
            }),
            uris: texts(|name| match name {
                GeneralName::UniformResourceIdentifier(text) => Some(text),
                _ => None,
            }),
            subject: request.info.subject,
            public_key: request.info.public_key,
            alternative_names: names,
        })
    }
}

/// A request for `key`'s certificate, PEM. A kubelet asks as `system:node:<name>` in `system:nodes`.
///
/// # Errors
/// [`Error::Malformed`] when a name cannot be encoded.
pub fn create(
    key: &PrivateKey,
    common_name: &str,
    organizations: &[String],
    dns_names: &[String],
    ip_addresses: &[IpAddr],
) -> Result<String> {
    let mut builder = RequestBuilder::new(name(common_name, organizations)?).map_err(malformed)?;
    let mut names = Vec::new();
    for dns_name in dns_names {
        names.push(GeneralName::DnsName(Ia5String::new(dns_name).map_err(malformed)?));
    }
    names.extend(ip_addresses.iter().map(|address| GeneralName::from(*address)));
    if !names.is_empty() {
        builder.add_extension(&SubjectAltName(names)).map_err(malformed)?;
    }
    let message = builder.finalize(key).map_err(malformed)?;
    let signature = BitString::from_bytes(&key.sign_asn1(&message)?).map_err(malformed)?;
    let request = builder.assemble(signature, key).map_err(malformed)?;
    Ok(pem::encode(pem::CERTIFICATE_REQUEST, &request.to_der().map_err(malformed)?))
}

fn requested_names(request: &CertReq) -> der::Result<Vec<GeneralName>> {
    let mut names = Vec::new();
    for attribute in request.info.attributes.iter() {
        if attribute.oid != <ExtensionReq as der::oid::AssociatedOid>::OID {
            continue;
        }
        for value in attribute.values.iter() {
            let extensions: Vec<Extension> = value.decode_as()?;
            for extension in extensions {
                if extension.extn_id == <SubjectAltName as der::oid::AssociatedOid>::OID {
                    names.extend(SubjectAltName::from_der(extension.extn_value.as_bytes())?.0);
                }
            }
        }
    }
    Ok(names)
}

/// The `CertificationRequestInfo` exactly as it was sent.
fn signed_bytes(der: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(der)?;
    Header::decode(&mut reader)?;
    reader.tlv_bytes()
}

fn verify(request: &CertReq, message: &[u8]) -> Result<()> {
    let Some(algorithm) = algorithm(&request.algorithm, &request.info.public_key.algorithm) else {
        return Err(Error::Refused(format!(
            "a certificate signing request signed with {} is not supported",
            request.algorithm.oid
        )));
    };
    let key = request.info.public_key.subject_public_key.raw_bytes();
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, request.signature.raw_bytes())
        .map_err(|_| Error::Refused("the certificate signing request is not signed by its own key".to_owned()))
}

const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const SECP521R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_WITH_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const RSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_WITH_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The check for a signature's and a key's algorithm. RSA keys below 2048 bits and SHA-1 have none.
fn algorithm(
    signature: &AlgorithmIdentifierOwned,
    key: &AlgorithmIdentifierOwned,
) -> Option<&'static dyn VerificationAlgorithm> {
    let curve = key.parameters.as_ref().and_then(|curve| ObjectIdentifier::try_from(AnyRef::from(curve)).ok());
    Some(match (signature.oid, curve) {
        (ECDSA_WITH_SHA256, Some(SECP256R1)) => &algorithms::ECDSA_P256_SHA256_ASN1,
        (ECDSA_WITH_SHA384, Some(SECP256R1)) => &algorithms::ECDSA_P256_SHA384_ASN1,
        (ECDSA_WITH_SHA512, Some(SECP256R1)) => &algorithms::ECDSA_P256_SHA512_ASN1,
        (ECDSA_WITH_SHA256, Some(SECP384R1)) => &algorithms::ECDSA_P384_SHA256_ASN1,
        (ECDSA_WITH_SHA384, Some(SECP384R1)) => &algorithms::ECDSA_P384_SHA384_ASN1,
        (ECDSA_WITH_SHA512, Some(SECP384R1)) => &algorithms::ECDSA_P384_SHA512_ASN1,
        (ECDSA_WITH_SHA256, Some(SECP521R1)) => &algorithms::ECDSA_P521_SHA256_ASN1,
        (ECDSA_WITH_SHA384, Some(SECP521R1)) => &algorithms::ECDSA_P521_SHA384_ASN1,
        (ECDSA_WITH_SHA512, Some(SECP521R1)) => &algorithms::ECDSA_P521_SHA512_ASN1,
        (RSA_WITH_SHA256, _) => &algorithms::RSA_PKCS1_2048_8192_SHA256,
        (RSA_WITH_SHA384, _) => &algorithms::RSA_PKCS1_2048_8192_SHA384,
        (RSA_WITH_SHA512, _) => &algorithms::RSA_PKCS1_2048_8192_SHA512,
        (ED25519, _) => &algorithms::ED25519,
        _ => return None,
    })
}
