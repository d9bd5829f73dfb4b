//! Acting as somebody else: the `Impersonate-*` headers, each of which the caller must be allowed.
//!
//! Upstream: apiserver/pkg/endpoints/filters/impersonation.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::service_account::{groups as service_account_groups, split_username};
use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use crate::authz::{Attributes, What};
use crate::{Caller, Server};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// One thing to be: what must be allowed before.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    group: &'static str,
    resource: &'static str,
    subresource: String,
    namespace: String,
    name: String,
}

/// The caller that the headers ask for; `caller` itself if they do not.
///
/// # Errors
/// 403 for what `caller` may not be; 400 for groups, UID or extra without a user.
pub async fn impersonate(server: &Server, caller: &Arc<Caller>, headers: &HeaderMap) -> Result<Arc<Caller>, Status> {
    let Some((wishes, wanted)) = read(headers)? else { return Ok(caller.clone()) };
    for wish in &wishes {
        let what = What::Resource {
            group: wish.group,
            version: "v1",
            resource: wish.resource,
            subresource: &wish.subresource,
            namespace: &wish.namespace,
            name: &wish.name,
            field_selector: None,
            label_selector: None,
        };
        server.authorize(&Attributes { caller, verb: "impersonate", what }).await?;
    }
    Ok(Arc::new(wanted))
}

fn read(headers: &HeaderMap) -> Result<Option<(Vec<Wish>, Caller)>, Status> {
    let one = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wish = |group, resource, name: &str| Wish {
        group,
        resource,
        subresource: String::new(),
        namespace: String::new(),
        name: name.to_owned(),
    };
    let mut wishes = Vec::new();
    let mut wanted = Caller { name: one(USER).to_owned(), uid: one(UID).to_owned(), ..Caller::default() };
    let account = split_username(&wanted.name);
    match account {
        Some((namespace, name)) => {
            wishes.push(Wish { namespace: namespace.to_owned(), ..wish("", "serviceaccounts", name) });
        }
        None if !wanted.name.is_empty() => wishes.push(wish("", "users", &wanted.name)),
        None => {}
    }
    for group in headers.get_all(GROUP).iter().filter_map(|value| value.to_str().ok()) {
        wishes.push(wish("", "groups", group));
        wanted.groups.push(group.to_owned());
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA_PREFIX) else { continue };
        let Ok(value) = value.to_str() else { continue };
        let key = percent_decode_str(key).decode_utf8_lossy().to_lowercase();
        wishes.push(Wish { subresource: key.clone(), ..wish(AUTHENTICATION, "userextras", value) });
        extra.entry(key).or_default().push(value.to_owned());
    }
    wanted.extra = extra;
    if !wanted.uid.is_empty() {
        wishes.push(wish(AUTHENTICATION, "uids", &wanted.uid));
    }
    if wishes.is_empty() {
        return Ok(None);
    }
    if wanted.name.is_empty() {
        return Err(Status::bad_request(format!("requested {} without impersonating a user", shown(&wishes))));
    }
    if let (Some((namespace, _)), true) = (account, wanted.groups.is_empty()) {
        wanted.groups = service_account_groups(namespace);
    }
    let known = wanted.is_in(AUTHENTICATED) || wanted.is_in(UNAUTHENTICATED);
    if wanted.name == ANONYMOUS && !wanted.is_in(UNAUTHENTICATED) {
        wanted.groups.push(UNAUTHENTICATED.to_owned());
    } else if wanted.name != ANONYMOUS && !known {
        wanted.groups.push(AUTHENTICATED.to_owned());
    }
    Ok(Some((wishes, wanted)))
}

fn shown(wishes: &[Wish]) -> String {
    let each: Vec<String> = wishes.iter().map(|wish| format!("{} {:?}", wish.resource, wish.name)).collect();
    format!("[{}]", each.join(", "))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn each_header_is_a_wish() {
        assert!(read(&headers(&[("accept", "*/*")])).unwrap().is_none());
        let (wishes, caller) = read(&headers(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme.com%2fscopes", "view"),
        ]))
        .unwrap()
        .unwrap();
        assert_eq!((caller.name.as_str(), caller.uid.as_str()), ("jane", "7"));
        assert_eq!(caller.groups, ["dev", "ops", AUTHENTICATED]);
        assert_eq!(caller.extra["acme.com/scopes"], ["view"]);
        let asked: Vec<_> = wishes.iter().map(|w| (w.resource, w.subresource.as_str(), w.name.as_str())).collect();
        let extra = ("userextras", "acme.com/scopes", "view");
        assert_eq!(
            asked,
            [("users", "", "jane"), ("groups", "", "dev"), ("groups", "", "ops"), extra, ("uids", "", "7")]
        );
    }

    #[test]
    fn a_service_account_brings_its_groups() {
        let user = ("impersonate-user", "system:serviceaccount:ns:web");
        let (wishes, caller) = read(&headers(&[user])).unwrap().unwrap();
        assert_eq!((wishes[0].resource, wishes[0].namespace.as_str()), ("serviceaccounts", "ns"));
        assert_eq!(caller.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]);
    }

    #[test]
    fn the_anonymous_stay_so() {
        let (_, caller) = read(&headers(&[("impersonate-user", ANONYMOUS)])).unwrap().unwrap();
        assert_eq!(caller.groups, [UNAUTHENTICATED]);
    }

    #[test]
    fn a_group_alone_is_nobody() {
        let status = read(&headers(&[("impersonate-group", "dev")])).unwrap_err();
        assert!(status.message().contains("without impersonating a user"), "{status}");
    }
}
