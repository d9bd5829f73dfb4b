//! Which authorizers there are: the file `AuthorizationConfiguration`, and the flags from before it.
//!
//! Reads the files that it names only to see that they are there. Upstream: apiserver/pkg/apis/apiserver/validation,
//! pkg/kubeapiserver/options/authorization.go.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::{FieldErrors, Path};
use serde::Deserialize;

use super::webhook::{Condition, Settings, Version};
use crate::configuration::{self, Shape};

/// Authorizers in their order.
#[derive(Debug)]
pub struct Configuration {
    pub authorizers: Vec<One>,
}

/// An authorizer and what figures call it.
#[derive(Debug)]
pub struct One {
    pub name: String,
    pub kind: Kind,
}

/// What kind it is.
#[derive(Debug)]
pub enum Kind {
    Node,
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
    Webhook(Settings),
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Rbac => "RBAC",
            Self::AlwaysAllow => "AlwaysAllow",
            Self::AlwaysDeny => "AlwaysDeny",
            Self::Webhook(_) => "Webhook",
        }
    }
}

/// The flags that name authorizers one by one.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// In the order given; none: nodes and RBAC.
    pub modes: Vec<String>,
    pub webhook_config_file: Option<PathBuf>,
    /// `v1` or `v1beta1`.
    pub webhook_version: Option<String>,
    pub webhook_authorized_ttl: Option<Duration>,
    pub webhook_unauthorized_ttl: Option<Duration>,
}

