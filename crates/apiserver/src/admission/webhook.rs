//! What mutating and validating webhooks share: their compiled form, whether one is asked, and the call.

use std::time::Duration;

use api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use api::{Object, Status, meta};
use bytes::Bytes;
use serde_json::Value;

use super::expression::{self, Asker, Conditions, Input, MATCH_BUDGET, Names, Scope};
use super::matching::{Form, Matcher};
use super::{Request, review};
use crate::Server;
use crate::outbound::{self, ClientConfig};

const TIMEOUT_SECONDS: i32 = 10;

/// One webhook, ready to be asked.
pub struct Hook {
    /// Told apart from all others.
    pub id: String,
    pub name: String,
    pub configuration: String,
    pub matcher: Matcher,
    conditions: Conditions,
    client: Result<ClientConfig, outbound::Error>,
    version: Option<&'static str>,
    timeout: Duration,
    /// A call that fails counts as consent.
    pub ignores_failure: bool,
    without_side_effects: bool,
    pub reinvoked: bool,
}

struct Parts<'a> {
    name: &'a str,
    client: &'a WebhookClientConfig,
    rules: Option<&'a Vec<RuleWithOperations>>,
    failure_policy: Option<&'a str>,
    match_policy: Option<&'a str>,
    conditions: Option<&'a Vec<MatchCondition>>,
    namespaces: Option<&'a meta::v1::LabelSelector>,
    objects: Option<&'a meta::v1::LabelSelector>,
    side_effects: &'a str,
    timeout_seconds: Option<i32>,
    versions: &'a [String],
    reinvocation: Option<&'a str>,
}

macro_rules! parts {
    ($webhook:ident, $reinvocation:expr) => {
        Parts {
            name: &$webhook.name,
            client: &$webhook.client_config,
            rules: $webhook.rules.as_ref(),
            failure_policy: $webhook.failure_policy.as_deref(),
            match_policy: $webhook.match_policy.as_deref(),
            conditions: $webhook.match_conditions.as_ref(),
            namespaces: $webhook.namespace_selector.as_ref(),
            objects: $webhook.object_selector.as_ref(),
            side_effects: &$webhook.side_effects,
            timeout_seconds: $webhook.timeout_seconds,
            versions: &$webhook.admission_review_versions,
            reinvocation: $reinvocation,
        }
    };
}

/// The webhooks of a configuration.
pub fn mutating(configuration: &MutatingWebhookConfiguration) -> Vec<Hook> {
    let all = configuration.webhooks.iter().flatten().enumerate();
    let parts = |webhook: &MutatingWebhook, at| {
        compile(configuration.name(), at, &parts!(webhook, webhook.reinvocation_policy.as_deref()))
    };
    all.map(|(at, webhook)| parts(webhook, at)).collect()
}

/// The same of the other kind.
pub fn validating(configuration: &ValidatingWebhookConfiguration) -> Vec<Hook> {
    let all = configuration.webhooks.iter().flatten().enumerate();
    let parts = |webhook: &ValidatingWebhook, at| compile(configuration.name(), at, &parts!(webhook, None));
    all.map(|(at, webhook)| parts(webhook, at)).collect()
}

fn compile(configuration: &str, at: usize, parts: &Parts<'_>) -> Hook {
    let environment = expression::environment(Names { authorizer: true, ..Names::default() });
    let seconds = parts.timeout_seconds.unwrap_or(TIMEOUT_SECONDS).max(1);
    Hook {
        id: format!("{configuration}/{}/{at}", parts.name),
        name: parts.name.to_owned(),
        configuration: configuration.to_owned(),
        matcher: Matcher {
            rules: parts.rules.into_iter().flatten().map(Into::into).collect(),
            excluded: Vec::new(),
            equivalent: parts.match_policy != Some("Exact"),
            namespaces: parts.namespaces.into(),
            objects: parts.objects.into(),
            open: false,
        },
        conditions: Conditions::compile(&environment, parts.conditions),
        client: ClientConfig::try_from(parts.client),
        version: review::version(parts.versions),
        timeout: Duration::from_secs(seconds.unsigned_abs().into()),
        ignores_failure: parts.failure_policy == Some("Ignore"),
        without_side_effects: matches!(parts.side_effects, "None" | "NoneOnDryRun"),
        reinvoked: parts.reinvocation == Some("IfNeeded"),
    }
}

/// Why there is no consent.
pub enum Failure {
    /// The call failed; the failure policy says what that means.
    Calling(String),
    /// It refused, or cannot be asked.
    Refused(Status),
}

impl Hook {
    /// In which form it is to be asked, if at all.
    ///
    /// # Errors
    /// 403 if its conditions cannot be evaluated, and as [`Matcher::matches`].
    pub async fn applies(&self, request: &Request<'_>) -> Result<Option<Form>, Status> {
        let Some(form) = self.matcher.matches(request).await? else { return Ok(None) };
        if self.conditions.is_empty() {
            return Ok(Some(form));
        }
        let (object, old) = review::objects(request, &form)?;
        let asker = Some(Asker::of(request));
        let input = Input { object, old, request: review::request(request, &form), asker, ..Input::default() };
        match self.conditions.hold(&Scope::new(&input, &[], MATCH_BUDGET)) {
            Ok(true) => Ok(Some(form)),
            Ok(false) => Ok(None),
            Err(_) if self.ignores_failure => Ok(None),
            Err(why) => Err(Status::forbidden(request.group, request.resource, request.name, &why)),
        }
    }

    /// Everything that is to be sent.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be asked such a thing.
    pub fn question(&self, request: &Request<'_>, form: &Form) -> Result<Question, Failure> {
        if request.dry_run && !self.without_side_effects {
            let why = format!("admission webhook {:?} does not support dry run", self.name);
            return Err(Failure::Refused(Status::bad_request(why)));
        }
        let version = self.version.ok_or_else(|| {
            Failure::Calling(
                "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, \
                 v1beta1)"
                    .to_owned(),
            )
        })?;
        let uid = request.server.options().random.uid();
        let objects = review::objects(request, form).map_err(Failure::Refused)?;
        let body = review::body(version, &uid, &review::request(request, form), &objects);
        Ok(Question { version, uid, object: objects.0, body: Bytes::from(body) })
    }

    /// Asks.
    ///
    /// # Errors
    /// [`Failure::Calling`].
    pub async fn ask(&self, server: &Server, question: &Question, mutating: bool) -> Result<review::Said, Failure> {
        let client = self.client.as_ref();
        let client = client.map_err(|error| Failure::Calling(format!("could not get REST client: {error}")))?;
        let settings = &server.options().admission_settings;
        let users = if mutating { &settings.mutating_webhooks } else { &settings.validating_webhooks };
        let client = client.known_as(users);
        let answer = server.outbound().post_json(&client, question.body.clone(), self.timeout).await;
        let answer = answer.map_err(|error| Failure::Calling(format!("failed to call webhook: {error}")))?;
        let said = review::read(question.version, &question.uid, mutating, &answer);
        said.map_err(|bad| Failure::Calling(bad.to_string()))
    }

    /// What the client is told of a call that failed.
    pub fn failed(&self, why: &str) -> Status {
        Status::internal(format!("failed calling webhook {:?}: {why}", self.name))
    }
}

/// A call to be made.
pub struct Question {
    version: &'static str,
    uid: String,
    /// The new object as it is sent.
    pub object: Value,
    body: Bytes,
}
