//! DenyServiceExternalIPs (off by default): no Service takes over addresses of others.
//!
//! Upstream: plugin/pkg/admission/network/denyserviceexternalips.

use api::Status;
use api::core::v1::Service;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Plugin;

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update);
        writes && (group, resource, subresource) == ("", "services", "")
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let of = |service: Option<&Service>| -> Vec<String> {
            service.and_then(|service| service.spec.as_ref()?.external_ips.clone()).unwrap_or_default()
        };
        let old = of(request.old_object::<Service>());
        let new = of(request.object::<Service>().map(|service| &*service));
        if new.iter().all(|ip| old.contains(ip)) {
            return done(Ok(()));
        }
        done(Err(request.forbidden("Use of external IPs is denied by admission control")))
    }
}
