//! A plan: what a controller wants done, as data.

use std::sync::Arc;
use std::time::Duration;

use api::call::PatchKind;
use api::meta::v1::{DeleteOptions, Preconditions};
use api::{Kind, Object, Typed};
use serde_json::Value;

/// The steps of one reconcile, in order. Empty: all is well.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Events about the primary object, written before the steps.
    pub events: Vec<(EventType, &'static str, String)>,
    /// Reconcile again after this long, whatever happens.
    pub requeue_after: Option<Duration>,
}

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

/// One write.
#[derive(Debug)]
pub struct Step {
    pub op: Op,
    /// Events that tell how it went.
    pub report: Report,
    /// Steps with the same batch number that follow one another run at the same time, in slow-start batches of 1, 2,
    /// 4 ...: when the first fail, the rest are not tried.
    pub batch: Option<u32>,
}

/// Which events a step writes about the primary object: the reason, and the message up to the error (failure).
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub success: Option<Success>,
    pub failure: Option<(&'static str, String)>,
}

/// What a successful step tells.
#[derive(Debug, Clone)]
pub struct Success {
    pub reason: &'static str,
    pub message: String,
    /// The written object's name, which the server may have chosen, ends the message.
    pub with_name: bool,
}

/// What is written.
#[derive(Debug)]
pub enum Op {
    Create(Arc<dyn Object>),
    /// Replaces the object; its resourceVersion guards it.
    Update(Arc<dyn Object>),
    UpdateStatus(Arc<dyn Object>),
    Patch {
        kind: &'static Kind,
        namespace: String,
        name: String,
        subresource: Option<&'static str>,
        format: PatchKind,
        patch: Value,
    },
    Delete {
        kind: &'static Kind,
        namespace: String,
        name: String,
        uid: String,
        options: Box<DeleteOptions>,
    },
}

impl Step {
    pub fn new(op: Op) -> Self {
        Self { op, report: Report::default(), batch: None }
    }

    pub fn create<T: Typed>(object: T) -> Self {
        const { assert!(!T::LEAN, "a lean form is not written") };
        Self::new(Op::Create(Arc::new(object)))
    }

    pub fn update<T: Typed>(object: T) -> Self {
        const { assert!(!T::LEAN, "a lean form is not written") };
        Self::new(Op::Update(Arc::new(object)))
    }

    pub fn update_status<T: Typed>(object: T) -> Self {
        const { assert!(!T::LEAN, "a lean form is not written") };
        Self::new(Op::UpdateStatus(Arc::new(object)))
    }

    /// Deletes that very object (by uid).
    pub fn delete(object: &dyn Object) -> Self {
        let options = DeleteOptions {
            preconditions: Some(Preconditions { uid: Some(object.uid().to_owned()), resource_version: None }),
            ..Default::default()
        };
        Self::new(Op::Delete {
            kind: object.kind(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            options: Box::new(options),
        })
    }

    pub fn in_batch(mut self, batch: u32) -> Self {
        self.batch = Some(batch);
        self
    }

    /// On success: an event whose message ends with the written object's name.
    pub fn on_success(mut self, reason: &'static str, message: impl Into<String>) -> Self {
        self.report.success = Some(Success { reason, message: message.into(), with_name: true });
        self
    }

    /// On success: an event with just this message.
    pub fn tells(mut self, reason: &'static str, message: impl Into<String>) -> Self {
        self.report.success = Some(Success { reason, message: message.into(), with_name: false });
        self
    }

    pub fn on_failure(mut self, reason: &'static str, message: impl Into<String>) -> Self {
        self.report.failure = Some((reason, message.into()));
        self
    }
}

impl Plan {
    /// Nothing but a later look.
    pub fn again_after(delay: Duration) -> Self {
        Self { requeue_after: Some(delay), ..Self::default() }
    }

    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    pub fn normal(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push((EventType::Normal, reason, message.into()));
    }

    pub fn warning(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push((EventType::Warning, reason, message.into()));
    }

    /// Asks for another look after `delay` at the latest.
    pub fn requeue_within(&mut self, delay: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(delay, |earlier| earlier.min(delay)));
    }
}
