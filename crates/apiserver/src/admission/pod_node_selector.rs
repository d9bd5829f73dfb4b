//! PodNodeSelector (off by default): pods of a namespace go where its annotation says, or else where all do; and
//! nowhere else than its list allows.
//!
//! Upstream: plugin/pkg/admission/podnodeselector.

use std::collections::BTreeMap;

use api::core::v1::{Namespace, Pod};
use api::{Object, Reason, Status};
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{Operation, Request};
use crate::configuration::{self, Shape};

pub struct Plugin;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
const CONFLICT: &str = "pod node label selector conflicts with its namespace node label selector";
const NOT_LISTED: &str = "pod node label selector labels conflict with its namespace whitelist";
/// The entry of the configuration that is no namespace's.
const STANDARD: &str = "clusterDefaultNodeSelector";

static SHAPE: Shape = Shape::Object(&[("podNodeSelectorPluginConfig", &Shape::Any)]);

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    pod_node_selector_plugin_config: BTreeMap<String, String>,
}

type Labels = BTreeMap<String, String>;

/// Selectors of the whole cluster.
#[derive(Debug, Default)]
pub struct Settings {
    /// For namespaces without a selector of their own.
    pub standard: Labels,
    /// What a namespace's pods may select; those that are not here may all.
    pub listed: BTreeMap<String, Labels>,
}

impl Settings {
    /// From the plugin's configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        let file: File = configuration::decode_plain(text, &SHAPE)?;
        let mut settings = Self::default();
        for (name, selector) in file.pod_node_selector_plugin_config {
            let labels = labels(&selector).map_err(|why| format!("podNodeSelectorPluginConfig.{name}: {why}"))?;
            if name == STANDARD {
                settings.standard = labels;
            } else {
                settings.listed.insert(name, labels);
            }
        }
        Ok(settings)
    }
}

/// `key=value,...`.
fn labels(text: &str) -> Result<Labels, String> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("invalid selector: {text}"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    pairs.map(pair).collect()
}

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Create && (group, resource, subresource) == ("", "pods", "")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let wanted = wanted(request).await?;
            if conflicts(request, &wanted) {
                return Err(request.forbidden(CONFLICT));
            }
            let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return Ok(()) };
            if !wanted.is_empty() {
                spec.node_selector.get_or_insert_default().extend(wanted);
            }
            listed(request)
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let wanted = wanted(request).await?;
            if conflicts(request, &wanted) { Err(request.forbidden(CONFLICT)) } else { listed(request) }
        })
    }
}

/// What the namespace demands.
async fn wanted(request: &Request<'_>) -> Result<Labels, Status> {
    let lookup = request.lookup();
    let namespace = match lookup.get::<Namespace>("", request.namespace) {
        Some(namespace) => Some(namespace),
        None => lookup.get_live::<Namespace>("", request.namespace).await?,
    };
    let Some(namespace) = namespace else { return Err(Status::not_found("", "namespaces", request.namespace)) };
    match namespace.annotation(ANNOTATION) {
        Some(text) => labels(text).map_err(|why| crate::registry::plain(Reason::InternalError, &why)),
        None => Ok(request.server.options().admission_settings.node_selectors.standard.clone()),
    }
}

/// Whether the pod selects nothing but what is listed for its namespace.
fn listed(request: &mut Request<'_>) -> Result<(), Status> {
    let listed = &request.server.options().admission_settings.node_selectors.listed;
    let Some(listed) = listed.get(request.namespace).filter(|listed| !listed.is_empty()) else { return Ok(()) };
    let own = request.object::<Pod>().and_then(|pod| pod.spec.as_ref()?.node_selector.as_ref());
    let fits = own.is_none_or(|own| own.iter().all(|(key, value)| listed.get(key) == Some(value)));
    if fits { Ok(()) } else { Err(request.forbidden(NOT_LISTED)) }
}

fn conflicts(request: &mut Request<'_>, wanted: &Labels) -> bool {
    let own = request.object::<Pod>().and_then(|pod| pod.spec.as_ref()?.node_selector.as_ref());
    own.is_some_and(|own| own.iter().any(|(key, value)| wanted.get(key).is_some_and(|wanted| wanted != value)))
}
