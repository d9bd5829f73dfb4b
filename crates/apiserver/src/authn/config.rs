//! Whose tokens are accepted and who may stay anonymous: the file `AuthenticationConfiguration`, and the flags from
//! before it.
//!
//! Pure. Upstream: apiserver/pkg/apis/apiserver/validation, pkg/kubeapiserver/options/authentication.go.

use std::sync::Arc;

use api::{FieldErrors, Path};
use serde::Deserialize;

use super::claims::{Condition, Expression, Mapping, Source};
use super::jwt::Settings;
use crate::configuration::{self, Shape};

/// What a file or flags say.
#[derive(Debug, Default)]
pub struct Configuration {
    pub issuers: Vec<Arc<Settings>>,
    pub anonymous: Option<Anonymous>,
}

/// Who may come without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anonymous {
    Nobody,
    /// Anybody: authorization decides.
    Everywhere,
    /// Anybody, on these paths.
    On(Vec<String>),
}

impl Anonymous {
    /// Whether a request to `path` may go without credentials.
    pub fn allows(&self, path: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Everywhere => true,
            Self::On(paths) => paths.iter().any(|own| own == path),
        }
    }
}

/// The flags `--oidc-*`.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub issuer_url: Option<String>,
    pub client_id: Option<String>,
    /// `sub` if not given.
    pub username_claim: Option<String>,
    pub username_prefix: Option<String>,
    pub groups_claim: Option<String>,
    pub groups_prefix: Option<String>,
    /// `RS256` if not given.
    pub signing_algs: Vec<String>,
    /// `CLAIM=VALUE` each.
    pub required_claims: Vec<String>,
    /// PEM.
    pub ca_pem: Option<String>,
}

