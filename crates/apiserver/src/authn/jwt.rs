//! Tokens of one OpenID Connect issuer: its keys are found by discovery and fetched again when a token is signed with
//! an unknown one.
//!
//! Upstream: apiserver/plugin/pkg/authenticator/token/oidc. Distributed claims are not followed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base::{Clock, TaskGroup};
use pki::jose::{Error, KeySet, Token};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::claims::Mapping;
use super::figures::Figures;
use super::{BadCredentials, Caller};
use crate::outbound::{Credentials, Remote};

/// How long one document may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long after a failure the issuer is asked again (upstream's interval).
const RETRY: Duration = Duration::from_secs(10);
/// Tokens signed with unknown keys cause no more than one fetch in this time: nobody may use us to flood an issuer.
const REFETCH_MIN: Duration = Duration::from_secs(5);
/// An issuer's clock may be ahead by this much.
const LEEWAY_SECONDS: i64 = 300;

/// What is configured of an issuer.
#[derive(Debug)]
pub struct Settings {
    pub url: String,
    /// Where the discovery document is, if not below the URL.
    pub discovery_url: Option<String>,
    pub ca_pem: Option<String>,
    /// One of them must be the token's.
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
    pub mapping: Mapping,
}

/// An issuer whose tokens are accepted.
pub struct Issuer {
    settings: Arc<Settings>,
    hash: String,
    remote: Remote,
    keys: ArcSwapOption<KeySet>,
    /// Where keys are, once known, and when they were last fetched. Held while they are being fetched.
    fetching: tokio::sync::Mutex<(Option<String>, Option<Instant>)>,
    clock: Clock,
    figures: Figures,
}

impl Issuer {
    /// Begins to find the issuer's keys; ends with `tasks`.
    ///
    /// # Errors
    /// What is wrong with URL or certificate authority.
    pub fn start(
        settings: Arc<Settings>,
        clock: Clock,
        figures: Figures,
        tasks: &TaskGroup,
    ) -> Result<Arc<Self>, String> {
        let credentials = Credentials { ca_pem: settings.ca_pem.clone(), ..Credentials::default() };
        let url = settings
            .discovery_url
            .clone()
            .unwrap_or_else(|| format!("{}/.well-known/openid-configuration", settings.url.trim_end_matches('/')));
        let issuer = Arc::new(Self {
            hash: crate::reload::hash_text(settings.url.as_bytes()),
            remote: Remote::new(&url, &credentials)?,
            keys: ArcSwapOption::empty(),
            fetching: tokio::sync::Mutex::default(),
            clock,
            figures,
            settings,
        });
        let own = issuer.clone();
        tasks.spawn("token issuer", async move {
            while let Err(why) = own.fetch(&url).await {
                tracing::warn!(issuer = own.settings.url, %why, "the issuer's keys are not known yet");
                own.clock.sleep(RETRY).await;
            }
        });
        Ok(issuer)
    }

    /// Whether the token says that it is this issuer's; nothing of that is proven.
    pub fn is_named_by(&self, claims: &Json) -> bool {
        claims.get("iss").and_then(Json::as_str) == Some(&self.settings.url)
    }

    async fn fetch(&self, discovery_url: &str) -> Result<(), String> {
        let mut state = self.fetching.lock().await;
        let fetched = self.documents(discovery_url, &mut state.0).await;
        state.1 = Some(self.clock.monotonic());
        self.figures.fetched(&self.hash, fetched.as_deref().ok(), self.clock.now().as_second());
        let parsed = fetched.and_then(|text| KeySet::parse(&text).map_err(|error| error.to_string()));
        let done = parsed.map(|keys| self.keys.store(Some(Arc::new(keys))));
        self.figures.fetches.send_modify(|count| *count += 1);
        done
    }

