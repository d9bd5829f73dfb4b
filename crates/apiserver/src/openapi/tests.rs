//! Tests of `openapi`.

use super::*;
use crate::discovery::built_in;

fn openapi() -> OpenApi {
    OpenApi::new(built_in(resources::ALL).into_iter().map(std::sync::Arc::new).collect(), &[])
}

fn get(openapi: &OpenApi, path: &str, query: Option<&str>, accept: &str) -> Document {
    let headers = Headers { accept: accept.to_owned(), ..Headers::default() };
    openapi.answer(path, query, &headers).expect("answered").expect("acceptable")
}

fn json_of(openapi: &OpenApi, path: &str) -> Value {
    serde_json::from_slice(&get(openapi, path, None, "").bytes).expect("JSON")
}

/// Every reference leads somewhere.
fn check_references(value: &Value, schemas: &Value, prefix: &str) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let name = reference.strip_prefix(prefix).expect("the dialect's references");
                assert!(schemas.get(name).is_some(), "{name}");
            }
            map.values().for_each(|value| check_references(value, schemas, prefix));
        }
        Value::Array(items) => items.iter().for_each(|value| check_references(value, schemas, prefix)),
        _ => {}
    }
}

#[test]
fn the_index_links_every_version_by_hash() {
    let openapi = openapi();
    let index = json_of(&openapi, "/openapi/v3");
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a link");
    let (path, query) = url.split_once('?').expect("a hash");
    let document = get(&openapi, path, Some(query), JSON);
    assert_eq!(document.cache_control, "public, immutable, max-age=31536000");
    assert_eq!(get(&openapi, path, Some("hash=OLD"), JSON).cache_control, "no-cache, private");
    assert!(openapi.answer("/openapi/v3/apis/none/v1", None, &Headers::default()).is_none());
    let refused = Headers { accept: "application/pdf".to_owned(), ..Headers::default() };
    assert_eq!(openapi.answer("/openapi/v3", None, &refused).expect("answered").expect_err("refused").code(), 406);
    let compressed = Headers { accept_encoding: "gzip".to_owned(), ..Headers::default() };
    let compressed = openapi.answer(path, None, &compressed).expect("answered").expect("acceptable");
    assert_eq!((compressed.encoding, &compressed.bytes[..2]), (Some("gzip"), &[0x1f, 0x8b][..]));
}

#[test]
fn every_reference_leads_somewhere() {
    let openapi = openapi();
    for path in openapi.paths() {
        let document = json_of(&openapi, &path);
        check_references(&document, &document["components"]["schemas"], Dialect::V3.schemas());
    }
    let document = json_of(&openapi, "/openapi/v2");
    check_references(&document, &document["definitions"], Dialect::V2.schemas());
}

#[test]
fn what_kubectl_looks_for() {
    let document = json_of(&openapi(), "/openapi/v3/apis/apps/v1");
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let list = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["get"];
    assert_eq!(list["x-kubernetes-group-version-kind"], kind);
    assert_eq!(list["operationId"], "listAppsV1NamespacedDeployment");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], kind);
    assert!(patch["parameters"].as_array().expect("a list").iter().any(|one| one["name"] == "fieldValidation"));
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"], json!([kind]));
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert!(containers["description"].as_str().is_some_and(|text| text.starts_with("List of containers")));
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["put"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    assert_eq!(
        scale["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/io.k8s.api.autoscaling.v1.Scale"
    );
}

/// Reads one level of a message: fields with their bytes; varints are skipped.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes);
        let value = number(&mut bytes);
        if tag & 7 == 2 {
            let (own, rest) = bytes.split_at(value as usize);
            found.push((tag >> 3, own));
            bytes = rest;
        }
    }
    found
}

#[test]
fn the_protobuf_form_holds_the_same() {
    let openapi = openapi();
    let document = get(&openapi, "/openapi/v2", None, PROTOBUF_OLD);
    assert_eq!(document.content_type, PROTOBUF);
    let json = json_of(&openapi, "/openapi/v2");
    let part = |wanted: u64| fields(&document.bytes).into_iter().find(|(field, _)| *field == wanted).expect("there").1;
    let names = |part| {
        let name = |(_, entry)| String::from_utf8(fields(entry)[0].1.to_vec()).expect("text");
        fields(part).into_iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(part(1), b"2.0");
    let keys = |object: &Value| object.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(part(8)), keys(&json["paths"]));
    assert_eq!(names(part(9)), keys(&json["definitions"]));
}
