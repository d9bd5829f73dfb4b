//! Carrying plans out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::meta::v1::DeleteOptions;
use api::{Body, Call, Kind, Object, Reply, Target, Verb};
use client::queue::Work;
use client::{Client, Error, Recorder, WorkQueue};
use futures_util::future::join_all;

use super::pending::{Pending, Written};
use super::plan::EventType;
use super::read::Answered;
use super::{ASKED_LEN_MAX, CATCH_UP_MAX, Context, Controller, Op, Plan, Step, View, Write};

/// What each worker of a controller holds.
#[derive(Clone)]
pub(super) struct Worker {
    pub context: Context,
    pub queue: WorkQueue,
    pub client: Client,
    pub recorder: Recorder,
    pub pending: Arc<Pending>,
    pub writes: Vec<Write>,
}

/// Takes keys and reconciles them, for ever.
pub(super) async fn work<C: Controller>(controller: &'static C, worker: Worker) {
    loop {
        let work = worker.queue.next().await;
        let key = work.key().to_owned();
        match base::task::catch(C::NAME, reconcile(controller, &worker, &key)).await {
            Some(Ok(requeue)) => finish(work, requeue),
            Some(Err(error)) => {
                let conflict = error.is_conflict();
                let delay = work.failed();
                if conflict {
                    tracing::debug!(controller = C::NAME, key, "the object changed meanwhile; looking again");
                } else {
                    tracing::warn!(controller = C::NAME, key, %error, ?delay, "reconciling failed");
                }
            }
            None => {
                work.failed();
            }
        }
    }
}

fn finish(work: Work, requeue: Option<Duration>) {
    match requeue {
        Some(delay) => work.again_after(delay),
        None => work.done(),
    }
}

async fn reconcile<C: Controller>(
    controller: &'static C,
    worker: &Worker,
    key: &str,
) -> Result<Option<Duration>, Error> {
    let reflectors = &worker.context.reflectors;
    let reflector = reflectors.selected::<C::Primary>(C::SELECTOR);
    // Deciding on a view that is not filled yet would see owners without their dependents.
    reflector.synced().await;
    for read in C::reads() {
        reflectors.reach(read.kind(), 1).await;
    }
    let mut written = worker.pending.take(key);
    for (kind, revision) in written.reach.drain(..) {
        if tokio::time::timeout(CATCH_UP_MAX, reflectors.reach(kind, revision)).await.is_err() {
            tracing::warn!(controller = C::NAME, key, kind = kind.kind, "the view lags behind our own writes");
        }
    }
    let now = worker.context.clock.now();
    let primary = reflector.get(key);
    let plan = {
        let unseen = written.unseen(reflectors);
        let failure = written.failure.take();
        let mut view = View::new(reflectors, &unseen, &worker.context.facts);
        view.failure = failure.as_deref();
        view.served = worker.context.served.known();
        if let Some(primary) = &primary {
            view.answers = ask(worker, controller.asks(primary, &view)).await;
        }
        match &primary {
            Some(primary) => controller.plan(primary, &view, now),
            None => controller.plan_gone(key, &view, now),
        }
    };
    let about: Option<&dyn Object> = primary.as_deref().map(|object| object as &dyn Object);
    let result = execute(worker, about, plan, &mut written).await;
    if let Err(error) = &result
        && !error.is_conflict()
    {
        written.failure = Some(error.to_string());
    }
    worker.pending.put(key, written);
    result
}

/// Asks for what a controller must know and the view cannot tell.
async fn ask(worker: &Worker, targets: Vec<Target>) -> Vec<(Target, Answered)> {
    let mut answers = Vec::new();
    for target in targets.into_iter().take(ASKED_LEN_MAX) {
        let answer = worker.client.get_dyn(target.clone()).await;
        answers.push((target, answer));
    }
    answers
}

async fn execute(
    worker: &Worker,
    about: Option<&dyn Object>,
    plan: Plan,
    written: &mut Written,
) -> Result<Option<Duration>, Error> {
    if let Some(about) = about {
        for (type_, reason, message) in plan.events {
            match type_ {
                EventType::Normal => worker.recorder.normal(about, reason, message),
                EventType::Warning => worker.recorder.warning(about, reason, message),
            }
        }
    }
    let mut steps: VecDeque<Step> = plan.steps.into();
    while let Some(first) = steps.pop_front() {
        let mut batch = vec![first];
        while batch[0].batch.is_some() && steps.front().is_some_and(|step| step.batch == batch[0].batch) {
            batch.extend(steps.pop_front());
        }
        slow_start(worker, about, batch, written).await?;
    }
    Ok(plan.requeue_after)
}

