//! Users whom an authenticating proxy vouches for: it shows a certificate of the front proxy's CA, and names the user
//! in headers. Without that certificate the headers mean nothing.
//!
//! Upstream: apiserver/pkg/authentication/request/headerrequest.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Clock;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::{ANONYMOUS, AUTHENTICATED, BadCredentials, Caller, Peer, UNAUTHENTICATED};

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA_PREFIX: &str = "x-remote-extra-";

/// Who may vouch for users.
#[derive(Debug)]
pub struct FrontProxy {
    trust: pki::tls::Trust,
    /// Common names of proxies; none: any that the CA signed.
    allowed_names: Vec<String>,
    clock: Clock,
}

impl FrontProxy {
    /// Proxies with a certificate of one of `ca_pem` and one of these common names (any, if none is given).
    ///
    /// # Errors
    /// If `ca_pem` holds no CA.
    pub fn new(ca_pem: &str, allowed_names: &[&str], clock: Clock) -> pki::Result<Self> {
        Ok(Self::trusting(pki::tls::Trust::new(ca_pem)?, allowed_names, clock))
    }

    /// The same, with CAs that may be replaced.
    pub fn trusting(trust: pki::tls::Trust, allowed_names: &[&str], clock: Clock) -> Self {
        let allowed_names = allowed_names.iter().map(|name| (*name).to_owned()).collect();
        Self { trust, allowed_names, clock }
    }

    /// Whether the front proxy's CA signed the client's certificate.
    pub(super) fn signed(&self, peer: &Peer) -> bool {
        let verify = || self.trust.verify_client(&peer.certificates, self.clock.now()).is_ok();
        peer.proxy.holds(self.trust.generation(), verify)
    }

    /// The user whom a proxy names.
    pub(super) fn caller(&self, proxy: &pki::PeerIdentity, headers: &HeaderMap) -> Result<Arc<Caller>, BadCredentials> {
        let name = &proxy.common_name;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(name) {
            return Err(BadCredentials(format!("x509: subject with cn={name} is not in the allowed list")));
        }
        if proxy.not_after < self.clock.now() {
            return Err(BadCredentials("x509: certificate has expired or is not yet valid".to_owned()));
        }
        read(headers).map(Arc::new).ok_or_else(|| BadCredentials("a front proxy names no user".to_owned()))
    }
}

fn read(headers: &HeaderMap) -> Option<Caller> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        values.filter(|value| !value.is_empty()).collect()
    };
    let name = all(USER).into_iter().next()?;
    let mut groups = all(GROUP);
    let known = |group: &String| matches!(&**group, AUTHENTICATED | UNAUTHENTICATED);
    if name != ANONYMOUS && !groups.iter().any(known) {
        groups.push(AUTHENTICATED.to_owned());
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        let Some(key) = header.as_str().strip_prefix(EXTRA_PREFIX) else { continue };
        let key = percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), |key| key.into_owned());
        extra.entry(key).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    Some(Caller { name, uid: all(UID).into_iter().next().unwrap_or_default(), groups, extra })
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        all.iter().map(pair).collect()
    }

    #[test]
    fn headers_name_the_user() {
        let caller = read(&headers(&[
            ("x-remote-user", "jane"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-example.com%2fscope", "a"),
        ]));
        let caller = caller.unwrap();
        assert_eq!((caller.name.as_str(), caller.uid.as_str()), ("jane", "7"));
        assert_eq!(caller.groups, ["dev", "ops", AUTHENTICATED]);
        assert_eq!(caller.extra["example.com/scope"], ["a"]);
        assert_eq!(read(&headers(&[("x-remote-group", "system:masters")])), None);
        assert_eq!(read(&headers(&[("x-remote-user", "")])), None);
    }

    #[test]
    fn nobody_stays_nobody() {
        let caller = read(&headers(&[("x-remote-user", ANONYMOUS), ("x-remote-group", UNAUTHENTICATED)])).unwrap();
        assert_eq!(caller.groups, [UNAUTHENTICATED]);
    }
}
