//! Bootstrap tokens: what a node shows before it has a certificate. Kept as secrets of type
//! `bootstrap.kubernetes.io/token` in `kube-system`.
//!
//! Upstream: plugin/pkg/auth/authenticator/token/bootstrap.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Object;
use api::core::v1::Secret;
use base::{Clock, Timestamp};
use futures_util::future::BoxFuture;
use pki::bootstrap::{GROUP, SECRET_NAME_PREFIX, SECRET_TYPE, Token, USERNAME_PREFIX};

use super::{AUTHENTICATED, Authenticator, BadCredentials, RequestParts, Shown, bearer_token};
use crate::{Caller, Lookup};

const NAMESPACE: &str = "kube-system";
const EXTRA_GROUP_LEN_MAX: usize = 256;

/// Authenticates bootstrap tokens.
pub struct BootstrapTokens {
    clock: Clock,
}

impl BootstrapTokens {
    pub fn new(clock: Clock) -> Self {
        Self { clock }
    }

    fn check(&self, token: &str, lookup: &Lookup) -> Option<Caller> {
        let token: Token = token.parse().ok()?;
        let secret = lookup.get::<Secret>(NAMESPACE, &format!("{SECRET_NAME_PREFIX}{}", token.id()))?;
        caller(&token, &secret, self.clock.now())
    }
}

impl Authenticator for BootstrapTokens {
    fn authenticate<'a>(
        &'a self,
        parts: RequestParts<'a>,
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Arc<Caller>>, BadCredentials>> {
        let found = bearer_token(parts.headers).and_then(|token| self.check(token, lookup)).map(Arc::new);
        Box::pin(std::future::ready(Ok(found)))
    }

    fn authenticate_token<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Shown>, BadCredentials>> {
        let found = self.check(token, lookup).map(|caller| Shown {
            caller: Arc::new(caller),
            // Such a token is for nobody in particular.
            audiences: audiences.to_vec(),
        });
        Box::pin(std::future::ready(Ok(found)))
    }
}

/// The caller a token stands for, if its secret says so now.
fn caller(token: &Token, secret: &Secret, now: Timestamp) -> Option<Caller> {
    if secret.type_.as_deref() != Some(SECRET_TYPE) || secret.is_terminating() {
        return None;
    }
    let data = secret.data.as_ref()?;
    let bytes = |key: &str| data.get(key).map(|value| value.0.as_slice()).unwrap_or_default();
    let text = |key: &str| std::str::from_utf8(bytes(key)).unwrap_or_default();
    if !token.secret_is(bytes("token-secret")) || text("token-id") != token.id() {
        return None;
    }
    let expiration = text("expiration");
    if !expiration.is_empty() && expiration.parse::<Timestamp>().is_ok_and(|end| now >= end) {
        return None;
    }
    if !expiration.is_empty() && expiration.parse::<Timestamp>().is_err() {
        return None;
    }
    if text("usage-bootstrap-authentication") != "true" {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    for extra in text("auth-extra-groups").split(',').filter(|group| !group.is_empty()) {
        if !is_bootstrap_group(extra) {
            return None;
        }
        groups.push(extra.to_owned());
    }
    groups.push(AUTHENTICATED.to_owned());
    Some(Caller {
        name: format!("{USERNAME_PREFIX}{}", token.id()),
        uid: String::new(),
        groups,
        extra: BTreeMap::new(),
    })
}

/// Whether a token may put its bearer in that group.
fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.len() <= EXTRA_GROUP_LEN_MAX
        && rest.bytes().all(|byte| letter(byte) || byte == b':' || byte == b'-')
        && rest.bytes().last().is_some_and(letter)
}

#[cfg(test)]
mod tests {
    use api::ByteString;

    use super::*;

    fn secret(fields: &[(&str, &str)]) -> Secret {
        let all =
            [("token-id", "abcdef"), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-authentication", "true")];
        let all =
            all.iter().chain(fields).map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret { type_: Some(SECRET_TYPE.to_owned()), data: Some(all.collect()), ..Secret::default() }
    }

    fn groups(fields: &[(&str, &str)]) -> Option<Vec<String>> {
        let token = "abcdef.0123456789abcdef".parse().unwrap();
        caller(&token, &secret(fields), "2026-01-01T00:00:00Z".parse().unwrap()).map(|caller| caller.groups)
    }

    #[test]
    fn a_token_is_as_good_as_its_secret() {
        let own = vec!["system:bootstrappers".to_owned(), "system:authenticated".to_owned()];
        assert_eq!(groups(&[]), Some(own.clone()));
        assert_eq!(groups(&[("expiration", "2026-01-01T00:00:01Z")]), Some(own));
        assert_eq!(groups(&[("expiration", "2026-01-01T00:00:00Z")]), None);
        assert_eq!(groups(&[("expiration", "tomorrow")]), None);
        assert_eq!(groups(&[("usage-bootstrap-authentication", "false")]), None);
        assert_eq!(groups(&[("token-secret", "0123456789abcdee")]), None);
        assert_eq!(groups(&[("token-id", "abcdee")]), None);
        let extra = groups(&[("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token")]).unwrap();
        assert_eq!(extra[1], "system:bootstrappers:kubeadm:default-node-token");
        assert_eq!(groups(&[("auth-extra-groups", "system:masters")]), None);
        assert_eq!(groups(&[("auth-extra-groups", "system:bootstrappers:")]), None);
    }
}
