//! TLS 1.3 configurations for both sides, with certificates that can be replaced while connections are open.
//!
//! There is no way here to leave a server unverified: a client either has the CA, or its hash.

mod signatures;
mod trust;

use std::fmt;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use base::{Clock, Timestamp};
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::{Certificate, spki_hash_of};
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::pem;

pub use trust::Trust;

/// The one crypto provider of the process.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// Which protocols a client offers, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2, or HTTP/1.1 when the server has nothing better.
    Http2OrHttp1,
    /// HTTP/1.1 only: for connections that will be upgraded (exec, attach, port-forward).
    Http1,
    /// HTTP/2 only: for gRPC.
    Http2,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
        }
    }
}

/// An identity that may be replaced: handshakes that begin afterwards use the new one, open connections go on.
pub struct Reloadable(ArcSwap<Identity>);

impl Reloadable {
    /// Starts with `identity`.
    pub fn new(identity: Identity) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(identity)))
    }

    /// The identity now in use.
    pub fn identity(&self) -> Arc<Identity> {
        self.0.load_full()
    }

    /// Uses `identity` from the next handshake on.
    pub fn replace(&self, identity: Identity) {
        self.0.store(Arc::new(identity));
    }
}

impl fmt::Debug for Reloadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloadable").field(&self.0.load()).finish()
    }
}

impl ResolvesServerCert for Reloadable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified())
    }
}

impl ResolvesClientCert for Reloadable {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A server's configuration. A client may stay anonymous; a certificate it shows must be signed by one of
/// `client_ca_pem` and be valid, or the handshake fails. Without `client_ca_pem` none is asked for. Sessions are never
/// resumed: a resumed one would have lost its client certificate.
///
/// # Errors
/// [`Error::Malformed`] when `client_ca_pem` holds no CA.
pub fn server_config(
    identity: Arc<Reloadable>,
    client_ca_pem: Option<&str>,
    clock: Clock,
) -> Result<Arc<ServerConfig>> {
    let trust = client_ca_pem.map(Trust::new).transpose()?;
    Ok(server_config_trusting(identity, trust.as_ref(), clock))
}

/// As [`server_config`], with CAs of clients that may be replaced.
pub fn server_config_trusting(identity: Arc<Reloadable>, clients: Option<&Trust>, clock: Clock) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(WallTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider supports TLS 1.3");
    let mut config = match clients {
        Some(trust) => builder.with_client_cert_verifier(trust.client_verifier()),
        None => builder.with_no_client_auth(),
    }
    .with_cert_resolver(identity);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = Alpn::Http2OrHttp1.protocols();
    Arc::new(config)
}

/// A client's configuration: the server must be signed by one of `ca_pem`.
///
/// # Errors
/// [`Error::Malformed`] when `ca_pem` holds no CA.
pub fn client_config(
    ca_pem: &str,
    identity: Option<Arc<Reloadable>>,
    alpn: Alpn,
    clock: Clock,
) -> Result<Arc<ClientConfig>> {
    Ok(client_config_trusting(&Trust::new(ca_pem)?, identity, alpn, clock))
}

/// As [`client_config`], with CAs of the server that may be replaced.
pub fn client_config_trusting(
    servers: &Trust,
    identity: Option<Arc<Reloadable>>,
    alpn: Alpn,
    clock: Clock,
) -> Arc<ClientConfig> {
    client_config_with(servers.server_verifier(), identity, alpn, clock)
}

/// A client that speaks TLS 1.2 and nothing newer: for seeing that a server refuses it.
///
/// # Errors
/// [`Error::Malformed`] when `ca_pem` holds no CA.
pub fn old_client_config(ca_pem: &str, clock: Clock) -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_details(provider(), Arc::new(WallTime(clock)))
        .with_protocol_versions(&[&TLS12])
        .expect("the provider supports TLS 1.2")
        .dangerous()
        .with_custom_certificate_verifier(Trust::new(ca_pem)?.server_verifier())
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A client's configuration when only the CA's hash is known ([`crate::spki_hash`]): the server must send, in its
/// chain, a CA with that hash, and its certificate must be signed by that CA and bear its name. [`pinned_ca`] then
/// takes the CA out of the verified chain.
///
/// # Errors
/// [`Error::Malformed`] when `spki_hash` is not `sha256:` and 64 hex digits.
pub fn pinned_client_config(spki_hash: &str, alpn: Alpn, clock: Clock) -> Result<Arc<ClientConfig>> {
    let verifier = Arc::new(Pinned { spki_hash: checked_hash(spki_hash)? });
    Ok(client_config_with(verifier, None, alpn, clock))
}

/// The pinned CA (PEM) in a chain that a [`pinned_client_config`] handshake has verified.
pub fn pinned_ca(chain: &[CertificateDer<'_>], spki_hash: &str) -> Option<String> {
    let ca = chain.iter().find(|der| has_hash(der, spki_hash))?;
    Some(pem::encode(pem::CERTIFICATE, ca))
}

fn client_config_with(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<Arc<Reloadable>>,
    alpn: Alpn,
    clock: Clock,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(WallTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider supports TLS 1.3")
        .dangerous() // rustls' word for any verifier built by hand; both of ours verify
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.protocols();
    Arc::new(config)
}

/// rustls' source of time: the cluster's clock.
#[derive(Debug)]
struct WallTime(Clock);

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_second().try_into().unwrap_or(0)))
}

pub(crate) fn checked_hash(spki_hash: &str) -> Result<String> {
    let digits = spki_hash.strip_prefix("sha256:").unwrap_or_default();
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Error::malformed("CA hash", "it must be \"sha256:\" followed by 64 hex digits"));
    }
    Ok(spki_hash.to_ascii_lowercase())
}

fn has_hash(der: &CertificateDer<'_>, spki_hash: &str) -> bool {
    Certificate::from_der(der).is_ok_and(|ca| ca.is_ca && spki_hash_of(&ca).eq_ignore_ascii_case(spki_hash))
}

/// Trusts the one CA with this hash, which the server must send along.
#[derive(Debug)]
struct Pinned {
    spki_hash: String,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let ca = intermediates.iter().find(|der| has_hash(der, &self.spki_hash)).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    crate::signature_checks!();
}

#[cfg(test)]
mod tests;
