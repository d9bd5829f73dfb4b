//! JSON to protobuf, and back by the reader of bodies.

use expect_test::expect;
use serde_json::{Map, Value, json};

use super::*;
use crate::protobuf::decode;
use crate::protobuf::plan::{Field, JSON_SCHEMA};
use crate::schema::{self, Definition, Property, Type};

fn message(definition: &str, json: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::default().message(definition, json.to_string().as_bytes(), &mut out).unwrap();
    out
}

/// A value in which every field is set that has a number, down to `depth`.
fn sample(shape: &Shape, depth: usize) -> Option<Value> {
    Some(match shape {
        Shape::Text => json!("some \"text\"\nπ"),
        Shape::Bytes => json!("AAECAw=="),
        Shape::Bool => json!(true),
        Shape::Integer => json!(7),
        Shape::Double => json!(0.5),
        Shape::Quantity => json!("1500m"),
        Shape::Time { micro: false } => json!("2026-01-02T03:04:05Z"),
        Shape::Time { micro: true } => json!("2026-01-02T03:04:05.000006Z"),
        Shape::IntOrString => json!("80%"),
        Shape::Raw => json!({"a": [1, {"b": "}"}]}),
        Shape::OrBool(_) => json!(true),
        Shape::OrTexts(_) => json!(["a", "b"]),
        Shape::OrArray(at) | Shape::Message(at) => fields(PLAN.at(*at)?, depth.checked_sub(1)?),
        Shape::List(item) => {
            let item = sample(item, depth)?;
            json!([item, item])
        }
        Shape::Map(value) => json!({"k": sample(value, depth)?, "a.b/c": sample(value, depth)?}),
    })
}

fn fields(message: &Message, depth: usize) -> Value {
    let set = |field: &Field| Some((field.name.to_owned(), sample(&field.shape, depth)?));
    Value::Object(message.fields.iter().filter_map(set).collect())
}

#[test]
fn every_kind_comes_back() {
    for kind in crate::kinds::ALL {
        let all = PLAN.find(kind.definition).unwrap();
        let mut object = fields(all, 6);
        object["apiVersion"] = kind.api_version.into();
        object["kind"] = kind.kind.into();
        let object = kind.decode_value(object).unwrap();
        let json = object.encode();
        let mut out = Vec::new();
        let write = |own: &mut Encoder, out: &mut Vec<u8>| own.message(kind.definition, &json, out);
        Encoder::default().document(kind.api_version, kind.kind, &mut out, write).unwrap();
        // What is empty has no form on the wire; required fields that are empty come back with the type.
        let read = kind.decode_value(decode(&out).unwrap()).unwrap().to_value();
        assert_eq!(difference(&object.to_value(), &read, ""), None, "{kind:?}");
        assert!(is_ascending(&out[MAGIC.len()..]), "{kind:?}");
    }
}

/// What the schema says a value may be, with every field set; `None` inside of itself.
fn described(type_: &Type, micro: bool, within: &mut Vec<&'static str>) -> Option<Value> {
    Some(match type_ {
        Type::String => json!("text"),
        Type::Bytes => json!("AAECAw=="),
        Type::Boolean => json!(true),
        Type::Int32 => json!(-7),
        Type::Int64 => json!(7_000_000_000_i64),
        Type::Double => json!(0.5),
        Type::Quantity => json!("1500m"),
        Type::Time if micro => json!("2026-01-02T03:04:05.000006Z"),
        Type::Time => json!("2026-01-02T03:04:05Z"),
        Type::IntOrString => json!("80%"),
        Type::Object => json!({"a": [1, {"b": "}"}]}),
        Type::Any => json!({"any": null}),
        Type::List(item) => {
            let item = described(item, micro, within)?;
            json!([item, item])
        }
        Type::Map(item) => json!({"k": described(item, micro, within)?, "a.b/c": described(item, micro, within)?}),
        Type::Struct(_) => {
            let definition = type_.definition().unwrap();
            if within.contains(&definition.name) {
                return None;
            }
            within.push(definition.name);
            let object = all_set(definition, within);
            within.pop();
            object
        }
    })
}

