//! NamespaceAutoProvision (off by default): a namespace is made when the first object is to go there.
//!
//! Upstream: plugin/pkg/admission/namespace/autoprovision.

use std::sync::Arc;

use api::core::v1::Namespace;
use api::{Body, Call, Reason, Status, Target, Typed, Verb};
use futures_util::future::BoxFuture;

use super::{Operation, Request};
use crate::Caller;

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, _subresource: &str) -> bool {
        operation == Operation::Create && (group, resource) != ("", "namespaces")
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let (lookup, name) = (request.lookup(), request.namespace);
            if name.is_empty() || request.dry_run || lookup.get::<Namespace>("", name).is_some() {
                return Ok(());
            }
            let mut namespace = Namespace::default();
            namespace.metadata.name = Some(name.to_owned());
            let mut call = Call::new(Verb::Create, Target::kind(Namespace::KIND));
            call.body = Body::Object(Arc::new(namespace));
            match request.server.proceed(&Arc::new(Caller::apiserver()), call, None).await {
                Err(status) if !status.is(Reason::AlreadyExists) => Err(status),
                _ => Ok(()),
            }
        })
    }
}
