//! Which CAs may vouch for the other side of a connection. They may be replaced while connections are open.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use base::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{provider, unix_time};
use crate::certificate::{PeerIdentity, peer_identity};
use crate::error::{Error, Result};
use crate::pem;

/// A bundle of CAs. Handshakes that begin after it was replaced are checked against the new one; open connections go
/// on. Also tells, after the handshake, which of several bundles vouches for a client. Cheap to clone: clones are one.
#[derive(Clone)]
pub struct Trust(Arc<Inner>);

struct Inner {
    bundle: ArcSwap<Bundle>,
    generation: AtomicU64,
    /// The names of the CAs that were there first, which clients choose their certificate by.
    subjects: Vec<DistinguishedName>,
}

struct Bundle {
    pem: String,
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<dyn ServerCertVerifier>,
}

impl Bundle {
    fn read(ca_pem: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in pem::certificates(ca_pem)? {
            roots.add(certificate).map_err(malformed)?;
        }
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
        Ok(Self {
            pem: ca_pem.to_owned(),
            clients: clients.allow_unauthenticated().build().map_err(malformed)?,
            servers: WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(malformed)?,
        })
    }
}

fn malformed(reason: impl ToString) -> Error {
    Error::malformed("CA bundle", reason)
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// Trusts every CA of the bundle.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it holds none.
    pub fn new(ca_pem: &str) -> Result<Self> {
        let bundle = Bundle::read(ca_pem)?;
        let subjects = bundle.clients.root_hint_subjects().to_vec();
        Ok(Self(Arc::new(Inner { bundle: ArcSwap::from_pointee(bundle), generation: AtomicU64::new(0), subjects })))
    }

    /// Trusts the CAs of this bundle instead. They should have names that were in the first bundle: clients are told
    /// no others.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it holds none; the old bundle is trusted then.
    pub fn replace(&self, ca_pem: &str) -> Result<()> {
        self.0.bundle.store(Arc::new(Bundle::read(ca_pem)?));
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// The bundle, PEM.
    pub fn pem(&self) -> String {
        self.0.bundle.load().pem.clone()
    }

    /// How often the bundle was replaced: what was verified in another generation must be verified again.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Verifies a chain (the client's own certificate first) for client authentication at `now`, and says whose it
    /// is.
    ///
    /// # Errors
    /// [`Error::Refused`] when no CA of the bundle vouches for it, or it is not valid; [`Error::Malformed`].
    pub fn verify_client(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<PeerIdentity> {
        let (client, intermediates) =
            chain.split_first().ok_or_else(|| Error::Refused("the client has no certificate".to_owned()))?;
        let clients = self.0.bundle.load().clients.clone();
        clients
            .verify_client_cert(client, intermediates, unix_time(now))
            .map_err(|e| Error::Refused(format!("the client's certificate is not accepted: {e}")))?;
        peer_identity(client)
    }

    pub(super) fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.0.clone()
    }

    pub(super) fn server_verifier(&self) -> Arc<dyn ServerCertVerifier> {
        self.0.clone()
    }
}

impl ClientCertVerifier for Inner {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.bundle.load().clients.verify_client_cert(end_entity, intermediates, now)
    }

    crate::signature_checks!();
}

impl ServerCertVerifier for Inner {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.bundle.load().servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    crate::signature_checks!();
}
