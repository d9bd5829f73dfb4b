use serde_json::json;

use super::*;

#[test]
fn json_duplicates_have_paths() {
    let text = br#"{"spec":{"replicas":1,"replicas":2,"c":[{"a":1},{"a":1,"a":2}]},"spec":{"x":1}}"#;
    let parsed = parse_json(text).expect("valid");
    assert_eq!(parsed.duplicates, ["spec.replicas", "spec.c[1].a", "spec"]);
    assert_eq!(parsed.value, json!({"spec": {"x": 1}}));
    assert_eq!(parsed.strict_problems()[0], r#"duplicate field "spec.replicas""#);
}

#[test]
fn json_errors_are_worded_as_in_go() {
    for (text, expected) in [
        ("", "unexpected end of JSON input"),
        (r#"{"a":"#, "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        (r#"{"a":1 "b"}"#, r#"invalid character '"' after object key:value pair"#),
        (r#"{a:1}"#, "invalid character 'a' looking for beginning of object key string"),
        ("[1 2]", "invalid character '2' after array element"),
        ("{} {}", "invalid character '{' after top-level value"),
    ] {
        assert_eq!(parse_json(text.as_bytes()).expect_err(text).to_string(), expected, "{text}");
        assert_eq!(json_value(text.as_bytes()).expect_err(text).to_string(), expected, "{text}");
    }
}

#[test]
fn yaml_scalars_follow_version_1_1() {
    for (text, expected) in [
        ("0644", json!(420)),
        ("0o644", json!(420)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("-0b11", json!(-3)),
        ("1_000", json!(1000)),
        ("+5", json!(5)),
        ("089", json!(89)),
        ("1.0", json!(1)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000)),
        (".5", json!(0.5)),
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("y", json!(true)),
        ("\"yes\"", json!("yes")),
        ("~", json!(null)),
        ("", json!(null)),
        ("null", json!(null)),
        ("2001-12-14", json!("2001-12-14")),
        ("1.2.3", json!("1.2.3")),
        ("12:30:45", json!("12:30:45")),
        ("100m", json!("100m")),
        ("!!str 5", json!("5")),
        ("!!float 5", json!(5)),
        ("1.37", json!(1.37)),
        ("18446744073709551615", json!(18446744073709551615u64)),
        ("-", json!([null])),
        ("'-'", json!("-")),
        ("0.1", json!(0.1)),
    ] {
        assert_eq!(parse_yaml(text.as_bytes()).expect(text).value, expected, "{text}");
    }
}

#[test]
fn yaml_structures() {
    let text = "
base: &base {a: 1, b: 2}
derived:
  <<: *base
  b: 3
list:
- *base
- on: off
  5: five
text: |
  line
dup: 1
dup: 2
";
    let parsed = parse_yaml(text.as_bytes()).expect("valid");
    assert_eq!(
        parsed.value,
        json!({
            "base": {"a": 1, "b": 2},
            "derived": {"b": 3, "a": 1},
            "list": [{"a": 1, "b": 2}, {"true": false, "5": "five"}],
            "text": "line\n",
            "dup": 2,
        })
    );
    assert_eq!(parsed.duplicates, ["dup"]);
}

#[test]
fn yaml_documents() {
    let values = |text: &str| {
        let documents = parse_yaml_documents(text.as_bytes()).expect("valid");
        documents.into_iter().map(|document| document.value).collect::<Vec<_>>()
    };
    assert_eq!(values("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n"), [json!({"a": 1}), json!({"b": 2})]);
    assert_eq!(values(""), Vec::<Value>::new());
    assert_eq!(parse_yaml(b"a: 1\n---\nb: 2").expect("valid").value, json!({"a": 1}));
    assert_eq!(parse_yaml(br#"{"a": [1, {"b": null}]}"#).expect("valid").value, json!({"a": [1, {"b": null}]}));
}

#[test]
fn yaml_errors() {
    let error = parse_yaml(b"a: b: c").expect_err("no mapping in a plain value").to_string();
    assert!(error.starts_with("error converting YAML to JSON: yaml: line 1: "), "{error}");
    assert!(parse_yaml(b"? [a]\n: 1").is_err());
    assert!(parse_yaml(b"a: .nan").is_err());
    assert!(parse_yaml(b"a: *missing").is_err());
    let bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n".to_owned()
        + &('b'..='h')
            .zip('a'..='g')
            .map(|(next, last)| format!("{next}: &{next} [{}]\n", vec![format!("*{last}"); 10].join(",")))
            .collect::<String>();
    let error = parse_yaml(bomb.as_bytes()).expect_err("too many nodes").to_string();
    assert!(error.ends_with("yaml: document contains excessive aliasing"), "{error}");
    assert!(parse_yaml("[".repeat(200).as_bytes()).is_err());
}

/// A protobuf message from its fields; texts and messages are bytes.
fn message(fields: &[(u8, Field<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, field) in fields {
        let (wire, content) = match field {
            Field::Number(value) => (0, vec![*value]),
            Field::Bytes(content) => (2, [&[content.len() as u8], *content].concat()),
        };
        // numbers above 15 take a second byte
        let tag = u32::from(*number) << 3 | wire;
        if tag < 128 {
            bytes.push(tag as u8)
        } else {
            bytes.extend([tag as u8 | 0x80, (tag >> 7) as u8])
        }
        bytes.extend(content);
    }
    bytes
}

enum Field<'a> {
    Number(u8),
    Bytes(&'a [u8]),
}
use Field::{Bytes as B, Number as N};

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = message(&[(1, B(api_version.as_bytes())), (2, B(kind.as_bytes()))]);
    [b"k8s\0".to_vec(), message(&[(1, B(&meta)), (2, B(raw)), (3, B(b"")), (4, B(b""))])].concat()
}

#[test]
fn protobuf_as_kubectl_sends_a_namespace() {
    // by value and zero: generateName, namespace, selfLink, uid, resourceVersion, generation, creationTimestamp
    let empty = B(b"");
    let metadata = message(&[
        (1, B(b"web")),
        (2, empty),
        (3, B(b"")),
        (4, B(b"")),
        (5, B(b"")),
        (6, B(b"")),
        (7, N(0)),
        (8, B(b"")),
    ]);
    let status = message(&[(1, B(b""))]);
    let raw = message(&[(1, B(&metadata)), (2, B(b"")), (3, B(&status))]);
    assert_eq!(
        parse_protobuf(&envelope("v1", "Namespace", &raw)).expect("valid").value,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}, "spec": {}, "status": {}})
    );
}

#[test]
fn protobuf_of_every_type() {
    let label = message(&[(1, B(b"app")), (2, B(b"web"))]);
    let time = message(&[(1, N(60)), (2, N(0))]);
    let metadata = message(&[(1, B(b"web")), (8, B(&time)), (11, B(&label))]);
    let quantity = message(&[(1, B(b"500m"))]);
    let limit = message(&[(1, B(b"cpu")), (2, B(&quantity))]);
    let resources = message(&[(1, B(&limit))]);
    let port = message(&[(1, N(0)), (2, N(80)), (3, B(b""))]);
    let get = message(&[(1, B(b"/")), (2, B(&port))]);
    let handler = message(&[(2, B(&get))]);
    let probe = message(&[(1, B(&handler)), (2, N(0)), (3, N(5))]);
    let container = message(&[
        (1, B(b"web")),
        (3, B(b"run")),
        (3, B(b"")),
        (8, B(&resources)),
        (10, B(&probe)),
        (16, N(1)),
        (17, N(0)),
    ]);
    let source = message(&[(2, B(b""))]);
    let volume = message(&[(1, B(b"v")), (2, B(&source))]);
    let spec = message(&[(1, B(&volume)), (2, B(&container)), (4, N(0)), (11, N(0))]);
    let raw = message(&[(1, B(&metadata)), (2, B(&spec))]);
    let parsed = parse_protobuf(&envelope("v1", "Pod", &raw)).expect("valid").value;
    assert_eq!(
        parsed,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "creationTimestamp": "1970-01-01T00:01:00Z", "labels": {"app": "web"}},
            "spec": {
                "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [{
                    "name": "web", "command": ["run", ""], "resources": {"limits": {"cpu": "500m"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": 80}, "timeoutSeconds": 5}, "stdin": true,
                }],
                // held by pointer: zero is not absent
                "terminationGracePeriodSeconds": 0,
            },
        })
    );
    let pod = crate::schema::definition("io.k8s.api.core.v1.Pod").expect("in the table");
    assert_eq!(crate::schema::check(&parsed, pod), crate::schema::Checked::default());
}

#[test]
fn protobuf_errors() {
    assert!(parse_protobuf(b"{}").expect_err("no magic").to_string().contains("expected prefix [107 56 115 0]"));
    let error = parse_protobuf(&envelope("v1", "Nothing", b"")).expect_err("no such kind").to_string();
    assert_eq!(error, r#"no kind "Nothing" is registered for version "v1""#);
    let whole = envelope("v1", "Namespace", &message(&[(1, B(&message(&[(1, B(b"web"))])))]));
    for len in 4..whole.len() {
        // never a panic; whatever is cut off is missed or refused
        let _ = parse_protobuf(&whole[..len]);
    }
    assert!(parse_protobuf(&whole[..whole.len() - 5]).is_err());
}
