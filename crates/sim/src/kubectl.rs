//! The few kubectl commands that specs show, with kubectl's own output.

mod arguments;
mod table;

use std::sync::Arc;

use anyhow::{Result, bail};
use api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use api::call::PatchKind;
use api::{Body, Call, Object, Reply, Status, Verb};

use arguments::Arguments;

use crate::catalogue::{self, Found};
use crate::{Cluster, cluster};

/// Runs a command line and returns what it prints.
///
/// # Errors
/// If the command is not one of those that are built here. What the server refuses is printed.
pub async fn run(cluster: &Cluster, line: &str) -> Result<String> {
    let arguments = Arguments::parse(line)?;
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["kubectl", "get", resources, names @ ..] => get(cluster, &arguments, resources, names).await,
        ["kubectl", "scale", object] => scale(cluster, &arguments, object).await,
        ["kubectl", "scale", kind, name] => scale(cluster, &arguments, &format!("{kind}/{name}")).await,
        ["kubectl", "auth", "can-i", verb, resource] => can_i(cluster, &arguments, verb, resource).await,
        _ => bail!("{line:?} is not built: kubectl get, scale, auth can-i"),
    }
}

/// As kubectl tells a refusal.
fn refusal(status: &Status) -> String {
    format!("Error from server ({}): {}\n", status.reason(), status.message())
}

async fn get(cluster: &Cluster, arguments: &Arguments, resources: &str, names: &[&str]) -> Result<String> {
    let mut printed = String::new();
    if let Some((kind, name)) = resources.split_once('/') {
        let found = catalogue::named(kind)?;
        return one_kind(cluster, arguments, found, &[name], false).await;
    }
    let kinds: Vec<&str> = resources.split(',').collect();
    let several = kinds.len() > 1;
    for kind in kinds {
        let found = match catalogue::named(kind) {
            Ok(found) => found,
            Err(error) => return Ok(format!("{error}\n")),
        };
        let table = one_kind(cluster, arguments, found, names, several).await?;
        if several && table.starts_with("No resources found") {
            continue;
        }
        if !printed.is_empty() {
            printed.push('\n');
        }
        printed.push_str(&table);
    }
    Ok(printed)
}

async fn one_kind(
    cluster: &Cluster,
    arguments: &Arguments,
    found: Found,
    names: &[&str],
    with_kind: bool,
) -> Result<String> {
    let caller = arguments.caller();
    let namespace = (!arguments.all_namespaces).then_some(arguments.namespace.as_str());
    let mut objects: Vec<Arc<dyn Object>> = Vec::new();
    let mut errors = String::new();
    if names.is_empty() {
        let mut call = Call::new(Verb::List, found.target(namespace));
        call.options.label_selector = arguments.selector.clone();
        call.options.field_selector = arguments.field_selector.clone();
        match cluster.call(&caller, call).await {
            Ok(answer) => match answer.into_reply()? {
                Reply::List(list) => objects.extend(list.items),
                _ => bail!("not a list"),
            },
            Err(status) => return Ok(refusal(&status)),
        }
        if objects.is_empty() {
            return Ok(match namespace.filter(|_| found.namespaced()) {
                Some(namespace) => format!("No resources found in {namespace} namespace.\n"),
                None => "No resources found\n".to_owned(),
            });
        }
    }
    for name in names {
        match cluster.call(&caller, Call::new(Verb::Get, found.target(namespace).named(name))).await {
            Ok(answer) => match answer.into_reply()? {
                Reply::Object(object) => objects.push(object),
                _ => bail!("not an object"),
            },
            Err(status) => errors.push_str(&refusal(&status)),
        }
    }
    let options = table::Options {
        wide: arguments.output.as_deref() == Some("wide"),
        namespaces: arguments.all_namespaces && found.namespaced(),
        labels: arguments.show_labels,
        kind: with_kind,
    };
    let text = match arguments.output.as_deref() {
        None | Some("wide") => table::render(found, &objects, cluster.clock().now(), options),
        Some("name") => objects.iter().map(|object| format!("{}/{}\n", found.singular(), object.name())).collect(),
        Some(path) => match path.strip_prefix("jsonpath=") {
            Some(path) => json_path(path, &objects)?,
            None => bail!("-o {path} is not built: wide, name, jsonpath"),
        },
    };
    Ok(text + &errors)
}

