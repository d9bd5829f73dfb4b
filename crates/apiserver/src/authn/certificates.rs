//! Client certificates: `CN` is the user, every `O` a group. One that the front proxy's CA signed is no user: it
//! vouches for the one whom the headers name.
//!
//! The handshake verified the certificate; a connection may outlive it, and the CA that signed it. So each request
//! looks whether it has ended, and whether the CAs that are trusted are still those it was verified with.
//!
//! Upstream: apiserver/pkg/authentication/request/x509.

use std::sync::Arc;

use base::Clock;
use futures_util::future::BoxFuture;
use pki::tls::Trust;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Authenticator, BadCredentials, Caller, FrontProxy, Peer, RequestParts};
use crate::Lookup;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// Authenticates by the certificate that the handshake verified.
#[derive(Debug)]
pub struct Certificates {
    /// Without one, every certificate that the handshake took is a user's.
    pub front_proxy: Option<FrontProxy>,
    /// Which CAs sign users' certificates, and the time; without it the handshake's word holds for ever.
    pub users: Option<(Trust, Clock)>,
    /// Upstream's `apiserver_client_certificate_expiration_seconds`.
    lives: Histogram,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Certificates {
    /// Users whom one of `users` signed for, and proxies.
    pub fn new(front_proxy: Option<FrontProxy>, users: Option<(Trust, Clock)>) -> Self {
        let half_hours_to_a_year = [
            0.0,
            30.0 * MINUTE,
            HOUR,
            2.0 * HOUR,
            6.0 * HOUR,
            12.0 * HOUR,
            DAY,
            2.0 * DAY,
            4.0 * DAY,
            7.0 * DAY,
            30.0 * DAY,
            90.0 * DAY,
            180.0 * DAY,
            360.0 * DAY,
        ];
        Self { front_proxy, users, lives: Histogram::new(half_hours_to_a_year) }
    }
}

impl Authenticator for Certificates {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_client_certificate_expiration_seconds",
            "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
            self.lives.clone(),
        );
    }

    fn authenticate<'a>(
        &'a self,
        parts: RequestParts<'a>,
        _lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Arc<Caller>>, BadCredentials>> {
        Box::pin(std::future::ready(self.caller(parts)))
    }
}

impl Certificates {
    fn caller(&self, parts: RequestParts<'_>) -> Result<Option<Arc<Caller>>, BadCredentials> {
        let Some(identity) = parts.peer.identity() else { return Ok(None) };
        if let Some((_, clock)) = &self.users {
            self.lives.observe((identity.not_after.as_second() - clock.now().as_second()) as f64);
        }
        match &self.front_proxy {
            Some(proxy) if proxy.signed(parts.peer) => proxy.caller(identity, parts.headers).map(Some),
            _ => self.user(identity, parts.peer),
        }
    }

    fn user(&self, identity: &pki::PeerIdentity, peer: &Peer) -> Result<Option<Arc<Caller>>, BadCredentials> {
        if let Some((trust, clock)) = &self.users {
            let now = clock.now();
            if identity.not_after < now {
                return Err(BadCredentials("x509: certificate has expired or is not yet valid".to_owned()));
            }
            let verify = || trust.verify_client(&peer.certificates, now).is_ok();
            if !peer.user.holds(trust.generation(), verify) {
                return Err(BadCredentials("x509: certificate signed by unknown authority".to_owned()));
            }
        }
        if identity.common_name.is_empty() {
            return Ok(None);
        }
        Ok(Some(peer.named.get_or_init(|| Arc::new(named(identity))).clone()))
    }
}

/// The user whom a certificate names.
fn named(identity: &pki::PeerIdentity) -> Caller {
    let groups: Vec<&str> = identity.organizations.iter().map(String::as_str).collect();
    let mut caller = Caller::new(identity.common_name.clone(), &groups);
    caller.uid = identity.uid.clone().unwrap_or_default();
    caller.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![identity.credential_id.clone()]);
    caller
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn peer(ca: &pki::Ca, now: api::Timestamp) -> Peer {
        let identity = ca.issue(&pki::Request::client("jane", &["dev"], HOUR), now).unwrap();
        let der = CertificateDer::from_pem_slice(identity.cert_pem().as_bytes()).unwrap();
        Peer::new("192.0.2.1:1".parse().unwrap(), vec![der])
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_outlives_neither_its_certificate_nor_its_ca() {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        let ca = pki::Ca::generate("kubernetes", clock.now(), 100 * HOUR).unwrap();
        let next = ca.successor(clock.now(), 100 * HOUR).unwrap();
        let trust = Trust::new(ca.cert_pem()).unwrap();
        let certificates = Certificates::new(None, Some((trust.clone(), clock)));
        let ask = |peer: &Peer| {
            let parts = RequestParts { headers: &http::HeaderMap::new(), peer };
            certificates.caller(parts).map(|caller| caller.map(|caller| caller.name.clone()))
        };
        let jane = peer(&ca, clock.now());
        assert_eq!(ask(&jane).unwrap().as_deref(), Some("jane"));
        trust.replace(&format!("{}{}", ca.cert_pem(), next.cert_pem())).unwrap();
        assert_eq!(ask(&jane).unwrap().as_deref(), Some("jane"));
        assert_eq!(ask(&peer(&next, clock.now())).unwrap().as_deref(), Some("jane"));
        trust.replace(next.cert_pem()).unwrap();
        assert_eq!(ask(&jane).unwrap_err().0, "x509: certificate signed by unknown authority");
        let jane = peer(&next, clock.now());
        assert!(ask(&jane).is_ok());
        clock.sleep(HOUR + Duration::from_secs(1)).await;
        assert_eq!(ask(&jane).unwrap_err().0, "x509: certificate has expired or is not yet valid");
    }
}
