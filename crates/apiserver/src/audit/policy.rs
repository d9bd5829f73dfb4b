//! The audit policy: which requests are recorded, how much of them, and at which stages. Pure.
//!
//! Upstream: apiserver/pkg/audit/policy and apis/audit/validation (`audit.k8s.io/v1`). The first rule that matches
//! decides; where none does, nothing is recorded.

use api::{FieldErrors, Path};
use serde::Deserialize;
use serde_json::Value;

use crate::Caller;
use crate::authz::What;

/// How much of a request is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    /// As policies and events spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When in the life of a request an event is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before it is handed on.
    RequestReceived,
    /// Watches and streams: the head of the answer is sent, its body is not.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    const ALL: [Self; 4] = [Self::RequestReceived, Self::ResponseStarted, Self::ResponseComplete, Self::Panic];

    /// As policies and events spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// What the policy says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub level: Level,
    omitted: [bool; 4],
    pub omit_managed_fields: bool,
}

impl Decision {
    /// Whether that stage is recorded.
    pub fn records(&self, stage: Stage) -> bool {
        self.level > Level::None && !self.omitted[stage as usize]
    }
}

/// A request as the policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who proved to be who; `None`: nobody did. Not whom they act as.
    pub caller: Option<&'a Caller>,
    pub verb: &'a str,
    pub what: What<'a>,
}

/// A policy, checked.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Vec<(Rule, Decision)>,
    /// Where no rule matches.
    otherwise: Decision,
}

/// What is recorded if nothing else is asked for: who, what and when, never a body; health, metrics, Events and the
/// renewals of leases, which say nothing and are many, not at all.
const STANDARD: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["/livez*", "/readyz*", "/healthz*", "/version*", "/metrics*"]
- level: None
  resources:
  - {group: "", resources: [events]}
  - {group: events.k8s.io, resources: [events]}
- level: None
  verbs: [get, update, patch, watch, list]
  resources:
  - {group: coordination.k8s.io, resources: [leases]}
- level: Metadata
"#;

/// The file as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    omit_stages: Option<Vec<String>>,
    omit_managed_fields: bool,
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    level: String,
    users: Option<Vec<String>>,
    user_groups: Option<Vec<String>>,
    verbs: Option<Vec<String>>,
    resources: Option<Vec<GroupResources>>,
    namespaces: Option<Vec<String>>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Option<Vec<String>>,
    omit_stages: Option<Vec<String>>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Option<Vec<String>>,
    resource_names: Option<Vec<String>>,
}

impl Policy {
    /// What holds without a policy file.
    pub fn standard() -> Self {
        Self::parse(STANDARD).expect("the policy in this file is well-formed")
    }

    /// From a policy file's text.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| format!("failed decoding: {error}"))?;
        let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (word("apiVersion"), word("kind"));
        if (version, kind) != ("audit.k8s.io/v1", "Policy") {
            return Err(format!("unknown group version field {version}, Kind={kind} in policy"));
        }
        let file: File = serde_json::from_value(value).map_err(|error| format!("failed decoding: {error}"))?;
        let errors = validate(&file);
        if !errors.is_empty() {
            return Err(errors.to_string());
        }
        let omitted = stages(file.omit_stages.as_deref());
        let decision = |rule: &Rule| {
            let own = stages(rule.omit_stages.as_deref());
            Decision {
                level: level(&rule.level).unwrap_or(Level::None),
                omitted: std::array::from_fn(|at| omitted[at] || own[at]),
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(file.omit_managed_fields),
            }
        };
        let rules: Vec<(Rule, Decision)> =
            file.rules.iter().flatten().map(|rule| (rule.clone(), decision(rule))).collect();
        if rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        let otherwise = Decision { level: Level::None, omitted, omit_managed_fields: file.omit_managed_fields };
        Ok(Self { rules, otherwise })
    }

    /// What is to be recorded of a request.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let found = self.rules.iter().find(|(rule, _)| rule.matches(request));
        found.map_or(self.otherwise, |(_, decision)| *decision)
    }

    /// How much is recorded of what matters most, when an ordinary user asks for it.
    pub fn levels(&self) -> Vec<(&'static str, Level)> {
        let caller = Caller::new("somebody", &[]);
        let level = |(shown, verb, group, resource, subresource): Telling| {
            let what = What::Resource {
                group,
                version: "v1",
                resource,
                subresource,
                namespace: "default",
                name: "any",
                field_selector: None,
                label_selector: None,
            };
            (shown, self.decide(&Request { caller: Some(&caller), verb, what }).level)
        };
        TELLING.map(level).to_vec()
    }
}

/// How it is shown, verb, group, resource, subresource.
type Telling = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// What a hardening guide wants recorded.
const TELLING: [Telling; 9] = [
    ("secrets", "get", "", "secrets", ""),
    ("configmaps", "update", "", "configmaps", ""),
    ("tokenreviews", "create", "authentication.k8s.io", "tokenreviews", ""),
    ("pods", "create", "", "pods", ""),
    ("deployments", "update", "apps", "deployments", ""),
    ("pods/exec", "create", "", "pods", "exec"),
    ("pods/portforward", "create", "", "pods", "portforward"),
    ("pods/proxy", "get", "", "pods", "proxy"),
    ("services/proxy", "get", "", "services", "proxy"),
];

fn level(word: &str) -> Option<Level> {
    Level::ALL.into_iter().find(|level| level.as_str() == word)
}