/// `{.spec.replicas}` of each object, a line each. Only fields and indexes: no filters.
fn json_path(path: &str, objects: &[Arc<dyn Object>]) -> Result<String> {
    let path = path.trim_matches('\'').trim_start_matches('{').trim_end_matches('}');
    let escaped = path.replace("\\.", "\0");
    let steps: Vec<String> = escaped
        .split(['.', '['])
        .map(|step| step.trim_end_matches(']').replace('\0', "."))
        .filter(|step| !step.is_empty())
        .collect();
    let mut printed = String::new();
    for object in objects {
        let whole = object.to_value();
        let mut value = &whole;
        for step in &steps {
            value = match step.parse::<usize>() {
                Ok(index) if value.is_array() => &value[index],
                _ => &value[step.as_str()],
            };
        }
        match value {
            serde_json::Value::String(text) => printed.push_str(text),
            serde_json::Value::Null => {}
            other => printed.push_str(&other.to_string()),
        }
        printed.push('\n');
    }
    Ok(printed)
}

async fn scale(cluster: &Cluster, arguments: &Arguments, object: &str) -> Result<String> {
    let Some((kind, name)) = object.split_once('/') else { bail!("{object:?} is not KIND/NAME") };
    let Some(replicas) = arguments.replicas else { bail!("--replicas is missing") };
    let found = catalogue::named(kind)?;
    let target = found.target(Some(&arguments.namespace)).named(name).subresource("scale");
    let mut call = Call::new(Verb::Patch, target);
    let patch = serde_json::json!({"spec": {"replicas": replicas}}).to_string();
    call.body = Body::Patch(PatchKind::Merge, patch.into());
    Ok(match cluster.call(&arguments.caller(), call).await {
        Ok(_) => format!("{}/{name} scaled\n", found.singular()),
        Err(status) => refusal(&status),
    })
}

async fn can_i(cluster: &Cluster, arguments: &Arguments, verb: &str, resource: &str) -> Result<String> {
    let (resource, name) = resource.split_once('/').map_or((resource, None), |(resource, name)| (resource, Some(name)));
    let found = catalogue::named(resource)?;
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(found.kind().group.to_owned()),
        version: Some(found.kind().version.to_owned()),
        resource: Some(found.kind().plural.to_owned()),
        subresource: arguments.subresource.clone(),
        name: name.map(str::to_owned),
        namespace: found.namespaced().then(|| arguments.namespace.clone()),
        ..Default::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..Default::default()
    };
    let object: Arc<dyn Object> = Arc::new(review);
    let mut call = Call::new(Verb::Create, api::Target::kind(object.kind()));
    call.body = Body::Object(object);
    let answer = match cluster.call(&arguments.caller(), call).await {
        Ok(answer) => answer.into_reply()?,
        Err(status) => return Ok(refusal(&status)),
    };
    let Reply::Object(review) = answer else { bail!("a review is answered by an object") };
    let status = review.to_value()["status"].clone();
    let reason = status["reason"].as_str().unwrap_or_default();
    let error = status["evaluationError"].as_str().unwrap_or_default();
    Ok(if status["allowed"] == true {
        "yes\n".to_owned()
    } else {
        let reason = if reason.is_empty() { String::new() } else { format!(" - {reason}") };
        let error = if error.is_empty() { String::new() } else { format!(" - {error}") };
        format!("no{reason}{error}\n")
    })
}

/// Who runs a command that does not say.
fn default_caller() -> Arc<apiserver::Caller> {
    cluster::admin()
}
