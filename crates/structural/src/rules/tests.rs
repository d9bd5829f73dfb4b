//! Rules on schemas and on objects, with upstream's words.

use api::FieldErrors;
use api::apiextensions::v1::JSONSchemaProps;
use api::field::Path;
use serde_json::{Value, json};

use super::{Costs, check};
use crate::node::Node;
use crate::tests::schema;

fn texts(errors: &FieldErrors) -> Vec<String> {
    errors.0.iter().map(ToString::to_string).collect()
}

/// What is wrong with the rules of a schema whose `spec` is this.
fn wrong(spec: Value) -> Vec<String> {
    let props = json!({"type": "object", "properties": {"spec": spec}});
    let props: JSONSchemaProps = serde_json::from_value(props).expect("a schema");
    let mut errors = FieldErrors::new();
    let path = Path::new("s");
    let node = Node::compile(&props, &path, &mut errors);
    let mut costs = Costs::default();
    check(&node, &props, &path, &mut costs, &mut errors);
    costs.check(&path, &mut errors);
    texts(&errors)
}

fn ruled(rule: Value) -> Value {
    json!({"type": "object", "x-kubernetes-validations": [rule], "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string", "maxLength": 10},
    }})
}

#[test]
fn good_rules_are_taken() {
    for rule in [
        json!({"rule": "self.min <= self.max", "message": "min is above max", "fieldPath": ".min"}),
        json!({"rule": "self.name == oldSelf.name", "reason": "FieldValueForbidden"}),
        json!({"rule": "oldSelf.hasValue() || self.min > 0", "optionalOldSelf": true}),
        json!({"rule": "self.min > 0", "messageExpression": "'min is %d'.format([self.min])"}),
    ] {
        assert_eq!(wrong(ruled(rule.clone())), Vec::<String>::new(), "{rule}");
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_said_where_it_is() {
    let at = "s.properties[spec].x-kubernetes-validations[0]";
    let cases = [
        (json!({"rule": " "}), format!("{at}.rule: Required value: rule is not specified")),
        (
            json!({"rule": "self.min > 0", "message": " "}),
            format!("{at}.message: Invalid value: \" \": message must be non-empty if specified"),
        ),
        (
            json!({"rule": "self.min >\n0"}),
            format!("{at}.message: Required value: message must be specified if rule contains line breaks"),
        ),
        (
            json!({"rule": "self.min > 0", "reason": "Odd"}),
            format!(
                "{at}.reason: Unsupported value: \"Odd\": supported values: \"FieldValueDuplicate\", \
                 \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\""
            ),
        ),
        (
            json!({"rule": "self.min > 0", "fieldPath": ".wings"}),
            format!(
                "{at}.fieldPath: Invalid value: \".wings\": fieldPath must be a valid path: does not refer to a valid \
                 field"
            ),
        ),
        (
            json!({"rule": "self.min > 0", "optionalOldSelf": true}),
            format!("{at}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"),
        ),
    ];
    for (rule, expected) in cases {
        assert_eq!(wrong(ruled(rule.clone())), [expected], "{rule}");
    }
    let ends = |rule: Value, place: &str, end: &str| {
        let found = wrong(ruled(rule));
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert!(one.starts_with(&format!("{at}.{place}: Invalid value: ")) && one.contains(end), "{one}");
    };
    ends(json!({"rule": "self.wings > 2"}), "rule", "compilation failed: ERROR: <input>:1:5: undefined field 'wings'");
    ends(json!({"rule": "self.min"}), "rule", "cel expression must evaluate to a bool");
    let number = json!({"rule": "self.min > 0", "messageExpression": "self.min"});
    ends(number, "messageExpression", "messageExpression must evaluate to a string");
}

#[test]
fn old_values_are_asked_for_only_where_they_are_found() {
    let list = |list_type: &str| {
        json!({"type": "object", "properties": {"list": {
            "type": "array", "maxItems": 3, "x-kubernetes-list-type": list_type, "x-kubernetes-list-map-keys": ["n"],
            "items": {"type": "object", "properties": {"n": {"type": "string", "maxLength": 3}},
                      "x-kubernetes-validations": [{"rule": "self.n == oldSelf.n"}]},
        }}})
    };
    assert_eq!(wrong(list("map")), Vec::<String>::new());
    assert_eq!(
        wrong(list("atomic")),
        ["s.properties[spec].properties[list].items.x-kubernetes-validations[0].rule: Invalid value: \"self.n == \
          oldSelf.n\": oldSelf cannot be used on the uncorrelatable portion of the schema within \
          s.properties[spec].properties[list]"]
    );
}

#[test]
fn what_costs_too_much_is_refused() {
    let many = |max: Value| {
        json!({"type": "object", "properties": {"tags": {
            "type": "array", "maxItems": max, "items": {"type": "string", "maxLength": 16},
            "x-kubernetes-validations": [{"rule": "self.all(x, x.contains('gpu'))"}],
        }}})
    };
    assert_eq!(wrong(many(json!(909_000))), Vec::<String>::new());
    let dear = wrong(many(json!(1_500_000)));
    assert_eq!(
        dear,
        [
            "s.properties[spec].properties[tags].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds \
          budget by factor of 1.7x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where \
          arrays, maps, and strings are declared)"
        ]
    );
    let unbounded = wrong(json!({"type": "object", "properties": {"tags": {
        "type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": [{"rule": "self.all(x, x.contains('gpu'))"}],
    }}}));
    let [rule, part, total] = unbounded.as_slice() else { panic!("{unbounded:?}") };
    assert!(rule.contains("exceeds budget by factor of more than 100x"), "{rule}");
    assert!(part.ends_with("total exceeding cost limit for entire OpenAPIv3 schema"), "{part}");
    assert!(total.starts_with("s: Forbidden: x-kubernetes-validations estimated rule cost total"), "{total}");
}

fn cats() -> crate::Schema {
    schema(json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "message": "min is above max"},
            {"rule": "self.max < 100", "messageExpression": "'%d is too much'.format([self.max])",
             "fieldPath": ".max", "reason": "FieldValueForbidden"},
            {"rule": "!has(oldSelf.name) || self.name == oldSelf.name", "message": "the name stays"},
            {"rule": "oldSelf.hasValue() || self.min == 0", "optionalOldSelf": true, "message": "starts at 0"},
        ],
        "properties": {
            "min": {"type": "integer", "default": 0}, "max": {"type": "integer"}, "name": {"type": "string"},
            "port": {"x-kubernetes-int-or-string": true,
                     "x-kubernetes-validations": [{"rule": "type(self) == int ? self > 0 : size(self) > 0"}]},
            "toys": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                "items": {"type": "object", "properties": {"n": {"type": "string"}, "price": {"type": "integer"}},
                    "x-kubernetes-validations": [{"rule": "self.price >= oldSelf.price", "message": "dearer only"}]}},
        },
    }}}))
}

