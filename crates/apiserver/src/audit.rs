//! The audit log: who asked for what, and what became of it, as `audit.k8s.io/v1` Events. A policy says of which
//! requests and how much; backends (a log, a webhook) take the events. Serving never waits for a backend; what one
//! does not take is counted.

mod event;
mod figures;
pub mod log;
pub mod policy;
mod queue;
mod trail;
pub mod webhook;

use std::path::Path;
use std::sync::Arc;

use base::{Clock, TaskGroup};

pub(crate) use event::{EVENT_BYTES_MAX, Head};
pub use figures::Figures;
pub use policy::{Level, Policy};
pub use trail::Trail;

/// What is too large for a backend (upstream's truncating backend).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncate {
    /// A longer event loses its objects; one that is longer still is lost.
    pub event_bytes_max: usize,
    /// A longer batch goes in several.
    pub batch_bytes_max: usize,
}

impl Default for Truncate {
    fn default() -> Self {
        Self { event_bytes_max: 100 << 10, batch_bytes_max: 10 << 20 }
    }
}

impl Truncate {
    /// # Errors
    /// What is wrong with it for the backend of that name, in upstream's words.
    pub fn check(self, backend: &str) -> Result<(), String> {
        let Self { event_bytes_max, batch_bytes_max } = self;
        let invalid = format!("invalid audit truncate {backend} max");
        if event_bytes_max == 0 {
            return Err(format!("{invalid} event size 0, must be a positive number"));
        }
        if batch_bytes_max < event_bytes_max {
            return Err(format!(
                "{invalid} batch size {batch_bytes_max}, must be greater than max event size ({event_bytes_max})"
            ));
        }
        Ok(())
    }
}

/// What is recorded of, and where.
pub struct Audit {
    policy: Policy,
    log: Option<(queue::Sender, log::Format)>,
    webhook: Option<queue::Sender>,
    figures: Figures,
    clock: Clock,
}

/// What an [`Audit`] is made of.
pub struct Options {
    pub policy: Policy,
    pub log: Option<log::Options>,
    /// The kubeconfig file of a webhook, and how it is called.
    pub webhook: Option<(std::path::PathBuf, webhook::Options)>,
}

impl Options {
    /// The standard policy, to a log.
    pub fn log(path: impl Into<std::path::PathBuf>) -> Self {
        Self { policy: Policy::standard(), log: Some(log::Options::new(path)), webhook: None }
    }
}

/// Reads a policy file.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub fn load_policy(path: &Path) -> Result<Policy, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("loading audit policy file: failed to read file path {path:?}: {error}"))?;
    Policy::parse(&text).map_err(|why| format!("loading audit policy file: {why}: from file {}", path.display()))
}

impl Audit {
    /// Opens the backends, which work until `tasks` ends.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub async fn open(options: Options, clock: Clock, tasks: &TaskGroup) -> Result<Arc<Self>, String> {
        let figures = Figures::default();
        let log = match options.log {
            None => None,
            Some(own) => {
                let (path, format) = (own.path.clone(), own.format);
                let opened = log::open(own, clock, tasks, &figures).await;
                Some((opened.map_err(|error| format!("{}: {error}", path.display()))?, format))
            }
        };
        let webhook = match options.webhook {
            None => None,
            Some((file, own)) => Some(webhook::start(&file, own, clock, tasks, &figures)?),
        };
        Ok(Arc::new(Self { policy: options.policy, log, webhook, figures, clock }))
    }

    /// A request whose caller is known, or is known to be nobody; `None`: it is not recorded.
    pub(crate) fn follow(
        self: &Arc<Self>,
        request: &policy::Request<'_>,
        head: impl FnOnce() -> Head,
    ) -> Option<Arc<Trail>> {
        let decision = self.policy.decide(request);
        self.figures.decided(decision.level);
        if decision.level == Level::None {
            return None;
        }
        let trail = Trail::new(self.clone(), decision, head());
        if request.caller.is_some() {
            trail.tell(policy::Stage::RequestReceived);
        }
        Some(Arc::new(trail))
    }

    /// How much is recorded of what matters most, `secrets=Metadata`; nothing if no backend takes it.
    pub fn levels(&self) -> Vec<String> {
        if self.log.is_none() && self.webhook.is_none() {
            return Vec::new();
        }
        self.policy.levels().into_iter().map(|(what, level)| format!("{what}={}", level.as_str())).collect()
    }

    /// What is counted.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    fn legacy(&self) -> bool {
        self.log.as_ref().is_some_and(|(_, format)| *format == log::Format::Legacy)
    }

    /// `encode`: with the objects, or without.
    fn put(&self, level: Level, encode: impl Fn(bool) -> event::Encoded) {
        self.figures.made();
        let whole = Arc::new(encode(true));
        let mut short = None;
        for sender in self.log.iter().map(|(sender, _)| sender).chain(&self.webhook) {
            if sender.takes(&whole) {
                sender.put(&whole);
                continue;
            }
            let cut = match level {
                Level::Request | Level::RequestResponse => &*short.get_or_insert_with(|| Arc::new(encode(false))),
                _ => &whole,
            };
            if sender.takes(cut) {
                sender.put(cut);
            } else {
                sender.too_large();
            }
        }
    }
}
