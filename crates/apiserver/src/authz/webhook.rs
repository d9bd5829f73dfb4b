//! Somebody else decides: each question goes to a server as a SubjectAccessReview, and its answers are kept for a
//! while.
//!
//! Upstream: apiserver/plugin/pkg/authorizer/webhook.

mod review;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use base::{Clock, Random};
use bytes::Bytes;
use cel::{Environment, Program, Value};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::time::Instant;

use super::figures::Figures;
use super::{Attributes, Authorizer, Decision, Rules, rule};
use crate::outbound::{self, Remote};
use crate::{Caller, Lookup};

pub use review::Version;

/// Answers kept (upstream's 8192); when there are as many, all that are over go, or else all.
const ANSWERS_LEN_MAX: usize = 8192;
/// Questions longer than this are asked each time: nobody may fill the memory with long names (upstream's bound).
const QUESTION_BYTES_MAX: usize = 10_000;
/// A call is tried so often if the server says it is not well, the first time again after `RETRY_FIRST`.
const TRIES: u32 = 5;
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_FACTOR: f64 = 1.5;
const RETRY_JITTER: f64 = 0.2;

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
    answers: Mutex<HashMap<Bytes, (Decision, Instant)>>,
    clock: Clock,
    random: Random,
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
            answers: Mutex::default(),
            clock,
            random,
            figures,
        })
    }

    /// Whether the conditions let the webhook be asked. One that is false decides, whatever the others do.
    fn matches(&self, attributes: &Attributes<'_>) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let began = self.clock.monotonic();
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
        self.figures.matched(&self.name, matched, self.clock.monotonic() - began);
        matched.ok_or_else(|| rule::aggregate(&errors))
    }

    async fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        match self.matches(attributes) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(why) => return self.failed(why),
        }
        let question = Bytes::from(review::question(attributes, self.version).to_string());
        if let Some(known) = self.known(&question) {
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

    fn known(&self, question: &Bytes) -> Option<Decision> {
        let now = self.clock.monotonic();
        let answers = self.answers.lock();
        answers.get(question).filter(|(_, until)| now < *until).map(|(decision, _)| decision.clone())
    }

    fn keep(&self, question: Bytes, decision: &Decision) {
        let ttl = if matches!(decision, Decision::Allow(_)) { self.authorized_ttl } else { self.unauthorized_ttl };
        let Some(ttl) = ttl.filter(|_| question.len() <= QUESTION_BYTES_MAX) else { return };
        let now = self.clock.monotonic();
        let mut answers = self.answers.lock();
        if answers.len() >= ANSWERS_LEN_MAX {
            answers.retain(|_, (_, until)| now < *until);
            if answers.len() >= ANSWERS_LEN_MAX {
                answers.clear();
            }
        }
        answers.insert(question, (decision.clone(), now + ttl));
    }

    /// The answer; or why there is none, and as what that counts.
    async fn exchange(&self, question: &Bytes) -> Result<Json, (String, &'static str)> {
        let mut pause = RETRY_FIRST;
        for attempt in 1.. {
            let began = self.clock.monotonic();
            let answer = self.remote.post_json(question.clone(), self.timeout).await;
            let took = self.clock.monotonic() - began;
            let error = match answer {
                Ok(answer) => {
                    self.figures.asked(&self.name, "success", took);
                    return serde_json::from_slice(&answer).map_err(|error| (error.to_string(), "error"));
                }
                Err(error) => error,
            };
            let result = if error.to_string().ends_with("deadline exceeded") { "timeout" } else { "error" };
            self.figures.asked(&self.name, result, took);
            if attempt == TRIES || !is_passing(&error) {
                return Err((error.to_string(), result));
            }
            self.clock.sleep(pause.mul_f64(1.0 + RETRY_JITTER * self.random.fraction())).await;
            pause = pause.mul_f64(RETRY_FACTOR);
        }
        unreachable!("the last attempt returns")
    }
}

/// Whether a server said that it is not well just now.
fn is_passing(error: &outbound::Error) -> bool {
    match error {
        outbound::Error::Answered(status) => matches!(status.code(), 429 | 500 | 504),
        outbound::Error::Unreachable(why) => why.contains("connection reset"),
        outbound::Error::Configuration(_) => false,
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
