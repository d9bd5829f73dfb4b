//! PodTolerationRestriction (off by default): pods get the tolerations of their namespace, and none that it does not
//! allow.
//!
//! Upstream: plugin/pkg/admission/podtolerationrestriction.

use api::core::v1::{Namespace, Pod, Toleration};
use api::{FieldErrors, Object, Path, Reason, Status};
use futures_util::future::BoxFuture;
use resources::core::pod_template::scheduling::validate_tolerations;
use serde::Deserialize;

use super::{Operation, Request};
use crate::configuration::{self, Shape};

pub struct Plugin;

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const REFUSED: &str = "pod tolerations (possibly merged with namespace default tolerations) conflict with its \
                       namespace whitelist";

const VERSIONS: &[&str] = &["podtolerationrestriction.admission.k8s.io/v1alpha1"];

static SHAPE: Shape =
    Shape::Object(&[("default", &Shape::List(&TOLERATION)), ("whitelist", &Shape::List(&TOLERATION))]);
static TOLERATION: Shape = Shape::Object(&[
    ("key", &Shape::Any),
    ("operator", &Shape::Any),
    ("value", &Shape::Any),
    ("effect", &Shape::Any),
    ("tolerationSeconds", &Shape::Any),
]);

/// For namespaces that say nothing themselves.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// What pods are given.
    #[serde(rename = "default")]
    given: Vec<Toleration>,
    /// What they may have; all, if it is empty.
    #[serde(rename = "whitelist")]
    allowed: Vec<Toleration>,
}

impl Settings {
    /// From the plugin's configuration.
    ///
    /// # Errors
    /// All that is wrong with it, in upstream's words.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        let settings: Self = configuration::decode(text, "Configuration", VERSIONS, &SHAPE)?;
        let mut errors = FieldErrors::new();
        validate_tolerations(&mut errors, &Path::new("default"), &settings.given);
        validate_tolerations(&mut errors, &Path::new("whitelist"), &settings.allowed);
        if errors.is_empty() { Ok(settings) } else { Err(errors.to_string()) }
    }
}

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update);
        writes && (group, resource, subresource) == ("", "pods", "")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if request.operation != Operation::Create {
                return Ok(());
            }
            let settings = &request.server.options().admission_settings.tolerations;
            let mut more = listed(request, DEFAULTS).await?.unwrap_or_else(|| settings.given.clone());
            let Some(pod) = request.object::<Pod>() else { return Ok(()) };
            let best_effort = pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) == Some("BestEffort");
            let Some(spec) = &mut pod.spec else { return Ok(()) };
            let asks = spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|container| {
                let resources = container.resources.as_ref();
                resources.is_some_and(|own| own.requests.is_some() || own.limits.is_some())
            });
            if asks && !best_effort {
                more.push(Toleration {
                    key: Some("node.kubernetes.io/memory-pressure".to_owned()),
                    operator: Some("Exists".to_owned()),
                    effect: Some("NoSchedule".to_owned()),
                    ..Toleration::default()
                });
            }
            let own = spec.tolerations.get_or_insert_default();
            for toleration in more {
                if !own.iter().any(|other| covers(other, &toleration)) {
                    own.retain(|other| !covers(&toleration, other));
                    own.push(toleration);
                }
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let settings = &request.server.options().admission_settings.tolerations;
            let allowed = listed(request, ALLOWED).await?.unwrap_or_else(|| settings.allowed.clone());
            let own =
                request.object::<Pod>().and_then(|pod| pod.spec.as_ref()?.tolerations.clone()).unwrap_or_default();
            let fits = |own: &Toleration| allowed.iter().any(|allowed| covers(allowed, own));
            if allowed.is_empty() || own.iter().all(fits) {
                return Ok(());
            }
            Err(crate::registry::plain(Reason::InternalError, REFUSED))
        })
    }
}

/// The tolerations in an annotation of the namespace.
async fn listed(request: &Request<'_>, annotation: &str) -> Result<Option<Vec<Toleration>>, Status> {
    let lookup = request.lookup();
    let namespace = match lookup.get::<Namespace>("", request.namespace) {
        Some(namespace) => Some(namespace),
        None => lookup.get_live::<Namespace>("", request.namespace).await?,
    };
    let Some(namespace) = namespace else { return Err(Status::not_found("", "namespaces", request.namespace)) };
    let text = namespace.metadata().annotations.as_ref().and_then(|all| all.get(annotation));
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    serde_json::from_str(text).map_err(|error| crate::registry::plain(Reason::InternalError, &error.to_string()))
}

/// Whether whatever `other` tolerates, `one` does too.
fn covers(one: &Toleration, other: &Toleration) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let exists = one.operator.as_deref() == Some("Exists");
    let key = one.key == other.key || (text(&one.key).is_empty() && exists);
    let effect = text(&one.effect).is_empty() || text(&one.effect) == text(&other.effect);
    let value = exists || (other.operator.as_deref() != Some("Exists") && text(&one.value) == text(&other.value));
    let time = match (text(&one.effect).as_str(), one.toleration_seconds, other.toleration_seconds) {
        ("NoExecute", Some(_), None) => false,
        ("NoExecute", Some(most), Some(asked)) => asked <= most,
        _ => true,
    };
    key && effect && value && time
}
