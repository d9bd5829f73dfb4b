//! Client certificates: `CN` is the user, every `O` a group. One that the front proxy's CA signed is no user: it
//! vouches for the one whom the headers name.
//!
//! Upstream: apiserver/pkg/authentication/request/x509.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Authenticator, BadCredentials, Caller, FrontProxy, Peer, RequestParts};
use crate::Lookup;

/// Authenticates by the certificate that the handshake verified.
#[derive(Debug, Default)]
pub struct Certificates {
    /// Without one, every certificate that the handshake took is a user's.
    pub front_proxy: Option<FrontProxy>,
}

impl Authenticator for Certificates {
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
        match &self.front_proxy {
            Some(proxy) if proxy.signed(parts.peer) => proxy.caller(identity, parts.headers).map(Some),
            _ => Ok(user(parts.peer)),
        }
    }
}

fn user(peer: &Peer) -> Option<Arc<Caller>> {
    let identity = peer.identity()?;
    if identity.common_name.is_empty() {
        return None;
    }
    let groups: Vec<&str> = identity.organizations.iter().map(String::as_str).collect();
    let mut caller = Caller::new(identity.common_name.clone(), &groups);
    caller.uid = identity.uid.clone().unwrap_or_default();
    caller.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![identity.credential_id.clone()]);
    Some(Arc::new(caller))
}
