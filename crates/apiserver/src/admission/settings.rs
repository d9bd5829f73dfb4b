//! What plugins are configured with: the file of `--admission-control-config-file`, an AdmissionConfiguration that
//! holds the configurations of plugins or names their files.
//!
//! Upstream: apiserver/pkg/admission/config.go. Stricter than there: a plugin that nobody knows, or that takes no
//! configuration, is not passed over.

use std::path::{Path, PathBuf};

use api::quota::Limited;
use base::{Clock, Random};
use serde::Deserialize;
use serde_json::Value;

use super::{
    ALL, Chain, event_rate_limit, image_policy_webhook, pod_node_selector, pod_security, pod_toleration_restriction,
    resource_quota,
};
use crate::configuration::{self, Shape};
use crate::outbound::Users;
use crate::reload;

const KIND: &str = "AdmissionConfiguration";
const VERSIONS: &[&str] = &["apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"];
/// What the file may hold instead, from before it had a kind.
const LEGACY: [(&str, &str); 2] =
    [("imagePolicy", "ImagePolicyWebhook"), ("podNodeSelectorPluginConfig", "PodNodeSelector")];

static SHAPE: Shape = Shape::Object(&[(
    "plugins",
    &Shape::List(&Shape::Object(&[("name", &Shape::Any), ("path", &Shape::Any), ("configuration", &Shape::Any)])),
)]);
static WEBHOOKS: Shape = Shape::Object(&[("kubeConfigFile", &Shape::Any)]);

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    plugins: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    name: String,
    path: PathBuf,
    configuration: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Webhooks {
    kube_config_file: PathBuf,
}

/// The configurations of all plugins.
#[derive(Default)]
pub struct Settings {
    pub pod_security: pod_security::Settings,
    pub event_rate_limit: event_rate_limit::Limits,
    pub image_policy: Option<image_policy_webhook::ImagePolicy>,
    /// What may be consumed only where a quota covers it.
    pub limited: Vec<Limited>,
    /// Who the server is to webhooks.
    pub mutating_webhooks: Users,
    pub validating_webhooks: Users,
    pub node_selectors: pod_node_selector::Settings,
    pub tolerations: pod_toleration_restriction::Settings,
}

/// A plugin's configuration, and where it is said.
struct Part {
    name: String,
    place: String,
    text: Vec<u8>,
}

impl Settings {
    /// Reads the file, if there is one, for the plugins that are on.
    ///
    /// # Errors
    /// One line that says which file and which field is wrong.
    pub fn load(file: Option<&Path>, on: &Chain, clock: Clock, random: &Random) -> Result<Self, String> {
        let parts = file.map_or_else(|| Ok(Vec::new()), parts)?;
        let mut settings = Self::default();
        for part in parts.iter().filter(|part| on.has(&part.name)) {
            settings
                .take_in(&part.name, &part.text, clock, random)
                .map_err(|why| format!("{} of admission plugin {}: {why}", part.place, part.name))?;
        }
        for name in ["ImagePolicyWebhook", "EventRateLimit"] {
            if on.has(name) && !parts.iter().any(|part| part.name == name) {
                let wanted = "is to be in the file of --admission-control-config-file";
                return Err(format!("admission plugin {name}: no config specified: its configuration {wanted}"));
            }
        }
        Ok(settings)
    }

    fn take_in(&mut self, name: &str, text: &[u8], clock: Clock, random: &Random) -> Result<(), String> {
        match name {
            "PodSecurity" => self.pod_security = pod_security::Settings::decode(text)?,
            "EventRateLimit" => self.event_rate_limit = event_rate_limit::Limits::decode(text)?,
            "ImagePolicyWebhook" => {
                self.image_policy = Some(image_policy_webhook::ImagePolicy::decode(text, clock, random.clone())?);
            }
            "ResourceQuota" => self.limited = resource_quota::limited(text)?,
            "MutatingAdmissionWebhook" => self.mutating_webhooks = webhooks(text)?,
            "ValidatingAdmissionWebhook" => self.validating_webhooks = webhooks(text)?,
            "PodNodeSelector" => self.node_selectors = pod_node_selector::Settings::decode(text)?,
            "PodTolerationRestriction" => self.tolerations = pod_toleration_restriction::Settings::decode(text)?,
            _ => return Err("it takes no configuration".to_owned()),
        }
        Ok(())
    }
}

