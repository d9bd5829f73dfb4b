//! `ValidatingAdmissionWebhook`: asks webhooks, all at once, whether they consent.
//!
//! Upstream: apiserver/pkg/admission/plugin/webhook/validating.

use api::Status;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;

use super::matching::is_exempt;
use super::webhook::{self, Failure, Hook, Question};
use super::{Operation, Request, review};
use crate::Server;

/// How many webhooks one request waits for at once.
const CALLS_LEN_MAX: usize = 16;

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, _: Operation, group: &str, resource: &str, _: &str) -> bool {
        !is_exempt(group, resource)
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let clock = request.server.options().clock;
            crate::http::away(clock, validate(request)).await
        })
    }
}

/// Its place, the webhook, and what it said.
type Answer<'a> = (usize, &'a Hook, Result<review::Said, Failure>);

async fn ask<'a>(server: &Server, at: usize, hook: &'a Hook, question: Result<Question, Failure>) -> Answer<'a> {
    let said = match question {
        Ok(question) => hook.ask(server, &question, false).await,
        Err(failure) => Err(failure),
    };
    (at, hook, said)
}

async fn validate(request: &mut Request<'_>) -> Result<(), Status> {
    let server = request.server;
    let configurations = server.external().validating_webhooks.get(server.lookup(), webhook::validating);
    if configurations.is_empty() {
        return Ok(());
    }
    let mut calls: Vec<(&Hook, Result<Question, Failure>)> = Vec::new();
    for hook in configurations.iter().flat_map(|hooks| hooks.iter()) {
        if let Some(form) = hook.applies(request).await? {
            calls.push((hook, hook.question(request, &form)));
        }
    }
    let ask = |(at, (hook, question))| -> BoxFuture<'_, Answer<'_>> { Box::pin(ask(server, at, hook, question)) };
    let asked: Vec<_> = calls.into_iter().enumerate().map(ask).collect();
    let mut answers: Vec<_> = stream::iter(asked).buffer_unordered(CALLS_LEN_MAX).collect().await;
    answers.sort_by_key(|(at, ..)| *at);
    let mut refused: Option<Status> = None;
    for (at, hook, said) in answers {
        match said {
            Ok(said) => {
                let annotations = said.annotations.into_iter();
                request.annotations.extend(annotations.map(|(key, value)| (format!("{}/{key}", hook.name), value)));
                request.warnings.extend(said.warnings);
                if !said.allowed {
                    refused.get_or_insert_with(|| review::refusal(&hook.name, said.result.as_ref()));
                }
            }
            Err(Failure::Calling(why)) if hook.ignores_failure => {
                tracing::warn!(webhook = hook.name, why, "a webhook failed, and its policy is to go on");
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{at}");
                request.annotations.push((key, hook.name.clone()));
            }
            Err(Failure::Calling(why)) => {
                refused.get_or_insert_with(|| hook.failed(&why));
            }
            Err(Failure::Refused(status)) => {
                refused.get_or_insert(status);
            }
        }
    }
    refused.map_or(Ok(()), Err)
}
