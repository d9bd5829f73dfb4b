//! AlwaysAdmit and AlwaysDeny (off by default): the two that look at nothing. The second keeps everything as it is, for
//! tests and emergencies.
//!
//! Upstream: plugin/pkg/admission/admit and deny.

use api::Status;
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};

pub struct Admit;

impl super::Plugin for Admit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }

    fn handles(&self, _: Operation, _: &str, _: &str, _: &str) -> bool {
        false
    }
}

pub struct Deny;

impl super::Plugin for Deny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    fn handles(&self, _: Operation, _: &str, _: &str, _: &str) -> bool {
        true
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        // The server's own objects are not modifications by anybody.
        if request.caller.is_in(crate::authn::MASTERS) && request.caller.name == "system:apiserver" {
            return done(Ok(()));
        }
        done(Err(request.forbidden("admission control is denying all modifications")))
    }
}