#[test]
fn rules_hold_on_create() {
    let schema = cats();
    let errors = |spec: Value| texts(&schema.validate(&json!({"metadata": {"name": "a"}, "spec": spec})));
    assert_eq!(errors(json!({"min": 0, "max": 2, "port": 1, "toys": [{"n": "a", "price": 1}]})), Vec::<String>::new());
    assert_eq!(errors(json!({"min": 0, "max": -1})), ["spec: Invalid value: \"object\": min is above max"]);
    assert_eq!(errors(json!({"min": 0, "max": 200})), ["spec.max: Forbidden: 200 is too much"]);
    assert_eq!(errors(json!({"min": 1, "max": 2})), ["spec: Invalid value: \"object\": starts at 0"]);
    assert_eq!(
        errors(json!({"min": 0})),
        [
            "spec: Invalid value: \"object\": no such key: max evaluating rule: min is above max",
            "spec: Invalid value: \"object\": no such key: max evaluating rule: self.max < 100"
        ]
    );
    assert_eq!(
        errors(json!({"min": 0, "max": 2, "port": 0})),
        ["spec.port: Invalid value: \"\": failed rule: type(self) == int ? self > 0 : size(self) > 0"]
    );
    // with the wrong type nothing is asked
    assert_eq!(
        errors(json!({"min": "x", "max": -1})),
        [
            "spec.min: Invalid value: \"string\": spec.min in body must be of type integer: \"string\"",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; \
             correct the existing errors to complete validation"
        ]
    );
}

#[test]
fn rules_about_a_change_hold_on_update() {
    let schema = cats();
    let errors = |old: Value, new: Value| {
        let whole = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
        texts(&schema.validate_update(&whole(new), &whole(old)))
    };
    let old = json!({"min": 1, "max": 2, "name": "a", "toys": [{"n": "x", "price": 5}, {"n": "y", "price": 1}]});
    let mut new = old.clone();
    new["toys"] = json!([{"n": "y", "price": 1}, {"n": "x", "price": 4}, {"n": "z", "price": 0}]);
    assert_eq!(errors(old.clone(), new), ["spec.toys[1]: Invalid value: \"object\": dearer only"]);
    let mut renamed = old.clone();
    renamed["name"] = json!("b");
    assert_eq!(errors(old.clone(), renamed), ["spec: Invalid value: \"object\": the name stays"]);
    // what was wrong before and has not changed is let be
    let bad = json!({"min": 5, "max": 2, "name": "a"});
    assert_eq!(errors(bad.clone(), bad), Vec::<String>::new());
}

#[test]
fn rules_take_no_more_than_their_budget() {
    let schema = schema(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "list": {"type": "array", "items": {"type": "string"},
                 "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x.size() >= 0))"}]}}}}}));
    let list = vec!["a"; 2000];
    assert_eq!(
        texts(&schema.validate(&json!({"spec": {"list": list}}))),
        ["spec.list: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further \
          validation rules will be run due to call cost exceeds limit for rule: self.all(x, self.all(y, x.size() >= \
          0))"]
    );
}
