//! Keeps flow control true to its objects: one task, driven by their changes, that compiles them, says in their status
//! whether a schema's level exists, and sees to it that the suggested objects are there.

use std::sync::Arc;
use std::time::Duration;

use api::call::PatchKind;
use api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use api::meta::v1::DeleteOptions;
use api::{Body, Call, Object, Options, Reason, Status, Target, Typed, Verb};
use futures_util::future::join_all;
use serde_json::json;

use super::defaults;
use crate::lookup::changed;
use crate::{Caller, Lookup, Server};

/// How often levels lend and borrow anew.
const ADJUST_EVERY: Duration = Duration::from_secs(10);
/// The field managers of upstream's two halves.
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";

/// Follows the objects until the server ends.
pub async fn follow(server: Arc<Server>) {
    let caller = Arc::new(Caller::apiserver());
    let clock = server.options().clock;
    let (mut schemas, mut levels) =
        (server.lookup().signal::<FlowSchema>(), server.lookup().signal::<PriorityLevelConfiguration>());
    let mut adjust_at = clock.monotonic() + ADJUST_EVERY;
    loop {
        server.flow.take_in(server.lookup());
        settle(&server, &caller).await;
        loop {
            tokio::select! {
                biased;
                () = server.tasks().cancelled().cancelled_owned() => return,
                () = tokio::time::sleep_until(adjust_at) => {
                    server.flow.adjust();
                    adjust_at = clock.monotonic() + ADJUST_EVERY;
                }
                () = changed(&mut schemas) => break,
                () = changed(&mut levels) => break,
                () = server.flow.kept.notified() => break,
            }
        }
    }
}

impl super::Flow {
    /// Compiles the objects as the caches have them.
    pub fn take_in(&self, lookup: &Lookup) {
        self.rebuild(&lookup.list::<FlowSchema>(None), &lookup.list::<PriorityLevelConfiguration>(None));
    }
}

async fn settle(server: &Arc<Server>, caller: &Arc<Caller>) {
    if server.flow.keeps_defaults.load(std::sync::atomic::Ordering::Acquire)
        && let Err(error) = ensure(server, caller).await
    {
        tracing::warn!(%error, "the suggested flow control objects are not all as they should be");
    }
    for schema in server.lookup().list::<FlowSchema>(None) {
        if let Err(error) = tell(server, caller, &schema).await {
            tracing::warn!(schema = schema.name(), %error, "a flow schema's status was not written");
        }
    }
}

/// Says in a schema's status whether its level exists.
async fn tell(server: &Server, caller: &Arc<Caller>, schema: &FlowSchema) -> Result<(), Status> {
    let level = &schema.spec.priority_level_configuration.name;
    let found = server.lookup().get::<PriorityLevelConfiguration>("", level).is_some();
    let about = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = if found {
        ("False", "Found", format!("{about} and it exists"))
    } else {
        ("True", "NotFound", format!("{about} but there is no such object"))
    };
    let mut conditions = schema.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let own = conditions.find(|condition| condition.type_ == "Dangling");
    let same = own.is_some_and(|own| {
        own.status.as_deref() == Some(status)
            && own.reason.as_deref() == Some(reason)
            && own.message.as_deref() == Some(&message)
    });
    if same {
        return Ok(());
    }
    let kind = FlowSchema::KIND;
    let applied = json!({
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": schema.name(), "uid": schema.uid()},
        "status": {"conditions": [{
            "type": "Dangling", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": server.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }]},
    });
    let mut target = Target::kind(kind).named(schema.name());
    target.subresource = Some("status".into());
    let call = Call {
        verb: Verb::Patch,
        target,
        options: Options { field_manager: Some(CONSUMER.to_owned()), force: true, ..Options::default() },
        body: Body::Patch(PatchKind::Apply, applied.to_string().into()),
    };
    match server.call(caller, call).await {
        Ok(_) => Ok(()),
        // It is gone, or another of that name: the event comes.
        Err(status) if matches!(status.code(), 404 | 409) => Ok(()),
        Err(status) => Err(status),
    }
}

/// Makes the suggested objects what they should be.
///
/// # Errors
/// The first write that failed for another reason than that somebody else was faster.
pub async fn ensure(server: &Server, caller: &Arc<Caller>) -> Result<(), Status> {
    let lookup = server.lookup();
    let wanted = defaults::all();
    let served = |object: &dyn Object| lookup.catalog().of_kind(object.kind()).is_some();
    let mut calls: Vec<Call> = Vec::new();
    for wanted in wanted.iter().filter(|object| served(&***object)) {
        let kind = wanted.kind();
        let call = |verb, object: Box<dyn Object>| {
            let options = Options { field_manager: Some(PRODUCER.to_owned()), ..Options::default() };
            Call { verb, target: Target::kind(kind), options, body: Body::Object(object.into()) }
        };
        match lookup.get_any(kind.group, kind.plural, "", wanted.name()) {
            None => calls.push(call(Verb::Create, wanted.boxed_clone())),
            Some(existing) => calls.extend(defaults::mend(&*existing, &**wanted).map(|mended| {
                let mut call = call(Verb::Update, mended);
                call.target.name = Some(wanted.name().to_owned());
                call
            })),
        }
    }
    let schemas = lookup.list::<FlowSchema>(None).into_iter().map(|schema| schema as Arc<dyn Object>);
    let levels = lookup.list::<PriorityLevelConfiguration>(None).into_iter().map(|level| level as Arc<dyn Object>);
    for old in schemas.chain(levels).filter(|object| defaults::is_left_over(&**object, &wanted)) {
        let target = Target::kind(old.kind()).named(old.name());
        let body = Body::Delete(Box::<DeleteOptions>::default());
        calls.push(Call { verb: Verb::Delete, target, options: Options::default(), body });
    }
    let done = join_all(calls.into_iter().map(|call| server.call(caller, call))).await;
    let passing = |status: &Status| {
        status.is(Reason::Conflict) || status.is(Reason::AlreadyExists) || status.is(Reason::NotFound)
    };
    done.into_iter().filter_map(Result::err).find(|status| !passing(status)).map_or(Ok(()), Err)
}
