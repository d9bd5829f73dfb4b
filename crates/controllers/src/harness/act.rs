//! The escape hatch: controllers whose work is a conversation with the API (deleting a namespace's contents) and not
//! one decision. They share the queue, back-off and panic isolation, but write for themselves.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::Typed;
use api::rbac::v1::PolicyRule;
use client::{Client, Error, WorkQueue};

use super::{AnyController, Context, READ, RETRY_FIRST, RETRY_MAX, Read, Write, events_rule, read, rule};

/// A controller that acts.
pub trait Actor: Send + Sync + 'static {
    const NAME: &'static str;
    type Primary: Typed;
    const WORKERS: usize = 4;
    /// Whether the primary kind is served only where it was asked for: the controller does nothing where it was not.
    const OPTIONAL: bool = false;

    /// As [`super::Controller::reads`].
    fn reads() -> Vec<Read>;
    /// As [`super::Controller::writes`].
    fn writes() -> Vec<Write>;
    /// Brings one object nearer to where it should be. Answers when to look again, if no event will tell.
    fn act(
        &self,
        primary: Arc<Self::Primary>,
        context: &Context,
        client: &Client,
    ) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;
}

/// Turns an [`Actor`] into an [`AnyController`].
pub struct Acting<C>(pub C);

impl<C: Actor> AnyController for Acting<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn rules(&self) -> Vec<PolicyRule> {
        let mut rules: Vec<PolicyRule> = C::reads().iter().map(|read| rule(read.kind(), "", READ)).collect();
        rules.push(rule(C::Primary::KIND, "", READ));
        rules.extend(C::writes().iter().map(Write::rule));
        rules.push(events_rule());
        rules
    }

    fn start(&'static self, context: Context) {
        if !C::OPTIONAL {
            return self.begin(&context);
        }
        let (mut served, tasks) = (context.served.clone(), context.tasks.clone());
        tasks.spawn(C::NAME, async move {
            let (group, plural) = (C::Primary::KIND.group, C::Primary::KIND.plural);
            // In whichever version: the others are there for the cluster's own parts. Which are never changes.
            if served.now().await.all().iter().any(|one| (one.kind.group, one.kind.plural) == (group, plural)) {
                self.begin(&context);
            }
        });
    }
}

impl<C: Actor> Acting<C> {
    fn begin(&'static self, context: &Context) {
        let queue = WorkQueue::new(RETRY_FIRST, RETRY_MAX);
        read::follow::<C::Primary>(context, &queue, C::NAME, "");
        for read in C::reads() {
            read.follow(context, &queue);
        }
        let client = (context.client_for)(C::NAME);
        for _ in 0..C::WORKERS {
            let (queue, context, client) = (queue.clone(), context.clone(), client.clone());
            let tasks = context.tasks.clone();
            tasks.supervise(C::NAME, move || work(&self.0, queue.clone(), context.clone(), client.clone()));
        }
    }
}

async fn work<C: Actor>(controller: &'static C, queue: WorkQueue, context: Context, client: Client) {
    let reflector = context.reflectors.of::<C::Primary>();
    reflector.synced().await;
    loop {
        let work = queue.next().await;
        let Some(primary) = reflector.get(work.key()) else {
            work.done();
            continue;
        };
        let key = work.key().to_owned();
        match base::task::catch(C::NAME, controller.act(primary, &context, &client)).await {
            Some(Ok(Some(delay))) => work.again_after(delay),
            Some(Ok(None)) => work.done(),
            Some(Err(error)) => {
                let delay = work.failed();
                if !error.is_conflict() {
                    tracing::warn!(controller = C::NAME, key, %error, ?delay, "reconciling failed");
                }
            }
            None => {
                work.failed();
            }
        }
    }
}
