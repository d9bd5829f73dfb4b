//! A certificate and its private key: who someone is, and the means to prove it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base::Timestamp;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::certificate::Certificate;
use crate::error::{Error, Result};
use crate::file;
use crate::key::PrivateKey;
use crate::pem;

/// A certificate (with any chain above it) and the key that belongs to it: ours, or one made elsewhere (RSA, other
/// curves). Cheap to clone; debug output does not show the key.
#[derive(Clone)]
pub struct Identity {
    cert_pem: String,
    key_pem: Zeroizing<String>,
    certificate: Certificate,
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("common_name", &self.certificate.common_name)
            .field("organizations", &self.certificate.organizations)
            .field("not_after", &self.certificate.not_after)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// From PEM text: the certificate first, then its chain; the key in PKCS#8, PKCS#1 or SEC 1.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Refused`] when the key is another certificate's.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self> {
        let certificate = Certificate::from_pem(cert_pem)?;
        let chain = pem::certificates(cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| Error::malformed("private key", e))?;
        let certified = CertifiedKey::from_der(chain, key, &crate::tls::provider()).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => Error::Refused(format!(
                "the private key does not belong to the certificate of {:?}",
                certificate.common_name
            )),
            e => Error::malformed("private key", e),
        })?;
        let (cert_pem, key_pem) = (cert_pem.to_owned(), Zeroizing::new(key_pem.to_owned()));
        Ok(Self { cert_pem, key_pem, certificate, certified: Arc::new(certified) })
    }

    /// As [`Identity::from_pem`] with a key already read, such as the one a certificate was requested for.
    ///
    /// # Errors
    /// As [`Identity::from_pem`].
    pub fn new(cert_pem: &str, key: &PrivateKey) -> Result<Self> {
        Self::from_pem(cert_pem, &key.to_pem())
    }

    /// Reads the two files.
    ///
    /// # Errors
    /// [`Error::File`], and as [`Identity::from_pem`].
    pub fn load(cert_path: &Path, key_path: &Path) -> Result<Self> {
        Self::from_pem(&file::read(cert_path)?, &Zeroizing::new(file::read(key_path)?))
    }

    /// Writes the two files, the key first and with mode 0600. A crash in between leaves a pair that does not fit,
    /// which [`Identity::load`] refuses.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, cert_path: &Path, key_path: &Path) -> Result<()> {
        file::write_atomic(key_path, self.key_pem.as_bytes(), file::SECRET)?;
        file::write_atomic(cert_path, self.cert_pem.as_bytes(), file::PUBLIC)
    }

    /// The certificate and its chain.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The key.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What the certificate says.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.certificate.not_after
    }

    /// The same identity whose chain also carries `ca_pem`, so that a client that knows only the CA's hash can check
    /// it ([`crate::tls::pinned_client_config`]).
    ///
    /// # Errors
    /// [`Error::Malformed`] when `ca_pem` is no certificate.
    pub fn with_chain(&self, ca_pem: &str) -> Result<Self> {
        Self::from_pem(&format!("{}{ca_pem}", self.cert_pem), &self.key_pem)
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}
