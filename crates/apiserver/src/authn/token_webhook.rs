//! Somebody else knows whose token it is: each is shown to a server as a TokenReview, and its answers are kept for a
//! while.
//!
//! Upstream: apiserver/plugin/pkg/authenticator/token/webhook.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::authentication::v1::TokenReviewStatus;
use base::Clock;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{AUTHENTICATED, Authenticator, BadCredentials, Caller, RequestParts, Shown, bearer_token};
use crate::Lookup;
use crate::kept::Kept;
use crate::outbound::Remote;

/// How long one question may take (upstream's).
const TIMEOUT: Duration = Duration::from_secs(30);
/// Answers kept.
const ANSWERS_LEN_MAX: usize = 8192;

type Answer = Result<Option<Shown>, BadCredentials>;

/// Authenticates bearer tokens by asking.
pub struct TokenWebhook {
    remote: Remote,
    /// `v1` or `v1beta1`.
    version: &'static str,
    /// How long an answer is good; zero: not kept.
    ttl: Duration,
    /// The API server's own audiences.
    audiences: Vec<String>,
    clock: Clock,
    answers: Kept<[u8; 32], Answer>,
}

impl TokenWebhook {
    /// The server of a kubeconfig; `version` is `v1` or `v1beta1`.
    ///
    /// # Errors
    /// What is wrong with the file or the version.
    pub fn new(
        kubeconfig: &Path,
        version: &str,
        ttl: Duration,
        audiences: Vec<String>,
        clock: Clock,
    ) -> Result<Self, String> {
        let version = match version {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            other => return Err(format!("unsupported authentication webhook version {other:?}")),
        };
        let remote = Remote::of_kubeconfig(kubeconfig)?;
        let answers = Kept::new(ANSWERS_LEN_MAX);
        Ok(Self { remote, version, ttl, audiences, clock, answers })
    }

    async fn check(&self, token: &str, asked: &[String]) -> Answer {
        let wanted = if asked.is_empty() { &self.audiences[..] } else { asked };
        // The token itself is not kept.
        let mut hasher = Sha256::new();
        for part in std::iter::once(token).chain(wanted.iter().map(String::as_str)) {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let key: [u8; 32] = hasher.finalize().into();
        let now = self.clock.monotonic();
        if let Some(answer) = self.answers.get(&key, now) {
            return answer;
        }
        let status = self.ask(token, wanted).await.map_err(BadCredentials)?;
        let answer = self.answer(status, wanted);
        if !self.ttl.is_zero() {
            self.answers.put(key, answer.clone(), now, now + self.ttl);
        }
        answer
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<TokenReviewStatus, String> {
        let review = json!({
            "kind": "TokenReview",
            "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "metadata": {"creationTimestamp": null},
            "spec": {"token": token, "audiences": audiences},
            "status": {"user": {}},
        });
        let answer = self.remote.post_json(Bytes::from(review.to_string()), TIMEOUT).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        serde_json::from_value(answer["status"].clone()).map_err(|error| error.to_string())
    }

    fn answer(&self, status: TokenReviewStatus, wanted: &[String]) -> Answer {
        if status.authenticated != Some(true) {
            let why = status.error.unwrap_or_default();
            return if why.is_empty() { Ok(None) } else { Err(BadCredentials(why)) };
        }
        // A webhook that says nothing of audiences speaks for the API server.
        let own = status.audiences.filter(|own| !own.is_empty()).unwrap_or_else(|| self.audiences.clone());
        let audiences = super::common(wanted, &own);
        if audiences.is_empty() {
            return Ok(None);
        }
        let user = status.user.unwrap_or_default();
        let mut caller = Caller {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        };
        if caller.name.is_empty() {
            return Err(BadCredentials("the webhook names no user".to_owned()));
        }
        if !caller.is_in(AUTHENTICATED) {
            caller.groups.push(AUTHENTICATED.to_owned());
        }
        Ok(Some(Shown { caller: Arc::new(caller), audiences }))
    }
}

impl Authenticator for TokenWebhook {
    fn authenticate<'a>(
        &'a self,
        parts: RequestParts<'a>,
        _lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Arc<Caller>>, BadCredentials>> {
        Box::pin(async move {
            match bearer_token(parts.headers) {
                Some(token) => Ok(self.check(token, &[]).await?.map(|shown| shown.caller)),
                None => Ok(None),
            }
        })
    }

    fn authenticate_token<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
        _lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Shown>, BadCredentials>> {
        Box::pin(self.check(token, audiences))
    }
}
