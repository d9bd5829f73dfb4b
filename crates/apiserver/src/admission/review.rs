//! AdmissionReview: what a webhook is asked, and what its answer means. Pure.

use std::collections::BTreeMap;

use api::patch::{self, PatchError};
use api::{Object, Status};
use base64::Engine;
use serde_json::{Value, json};

use super::matching::Form;
use super::{Operation, Request};

const GROUP: &str = "admission.k8s.io";

/// The versions that are spoken, as `admissionReviewVersions` names them.
pub fn version(asked: &[String]) -> Option<&'static str> {
    asked.iter().find_map(|version| match version.as_str() {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    })
}

fn kind_of(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn resource_of(group: &str, version: &str, resource: &str) -> Value {
    json!({"group": group, "version": version, "resource": resource})
}

/// The request as a webhook or an expression sees it, without the objects and the uid.
pub fn request(request: &Request<'_>, form: &Form) -> Value {
    let connect = request.connect.as_ref().and_then(|options| options["kind"].as_str());
    let own = match connect {
        Some(kind) => kind_of("", "v1", kind),
        None => kind_of(request.kind.group, request.kind.version, request.kind.kind),
    };
    let shown = match &form.converted {
        Some(other) if request.subresource.is_empty() || is_whole(request.subresource) => {
            kind_of(other.group(), other.kind().version, other.kind().kind)
        }
        _ => own.clone(),
    };
    let caller = request.caller;
    let mut user = json!({"username": caller.name, "groups": caller.groups});
    if !caller.uid.is_empty() {
        user["uid"] = caller.uid.as_str().into();
    }
    if !caller.extra.is_empty() {
        user["extra"] = json!(caller.extra);
    }
    let mut out = json!({
        "kind": shown,
        "resource": resource_of(form.group, form.version, form.resource),
    });
    let mut optional = |name: &str, text: &str| {
        if !text.is_empty() {
            out[name] = text.into();
        }
    };
    optional("subResource", request.subresource);
    out["requestKind"] = own;
    out["requestResource"] = resource_of(request.group, request.version, request.resource);
    let mut optional = |name: &str, text: &str| {
        if !text.is_empty() {
            out[name] = text.into();
        }
    };
    optional("requestSubResource", request.subresource);
    optional("name", request.name);
    optional("namespace", request.namespace);
    out["operation"] = request.operation.as_str().into();
    out["userInfo"] = user;
    out["dryRun"] = request.dry_run.into();
    out["options"] = options(request);
    out
}

/// Subresources whose body is the whole object.
fn is_whole(subresource: &str) -> bool {
    matches!(subresource, "status" | "finalize" | "ephemeralcontainers" | "resize")
}

/// The options of the operation as an object.
fn options(request: &Request<'_>) -> Value {
    let kind = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut out = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if let Some(delete) = request.delete_options
        && let Ok(Value::Object(fields)) = serde_json::to_value(delete)
    {
        for (name, value) in fields {
            if !matches!(name.as_str(), "kind" | "apiVersion") && !value.is_null() {
                out[name] = value;
            }
        }
    }
    if request.dry_run {
        out["dryRun"] = json!(["All"]);
    }
    if request.operation != Operation::Delete
        && let Some(own) = request.options
    {
        if let Some(manager) = &own.field_manager {
            out["fieldManager"] = manager.as_str().into();
        }
        out["fieldValidation"] = format!("{:?}", own.field_validation).into();
    }
    out
}

/// The new and the old object in the form that is asked for.
///
/// # Errors
/// 500 if there is no conversion.
pub fn objects(request: &Request<'_>, form: &Form) -> Result<(Value, Value), Status> {
    let convert = |object: &dyn Object| match &form.converted {
        Some(other) => super::conversion::to(request, object, other).map(|object| object.to_value()),
        None => Ok(object.to_value()),
    };
    let new = match (&request.object, &request.connect) {
        (Some(object), _) => convert(&***object)?,
        (None, Some(options)) => options.clone(),
        (None, None) => Value::Null,
    };
    let old = request.old.map_or(Ok(Value::Null), |old| convert(&**old))?;
    Ok((new, old))
}

/// The whole body of the call.
pub fn body(version: &str, uid: &str, request: &Value, objects: &(Value, Value)) -> Vec<u8> {
    let mut inner = serde_json::Map::new();
    inner.insert("uid".to_owned(), uid.into());
    if let Value::Object(fields) = request {
        inner.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    inner.insert("object".to_owned(), objects.0.clone());
    inner.insert("oldObject".to_owned(), objects.1.clone());
    let options = inner.shift_remove("options").unwrap_or_default();
    inner.insert("options".to_owned(), options);
    let review = json!({"kind": "AdmissionReview", "apiVersion": format!("{GROUP}/{version}"), "request": inner});
    review.to_string().into_bytes()
}

/// What a webhook said.
#[derive(Debug, Default, PartialEq)]
pub struct Said {
    pub allowed: bool,
    /// With what status it refused.
    pub result: Option<Value>,
    /// A JSON patch.
    pub patch: Vec<u8>,
    pub annotations: BTreeMap<String, String>,
    pub warnings: Vec<String>,
}

/// Why an answer is not one.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Bad {
    #[error("failed to call webhook: {0}")]
    Undecodable(String),
    #[error("received invalid webhook response: {0}")]
    Invalid(String),
}

/// Reads an answer.
///
/// # Errors
/// [`Bad`], in upstream's words.
pub fn read(version: &str, uid: &str, mutating: bool, bytes: &[u8]) -> Result<Said, Bad> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Bad::Undecodable(format!("couldn't get version/kind; json parse error: {error}")))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&value["apiVersion"]), text(&value["kind"]));
    if kind.is_empty() {
        return Err(Bad::Undecodable("Object 'Kind' is missing in the webhook's response".to_owned()));
    }
    let expected = format!("{GROUP}/{version}");
    if (api_version.as_str(), kind.as_str()) != (expected.as_str(), "AdmissionReview") {
        return Err(Bad::Invalid(format!(
            "expected webhook response of {expected}, Kind=AdmissionReview, got {api_version}, Kind={kind}"
        )));
    }
    let response = match &value["response"] {
        Value::Object(_) => &value["response"],
        _ => return Err(Bad::Invalid("webhook response was absent".to_owned())),
    };
    let own = text(&response["uid"]);
    if version == "v1" && own != uid {
        return Err(Bad::Invalid(format!("expected response.uid={uid:?}, got {own:?}")));
    }
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    Ok(Said {
        allowed: response["allowed"].as_bool().unwrap_or_default(),
        result: Some(&response["status"]).filter(|status| status.is_object()).cloned(),
        patch: patch_of(response, version, mutating)?,
        annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
        warnings: response["warnings"].as_array().into_iter().flatten().map(text).collect(),
    })
}

