//! What expressions come to, by the definition of the language: operators, macros, conversions, errors.

use std::sync::Arc;

use cel::{Environment, EvalError, ListKind, ObjectType, PER_CALL_LIMIT, Size, Type, Value};
use serde_json::json;

fn environment() -> Environment {
    let inner = ObjectType::new(
        "object.spec",
        [
            ("replicas".to_owned(), Type::Int),
            ("ratio".to_owned(), Type::Double),
            ("since".to_owned(), Type::Timestamp),
            ("every".to_owned(), Type::Duration),
            ("a-b".to_owned(), Type::STRING),
            ("names".to_owned(), Type::list(Type::STRING)),
            ("tags".to_owned(), Type::list_of(Type::STRING, Size::UNKNOWN, ListKind::Set)),
            ("labels".to_owned(), Type::map(Type::STRING, Type::STRING)),
            ("absent".to_owned(), Type::STRING),
        ],
    );
    Environment::new().variable("self", Type::object(inner)).variable("any", Type::DYN)
}

fn evaluate(text: &str) -> Result<serde_json::Value, String> {
    let environment = environment();
    let program = environment.compile(text).map_err(|error| error.to_string())?;
    let this = json!({
        "replicas": 3, "ratio": 2, "since": "2024-02-29T12:30:15.5Z", "every": "1h30m", "a-b": "dash",
        "names": ["ann", "bob"], "tags": ["x", "y"], "labels": {"app": "web", "a/b": "c"},
    });
    let any = json!({"list": [1, 2, 3], "text": "héllo", "null": null, "float": 1.5, "deep": {"er": true}, "a-b": 7});
    let ty = self_type();
    let variables = [("self", Value::typed(&this, &ty)), ("any", Value::json(&any))];
    match program.evaluate(&variables, PER_CALL_LIMIT) {
        Ok((value, _)) => value.to_json(),
        Err(error) => Err(error.to_string()),
    }
}

fn self_type() -> Type {
    let environment = environment();
    environment.compile("self").expect("the name is declared").result_type().clone()
}

