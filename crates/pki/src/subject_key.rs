//! Keys of workloads, of each kind a pod can ask for, and the empty request with which a signer is shown the public
//! half and that the private one is there.
//!
//! Upstream: pkg/kubelet/podcertificate (its keys and requests).

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use der::asn1::{Any, AnyRef, BitString, ObjectIdentifier, Uint};
use der::{Decode, Encode};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::request::{CertReq, CertReqInfo, Version};
use zeroize::Zeroizing;

use crate::ca::name;
use crate::error::{Error, Result};
use crate::pem;

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_WITH_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const RSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const SECP521R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
/// The kinds of keys pods can ask for.
pub const TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
const FAILED: Error = Error::Crypto("generate a key");

/// A key that is made for somebody else and only ever written down. Its bytes are wiped when it is dropped, and never
/// printed.
pub struct SubjectKey {
    pem: Zeroizing<String>,
    spki: Vec<u8>,
    request: Vec<u8>,
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubjectKey").finish_non_exhaustive()
    }
}

impl SubjectKey {
    /// A new key of one of [`TYPES`]. RSA takes seconds of a
    /// core: blocking.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such type, in upstream's words; [`Error::Crypto`].
    pub fn generate(key_type: &str) -> Result<Self> {
        match key_type {
            "RSA3072" => Self::rsa(KeySize::Rsa3072),
            "RSA4096" => Self::rsa(KeySize::Rsa4096),
            "ECDSAP256" => Self::ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_WITH_SHA256),
            "ECDSAP384" => Self::ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_WITH_SHA384),
            "ECDSAP521" => Self::ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING, ECDSA_WITH_SHA512),
            "ED25519" => Self::ed25519(),
            other => Err(Error::Refused(format!("unknown key type {other:?}"))),
        }
    }

    fn rsa(size: KeySize) -> Result<Self> {
        let pair = rsa::KeyPair::generate(size).map_err(|_| FAILED)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| FAILED)?;
        let spki = pair.public_key().as_der().map_err(|_| FAILED)?;
        let algorithm = AlgorithmIdentifierOwned { oid: RSA_WITH_SHA256, parameters: Some(Any::null()) };
        Self::new(pkcs8.as_ref(), spki.as_ref(), algorithm, |message| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
            Ok(signature)
        })
    }

    fn ecdsa(curve: &'static EcdsaSigningAlgorithm, oid: ObjectIdentifier) -> Result<Self> {
        let pair = EcdsaKeyPair::generate(curve).map_err(|_| FAILED)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| FAILED)?;
        let spki = pair.public_key().as_der().map_err(|_| FAILED)?;
        let algorithm = AlgorithmIdentifierOwned { oid, parameters: None };
        Self::new(pkcs8.as_ref(), spki.as_ref(), algorithm, |message| {
            Ok(pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec())
        })
    }

    fn ed25519() -> Result<Self> {
        let pair = Ed25519KeyPair::generate().map_err(|_| FAILED)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| FAILED)?;
        let spki = pair.public_key().as_der().map_err(|_| FAILED)?;
        let algorithm = AlgorithmIdentifierOwned { oid: ED25519, parameters: None };
        Self::new(pkcs8.as_ref(), spki.as_ref(), algorithm, |message| Ok(pair.try_sign(message)?.as_ref().to_vec()))
    }

    fn new(
        pkcs8: &[u8],
        spki: &[u8],
        algorithm: AlgorithmIdentifierOwned,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Unspecified>,
    ) -> Result<Self> {
        let encoding = |error: der::Error| Error::malformed("certificate signing request", error);
        let info = CertReqInfo {
            version: Version::V1,
            subject: name("", &[])?,
            public_key: SubjectPublicKeyInfoOwned::from_der(spki).map_err(encoding)?,
            attributes: Default::default(),
        };
        let signature = sign(&info.to_der().map_err(encoding)?).map_err(|_| Error::Crypto("sign"))?;
        let signature = BitString::from_bytes(&signature).map_err(encoding)?;
        let request = CertReq { info, algorithm, signature }.to_der().map_err(encoding)?;
        Ok(Self { pem: Zeroizing::new(pem::encode(pem::PRIVATE_KEY, pkcs8)), spki: spki.to_vec(), request })
    }

    /// The private key, PKCS#8 PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The public key, a DER `SubjectPublicKeyInfo`.
    pub fn public_key_der(&self) -> &[u8] {
        &self.spki
    }

    /// A PKCS#10 request, DER, that says nothing but whose key it is, signed by it.
    pub fn stub_request(&self) -> &[u8] {
        &self.request
    }
}

/// Which of [`TYPES`] a key is, if it is one.
pub(crate) fn type_of(key: &SubjectPublicKeyInfoOwned) -> Option<&'static str> {
    let parameters = key.algorithm.parameters.as_ref();
    match key.algorithm.oid {
        ED25519 => Some("ED25519"),
        EC => match ObjectIdentifier::try_from(AnyRef::from(parameters?)).ok()? {
            SECP256R1 => Some("ECDSAP256"),
            SECP384R1 => Some("ECDSAP384"),
            SECP521R1 => Some("ECDSAP521"),
            _ => None,
        },
        // The modulus is the first of the two numbers.
        RSA => match Vec::<Uint>::from_der(key.subject_public_key.raw_bytes()).ok()?.first()?.as_bytes() {
            modulus if modulus.len() == 384 && modulus[0] >= 0x80 => Some("RSA3072"),
            modulus if modulus.len() == 512 && modulus[0] >= 0x80 => Some("RSA4096"),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Csr;

    #[test]
    fn every_kind_of_key_proves_that_it_is_there() {
        for kind in TYPES {
            let key = SubjectKey::generate(kind).unwrap();
            let request = Csr::from_der(key.stub_request()).unwrap_or_else(|why| panic!("{kind}: {why}"));
            assert_eq!(request.public_key_der().unwrap(), key.public_key_der(), "{kind}");
            assert_eq!(request.key_type(), Some(kind));
            assert!(request.common_name.is_empty() && request.subject.is_empty() && request.dns_names.is_empty());
            assert!(key.pem().starts_with("-----BEGIN PRIVATE KEY-----\n"), "{kind}");
            let mut forged = key.stub_request().to_vec();
            let last = forged.len() - 1;
            forged[last] ^= 1;
            assert!(Csr::from_der(&forged).is_err(), "{kind}");
            assert!(!format!("{key:?}").contains(&key.pem()[40..60]));
        }
    }

    #[test]
    fn other_kinds_are_refused() {
        assert_eq!(SubjectKey::generate("DSA1024").unwrap_err().to_string(), "unknown key type \"DSA1024\"");
    }
}
