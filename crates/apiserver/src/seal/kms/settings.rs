//! A `kms` provider of an `EncryptionConfiguration`. Pure.

use std::time::Duration;

use api::{FieldErrors, Path};
use serde::Deserialize;
use serde_json::Value;

/// Upstream's `timeout` where none is given.
const TIMEOUT: Duration = Duration::from_secs(3);

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OneKms {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    cachesize: Option<i32>,
    #[serde(default)]
    endpoint: String,
    /// As Go writes durations.
    #[serde(default)]
    timeout: Option<Value>,
}

/// As it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    /// The path of the Unix socket; `/@NAME`: one without a file.
    pub socket: String,
    pub timeout: Duration,
}

impl OneKms {
    /// `names`: those of the providers before this one.
    pub fn check(&self, path: &Path, names: &mut Vec<String>, errors: &mut FieldErrors) -> Option<Settings> {
        let before = errors.0.len();
        // Without a version it is the first.
        let version = if self.api_version.is_empty() { "v1" } else { &self.api_version };
        self.check_name(version, &path.child("name"), names, errors);
        let timeout = self.check_timeout(&path.child("timeout"), errors);
        let socket = self.check_endpoint(&path.child("endpoint"), errors);
        if let Some(size) = self.cachesize.filter(|_| version != "v1") {
            errors.invalid(&path.child("cachesize"), size, "cachesize is not supported in v2");
        }
        let path = path.child("apiVersion");
        match version {
            "v2" => {}
            "v1" => errors.forbidden(
                &path,
                "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead: this \
                 server has no KMSv1",
            ),
            other => {
                let why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
                errors.invalid(&path, other, why);
            }
        }
        let settings = Settings { name: self.name.clone(), socket: socket?, timeout: timeout? };
        (errors.0.len() == before).then_some(settings)
    }

    fn check_name(&self, version: &str, path: &Path, names: &mut Vec<String>, errors: &mut FieldErrors) {
        let name = &self.name;
        if name.is_empty() {
            errors.required(path, "name is a mandatory field for a provider");
        }
        if version != "v1" && name.contains(':') {
            errors.invalid(path, name.as_str(), format!("invalid KMS provider name {name}, must not contain ':'"));
        }
        if version != "v1" && names.contains(name) {
            let why = format!("duplicate KMS provider name {name}, names must be unique");
            errors.invalid(path, name.as_str(), why);
        }
        names.push(name.clone());
    }

    fn check_timeout(&self, path: &Path, errors: &mut FieldErrors) -> Option<Duration> {
        let text = match &self.timeout {
            None | Some(Value::Null) => return Some(TIMEOUT),
            Some(Value::String(text)) => text,
            Some(other) => {
                errors.invalid(path, other.clone(), "must be a duration: 3s");
                return None;
            }
        };
        match crate::http::duration::parse(text) {
            Err(why) => errors.invalid(path, text.as_str(), why),
            Ok(Duration::ZERO) => errors.invalid(path, text.as_str(), "timeout should be a positive value"),
            Ok(timeout) => return Some(timeout),
        }
        None
    }

    fn check_endpoint(&self, path: &Path, errors: &mut FieldErrors) -> Option<String> {
        let endpoint = self.endpoint.as_str();
        if endpoint.is_empty() {
            errors.invalid(path, "", "endpoint is a mandatory field for a kms");
            return None;
        }
        let (scheme, rest) = endpoint.split_once(':').unwrap_or(("", endpoint));
        if scheme != "unix" {
            let why = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
            errors.invalid(path, endpoint, why);
            return None;
        }
        let socket = rest.strip_prefix("//").filter(|socket| socket.starts_with('/') && socket.len() > 1);
        if socket.is_none() {
            errors.invalid(path, endpoint, "invalid endpoint for kms provider, error: it is not unix:///PATH");
        }
        socket.map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let one: OneKms = serde_saphyr::from_str(text).unwrap();
        let mut errors = FieldErrors::new();
        let settings = one.check(&Path::new("kms"), &mut vec!["taken".to_owned()], &mut errors);
        if errors.is_empty() { Ok(settings.unwrap()) } else { Err(errors.to_string()) }
    }

    #[test]
    fn what_holds() {
        let settings = read("{apiVersion: v2, name: a, endpoint: 'unix:///run/kms.sock'}").unwrap();
        assert_eq!(settings, Settings { name: "a".into(), socket: "/run/kms.sock".into(), timeout: TIMEOUT });
        let settings = read("{apiVersion: v2, name: a, endpoint: 'unix:///@kms', timeout: 1.5s}").unwrap();
        assert_eq!((settings.socket.as_str(), settings.timeout.as_millis()), ("/@kms", 1500));
    }

    #[test]
    fn wrong_providers_are_refused_in_upstreams_words() {
        let say = |text: &str| read(text).unwrap_err();
        let endpoint = |text: &str| say(&format!("{{apiVersion: v2, name: a, endpoint: {text:?}}}"));
        assert_eq!(endpoint(""), "kms.endpoint: Invalid value: \"\": endpoint is a mandatory field for a kms");
        assert_eq!(
            endpoint("tcp://localhost:1"),
            "kms.endpoint: Invalid value: \"tcp://localhost:1\": unsupported scheme \"tcp\" for KMS provider, only \
             unix is supported"
        );
        assert!(endpoint("/run/kms.sock").contains("unsupported scheme \"\" for KMS provider"));
        for malformed in ["unix://run/kms.sock", "unix:/run/kms.sock", "unix:kms.sock", "unix:///", "unix://"] {
            let why = endpoint(malformed);
            assert!(why.ends_with("invalid endpoint for kms provider, error: it is not unix:///PATH"), "{why}");
        }
        let with = |more: &str| say(&format!("{{name: a, endpoint: 'unix:///k', {more}}}"));
        assert_eq!(
            with("apiVersion: v2, timeout: 0s"),
            "kms.timeout: Invalid value: \"0s\": timeout should be a positive value"
        );
        assert!(with("apiVersion: v2, timeout: -1s").ends_with("timeout should be a positive value"));
        assert!(with("apiVersion: v2, timeout: soon").contains("invalid duration"));
        assert!(with("apiVersion: v2, timeout: 3").ends_with("must be a duration: 3s"));
        assert_eq!(
            with("apiVersion: v2, cachesize: 10"),
            "kms.cachesize: Invalid value: 10: cachesize is not supported in v2"
        );
        assert!(with("apiVersion: v3").contains("for KMS provider, only v1 and v2 are supported"));
        for first in ["apiVersion: v1", "timeout: 3s"] {
            assert!(with(first).starts_with("kms.apiVersion: Forbidden: KMSv1 is deprecated"), "{}", with(first));
        }
        let named = |name: &str| say(&format!("{{apiVersion: v2, name: {name:?}, endpoint: 'unix:///k'}}"));
        assert_eq!(named(""), "kms.name: Required value: name is a mandatory field for a provider");
        assert_eq!(
            named("a:b"),
            "kms.name: Invalid value: \"a:b\": invalid KMS provider name a:b, must not contain ':'"
        );
        assert_eq!(
            named("taken"),
            "kms.name: Invalid value: \"taken\": duplicate KMS provider name taken, names must be unique"
        );
    }
}
