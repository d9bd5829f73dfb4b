//! Who is asking: the caller of a request, and the door through which credentials become one.
//!
//! An [`Authenticator`] looks at what a request carries (client certificate, bearer token) and names the caller, or has
//! no opinion. It never decides what the caller may do.

pub mod bootstrap_token;
pub mod certificates;
pub mod claims;
pub mod config;
pub mod configured;
mod figures;
pub mod front_proxy;
pub mod impersonation;
pub mod jwt;
pub mod review;
pub mod service_account;
pub mod token_webhook;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;

use crate::Lookup;

pub use bootstrap_token::BootstrapTokens;
pub use certificates::Certificates;
pub use configured::Configured;
pub use front_proxy::FrontProxy;
pub use impersonation::impersonate;
pub use service_account::ServiceAccountTokens;
pub use token_webhook::TokenWebhook;

/// The group of everyone who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The common name of the front proxy's certificate; upstream's installers give it this one.
pub const FRONT_PROXY: &str = "front-proxy-client";
/// The group that authorization lets do everything.
pub const MASTERS: &str = "system:masters";

/// An authenticated user (upstream's `user.Info`). Also what in-process components are to the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Caller {
    /// A caller with these groups and [`AUTHENTICATED`].
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The server itself, for writes that admission must make (quota usage).
    pub fn apiserver() -> Self {
        Self::new("system:apiserver", &[MASTERS])
    }

    /// Whether the caller is in `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The client certificate and its chain, verified by the handshake; empty without one.
    pub certificates: Vec<CertificateDer<'static>>,
    identity: OnceLock<Option<pki::PeerIdentity>>,
    /// Whom it names as a user; made once, as the certificate stays the same.
    named: OnceLock<Arc<Caller>>,
    /// Whether a CA of users signed the client certificate.
    user: Verified,
    /// Whether the front proxy's CA did.
    proxy: Verified,
}

impl Peer {
    pub fn new(address: SocketAddr, certificates: Vec<CertificateDer<'static>>) -> Self {
        Self {
            address,
            certificates,
            identity: OnceLock::new(),
            named: OnceLock::new(),
            user: Verified::default(),
            proxy: Verified::default(),
        }
    }

    /// What the client certificate says, read once per connection; `None` without a readable certificate.
    pub fn identity(&self) -> Option<&pki::PeerIdentity> {
        let read = || pki::peer_identity(self.certificates.first()?).ok();
        self.identity.get_or_init(read).as_ref()
    }
}

/// What is true of a connection as long as the CAs that are trusted stay the same: found out once for each generation
/// of them.
#[derive(Debug, Default)]
struct Verified(parking_lot::Mutex<Option<(u64, bool)>>);

impl Verified {
    fn holds(&self, generation: u64, verify: impl FnOnce() -> bool) -> bool {
        let mut known = self.0.lock();
        match *known {
            Some((at, holds)) if at == generation => holds,
            _ => {
                let holds = verify();
                *known = Some((generation, holds));
                holds
            }
        }
    }
}

/// What an authenticator sees of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestParts<'a> {
    pub headers: &'a HeaderMap,
    pub peer: &'a Peer,
}

/// Credentials were shown and are no good: the answer is 401. The text is for the log, never for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCredentials(pub String);

/// Turns credentials into a caller.
pub trait Authenticator: Send + Sync + 'static {
    /// Adds the authenticator's figures to the server's.
    fn register(&self, _registry: &mut prometheus_client::registry::Registry) {}

    /// Whether a request to that path may go without credentials; `None`: it is for others to say.
    fn anonymous(&self, _path: &str) -> Option<bool> {
        None
    }

    /// The rule behind [`Authenticator::anonymous`]; `None`: it is for others to say.
    fn anonymous_rule(&self) -> Option<config::Anonymous> {
        None
    }

    /// `Ok(None)`: no credentials of the kind this authenticator knows.
    ///
    /// # Errors
    /// [`BadCredentials`] if there are such credentials and they do not hold.
    fn authenticate<'a>(
        &'a self,
        parts: RequestParts<'a>,
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Arc<Caller>>, BadCredentials>>;

    /// The same for a bearer token shown to somebody else (TokenReview), who is one of `audiences`; none: the API
    /// server.
    fn authenticate_token<'a>(
        &'a self,
        _token: &'a str,
        _audiences: &'a [String],
        _lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Shown>, BadCredentials>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// Whose token it is, and for which of the audiences asked for it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub caller: Arc<Caller>,
    pub audiences: Vec<String>,
}

