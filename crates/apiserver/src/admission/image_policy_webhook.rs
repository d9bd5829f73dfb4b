//! ImagePolicyWebhook (off by default): somebody else says whether a pod's images may run. Each pod's images are shown
//! to a server as an ImageReview, and its answers are kept for a while.
//!
//! Upstream: plugin/pkg/admission/imagepolicy.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use api::core::v1::Pod;
use api::{Object, Status};
use base::{Clock, Random};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Operation, Request};
use crate::configuration::{self, Shape, duration_text};
use crate::kept::Kept;
use crate::outbound::{Again, Remote};

pub struct Plugin;

const AUDIT_PREFIX: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// Annotations of pods that the server is shown.
const SHOWN: &str = ".image-policy.k8s.io/";
const TIMEOUT: Duration = Duration::from_secs(30);
/// Answers kept (upstream's).
const ANSWERS_LEN_MAX: usize = 1024;

static SHAPE: Shape = Shape::Object(&[(
    "imagePolicy",
    &Shape::Object(&[
        ("kubeConfigFile", &Shape::Any),
        ("allowTTL", &Shape::Any),
        ("denyTTL", &Shape::Any),
        ("retryBackoff", &Shape::Any),
        ("defaultAllow", &Shape::Any),
    ]),
)]);

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    image_policy: Entry,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    kube_config_file: PathBuf,
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    retry_backoff: i64,
    default_allow: bool,
}

/// Who is asked, and what its silence means.
pub struct ImagePolicy {
    remote: Remote,
    /// How long a yes is good, and a no; zero: not kept.
    allow_ttl: Duration,
    deny_ttl: Duration,
    again: Again,
    /// Whether pods are taken when nobody answers.
    default_allow: bool,
    answers: Kept<String, Answer>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    allowed: bool,
    reason: String,
    audit_annotations: BTreeMap<String, String>,
}

impl ImagePolicy {
    /// From the plugin's configuration.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words where it has any.
    pub fn decode(text: &[u8], clock: Clock, random: Random) -> Result<Self, String> {
        let file: File = configuration::decode_plain(text, &SHAPE)?;
        let entry = file.image_policy;
        let (second, milli) = (Duration::from_secs(1), Duration::from_millis(1));
        let long = second * 1800;
        let ttl = |name: &str, value, standard| {
            within(value, second, (second, long), standard).map_err(|why| format!("imagePolicy.{name}: {why}"))
        };
        let backoff = within(entry.retry_backoff, milli, (Duration::from_nanos(1), second * 300), milli * 500)
            .map_err(|why| format!("imagePolicy.retryBackoff: {why}"))?;
        let allow_ttl = ttl("allowTTL", entry.allow_ttl, second * 300)?;
        let deny_ttl = ttl("denyTTL", entry.deny_ttl, second * 30)?;
        if entry.kube_config_file == FilePath::new("") {
            return Err("imagePolicy.kubeConfigFile: Required value".to_owned());
        }
        let remote = Remote::of_kubeconfig(&entry.kube_config_file)
            .map_err(|why| format!("imagePolicy.kubeConfigFile: {why}"))?;
        Ok(Self {
            remote,
            allow_ttl,
            deny_ttl,
            again: Again { first: backoff, clock, random },
            default_allow: entry.default_allow,
            answers: Kept::new(ANSWERS_LEN_MAX),
        })
    }

    /// What is said of such a spec; the error is why nobody says anything.
    async fn ask(&self, spec: &Value) -> Result<Answer, String> {
        let key = spec.to_string();
        let clock = self.again.clock;
        if let Some(known) = self.answers.get(&key, clock.monotonic()) {
            return Ok(known);
        }
        let review = json!({
            "kind": "ImageReview",
            "apiVersion": "imagepolicy.k8s.io/v1alpha1",
            "metadata": {"creationTimestamp": null},
            "spec": spec,
            "status": {"allowed": false},
        });
        let body = Bytes::from(review.to_string());
        let answer = self.remote.post_json_again(body, TIMEOUT, &self.again, |_, _| {}).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let answer: Answer = match answer["status"].take() {
            Value::Null => Answer::default(),
            status => serde_json::from_value(status).map_err(|error| error.to_string())?,
        };
        let ttl = if answer.allowed { self.allow_ttl } else { self.deny_ttl };
        if !ttl.is_zero() {
            let now = clock.monotonic();
            self.answers.put(key, answer.clone(), now, now + ttl);
        }
        Ok(answer)
    }
}