/// Runs steps 1, 2, 4 ... at a time; the first round with a failure is the last.
async fn slow_start(
    worker: &Worker,
    about: Option<&dyn Object>,
    mut steps: Vec<Step>,
    written: &mut Written,
) -> Result<(), Error> {
    let mut size = 1;
    while !steps.is_empty() {
        let rest = steps.split_off(size.min(steps.len()));
        let round = std::mem::replace(&mut steps, rest);
        let results = join_all(round.into_iter().map(|step| run(worker, about, step))).await;
        let mut failed = None;
        for result in results {
            match result {
                Ok(Some(Effect::Wrote(kind, version))) => written.wrote(kind, &version),
                Ok(Some(Effect::Gone { uid, kind, key })) => {
                    written.gone.insert(uid, (kind, key));
                }
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        size *= 2;
    }
    Ok(())
}

enum Effect {
    Wrote(&'static Kind, String),
    Gone { uid: String, kind: &'static Kind, key: String },
}

async fn run(worker: &Worker, about: Option<&dyn Object>, step: Step) -> Result<Option<Effect>, Error> {
    declared(&worker.writes, &step.op)?;
    let report = step.report;
    let result = write(&worker.client, step.op).await;
    if let Some(about) = about {
        match (&result, report.success, report.failure) {
            (Ok((_, name)), Some(success), _) => {
                let name = if success.with_name { name } else { "" };
                worker.recorder.normal(about, success.reason, format!("{}{name}", success.message));
            }
            (Err(error), _, Some((reason, message))) if !terminating(error) => {
                worker.recorder.warning(about, reason, format!("{message}{error}"));
            }
            _ => {}
        }
    }
    match result {
        Ok((effect, _)) => Ok(effect),
        // The namespace is going away, and everything in it: trying again would only make noise.
        Err(error) if terminating(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn terminating(error: &Error) -> bool {
    let Error::Status(status) = error else { return false };
    let causes = status.0.details.as_ref().and_then(|details| details.causes.as_ref());
    causes.is_some_and(|causes| causes.iter().any(|cause| cause.reason.as_deref() == Some("NamespaceTerminating")))
}

/// Refuses a write the controller did not declare: its role would not allow it either, but only where RBAC is on.
fn declared(writes: &[Write], op: &Op) -> Result<(), Error> {
    let (kind, subresource, verb) = match op {
        Op::Create(object) => (object.kind(), None, "create"),
        Op::Update(object) => (object.kind(), None, "update"),
        Op::UpdateStatus(object) => (object.kind(), Some("status"), "update"),
        Op::Patch { kind, subresource, .. } => (*kind, *subresource, "patch"),
        Op::Delete { kind, .. } => (*kind, None, "delete"),
    };
    let resource = match subresource {
        Some(subresource) => format!("{}/{subresource}", kind.plural),
        None => kind.plural.to_owned(),
    };
    let allowed = writes
        .iter()
        .any(|write| write.group == kind.group && write.resource == resource && write.verbs.contains(&verb));
    if allowed {
        return Ok(());
    }
    Err(Error::Malformed(format!("this controller does not declare that it may {verb} {resource}")))
}

/// Does it; answers what happened and the object's name.
async fn write(client: &Client, op: Op) -> Result<(Option<Effect>, String), Error> {
    let wrote = |object: Arc<dyn Object>| {
        let effect = Effect::Wrote(object.kind(), object.resource_version().to_owned());
        (Some(effect), object.name().to_owned())
    };
    match op {
        Op::Create(object) => client.create_dyn(object).await.map(wrote),
        Op::Update(object) => client.update_dyn(object, None).await.map(wrote),
        Op::UpdateStatus(object) => client.update_dyn(object, Some("status")).await.map(wrote),
        Op::Patch { kind, namespace, name, subresource, format, patch } => {
            let mut target = Target::kind(kind).namespaced(&namespace).named(&name);
            if let Some(subresource) = subresource {
                target = target.subresource(subresource);
            }
            let mut call = Call::new(Verb::Patch, target);
            call.body = Body::Patch(format, patch.to_string().into());
            reply(client.call(call).await?, kind, name)
        }
        Op::Delete { kind, namespace, name, uid, options } => {
            delete(client, kind, &namespace, name, uid, options).await
        }
    }
}

async fn delete(
    client: &Client,
    kind: &'static Kind,
    namespace: &str,
    name: String,
    uid: String,
    options: Box<DeleteOptions>,
) -> Result<(Option<Effect>, String), Error> {
    let mut call = Call::new(Verb::Delete, Target::kind(kind).namespaced(namespace).named(&name));
    call.body = Body::Delete(options);
    let key = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
    let gone = Some(Effect::Gone { uid, kind, key });
    match client.call(call).await {
        Ok(_) => Ok((gone, name)),
        // Gone already, or another object of that name by now: what was asked for is done.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok((gone, name)),
        Err(error) => Err(error),
    }
}

fn reply(reply: Reply, kind: &'static Kind, name: String) -> Result<(Option<Effect>, String), Error> {
    match reply {
        Reply::Object(object) => Ok((Some(Effect::Wrote(kind, object.resource_version().to_owned())), name)),
        Reply::Status(_) | Reply::List(_) => Ok((None, name)),
    }
}
