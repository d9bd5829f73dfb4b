//! CEL expressions: compiled, priced, evaluated under a budget.

use cel::{Environment, Type, Value};
use serde_json::json;

const BUDGET: u64 = 20_000;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let environment = Environment::new()
        .variable("self", Type::DYN)
        .variable("list", Type::list(Type::Int))
        .variable("name", Type::STRING)
        .mutation();
    let Ok(program) = environment.compile(text) else { return };
    let estimate = program.estimated_cost();
    assert!(estimate.min <= estimate.max, "{text}");
    let this = json!({ "a": 1, "b": [1, "x", null, 1.5], "c": { "d": true } });
    let (list, name) = (json!([3, -1, i64::MAX]), json!("héllo, wörld"));
    let variables = [("self", Value::json(&this)), ("list", Value::json(&list)), ("name", Value::json(&name))];
    let (result, cost) = program.evaluate_with(&&variables[..], BUDGET);
    assert!(cost <= BUDGET || result.is_err(), "{text}");
}
