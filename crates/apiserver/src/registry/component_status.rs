//! ComponentStatus: the scheduler and the controllers are well while somebody renews the lease of their leader, the
//! store (upstream's name for it is `etcd-0`) while it answers.

use std::sync::Arc;
use std::time::Duration;

use api::coordination::v1::Lease;
use api::core::v1::{ComponentCondition, ComponentStatus};
use api::meta::v1::ObjectMeta;
use api::{Call, Object, Status, Target};
use bytes::Bytes;

use crate::Server;
use crate::answer::{Answer, Payload};
use crate::cache::{Entry, Filter, Listed};
use crate::catalog::Resource;

/// In upstream's order.
const COMPONENTS: [&str; 3] = ["scheduler", "controller-manager", "etcd-0"];

/// One component's status.
///
/// # Errors
/// 404 for a name that is none.
pub(super) async fn get(server: &Server, resource: &Arc<Resource>, target: &Target) -> Result<Answer, Status> {
    let name = target.name.as_deref().unwrap_or_default();
    if !COMPONENTS.contains(&name) {
        return Err(resource.not_found(name));
    }
    let object = status(server, name).await;
    let warnings = resource.deprecation().into_iter().collect();
    Ok(Answer::ok(Payload::Object(Arc::new(object))).warn(warnings))
}

/// All of them.
///
/// # Errors
/// 400 for a selector that does not parse.
pub(super) async fn list(server: &Server, resource: &Arc<Resource>, call: &Call) -> Result<Answer, Status> {
    let strategy = &*resource.strategy;
    let (labels, fields) = (call.options.label_selector.as_deref(), call.options.field_selector.as_deref());
    let filter = Filter::parse(strategy, None, call.target.name.as_deref(), labels, fields, None, None)?;
    let revision = server.caches().progress();
    let mut entries = Vec::new();
    for name in COMPONENTS {
        let object = Box::new(status(server, name).await);
        let key = format!("/registry/componentstatuses/{name}").into();
        let stored = Bytes::from(object.encode());
        let entry = Entry::from_object(strategy, key, revision, stored, object, true)?;
        if filter.matches(&entry) {
            entries.push(Arc::new(entry));
        }
    }
    let listed = Listed { revision, entries, continue_token: String::new(), remaining: None };
    Ok(Answer::ok(Payload::List(resource.clone(), listed)).warn(resource.deprecation().into_iter().collect()))
}

async fn status(server: &Server, name: &str) -> ComponentStatus {
    let problem = match name {
        "etcd-0" => server.caches().store.get("/registry/health").await.err().map(|error| error.to_string()),
        component => lease_problem(server, &format!("kube-{component}")),
    };
    let condition = ComponentCondition {
        type_: "Healthy".to_owned(),
        status: if problem.is_none() { "True" } else { "False" }.to_owned(),
        message: problem.is_none().then(|| "ok".to_owned()),
        error: problem,
    };
    ComponentStatus {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        conditions: Some(vec![condition]),
    }
}

/// Why nobody can be leading under this lease now; `None` if somebody is.
fn lease_problem(server: &Server, name: &str) -> Option<String> {
    let Some(lease) = server.lookup().get::<Lease>("kube-system", name) else {
        return Some(format!("nobody has taken the lease kube-system/{name}"));
    };
    let spec = lease.spec.as_ref()?;
    let (Some(renewed), Some(seconds)) = (&spec.renew_time, spec.lease_duration_seconds) else {
        return Some(format!("the lease kube-system/{name} is free"));
    };
    let ends = renewed.0 + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    (ends < server.now()).then(|| format!("the lease kube-system/{name} was renewed last at {}", renewed.0))
}
