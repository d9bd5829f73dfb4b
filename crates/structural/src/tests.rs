//! Schemas on values, with upstream's words.

use api::apiextensions::v1::JSONSchemaProps;
use serde_json::{Value, json};

use crate::Schema;

pub(crate) fn schema(value: Value) -> Schema {
    let props: JSONSchemaProps = serde_json::from_value(value).expect("a schema");
    Schema::compile(&props).expect("compiles")
}

/// A schema whose `spec` has these properties.
fn spec(properties: Value) -> Schema {
    schema(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}))
}

fn errors(schema: &Schema, value: Value) -> Vec<String> {
    schema.validate(&value).0.iter().map(ToString::to_string).collect()
}

#[test]
fn unknown_fields_are_pruned_and_named() {
    let schema = spec(json!({
        "a": {"type": "string"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"known": {"type": "object", "properties": {}}}},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": true,
                     "properties": {"spec": {"type": "object"}}},
    }));
    let mut object = json!({
        "apiVersion": "v1", "kind": "Foo", "metadata": {"name": "a", "odd": 1}, "status": {},
        "spec": {
            "a": "", "b": 1,
            "list": [{"x": 1, "bar": 2}],
            "map": {"k": {"x": 1, "y": 2}},
            "any": {"free": {"x": 1}, "known": {"y": 1}},
            "embedded": {"apiVersion": "v1", "kind": "Bar", "metadata": {"name": "b"}, "spec": {"z": 1}, "w": 1},
        },
    });
    let unknown = schema.prune(&mut object);
    assert_eq!(
        unknown,
        [
            "metadata.odd",
            "spec.any.known.y",
            "spec.b",
            "spec.embedded.spec.z",
            "spec.embedded.w",
            "spec.list[0].bar",
            "spec.map.k.y",
            "status"
        ]
    );
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "Foo", "metadata": {"name": "a"},
            "spec": {
                "a": "",
                "list": [{"x": 1}],
                "map": {"k": {"x": 1}},
                "any": {"free": {"x": 1}, "known": {}},
                "embedded": {"apiVersion": "v1", "kind": "Bar", "metadata": {"name": "b"}, "spec": {}},
            },
        })
    );
}