/// What the file says of each plugin.
fn parts(file: &Path) -> Result<Vec<Part>, String> {
    let text = reload::read(file)
        .map_err(|why| format!("unable to read admission control configuration from {file:?} [{why}]"))?;
    if let Some(parts) = legacy(file, &text) {
        return Ok(parts);
    }
    let at = |why: String| format!("{}: {why}", file.display());
    let read: File = configuration::decode(&text, KIND, VERSIONS, &SHAPE).map_err(at)?;
    let mut parts: Vec<Part> = Vec::new();
    for (index, entry) in read.plugins.into_iter().enumerate() {
        let field = |field: &str, why: &str| at(format!("plugins[{index}].{field}: {why}"));
        if entry.name.is_empty() {
            return Err(field("name", "Required value"));
        }
        if !ALL.iter().any(|plugin| plugin.name() == entry.name) {
            return Err(field("name", &format!("Invalid value: {:?}: there is no such admission plugin", entry.name)));
        }
        if parts.iter().any(|part| part.name == entry.name) {
            return Err(field("name", &format!("Duplicate value: {:?}", entry.name)));
        }
        // What is said here counts, and not what is in the file that is named beside it.
        if let Some(configuration) = entry.configuration {
            let place = at(format!("plugins[{index}].configuration"));
            parts.push(Part { name: entry.name, place, text: configuration.to_string().into_bytes() });
        } else if entry.path != Path::new("") {
            let path = file.parent().unwrap_or(Path::new(".")).join(&entry.path);
            let text = reload::read(&path).map_err(|why| field("path", &why))?;
            parts.push(Part { name: entry.name, place: format!("{}: the configuration", path.display()), text });
        }
    }
    Ok(parts)
}

/// A file from before AdmissionConfiguration, which is the configuration of these plugins itself.
fn legacy(file: &Path, text: &[u8]) -> Option<Vec<Part>> {
    let value = api::codec::parse_yaml(text).ok()?.value;
    let fields = value.as_object().filter(|fields| !fields.contains_key("kind"))?;
    let found: Vec<Part> = LEGACY
        .iter()
        .filter(|(field, _)| fields.contains_key(*field))
        .map(|(field, name)| Part {
            name: (*name).to_owned(),
            place: format!("{}: the configuration", file.display()),
            text: serde_json::json!({*field: fields[*field]}).to_string().into_bytes(),
        })
        .collect();
    (!found.is_empty()).then_some(found)
}

