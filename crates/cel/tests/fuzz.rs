//! Whatever is written, compiling and evaluating it ends with a value or an error, on a small stack.

use cel::{Environment, Type, Value};
use proptest::prelude::*;
use serde_json::json;

fn run(text: &str) {
    let environment = Environment::new()
        .variable("self", Type::DYN)
        .variable("list", Type::list(Type::Int))
        .variable("name", Type::STRING)
        .mutation();
    let Ok(program) = environment.compile(text) else { return };
    let estimate = program.estimated_cost();
    assert!(estimate.min <= estimate.max, "{text}");
    let this = json!({"a": 1, "b": [1, "x", null, 1.5], "c": {"d": true}});
    let list = json!([3, -1, 9223372036854775807i64]);
    let name = json!("héllo, wörld");
    let variables = [("self", Value::json(&this)), ("list", Value::json(&list)), ("name", Value::json(&name))];
    let (result, cost) = program.evaluate_with(&&variables[..], 20_000);
    assert!(cost <= 20_000 || result.is_err(), "{text}");
}

/// Expressions that mostly make sense.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("self".to_owned()),
        Just("self.b".to_owned()),
        Just("list".to_owned()),
        Just("name".to_owned()),
        Just("x".to_owned()),
        Just("optional.none()".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("timestamp(0)".to_owned()),
        Just("duration('1h')".to_owned()),
        Just("quantity('1Ei')".to_owned()),
        any::<i32>().prop_map(|number| number.to_string()),
        any::<u8>().prop_map(|number| format!("{number}u")),
        any::<f32>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| format!("{number:?}")),
        "'[a-zé%.(\\[]{0,6}'".prop_map(|text| text),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        let operators = prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "<", "in", "&&", "||"]);
        let macros = prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter", "optMap"]);
        let two = prop::sample::select(vec!["all", "transformList", "transformMap", "existsOne"]);
        let methods = prop::sample::select(vec![
            "size",
            "charAt",
            "substring",
            "indexOf",
            "lastIndexOf",
            "split",
            "replace",
            "join",
            "format",
            "find",
            "findAll",
            "matches",
            "sum",
            "min",
            "getHours",
            "or",
            "orValue",
            "value",
            "add",
            "reverse",
            "trim",
            "contains",
        ]);
        let functions = prop::sample::select(vec![
            "dyn",
            "int",
            "string",
            "uint",
            "double",
            "type",
            "size",
            "ip",
            "url",
            "semver",
            "duration",
            "timestamp",
        ]);
        prop_oneof![
            (inner.clone(), operators, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), macros, inner.clone()).prop_map(|(a, name, b)| format!("{a}.{name}(x, {b})")),
            (inner.clone(), two, inner.clone()).prop_map(|(a, name, b)| format!("dyn({a}).{name}(x, y, {b})")),
            (inner.clone(), methods, prop::collection::vec(inner.clone(), 0..3))
                .prop_map(|(a, name, args)| format!("dyn({a}).{name}({})", args.join(", "))),
            (functions, inner.clone()).prop_map(|(name, a)| format!("{name}({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[?{b}]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            inner.clone().prop_map(|a| format!("Object{{spec: {a}}}")),
            inner.prop_map(|a| format!("{a}.?c.d")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,60}") {
        run(&text);
    }

    #[test]
    fn words_of_the_language(words in prop::collection::vec(prop::sample::select(vec![
        "a", "self", ".", "?", "[", "]", "(", ")", "{", "}", ",", ":", "'x'", "\"", "\\", "1", "2u", "1.5", "-", "!", "&&",
        "||", "==", "in", "has", "all", "b'\\x", "r'", "'''", "`", "//", "\n", "0x", "é", "map", "e", "null",
    ]), 0..30)) {
        run(&words.concat());
        run(&words.join(" "));
    }

    #[test]
    fn sensible_expressions(text in expression()) {
        run(&text);
    }
}

#[test]
fn the_deepest_fit_on_a_small_stack() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("!(", ")"), ("dyn(", ")"), ("self.a.map(x, ", ")"), ("true ? 1 : (", ")")]
    {
        let text = format!("{}1{}", open.repeat(240), close.repeat(240));
        run(&text);
    }
    run(&("1".to_owned() + &" + 1".repeat(240)));
    run(&("self".to_owned() + &".a".repeat(240)));
    run(&("self".to_owned() + &"[0]".repeat(240)));
    let chains = format!("{}1{}", "(".repeat(99), (" + 1".repeat(200) + ")").repeat(99));
    assert!(chains.len() < cel::EXPRESSION_LEN_MAX);
    run(&chains);
    run(&format!("{}self{}", "(".repeat(99), (".a".repeat(240) + ")").repeat(99)));
    run(&"-".repeat(50_000));
    run(&"!".repeat(50_000));
    run(&"[1].map(x, ".repeat(10_000));
}