#[test]
fn defaults_fill_what_is_missing_and_nulls_go() {
    let schema = spec(json!({
        "a": {"type": "integer", "default": 1},
        "b": {"type": "integer", "default": 1, "nullable": true},
        "c": {"type": "integer"},
        "nested": {"type": "object", "default": {}, "properties": {"x": {"type": "string", "default": "y"}}},
        "list": {"type": "array",
                 "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
    }));
    let cases = [
        (json!({}), json!({})),
        (json!({"spec": {}}), json!({"spec": {"a": 1, "b": 1, "nested": {"x": "y"}}})),
        (
            json!({"spec": {"a": null, "b": null, "c": null, "nested": {"x": null}, "list": [{}]}}),
            json!({"spec": {"a": 1, "b": null, "nested": {"x": "y"}, "list": [{"p": "TCP"}]}}),
        ),
    ];
    for (mut object, expected) in cases {
        schema.default(&mut object);
        assert_eq!(object, expected);
        schema.default(&mut object);
        assert_eq!(object, expected, "idempotent");
    }
}

#[test]
fn every_constraint_has_upstreams_words() {
    let schema = schema(json!({"type": "object", "properties": {"spec": {"type": "object",
    "required": ["need"],
    "properties": {
        "need": {},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 5},
        "ratio": {"type": "number", "minimum": 0, "exclusiveMinimum": true, "multipleOf": 0.5},
        "name": {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^a"},
        "when": {"type": "string", "format": "date-time"},
        "choice": {"type": "string", "enum": ["b", "a"]},
        "list": {"type": "array", "maxItems": 2, "minItems": 1, "items": {"type": "string"}},
        "map": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}},
        "either": {"x-kubernetes-int-or-string": true},
        "maybe": {"type": "string", "nullable": true},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                  "items": {"type": "object", "properties": {"n": {"type": "string"}}}},
    }}}}));
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({"need": 1, "replicas": 3, "either": "x", "maybe": null, "ratio": 1}), vec![]),
        (json!({"need": 1, "replicas": 3.0, "either": 1}), vec![]),
        (json!({}), vec!["spec.need: Required value"]),
        (
            json!({"need": 1, "replicas": "x"}),
            vec!["spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\""],
        ),
        (
            json!({"need": 1, "replicas": 0}),
            vec!["spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"],
        ),
        (
            json!({"need": 1, "replicas": 6}),
            vec!["spec.replicas: Invalid value: 6: spec.replicas in body should be less than or equal to 5"],
        ),
        (
            json!({"need": 1, "ratio": 0}),
            vec!["spec.ratio: Invalid value: 0: spec.ratio in body should be greater than 0"],
        ),
        (
            json!({"need": 1, "ratio": 0.7}),
            vec!["spec.ratio: Invalid value: 0.7: spec.ratio in body should be a multiple of 0.5"],
        ),
        (
            json!({"need": 1, "name": "b"}),
            vec![
                "spec.name: Invalid value: \"b\": spec.name in body should be at least 2 chars long",
                "spec.name: Invalid value: \"b\": spec.name in body should match '^a'",
            ],
        ),
        (json!({"need": 1, "name": "abcd"}), vec!["spec.name: Too long: may not be more than 3 bytes"]),
        (
            json!({"need": 1, "when": "now"}),
            vec!["spec.when: Invalid value: \"now\": spec.when in body must be of type date-time: \"now\""],
        ),
        (
            json!({"need": 1, "choice": "c"}),
            vec!["spec.choice: Unsupported value: \"c\": supported values: \"b\", \"a\""],
        ),
        (json!({"need": 1, "list": ["a", "b", "c"]}), vec!["spec.list: Too many: 3: must have at most 2 items"]),
        (
            json!({"need": 1, "list": []}),
            vec!["spec.list: Invalid value: []: spec.list in body should have at least 1 items"],
        ),
        (
            json!({"need": 1, "list": [1]}),
            vec!["spec.list[0]: Invalid value: \"integer\": spec.list[0] in body must be of type string: \"integer\""],
        ),
        (json!({"need": 1, "map": {"a": "", "b": ""}}), vec!["spec.map: Too many: 2: must have at most 1 items"]),
        (
            json!({"need": 1, "either": true}),
            vec![
                "spec.either: Invalid value: \"boolean\": spec.either in body must be of type integer,string: \
                 \"boolean\"",
            ],
        ),
        (json!({"need": 1, "set": ["a", "a"]}), vec!["spec.set[1]: Duplicate value: \"a\""]),
        (json!({"need": 1, "keyed": [{"n": "a"}, {"n": "a"}]}), vec!["spec.keyed[1]: Duplicate value: {\"n\":\"a\"}"]),
    ];
    for (value, expected) in cases {
        assert_eq!(errors(&schema, json!({"spec": value})), expected, "{value}");
    }
}

#[test]
fn alternatives_say_which_held() {
    let schema = schema(json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        "not": {"properties": {"a": {"enum": [7]}}, "required": ["a"]}}}}));
    assert_eq!(errors(&schema, json!({"spec": {"a": 1}})), Vec::<String>::new());
    assert_eq!(
        errors(&schema, json!({"spec": {"a": 1, "b": 1}})),
        ["<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid \
          alternatives"]
    );
    let none = errors(&schema, json!({"spec": {}}));
    assert_eq!(
        none,
        [
            "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found none valid",
            "spec.a: Required value"
        ]
    );
    let not = errors(&schema, json!({"spec": {"a": 7}}));
    assert_eq!(not, ["<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)"]);
}

