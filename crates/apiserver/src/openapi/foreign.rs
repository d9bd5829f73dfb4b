//! OpenAPI of other API servers: what of their documents is taken into ours, and how.
//!
//! Pure. Upstream: kube-aggregator/pkg/controllers/openapi, kube-openapi/pkg/{aggregator,openapiconv}.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Dialect;

const METHODS: &[&str] = &["get", "put", "post", "delete", "options", "head", "patch"];

/// What another server's OpenAPI says of one version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreign {
    /// Where its own v3 document is, with a hash; it is asked there.
    pub link: Option<String>,
    /// Its share of v2.
    pub v2: Option<Arc<Share>>,
}

/// Paths, and the definitions that they need.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Share {
    pub paths: Map<String, Value>,
    pub definitions: Map<String, Value>,
}

/// The link to a version's document in the index of v3; only to that very document.
///
/// # Errors
/// If it is no such index.
pub fn link(index: &[u8], group: &str, version: &str) -> Result<Option<String>, String> {
    let index: Value = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    let path = format!("apis/{group}/{version}");
    let url = index["paths"][&path]["serverRelativeURL"].as_str();
    let own = format!("/openapi/v3/{path}");
    Ok(url
        .filter(|url| *url == own || url.strip_prefix(&own).is_some_and(|rest| rest.starts_with('?')))
        .map(str::to_owned))
}

/// A version's share of a v2 document.
///
/// # Errors
/// If it is no such document.
pub fn share(document: &[u8], group: &str, version: &str) -> Result<Share, String> {
    let mut document: Value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let prefix = format!("/apis/{group}/{version}/");
    let Some(Value::Object(paths)) = document.get_mut("paths").map(Value::take) else {
        return Err("an OpenAPI document without paths".to_owned());
    };
    let paths: Map<String, Value> = paths.into_iter().filter(|(path, _)| path.starts_with(&prefix)).collect();
    let mut all = match document.get_mut("definitions").map(Value::take) {
        Some(Value::Object(all)) => all,
        _ => Map::new(),
    };
    let mut definitions = Map::new();
    let mut wanted = BTreeSet::new();
    paths.values().for_each(|item| references(item, &mut wanted));
    // Lists and objects that no operation names are told by their kind.
    let of_version = |definition: &Value| {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        kinds.into_iter().flatten().any(|kind| kind["group"] == group && kind["version"] == version)
    };
    wanted.extend(all.iter().filter(|(_, definition)| of_version(definition)).map(|(name, _)| name.clone()));
    while let Some(name) = wanted.pop_first() {
        let Some(definition) = all.remove(&name) else { continue };
        references(&definition, &mut wanted);
        wanted.retain(|name| !definitions.contains_key(name));
        definitions.insert(name, definition);
    }
    Ok(Share { paths, definitions })
}

/// The definitions that a text refers to.
fn references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) =
                map.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix("#/definitions/"))
            {
                into.insert(name.to_owned());
            }
            map.values().for_each(|value| references(value, into));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, into)),
        _ => {}
    }
}

/// Rewrites the names in references.
fn refer(value: &mut Value, to: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("$ref")
                && let Some(name) = text.strip_prefix("#/definitions/")
                && let Some(new) = to(name)
            {
                *text = new;
            }
            map.values_mut().for_each(|value| refer(value, to));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| refer(value, to)),
        _ => {}
    }
}

