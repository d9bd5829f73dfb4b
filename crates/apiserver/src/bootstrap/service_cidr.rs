//! The ServiceCIDR `kubernetes`: the ranges the server was started with.
//!
//! Upstream: pkg/controlplane/controller/defaultservicecidr.

use std::sync::Arc;

use api::meta::v1::{Condition, ObjectMeta, Time};
use api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};
use api::{Body, Call, Object, Reason, Status, Target, Typed, Verb};

use crate::{Caller, Server};

const NAME: &str = "kubernetes";
const READY: &str = "Ready";

/// As it is wanted.
pub fn wanted(server: &Server) -> ServiceCIDR {
    let cidrs = server.options().service_ranges.services.iter().map(ToString::to_string).collect();
    ServiceCIDR {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        spec: Some(ServiceCIDRSpec { cidrs: Some(cidrs) }),
        ..ServiceCIDR::default()
    }
}

/// A second family may join the first; nothing else changes.
pub fn merge(own: &mut ServiceCIDR, wanted: &ServiceCIDR) -> bool {
    let cidrs = |range: &ServiceCIDR| range.spec.as_ref().and_then(|spec| spec.cidrs.clone()).unwrap_or_default();
    let (has, wants) = (cidrs(own), cidrs(wanted));
    let joins = has.len() == 1 && wants.len() == 2 && has[0] == wants[0];
    if joins {
        own.spec.clone_from(&wanted.spec);
    } else if has != wants {
        tracing::warn!(
            "the default ServiceCIDR {has:?} does not match the configuration {wants:?}: configure it so, or delete it"
        );
    }
    joins
}

/// Says that it is ready, unless somebody said something about it before.
///
/// # Errors
/// If its status cannot be written.
pub async fn ensure_ready(server: &Arc<Server>, caller: &Arc<Caller>) -> Result<(), Status> {
    let Some(range) = server.lookup().get_live::<ServiceCIDR>("", NAME).await? else { return Ok(()) };
    let told = range.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|own| own.type_ == READY);
    if told || range.is_terminating() || range.spec != wanted(server).spec {
        return Ok(());
    }
    let mut new = ServiceCIDR::clone(&range);
    new.status.get_or_insert_default().conditions.get_or_insert_default().push(Condition {
        type_: READY.to_owned(),
        status: "True".to_owned(),
        reason: String::new(),
        message: "Kubernetes default Service CIDR is ready".to_owned(),
        observed_generation: None,
        last_transition_time: Time(server.now()),
    });
    let mut call = Call::new(Verb::Update, Target::kind(ServiceCIDR::KIND).named(NAME).subresource("status"));
    call.body = Body::Object(Arc::new(new));
    match server.call(caller, call).await {
        // Its controller was faster.
        Err(status) if !status.is(Reason::Conflict) => Err(status),
        _ => Ok(()),
    }
}
