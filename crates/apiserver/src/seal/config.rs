//! `EncryptionConfiguration` (`apiserver.config.k8s.io/v1`), read and checked as upstream does. Pure.
//!
//! Upstream: apiserver/pkg/server/options/encryptionconfig and apis/apiserver/validation.

use api::{FieldErrors, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::kms::OneKms;
use super::provider::{Key, Provider, Way};
use super::{Pattern, Rules};

const API_VERSION: &str = "apiserver.config.k8s.io/v1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    resources: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<OneProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneProvider {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Empty>,
    kms: Option<OneKms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<OneKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneKey {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

impl Rules {
    /// From the text of a configuration file.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words. Keys are never shown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| format!("error decoding: {error}"))?;
        let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (word("apiVersion"), word("kind"));
        if (version, kind) != (API_VERSION, "EncryptionConfiguration") {
            return Err(format!("no kind {kind:?} is registered for version {version:?}"));
        }
        // What serde says of a wrong value may show it, so it is said without.
        let file: File = serde_json::from_value(value).map_err(|error| match error.to_string() {
            text if text.starts_with("unknown field") => format!("strict decoding error: {text}"),
            _ => "the configuration has a field of the wrong type".to_owned(),
        })?;
        let mut errors = FieldErrors::new();
        let root = Path::new("resources");
        if file.resources.is_empty() {
            errors.required(&root, "at least one resources is required");
        }
        let mut kms_names = Vec::new();
        let rules = file.resources.iter().enumerate().map(|(at, rule)| {
            let path = root.index(at);
            check_resources(&rule.resources, &path.child("resources"), &mut errors);
            let patterns = rule.resources.iter().map(|text| Pattern::parse(text)).collect();
            (patterns, providers(&rule.providers, &path.child("providers"), &mut kms_names, &mut errors))
        });
        let rules = rules.collect();
        if errors.is_empty() { Ok(Self(rules)) } else { Err(errors.to_string()) }
    }
}

fn providers(all: &[OneProvider], path: &Path, kms_names: &mut Vec<String>, errors: &mut FieldErrors) -> Vec<Provider> {
    if all.is_empty() {
        errors.required(path, format!("at least one {path} is required"));
    }
    all.iter().enumerate().filter_map(|(at, one)| provider(one, &path.index(at), kms_names, errors)).collect()
}

fn provider(one: &OneProvider, path: &Path, kms_names: &mut Vec<String>, errors: &mut FieldErrors) -> Option<Provider> {
    let keyed = [(Way::AesGcm, &one.aesgcm), (Way::AesCbc, &one.aescbc), (Way::Secretbox, &one.secretbox)];
    let given = keyed.iter().filter(|(_, keys)| keys.is_some()).count()
        + usize::from(one.identity.is_some())
        + usize::from(one.kms.is_some());
    if given == 0 {
        let why = "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
        errors.invalid(path, json!({}), why);
        return None;
    }
    if given > 1 {
        let why = "more than one provider specified in a single element, should split into different list elements";
        errors.invalid(path, "REDACTED", why);
        return None;
    }
    if let Some(kms) = &one.kms {
        return kms.check(&path.child("kms"), kms_names, errors).map(Provider::Planned);
    }
    let Some((way, keys)) = keyed.into_iter().find_map(|(way, keys)| Some((way, keys.as_ref()?))) else {
        return Some(Provider::Identity);
    };
    let path = path.child(way.word()).child("keys");
    if keys.keys.is_empty() {
        errors.required(&path, "at least one keys is required");
    }
    let keys = keys.keys.iter().enumerate().filter_map(|(at, one)| key(way, one, &path.index(at), errors));
    Some(Provider::Keys(way, keys.collect()))
}

fn key(way: Way, one: &OneKey, path: &Path, errors: &mut FieldErrors) -> Option<Key> {
    if one.name.is_empty() {
        errors.required(&path.child("name"), "name is a mandatory field for a key");
    }
    let path = path.child("secret");
    if one.secret.is_empty() {
        errors.required(&path, "secret is a mandatory field for a key");
        return None;
    }
    let Ok(bytes) = STANDARD.decode(&one.secret) else {
        errors.invalid(&path, "REDACTED", "secrets must be base64 encoded");
        return None;
    };
    let lens = way.key_lens();
    if !lens.contains(&bytes.len()) {
        let lens: Vec<String> = lens.iter().map(ToString::to_string).collect();
        let why = "secret is not of the expected length, got";
        errors.invalid(&path, "REDACTED", format!("{why} {}, expected one of [{}]", bytes.len(), lens.join(" ")));
        return None;
    }
    Key::new(way, &one.name, &bytes)
}

fn check_resources(all: &[String], path: &Path, errors: &mut FieldErrors) {
    if all.is_empty() {
        errors.required(path, format!("at least one {path} is required"));
    }
    check_overlap(all, path, errors);
    for (at, text) in all.iter().enumerate() {
        let Pattern { group, resource } = Pattern::parse(text);
        let why = match text.as_str() {
            _ if text.to_lowercase() != *text => "resource name should not contain capital letters",
            "*" => "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
            "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations" => {
                "resources which do not have REST API/s cannot be encrypted"
            }
            _ if group == "events.k8s.io" => {
                "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in \
                 the config file"
            }
            _ if group == "extensions" => "'extensions' group has been removed and cannot be used for encryption",
            _ if group == "*" && resource != "*" => "encrypting the same resource across groups is not supported",
            _ => continue,
        };
        errors.invalid(&path.index(at), text.as_str(), why);
    }
}

fn check_overlap(all: &[String], path: &Path, errors: &mut FieldErrors) {
    let patterns: Vec<Pattern> = all.iter().map(|text| Pattern::parse(text)).collect();
    let pairs = || {
        let with_rest = |(at, one)| patterns[at + 1..].iter().map(move |other| (one, other));
        patterns.iter().enumerate().flat_map(with_rest)
    };
    if pairs().any(|(one, other)| one == other) {
        errors.invalid(path, all, "the same resource cannot be specified multiple times");
    }
    let any = |one: &Pattern| one.group == "*" && one.resource == "*";
    let overlap = |one: &Pattern, other: &Pattern| {
        one != other
            && (any(one) || any(other) || (one.group == other.group && (one.resource == "*" || other.resource == "*")))
    };
    if pairs().any(|(one, other)| overlap(one, other)) {
        let why = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as \
                   they will be masked";
        errors.invalid(path, all, why);
    }
}