/// The bearer token of a request.
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The audiences that are among both.
fn common(asked: &[String], own: &[String]) -> Vec<String> {
    let asked = if asked.is_empty() { own } else { asked };
    asked.iter().filter(|audience| own.contains(audience)).cloned().collect()
}

/// The authenticators of a cluster: client certificates, service account tokens, bootstrap tokens.
pub fn standard(
    verifier: pki::token::Verifier,
    front_proxy: Option<FrontProxy>,
    clock: base::Clock,
) -> Arc<dyn Authenticator> {
    standard_and(verifier, Certificates::new(front_proxy, None), clock, Vec::new())
}

/// The same, and behind them others that know tokens.
pub fn standard_and(
    verifier: pki::token::Verifier,
    certificates: Certificates,
    clock: base::Clock,
    others: Vec<Arc<dyn Authenticator>>,
) -> Arc<dyn Authenticator> {
    let mut all: Vec<Arc<dyn Authenticator>> = vec![
        Arc::new(certificates),
        Arc::new(ServiceAccountTokens::new(verifier, clock)),
        Arc::new(BootstrapTokens::new(clock)),
    ];
    all.extend(others);
    all.push(Arc::new(UnknownTokens));
    Arc::new(Union(all))
}

/// Refuses bearer tokens that nobody knew. The last of a [`Union`].
#[derive(Debug, Default, Clone, Copy)]
pub struct UnknownTokens;

impl Authenticator for UnknownTokens {
    fn authenticate<'a>(
        &'a self,
        parts: RequestParts<'a>,
        _lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Arc<Caller>>, BadCredentials>> {
        let unknown = bearer_token(parts.headers).is_some();
        Box::pin(std::future::ready(if unknown { Err(BadCredentials(INVALID.to_owned())) } else { Ok(None) }))
    }

    fn authenticate_token<'a>(
        &'a self,
        _token: &'a str,
        _audiences: &'a [String],
        _lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Shown>, BadCredentials>> {
        Box::pin(std::future::ready(Err(BadCredentials(INVALID.to_owned()))))
    }
}

const INVALID: &str = "invalid bearer token";

/// Asks several authenticators in order. The first caller wins; if there is none, the first complaint counts.
pub struct Union(pub Vec<Arc<dyn Authenticator>>);

impl Authenticator for Union {
    fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.0.iter().for_each(|authenticator| authenticator.register(registry));
    }

    fn anonymous(&self, path: &str) -> Option<bool> {
        self.0.iter().find_map(|authenticator| authenticator.anonymous(path))
    }

    fn anonymous_rule(&self) -> Option<config::Anonymous> {
        self.0.iter().find_map(|authenticator| authenticator.anonymous_rule())
    }

    fn authenticate<'a>(
        &'a self,
        parts: RequestParts<'a>,
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Arc<Caller>>, BadCredentials>> {
        Box::pin(async move {
            let mut complaint = None;
            for authenticator in &self.0 {
                match authenticator.authenticate(parts, lookup).await {
                    Ok(Some(caller)) => return Ok(Some(caller)),
                    Ok(None) => {}
                    Err(bad) => complaint = complaint.or(Some(bad)),
                }
            }
            complaint.map_or(Ok(None), Err)
        })
    }

    fn authenticate_token<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Shown>, BadCredentials>> {
        Box::pin(async move {
            let mut complaint = None;
            for authenticator in &self.0 {
                match authenticator.authenticate_token(token, audiences, lookup).await {
                    Ok(Some(shown)) => return Ok(Some(shown)),
                    Ok(None) => {}
                    Err(bad) => complaint = complaint.or(Some(bad)),
                }
            }
            complaint.map_or(Ok(None), Err)
        })
    }
}