const VERSIONS: &[&str] =
    &["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];
const ISSUERS_LEN_MAX: usize = 64;
const MATCH_ANY: &str = "MatchAny";
const UNVERIFIED_EMAIL: &str = "claims.email_verified must be used in claimMappings.username.expression or \
     claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in \
     claimMappings.username.expression";

static SHAPE: Shape = Shape::Object(&[
    ("jwt", &Shape::List(&JWT)),
    (
        "anonymous",
        &Shape::Object(&[
            ("enabled", &Shape::Any),
            ("conditions", &Shape::List(&Shape::Object(&[("path", &Shape::Any)]))),
        ]),
    ),
]);
static JWT: Shape = Shape::Object(&[
    (
        "issuer",
        &Shape::Object(&[
            ("url", &Shape::Any),
            ("discoveryURL", &Shape::Any),
            ("certificateAuthority", &Shape::Any),
            ("audiences", &Shape::Any),
            ("audienceMatchPolicy", &Shape::Any),
            ("egressSelectorType", &Shape::Any),
        ]),
    ),
    (
        "claimValidationRules",
        &Shape::List(&Shape::Object(&[
            ("claim", &Shape::Any),
            ("requiredValue", &Shape::Any),
            ("expression", &Shape::Any),
            ("message", &Shape::Any),
        ])),
    ),
    (
        "claimMappings",
        &Shape::Object(&[
            ("username", &PREFIXED),
            ("groups", &PREFIXED),
            ("uid", &Shape::Object(&[("claim", &Shape::Any), ("expression", &Shape::Any)])),
            ("extra", &Shape::List(&Shape::Object(&[("key", &Shape::Any), ("valueExpression", &Shape::Any)]))),
        ]),
    ),
    ("userValidationRules", &Shape::List(&Shape::Object(&[("expression", &Shape::Any), ("message", &Shape::Any)]))),
]);
static PREFIXED: Shape = Shape::Object(&[("claim", &Shape::Any), ("prefix", &Shape::Any), ("expression", &Shape::Any)]);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    jwt: Vec<Jwt>,
    anonymous: Option<AnonymousEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AnonymousEntry {
    enabled: bool,
    conditions: Vec<PathEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PathEntry {
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Jwt {
    issuer: Issuer,
    claim_validation_rules: Vec<Rule>,
    claim_mappings: Mappings,
    user_validation_rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Issuer {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: String,
    certificate_authority: String,
    audiences: Vec<String>,
    audience_match_policy: String,
    egress_selector_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mappings {
    username: Prefixed,
    groups: Prefixed,
    uid: Prefixed,
    extra: Vec<Extra>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Prefixed {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Extra {
    key: String,
    value_expression: String,
}

impl Configuration {
    /// From a file's text. `own_issuers` are those of service accounts, which no other may be.
    ///
    /// # Errors
    /// All that is wrong with it, in upstream's words.
    pub fn decode(text: &[u8], own_issuers: &[String]) -> Result<Self, String> {
        let failed = |why: String| format!("failed to load AuthenticationConfiguration from file: {why}");
        let file: File =
            configuration::decode(text, "AuthenticationConfiguration", VERSIONS, &SHAPE).map_err(failed)?;
        let mut errors = FieldErrors::new();
        let root = Path::new("jwt");
        if file.jwt.len() > ISSUERS_LEN_MAX {
            errors.too_many(&root, file.jwt.len(), ISSUERS_LEN_MAX);
            return Err(errors.to_string());
        }
        let (mut urls, mut discovery_urls, mut issuers) = (Vec::new(), Vec::new(), Vec::new());
        for (index, jwt) in file.jwt.into_iter().enumerate() {
            let path = root.index(index);
            let issuer = path.child("issuer");
            let (url, discovery_url) = (jwt.issuer.url.clone(), jwt.issuer.discovery_url.clone());
            let settings = settings(jwt, &path, own_issuers, &mut errors);
            issuers.extend(settings.map(Arc::new));
            if urls.contains(&url) {
                errors.duplicate(&issuer.child("url"), url.as_str());
            }
            urls.push(url);
            if !discovery_url.is_empty() && discovery_urls.contains(&discovery_url) {
                errors.duplicate(&issuer.child("discoveryURL"), discovery_url.as_str());
            }
            discovery_urls.push(discovery_url);
        }
        let anonymous = file.anonymous.map(|entry| anonymous(entry, &mut errors));
        if errors.is_empty() { Ok(Self { issuers, anonymous }) } else { Err(errors.to_string()) }
    }

    /// From flags; nothing if none is given.
    ///
    /// # Errors
    /// What is wrong with them, in upstream's words.
    pub fn of_flags(flags: &Flags, own_issuers: &[String]) -> Result<Self, String> {
        let (Some(url), Some(client)) = (&flags.issuer_url, &flags.client_id) else {
            let any = flags.issuer_url.is_some()
                || flags.client_id.is_some()
                || flags.username_claim.is_some()
                || flags.username_prefix.is_some()
                || flags.groups_claim.is_some()
                || flags.groups_prefix.is_some()
                || flags.ca_pem.is_some()
                || !flags.signing_algs.is_empty()
                || !flags.required_claims.is_empty();
            return match any {
                true => Err("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are \
                             set"
                .to_owned()),
                false => Ok(Self::default()),
            };
        };
        let username = flags.username_claim.clone().unwrap_or_else(|| "sub".to_owned());
        let prefix = match flags.username_prefix.as_deref().unwrap_or_default() {
            "" if username != "email" => format!("{url}#"),
            "-" => String::new(),
            other => other.to_owned(),
        };
        let groups = flags.groups_claim.clone().unwrap_or_default();
        let groups_prefix = Some(flags.groups_prefix.clone().unwrap_or_default()).filter(|_| !groups.is_empty());
        let mut rules = Vec::new();
        for required in &flags.required_claims {
            let (claim, value) = required
                .split_once('=')
                .ok_or_else(|| format!("oidc-required-claim {required:?} must be formatted as key=value"))?;
            let (claim, required_value) = (claim.to_owned(), value.to_owned());
            rules.push(Rule { claim, required_value, ..Rule::default() });
        }
        let jwt = Jwt {
            issuer: Issuer {
                url: url.clone(),
                audiences: vec![client.clone()],
                certificate_authority: flags.ca_pem.clone().unwrap_or_default(),
                ..Issuer::default()
            },
            claim_validation_rules: rules,
            claim_mappings: Mappings {
                username: Prefixed { claim: username, prefix: Some(prefix), ..Prefixed::default() },
                groups: Prefixed { claim: groups, prefix: groups_prefix, ..Prefixed::default() },
                ..Mappings::default()
            },
            user_validation_rules: Vec::new(),
        };
        let mut errors = FieldErrors::new();
        let made = settings(jwt, &Path::new("jwt").index(0), own_issuers, &mut errors);
        if !errors.is_empty() {
            return Err(errors.to_string());
        }
        let algorithms = match flags.signing_algs.as_slice() {
            [] => vec!["RS256".to_owned()],
            given => given.to_vec(),
        };
        if let Some(unknown) = algorithms.iter().find(|name| !pki::jose::ALGORITHMS.contains(&name.as_str())) {
            return Err(format!("oidc: unsupported signing alg: {unknown:?}"));
        }
        Ok(Self {
            issuers: made.map(|made| Arc::new(Settings { algorithms, ..made })).into_iter().collect(),
            anonymous: None,
        })
    }
}

fn anonymous(entry: AnonymousEntry, errors: &mut FieldErrors) -> Anonymous {
    if !entry.enabled && !entry.conditions.is_empty() {
        let shown: Vec<_> = entry.conditions.iter().map(|one| serde_json::json!({"path": one.path})).collect();
        let why = "enabled should be set to true when conditions are defined";
        errors.invalid(&Path::new("anonymous").child("conditions"), serde_json::Value::from(shown), why);
    }
    match (entry.enabled, entry.conditions.is_empty()) {
        (false, _) => Anonymous::Nobody,
        (true, true) => Anonymous::Everywhere,
        (true, false) => Anonymous::On(entry.conditions.into_iter().map(|one| one.path).collect()),
    }
}

fn settings(jwt: Jwt, path: &Path, own_issuers: &[String], errors: &mut FieldErrors) -> Option<Settings> {
    let issuer = &jwt.issuer;
    check_issuer(issuer, &path.child("issuer"), own_issuers, errors);
    let mut email = EmailUse::default();
    let (required, conditions) =
        claim_rules(&jwt.claim_validation_rules, &path.child("claimValidationRules"), &mut email, errors);
    let mapping_path = path.child("claimMappings");
    let own = jwt.claim_mappings;
    let username = prefixed(own.username, &mapping_path.child("username"), true, errors);
    if let Some(Source::Expression(expression)) = &username {
        email.claimed = expression.program.selects("claims", "email");
        email.verified |= expression.program.selects("claims", "email_verified");
    }
    let groups = prefixed(own.groups, &mapping_path.child("groups"), false, errors);
    let uid = uid(own.uid, &mapping_path.child("uid"), errors);
    let extra = extra(own.extra, &mapping_path.child("extra"), &mut email, errors);
    if email.claimed && !email.verified {
        let text = match &username {
            Some(Source::Expression(expression)) => expression.text.as_str(),
            _ => "",
        };
        errors.invalid(&mapping_path.child("username").child("expression"), text, UNVERIFIED_EMAIL);
    }
    let user_conditions = user_rules(&jwt.user_validation_rules, &path.child("userValidationRules"), errors);
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Some(Settings {
        url: issuer.url.clone(),
        discovery_url: given(&issuer.discovery_url),
        ca_pem: given(&issuer.certificate_authority),
        audiences: issuer.audiences.clone(),
        algorithms: pki::jose::ALGORITHMS.iter().map(|name| (*name).to_owned()).collect(),
        mapping: Mapping { username: username?, groups, uid, extra, required, conditions, user_conditions },
    })
}

fn check_issuer(issuer: &Issuer, path: &Path, own_issuers: &[String], errors: &mut FieldErrors) {
    let url_path = path.child("url");
    if issuer.url.is_empty() {
        errors.required(&url_path, "");
    } else {
        if own_issuers.contains(&issuer.url) {
            let why = format!("URL must not overlap with disallowed issuers: [{}]", own_issuers.join(" "));
            errors.invalid(&url_path, issuer.url.as_str(), why);
        }
        check_url(&issuer.url, &url_path, errors);
    }
    let discovery_path = path.child("discoveryURL");
    if !issuer.discovery_url.is_empty() {
        let same = issuer.url.trim_end_matches('/') == issuer.discovery_url.trim_end_matches('/');
        if !issuer.url.is_empty() && same {
            errors.invalid(&discovery_path, issuer.discovery_url.as_str(), "discoveryURL must be different from URL");
        }
        check_url(&issuer.discovery_url, &discovery_path, errors);
    }
    check_audiences(issuer, path, errors);
    let authority = &issuer.certificate_authority;
    if !authority.is_empty() && pki::Certificate::from_pem(authority).is_err() {
        let why = "data does not contain any valid RSA or ECDSA certificates";
        errors.invalid(&path.child("certificateAuthority"), "<omitted>", why);
    }
    if !issuer.egress_selector_type.is_empty() {
        let why = "egress selectors are not built in";
        errors.invalid(&path.child("egressSelectorType"), issuer.egress_selector_type.as_str(), why);
    }
}

fn check_audiences(issuer: &Issuer, path: &Path, errors: &mut FieldErrors) {
    let list_path = path.child("audiences");
    if issuer.audiences.is_empty() {
        errors.required(&list_path, format!("at least one {list_path} is required"));
        return;
    }
    for (index, audience) in issuer.audiences.iter().enumerate() {
        let path = list_path.index(index);
        if audience.is_empty() {
            errors.required(&path, "");
        }
        if issuer.audiences[..index].contains(audience) {
            errors.duplicate(&path, audience.as_str());
        }
    }
    let (policy, policy_path) = (issuer.audience_match_policy.as_str(), path.child("audienceMatchPolicy"));
    if issuer.audiences.len() > 1 && policy != MATCH_ANY {
        errors.invalid(&policy_path, policy, "audienceMatchPolicy must be MatchAny for multiple audiences");
    }
    if issuer.audiences.len() == 1 && !matches!(policy, "" | MATCH_ANY) {
        errors.invalid(&policy_path, policy, "audienceMatchPolicy must be empty or MatchAny for single audience");
    }
}

fn check_url(text: &str, path: &Path, errors: &mut FieldErrors) {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if scheme != "https" {
        errors.invalid(path, text, "URL scheme must be https");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        errors.invalid(path, text, "URL must not contain a username or password");
    }
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    if before.split_once('?').is_some_and(|(_, query)| !query.is_empty()) {
        errors.invalid(path, text, "URL must not contain a query");
    }
    if !fragment.is_empty() {
        errors.invalid(path, text, "URL must not contain a fragment");
    }
}

/// Whether an e-mail address is taken for a name without asking whether it was verified.
#[derive(Debug, Default)]
struct EmailUse {
    claimed: bool,
    verified: bool,
}

type Rules = (Vec<(String, String)>, Vec<Condition>);

fn claim_rules(list: &[Rule], root: &Path, email: &mut EmailUse, errors: &mut FieldErrors) -> Rules {
    let (mut required, mut conditions): Rules = Default::default();
    for (index, rule) in list.iter().enumerate() {
        let path = root.index(index);
        let (claim_path, expression_path) = (path.child("claim"), path.child("expression"));
        match (rule.claim.is_empty(), rule.expression.is_empty()) {
            (false, false) => errors.invalid(&path, rule.claim.as_str(), "claim and expression can't both be set"),
            (true, true) => errors.required(&path, "claim or expression is required"),
            (false, true) => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.invalid(&path.child("message"), rule.message.as_str(), why);
                }
                if required.iter().any(|(claim, _)| *claim == rule.claim) {
                    errors.duplicate(&claim_path, rule.claim.as_str());
                }
                required.push((rule.claim.clone(), rule.required_value.clone()));
            }
            (true, false) => {
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.invalid(&path.child("requiredValue"), rule.required_value.as_str(), why);
                }
                if conditions.iter().any(|one| one.expression.text == rule.expression) {
                    errors.duplicate(&expression_path, rule.expression.as_str());
                    continue;
                }
                let compiled = Expression::over_claims(&rule.expression, true);
                if let Some(expression) = kept(compiled, &rule.expression, &expression_path, errors) {
                    email.verified |= expression.program.selects("claims", "email_verified");
                    conditions.push(Condition { expression, message: rule.message.clone() });
                }
            }
        }
    }
    (required, conditions)
}

fn user_rules(list: &[Rule], root: &Path, errors: &mut FieldErrors) -> Vec<Condition> {
    let mut all: Vec<Condition> = Vec::new();
    for (index, rule) in list.iter().enumerate() {
        let path = root.index(index).child("expression");
        if rule.expression.is_empty() {
            errors.required(&path, "");
        } else if all.iter().any(|one| one.expression.text == rule.expression) {
            errors.duplicate(&path, rule.expression.as_str());
        } else {
            let compiled = Expression::over_user(&rule.expression);
            let message = rule.message.clone();
            all.extend(
                kept(compiled, &rule.expression, &path, errors).map(|expression| Condition { expression, message }),
            );
        }
    }
    all
}

fn kept(compiled: Result<Expression, String>, text: &str, path: &Path, errors: &mut FieldErrors) -> Option<Expression> {
    compiled.map_err(|why| errors.invalid(path, text, why)).ok()
}

fn prefixed(own: Prefixed, path: &Path, needed: bool, errors: &mut FieldErrors) -> Option<Source> {
    match (own.claim.is_empty(), own.expression.is_empty()) {
        (false, false) => {
            errors.invalid(path, "", "claim and expression can't both be set");
            None
        }
        (true, true) => {
            if needed {
                errors.required(path, "claim or expression is required");
            }
            None
        }
        (true, false) => {
            if let Some(prefix) = &own.prefix {
                let why = "may not be specified when expression is set";
                errors.invalid(&path.child("prefix"), prefix.as_str(), why);
            }
            let compiled = Expression::over_claims(&own.expression, false);
            kept(compiled, &own.expression, &path.child("expression"), errors).map(Source::Expression)
        }
        (false, true) => {
            if own.prefix.is_none() {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.required(&path.child("prefix"), why);
            }
            Some(Source::Claim { name: own.claim, prefix: own.prefix.unwrap_or_default() })
        }
    }
}

fn uid(own: Prefixed, path: &Path, errors: &mut FieldErrors) -> Option<Source> {
    match (own.claim.is_empty(), own.expression.is_empty()) {
        (false, false) => {
            errors.invalid(path, "", "claim and expression can't both be set");
            None
        }
        (true, true) => None,
        (false, true) => Some(Source::Claim { name: own.claim, prefix: String::new() }),
        (true, false) => {
            let compiled = Expression::over_claims(&own.expression, false);
            kept(compiled, &own.expression, &path.child("expression"), errors).map(Source::Expression)
        }
    }
}

fn extra(list: Vec<Extra>, root: &Path, email: &mut EmailUse, errors: &mut FieldErrors) -> Vec<(String, Expression)> {
    let (mut seen, mut all) = (Vec::new(), Vec::new());
    for (index, own) in list.into_iter().enumerate() {
        let path = root.index(index);
        let (key_path, value_path) = (path.child("key"), path.child("valueExpression"));
        let (domain, rest) = own.key.split_once('/').unwrap_or((own.key.as_str(), ""));
        if own.key.is_empty() {
            errors.required(&key_path, "");
        } else if rest.is_empty() {
            errors.invalid(&key_path, own.key.as_str(), "must be a domain-prefixed path (such as \"acme.io/foo\")");
        } else {
            for why in api::name::dns1123_subdomain(domain, false) {
                errors.invalid(&key_path, domain, why);
            }
        }
        if own.key != own.key.to_lowercase() {
            errors.invalid(&key_path, own.key.as_str(), "must be lowercase");
        }
        let within = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
        if !rest.is_empty() && (within("kubernetes.io") || within("k8s.io")) {
            let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
            errors.invalid(&key_path, own.key.as_str(), why);
        }
        if seen.contains(&own.key) {
            errors.duplicate(&key_path, own.key.as_str());
            continue;
        }
        seen.push(own.key.clone());
        if own.value_expression.is_empty() {
            errors.required(&value_path, "");
            continue;
        }
        let compiled = Expression::over_claims(&own.value_expression, false);
        if let Some(expression) = kept(compiled, &own.value_expression, &value_path, errors) {
            email.verified |= expression.program.selects("claims", "email_verified");
            all.push((own.key, expression));
        }
    }
    all
}

#[cfg(test)]
mod tests;