fn all_set(definition: &'static Definition, within: &mut Vec<&'static str>) -> Value {
    // An object within another does not say its kind.
    let inner = within.len() > 1 && !definition.kinds.is_empty();
    let mut set = |property: &Property| {
        if inner && ["apiVersion", "kind"].contains(&property.name) {
            return None;
        }
        let micro = property.reference.is_some_and(|name| name.ends_with("MicroTime"));
        let value = match (definition.name, property.name) {
            // Of several forms; their own test looks at them.
            (JSON_SCHEMA, "additionalItems" | "additionalProperties") => json!(true),
            (JSON_SCHEMA, "items") => json!({"type": "string"}),
            (JSON_SCHEMA, "dependencies") => json!({"a": ["b"]}),
            _ => described(&property.type_, micro, within)?,
        };
        Some((property.name.to_owned(), value))
    };
    Value::Object(definition.properties.iter().filter_map(&mut set).collect())
}

/// A field of v1.37 whose number is not known.
const WITHOUT_NUMBER: &str = ".status.conditions[].observedGeneration";

#[test]
fn no_field_of_any_kind_is_lost() {
    let kinds = schema::all().iter().flat_map(|definition| definition.kinds.iter().map(move |kind| (definition, kind)));
    for (definition, (group, version, kind)) in kinds {
        if PLAN.find(definition.name).is_none() {
            panic!("{kind} has no message");
        }
        let api_version = if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") };
        let mut object = all_set(definition, &mut vec![definition.name]);
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        let json = object.to_string();
        let mut out = Vec::new();
        let write = |own: &mut Encoder, out: &mut Vec<u8>| own.message(definition.name, json.as_bytes(), out);
        Encoder::default().document(&api_version, kind, &mut out, write).unwrap();
        let read = decode(&out).unwrap();
        let mut lost = Vec::new();
        differences(&object, &read, String::new(), &mut lost);
        lost.sort();
        lost.dedup();
        let expected: &[&str] = match *kind {
            "HorizontalPodAutoscaler" if *version == "v2" => &[WITHOUT_NUMBER],
            "HorizontalPodAutoscalerList" if *version == "v2" => &[".items[].status.conditions[].observedGeneration"],
            _ => &[],
        };
        assert_eq!(lost, expected, "{api_version} {kind}");
    }
}

/// Where two values differ.
fn differences(a: &Value, b: &Value, at: String, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let of = |object: &Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                differences(&of(a), &of(b), format!("{at}.{key}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| differences(a, b, format!("{at}[]"), out));
        }
        _ if a == b => {}
        _ => out.push(at),
    }
}

/// Where two values differ first.
fn difference(a: &Value, b: &Value, at: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().find_map(|(key, value)| difference(value, &b[key], &format!("{at}.{key}")))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).find_map(|(a, b)| difference(a, b, &format!("{at}[]")))
        }
        _ => (a != b).then(|| format!("{at}: {a} {b}")),
    }
}

/// Whether the fields of a message come in the order of their numbers.
fn is_ascending(mut message: &[u8]) -> bool {
    let mut last = 0;
    while !message.is_empty() {
        let key = crate::protobuf::varint(&mut message).unwrap();
        let len = match key & 7 {
            0 => {
                crate::protobuf::varint(&mut message).unwrap();
                0
            }
            1 => 8,
            _ => usize::try_from(crate::protobuf::varint(&mut message).unwrap()).unwrap(),
        };
        message = &message[len..];
        if key >> 3 < last {
            return false;
        }
        last = key >> 3;
    }
    true
}

