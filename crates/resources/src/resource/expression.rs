//! Expressions about a device, in CEL.
//!
//! Upstream: k8s.io/dynamic-resource-allocation/cel.

use std::sync::LazyLock;

use api::FieldErrors;
use api::field::Path;
use cel::{Environment, ObjectType, Opaque, Size, Type};

/// The longest expression, bytes.
const BYTES_MAX: usize = 10 * 1024;
/// The highest estimated cost (`CELSelectorExpressionMaxCost`).
const COST_MAX: u64 = 1_000_000;
/// Attributes or capacities of a device.
const ATTRIBUTES_MAX: u64 = 32;

/// `device` as upstream declares it: what a driver says of a device, by domain and name.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let at_most = Size(Some(ATTRIBUTES_MAX));
    let by_domain = |value: Type| Type::map_of(Type::STRING, Type::map_of(Type::STRING, value, at_most), at_most);
    let device = ObjectType::plain(
        "kubernetes.DRADevice",
        [
            ("driver".to_owned(), Type::STRING),
            ("attributes".to_owned(), by_domain(Type::DYN)),
            ("capacity".to_owned(), by_domain(Type::Opaque(Opaque::Quantity))),
            ("allowMultipleAllocations".to_owned(), Type::Bool),
        ],
    );
    Environment::new().variable("device", Type::object(device))
});

/// Checks an expression that says whether a device will do.
pub fn check(errors: &mut FieldErrors, path: &Path, text: &str) {
    if text.trim().is_empty() {
        return errors.required(path, "");
    }
    if text.len() > BYTES_MAX {
        return errors.too_long(path, BYTES_MAX);
    }
    match ENVIRONMENT.compile(text) {
        Err(why) => errors.invalid(path, text, format!("compilation failed: {why}")),
        Ok(program) if *program.result_type() != Type::Bool && !program.result_type().is_dyn() => {
            let found = program.result_type();
            errors.invalid(path, text, format!("must evaluate to bool or the unknown type, not {found}"));
        }
        Ok(program) if program.estimated_cost().max > COST_MAX => {
            errors.forbidden(path, "too complex, exceeds cost limit");
        }
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_about_devices() {
        let told = |text: &str| {
            let mut errors = FieldErrors::new();
            check(&mut errors, &Path::new("expression"), text);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        for good in [
            "device.driver == 'gpu.example.com'",
            "device.attributes['gpu.example.com'].model == 'x' && device.attributes['gpu.example.com'].?index.orValue(0) > 1",
            "device.capacity['gpu.example.com'].memory.compareTo(quantity('10Gi')) >= 0",
            "device.attributes['gpu.example.com'].version.isGreaterThan(semver('1.2.3'))",
            "device.attributes['gpu.example.com'].shared",
        ] {
            assert_eq!(told(good), "", "{good}");
        }
        assert!(told("device.name == 'x'").contains("undefined field 'name'"), "{}", told("device.name == 'x'"));
        assert!(told("device.driver").contains("must evaluate to bool or the unknown type, not string"));
        assert!(told(" ").contains("Required value"));
        let costly = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, \
                      device.attributes.all(d, device.attributes.all(e, a == b && c == d && d == e)))))";
        assert!(told(costly).contains("too complex, exceeds cost limit"), "{}", told(costly));
    }
}
