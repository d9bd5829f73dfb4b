//! What the two kinds of webhooks share.

use std::collections::BTreeSet;

use api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, RuleWithOperations, ValidatingWebhook, WebhookClientConfig,
};
use api::field::{FieldErrors, Path};
use api::meta::v1::LabelSelector;

use super::match_resources::{self, FAILURE_POLICIES, MATCH_POLICIES};
use crate::checks;

const TIMEOUT_SECONDS: i32 = 10;
const TIMEOUT_SECONDS_MAX: i32 = 30;
const HTTPS_PORT: i32 = 443;
/// The versions of AdmissionReview that are spoken.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
/// All that v1 takes.
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];

/// One webhook of either kind.
pub struct Webhook<'a> {
    pub name: &'a str,
    pub review_versions: &'a [String],
    pub client: &'a WebhookClientConfig,
    pub rules: &'a [RuleWithOperations],
    pub failure_policy: Option<&'a str>,
    pub match_policy: Option<&'a str>,
    pub match_conditions: &'a [MatchCondition],
    pub namespace_selector: Option<&'a LabelSelector>,
    pub object_selector: Option<&'a LabelSelector>,
    pub side_effects: &'a str,
    pub timeout_seconds: Option<i32>,
    /// `None`: of a kind that has none.
    pub reinvocation_policy: Option<&'a str>,
}

macro_rules! view {
    ($webhook:ident, $reinvocation:expr) => {
        Webhook {
            name: &$webhook.name,
            review_versions: &$webhook.admission_review_versions,
            client: &$webhook.client_config,
            rules: $webhook.rules.as_deref().unwrap_or_default(),
            failure_policy: $webhook.failure_policy.as_deref(),
            match_policy: $webhook.match_policy.as_deref(),
            match_conditions: $webhook.match_conditions.as_deref().unwrap_or_default(),
            namespace_selector: $webhook.namespace_selector.as_ref(),
            object_selector: $webhook.object_selector.as_ref(),
            side_effects: &$webhook.side_effects,
            timeout_seconds: $webhook.timeout_seconds,
            reinvocation_policy: $reinvocation,
        }
    };
}

impl<'a> From<&'a MutatingWebhook> for Webhook<'a> {
    fn from(webhook: &'a MutatingWebhook) -> Self {
        view!(webhook, webhook.reinvocation_policy.as_deref())
    }
}

impl<'a> From<&'a ValidatingWebhook> for Webhook<'a> {
    fn from(webhook: &'a ValidatingWebhook) -> Self {
        view!(webhook, None)
    }
}

/// Fills what either kind of webhook leaves out.
macro_rules! default_webhook {
    ($webhook:expr) => {{
        let webhook = $webhook;
        webhook.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        webhook.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
        webhook.namespace_selector.get_or_insert_default();
        webhook.object_selector.get_or_insert_default();
        $crate::admissionregistration::webhook::default_rest(
            &mut webhook.timeout_seconds,
            &mut webhook.rules,
            &mut webhook.client_config,
        );
    }};
}
pub(super) use default_webhook;

/// The part of defaulting that needs no field of a kind of its own.
pub fn default_rest(
    timeout_seconds: &mut Option<i32>,
    rules: &mut Option<Vec<RuleWithOperations>>,
    client: &mut WebhookClientConfig,
) {
    timeout_seconds.get_or_insert(TIMEOUT_SECONDS);
    rules.iter_mut().flatten().for_each(match_resources::default_rule);
    if let Some(service) = &mut client.service {
        service.port.get_or_insert(HTTPS_PORT);
    }
}

/// What an update must not be asked for because the object did not hold it before.
struct Demands {
    no_side_effects: bool,
    known_review_version: bool,
    unique_names: bool,
}

