//! Tests of `codec`.

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
