//! A question and its answer as the webhook sees them.
//!
//! Pure.

use std::sync::LazyLock;

use api::selector::{FieldOperator, Operator};
use api::{FieldSelector, LabelSelector};
use cel::{ObjectType, Type};
use serde_json::{Map, Value, json};

use super::super::{Attributes, Decision, What};

/// Which SubjectAccessReview the webhook speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V1Beta1,
}

/// The type of the variable `request` of conditions.
pub static SPEC: LazyLock<Type> = LazyLock::new(|| {
    let object = |name: &str, fields: &[(&str, Type)]| {
        let fields = fields.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone()));
        Type::object(ObjectType::plain(name, fields))
    };
    let text = Type::STRING;
    let selector = |what: &str| {
        let requirement = object(
            &format!("kubernetes.{what}SelectorRequirement"),
            &[("key", text.clone()), ("operator", text.clone()), ("values", Type::list(text.clone()))],
        );
        let fields = [("rawSelector", text.clone()), ("requirements", Type::list(requirement))];
        object(&format!("kubernetes.{what}SelectorAttributes"), &fields)
    };
    let resource = object(
        "kubernetes.ResourceAttributes",
        &[
            ("namespace", text.clone()),
            ("verb", text.clone()),
            ("group", text.clone()),
            ("version", text.clone()),
            ("resource", text.clone()),
            ("subresource", text.clone()),
            ("name", text.clone()),
            ("fieldSelector", selector("Field")),
            ("labelSelector", selector("Label")),
        ],
    );
    let path = object("kubernetes.NonResourceAttributes", &[("path", text.clone()), ("verb", text.clone())]);
    object(
        "kubernetes.SubjectAccessReviewSpec",
        &[
            ("resourceAttributes", resource),
            ("nonResourceAttributes", path),
            ("user", text.clone()),
            ("groups", Type::list(text.clone())),
            ("extra", Type::map(Type::STRING, Type::list(text.clone()))),
            ("uid", text),
        ],
    )
});

/// The review that is sent; what is empty is left out.
pub fn question(attributes: &Attributes<'_>, version: Version) -> Value {
    let caller = attributes.caller;
    let mut spec = Map::new();
    match attributes.what {
        What::Path(path) => {
            spec.insert("nonResourceAttributes".into(), some([("path", path), ("verb", attributes.verb)]).into());
        }
        What::Resource { .. } => {
            spec.insert("resourceAttributes".into(), resource(attributes, true).into());
        }
    }
    if !caller.name.is_empty() {
        spec.insert("user".into(), caller.name.clone().into());
    }
    if !caller.groups.is_empty() {
        let groups = if version == Version::V1 { "groups" } else { "group" };
        spec.insert(groups.into(), caller.groups.clone().into());
    }
    if !caller.extra.is_empty() {
        spec.insert("extra".into(), json!(caller.extra));
    }
    if !caller.uid.is_empty() {
        spec.insert("uid".into(), caller.uid.clone().into());
    }
    let version = if version == Version::V1 { "v1" } else { "v1beta1" };
    json!({
        "kind": "SubjectAccessReview",
        "apiVersion": format!("authorization.k8s.io/{version}"),
        "metadata": {"creationTimestamp": null},
        "spec": spec,
        "status": {"allowed": false},
    })
}

/// The spec as conditions see it: texts are there also when they are empty.
pub fn for_conditions(attributes: &Attributes<'_>) -> Value {
    let caller = attributes.caller;
    let mut spec = json!({
        "user": caller.name, "groups": caller.groups, "uid": caller.uid, "extra": caller.extra,
    });
    match attributes.what {
        What::Path(path) => spec["nonResourceAttributes"] = json!({"path": path, "verb": attributes.verb}),
        What::Resource { .. } => spec["resourceAttributes"] = resource(attributes, false).into(),
    }
    spec
}