/// All problems of new webhooks.
pub fn validate(webhooks: &[Webhook<'_>]) -> FieldErrors {
    validate_as(webhooks, &[], &Demands { no_side_effects: true, known_review_version: true, unique_names: true })
}

/// All problems of changed webhooks. What was wrong already may stay so.
pub fn validate_update(new: &[Webhook<'_>], old: &[Webhook<'_>]) -> FieldErrors {
    let mut names = BTreeSet::new();
    let known = |webhook: &Webhook<'_>| webhook.review_versions.is_empty() || speaks_known_version(webhook);
    let demands = Demands {
        no_side_effects: old.iter().all(|webhook| NO_SIDE_EFFECTS.contains(&webhook.side_effects)),
        known_review_version: old.iter().all(known),
        unique_names: old.iter().all(|webhook| names.insert(webhook.name)),
    };
    validate_as(new, old, &demands)
}

fn validate_as(webhooks: &[Webhook<'_>], old: &[Webhook<'_>], demands: &Demands) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let unchanged = |(new, old): (&Webhook<'_>, &Webhook<'_>)| new.match_conditions == old.match_conditions;
    let same_conditions = !old.is_empty() && webhooks.len() == old.len() && webhooks.iter().zip(old).all(unchanged);
    let mut names = BTreeSet::new();
    for (index, webhook) in webhooks.iter().enumerate() {
        let path = Path::new("webhooks").index(index);
        validate_one(&mut errors, &path, webhook, demands);
        if !same_conditions {
            let path = path.child("matchConditions");
            match_resources::validate_conditions(&mut errors, &path, webhook.match_conditions, false);
        }
        validate_review_versions(&mut errors, &path.child("admissionReviewVersions"), webhook, demands);
        if demands.unique_names && !webhook.name.is_empty() {
            checks::unique(&mut errors, &path.child("name"), &mut names, webhook.name);
        }
    }
    errors
}

fn validate_one(errors: &mut FieldErrors, path: &Path, webhook: &Webhook<'_>, demands: &Demands) {
    validate_name(errors, &path.child("name"), webhook.name);
    for (index, rule) in webhook.rules.iter().enumerate() {
        match_resources::validate_rule(errors, &path.child("rules").index(index), rule);
    }
    checks::optional_one_of(errors, &path.child("failurePolicy"), webhook.failure_policy, &FAILURE_POLICIES);
    checks::optional_one_of(errors, &path.child("matchPolicy"), webhook.match_policy, &MATCH_POLICIES);
    let allowed: &[&str] = if demands.no_side_effects { &NO_SIDE_EFFECTS } else { &SIDE_EFFECTS };
    let effects_path = path.child("sideEffects");
    if webhook.side_effects.is_empty() {
        errors.required(&effects_path, format!("must specify one of {}", allowed.join(", ")));
    } else {
        checks::optional_one_of(errors, &effects_path, Some(webhook.side_effects), allowed);
    }
    if let Some(seconds) = webhook.timeout_seconds.filter(|seconds| !(1..=TIMEOUT_SECONDS_MAX).contains(seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, why);
    }
    checks::label_selector(errors, &path.child("namespaceSelector"), webhook.namespace_selector);
    checks::label_selector(errors, &path.child("objectSelector"), webhook.object_selector);
    let policies = ["IfNeeded", "Never"];
    checks::optional_one_of(errors, &path.child("reinvocationPolicy"), webhook.reinvocation_policy, &policies);
    validate_client(errors, &path.child("clientConfig"), webhook.client);
}

/// A domain of at least three parts.
fn validate_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    let problems = api::name::dns1123_subdomain(name, false);
    if name.is_empty() {
        errors.required(path, "");
    } else if !problems.is_empty() {
        errors.invalid(path, name, problems.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

fn speaks_known_version(webhook: &Webhook<'_>) -> bool {
    webhook.review_versions.iter().any(|version| REVIEW_VERSIONS.contains(&version.as_str()))
}

fn validate_review_versions(errors: &mut FieldErrors, path: &Path, webhook: &Webhook<'_>, demands: &Demands) {
    let versions = webhook.review_versions;
    if versions.is_empty() {
        errors.required(path, format!("must specify one of {}", REVIEW_VERSIONS.join(", ")));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if seen.insert(version) {
            checks::problems(errors, &path, version.as_str(), api::name::dns1035_label(version, false));
        } else {
            errors.invalid(&path, version.as_str(), "duplicate version");
        }
    }
    if demands.known_review_version && !speaks_known_version(webhook) {
        let why = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.invalid(path, checks::shown(&versions), why);
    }
}

fn validate_client(errors: &mut FieldErrors, path: &Path, client: &WebhookClientConfig) {
    match (&client.url, &client.service) {
        (Some(url), None) => checks::webhook_url(errors, &path.child("url"), url),
        (None, Some(service)) => checks::webhook_service(
            errors,
            &path.child("service"),
            // Upstream hands these two over the wrong way round, and its answers are the API.
            &service.name,
            &service.namespace,
            service.path.as_deref(),
            service.port.unwrap_or_default(),
        ),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}
