//! Reads: one object, and lists. A read sees every write answered before it.

use std::sync::Arc;

use api::status::Reason;
use api::{Call, FieldErrors, Options, Path, Status, Target};

use crate::Server;
use crate::answer::{Answer, Payload};
use crate::cache::{Cache, Entry, ListAt, ListOptions, Paging};
use crate::catalog::Resource;

/// The object under a key as the store has it now.
pub async fn current(server: &Server, cache: &Cache, key: &str) -> Result<Option<Arc<Entry>>, Status> {
    let found = server.caches().store.get(key).await.map_err(crate::status::of_store)?;
    match found.value {
        Some(stored) => cache.entry_of(&stored).await.map(Some),
        None => Ok(None),
    }
}

/// One object.
pub async fn get(
    server: &Server,
    resource: &Arc<Resource>,
    target: &Target,
    options: &Options,
) -> Result<Answer, Status> {
    let cache = resource.cache("get")?;
    if let Some(asked) = revision(options.resource_version.as_deref())? {
        server.caches().wait_for(asked).await?;
    }
    let namespace = if resource.namespaced() { target.namespace.as_deref().unwrap_or_default() } else { "" };
    let name = target.name.as_deref().unwrap_or_default();
    let entry = current(server, cache, &cache.key(namespace, name)).await?;
    let entry = entry.ok_or_else(|| resource.not_found(name))?;
    // Metadata is the same in every version.
    let entry = if options.metadata_of.is_some() { entry } else { resource.served_one(server, entry).await? };
    Ok(Answer::ok(Payload::Entry(resource.clone(), entry)).warn(resource.deprecation().into_iter().collect()))
}

/// A collection, or a page of it.
pub async fn list(server: &Server, resource: &Arc<Resource>, call: &Call) -> Result<Answer, Status> {
    let cache = resource.cache("list")?;
    let options = list_options(server, resource, call)?;
    let mut listed = server.caches().list(cache, &options).await?;
    if call.options.metadata_of.is_none() {
        listed.entries = resource.served(server, listed.entries).await?;
    }
    Ok(Answer::ok(Payload::List(resource.clone(), listed)).warn(resource.deprecation().into_iter().collect()))
}

/// The parameters of a list, checked.
pub fn list_options(server: &Server, resource: &Resource, call: &Call) -> Result<ListOptions, Status> {
    let options = &call.options;
    check_list_options(options)?;
    let paging = options.continue_token.as_deref().filter(|token| !token.is_empty()).map(Paging::parse).transpose()?;
    let asked = revision(options.resource_version.as_deref())?;
    if paging.is_some() && asked.is_some_and(|asked| asked != 0) {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    // With a limit, a version without a match has always meant exactly that one.
    let exact = match given(&options.resource_version_match) {
        Some(matching) => matching == "Exact",
        None => options.limit.is_some_and(|limit| limit > 0),
    };
    let at = match asked {
        None => ListAt::Latest,
        Some(0) => ListAt::Any,
        Some(asked) if exact => ListAt::Exact(asked),
        Some(asked) => ListAt::NotOlderThan(asked),
    };
    // From a cache that may be old, upstream serves the whole list whatever the limit.
    let limited = asked != Some(0) || paging.is_some();
    let limit = options.limit.filter(|_| limited).and_then(|limit| usize::try_from(limit).ok());
    Ok(ListOptions { filter: server.filter(resource, call)?, at, limit, paging })
}

/// A `resourceVersion` parameter; `None` if absent.
///
/// # Errors
/// 500 without a reason if it is no number, as upstream answers.
pub fn revision(text: Option<&str>) -> Result<Option<u64>, Status> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if let (true, Ok(revision)) = (digits, text.parse()) {
        return Ok(Some(revision));
    }
    let why = if digits { "value out of range" } else { "invalid syntax" };
    let mut errors = FieldErrors::new();
    let path = Path::new("resourceVersion");
    errors.invalid(&path, text, format!("strconv.ParseUint: parsing {text:?}: {why}"));
    Err(Status::unexplained(errors.to_string()))
}

fn options_invalid(errors: FieldErrors) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors)) }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// Upstream's `ValidateListOptions`.
fn check_list_options(options: &Options) -> Result<(), Status> {
    let mut errors = FieldErrors::new();
    let path = Path::new("resourceVersionMatch");
    if let Some(matching) = given(&options.resource_version_match) {
        let asked = given(&options.resource_version);
        if asked.is_none() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if given(&options.continue_token).is_some() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.not_supported(&path, matching, &["Exact", "NotOlderThan", ""]);
        }
        if matching == "Exact" && asked == Some("0") {
            errors.forbidden(&path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
    }
    if options.send_initial_events.is_some() {
        errors.forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
    }
    options_invalid(errors)
}

/// Upstream's `validateWatchOptions`.
///
/// # Errors
/// 422 with all problems.
pub fn check_watch_options(options: &Options) -> Result<(), Status> {
    let mut errors = FieldErrors::new();
    let path = Path::new("resourceVersionMatch");
    let matching = given(&options.resource_version_match);
    if options.send_initial_events.is_some() && matching != Some("NotOlderThan") {
        errors.forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if let Some(matching) = matching {
        if options.send_initial_events.is_none() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        }
        if matching != "NotOlderThan" {
            errors.not_supported(&path, matching, &["NotOlderThan"]);
        }
        if given(&options.continue_token).is_some() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
    }
    options_invalid(errors)
}

/// Fails with the given reason's code and no more than a message.
pub fn plain(reason: Reason, message: &str) -> Status {
    let mut status = Status::failure(reason, message);
    status.0.reason = None;
    status
}