fn some<const N: usize>(fields: [(&str, &str); N]) -> Map<String, Value> {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    fields.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn resource(attributes: &Attributes<'_>, sparse: bool) -> Map<String, Value> {
    let What::Resource {
        group, version, resource, subresource, namespace, name, field_selector, label_selector, ..
    } = attributes.what
    else {
        return Map::new();
    };
    let fields = [
        ("namespace", namespace),
        ("verb", attributes.verb),
        ("group", group),
        ("version", version),
        ("resource", resource),
        ("subresource", subresource),
        ("name", name),
    ];
    let fields = fields.into_iter().filter(|(_, value)| !sparse || !value.is_empty());
    let mut all: Map<String, Value> = fields.map(|(name, value)| (name.to_owned(), value.into())).collect();
    // A selector that cannot be read narrows nothing down for the webhook.
    let selectors =
        [("fieldSelector", field_selector.and_then(fields_of)), ("labelSelector", label_selector.and_then(labels_of))];
    for (name, requirements) in selectors {
        if let Some(requirements) = requirements.filter(|list| !list.is_empty()) {
            all.insert(name.into(), json!({"requirements": requirements}));
        }
    }
    all
}

fn fields_of(text: &str) -> Option<Vec<Value>> {
    let selector = FieldSelector::parse(text).ok()?;
    let term = |term: &api::selector::FieldTerm| {
        let operator = if term.operator == FieldOperator::Equals { "In" } else { "NotIn" };
        json!({"key": term.path, "operator": operator, "values": [term.value]})
    };
    Some(selector.terms().iter().map(term).collect())
}

fn labels_of(text: &str) -> Option<Vec<Value>> {
    let selector = LabelSelector::parse(text).ok()?;
    let mut all = Vec::new();
    for one in selector.requirements() {
        let operator = match one.operator {
            Operator::Equals { .. } | Operator::In => "In",
            Operator::NotEquals | Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            // These have no word in a review: leaving one out narrows less, never more.
            Operator::GreaterThan | Operator::LessThan => continue,
        };
        let mut requirement = json!({"key": one.key, "operator": operator});
        if !one.values.is_empty() {
            requirement["values"] = one.values.clone().into();
        }
        all.push(requirement);
    }
    Some(all)
}

/// What the webhook decided.
///
/// # Errors
/// It contradicts itself.
pub fn decision(answer: &Value) -> Result<Decision, String> {
    let status = &answer["status"];
    let said = |name: &str| status[name].as_bool().unwrap_or_default();
    let reason = status["reason"].as_str().unwrap_or_default().to_owned();
    match (said("allowed"), said("denied")) {
        (true, true) => Err("webhook subject access review returned both allow and deny response".to_owned()),
        (true, false) => Ok(Decision::Allow(reason)),
        (false, true) => Ok(Decision::Deny(reason)),
        (false, false) => Ok(Decision::NoOpinion(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Caller;

    #[test]
    fn selectors_are_said_as_requirements() {
        let caller = Caller::new("jane", &["dev"]);
        let what = What::Resource {
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            namespace: "ns",
            name: "",
            field_selector: Some("spec.nodeName=n1,status.phase!=Failed"),
            label_selector: Some("app in (a,b),!old,tier=web,n>3"),
        };
        let attributes = Attributes { caller: &caller, verb: "list", what };
        let asked = question(&attributes, Version::V1);
        assert_eq!(
            asked["spec"]["resourceAttributes"],
            json!({
                "namespace": "ns", "verb": "list", "version": "v1", "resource": "pods",
                "fieldSelector": {"requirements": [
                    {"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
                    {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]},
                ]},
                "labelSelector": {"requirements": [
                    {"key": "app", "operator": "In", "values": ["a", "b"]},
                    {"key": "old", "operator": "DoesNotExist"},
                    {"key": "tier", "operator": "In", "values": ["web"]},
                ]},
            })
        );
        assert_eq!(asked["spec"]["groups"], json!(["dev", "system:authenticated"]));
        assert_eq!(question(&attributes, Version::V1Beta1)["spec"]["group"], asked["spec"]["groups"]);
        assert_eq!(for_conditions(&attributes)["resourceAttributes"]["name"], "");
    }

    #[test]
    fn answers_are_read() {
        let read = |status: Value| decision(&json!({"status": status}));
        assert_eq!(read(json!({"allowed": true, "reason": "r"})), Ok(Decision::Allow("r".into())));
        assert_eq!(read(json!({"allowed": false, "denied": true})), Ok(Decision::Deny(String::new())));
        assert_eq!(read(json!({})), Ok(Decision::NoOpinion(String::new())));
        assert!(read(json!({"allowed": true, "denied": true})).unwrap_err().contains("both allow and deny"));
    }
}
