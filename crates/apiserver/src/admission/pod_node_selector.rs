//! PodNodeSelector (off by default): pods of a namespace go where its annotation says.
//!
//! Upstream: plugin/pkg/admission/podnodeselector; without its configuration file of cluster-wide selectors.

use std::collections::BTreeMap;

use api::core::v1::{Namespace, Pod};
use api::{Object, Reason, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request};

pub struct Plugin;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
const CONFLICT: &str = "pod node label selector conflicts with its namespace node label selector";

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
            if let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut())
                && !wanted.is_empty()
            {
                spec.node_selector.get_or_insert_default().extend(wanted);
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let wanted = wanted(request).await?;
            if conflicts(request, &wanted) { Err(request.forbidden(CONFLICT)) } else { Ok(()) }
        })
    }
}

/// What the namespace demands.
async fn wanted(request: &Request<'_>) -> Result<BTreeMap<String, String>, Status> {
    let lookup = request.lookup();
    let namespace = match lookup.get::<Namespace>("", request.namespace) {
        Some(namespace) => Some(namespace),
        None => lookup.get_live::<Namespace>("", request.namespace).await?,
    };
    let Some(namespace) = namespace else { return Err(Status::not_found("", "namespaces", request.namespace)) };
    let text =
        namespace.metadata().annotations.as_ref().and_then(|all| all.get(ANNOTATION)).cloned().unwrap_or_default();
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| crate::registry::plain(Reason::InternalError, &format!("invalid selector: {text}")))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    });
    pairs.collect()
}

fn conflicts(request: &mut Request<'_>, wanted: &BTreeMap<String, String>) -> bool {
    let own = request.object::<Pod>().and_then(|pod| pod.spec.as_ref()?.node_selector.as_ref());
    own.is_some_and(|own| own.iter().any(|(key, value)| wanted.get(key).is_some_and(|wanted| wanted != value)))
}
