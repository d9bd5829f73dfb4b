//! Tests of `managed`.

use serde_json::json;

use super::*;

fn deployment() -> Types<'static> {
    schema::definition("io.k8s.api.apps.v1.Deployment").expect("in the table").into()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn writer(manager: &str, second: i64) -> Writer<'_> {
    Writer { manager, subresource: "", api_version: "apps/v1", now: at(second), ignored: &["status"] }
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn containers(list: Value) -> Value {
    object(json!({"template": {"spec": {"containers": list}}}))
}

fn fields_of(object: &Value, manager: &str) -> Value {
    let list = object.pointer("/metadata/managedFields").and_then(Value::as_array).cloned().unwrap_or_default();
    let entry = list.into_iter().find(|entry| entry["manager"] == manager);
    entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

#[test]
fn a_create_is_recorded() {
    let mut new = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}, "uid": "u"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1}, "type": "RollingUpdate"},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
                {"name": "web", "image": "i", "resources": {}, "ports": [{"containerPort": 80}], "command": ["a"]},
            ]}},
        },
        "status": {"replicas": 0},
    });
    update(None, &mut new, deployment(), &writer("kubectl-create", 0), None);
    assert_eq!(
        new["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "apps/v1", "time": "1970-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {}, "f:selector": {},
                    "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                            ".": {}, "f:command": {}, "f:image": {}, "f:name": {},
                            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                            "f:resources": {},
                        }}},
                    },
                },
            },
        }])
    );
}

#[test]
fn an_update_takes_fields_over() {
    let mut first = object(json!({"replicas": 1, "paused": true}));
    update(None, &mut first, deployment(), &writer("a", 1), None);
    let mut second = first.clone();
    second["spec"] = json!({"replicas": 2, "minReadySeconds": 3});
    update(Some(&first), &mut second, deployment(), &writer("b", 2), None);
    assert_eq!(fields_of(&second, "a"), Value::Null);
    assert_eq!(fields_of(&second, "b"), json!({"f:spec": {"f:minReadySeconds": {}, "f:replicas": {}}}));

    let mut same = second.clone();
    update(Some(&second), &mut same, deployment(), &writer("b", 9), None);
    assert_eq!(same, second, "nothing changed, not even the time");

    let mut reset = second.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    update(Some(&second), &mut reset, deployment(), &writer("c", 3), None);
    assert_eq!(reset["metadata"].get("managedFields"), None);
}

#[test]
fn status_has_its_own_entry() {
    let mut live = object(json!({"replicas": 1}));
    update(None, &mut live, deployment(), &writer("a", 1), None);
    let mut new = live.clone();
    new["status"] = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    let status = Writer { subresource: "status", ignored: &["spec", "metadata"], ..writer("a", 2) };
    update(Some(&live), &mut new, deployment(), &status, None);
    let list = new["metadata"]["managedFields"].as_array().expect("a list");
    assert_eq!(list.len(), 2);
    assert_eq!(list[1]["subresource"], "status");
    assert_eq!(
        list[1]["fieldsV1"],
        json!({"f:status": {
            "f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}},
            "f:replicas": {},
        }})
    );
}

#[test]
fn old_updaters_are_merged() {
    let mut live = object(json!({}));
    for index in 0..15 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{index}")] = json!("x");
        let manager = format!("m{index}");
        update(Some(&live), &mut new, deployment(), &writer(&manager, index), None);
        live = new;
    }
    let list = live["metadata"]["managedFields"].as_array().expect("a list");
    assert_eq!(list.len(), UPDATE_MANAGERS_MAX);
    assert!(list.iter().any(|entry| entry["manager"] == ANCIENT_MANAGER));
    assert!(list.is_sorted_by_key(|entry| entry["time"].as_str()));
}