/// Whether two definitions say the same, apart from texts and kinds.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let told = |(key, _): &(&String, &Value)| {
                !matches!(key.as_str(), "description" | "x-kubernetes-group-version-kind")
            };
            let count = |map: &Map<String, Value>| map.iter().filter(told).count();
            count(a) == count(b)
                && a.iter().filter(told).all(|(key, own)| b.get(key).is_some_and(|other| same(own, other)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

/// Adds what others say to our own definitions; their paths. A name that means something else already gets a number, as
/// upstream's do.
pub fn merge(own: &mut BTreeMap<String, Value>, shares: &[Arc<Share>]) -> Map<String, Value> {
    let mut paths = Map::new();
    for share in shares {
        let mut renamed: BTreeMap<&str, String> = BTreeMap::new();
        for (name, definition) in &share.definitions {
            let mut new = name.clone();
            let mut number = 2;
            while own.get(&new).is_some_and(|there| !same(there, definition)) {
                new = format!("{name}_v{number}");
                number += 1;
            }
            if new != *name {
                renamed.insert(name, new);
            }
        }
        let to = |name: &str| renamed.get(name).map(|new| format!("#/definitions/{new}"));
        for (name, definition) in &share.definitions {
            let new = renamed.get(name.as_str()).unwrap_or(name);
            if !own.contains_key(new) {
                let mut definition = definition.clone();
                refer(&mut definition, &to);
                own.insert(new.clone(), definition);
            }
        }
        for (path, item) in &share.paths {
            let mut item = item.clone();
            refer(&mut item, &to);
            paths.entry(path.clone()).or_insert(item);
        }
    }
    paths
}

/// A v3 document out of a share of v2, for servers that have none.
pub fn v3(share: &Share) -> Value {
    let schemas: Map<String, Value> =
        share.definitions.iter().map(|(name, definition)| (name.clone(), schema(definition))).collect();
    let paths: Map<String, Value> = share.paths.iter().map(|(path, item)| (path.clone(), path_item(item))).collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn schema(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut out: Map<String, Value> = map.iter().map(|(key, value)| (key.clone(), schema(value))).collect();
            if let Some(name) =
                map.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix("#/definitions/"))
            {
                let reference = Dialect::V3.reference(name);
                out.remove("$ref");
                // In v3 nothing may stand beside a reference.
                if out.is_empty() {
                    return reference;
                }
                out.insert("allOf".to_owned(), json!([reference]));
            }
            Value::Object(out)
        }
        Value::Array(items) => items.iter().map(schema).collect(),
        other => other.clone(),
    }
}

fn path_item(item: &Value) -> Value {
    let mut out = Map::new();
    for (key, value) in item.as_object().into_iter().flatten() {
        if METHODS.contains(&key.as_str()) {
            out.insert(key.clone(), operation(value));
        } else if key == "parameters" {
            out.insert(key.clone(), parameters(item));
        } else if key.starts_with("x-") {
            out.insert(key.clone(), value.clone());
        }
    }
    Value::Object(out)
}

fn listed<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn parameters(holder: &Value) -> Value {
    let parameter = |value: &Value| {
        let mut of = Map::new();
        for key in ["type", "format", "uniqueItems", "items", "enum", "default", "minimum", "maximum", "pattern"] {
            if let Some(found) = value.get(key) {
                of.insert(key.to_owned(), schema(found));
            }
        }
        let mut out = json!({"name": value["name"], "in": value["in"], "schema": of});
        for key in ["description", "required"] {
            if let Some(found) = value.get(key) {
                out[key] = found.clone();
            }
        }
        out
    };
    listed(holder, "parameters").filter(|value| value["in"] != "body").map(parameter).collect()
}

