//! What PodSecurity demands of namespaces that say nothing, and whom it lets be.
//!
//! Upstream: pod-security-admission/admission/api.

use std::collections::BTreeSet;

use api::core::v1::PodSpec;
use api::{FieldErrors, Path, name};
use serde::Deserialize;

use super::{Demand, Level, Policy, Version};
use crate::configuration::{self, Shape};

const KIND: &str = "PodSecurityConfiguration";
const VERSIONS: &[&str] = &[
    "pod-security.admission.config.k8s.io/v1",
    "pod-security.admission.config.k8s.io/v1beta1",
    "pod-security.admission.config.k8s.io/v1alpha1",
];

static SHAPE: Shape = Shape::Object(&[
    (
        "defaults",
        &Shape::Object(&[
            ("enforce", &Shape::Any),
            ("enforce-version", &Shape::Any),
            ("audit", &Shape::Any),
            ("audit-version", &Shape::Any),
            ("warn", &Shape::Any),
            ("warn-version", &Shape::Any),
        ]),
    ),
    (
        "exemptions",
        &Shape::Object(&[("usernames", &Shape::Any), ("namespaces", &Shape::Any), ("runtimeClasses", &Shape::Any)]),
    ),
]);

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    defaults: Defaults,
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Exemptions {
    usernames: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

/// As configured; by default nothing is demanded and nobody exempt.
#[derive(Debug, Default)]
pub struct Settings {
    pub(super) standard: Policy,
    pub(super) users: Vec<String>,
    pub(super) namespaces: Vec<String>,
    pub(super) runtime_classes: Vec<String>,
}

impl Settings {
    /// Whether pods of that runtime class may do anything.
    pub(super) fn exempts_class(&self, spec: &PodSpec) -> bool {
        spec.runtime_class_name.as_ref().is_some_and(|class| self.runtime_classes.contains(class))
    }

    /// From the plugin's configuration.
    ///
    /// # Errors
    /// All that is wrong with it, in upstream's words.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        let File { defaults, exemptions } = configuration::decode(text, KIND, VERSIONS, &SHAPE)?;
        let mut errors = FieldErrors::new();
        let mut of = |mode: &str, level: String, version: String| demand(mode, &level, &version, &mut errors);
        let standard = Policy {
            enforce: of("enforce", defaults.enforce, defaults.enforce_version),
            warn: of("warn", defaults.warn, defaults.warn_version),
            audit: of("audit", defaults.audit, defaults.audit_version),
        };
        let root = Path::new("exemptions");
        let label = |own: &str| name::dns1123_label(own, false);
        let subdomain = |own: &str| name::dns1123_subdomain(own, false);
        each(&root.child("namespaces"), &exemptions.namespaces, label, &mut errors);
        each(&root.child("runtimeClasses"), &exemptions.runtime_classes, subdomain, &mut errors);
        let path = root.child("usernames");
        for (index, user) in exemptions.usernames.iter().enumerate().filter(|(_, user)| user.is_empty()) {
            errors.required(&path.index(index), user.as_str());
        }
        each(&path, &exemptions.usernames, |_| Vec::new(), &mut errors);
        if !errors.is_empty() {
            return Err(errors.to_string());
        }
        let Exemptions { usernames: users, namespaces, runtime_classes } = exemptions;
        Ok(Self { standard, users, namespaces, runtime_classes })
    }
}

fn demand(mode: &str, level: &str, version: &str, errors: &mut FieldErrors) -> Demand {
    let path = Path::new("defaults");
    let standard = Demand::default();
    let level = match level {
        "" => standard.level,
        text => Level::parse(text).unwrap_or_else(|| {
            errors.invalid(&path.child(mode), text, "must be one of privileged, baseline, restricted");
            standard.level
        }),
    };
    let version = match version {
        "" => standard.version,
        text => Version::parse(text).unwrap_or_else(|| {
            errors.invalid(&path.child(&format!("{mode}-version")), text, "must be \"latest\" or \"v1.x\"");
            standard.version
        }),
    };
    Demand { level, version }
}

/// Names that must be right, each once.
fn each(path: &Path, names: &[String], wrong: impl Fn(&str) -> Vec<String>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let why = wrong(name);
        if !why.is_empty() {
            errors.invalid(&path.index(index), name.as_str(), why.join(", "));
        } else if !seen.insert(name) && !name.is_empty() {
            errors.duplicate(&path.index(index), name.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Settings, String> {
        let head = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n";
        Settings::decode(format!("{head}{text}").as_bytes())
    }

    #[test]
    fn defaults_and_exemptions() {
        let plain = decode("").unwrap();
        assert_eq!((plain.standard, plain.users.len()), (Policy::default(), 0));
        let text = "defaults: {enforce: baseline, enforce-version: v1.30, warn: restricted}\n\
                    exemptions: {usernames: [ann], namespaces: [kube-system], runtimeClasses: [kata]}\n";
        let settings = decode(text).unwrap();
        assert_eq!(settings.standard.enforce.shown(), "baseline:v1.30");
        assert_eq!(
            (settings.standard.warn.shown(), settings.standard.audit.shown()),
            ("restricted:latest".into(), "privileged:latest".into())
        );
        assert_eq!(
            (&settings.users[0], &settings.namespaces[0], &settings.runtime_classes[0]),
            (&"ann".to_owned(), &"kube-system".to_owned(), &"kata".to_owned())
        );
    }

    #[test]
    fn wrong_files_are_refused_in_upstreams_words() {
        let text = "defaults: {enforce: strict, audit-version: '1.30'}\n\
                    exemptions: {usernames: ['', a, a], namespaces: [A], runtimeClasses: [k, k]}\n";
        let why = decode(text).unwrap_err();
        for part in [
            "defaults.enforce: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
            "defaults.audit-version: Invalid value: \"1.30\": must be \"latest\" or \"v1.x\"",
            "exemptions.namespaces[0]: Invalid value: \"A\": a lowercase RFC 1123 label must consist of",
            "exemptions.runtimeClasses[1]: Duplicate value: \"k\"",
            "exemptions.usernames[0]: Required value",
            "exemptions.usernames[2]: Duplicate value: \"a\"",
        ] {
            assert!(why.contains(part), "{part} is not in {why}");
        }
        assert_eq!(decode("default: {}").unwrap_err(), "strict decoding error: unknown field \"default\"");
    }
}
