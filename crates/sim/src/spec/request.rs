//! An `http` block as a call: `GET /api/v1/namespaces/default/pods?limit=2`, headers, an empty line, a body.

use anyhow::{Context, Result, bail};
use api::call::{FieldValidation, PatchKind};
use api::meta::v1::DeleteOptions;
use api::{Body, Call, Status, Target, Verb};
use apiserver::http::Query;
use serde_json::Value;

/// The parameters that a spec may use.
const PARAMETERS: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "dryRun",
    "fieldManager",
    "fieldSelector",
    "fieldValidation",
    "force",
    "gracePeriodSeconds",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];

/// Reads a block, its parameters as the server does: a Status says what is wrong with them. `${a.b}` is replaced by
/// that field of the answer before.
///
/// # Errors
/// If it is no request, or the answer has no such field.
pub fn parse(text: &str, before: &Value) -> Result<Result<Call, Status>> {
    let text = fill_in(text, before)?;
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let mut lines = head.lines();
    let (method, url) = lines.next().and_then(|line| line.split_once(' ')).context("no `METHOD /path`")?;
    let (path, query) = url.trim().split_once('?').unwrap_or((url.trim(), ""));
    let mut content_type = "application/json";
    for line in lines {
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-type") => content_type = value.trim(),
            _ => bail!("unknown header {line:?}"),
        }
    }
    let target = target(path)?;
    let verb = match (method, target.name.is_some()) {
        ("WATCH", _) => Verb::Watch,
        ("GET", true) => Verb::Get,
        ("GET", false) => Verb::List,
        ("POST", _) => Verb::Create,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch,
        ("DELETE", true) => Verb::Delete,
        ("DELETE", false) => Verb::DeleteCollection,
        _ => bail!("unknown method {method:?}"),
    };
    let unknown = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| !PARAMETERS.contains(&&**key));
    if let Some((key, _)) = unknown {
        bail!("unknown parameter {key:?}");
    }
    let query = Query::parse(Some(query));
    let mut call = Call::new(verb, target);
    let (options, delete) = match (query.options(verb), query.delete_options()) {
        (Ok(options), Ok(delete)) => (options, delete),
        (Err(status), _) | (_, Err(status)) => return Ok(Err(status)),
    };
    call.options = options;
    let bytes = bytes_of(body);
    call.body = match verb {
        Verb::Patch => Body::Patch(patch_kind(content_type)?, bytes),
        Verb::Delete | Verb::DeleteCollection if body.trim().is_empty() => Body::Delete(Box::new(delete)),
        Verb::Delete | Verb::DeleteCollection => {
            let delete: DeleteOptions = serde_json::from_str(body)?;
            call.options.dry_run |= delete.dry_run.as_ref().is_some_and(|asked| !asked.is_empty());
            Body::Delete(Box::new(delete))
        }
        Verb::Create | Verb::Update if content_type == "application/yaml" => Body::Yaml(bytes),
        Verb::Create | Verb::Update if !body.trim().is_empty() => Body::Json(bytes),
        _ => Body::None,
    };
    Ok(Ok(call))
}

/// The resource of a block's path, whatever else it says.
pub fn target_of(text: &str) -> Option<Target> {
    let (_, url) = text.lines().next()?.split_once(' ')?;
    target(url.trim().split('?').next()?).ok()
}

fn bytes_of(body: &str) -> bytes::Bytes {
    bytes::Bytes::from(body.to_owned())
}

fn patch_kind(content_type: &str) -> Result<PatchKind> {
    Ok(match content_type {
        "application/json-patch+json" => PatchKind::Json,
        "application/merge-patch+json" => PatchKind::Merge,
        "application/strategic-merge-patch+json" => PatchKind::Strategic,
        "application/apply-patch+yaml" => PatchKind::Apply,
        other => bail!("unknown patch type {other:?}"),
    })
}

fn fill_in(text: &str, before: &Value) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((start, after)) = rest.split_once("${") {
        let (path, end) = after.split_once('}').context("`${` has no end")?;
        let pointer = format!("/{}", path.replace('.', "/"));
        let value = before.pointer(&pointer).with_context(|| format!("the answer before has no {path}"))?;
        filled.push_str(start);
        match value {
            Value::String(text) => filled.push_str(text),
            other => filled.push_str(&other.to_string()),
        }
        rest = end;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn target(path: &str) -> Result<Target> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, below) = match segments.as_slice() {
        ["api", version, below @ ..] => ("", *version, below),
        ["apis", group, version, below @ ..] => (*group, *version, below),
        _ => bail!("{path} is not the path of a resource"),
    };
    let (namespace, resource, name, subresource) = match below {
        ["namespaces"] => (None, "namespaces", None, None),
        ["namespaces", name] => (None, "namespaces", Some(*name), None),
        ["namespaces", name, sub @ ("status" | "finalize")] => (None, "namespaces", Some(*name), Some(*sub)),
        ["namespaces", namespace, resource] => (Some(*namespace), *resource, None, None),
        ["namespaces", namespace, resource, name] => (Some(*namespace), *resource, Some(*name), None),
        ["namespaces", namespace, resource, name, sub] => (Some(*namespace), *resource, Some(*name), Some(*sub)),
        [resource] => (None, *resource, None, None),
        [resource, name] => (None, *resource, Some(*name), None),
        [resource, name, sub] => (None, *resource, Some(*name), Some(*sub)),
        _ => bail!("{path} is not the path of a resource"),
    };
    Ok(Target {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        resource: resource.to_owned().into(),
        subresource: subresource.map(|subresource| subresource.to_owned().into()),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
    })
}

/// `Ignore`, `Warn` or `Strict`.
///
/// # Errors
/// If it is another word.
pub fn validation(text: &str) -> Result<FieldValidation> {
    Ok(match text {
        "Ignore" => FieldValidation::Ignore,
        "Warn" => FieldValidation::Warn,
        "Strict" => FieldValidation::Strict,
        other => bail!("unknown field validation {other:?}"),
    })
}
