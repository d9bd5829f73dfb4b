//! The authenticators that a configuration names, which a new one may replace while the server runs.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base::{Clock, TaskGroup};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use serde_json::Value as Json;
use tokio::sync::watch;

use super::config::{Anonymous, Configuration};
use super::figures::Figures;
use super::jwt::Issuer;
use super::{Authenticator, BadCredentials, Caller, RequestParts, Shown, bearer_token};
use crate::Lookup;

/// Issuers at one time, and the tasks that find their keys.
#[derive(Default)]
struct State {
    issuers: Vec<Arc<Issuer>>,
    anonymous: Option<Anonymous>,
    tasks: Option<TaskGroup>,
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(tasks) = &self.tasks {
            tasks.cancel();
        }
    }
}

/// Accepts tokens of configured issuers, and says who may be anonymous.
pub struct Configured {
    state: ArcSwap<State>,
    /// The API server's own audiences.
    audiences: Vec<String>,
    /// The issuers of service accounts' tokens.
    own_issuers: Vec<String>,
    clock: Clock,
    figures: Figures,
    tasks: TaskGroup,
}

impl Configured {
    /// Nobody yet.
    pub fn new(audiences: Vec<String>, own_issuers: Vec<String>, clock: Clock, tasks: &TaskGroup) -> Self {
        let (state, figures, tasks) = (ArcSwap::default(), Figures::default(), tasks.clone());
        Self { state, audiences, own_issuers, clock, figures, tasks }
    }

    /// Accepts what this says from now on.
    ///
    /// # Errors
    /// What is wrong with an issuer; then everything stays as it was.
    pub fn apply(&self, configuration: &Configuration) -> Result<(), String> {
        let tasks = self.tasks.child();
        let mut state =
            State { anonymous: configuration.anonymous.clone(), tasks: Some(tasks.clone()), issuers: Vec::new() };
        for settings in &configuration.issuers {
            let started = Issuer::start(settings.clone(), self.clock, self.figures.clone(), &tasks);
            state.issuers.push(started?);
        }
        self.state.store(Arc::new(state));
        Ok(())
    }

    /// Accepts what the file says from now on, and follows it. `server_id` tells servers apart in figures.
    ///
    /// # Errors
    /// What is wrong with the file at the start.
    pub fn follow(self: &Arc<Self>, path: PathBuf, server_id: &str) -> Result<(), String> {
        let failed = |why: String| format!("failed to load AuthenticationConfiguration from file: {why}");
        let text = crate::reload::read(&path).map_err(failed)?;
        self.apply(&Configuration::decode(&text, &self.own_issuers)?)?;
        self.figures.reloads.started(server_id, &text);
        let own = self.clone();
        self.tasks.spawn("authentication configuration", async move {
            let apply = |text: &[u8]| own.apply(&Configuration::decode(text, &own.own_issuers)?);
            crate::reload::follow(&path, text, own.clock, &own.figures.reloads, apply).await;
        });
        Ok(())
    }

    /// Counts how often the file was taken or refused after it changed.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.figures.reloads.outcomes()
    }

    /// Counts how often an issuer was asked for its keys: they are in use then, or it failed.
    pub fn fetches(&self) -> watch::Receiver<u64> {
        self.figures.fetches.subscribe()
    }

    async fn token(&self, token: &str) -> Result<Option<Arc<Caller>>, BadCredentials> {
        let state = self.state.load_full();
        if state.issuers.is_empty() {
            return Ok(None);
        }
        let Some(claims) = unverified_claims(token) else { return Ok(None) };
        match state.issuers.iter().find(|issuer| issuer.is_named_by(&claims)) {
            Some(issuer) => Ok(Some(Arc::new(issuer.authenticate(token).await?))),
            None => Ok(None),
        }
    }
}

/// What a token says of itself; `None` if it is none.
fn unverified_claims(token: &str) -> Option<Json> {
    let mut parts = token.split('.');
    let (payload, signature) = (parts.nth(1)?, parts.next());
    if signature.is_none() || parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

impl Authenticator for Configured {
    fn register(&self, registry: &mut Registry) {
        self.figures.register(registry);
    }

    fn anonymous(&self, path: &str) -> Option<bool> {
        self.state.load().anonymous.as_ref().map(|anonymous| anonymous.allows(path))
    }

    fn anonymous_rule(&self) -> Option<Anonymous> {
        self.state.load().anonymous.clone()
    }

    fn authenticate<'a>(
        &'a self,
        parts: RequestParts<'a>,
        _lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Arc<Caller>>, BadCredentials>> {
        Box::pin(async move {
            match bearer_token(parts.headers) {
                Some(token) => self.token(token).await,
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
        Box::pin(async move {
            // Such a token is for the API server, whatever its issuer calls that.
            let audiences = super::common(audiences, &self.audiences);
            if audiences.is_empty() {
                return Ok(None);
            }
            Ok(self.token(token).await?.map(|caller| Shown { caller, audiences }))
        })
    }
}