#[test]
fn the_envelope_is_as_go_writes_it() {
    let mut out = Vec::new();
    let json = br#"{"metadata":{"name":"a"},"data":{"z":"1","b":"2"}}"#;
    Encoder::default()
        .document("v1", "ConfigMap", &mut out, |own, out| own.message("io.k8s.api.core.v1.ConfigMap", json, out))
        .unwrap();
    let message = r"\n\x03\n\x01a\x12\x06\n\x01b\x12\x012\x12\x06\n\x01z\x12\x011";
    let envelope = r#"k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12\x15"#;
    let expected = format!("{envelope}{message}{}", r#"\x1a\x00\"\x00"#);
    assert_eq!(out.escape_ascii().to_string(), expected);
}

#[test]
fn inlined_messages_are_put_together() {
    // name (1) comes last in JSON; emptyDir is field 2 of the inlined source, field 2 of the volume.
    let volume = json!({"emptyDir": {}, "name": "v"});
    assert_eq!(message("io.k8s.api.core.v1.Volume", &volume), b"\n\x01v\x12\x02\x12\x00");
    // Two levels: apiGroups (1) of the rule (2) of the rule with operations (2).
    let rule = json!({"apiGroups": ["a"], "resourceNames": ["n"], "operations": ["*"], "resources": ["r"]});
    let bytes = message("io.k8s.api.admissionregistration.v1.NamedRuleWithOperations", &rule);
    assert_eq!(bytes, b"\n\x01n\x12\x0b\n\x01*\x12\x06\n\x01a\x1a\x01r");
}

#[test]
fn values_of_their_own_form() {
    let port = json!({"port": 80, "targetPort": -1, "nodePort": 300});
    let bytes = message("io.k8s.api.core.v1.ServicePort", &port);
    expect![[r#"\x18P\"\x0f\x08\x00\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a\x00(\xac\x02"#]]
        .assert_eq(&bytes.escape_ascii().to_string());
    // Before 1970, with a fraction.
    let lease = json!({"renewTime": "1969-12-31T23:59:59.500000Z", "leaseDurationSeconds": null});
    let bytes = message("io.k8s.api.coordination.v1.LeaseSpec", &lease);
    expect![[r#"\"\x11\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x80\xca\xb5\xee\x01"#]]
        .assert_eq(&bytes.escape_ascii().to_string());
    let long = json!({"data": {"k": "x".repeat(300)}});
    let bytes = message("io.k8s.api.core.v1.ConfigMap", &long);
    assert_eq!(&bytes[..9], b"\x12\xb2\x02\n\x01k\x12\xac\x02");
    assert_eq!(bytes.len(), 3 + 306);
}

#[test]
fn json_schemas_have_several_forms() {
    let schema = json!({
        "type": "object",
        "additionalProperties": {"type": "string"},
        "additionalItems": false,
        "items": [{"type": "integer"}, {"enum": [1, "a", null]}],
        "dependencies": {"a": ["b"], "c": {"type": "string"}},
        "properties": {"x": {"items": {"type": "string"}, "default": {"a": 1}, "x-kubernetes-list-map-keys": ["k"]}},
    });
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "spec": {"versions": [{"name": "v1", "served": true, "storage": false, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": schema}}]},
    });
    let json = crd.to_string();
    let mut out = Vec::new();
    let definition = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    Encoder::default()
        .document("apiextensions.k8s.io/v1", "CustomResourceDefinition", &mut out, |own, out| {
            own.message(definition, json.as_bytes(), out)
        })
        .unwrap();
    assert_eq!(decode(&out).unwrap(), crd);
}

#[test]
fn a_list_is_written_item_after_item() {
    let list = List::new(br#"{"resourceVersion":"7","continue":"c","remainingItemCount":2}"#).unwrap();
    let mut items: Vec<Vec<u8>> =
        ["a", "b"].map(|name| message("io.k8s.api.core.v1.ConfigMap", &json!({"metadata": {"name": name}}))).to_vec();
    items.push(message("io.k8s.api.core.v1.ConfigMap", &json!({"data": {"k": "x".repeat(40_000)}})));
    let mut out = Vec::new();
    list.begin("v1", "ConfigMapList", items.iter().map(|item| List::item_len(item.len())).sum(), &mut out);
    for item in &items {
        List::item(&mut out, item);
    }
    List::end(&mut out);
    let read = decode(&out).unwrap();
    assert_eq!(read["metadata"], json!({"resourceVersion": "7", "continue": "c", "remainingItemCount": 2}));
    assert_eq!(read["items"][1]["metadata"]["name"], "b");
    assert_eq!(read["items"][2]["data"]["k"].as_str().unwrap().len(), 40_000);
}

#[test]
fn a_watch_event_is_framed() {
    let mut out = Vec::new();
    watch_event("ADDED", b"object", &mut out).unwrap();
    assert_eq!(out, b"\x00\x00\x00\x11\n\x05ADDED\x12\x08\n\x06object");
}

#[test]
fn text_that_does_not_fit_is_refused() {
    let pod = "io.k8s.api.core.v1.Pod";
    let cases = [
        "",
        "{",
        "[]",
        "nul",
        r#"{"metadata"}"#,
        r#"{"metadata":{"name":7}}"#,
        r#"{"metadata":{"name":"a}}"#,
        r#"{"metadata":{"name":"\u12"}}"#,
        r#"{"metadata":{"creationTimestamp":"today"}}"#,
        r#"{"spec":{"priority":1.5}}"#,
        r#"{"spec":{"hostNetwork":"yes"}}"#,
        r#"{"metadata":{"name":"a"} "spec":{}}"#,
    ];
    for json in cases {
        let mut out = Vec::new();
        assert!(Encoder::default().message(pod, json.as_bytes(), &mut out).is_err(), "{json}");
    }
    assert!(Encoder::default().message("io.k8s.Nothing", b"{}", &mut Vec::new()).is_err());
    let escaped = message(pod, &json!({"metadata": {"name": "\u{8}\u{1f600}\\/"}}));
    assert_eq!(escaped, [b"\n\x09\n\x07\x08".as_slice(), "😀\\/".as_bytes()].concat());
    let mut out = Vec::new();
    Encoder::default().message(pod, br#"{"metadata":{"name":"\ud83d\ude00\ud83d"}}"#, &mut out).unwrap();
    assert_eq!(out, [b"\n\x09\n\x07".as_slice(), "😀\u{fffd}".as_bytes()].concat());
}

#[test]
fn keys_are_sorted_however_long_the_entries() {
    let values = ["x".repeat(300), "y".repeat(20_000), "z".into()];
    let entry = |key: &str, at: usize| format!("{key:?}:{:?}", values[at]);
    let read = |entries: [String; 3]| {
        let json = format!("{{\"data\":{{{}}}}}", entries.join(","));
        let mut out = Vec::new();
        Encoder::default().message("io.k8s.api.core.v1.ConfigMap", json.as_bytes(), &mut out).unwrap();
        out
    };
    let sorted = read([entry("a", 0), entry("b\"", 1), entry("c", 2)]);
    assert_eq!(read([entry("c", 2), entry("b\"", 1), entry("a", 0)]), sorted);
    assert!(sorted.len() > 20_300);
}

proptest::proptest! {
    #[test]
    fn times_are_read_as_the_calendar_has_them(seconds in -62_135_596_800_i64..253_402_300_799) {
        let time = jiff::Timestamp::from_second(seconds).unwrap();
        let text = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let fast = whole_seconds(text.as_bytes());
        proptest::prop_assert!(fast.is_none_or(|fast| fast == seconds), "{} {:?}", text, fast);
        let day = time.strftime("%d").to_string();
        proptest::prop_assert_eq!(fast.is_none(), day.as_str() > "28", "{}", text);
    }

    #[test]
    fn what_is_no_usual_time_is_left_to_the_calendar(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z") {
        let fast = whole_seconds(text.as_bytes());
        let slow = text.parse::<jiff::Timestamp>().ok().map(|time| time.as_second());
        proptest::prop_assert!(fast.is_none() || fast == slow, "{} {:?} {:?}", text, fast, slow);
    }

    #[test]
    fn no_text_is_too_odd(text in "[{}\\[\\]:,\"a-z0-9\\\\ ]{0,80}") {
        let _ = Encoder::default().message("io.k8s.api.core.v1.Pod", text.as_bytes(), &mut Vec::new());
    }
}