#[track_caller]
fn all(table: &[&str]) {
    let mut wrong = Vec::new();
    for text in table {
        match evaluate(text) {
            Ok(serde_json::Value::Bool(true)) => {}
            other => wrong.push(format!("{text}\n    {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "not true:\n{}", wrong.join("\n"));
}

#[track_caller]
fn fail(table: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (text, expected) in table {
        match evaluate(text) {
            Err(error) if error.contains(expected) => {}
            other => wrong.push(format!("{text}\n    wanted {expected}\n    {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn arithmetic() {
    all(&[
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "7 / 2 == 3 && -7 / 2 == -3 && -7 % 3 == -1",
        "7u / 2u == 3u",
        "1.5 + 1.5 == 3.0",
        "0x10 == 16 && 1e3 == 1000.0 && .5 == 0.5",
        "- 5 == -5 && --5 == 5 && !!true",
        "-9223372036854775808 < 0",
        "'a' + 'b' == 'ab' && b'a' + b'b' == b'ab'",
        "[1] + [2] == [1, 2]",
        "10 - 3 - 2 == 5",
        "1.0 / 0.0 > 1e308",
        "true ? 1 == 1 : 1 / 0 == 1",
    ]);
    fail(&[
        ("1 / 0 == 1", "division by zero"),
        ("1 % 0 == 1", "modulus by zero"),
        ("9223372036854775807 + 1 == 0", "integer overflow"),
        ("-9223372036854775808 - 1 == 0", "integer overflow"),
        ("-(-9223372036854775808) == 0", "integer overflow"),
        ("0u - 1u == 0u", "unsigned integer overflow"),
        ("9223372036854775807 * 2 == 0", "integer overflow"),
    ]);
}

#[test]
fn comparison_across_kinds_of_numbers() {
    all(&[
        "1 < 2.5 && 2u > 1 && 2.0 >= 2u && 1 <= 1u",
        "dyn(1) == dyn(1.0) && dyn(1u) == dyn(1) && dyn(1) != dyn(1.5)",
        "dyn('1') != dyn(1) && dyn(null) != dyn(0)",
        "[dyn(1), dyn('a')] == [dyn(1.0), dyn('a')]",
        "{'a': 1, 'b': 2} == {'b': 2, 'a': 1}",
        "dyn({1: 'a'}) == dyn({1u: 'a'})",
        "'abc' < 'abd' && b'a' < b'b' && false < true",
        "9223372036854775807 < 9223372036854775808.0",
        "!(double('NaN') < 1.0) && double('NaN') != double('NaN')",
    ]);
}

#[test]
fn logic_absorbs_errors() {
    all(&[
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(false && 1 / 0 == 1)",
        "!(1 / 0 == 1 && false)",
        "[0, 1].exists(x, 1 / x == 1)",
        "![0, 2].all(x, 1 / x == 1)",
        "any.list.exists(x, x == 2) && any.missing == 1 || true",
    ]);
    fail(&[("1 / 0 == 1 || false", "division by zero"), ("[0].all(x, 1 / x == 1)", "division by zero")]);
}

#[test]
fn fields_of_objects() {
    all(&[
        "self.replicas == 3 && self.ratio == 2.0 && self.a__dash__b == 'dash'",
        "has(self.replicas) && !has(self.absent) && has(self.labels.app) && !has(self.labels.nope)",
        "self.labels['a/b'] == 'c' && 'app' in self.labels && !('x' in self.labels)",
        "self.since.getFullYear() == 2024 && self.every == duration('90m')",
        "self.names[0] == 'ann' && 'bob' in self.names",
        "self.tags == ['y', 'x'] && self.names != ['bob', 'ann']",
        "self.tags + ['x', 'z'] == ['x', 'y', 'z']",
        "any.deep.er && any['deep']['er'] && has(any.deep) && !has(any.deep.x) && any['null'] == null",
        "any.float == 1.5 && any.list[1] == 2 && any['a-b'] == 7",
        "type(self.replicas) == int && type(any.text) == string && type(any['null']) == null_type",
        "type(any) == map && type(1) == type(2) && type(type(1)) == type",
    ]);
    fail(&[
        ("self.absent == 'x'", "no such key: absent"),
        ("any.nope == 1", "no such key: nope"),
        ("any.list[7] == 1", "index out of bounds: 7"),
        ("[1][-1] == 1", "index out of bounds: -1"),
        ("{'a': 1}['b'] == 1", "no such key: b"),
        ("self.labels.nope == 'x'", "no such key: nope"),
        ("any.text + 1 == 2", "no such overload"),
        ("any.text.startsWith(any.float)", "no such overload"),
    ]);
}

#[test]
fn macros() {
    all(&[
        "[1, 2, 3].all(x, x > 0) && ![1, 2].all(x, x > 1) && [].all(x, false)",
        "[1, 2, 3].exists(x, x == 2) && ![].exists(x, true)",
        "[1, 2, 2].exists_one(x, x == 1) && ![1, 2, 2].exists_one(x, x == 2)",
        "[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
        "[1, 2, 3].filter(x, x % 2 == 1) == [1, 3]",
        "{'a': 1, 'b': 2}.all(k, k in ['a', 'b']) && {'a': 1}.map(k, k) == ['a']",
        "[[1, 2], [3]].map(x, x.map(y, y + size(x))) == [[3, 4], [4]]",
        "[1, 2].all(i, v, i + 1 == v) && {'a': 1}.exists(k, v, k == 'a' && v == 1)",
        "[5, 6].existsOne(i, v, i == 1 && v == 6)",
        "[1, 2].transformList(i, v, i * v) == [0, 2] && [1, 2].transformList(i, v, i > 0, v) == [2]",
        "{'a': 1, 'b': 2}.transformMap(k, v, v * 10) == {'a': 10, 'b': 20}",
        "{'a': 1, 'b': 2}.transformMap(k, v, k == 'b', v) == {'b': 2}",
        "{'a': 'x'}.transformMapEntry(k, v, {v: k}) == {'x': 'a'}",
        "['x', 'y'].transformMapEntry(i, v, {v: i}) == {'x': 0, 'y': 1}",
        "any.list.map(x, x + 1) == [2, 3, 4]",
    ]);
    fail(&[
        ("[1].map(1, 1) == []", "argument must be a simple name"),
        ("has(self) || true", "invalid argument to has() macro"),
    ]);
}

#[test]
fn optionals() {
    all(&[
        "optional.of(1).value() == 1 && optional.of(1).hasValue() && !optional.none().hasValue()",
        "optional.none().orValue(2) == 2 && optional.of(1).orValue(1 / 0) == 1",
        "optional.none().or(optional.of(3)).value() == 3",
        "optional.ofNonZeroValue('') == optional.none() && optional.ofNonZeroValue('a') == optional.of('a')",
        "self.?absent.orValue('d') == 'd' && self.?replicas.orValue(0) == 3",
        "any.?deep.er.orValue(false) && !any.?nope.er.orValue(false)",
        "self.labels[?'app'].orValue('') == 'web' && self.labels[?'x'] == optional.none()",
        "[1, 2][?5].orValue(9) == 9 && [1, 2][?1].value() == 2",
        "optional.of(2).optMap(x, x * 2).value() == 4 && !optional.none().optMap(x, x).hasValue()",
        "optional.of(2).optFlatMap(x, optional.of(x + 1)).value() == 3",
        "[?optional.of(1), ?optional.none(), 2] == [1, 2] && {?'a': optional.none(), 'b': 1} == {'b': 1}",
        "!has(any.?nope.deep) && has(any.?deep.er)",
    ]);
    fail(&[("optional.none().value() == 1", "optional.none() dereference")]);
}

#[test]
fn conversions() {
    all(&[
        "int('12') == 12 && int(3.9) == 3 && int(-3.9) == -3 && int(5u) == 5",
        "uint('7') == 7u && uint(7) == 7u && double('1.5') == 1.5 && double(2) == 2.0",
        "string(1) == '1' && string(1.5) == '1.5' && string(true) == 'true' && string(b'abc') == 'abc'",
        "string(1e100) == '1e+100' && string(100000.0) == '100000' && string(1e-7) == '1e-07'",
        "bool('true') && !bool('False') && bytes('é') == b'\\303\\251'",
        "size('héllo') == 5 && size(b'\\xc3\\xa9') == 2 && size([1, 2]) == 2 && {'a': 1}.size() == 1",
        "string(duration('90s')) == '90s' && string(duration('1.5s')) == '1.5s'",
        "string(timestamp('2024-01-01T00:00:00Z')) == '2024-01-01T00:00:00Z'",
        "int(timestamp('1970-01-01T00:01:00Z')) == 60 && timestamp(60) == timestamp('1970-01-01T00:01:00Z')",
        "'a\\u00e9\\x41\\n' == 'aéA\\n' && r'\\n' == '\\\\n' && '''a'b''' == \"a'b\"",
    ]);
    fail(&[
        ("int('x') == 1", "type conversion error from 'string' to 'int'"),
        ("int(1e20) == 1", "integer overflow"),
        ("uint(-1) == 1u", "unsigned integer overflow"),
        ("string(b'\\xff') == ''", "invalid UTF-8"),
    ]);
}

#[test]
fn times() {
    all(&[
        "timestamp('2024-02-29T23:30:15.250Z').getHours() == 23",
        "timestamp('2024-02-29T23:30:15.250Z').getHours('+02:00') == 1",
        "timestamp('2024-02-29T23:30:15.250Z').getDate('America/New_York') == 29",
        "timestamp('2024-02-29T23:30:15.250Z').getHours('America/New_York') == 18",
        "timestamp('2024-02-29T23:30:15.250Z').getMilliseconds() == 250",
        "timestamp('2024-02-29T00:00:00Z').getMonth() == 1 && timestamp('2024-02-29T00:00:00Z').getDayOfMonth() == 28",
        "timestamp('2024-02-29T00:00:00Z').getDayOfWeek() == 4 && timestamp('2024-01-01T00:00:00Z').getDayOfYear() == 0",
        "timestamp('2024-01-01T00:00:00+01:00') == timestamp('2023-12-31T23:00:00Z')",
        "timestamp('2024-01-01T00:00:00Z') + duration('1h') > timestamp('2024-01-01T00:00:00Z')",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "duration('1h30m').getMinutes() == 90 && duration('3661s').getHours() == 1 && duration('2s').getMilliseconds() == 2000",
        "duration('-1.5h') == duration('-90m') && -duration('1s') == duration('-1s') && duration('100us') < duration('1ms')",
    ]);
    fail(&[
        ("timestamp('9999-12-30T22:00:00Z') + duration('26h') == timestamp(0)", "timestamp overflow"),
        ("timestamp(0).getHours('Mars/Base') == 0", "unknown time zone Mars/Base"),
    ]);
}

#[test]
fn budget() {
    let environment = Environment::new().variable("list", Type::list(Type::Int));
    let program = environment.compile("list.all(x, list.all(y, x != y || true))").unwrap();
    let list = json!((0..500).collect::<Vec<_>>());
    let variables = [("list", Value::json(&list))];
    assert_eq!(program.evaluate(&variables, PER_CALL_LIMIT).unwrap_err(), EvalError::CostExceeded);
    let (result, cost) = program.evaluate_with(&&variables[..], 1000);
    assert_eq!(result.unwrap_err().to_string(), "operation cancelled: actual cost limit exceeded");
    assert!(cost > 1000 && cost < 2000);
}

#[test]
fn lists_do_not_grow_for_free() {
    let text = "[[1, 2, 3]]".to_owned() + &".map(a, a + a)".repeat(100) + ".size() == 1";
    assert_eq!(evaluate(&text).unwrap_err(), "operation cancelled: actual cost limit exceeded");
}

#[test]
fn variables_are_asked_for_once_and_only_when_reached() {
    use std::cell::RefCell;
    struct Asked(RefCell<Vec<String>>);
    impl<'a> cel::Resolve<'a> for Asked {
        fn get(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
            self.0.borrow_mut().push(name.to_owned());
            Some(Ok(Value::Bool(name == "variables.x")))
        }
    }
    let environment = Environment::new()
        .variable("variables", Type::object(ObjectType::new("kubernetes.variables", [])))
        .variable("variables.x", Type::Bool)
        .variable("variables.y", Type::Bool);
    let program = environment.compile("variables.x && variables.x || variables.y").unwrap();
    let asked = Asked(RefCell::default());
    assert!(program.evaluate_with(&asked, 1000).0.unwrap().0.as_bool().unwrap());
    assert_eq!(*asked.0.borrow(), ["variables.x"]);
    assert!(program.uses("variables.y") && !program.uses("variables"));
    let error = environment.compile("variables.z").unwrap_err().to_string();
    assert!(error.contains("undefined field 'z'"), "{error}");
}

#[test]
fn mutations_are_built() {
    let environment = Environment::new().mutation().variable("object", Type::DYN);
    let object = json!({"spec": {"replicas": 1}});
    let variables = [("object", Value::json(&object))];
    let built = |text: &str| {
        let program = environment.compile(text).unwrap_or_else(|error| panic!("{error}"));
        program.evaluate(&variables, 10_000).unwrap().0.to_json().unwrap()
    };
    assert_eq!(
        built("Object{spec: Object.spec{replicas: object.spec.replicas + 1, ?paused: optional.none()}}"),
        json!({"spec": {"replicas": 2}})
    );
    assert_eq!(
        built("[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: 'x'}]"),
        json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": "x"}])
    );
    let error = environment.compile("JSONPatch{opp: 'add'}").unwrap_err().to_string();
    assert!(error.contains("undefined field 'opp'"), "{error}");
    let error = Environment::new().compile("Object{}").unwrap_err().to_string();
    assert!(error.contains("undeclared reference to 'Object' (in container '')"), "{error}");
}

#[test]
fn programs_are_shared_between_threads() {
    let program = Arc::new(environment().compile("1 + 1 == 2").unwrap());
    let other = program.clone();
    let told = std::thread::spawn(move || other.evaluate(&[], 100).unwrap().0.as_bool());
    assert_eq!(told.join().unwrap(), Some(true));
}
