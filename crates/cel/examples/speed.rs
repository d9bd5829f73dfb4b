//! How many simple evaluations a second one core makes: `cargo run --release -p pintle-cel --example speed`.

use cel::{Environment, ObjectType, Type, Value};
use serde_json::json;

const ROUNDS: u32 = 3_000_000;

// A measurement has to read the clock.
#[allow(clippy::disallowed_methods)]
fn main() {
    let this = ObjectType::new(
        "self",
        [
            ("replicas".to_owned(), Type::Int),
            ("maxReplicas".to_owned(), Type::Int),
            ("name".to_owned(), Type::STRING),
            ("items".to_owned(), Type::list(Type::STRING)),
        ],
    );
    let ty = Type::object(this);
    let environment = Environment::new().variable("self", ty.clone());
    let json = json!({"replicas": 3, "maxReplicas": 5, "name": "abc", "items": ["a", "b", "c", "d"]});
    for text in [
        "self.replicas <= self.maxReplicas && self.name.startsWith('a')",
        "self.items.all(x, x.size() < 10)",
        "self.name.matches('^[a-z]+$')",
    ] {
        let program = environment.compile(text).expect("the expressions above are right");
        let start = std::time::Instant::now();
        let mut held = 0u32;
        for _ in 0..ROUNDS {
            let variables = [("self", Value::typed(&json, &ty))];
            let (value, _) = program.evaluate(&variables, 1_000_000).expect("nothing in them fails");
            held += u32::from(value.as_bool() == Some(true));
        }
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(held, ROUNDS);
        println!("{:>10.0} evaluations/s  {text}", f64::from(ROUNDS) / seconds);
    }
}