fn stages(words: Option<&[String]>) -> [bool; 4] {
    let words = words.unwrap_or_default();
    Stage::ALL.map(|stage| words.iter().any(|word| word == stage.as_str()))
}

fn validate(file: &File) -> FieldErrors {
    let mut errors = FieldErrors::new();
    validate_stages(file.omit_stages.as_deref(), &Path::new("omitStages"), &mut errors);
    for (at, rule) in file.rules.iter().flatten().enumerate() {
        validate_rule(rule, &Path::new("rules").index(at), &mut errors);
    }
    errors
}

fn validate_rule(rule: &Rule, path: &Path, errors: &mut FieldErrors) {
    if rule.level.is_empty() {
        errors.required(&path.child("level"), "");
    } else if level(&rule.level).is_none() {
        errors.not_supported(&path.child("level"), rule.level.as_str(), &Level::ALL.map(Level::as_str));
    }
    let urls = rule.non_resource_urls.as_deref().unwrap_or_default();
    let urls_path = path.child("nonResourceURLs");
    for (at, url) in urls.iter().enumerate().filter(|(_, url)| *url != "*") {
        if !url.starts_with('/') {
            let why = "non-resource URL rules must begin with a '/' character";
            errors.invalid(&urls_path.index(at), url.as_str(), why);
        }
        if url.char_indices().any(|(place, c)| c == '*' && place + 1 < url.len()) {
            let why = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.invalid(&urls_path.index(at), url.as_str(), why);
        }
    }
    let resources = rule.resources.as_deref().unwrap_or_default();
    for own in resources {
        let path = path.child("resources");
        let why = api::name::dns1123_subdomain(&own.group, false);
        if !own.group.is_empty() && !why.is_empty() {
            errors.invalid(&path.child("group"), own.group.as_str(), why.join(","));
        }
        let names = own.resource_names.as_deref().unwrap_or_default();
        if !names.is_empty() && own.resources.as_ref().is_none_or(Vec::is_empty) {
            let why = "using resourceNames requires at least one resource";
            errors.invalid(&path.child("resourceNames"), names, why);
        }
    }
    validate_stages(rule.omit_stages.as_deref(), &path.child("omitStages"), errors);
    if !urls.is_empty() && (!resources.is_empty() || rule.namespaces.as_ref().is_some_and(|all| !all.is_empty())) {
        errors.invalid(&urls_path, urls, "rules cannot apply to both regular resources and non-resource URLs");
    }
}

fn validate_stages(words: Option<&[String]>, path: &Path, errors: &mut FieldErrors) {
    let known = Stage::ALL.map(Stage::as_str);
    for (at, word) in words.unwrap_or_default().iter().enumerate() {
        if !known.contains(&word.as_str()) {
            errors.invalid(&path.index(at), word.as_str(), format!("allowed stages are {}", known.join(",")));
        }
    }
}

/// Whether a list that is given holds the word; one that is not holds any.
fn admits(list: Option<&[String]>, word: &str) -> bool {
    list.is_none_or(|all| all.is_empty() || all.iter().any(|own| own == word))
}

fn given<T>(list: Option<&[T]>) -> Option<&[T]> {
    list.filter(|all| !all.is_empty())
}

impl Rule {
    fn matches(&self, request: &Request<'_>) -> bool {
        let named = |users: &[String]| request.caller.is_some_and(|caller| users.contains(&caller.name));
        let grouped = |groups: &[String]| {
            request.caller.is_some_and(|caller| caller.groups.iter().any(|group| groups.contains(group)))
        };
        given(self.users.as_deref()).is_none_or(named)
            && given(self.user_groups.as_deref()).is_none_or(grouped)
            && admits(self.verbs.as_deref(), request.verb)
            && self.concerns(&request.what)
    }

    fn concerns(&self, what: &What<'_>) -> bool {
        let namespaces = given(self.namespaces.as_deref());
        let resources = given(self.resources.as_deref());
        if namespaces.is_some() || resources.is_some() {
            let What::Resource { group, resource, subresource, namespace, name, .. } = what else { return false };
            return admits(namespaces, namespace)
                && resources.is_none_or(|all| all.iter().any(|own| own.matches((group, resource, subresource), name)));
        }
        let Some(urls) = given(self.non_resource_urls.as_deref()) else { return true };
        let What::Path(path) = what else { return false };
        urls.iter().any(|url| path_matches(path, url))
    }
}

fn path_matches(path: &str, url: &str) -> bool {
    url == "*" || url == path || (url.ends_with('*') && path.starts_with(url.trim_end_matches('*')))
}

impl GroupResources {
    /// `pods`, `pods/log`, `pods/*`, `*/scale` and `*`, as upstream reads them.
    fn matches(&self, (group, resource, subresource): (&str, &str, &str), name: &str) -> bool {
        let Some(resources) = given(self.resources.as_deref()) else { return self.group == group };
        let fits = |pattern: &str| match pattern.split_once('/') {
            _ if pattern == "*" => true,
            None => subresource.is_empty() && pattern == resource,
            Some(("*", sub)) if !subresource.is_empty() && sub == subresource => true,
            Some((own, "*")) => own == resource,
            Some((own, sub)) => own == resource && !subresource.is_empty() && sub == subresource,
        };
        self.group == group
            && admits(self.resource_names.as_deref(), name)
            && resources.iter().any(|pattern| fits(pattern))
    }
}

#[cfg(test)]
mod tests;
