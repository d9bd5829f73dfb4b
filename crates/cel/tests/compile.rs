//! What does not compile, told as upstream tells it; inferred types; estimated costs.

use cel::{CostEstimate, Environment, ListKind, ObjectType, Size, Type};

fn environment() -> Environment {
    let this = ObjectType::new(
        "self_type",
        [
            ("replicas".to_owned(), Type::Int),
            ("name".to_owned(), Type::String(Size::at_most(10))),
            ("other".to_owned(), Type::String(Size::at_most(20))),
            ("names".to_owned(), Type::list_of(Type::String(Size::at_most(10)), Size::at_most(5), ListKind::Atomic)),
            ("labels".to_owned(), Type::map_of(Type::STRING, Type::String(Size::at_most(8)), Size::at_most(4))),
            ("free".to_owned(), Type::STRING),
        ],
    );
    Environment::new().variable("self", Type::object(this)).variable("x", Type::Int).variable("s", Type::STRING)
}

#[track_caller]
fn problem(text: &str) -> String {
    environment().compile(text).expect_err(text).to_string()
}

#[test]
fn problems_show_their_place() {
    assert_eq!(
        problem("x + 'a'"),
        "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | x + 'a'\n | ..^"
    );
    assert_eq!(problem("x ==\n y"), "ERROR: <input>:2:2: undeclared reference to 'y' (in container '')\n |  y\n | .^");
    assert_eq!(
        problem("y > z"),
        "ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y > z\n | ^\n\
         ERROR: <input>:1:5: undeclared reference to 'z' (in container '')\n | y > z\n | ....^"
    );
}

