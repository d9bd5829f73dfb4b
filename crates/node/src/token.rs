//! Service account tokens of pods: asked for once, renewed at 80 % of their life (upstream `kubelet/token`).

use std::collections::HashMap;
use std::sync::Arc;

use api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use api::core::v1::{Pod, ServiceAccount};
use api::{Object, Reply, downcast};
use base::{Clock, Timestamp};
use client::Client;
use jiff::SignedDuration;
use parking_lot::Mutex;

use crate::pod;

/// A token is renewed at least this often.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// After a failed renewal the next try.
const RETRY: SignedDuration = SignedDuration::from_secs(60);

/// A token and when to ask for the next.
#[derive(Debug, Clone)]
pub struct Token {
    pub text: String,
    pub renew_at: Timestamp,
    expires_at: Timestamp,
}

/// Pod uid, audience, life in seconds.
type Key = (String, String, i64);

/// Tokens by pod, audience and life. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    client: Client,
    clock: Clock,
    cache: Arc<Mutex<HashMap<Key, Token>>>,
}

impl Tokens {
    /// Tokens asked for through `client`.
    pub fn new(client: Client, clock: Clock) -> Self {
        Self { client, clock, cache: Arc::default() }
    }

    /// A token for the pod's service account, bound to the pod. The error is upstream's text.
    pub async fn get(&self, p: &Pod, audience: &str, expiration_seconds: i64) -> Result<Token, String> {
        let key = (p.uid().to_owned(), audience.to_owned(), expiration_seconds);
        let now = self.clock.now();
        let cached = self.cache.lock().get(&key).cloned();
        if let Some(token) = cached.as_ref().filter(|t| t.renew_at > now) {
            return Ok(token.clone());
        }
        match self.request(p, audience, expiration_seconds).await {
            Ok(token) => {
                self.cache.lock().insert(key, token.clone());
                Ok(token)
            }
            Err(error) => match cached.filter(|t| t.expires_at > now) {
                Some(old) => {
                    tracing::warn!(%error, pod = %pod::full_name(p), "a token could not be renewed yet");
                    Ok(Token { renew_at: now + RETRY, ..old })
                }
                None => Err(format!("failed to fetch token: {error}")),
            },
        }
    }

    async fn request(&self, p: &Pod, audience: &str, expiration_seconds: i64) -> Result<Token, client::Error> {
        let account = pod::spec(p).service_account_name.as_deref().filter(|a| !a.is_empty()).unwrap_or("default");
        let mut body = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(if audience.is_empty() { Vec::new() } else { vec![audience.to_owned()] }),
                expiration_seconds: Some(expiration_seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(p.name().to_owned()),
                    uid: Some(p.uid().to_owned()),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        body.metadata.name = Some(account.to_owned());
        body.metadata.namespace = Some(p.namespace().to_owned());
        let malformed = || client::Error::Malformed("expected a TokenRequest with a token".into());
        let reply = self.client.create_subresource::<ServiceAccount, _>(p.namespace(), account, "token", body).await?;
        let Reply::Object(object) = reply else { return Err(malformed()) };
        let status = downcast::<TokenRequest>(&*object).and_then(|t| t.status.clone()).ok_or_else(malformed)?;
        let text = status.token.filter(|text| !text.is_empty()).ok_or_else(malformed)?;
        let expires_at = status.expiration_timestamp.ok_or_else(malformed)?.0;
        Ok(Token { renew_at: renew_at(self.clock.now(), expires_at), text, expires_at })
    }

    /// Forgets a pod's tokens.
    pub fn forget(&self, uid: &str) {
        self.cache.lock().retain(|(pod, ..), _| pod != uid);
    }
}

/// When a token issued now is to be replaced.
fn renew_at(now: Timestamp, expires_at: Timestamp) -> Timestamp {
    let life = expires_at.duration_since(now);
    now + (life * 4 / 5).min(AGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_four_fifths_or_a_day() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let in_seconds = |s: i64| now + SignedDuration::from_secs(s);
        assert_eq!(renew_at(now, in_seconds(3600)), in_seconds(2880));
        assert_eq!(renew_at(now, in_seconds(86_400 * 365)), in_seconds(86_400));
    }
}
