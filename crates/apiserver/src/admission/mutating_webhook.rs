//! `MutatingAdmissionWebhook`: asks webhooks, one after the other, how they want the object to be.
//!
//! Upstream: apiserver/pkg/admission/plugin/webhook/mutating.

use api::Status;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::matching::{Form, is_exempt};
use super::webhook::{self, Failure, Hook};
use super::{Operation, Request, conversion, review};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn handles(&self, _: Operation, group: &str, resource: &str, _: &str) -> bool {
        !is_exempt(group, resource)
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let clock = request.server.options().clock;
            crate::http::away(clock, admit(request)).await
        })
    }
}

async fn admit(request: &mut Request<'_>) -> Result<(), Status> {
    let server = request.server;
    let configurations = server.external().mutating_webhooks.get(server.lookup(), webhook::mutating);
    if configurations.is_empty() {
        return Ok(());
    }
    if request.reinvocation.round > 0 {
        let now = request.object.as_ref().map(|object| object.encode()).unwrap_or_default();
        request.reinvocation.webhooks.compare(&now);
    }
    for (at, hook) in configurations.iter().flat_map(|hooks| hooks.iter()).enumerate() {
        let Some(form) = hook.applies(request).await? else { continue };
        if request.reinvocation.round > 0 && !request.reinvocation.webhooks.is_again(&hook.id) {
            continue;
        }
        let changed = call(hook, request, &form).await;
        let round = request.reinvocation.round;
        let mutated = matches!(changed, Ok(true));
        let text = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated});
        let key = format!("mutation.webhook.admission.k8s.io/round_{round}_index_{at}");
        request.annotations.push((key.clone(), text.to_string()));
        if mutated {
            request.reinvocation.webhooks.changed();
            request.reinvocation.wanted = true;
        }
        if hook.reinvoked {
            request.reinvocation.webhooks.invoked(&hook.id);
        }
        match changed {
            Ok(_) => {}
            Err(Failure::Calling(why)) if hook.ignores_failure => {
                tracing::warn!(webhook = hook.name, why, "a webhook failed, and its policy is to go on");
                request.annotations.push((format!("failed-open.{key}"), hook.name.clone()));
            }
            Err(Failure::Calling(why)) => return Err(hook.failed(&why)),
            Err(Failure::Refused(status)) => return Err(status),
        }
    }
    let now = request.object.as_ref().map(|object| object.encode()).unwrap_or_default();
    request.reinvocation.webhooks.seen(now);
    Ok(())
}

/// Asks one; whether it changed the object.
async fn call(hook: &Hook, request: &mut Request<'_>, form: &Form) -> Result<bool, Failure> {
    let question = hook.question(request, form)?;
    let said = hook.ask(request.server, &question, true).await?;
    let annotations = said.annotations.into_iter().map(|(key, value)| (format!("{}/{key}", hook.name), value));
    request.annotations.extend(annotations);
    request.warnings.extend(said.warnings);
    if !said.allowed {
        return Err(Failure::Refused(review::refusal(&hook.name, said.result.as_ref())));
    }
    if said.patch.is_empty() {
        return Ok(false);
    }
    let patched = review::patched(question.object.clone(), &said.patch);
    let patched = patched.map_err(|error| Failure::Refused(Status::internal(error)))?;
    let Some(patched) = patched else { return Ok(false) };
    let Some(kind) = request.object.as_ref().map(|object| object.kind()) else {
        return Err(Failure::Refused(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        ))));
    };
    let before = question.object;
    let kind = form.converted.as_ref().filter(|other| other.plural() == kind.plural).map_or(kind, |other| other.kind());
    let object = conversion::decode(request, kind, patched).map_err(Failure::Refused)?;
    let changed = object.to_value() != before;
    let object = match &form.converted {
        Some(other) => conversion::back(request, &*object, other).map_err(Failure::Refused)?,
        None => object,
    };
    if let Some(own) = request.object.as_mut() {
        **own = object;
    }
    Ok(changed)
}
