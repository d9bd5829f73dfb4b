//! Acting as somebody else: the `Impersonate-*` headers, each of which must be allowed to the one who sends them.

use std::sync::Arc;

use api::{Reason, Status};
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::authn::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use crate::authz::{Attributes, What};
use crate::{Caller, Server};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// The caller, or whom it acts as.
///
/// # Errors
/// 403 if it may not; 400 if the headers name no user.
pub fn impersonate(server: &Server, caller: Arc<Caller>, headers: &HeaderMap) -> Result<Arc<Caller>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(caller);
    }
    let text = |value: &http::HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    let mut wanted = Caller {
        name: headers.get(USER).map(text).unwrap_or_default(),
        uid: headers.get(UID).map(text).unwrap_or_default(),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        ..Caller::default()
    };
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
        wanted.extra.entry(key).or_default().push(text(value));
    }
    if wanted.name.is_empty() {
        let why = "impersonating groups, uids or extra requires impersonating a user";
        return Err(Status::failure(Reason::InternalError, why));
    }
    check(server, &caller, &wanted)?;
    complete(&mut wanted);
    Ok(Arc::new(wanted))
}

fn check(server: &Server, caller: &Caller, wanted: &Caller) -> Result<(), Status> {
    let allowed = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let what = What::Resource {
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            field_selector: None,
            label_selector: None,
        };
        server.authorize(&Attributes { caller, verb: "impersonate", what })
    };
    match service_account(&wanted.name) {
        Some((namespace, name)) => allowed("", "serviceaccounts", "", namespace, name)?,
        None => allowed("", "users", "", "", &wanted.name)?,
    }
    for group in &wanted.groups {
        allowed("", "groups", "", "", group)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            allowed("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    if !wanted.uid.is_empty() {
        allowed("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    Ok(())
}

fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')
}

/// The groups everyone of that kind has.
fn complete(wanted: &mut Caller) {
    if let (true, Some((namespace, _))) = (wanted.groups.is_empty(), service_account(&wanted.name)) {
        wanted.groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let everyone = if wanted.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !wanted.is_in(everyone) && !wanted.is_in(UNAUTHENTICATED) {
        wanted.groups.push(everyone.to_owned());
    }
}