#[test]
fn what_is_as_it_was_is_not_found_fault_with() {
    let schema = spec(json!({
        "a": {"type": "integer", "minimum": 5},
        "b": {"type": "integer"},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                  "items": {"type": "object", "properties": {
                      "n": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}},
    }));
    let old = json!({"spec": {"a": 1, "b": 1, "keyed": [{"n": "x", "v": "long"}]}});
    let new = json!({"spec": {"a": 1, "b": 2, "keyed": [{"n": "y", "v": "s"}, {"n": "x", "v": "long"}]}});
    assert!(!schema.validate(&new).is_empty());
    assert_eq!(schema.validate_update(&new, &old).to_string(), "[]");
    let worse = json!({"spec": {"a": 2, "b": 2}});
    assert_eq!(schema.validate_update(&worse, &old).0.len(), 1);
}

#[test]
fn openapi_v2_leaves_out_what_it_cannot_say() {
    let schema = spec(json!({
        "a": {"type": "integer", "nullable": true, "description": "d"},
        "b": {"type": "string", "anyOf": [{"minLength": 1}], "default": "x"},
    }));
    let v2 = schema.openapi_v2();
    assert_eq!(
        v2.pointer("/properties/spec/properties").unwrap(),
        &json!({"a": {"description": "d"}, "b": {"type": "string", "default": "x"}})
    );
    assert!(schema.openapi_v3().pointer("/properties/spec/properties/b/anyOf").is_some());
}

#[test]
fn embedded_resources_have_an_identity() {
    let schema = spec(json!({"e": {"type": "object", "x-kubernetes-embedded-resource": true,
                                   "x-kubernetes-preserve-unknown-fields": true}}));
    assert_eq!(
        errors(&schema, json!({"spec": {"e": {"metadata": {"name": "a/b"}}}})),
        [
            "spec.e.apiVersion: Required value: must not be empty",
            "spec.e.kind: Required value: must not be empty",
            "spec.e.metadata.name: Invalid value: \"a/b\": may not contain '/'"
        ]
    );
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("(a|b|c|metadata|kind)", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn props() -> impl Strategy<Value = Value> {
        let leaf = (
            prop_oneof![Just("string"), Just("integer"), Just("number"), Just("boolean")],
            prop::option::of(prop_oneof![Just("date-time"), Just("ipv4"), Just("uuid"), Just("uri"), Just("isbn")]),
            prop::option::of(value()),
            any::<bool>(),
            prop::option::of(-3i64..3),
        )
            .prop_map(|(kind, format, default, nullable, bound)| {
                json!({"type": kind, "format": format, "default": default, "nullable": nullable, "minimum": bound,
                       "maxLength": bound, "multipleOf": bound, "pattern": "^[ab"})
            });
        leaf.prop_recursive(4, 32, 3, |inner| {
            prop_oneof![
                (prop::collection::btree_map("(a|b|c)", inner.clone(), 0..3), any::<(bool, bool)>()).prop_map(
                    |(properties, (embedded, preserve))| {
                        json!({"type": "object", "properties": properties, "required": ["a"],
                               "x-kubernetes-embedded-resource": embedded,
                               "x-kubernetes-preserve-unknown-fields": preserve})
                    }
                ),
                inner.clone().prop_map(|of| json!({"type": "object", "additionalProperties": of, "maxProperties": 1})),
                (inner.clone(), prop_oneof![Just("set"), Just("map"), Just("atomic")]).prop_map(|(of, list)| {
                    json!({"type": "array", "items": of, "x-kubernetes-list-type": list,
                           "x-kubernetes-list-map-keys": ["a"], "uniqueItems": true})
                }),
                prop::collection::vec(inner, 1..3)
                    .prop_map(|many| json!({"type": "object", "oneOf": many, "anyOf": many, "allOf": many})),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_panics(props in props(), mut new in value(), old in value()) {
            let schema = schema(props);
            schema.prune(&mut new);
            schema.default(&mut new);
            schema.validate(&new);
            schema.validate_update(&new, &old);
            schema.openapi_v2();
            let again = new.clone();
            schema.default(&mut new);
            prop_assert_eq!(new, again);
        }
    }
}
