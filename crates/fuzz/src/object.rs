//! Bodies of every built-in kind, as JSON, YAML and protobuf: decoded, checked, defaulted, validated, shown, encoded.

use api::codec::{self, Parsed};
use api::{Object, Timestamp, schema};
use resources::AnyStrategy;
use serde_json::Value;

pub(crate) fn run(data: &[u8]) {
    let Some((encoding, rest)) = crate::first(data) else { return };
    let Some((number, body)) = crate::first(rest) else { return };
    let strategy = resources::ALL[number % resources::ALL.len()];
    let parsed = match encoding % 3 {
        0 => codec::parse_json(body),
        1 => codec::parse_yaml(body),
        _ => return protobuf(body),
    };
    if let Ok(parsed) = parsed {
        built_in(strategy, parsed);
    }
}

/// A protobuf body says itself what kind it is.
fn protobuf(body: &[u8]) {
    let Ok(value) = api::protobuf::decode(body) else { return };
    let kind = value["kind"].as_str().unwrap_or_default();
    let version = value["apiVersion"].as_str().unwrap_or_default();
    let of_kind = |own: &&&dyn AnyStrategy| own.kind().kind == kind && own.kind().api_version == version;
    if let Some(strategy) = resources::ALL.iter().find(of_kind) {
        built_in(*strategy, Parsed { value, duplicates: Vec::new() });
    }
}

pub(crate) fn built_in(strategy: &dyn AnyStrategy, mut parsed: Parsed) {
    let kind = strategy.kind();
    if let Some(definition) = schema::definition(kind.definition) {
        let checked = schema::check(&parsed.value, definition);
        let _ = schema::strict_message(&parsed, &checked);
        if checked.type_error.is_some() {
            return;
        }
        schema::normalize(&mut parsed.value, definition);
    }
    let Value::Object(map) = &mut parsed.value else { return };
    map.insert("apiVersion".into(), kind.api_version.into());
    map.insert("kind".into(), kind.kind.into());
    let Ok(object) = kind.decode_value(parsed.value) else { return };
    hooks(strategy, object);
}

/// Kinds of which upstream asks more on update than on create: a node's addresses are told apart only then.
const STRICTER_UPDATES: &[&str] = &["Node"];

/// What a create goes through, and what every answer does with an object.
fn hooks(strategy: &dyn AnyStrategy, mut object: Box<dyn Object>) {
    strategy.default(&mut *object);
    let defaulted = object.encode();
    strategy.default(&mut *object);
    assert_eq!(text(&defaulted), text(&object.encode()), "defaults are filled in once and for all");
    strategy.prepare_create(&mut *object);
    let invalid = !strategy.validate(&*object).is_empty();
    let _ = strategy.warnings(&*object);
    let columns = strategy.columns().len();
    assert_eq!(strategy.cells(&*object, Timestamp::UNIX_EPOCH).len(), columns);
    assert_eq!(strategy.selectable_values(&*object).len(), strategy.selectable_paths().len());
    let _ = strategy.scale(&*object);
    let bytes = object.encode();
    let again = strategy.kind().decode(&bytes).expect("what we encode we decode");
    assert_eq!(text(&bytes), text(&again.encode()), "an object survives its encoding");
    if invalid || STRICTER_UPDATES.contains(&strategy.kind().kind) {
        return;
    }
    let mut newer = again;
    strategy.prepare_update(&mut *newer, &*object);
    let problems = strategy.validate_update(&*newer, &*object);
    assert!(problems.is_empty(), "a valid object may stay as it is: {problems:?}");
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("JSON is UTF-8")
}
