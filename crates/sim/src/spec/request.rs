//! An `http` block as a call: `GET /api/v1/namespaces/default/pods?limit=2`, headers, an empty line, a body.

use anyhow::{Context, Result, bail};
use api::call::{FieldValidation, PatchKind};
use api::meta::v1::DeleteOptions;
use api::{Body, Call, Options, Target, Verb};
use serde_json::Value;

/// Reads a block. `${a.b}` is replaced by that field of the answer before.
///
/// # Errors
/// If it is no request, or the answer has no such field.
pub fn parse(text: &str, before: &Value) -> Result<Call> {
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
    let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
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
    let mut call = Call::new(verb, target);
    let mut delete = DeleteOptions::default();
    for (key, value) in &query {
        option(&mut call.options, &mut delete, key, value)?;
    }
    let bytes = bytes_of(body);
    call.body = match verb {
        Verb::Patch => Body::Patch(patch_kind(content_type)?, bytes),
        Verb::Delete | Verb::DeleteCollection if body.trim().is_empty() => Body::Delete(Box::new(delete)),
        Verb::Delete | Verb::DeleteCollection => Body::Delete(Box::new(serde_json::from_str(body)?)),
        Verb::Create | Verb::Update if content_type == "application/yaml" => Body::Yaml(bytes),
        Verb::Create | Verb::Update if !body.trim().is_empty() => Body::Json(bytes),
        _ => Body::None,
    };
    Ok(call)
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

fn option(options: &mut Options, delete: &mut DeleteOptions, key: &str, value: &str) -> Result<()> {
    let text = || Some(value.to_owned());
    match key {
        "labelSelector" => options.label_selector = text(),
        "fieldSelector" => options.field_selector = text(),
        "resourceVersion" => options.resource_version = text(),
        "resourceVersionMatch" => options.resource_version_match = text(),
        "limit" => options.limit = Some(value.parse()?),
        "continue" => options.continue_token = text(),
        "timeoutSeconds" => options.timeout_seconds = Some(value.parse()?),
        "allowWatchBookmarks" => options.allow_watch_bookmarks = value == "true",
        "sendInitialEvents" => options.send_initial_events = Some(value == "true"),
        "dryRun" => options.dry_run = value == "All",
        "fieldManager" => options.field_manager = text(),
        "force" => options.force = value == "true",
        "gracePeriodSeconds" => delete.grace_period_seconds = Some(value.parse()?),
        "propagationPolicy" => delete.propagation_policy = text(),
        "fieldValidation" => options.field_validation = validation(value)?,
        _ => bail!("unknown parameter {key:?}"),
    }
    Ok(())
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