const VERSIONS: &[&str] =
    &["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
const TYPES: &[&str] = &["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const CONDITIONS_LEN_MAX: usize = 64;
const AUTHORIZED_TTL: Duration = Duration::from_secs(300);
const UNAUTHORIZED_TTL: Duration = Duration::from_secs(30);
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// What the flags leave no choice of.
const FLAGS_TIMEOUT: Duration = Duration::from_secs(30);

static SHAPE: Shape = Shape::Object(&[("authorizers", &Shape::List(&AUTHORIZER))]);
static AUTHORIZER: Shape = Shape::Object(&[("type", &Shape::Any), ("name", &Shape::Any), ("webhook", &WEBHOOK)]);
static WEBHOOK: Shape = Shape::Object(&[
    ("authorizedTTL", &Shape::Any),
    ("unauthorizedTTL", &Shape::Any),
    ("cacheAuthorizedRequests", &Shape::Any),
    ("cacheUnauthorizedRequests", &Shape::Any),
    ("timeout", &Shape::Any),
    ("subjectAccessReviewVersion", &Shape::Any),
    ("matchConditionSubjectAccessReviewVersion", &Shape::Any),
    ("failurePolicy", &Shape::Any),
    ("connectionInfo", &Shape::Object(&[("type", &Shape::Any), ("kubeConfigFile", &Shape::Any)])),
    ("matchConditions", &Shape::List(&Shape::Object(&[("expression", &Shape::Any)]))),
]);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    authorizers: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    r#type: String,
    name: String,
    webhook: Option<WebhookEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WebhookEntry {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    cache_unauthorized_requests: Option<bool>,
    timeout: Option<String>,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: Connection,
    match_conditions: Vec<ConditionEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Connection {
    r#type: String,
    kube_config_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionEntry {
    expression: String,
}

impl Configuration {
    /// Nodes, then RBAC.
    pub fn standard() -> Self {
        let one = |kind: Kind| One { name: kind.name().to_lowercase(), kind };
        Self { authorizers: vec![one(Kind::Node), one(Kind::Rbac)] }
    }

    /// From a file's text.
    ///
    /// # Errors
    /// All that is wrong with it, in upstream's words.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        let failed = |why: String| format!("failed to load AuthorizationConfiguration from file: {why}");
        let file: File = configuration::decode(text, "AuthorizationConfiguration", VERSIONS, &SHAPE).map_err(failed)?;
        let mut errors = FieldErrors::new();
        let list = Path::new("authorizers");
        if file.authorizers.is_empty() {
            errors.required(&list, "at least one authorization mode must be defined");
        }
        let (mut types, mut names, mut authorizers) = (Vec::new(), Vec::new(), Vec::new());
        for (index, entry) in file.authorizers.into_iter().enumerate() {
            let path = list.index(index);
            if let Some(one) = authorizer(entry, &path, &mut types, &mut names, &mut errors) {
                authorizers.push(one);
            }
        }
        if errors.is_empty() { Ok(Self { authorizers }) } else { Err(errors.to_string()) }
    }

    /// From flags.
    ///
    /// # Errors
    /// All that is wrong with them, in upstream's words.
    pub fn of_flags(flags: &Flags) -> Result<Self, String> {
        if flags.modes.is_empty() && flags.webhook_config_file.is_none() {
            return Ok(Self::standard());
        }
        let mut errors: Vec<String> = Vec::new();
        for mode in &flags.modes {
            match mode.as_str() {
                mode if !TYPES.contains(&mode) => {
                    errors.push(format!("authorization-mode {mode:?} is not a valid mode"))
                }
                "ABAC" => errors.push(NO_ABAC.to_owned()),
                "Webhook" if flags.webhook_config_file.is_none() => {
                    errors.push("authorization-mode Webhook's authorization config file not passed".to_owned());
                }
                _ => {}
            }
        }
        let has = |mode: &str| flags.modes.iter().any(|one| one == mode);
        if flags.webhook_config_file.is_some() && !has("Webhook") {
            errors.push("cannot specify --authorization-webhook-config-file without mode Webhook".to_owned());
        }
        let mut once = flags.modes.clone();
        once.sort();
        once.dedup();
        if once.len() != flags.modes.len() {
            errors.push(format!(
                "authorization-mode {} has mode specified more than once",
                super::rule::quoted(&flags.modes)
            ));
        }
        let version = match flags.webhook_version.as_deref().unwrap_or("v1beta1") {
            "v1" => Version::V1,
            "v1beta1" => Version::V1Beta1,
            other => {
                errors.push(format!("unsupported authorization-webhook-version {other:?}"));
                Version::V1
            }
        };
        if !errors.is_empty() {
            return Err(super::rule::aggregate(&errors));
        }
        let kept = |ttl: Option<Duration>, or: Duration| Some(ttl.unwrap_or(or)).filter(|ttl| !ttl.is_zero());
        let one = |mode: &String| {
            let name = mode.to_lowercase();
            let kind = plain(mode).unwrap_or_else(|| {
                Kind::Webhook(Settings {
                    name: name.clone(),
                    kubeconfig: flags.webhook_config_file.clone().unwrap_or_default(),
                    timeout: FLAGS_TIMEOUT,
                    authorized_ttl: kept(flags.webhook_authorized_ttl, AUTHORIZED_TTL),
                    unauthorized_ttl: kept(flags.webhook_unauthorized_ttl, UNAUTHORIZED_TTL),
                    version,
                    denies_on_failure: false,
                    conditions: Arc::default(),
                })
            });
            One { name, kind }
        };
        Ok(Self { authorizers: flags.modes.iter().map(one).collect() })
    }
}

const NO_ABAC: &str = "ABAC policies are not built in; use RBAC";

fn plain(kind: &str) -> Option<Kind> {
    Some(match kind {
        "Node" => Kind::Node,
        "RBAC" => Kind::Rbac,
        "AlwaysAllow" => Kind::AlwaysAllow,
        "AlwaysDeny" => Kind::AlwaysDeny,
        _ => return None,
    })
}

fn authorizer(
    entry: Entry,
    path: &Path,
    types: &mut Vec<String>,
    names: &mut Vec<String>,
    errors: &mut FieldErrors,
) -> Option<One> {
    let kind_path = path.child("type");
    match entry.r#type.as_str() {
        "" => {
            errors.required(&kind_path, "");
            return None;
        }
        kind if !TYPES.contains(&kind) => {
            errors.not_supported(&kind_path, kind, TYPES);
            return None;
        }
        kind if kind != "Webhook" && types.iter().any(|seen| seen == kind) => {
            errors.duplicate(&kind_path, kind);
            return None;
        }
        "ABAC" => errors.invalid(&kind_path, "ABAC", NO_ABAC),
        _ => {}
    }
    types.push(entry.r#type.clone());
    let problems = api::name::dns1123_subdomain(&entry.name, false);
    let name_path = path.child("name");
    if entry.name.is_empty() {
        errors.required(&name_path, "");
    } else if names.contains(&entry.name) {
        errors.duplicate(&name_path, entry.name.as_str());
    } else if !problems.is_empty() {
        let why = format!("authorizer name is invalid: {}", problems.join(", "));
        errors.invalid(&name_path, entry.name.as_str(), why);
    }
    names.push(entry.name.clone());
    let webhook_path = path.child("webhook");
    let kind = match (plain(&entry.r#type), entry.webhook) {
        (Some(kind), None) => kind,
        (Some(kind), Some(_)) => {
            errors.invalid(&webhook_path, "non-null", "may only be specified when type=Webhook");
            kind
        }
        (None, None) if entry.r#type == "Webhook" => {
            errors.required(&webhook_path, "required when type=Webhook");
            return None;
        }
        (None, None) => return None,
        (None, Some(webhook)) => Kind::Webhook(settings(&entry.name, webhook, path, errors)),
    };
    Some(One { name: entry.name, kind })
}

/// Upstream names a webhook's fields as if they were the authorizer's.
fn settings(name: &str, own: WebhookEntry, path: &Path, errors: &mut FieldErrors) -> Settings {
    let timeout = time(own.timeout.as_deref(), None, &path.child("timeout"), Some(TIMEOUT_MAX), errors);
    let (yes, no) = (path.child("authorizedTTL"), path.child("unauthorizedTTL"));
    let authorized_ttl = time(own.authorized_ttl.as_deref(), Some(AUTHORIZED_TTL), &yes, None, errors);
    let unauthorized_ttl = time(own.unauthorized_ttl.as_deref(), Some(UNAUTHORIZED_TTL), &no, None, errors);
    let version_path = path.child("subjectAccessReviewVersion");
    let version = match own.subject_access_review_version.as_str() {
        "v1beta1" => Version::V1Beta1,
        "v1" => Version::V1,
        "" => {
            errors.required(&version_path, "");
            Version::V1
        }
        other => {
            errors.not_supported(&version_path, other, &["v1", "v1beta1"]);
            Version::V1
        }
    };
    let version_path = path.child("matchConditionSubjectAccessReviewVersion");
    match own.match_condition_subject_access_review_version.as_str() {
        "" if !own.match_conditions.is_empty() => {
            errors.required(&version_path, "required if match conditions are specified");
        }
        "" | "v1" => {}
        other => errors.not_supported(&version_path, other, &["v1"]),
    }
    let policy_path = path.child("failurePolicy");
    match own.failure_policy.as_str() {
        "" => errors.required(&policy_path, ""),
        "NoOpinion" | "Deny" => {}
        other => errors.not_supported(&policy_path, other, &["NoOpinion", "Deny"]),
    }
    let kubeconfig = connection(&own.connection_info, path, errors);
    Settings {
        name: name.to_owned(),
        kubeconfig,
        timeout,
        authorized_ttl: Some(authorized_ttl).filter(|_| own.cache_authorized_requests != Some(false)),
        unauthorized_ttl: Some(unauthorized_ttl).filter(|_| own.cache_unauthorized_requests != Some(false)),
        version,
        denies_on_failure: own.failure_policy == "Deny",
        conditions: conditions(&own.match_conditions, path, errors),
    }
}

fn time(
    text: Option<&str>,
    or: Option<Duration>,
    path: &Path,
    max: Option<Duration>,
    errors: &mut FieldErrors,
) -> Duration {
    let bounds = if max.is_some() { "must be > 0s and <= 30s" } else { "must be > 0s" };
    match text.map(configuration::duration) {
        Some(Err(why)) => errors.invalid(path, text.unwrap_or_default(), why),
        Some(Ok(None)) => errors.invalid(path, text.unwrap_or_default(), bounds),
        Some(Ok(Some(time))) if !time.is_zero() => {
            if max.is_some_and(|max| time > max) {
                errors.invalid(path, configuration::duration_text(time), bounds);
            }
            return time;
        }
        _ if or.is_none() => errors.required(path, ""),
        _ => {}
    }
    or.unwrap_or_default()
}

fn connection(own: &Connection, path: &Path, errors: &mut FieldErrors) -> PathBuf {
    let path = path.child("connectionInfo");
    let (type_path, file_path) = (path.child("type"), path.child("kubeConfigFile"));
    let file = own.kube_config_file.as_deref().unwrap_or_default();
    match own.r#type.as_str() {
        "" => errors.required(&type_path, ""),
        "InClusterConfig" => {
            errors.invalid(&type_path, "InClusterConfig", "this mode is not allowed for kube-apiserver");
            if own.kube_config_file.is_some() {
                errors.invalid(&file_path, file, "can only be set when type=KubeConfigFile");
            }
        }
        "KubeConfigFile" => match std::fs::metadata(file) {
            _ if file.is_empty() => errors.required(&file_path, ""),
            _ if !FilePath::new(file).is_absolute() => errors.invalid(&file_path, file, "must be an absolute path"),
            Err(error) => {
                let why = match error.kind() {
                    std::io::ErrorKind::NotFound => format!("stat {file}: no such file or directory"),
                    _ => error.to_string(),
                };
                errors.invalid(&file_path, file, format!("error loading file: {why}"));
            }
            Ok(found) if !found.is_file() => errors.invalid(&file_path, file, "must be a regular file"),
            Ok(_) => {}
        },
        other => errors.not_supported(&type_path, other, &["InClusterConfig", "KubeConfigFile"]),
    }
    file.into()
}

fn conditions(list: &[ConditionEntry], path: &Path, errors: &mut FieldErrors) -> Arc<[Condition]> {
    let path = path.child("matchConditions");
    if list.len() > CONDITIONS_LEN_MAX {
        errors.too_many(&path, list.len(), CONDITIONS_LEN_MAX);
        return Arc::default();
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut all = Vec::new();
    for (index, condition) in list.iter().enumerate() {
        let (path, text) = (path.index(index).child("expression"), condition.expression.as_str());
        if text.trim().is_empty() {
            errors.required(&path, "");
        } else if seen.contains(&text) {
            errors.duplicate(&path, text);
        } else {
            seen.push(text);
            match Condition::compile(text) {
                Ok(condition) => all.push(condition),
                Err(why) => errors.invalid(&path, text, why),
            }
        }
    }
    all.into()
}

#[cfg(test)]
mod tests;