/// The credentials for webhooks.
fn webhooks(text: &[u8]) -> Result<Users, String> {
    let kinds = [
        ("WebhookAdmissionConfiguration", "apiserver.config.k8s.io/v1"),
        ("WebhookAdmission", "apiserver.config.k8s.io/v1alpha1"),
    ];
    let old = configuration::kind_of(text).as_deref() == Some(kinds[1].0);
    let (kind, version) = kinds[usize::from(old)];
    let read: Webhooks = configuration::decode(text, kind, &[version], &WEBHOOKS)?;
    if !read.kube_config_file.is_absolute() {
        let shown = read.kube_config_file.display().to_string();
        return Err(format!("kubeConfigFile: Invalid value: {shown:?}: must be an absolute file path"));
    }
    Users::load(&read.kube_config_file).map_err(|why| format!("kubeConfigFile: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(folder: &Path, text: &str, on: &[&str]) -> Result<Settings, String> {
        let file = folder.join("admission.yaml");
        std::fs::write(&file, text).unwrap();
        let on: Vec<String> = on.iter().map(|name| (*name).to_owned()).collect();
        let on = Chain::with(&on, &[]).unwrap();
        Settings::load(Some(&file), &on, Clock::system(), &Random::system())
    }

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
    const LIMITS: &str = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\n\
                          limits: [{type: Server, qps: 0, burst: 1}]\n";

    #[test]
    fn wrong_files_are_refused_by_file_and_field() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("limits.yaml"), LIMITS).unwrap();
        let place = folder.path().display();
        let wrong = |text: &str, on: &[&str]| load(folder.path(), text, on).map(drop).unwrap_err();
        let plugin = |rest: &str| wrong(&format!("{HEAD}- {{{rest}}}\n"), &["EventRateLimit"]);
        let file = format!("{place}/admission.yaml");
        assert_eq!(plugin("nam: x"), format!("{file}: strict decoding error: unknown field \"plugins[0].nam\""));
        assert_eq!(plugin("path: x"), format!("{file}: plugins[0].name: Required value"));
        assert_eq!(
            plugin("name: PodSecurty"),
            format!("{file}: plugins[0].name: Invalid value: \"PodSecurty\": there is no such admission plugin")
        );
        assert_eq!(
            plugin("name: EventRateLimit, path: gone.yaml"),
            format!("{file}: plugins[0].path: open {place}/gone.yaml: No such file or directory (os error 2)")
        );
        assert_eq!(
            plugin("name: EventRateLimit, path: limits.yaml"),
            format!(
                "{place}/limits.yaml: the configuration of admission plugin EventRateLimit: limits[0].qps: Invalid \
                 value: 0: must be positive"
            )
        );
        assert_eq!(
            plugin("name: EventRateLimit, configuration: {kind: Configuration}"),
            format!(
                "{file}: plugins[0].configuration of admission plugin EventRateLimit: Object 'apiVersion' is missing \
                 in '{{\"kind\":\"Configuration\"}}'"
            )
        );
        assert_eq!(
            plugin("name: LimitRanger, configuration: {a: 1}"),
            format!("{file}: plugins[0].configuration of admission plugin LimitRanger: it takes no configuration")
        );
        let twice = "name: LimitRanger, path: limits.yaml}\n- {name: LimitRanger";
        assert_eq!(plugin(twice), format!("{file}: plugins[1].name: Duplicate value: \"LimitRanger\""));
        let none = "admission plugin EventRateLimit: no config specified: its configuration is to be in the file of \
                    --admission-control-config-file";
        assert_eq!(wrong(HEAD, &["EventRateLimit"]), none);
        assert_eq!(
            wrong("kind: Pod\napiVersion: v1\n", &[]),
            format!("{file}: no kind \"Pod\" is registered for version \"v1\"")
        );
        let missing =
            Settings::load(Some(Path::new("/nonexistent")), &Chain::default(), Clock::system(), &Random::system());
        assert_eq!(
            missing.map(drop).unwrap_err(),
            "unable to read admission control configuration from \"/nonexistent\" [open /nonexistent: No such file or \
             directory (os error 2)]"
        );
        let relative = "name: ValidatingAdmissionWebhook, configuration: {apiVersion: apiserver.config.k8s.io/v1, \
                        kind: WebhookAdmissionConfiguration, kubeConfigFile: hooks.yaml}";
        let why = wrong(&format!("{HEAD}- {{{relative}}}\n"), &[]);
        assert!(why.ends_with("kubeConfigFile: Invalid value: \"hooks.yaml\": must be an absolute file path"), "{why}");
    }

    #[test]
    fn what_is_off_is_not_looked_at_and_the_old_form_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{HEAD}- name: EventRateLimit\n  configuration: {{a: 1}}\n");
        load(folder.path(), &text, &[]).unwrap();
        let old = "podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: 'a=b', ns: 'c=d'}\n";
        let settings = load(folder.path(), old, &["PodNodeSelector"]).unwrap();
        assert_eq!(settings.node_selectors.standard, [("a".to_owned(), "b".to_owned())].into());
        let why = load(folder.path(), "podNodeSelectorPluginConfig: {ns: 'c in (d)'}\n", &["PodNodeSelector"]);
        let why = why.map(drop).unwrap_err();
        assert!(why.ends_with("podNodeSelectorPluginConfig.ns: invalid selector: c in (d)"), "{why}");
    }
}
