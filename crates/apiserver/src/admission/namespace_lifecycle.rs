//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is going, and the system's own
//! namespaces stay.
//!
//! Upstream: apiserver/pkg/admission/plugin/namespace/lifecycle.

use api::core::v1::Namespace;
use api::meta::v1::StatusCause;
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, _subresource: &str) -> bool {
        let namespaces = group.is_empty() && resource == "namespaces";
        match operation {
            Operation::Create => !namespaces,
            Operation::Delete => namespaces,
            Operation::Update | Operation::Connect => false,
        }
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if request.operation == Operation::Delete {
            return done(deletable(request.name));
        }
        if request.namespace.is_empty() {
            return done(Ok(()));
        }
        if let Some(namespace) = request.lookup().get::<Namespace>("", request.namespace) {
            return done(open(request, &namespace));
        }
        Box::pin(async move {
            // It may be younger than the cache.
            let found = request.lookup().get_live::<Namespace>("", request.namespace).await?;
            match found {
                Some(namespace) => open(request, &namespace),
                None => Err(Status::not_found("", "namespaces", request.namespace)),
            }
        })
    }
}

fn deletable(name: &str) -> Result<(), Status> {
    if IMMORTAL.contains(&name) {
        return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}

fn is_going(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.is_terminating() || phase == Some("Terminating")
}

fn open(request: &Request<'_>, namespace: &Namespace) -> Result<(), Status> {
    if !is_going(namespace) {
        return Ok(());
    }
    let name = request.namespace;
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = request.forbidden(&why);
    let cause = StatusCause {
        reason: Some("NamespaceTerminating".to_owned()),
        message: Some(format!("namespace {name} is being terminated")),
        field: Some("metadata.namespace".to_owned()),
    };
    status.0.details.get_or_insert_default().causes.get_or_insert_default().push(cause);
    Err(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_namespaces_stay() {
        for name in IMMORTAL {
            let status = deletable(name).unwrap_err();
            let expected = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
            assert_eq!((status.code(), status.message()), (403, expected.as_str()));
        }
        assert!(deletable("kube-node-lease").is_ok() && deletable("web").is_ok());
    }

    #[test]
    fn a_namespace_is_going_by_phase_or_by_timestamp() {
        let mut namespace = Namespace::default();
        assert!(!is_going(&namespace));
        namespace.status.get_or_insert_default().phase = Some("Terminating".into());
        assert!(is_going(&namespace));
        namespace.status = None;
        namespace.metadata.deletion_timestamp = Some(api::meta::v1::Time(api::Timestamp::UNIX_EPOCH));
        assert!(is_going(&namespace));
    }
}