#[test]
fn problems_by_kind() {
    for (text, expected) in [
        ("self.nope", "undefined field 'nope'"),
        ("has(self.nope)", "undefined field 'nope'"),
        ("x.y", "type 'int' does not support field selection"),
        ("s.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("startsWith(s, s)", "found no matching overload for 'startsWith' applied to '(string, string)'"),
        ("nothing(1)", "undeclared reference to 'nothing' (in container '')"),
        ("x && true", "found no matching overload for '_&&_' applied to '(int, bool)'"),
        ("x ? 1 : 2", "found no matching overload for '_?_:_' applied to '(int, int, int)'"),
        ("true ? 1 : 'a'", "found no matching overload for '_?_:_' applied to '(bool, int, string)'"),
        ("x == 'a'", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("s == null", "found no matching overload for '_==_' applied to '(string, null)'"),
        ("x == 1.0", "found no matching overload for '_==_' applied to '(int, double)'"),
        ("'a' in [1]", "found no matching overload for '@in' applied to '(string, list(int))'"),
        ("[1, 'a']", "expected type 'int' but found 'string'"),
        ("{'a': 1, 'b': 'c'}", "expected type 'int' but found 'string'"),
        (
            "x.all(y, true)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("[1].all(y, y)", "found no matching overload for '_&&_' applied to '(bool, int)'"),
        ("s.matches('(')", "invalid matches argument"),
        ("duration('x') == duration('1s')", "invalid duration argument"),
        ("timestamp('x') == timestamp(0)", "invalid timestamp argument"),
        ("-s", "found no matching overload for '-_' applied to '(string)'"),
        ("self['a']", "found no matching overload for '_[_]' applied to '(self_type, string)'"),
        (
            "x +",
            "Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        ("x x", "Syntax error: extraneous input 'x' expecting <EOF>"),
        ("x $ y", "Syntax error: token recognition error at: '$'"),
        ("if", "reserved identifier: if"),
        ("99999999999999999999", "invalid int literal"),
        ("", "Syntax error: mismatched input '<EOF>'"),
        ("'a", "Syntax error: token recognition error at: ''a'"),
    ] {
        let found = problem(text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn types_are_inferred() {
    for (text, expected) in [
        ("1 + x", "int"),
        ("[1].map(y, string(y))", "list(string)"),
        ("{'a': [1u]}", "map(string, list(uint))"),
        ("[]", "list(dyn)"),
        ("[[], [1]]", "list(list(int))"),
        ("self.?name", "optional_type(string)"),
        ("optional.none().orValue(x)", "int"),
        ("type(x)", "type(int)"),
        ("self.labels", "map(string, string)"),
        ("dyn(x) + 1", "int"),
        ("dyn(x) + dyn(x)", "dyn"),
        ("quantity('1').add(1)", "kubernetes.Quantity"),
        ("self.names.filter(n, n != '')", "list(string)"),
        ("{'a': 1}.transformMap(k, v, string(v))", "map(string, string)"),
        ("true ? dyn(1) : x", "dyn"),
        ("timestamp(0) - timestamp(1)", "duration"),
        ("format.named('x')", "optional_type(kubernetes.NamedFormat)"),
    ] {
        let program = environment().compile(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(program.result_type().to_string(), expected, "{text}");
    }
}

#[test]
fn names_in_use_are_known() {
    let environment = Environment::new().variable("self", Type::DYN).variable("oldSelf", Type::DYN);
    assert!(environment.compile("self == oldSelf").unwrap().uses("oldSelf"));
    assert!(!environment.compile("self.oldSelf == 'oldSelf'").unwrap().uses("oldSelf"));
    assert!(!environment.compile("[1].all(oldSelf, oldSelf == 1)").unwrap().uses("oldSelf"));
}

#[test]
fn costs_are_estimated_by_the_bounds_of_types() {
    let range = |min, max| CostEstimate { min, max };
    for (text, expected) in [
        ("true", range(0, 0)),
        ("x", range(1, 1)),
        ("self.replicas", range(2, 2)),
        ("x + 1", range(2, 2)),
        ("self.name == self.other", range(5, 5)),
        ("self.name.startsWith('abcdefghijk')", range(4, 4)),
        ("self.other.contains(self.name)", range(4, 6)),
        ("self.name.matches('^[a-z]+$')", range(2 + 2, 2 + 2 * 2)),
        ("has(self.name)", range(1, 1)),
        ("self.names.all(n, n == 'ab')", range(3, 3 + 5 * 5)),
        ("self.names.map(n, n)", range(13, 13 + 5 * 13)),
        ("self.labels['a']", range(3, 3)),
        ("x > 1 && x < 3", range(2, 4)),
        ("x > 1 ? self.name : 'a'", range(2, 4)),
        ("[1, 2, 3].exists(y, y == x)", range(10 + 1 + 3 * 4, 10 + 1 + 3 * 6)),
        ("authorizer.group('a').resource('b').check('get').allowed()", range(350_004, 350_004)),
    ] {
        let environment = environment().variable("authorizer", Type::Opaque(cel::Opaque::Authorizer));
        let program = environment.compile(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(program.estimated_cost(), expected, "{text}");
    }
    let unbounded = environment().compile("self.free.matches('a')").unwrap().estimated_cost();
    assert!(unbounded.max > 1 << 60);
}

#[test]
fn what_is_too_deep_or_too_long_is_refused() {
    let deep = format!("{}1{}", "(".repeat(300), ")".repeat(300));
    assert!(problem(&deep).contains("expression recursion limit exceeded: 250"));
    for text in ["1 + ".repeat(300) + "1", "self".to_owned() + &".a".repeat(300), "[".repeat(5000), "{1:".repeat(5000)]
    {
        assert!(problem(&text).contains("expression recursion limit exceeded: 250"), "{text}");
    }
    assert!(
        problem(&" ".repeat(100_001)).contains("expression code point size exceeds limit: size: 100001, limit 100000")
    );
    let wide = vec!["true"; 10_000].join(" && ");
    assert!(environment().compile(&wide).is_ok());
    let nested = format!("{}1{}", "[".repeat(240), "]".repeat(240));
    let program = environment().compile(&nested).unwrap();
    assert!(program.evaluate(&[], 10_000).is_ok());
}
