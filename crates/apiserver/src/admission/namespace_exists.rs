//! NamespaceExists (off by default): nothing is written in a namespace that is not there.
//!
//! Upstream: plugin/pkg/admission/namespace/exists. NamespaceLifecycle, which is on, says more.

use api::Status;
use api::core::v1::Namespace;
use futures_util::future::BoxFuture;

use super::{Operation, Request};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, _subresource: &str) -> bool {
        operation != Operation::Connect && (group, resource) != ("", "namespaces")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let (lookup, namespace) = (request.lookup(), request.namespace);
            let known = namespace.is_empty() || lookup.get::<Namespace>("", namespace).is_some();
            if known || lookup.get_live::<Namespace>("", namespace).await?.is_some() {
                return Ok(());
            }
            Err(Status::not_found("", "namespaces", namespace))
        })
    }
}