fn operation(value: &Value) -> Value {
    let media = |key: &str| -> Vec<String> {
        let all: Vec<String> = listed(value, key).filter_map(Value::as_str).map(str::to_owned).collect();
        if all.is_empty() { vec!["application/json".to_owned()] } else { all }
    };
    let content = |media: &[String], of: &Value| -> Map<String, Value> {
        media.iter().map(|media| (media.clone(), json!({"schema": schema(of)}))).collect()
    };
    let mut out = Map::new();
    for (key, found) in value.as_object().into_iter().flatten() {
        if key.starts_with("x-")
            || ["tags", "summary", "description", "operationId", "deprecated"].contains(&key.as_str())
        {
            out.insert(key.clone(), found.clone());
        }
    }
    let given = parameters(value);
    if given.as_array().is_some_and(|all| !all.is_empty()) {
        out.insert("parameters".to_owned(), given);
    }
    if let Some(body) = listed(value, "parameters").find(|parameter| parameter["in"] == "body") {
        let mut text = json!({"content": content(&media("consumes"), &body["schema"])});
        if body["required"] == true {
            text["required"] = json!(true);
        }
        out.insert("requestBody".to_owned(), text);
    }
    let produced = media("produces");
    let response = |(code, found): (&String, &Value)| {
        let mut text = json!({"description": found.get("description").cloned().unwrap_or_else(|| json!(""))});
        if let Some(of) = found.get("schema") {
            text["content"] = content(&produced, of).into();
        }
        (code.clone(), text)
    };
    let responses: Map<String, Value> =
        value.get("responses").and_then(Value::as_object).into_iter().flatten().map(response).collect();
    out.insert("responses".to_owned(), responses.into());
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        let get = json!({
            "operationId": "readThing", "produces": ["application/json"],
            "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/x.Thing"}}},
        });
        let post = json!({
            "consumes": ["application/yaml"],
            "parameters": [
                {"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/x.Thing"}},
                {"name": "dryRun", "in": "query", "type": "string", "uniqueItems": true},
            ],
            "responses": {"201": {"description": "Created"}},
        });
        json!({
            "swagger": "2.0",
            "paths": {"/apis/x.io/v1/things": {"get": get, "post": post}, "/apis/apps/v1/forged": {}, "/healthz": {}},
            "definitions": {
                "x.Thing": {"type": "object", "properties": {
                    "metadata": {"description": "Its name.", "$ref": "#/definitions/Meta"},
                    "next": {"$ref": "#/definitions/x.Thing"}}},
                "Meta": {"type": "object", "description": "theirs", "properties": {"name": {"type": "string"}}},
                "x.Config": {"x-kubernetes-group-version-kind": [{"group": "x.io", "version": "v1", "kind": "Config"}]},
                "unused": {"type": "string"},
            },
        })
    }

    fn of(document: &Value) -> Share {
        share(document.to_string().as_bytes(), "x.io", "v1").unwrap()
    }

    #[test]
    fn only_its_own_share_is_taken() {
        let share = of(&document());
        assert_eq!(share.paths.keys().collect::<Vec<_>>(), ["/apis/x.io/v1/things"]);
        let names: BTreeSet<&str> = share.definitions.keys().map(String::as_str).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["Meta", "x.Config", "x.Thing"]);
        for wrong in ["", "1", "{}", r#"{"paths": 1}"#] {
            assert!(super::share(wrong.as_bytes(), "x.io", "v1").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let same = json!({"type": "object", "description": "ours", "properties": {"name": {"type": "string"}}});
        let mut own = BTreeMap::from([("Meta".to_owned(), same.clone())]);
        merge(&mut own, &[Arc::new(of(&document()))]);
        assert_eq!(own["Meta"], same);
        assert_eq!(own["x.Thing"]["properties"]["metadata"]["$ref"], "#/definitions/Meta");

        let mut own = BTreeMap::from([("Meta".to_owned(), json!({"type": "string"}))]);
        let paths = merge(&mut own, &[Arc::new(of(&document()))]);
        assert_eq!(own["Meta"], json!({"type": "string"}));
        assert_eq!(own["Meta_v2"]["description"], "theirs");
        assert_eq!(own["x.Thing"]["properties"]["metadata"]["$ref"], "#/definitions/Meta_v2");
        assert_eq!(paths.len(), 1);
    }

    #[test]
    fn the_second_dialect_becomes_the_third() {
        let v3 = v3(&of(&document()));
        let thing = "#/components/schemas/x.Thing";
        assert_eq!(v3["components"]["schemas"]["x.Thing"]["properties"]["next"], json!({"$ref": thing}));
        assert_eq!(
            v3["components"]["schemas"]["x.Thing"]["properties"]["metadata"],
            json!({"description": "Its name.", "allOf": [{"$ref": "#/components/schemas/Meta"}]})
        );
        let item = &v3["paths"]["/apis/x.io/v1/things"];
        let answer = &item["get"]["responses"]["200"];
        assert_eq!(answer["content"]["application/json"]["schema"], json!({"$ref": thing}));
        assert_eq!(
            item["post"],
            json!({
                "parameters": [
                    {"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": true}}],
                "requestBody": {"required": true, "content": {"application/yaml": {"schema": {"$ref": thing}}}},
                "responses": {"201": {"description": "Created"}},
            })
        );
    }

    #[test]
    fn only_a_link_to_the_very_version_counts() {
        let index = |url: &str| json!({"paths": {"apis/x.io/v1": {"serverRelativeURL": url}}}).to_string();
        let found = |url: &str| link(index(url).as_bytes(), "x.io", "v1").unwrap();
        assert_eq!(found("/openapi/v3/apis/x.io/v1?hash=A").as_deref(), Some("/openapi/v3/apis/x.io/v1?hash=A"));
        for other in ["https://example.com/", "/openapi/v3/apis/x.io/v10", "/openapi/v3/apis/apps/v1"] {
            assert_eq!(found(other), None, "{other}");
        }
        assert!(link(b"", "x.io", "v1").is_err());
    }
}