#[test]
fn apply_makes_and_changes_objects() {
    let config = containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
    let mut live = apply(None, config, deployment(), &writer("kubectl", 1), false).expect("no conflict");
    assert_eq!(
        fields_of(&live, "kubectl"),
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}},
            "k:{\"name\":\"b\"}": {".": {}, "f:image": {}, "f:name": {}},
        }}}}})
    );
    // what the server adds belongs to nobody
    live["spec"]["template"]["spec"]["containers"][1]["terminationMessagePath"] = json!("/dev/termination-log");
    let config = containers(json!([{"name": "c"}, {"name": "a", "image": "2"}]));
    let merged = apply(Some(&live), config.clone(), deployment(), &writer("kubectl", 2), false).expect("no conflict");
    assert_eq!(merged["spec"], config["spec"]);
    let again = apply(Some(&merged), config, deployment(), &writer("kubectl", 3), false).expect("no conflict");
    assert_eq!(again, merged, "nothing changed, not even the time");
}

#[test]
fn apply_keeps_what_others_own() {
    let config = containers(json!([{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}]));
    let live = apply(None, config, deployment(), &writer("one", 1), false).expect("no conflict");
    let other = containers(json!([{"name": "a", "env": [{"name": "Y", "value": "2"}]}]));
    let live = apply(Some(&live), other, deployment(), &writer("two", 2), false).expect("no conflict");
    let less = apply(Some(&live), object(json!({})), deployment(), &writer("one", 3), false).expect("no conflict");
    assert_eq!(
        less["spec"],
        json!({"template": {"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}}})
    );
}

#[test]
fn apply_conflicts() {
    let mut live = object(json!({"replicas": 1, "paused": true}));
    update(None, &mut live, deployment(), &writer("kubectl-create", 1), None);
    let config = object(json!({"replicas": 3}));
    let refused = apply(Some(&live), config.clone(), deployment(), &writer("me", 2), false).expect_err("a conflict");
    assert_eq!(
        refused.to_string(),
        r#"Apply failed with 1 conflict: conflict with "kubectl-create" using apps/v1: .spec.replicas"#
    );
    let status = Status::from(refused);
    assert_eq!((status.code(), status.reason()), (409, "Conflict"));
    let both =
        apply(Some(&live), object(json!({"replicas": 3, "paused": false})), deployment(), &writer("me", 2), false);
    assert_eq!(
        both.expect_err("two conflicts").to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-create\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
    let forced = apply(Some(&live), config.clone(), deployment(), &writer("me", 2), true).expect("forced");
    assert_eq!(forced["spec"], json!({"replicas": 3, "paused": true}));
    assert_eq!(fields_of(&forced, "kubectl-create"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(fields_of(&forced, "me"), json!({"f:spec": {"f:replicas": {}}}));
    // the same value is no conflict: both own it
    let shared =
        apply(Some(&live), object(json!({"replicas": 1})), deployment(), &writer("me", 2), false).expect("fits");
    assert_eq!(fields_of(&shared, "me"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields_of(&shared, "kubectl-create"), json!({"f:spec": {"f:paused": {}, "f:replicas": {}}}));
}

#[test]
fn apply_refuses_what_does_not_fit() {
    let refused =
        |config: Value| apply(None, config, deployment(), &writer("me", 1), false).expect_err("refused").to_string();
    assert_eq!(
        refused(object(json!({"foo": 1}))),
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
    );
    let mut config = object(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    assert_eq!(refused(config), "metadata.managedFields must be nil");
    assert_eq!(
        refused(json!({"apiVersion": "v1"})),
        "Incorrect version specified in apply patch. Specified patch version: v1, expected: apps/v1"
    );
}

#[test]
fn the_first_apply_finds_what_was_there() {
    let live = object(json!({"replicas": 1, "paused": true}));
    let config = object(json!({"replicas": 2}));
    let refused = apply(Some(&live), config, deployment(), &writer("me", 1), false).expect_err("a conflict");
    assert_eq!(
        refused.to_string(),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#
    );
}

#[test]
fn sets() {
    let text = json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"k:{\"x\":1,\"y\":\"z\"}": {}, "v:\"s\"": {}}});
    let set = Set::decode(&text);
    assert_eq!(set.encode(), text);
    assert_eq!(set.paths(), [".a", ".a.b", ".c[x=1,y=\"z\"]", ".c[=\"s\"]"]);
    let mut rest = set.clone();
    rest.subtract(&set.intersection(&set));
    assert!(rest.is_empty());
    assert_eq!(manager_of("kubectl/v1.32 (linux)"), "kubectl");
}

/// `spec` with a keyed list, a set, an atomic map, and a field of which nothing is said.
fn cat() -> Shape {
    let fields = |list: Vec<(&str, Shape)>| {
        let mut list: Vec<(Box<str>, Shape)> = list.into_iter().map(|(name, shape)| (name.into(), shape)).collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        Shape::new(Form::Fields(list.into(), None))
    };
    let text = || Shape::new(Form::Text);
    let map = || Shape::new(Form::Fields(Box::default(), Some(Box::new(text()))));
    let toy = fields(vec![("name", text()), ("kind", text()), ("price", Shape::new(Form::Number))]);
    let keys = Items::Keyed(Box::new([("name".into(), None), ("kind".into(), Some("ball".into()))]));
    let spec = fields(vec![
        ("fur", text()),
        ("toys", Shape::new(Form::List(Box::new(toy), keys))),
        ("friends", Shape::new(Form::List(Box::new(text()), Items::Set))),
        ("names", Shape::new(Form::List(Box::new(text()), Items::Atomic))),
        ("tags", map()),
        ("chip", Shape { atomic: true, ..map() }),
        ("any", Shape::new(Form::Any)),
    ]);
    let metadata = schema::definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("in the table");
    fields(vec![
        ("apiVersion", text()),
        ("kind", text()),
        ("metadata", Shape::new(Form::BuiltIn(metadata))),
        ("spec", spec),
    ])
}

fn cat_writer(manager: &str) -> Writer<'_> {
    Writer { manager, subresource: "", api_version: "example.com/v1", now: at(1), ignored: &[] }
}

fn tom(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Cat", "metadata": {"name": "tom", "labels": {"a": "b"}}, "spec": spec})
}

#[test]
fn a_shape_made_at_run_time_says_what_is_owned() {
    let shape = cat();
    let mut new = tom(json!({
        "fur": "grey", "toys": [{"name": "mouse", "price": 1}], "friends": ["tim"], "names": ["a", "b"],
        "tags": {"x": "y"}, "chip": {"n": "1"}, "any": {"deep": {"list": [{"name": "x"}]}},
    }));
    update(None, &mut new, (&shape).into(), &cat_writer("kubectl"), None);
    assert_eq!(
        fields_of(&new, "kubectl"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {
                ".": {},
                "f:any": {".": {}, "f:deep": {".": {}, "f:list": {}}},
                "f:chip": {},
                "f:friends": {".": {}, "v:\"tim\"": {}},
                "f:fur": {},
                "f:names": {},
                "f:tags": {".": {}, "f:x": {}},
                "f:toys": {".": {}, "k:{\"kind\":\"ball\",\"name\":\"mouse\"}": {".": {}, "f:name": {}, "f:price": {}}},
            },
        })
    );
}

#[test]
fn appliers_share_the_lists_and_maps_of_a_custom_resource() {
    let shape = cat();
    let apply = |live: Option<&Value>, spec: Value, manager: &str, force: bool| {
        apply(live, tom(spec), (&shape).into(), &cat_writer(manager), force)
    };
    let one = apply(None, json!({"fur": "grey", "toys": [{"name": "a", "price": 1}], "friends": ["x"]}), "one", false);
    let one = one.expect("new");
    let both = apply(Some(&one), json!({"toys": [{"name": "b"}], "friends": ["y"], "chip": {"n": "1"}}), "two", false);
    let both = both.expect("no conflict");
    assert_eq!(
        both["spec"],
        json!({"fur": "grey", "toys": [{"name": "a", "price": 1}, {"name": "b"}], "friends": ["x", "y"],
               "chip": {"n": "1"}})
    );
    let refused = apply(Some(&both), json!({"toys": [{"name": "a", "price": 2}]}), "two", false).expect_err("owned");
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.toys[kind=\"ball\",name=\"a\"].price"
    );
    let less = apply(Some(&both), json!({"fur": "grey"}), "one", false).expect("no conflict");
    assert_eq!(less["spec"], json!({"fur": "grey", "toys": [{"name": "b"}], "friends": ["y"], "chip": {"n": "1"}}));
    let malformed = apply(None, json!({"fur": 1, "wings": 2}), "one", false).expect_err("no cat");
    assert_eq!(
        malformed.to_string(),
        "failed to create typed patch object (/tom; example.com/v1, Kind=Cat): errors:\n  .spec.fur: expected string, \
         got &value.valueUnstructured{Value:1}\n  .spec.wings: field not declared in schema"
    );
    let twice = apply(None, json!({"toys": [{"name": "a"}, {"name": "a", "kind": "ball"}]}), "one", false);
    assert!(
        twice
            .expect_err("twice")
            .to_string()
            .ends_with(".spec.toys: duplicate entries for key [kind=\"ball\",name=\"a\"]")
    );
}

#[test]
fn owners_in_another_version_are_asked_in_theirs() {
    let shape = cat();
    let mut live = tom(json!({"fur": "grey"}));
    let elder = Writer { api_version: "example.com/v0", ..cat_writer("elder") };
    let old_form = json!({"apiVersion": "example.com/v0", "kind": "Cat", "metadata": {"name": "tom"}, "spec": {"any": {"coat": "grey"}}});
    let mut in_old = old_form.clone();
    update(None, &mut in_old, (&shape).into(), &elder, None);
    live["metadata"]["managedFields"] = in_old["metadata"]["managedFields"].clone();
    assert_eq!(other_versions(Some(&live), "example.com/v1"), ["example.com/v0"]);

    let other = |coat: &str| {
        let mut new = old_form.clone();
        new["spec"]["any"]["coat"] = coat.into();
        Other { api_version: "example.com/v0", types: (&shape).into(), live: old_form.clone(), new }
    };
    let mut red = live.clone();
    red["spec"]["fur"] = "red".into();
    update(Some(&live), &mut red, (&shape).into(), &cat_writer("young"), Some(&[other("red")]));
    assert_eq!(fields_of(&red, "elder"), json!({"f:spec": {".": {}, "f:any": {}}}));

    let writer = cat_writer("young");
    let merge = Merge::begin(Some(&live), tom(json!({"fur": "red"})), (&shape).into(), &writer).expect("fits");
    let refused = merge.finish(Some(&[other("red")]), false).expect_err("owned");
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"elder\" using example.com/v0: .spec.any.coat"
    );
    // a version that is no more has no owners
    let merge = Merge::begin(Some(&live), tom(json!({"fur": "red"})), (&shape).into(), &writer).expect("fits");
    let merged = merge.finish(Some(&[]), false).expect("nobody's");
    assert_eq!(fields_of(&merged, "elder"), Value::Null);
}

/// Where an apply puts items: those only the object has before what the configuration puts next.
#[test]
fn items_of_both_are_in_the_configurations_order() {
    let list = |names: &str| -> Value {
        containers(names.chars().map(|name| json!({"name": name.to_string(), "image": "i"})).collect())
    };
    for (live, config, wanted) in [
        ("m", "j", "mj"),
        ("ab", "xb", "axb"),
        ("abc", "ca", "bca"),
        ("abc", "xc", "abxc"),
        ("abc", "cx", "abcx"),
        ("abcd", "db", "acdb"),
        ("ab", "", "ab"),
        ("", "ba", "ba"),
        ("abc", "xayczb", "xaycz b"),
    ] {
        let mut object = list(live);
        walk::merge(&mut object, &list(config), deployment(), &[]);
        let merged = object.pointer("/spec/template/spec/containers").and_then(Value::as_array).cloned();
        let merged: String = merged.unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(merged, wanted.replace(' ', ""), "{config} onto {live}");
    }
}

/// A value of a type; two numbers give two values, where the type has more than one that is not empty.
fn sample(type_: &schema::Type, n: usize) -> Value {
    use schema::Type;
    match type_ {
        Type::String | Type::IntOrString | Type::Any => json!(format!("v{n}")),
        Type::Bytes => json!(["YQ==", "Yg=="][n % 2]),
        Type::Time => json!(format!("2026-01-01T00:00:0{n}Z")),
        Type::Boolean => json!(true),
        Type::Int32 | Type::Int64 | Type::Double => json!(n + 1),
        Type::Quantity => json!((n + 1).to_string()),
        Type::Object => json!({"a": format!("v{n}")}),
        Type::List(item) => json!([sample(item, n)]),
        Type::Map(value) => json!({"k": sample(value, n)}),
        Type::Struct(_) => {
            let mut found = json!({});
            if let Some(property) = plain_properties(type_).first() {
                found[property.name] = sample(&property.type_, n);
            }
            found
        }
    }
}

fn plain_properties(type_: &schema::Type) -> Vec<&'static schema::Property> {
    use schema::Type;
    let plain = |property: &&schema::Property| matches!(property.type_, Type::String | Type::Int32 | Type::Int64);
    type_.definition().map(|own| own.properties.iter().filter(plain).collect()).unwrap_or_default()
}

/// What two appliers want of one field, and whether they can both have it; `None` where nothing can be told apart.
fn two_wishes(property: &schema::Property) -> Option<(Value, Value, bool)> {
    use schema::{ListType, Type};
    let (one, two, shared) = match &property.type_ {
        Type::List(item) if property.list_type == Some(ListType::Map) => {
            let keyed = |n: usize| {
                let mut found = json!({});
                for key in &property.list_map_keys {
                    found[*key] = sample(&item.definition()?.property(key)?.type_, n);
                }
                Some(json!([found]))
            };
            (keyed(0)?, keyed(1)?, true)
        }
        Type::List(item) => {
            let shared = property.list_type == Some(ListType::Set);
            (json!([sample(item, 0)]), json!([sample(item, 1)]), shared)
        }
        Type::Map(value) => (json!({"x": sample(value, 0)}), json!({"y": sample(value, 1)}), !property.map_atomic),
        Type::Struct(_) => {
            let own = plain_properties(&property.type_);
            let [first, second, ..] = own.as_slice() else { return None };
            let atomic = property.map_atomic || property.type_.definition()?.map_atomic;
            let wish = |of: &schema::Property| {
                let mut found = json!({});
                found[of.name] = sample(&of.type_, 0);
                found
            };
            (wish(first), wish(second), !atomic)
        }
        _ => return None,
    };
    (one != two).then_some((one, two, shared))
}

/// Every list and map of the API, by the table of upstream's facts: what is keyed, a set or granular is shared by two
/// appliers, what is atomic is one's alone.
#[test]
fn every_list_and_map_is_shared_as_the_table_says() {
    let by = |manager| Writer { api_version: "", ..writer(manager, 1) };
    let (mut shared_len, mut atomic_len) = (0, 0);
    let metadata = schema::definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("it is in the table");
    let metadata = Shape::new(Form::BuiltIn(metadata));
    for definition in schema::all().iter().filter(|definition| !definition.map_atomic) {
        for property in definition.properties.iter().filter(|property| property.name != "metadata") {
            let Some((one, two, shared)) = two_wishes(property) else { continue };
            let place = format!("{}.{}", definition.name, property.name);
            let config = |value: &Value| {
                let mut config = json!({"metadata": {"name": "x"}, "spec": {}});
                config["spec"][property.name] = value.clone();
                config
            };
            // In an object with metadata, where owners are kept.
            let fields: [(Box<str>, Shape); 2] =
                [("metadata".into(), metadata.clone()), ("spec".into(), Shape::new(Form::BuiltIn(definition)))];
            let object = Shape::new(Form::Fields(Box::new(fields), None));
            let live = apply(None, config(&one), (&object).into(), &by("one"), false).expect(&place);
            let merged = apply(Some(&live), config(&two), (&object).into(), &by("two"), false);
            if !shared {
                assert!(matches!(merged, Err(ApplyError::Conflict { .. })), "{place} is atomic: {merged:?}");
                atomic_len += 1;
                continue;
            }
            let merged = merged.unwrap_or_else(|error| panic!("{place} is shared: {error}"));
            let len = |value: &Value| value.as_array().map(Vec::len).or(value.as_object().map(Map::len)).unwrap_or(0);
            let found = &merged["spec"][property.name];
            assert_eq!(len(found), len(&one) + len(&two), "{place}: {found}");
            shared_len += 1;
        }
    }
    assert!(shared_len > 300 && atomic_len > 200, "{shared_len} shared, {atomic_len} atomic");
}
