//! Looks after one other API server: whether it can be reached, and what it says of itself. Looks again when the
//! Service or its endpoints change, and now and then by itself, because networks fail without an event.

use std::sync::Arc;
use std::time::Duration;

use api::apiregistration::v1::{APIService, APIServiceStatus};
use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use api::{Body, Call, Object, Options, Status, Target, Typed, Verb};
use base::Backoff;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::available::{Verdict, View};
use super::backend::{self, Backend};
use super::probe;
use crate::lookup::changed;
use crate::{Caller, Server};

/// How often all is looked at again (upstream's resync), and what was heard of a server is asked anew.
const AGAIN: Duration = Duration::from_secs(30);
const DESCRIBE_AGAIN: Duration = Duration::from_secs(60);
/// Delays after a failed check.
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How often a status is written anew when somebody else was faster.
const TRIES: usize = 3;

/// Looks after `backend` until `ending`.
pub async fn keep(server: Arc<Server>, backend: Arc<Backend>, ending: CancellationToken) {
    let all = looking_after(&server, &backend);
    tokio::select! {
        biased;
        () = ending.cancelled() => {}
        () = all => {}
    }
    server.metrics.forget_api_service(&backend.name);
}

async fn looking_after(server: &Arc<Server>, backend: &Backend) {
    let (clock, lookup) = (server.options().clock, server.lookup());
    let caller = Arc::new(Caller::apiserver());
    let (mut services, mut slices) = (lookup.signal::<Service>(), lookup.signal::<EndpointSlice>());
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    let mut described_at: Option<Instant> = None;
    loop {
        let view = View::of(lookup, &backend.reach.service);
        let (verdict, retry) = look(server, backend, &view).await;
        server.metrics.api_service(&backend.name, verdict.status == "True");
        if let Err(error) = tell(server, &caller, &backend.name, Some(&backend.uid), &verdict).await {
            tracing::warn!(apiservice = backend.name, %error, "the status of an APIService was not written");
        }
        let due = described_at.is_none_or(|at| clock.monotonic() >= at + DESCRIBE_AGAIN);
        if verdict.status != "True" {
            described_at = None;
            server.aggregation().describe(server, backend, false).await;
        } else if due {
            let heard = server.aggregation().describe(server, backend, true).await;
            described_at = heard.then(|| clock.monotonic());
        }
        let wait = if retry {
            backoff.next()
        } else {
            backoff.reset();
            AGAIN
        };
        let until = clock.monotonic() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                () = changed(&mut services) => {}
                () = changed(&mut slices) => {}
            }
            if View::of(lookup, &backend.reach.service) != view {
                described_at = None;
                break;
            }
        }
    }
}

/// What the condition is to say, and whether to look again soon.
async fn look(server: &Arc<Server>, backend: &Backend, view: &View) -> (Verdict, bool) {
    if let Some(verdict) = view.judge(&backend.reach.service) {
        return (verdict, false);
    }
    match probe::probe(server, backend).await {
        Ok(()) => (Verdict::passed(), false),
        Err(why) => (Verdict::failed_discovery(why), true),
    }
}

/// Writes the condition `Available`, if it changes.
///
/// # Errors
/// Why it could not be written.
pub async fn tell(
    server: &Server,
    caller: &Arc<Caller>,
    name: &str,
    uid: Option<&str>,
    verdict: &Verdict,
) -> Result<(), Status> {
    for _ in 0..TRIES {
        let Some(object) = server.lookup().get::<APIService>("", name) else { return Ok(()) };
        if uid.is_some_and(|uid| uid != object.uid()) {
            return Ok(());
        }
        let mut conditions = object.status.clone().and_then(|status| status.conditions).unwrap_or_default();
        let at = conditions.iter().position(|condition| condition.type_ == "Available");
        let Some(next) = verdict.condition(at.map(|at| &conditions[at]), server.now()) else { return Ok(()) };
        match at {
            Some(at) => conditions[at] = next,
            None => conditions.push(next),
        }
        let was_available = backend::is_available(&object);
        let mut next = APIService::clone(&object);
        next.status = Some(APIServiceStatus { conditions: Some(conditions) });
        let target = Target::kind(APIService::KIND).named(name).subresource("status");
        let options = Options { field_manager: Some("kube-apiserver".to_owned()), ..Options::default() };
        let call = Call { verb: Verb::Update, target, options, body: Body::Object(Arc::new(next)) };
        match server.call(caller, call).await {
            Err(status) if status.code() == 409 => server.lookup().wait_fresh().await?,
            Err(status) if status.code() != 404 => return Err(status),
            Err(_) => return Ok(()),
            Ok(_) => {
                if was_available && verdict.status != "True" {
                    server.metrics.api_service_lost(name, verdict.reason);
                }
                return Ok(());
            }
        }
    }
    Ok(())
}