/// A time as the file has it: in that unit, -1 for none at all, 0 for the standard.
fn within(value: i64, unit: Duration, bounds: (Duration, Duration), standard: Duration) -> Result<Duration, String> {
    match value {
        -1 => return Ok(Duration::ZERO),
        0 => return Ok(standard),
        _ => {}
    }
    let (min, max) = bounds;
    let given = u32::try_from(value).ok().and_then(|count| unit.checked_mul(count));
    match given.filter(|given| *given > min && *given <= max) {
        Some(given) => Ok(given),
        None => {
            let min = if min.as_millis() == 0 { format!("{}ns", min.as_nanos()) } else { duration_text(min) };
            let got = given.map_or_else(|| value.to_string(), duration_text);
            Err(format!("valid value is between {min} and {}, got {got}", duration_text(max)))
        }
    }
}

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "ImagePolicyWebhook"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update);
        writes && (group, resource) == ("", "pods") && matches!(subresource, "" | "ephemeralcontainers")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some(policy) = &request.server.options().admission_settings.image_policy else { return Ok(()) };
            let ephemeral = request.subresource == "ephemeralcontainers";
            let namespace = request.namespace;
            let Some(spec) = request.object::<Pod>().map(|pod| shown(pod, namespace, ephemeral)) else { return Ok(()) };
            let answer = match policy.ask(&spec).await {
                Ok(answer) => answer,
                Err(why) if policy.default_allow => {
                    tracing::warn!(%why, pod = request.name, "nobody answers for its images: it is taken all the same");
                    request.annotations.push((format!("{AUDIT_PREFIX}failed-open"), "true".to_owned()));
                    return Ok(());
                }
                Err(why) => return Err(request.forbidden(&why)),
            };
            let said = answer.audit_annotations.into_iter().map(|(key, value)| (format!("{AUDIT_PREFIX}{key}"), value));
            request.annotations.extend(said);
            match (answer.allowed, answer.reason.as_str()) {
                (true, _) => Ok(()),
                (false, "") => Err(request.forbidden("one or more images rejected by webhook backend")),
                (false, why) => {
                    let why = format!("image policy webhook backend denied one or more images: {why}");
                    Err(request.forbidden(&why))
                }
            }
        })
    }
}

/// An ImageReview's spec. What was added to a running pod is shown alone.
fn shown(pod: &Pod, namespace: &str, ephemeral: bool) -> Value {
    let images: Vec<Value> = match &pod.spec {
        None => Vec::new(),
        Some(spec) if ephemeral => {
            spec.ephemeral_containers.iter().flatten().map(|own| json!({"image": own.image})).collect()
        }
        Some(spec) => {
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            all.map(|own| json!({"image": own.image})).collect()
        }
    };
    let annotations = pod.metadata().annotations.iter().flatten().filter(|(key, _)| key.contains(SHOWN));
    let annotations: BTreeMap<&String, &String> = annotations.collect();
    let mut spec = json!({"containers": images, "namespace": namespace});
    if !annotations.is_empty() {
        spec["annotations"] = json!(annotations);
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_bounds() {
        let second = Duration::from_secs(1);
        let read = |value| within(value, second, (second, second * 1800), second * 30);
        assert_eq!((read(-1), read(0), read(2)), (Ok(Duration::ZERO), Ok(second * 30), Ok(second * 2)));
        for (value, got) in [(1, "1s"), (1801, "30m1s"), (-2, "-2")] {
            assert_eq!(read(value), Err(format!("valid value is between 1s and 30m0s, got {got}")));
        }
    }

    #[test]
    fn wrong_files_are_refused() {
        let why =
            |text: &str| ImagePolicy::decode(text.as_bytes(), Clock::system(), Random::system()).map(drop).unwrap_err();
        assert_eq!(why("imagePolicy: {}"), "imagePolicy.kubeConfigFile: Required value");
        assert_eq!(
            why("imagePolicy: {allowTTL: 1}"),
            "imagePolicy.allowTTL: valid value is between 1s and 30m0s, got 1s"
        );
        assert_eq!(why("imagePolicy: {allow: 1}"), "strict decoding error: unknown field \"imagePolicy.allow\"");
        assert_eq!(
            why("imagePolicy: {kubeConfigFile: /nonexistent}"),
            "imagePolicy.kubeConfigFile: /nonexistent: cannot read /nonexistent"
        );
    }

    #[test]
    fn a_pod_is_shown_by_its_images() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"annotations": {"a.image-policy.k8s.io/break": "glass", "b": "c"}},
            "spec": {
                "initContainers": [{"name": "i", "image": "init"}],
                "containers": [{"name": "c", "image": "main"}],
                "ephemeralContainers": [{"name": "e", "image": "debug"}],
            },
        }))
        .unwrap();
        let annotations = json!({"a.image-policy.k8s.io/break": "glass"});
        let images = json!([{"image": "main"}, {"image": "init"}]);
        let spec = json!({"containers": images, "namespace": "n", "annotations": annotations});
        assert_eq!(shown(&pod, "n", false), spec);
        pod.metadata.annotations = None;
        assert_eq!(shown(&pod, "n", true), json!({"containers": [{"image": "debug"}], "namespace": "n"}));
    }
}