    async fn documents(&self, discovery_url: &str, known: &mut Option<String>) -> Result<bytes::Bytes, String> {
        let keys_url = match known {
            Some(url) => url.clone(),
            None => {
                let read = self.remote.get(discovery_url, TIMEOUT).await.map_err(|error| error.to_string())?;
                let document: Json = serde_json::from_slice(&read)
                    .map_err(|error| format!("oidc: failed to decode provider discovery object: {error}"))?;
                let own = document["issuer"].as_str().unwrap_or_default();
                let wanted = &self.settings.url;
                if own != wanted {
                    return Err(format!(
                        "oidc: issuer did not match the issuer returned by provider, expected {wanted:?} got {own:?}"
                    ));
                }
                let url = document["jwks_uri"].as_str().unwrap_or_default().to_owned();
                *known = Some(url.clone());
                url
            }
        };
        self.remote.get(&keys_url, TIMEOUT).await.map_err(|error| error.to_string())
    }

    /// The caller that the token stands for.
    ///
    /// # Errors
    /// Why it does not hold, in upstream's words.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, BadCredentials> {
        let began = self.clock.monotonic();
        let result = self.check(token).await;
        self.figures.authenticated(&self.hash, result.is_ok(), self.clock.monotonic() - began);
        result.map_err(BadCredentials)
    }

    async fn check(&self, token: &str) -> Result<Caller, String> {
        let unverified = |why: &dyn std::fmt::Display| format!("oidc: verify token: {why}");
        let parsed = Token::parse(token).map_err(|error| unverified(&error))?;
        let claims: Json = serde_json::from_slice(&parsed.payload)
            .map_err(|error| unverified(&format!("oidc: failed to unmarshal claims: {error}")))?;
        self.verify(&parsed).await.map_err(|error| unverified(&error))?;
        self.check_claims(&claims).map_err(|error| unverified(&error))?;
        self.settings.mapping.caller(&claims)
    }

    async fn verify(&self, token: &Token<'_>) -> Result<(), String> {
        let algorithms = &self.settings.algorithms;
        let keys = self.keys.load_full().ok_or("oidc: authenticator not initialized")?;
        match keys.verify(token, algorithms) {
            Err(Error::Signature) => {}
            other => return other.map_err(|error| error.to_string()),
        }
        // The issuer may have new keys. Whoever waits here finds what the one before fetched.
        let mut state = self.fetching.lock().await;
        let now = self.clock.monotonic();
        if state.1.is_none_or(|last| now >= last + REFETCH_MIN) {
            let fetched = self.documents("", &mut state.0).await;
            state.1 = Some(self.clock.monotonic());
            self.figures.fetched(&self.hash, fetched.as_deref().ok(), self.clock.now().as_second());
            let fetched = fetched.map_err(|why| format!("failed to verify signature: fetching keys {why}"))?;
            let keys = KeySet::parse(&fetched).map_err(|error| error.to_string())?;
            self.keys.store(Some(Arc::new(keys)));
        }
        drop(state);
        let keys = self.keys.load_full().ok_or("oidc: authenticator not initialized")?;
        keys.verify(token, algorithms).map_err(|error| error.to_string())
    }

    fn check_claims(&self, claims: &Json) -> Result<(), String> {
        let Settings { audiences, .. } = &*self.settings;
        let own: Vec<&str> = match &claims["aud"] {
            Json::String(one) => vec![one],
            Json::Array(many) => many.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        };
        if !audiences.iter().any(|wanted| own.contains(&wanted.as_str())) {
            return Err(format!("oidc: expected audience in {audiences:?} got {own:?}"));
        }
        let now = self.clock.now().as_second();
        let seconds = |name: &str| match &claims[name] {
            Json::Null => Ok(None),
            value => value.as_f64().map(|seconds| Some(seconds as i64)).ok_or(format!("oidc: {name} is not a time")),
        };
        let expires = seconds("exp")?.unwrap_or_default();
        if now > expires {
            return Err(format!("oidc: token is expired (Token Expiry: {expires})"));
        }
        if let Some(start) = seconds("nbf")?
            && now + LEEWAY_SECONDS < start
        {
            return Err(format!("oidc: current time {now} before the nbf (not before) time: {start}"));
        }
        Ok(())
    }
}