fn patch_of(response: &Value, version: &str, mutating: bool) -> Result<Vec<u8>, Bad> {
    let encoded = response["patch"].as_str().unwrap_or_default();
    let kind = response["patchType"].as_str();
    if !mutating {
        return Ok(Vec::new());
    }
    match (encoded.is_empty(), kind) {
        (true, None) => return Ok(Vec::new()),
        (true, Some(_)) if version == "v1" => {
            return Err(Bad::Invalid("webhook returned response.patchType but not response.patch".to_owned()));
        }
        (true, Some(_)) => return Ok(Vec::new()),
        (false, None) if version == "v1" => {
            return Err(Bad::Invalid("webhook returned response.patch but not response.patchType".to_owned()));
        }
        (false, Some(kind)) if kind != "JSONPatch" => {
            return Err(Bad::Invalid(format!("webhook returned invalid response.patchType of {kind:?}")));
        }
        (false, _) => {}
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
    decoded.map_err(|error| Bad::Undecodable(format!("illegal base64 data in response.patch: {error}")))
}

/// A refusal as the client sees it.
pub fn refusal(name: &str, result: Option<&Value>) -> Status {
    let denied = format!("admission webhook {name:?} denied the request");
    let read = result.and_then(|result| serde_json::from_value::<api::meta::v1::Status>(result.clone()).ok());
    let mut status = read.unwrap_or_default();
    status.status = Some("Failure".to_owned());
    status.code = Some(status.code.filter(|code| *code >= 400).unwrap_or(400));
    let why = [status.message.as_deref(), status.reason.as_deref()];
    let why = why.into_iter().flatten().find(|text| !text.is_empty());
    status.message = Some(match why {
        Some(why) => format!("{denied}: {why}"),
        None => format!("{denied} without explanation"),
    });
    Status::of(status)
}

/// Applies a patch; `None` if it asks for nothing.
///
/// # Errors
/// What is wrong with the patch.
pub fn patched(object: Value, text: &[u8]) -> Result<Option<Value>, PatchError> {
    if serde_json::from_slice::<Vec<Value>>(text).is_ok_and(|operations| operations.is_empty()) {
        return Ok(None);
    }
    patch::json(object, text).map(|patched| Some(patched.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Vec<u8> {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn answers_are_checked() {
        let said = |response| read("v1", "u", true, &answer(response)).map_err(|bad| bad.to_string());
        let invalid = |why: &str| Err(format!("received invalid webhook response: {why}"));
        assert!(said(json!({"uid": "u", "allowed": true})).unwrap().allowed);
        assert_eq!(said(json!({"uid": "x", "allowed": true})), invalid("expected response.uid=\"u\", got \"x\""));
        assert_eq!(said(Value::Null), invalid("webhook response was absent"));
        let patch = json!({"uid": "u", "allowed": true, "patch": "W10="});
        assert_eq!(said(patch), invalid("webhook returned response.patch but not response.patchType"));
        let patch = json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "Merge"});
        assert_eq!(said(patch), invalid("webhook returned invalid response.patchType of \"Merge\""));
        let patch = json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"});
        assert_eq!(said(patch).unwrap().patch, b"[]");
        let other = br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","response":{}}"#;
        assert_eq!(
            read("v1", "u", true, other).unwrap_err().to_string(),
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, \
             Kind=AdmissionReview, got admission.k8s.io/v1beta1, Kind=AdmissionReview"
        );
    }

    #[test]
    fn refusals_say_who_refused() {
        let status = refusal("a.b.c", None);
        assert_eq!(status.message(), "admission webhook \"a.b.c\" denied the request without explanation");
        assert_eq!(status.code(), 400);
        let status = refusal("a.b.c", Some(&json!({"message": "no", "code": 403, "reason": "Forbidden"})));
        assert_eq!(status.message(), "admission webhook \"a.b.c\" denied the request: no");
        assert_eq!((status.code(), status.reason()), (403, "Forbidden"));
    }
}
