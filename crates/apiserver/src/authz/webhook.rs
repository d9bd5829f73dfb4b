//! Somebody else decides: each question goes to a server as a SubjectAccessReview, and its answers are kept for a
//! while.
//!
//! Upstream: apiserver/plugin/pkg/authorizer/webhook.

mod review;

use std::path::PathBuf;
use std::time::Duration;

use base::{Clock, Random};
use bytes::Bytes;
use cel::{Environment, Program, Value};
use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use super::figures::Figures;
use super::{Attributes, Authorizer, Decision, Rules, rule};
use crate::kept::Kept;
use crate::outbound::{self, Again, Remote};
use crate::{Caller, Lookup};

pub use review::Version;

/// Answers kept (upstream's).
const ANSWERS_LEN_MAX: usize = 8192;
/// Questions longer than this are asked each time: nobody may fill the memory with long names (upstream's bound).
const QUESTION_BYTES_MAX: usize = 10_000;
/// When a server that is not well is asked for the second time.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// A condition under which the webhook is asked at all.
#[derive(Debug)]
pub struct Condition {
    text: String,
    program: Program,
}

impl Condition {
    /// Compiles an expression over `request`, a SubjectAccessReview's spec.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn compile(text: &str) -> Result<Self, String> {
        let environment = Environment::new().variable("request", review::SPEC.clone());
        let program = environment.compile(text).map_err(|error| format!("compilation failed: {error}"))?;
        match program.result_type() {
            cel::Type::Bool => Ok(Self { text: text.to_owned(), program }),
            _ => Err("must evaluate to bool".to_owned()),
        }
    }
}

/// What is configured of a webhook.
#[derive(Debug)]
pub struct Settings {
    pub name: String,
    pub kubeconfig: PathBuf,
    pub timeout: Duration,
    /// How long a yes is good, and a no; `None`: not kept.
    pub authorized_ttl: Option<Duration>,
    pub unauthorized_ttl: Option<Duration>,
    pub version: Version,
    /// Whether a failure is a no; otherwise others are asked.
    pub denies_on_failure: bool,
    pub conditions: std::sync::Arc<[Condition]>,
}

/// The authorizer.
pub struct Webhook {
    name: String,
    remote: Remote,
    timeout: Duration,
    authorized_ttl: Option<Duration>,
    unauthorized_ttl: Option<Duration>,
    version: Version,
    denies_on_failure: bool,
    conditions: std::sync::Arc<[Condition]>,
    answers: Kept<Bytes, Decision>,
    again: Again,
    figures: Figures,
}

impl Webhook {
    /// # Errors
    /// What is wrong with its kubeconfig.
    pub fn new(settings: &Settings, clock: Clock, random: Random, figures: Figures) -> Result<Self, String> {
        Ok(Self {
            name: settings.name.clone(),
            remote: Remote::of_kubeconfig(&settings.kubeconfig)?,
            timeout: settings.timeout,
            authorized_ttl: settings.authorized_ttl,
            unauthorized_ttl: settings.unauthorized_ttl,
            version: settings.version,
            denies_on_failure: settings.denies_on_failure,
            conditions: settings.conditions.clone(),
            answers: Kept::new(ANSWERS_LEN_MAX),
            again: Again { first: RETRY_FIRST, clock, random },
            figures,
        })
    }

    /// Whether the conditions let the webhook be asked. One that is false decides, whatever the others do.
    fn matches(&self, attributes: &Attributes<'_>) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let clock = self.again.clock;
        let began = clock.monotonic();
        let request = review::for_conditions(attributes);
        let mut errors = Vec::new();
        let mut excluded = false;
        for condition in self.conditions.iter() {
            let variables = [("request", Value::typed(&request, &review::SPEC))];
            match condition.program.evaluate(&variables, cel::PER_CALL_LIMIT) {
                Ok((value, _)) if value.as_bool() == Some(true) => {}
                Ok(_) => excluded = true,
                Err(error) => errors.push(format!("expression '{}' resulted in error: {error}", condition.text)),
            }
            if excluded {
                break;
            }
        }
        let matched = if excluded { Some(false) } else { errors.is_empty().then_some(true) };
        self.figures.matched(&self.name, matched, clock.monotonic() - began);
        matched.ok_or_else(|| rule::aggregate(&errors))
    }

    async fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        match self.matches(attributes) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(why) => return self.failed(why),
        }
        let question = Bytes::from(review::question(attributes, self.version).to_string());
        if let Some(known) = self.answers.get(&question, self.again.clock.monotonic()) {
            return known;
        }
        let answer = match self.exchange(&question).await {
            Ok(answer) => answer,
            Err((why, result)) => {
                if !self.denies_on_failure {
                    self.figures.failed_open(&self.name, result);
                }
                return self.failed(why);
            }
        };
        let decision = match review::decision(&answer) {
            Ok(decision) => decision,
            Err(why) => return self.failed(why),
        };
        self.keep(question, &decision);
        decision
    }

    fn failed(&self, why: String) -> Decision {
        Decision::Failed { why, denies: self.denies_on_failure }
    }

    fn keep(&self, question: Bytes, decision: &Decision) {
        let ttl = if matches!(decision, Decision::Allow(_)) { self.authorized_ttl } else { self.unauthorized_ttl };
        let Some(ttl) = ttl.filter(|_| question.len() <= QUESTION_BYTES_MAX) else { return };
        let now = self.again.clock.monotonic();
        self.answers.put(question, decision.clone(), now, now + ttl);
    }

    /// The answer; or why there is none, and as what that counts.
    async fn exchange(&self, question: &Bytes) -> Result<Json, (String, &'static str)> {
        let result = |error: &outbound::Error| {
            if error.to_string().ends_with("deadline exceeded") { "timeout" } else { "error" }
        };
        let tried = |took, error: Option<&outbound::Error>| {
            self.figures.asked(&self.name, error.map_or("success", result), took);
        };
        let answer = self.remote.post_json_again(question.clone(), self.timeout, &self.again, tried).await;
        let answer = answer.map_err(|error| (error.to_string(), result(&error)))?;
        serde_json::from_slice(&answer).map_err(|error| (error.to_string(), "error"))
    }
}

impl Authorizer for Webhook {
    /// For those who cannot wait: asks all the same, and holds up the thread.
    fn authorize(&self, attributes: &Attributes<'_>, _lookup: &Lookup) -> Decision {
        use tokio::runtime::{Handle, RuntimeFlavor};
        match Handle::try_current() {
            Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
                tokio::task::block_in_place(|| handle.block_on(self.decide(attributes)))
            }
            _ => self.failed("an authorization webhook cannot be asked on a single thread".to_owned()),
        }
    }

    fn waits(&self) -> bool {
        true
    }

    fn ask<'a>(&'a self, attributes: &'a Attributes<'a>, _lookup: &'a Lookup) -> BoxFuture<'a, Decision> {
        Box::pin(self.decide(attributes))
    }

    fn rules(&self, _caller: &Caller, _namespace: &str, _lookup: &Lookup) -> Rules {
        let errors = vec!["webhook authorizer does not support user rule resolution".to_owned()];
        Rules { incomplete: true, errors, ..Rules::default() }
    }
}
