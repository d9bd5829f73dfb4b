//! ECDSA P-256 keys, private and public.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, UnparsedPublicKey,
};
use der::asn1::ObjectIdentifier;
use der::{Decode, Document};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use spki::{AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey, SubjectPublicKeyInfoRef};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::pem;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// An uncompressed point: 0x04, x, y.
const POINT_LEN: usize = 65;

/// `LEN` bytes from the crypto library's generator: for keys and secrets, where [`base::Random`] must not be used.
///
/// # Errors
/// [`Error::Crypto`] when the operating system has no randomness.
pub fn random_bytes<const LEN: usize>() -> Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Crypto("draw random bytes"))?;
    Ok(bytes)
}

/// A private key. Cheap to clone; its bytes are wiped when the last clone is dropped, and never printed.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    pkcs8: Zeroizing<Vec<u8>>,
    /// Signs in DER form, for certificates.
    asn1: EcdsaKeyPair,
    /// Signs as `r || s`, for JSON web signatures.
    fixed: EcdsaKeyPair,
    public: PublicKey,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.0.public).finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// [`Error::Crypto`].
    pub fn generate() -> Result<Self> {
        let failed = Error::Crypto("generate a key");
        match EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).and_then(|pair| pair.to_pkcs8v1()) {
            Ok(document) => Self::from_der(document.as_ref()),
            Err(_) => Err(failed),
        }
    }

    /// Reads the first private key of `pem`: PKCS#8 (`PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`).
    ///
    /// # Errors
    /// [`Error::Malformed`] when there is none, or it is not ECDSA P-256.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::malformed("private key", e))?;
        if matches!(der, PrivateKeyDer::Pkcs1(_)) {
            return Err(Error::malformed("private key", "it is an RSA key; only ECDSA P-256 keys are supported"));
        }
        Self::from_der(der.secret_der())
    }

    fn from_der(der: &[u8]) -> Result<Self> {
        let pair = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_private_key_der(algorithm, der)
                .map_err(|_| Error::malformed("private key", "it is not an ECDSA P-256 key"))
        };
        let (asn1, fixed) = (pair(&ECDSA_P256_SHA256_ASN1_SIGNING)?, pair(&ECDSA_P256_SHA256_FIXED_SIGNING)?);
        let document = asn1.to_pkcs8v1().map_err(|_| Error::Crypto("encode a key"))?;
        let spki = asn1.public_key().as_der().map_err(|_| Error::Crypto("encode a key"))?;
        let public = PublicKey::from_der(spki.as_ref())?;
        Ok(Self(Arc::new(Inner { pkcs8: Zeroizing::new(document.as_ref().to_vec()), asn1, fixed, public })))
    }

    /// The key as PKCS#8 PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::encode(pem::PRIVATE_KEY, &self.0.pkcs8))
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// An ECDSA SHA-256 signature in DER form (RFC 3279), as certificates carry it.
    pub(crate) fn sign_asn1(&self, message: &[u8]) -> Result<Vec<u8>> {
        sign(&self.0.asn1, message)
    }

    /// An ECDSA SHA-256 signature as `r || s` (RFC 7518, ES256).
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>> {
        sign(&self.0.fixed, message)
    }
}

fn sign(pair: &EcdsaKeyPair, message: &[u8]) -> Result<Vec<u8>> {
    let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| Error::Crypto("sign"))?;
    Ok(signature.as_ref().to_vec())
}

impl signature::Keypair for PrivateKey {
    type VerifyingKey = PublicKey;

    fn verifying_key(&self) -> PublicKey {
        self.0.public.clone()
    }
}

impl DynSignatureAlgorithmIdentifier for PrivateKey {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        Ok(AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA256, parameters: None })
    }
}

/// A P-256 public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Arc<[u8]>,
    point: [u8; POINT_LEN],
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.key_id())
    }
}

impl PublicKey {
    /// Reads a DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is not one, or not of an ECDSA P-256 key.
    pub fn from_der(spki: &[u8]) -> Result<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|e| Error::malformed("public key", e))?;
        let curve = info.algorithm.parameters.and_then(|curve| ObjectIdentifier::try_from(curve).ok());
        let point = info.subject_public_key.as_bytes().and_then(|point| point.try_into().ok());
        match point {
            Some(point) if info.algorithm.oid == EC_PUBLIC_KEY && curve == Some(SECP256R1) => {
                Ok(Self { spki: spki.into(), point })
            }
            _ => Err(Error::malformed("public key", "it is not an ECDSA P-256 key")),
        }
    }

    /// Reads every `PUBLIC KEY` block, in order.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>> {
        SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes())
            .map(|spki| Self::from_der(&spki.map_err(|e| Error::malformed("public key", e))?))
            .collect()
    }

    /// Reads the first `PUBLIC KEY` block, or the public half of the first private key, as upstream's
    /// `--service-account-key-file` does.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_pem(pem: &str) -> Result<Self> {
        match SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()) {
            Ok(spki) => Self::from_der(&spki),
            Err(_) => Ok(PrivateKey::from_pem(pem)?.public_key().clone()),
        }
    }

    /// The key as a `PUBLIC KEY` PEM block.
    pub fn to_pem(&self) -> String {
        pem::encode(pem::PUBLIC_KEY, &self.spki)
    }

    /// The DER `SubjectPublicKeyInfo`.
    pub fn as_der(&self) -> &[u8] {
        &self.spki
    }

    /// The point's coordinates, 32 bytes each, big-endian.
    pub fn coordinates(&self) -> (&[u8], &[u8]) {
        self.point[1..].split_at(32)
    }

    /// Upstream's key id (`pkg/serviceaccount/jwt.go`): unpadded base64url of the SHA-256 of the DER form.
    pub fn key_id(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha256(&self.spki))
    }

    pub(crate) fn verify_fixed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point).verify(message, signature).is_ok()
    }
}

impl EncodePublicKey for PublicKey {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(Document::try_from(&*self.spki)?)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("a SHA-256 digest is 32 bytes long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_pem_and_signs() {
        let key = PrivateKey::generate().unwrap();
        let read = PrivateKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(read.public_key(), key.public_key());
        assert_eq!(&PublicKey::from_pem(&key.public_key().to_pem()).unwrap(), key.public_key());
        assert_eq!(&PublicKey::from_pem(&key.to_pem()).unwrap(), key.public_key());
        let signature = read.sign_fixed(b"message").unwrap();
        assert!(key.public_key().verify_fixed(b"message", &signature));
        assert!(!key.public_key().verify_fixed(b"massage", &signature));
        assert!(!PrivateKey::generate().unwrap().public_key().verify_fixed(b"message", &signature));
        assert!(!format!("{key:?}").contains(&key.to_pem()[40..60]));
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        for pem in ["", "text", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(PrivateKey::from_pem(pem), Err(Error::Malformed { .. })), "{pem}");
            assert!(matches!(PublicKey::from_pem(pem), Err(Error::Malformed { .. })), "{pem}");
        }
    }
}
