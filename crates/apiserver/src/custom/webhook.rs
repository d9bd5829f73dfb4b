//! Conversion by a webhook: `ConversionReview` of `apiextensions.k8s.io/v1`.

use std::time::Duration;

use api::apiextensions::v1::CustomResourceDefinition;
use api::{Custom, Kind, Object, Status};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::Server;
use crate::outbound::ClientConfig;

/// How long a webhook has for its answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is kept of a definition's webhook.
pub(crate) struct Webhook {
    config: Result<ClientConfig, String>,
}

impl Webhook {
    /// The webhook of a definition that converts by one.
    pub fn of(crd: &CustomResourceDefinition) -> Option<Self> {
        let conversion = crd.spec.conversion.as_ref().filter(|conversion| conversion.strategy == "Webhook")?;
        let config = conversion.webhook.as_ref()?.client_config.as_ref()?;
        Some(Self { config: ClientConfig::try_from(config).map_err(|error| error.to_string()) })
    }

    fn failed(&self, from: &Kind, why: &str) -> Status {
        let group = from.api_version;
        Status::internal(format!("conversion webhook for {group}, Kind={} failed: {why}", from.kind))
    }

    /// One review for all objects.
    ///
    /// # Errors
    /// 500 in upstream's words.
    pub async fn convert(
        &self,
        server: &Server,
        objects: Vec<Custom>,
        to: &'static Kind,
    ) -> Result<Vec<Custom>, Status> {
        let Some(from) = objects.first().map(Object::kind) else { return Ok(objects) };
        let uid = server.options().random.uid();
        let request = review(&uid, &objects, to);
        let answer = self.call(server, request).await.map_err(|why| self.failed(from, &why))?;
        read_answer(&answer, &uid, objects, to).map_err(|why| self.failed(from, &why))
    }

    async fn call(&self, server: &Server, review: Value) -> Result<Value, String> {
        let config = self.config.as_ref().map_err(String::clone)?;
        let body = Bytes::from(review.to_string());
        let answer = server.outbound.post_json(config, body, TIMEOUT).await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
    }
}

fn review(uid: &str, objects: &[Custom], to: &Kind) -> Value {
    let objects: Vec<Value> = objects.iter().map(Object::to_value).collect();
    json!({
        "kind": "ConversionReview",
        "apiVersion": "apiextensions.k8s.io/v1",
        "request": {"uid": uid, "desiredAPIVersion": to.api_version, "objects": objects},
    })
}

/// The converted objects. Nothing of their metadata but labels and annotations may have changed.
fn read_answer(answer: &Value, uid: &str, sent: Vec<Custom>, to: &'static Kind) -> Result<Vec<Custom>, String> {
    let response = answer.get("response").filter(|response| response.is_object()).ok_or("no response provided")?;
    if response["uid"].as_str() != Some(uid) {
        let got = response["uid"].as_str().unwrap_or_default();
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    if response["result"]["status"].as_str() != Some("Success") {
        let message = response["result"]["message"].as_str().unwrap_or_default();
        return Err(if message.is_empty() { "the result was no success".to_owned() } else { message.to_owned() });
    }
    let none = Vec::new();
    let converted = response["convertedObjects"].as_array().unwrap_or(&none);
    if converted.len() != sent.len() {
        return Err(format!("webhook returned {} objects, expected {}", converted.len(), sent.len()));
    }
    sent.into_iter().zip(converted).enumerate().map(|(at, (sent, got))| one(at, sent, got, to)).collect()
}

fn one(at: usize, sent: Custom, got: &Value, to: &'static Kind) -> Result<Custom, String> {
    let (api_version, kind) = (got["apiVersion"].as_str(), got["kind"].as_str());
    if api_version != Some(to.api_version) {
        let got = api_version.unwrap_or_default();
        return Err(format!(
            "invalid converted object at index {at}: invalid groupVersion (expected {}, received {got})",
            to.api_version
        ));
    }
    if kind != Some(to.kind) {
        let got = kind.unwrap_or_default();
        return Err(format!(
            "invalid converted object at index {at}: invalid kind (expected {}, received {got})",
            to.kind
        ));
    }
    let mut object = Custom::from_value(to, got.clone()).map_err(|error| error.to_string())?;
    for (field, sent, got) in [
        ("name", &sent.metadata.name, &object.metadata.name),
        ("namespace", &sent.metadata.namespace, &object.metadata.namespace),
        ("uid", &sent.metadata.uid, &object.metadata.uid),
    ] {
        if sent != got {
            return Err(format!("invalid metadata in object at index {at}: metadata.{field} must not change"));
        }
    }
    let (labels, annotations) = (object.metadata.labels.take(), object.metadata.annotations.take());
    object.metadata = api::meta::v1::ObjectMeta { labels, annotations, ..sent.metadata };
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cat() -> Custom {
        let value = json!({"metadata": {"name": "tom", "uid": "1", "finalizers": ["a.b/c"]}, "spec": {"lives": 9}});
        Custom::from_value(Kind::custom("example.com", "v1", "Cat", "cats"), value).unwrap()
    }

    fn answer(uid: &str, objects: Value) -> Value {
        json!({"response": {"uid": uid, "result": {"status": "Success"}, "convertedObjects": objects}})
    }

    #[test]
    fn only_labels_and_annotations_of_the_metadata_may_change() {
        let to = Kind::custom("example.com", "v2", "Cat", "cats");
        let good = json!([{"apiVersion": "example.com/v2", "kind": "Cat", "spec": {"souls": 9},
            "metadata": {"name": "tom", "uid": "1", "labels": {"a": "b"}}}]);
        let all = read_answer(&answer("u", good), "u", vec![cat()], to).unwrap();
        assert_eq!(all[0].metadata.finalizers, cat().metadata.finalizers);
        assert_eq!(all[0].to_value()["metadata"]["labels"], json!({"a": "b"}));
        let bad = json!([{"apiVersion": "example.com/v2", "kind": "Cat", "metadata": {"name": "tim", "uid": "1"}}]);
        let why = read_answer(&answer("u", bad), "u", vec![cat()], to).unwrap_err();
        assert_eq!(why, "invalid metadata in object at index 0: metadata.name must not change");
    }

    #[test]
    fn an_answer_must_fit_its_question() {
        let to = Kind::custom("example.com", "v2", "Cat", "cats");
        let cases = [
            (json!({}), "no response provided"),
            (answer("x", json!([])), "expected response.uid=\"u\", got \"x\""),
            (answer("u", json!([])), "webhook returned 0 objects, expected 1"),
            (
                answer("u", json!([{"apiVersion": "example.com/v1", "kind": "Cat"}])),
                "invalid converted object at index 0: invalid groupVersion (expected example.com/v2, received \
                 example.com/v1)",
            ),
        ];
        for (value, why) in cases {
            assert_eq!(read_answer(&value, "u", vec![cat()], to).unwrap_err(), why);
        }
    }
}
