//! PriorityClass: A named priority of pods.

use api::scheduling::v1::PriorityClass;

use crate::checks;
use crate::prelude::*;

/// Beyond this lie the priorities of Kubernetes' own classes.
const USER_MAX: i32 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
const SYSTEM: [(&str, i32); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = PriorityClass;

    const NAMES: Names = Names::new("priorityclasses", "priorityclass").short(&["pc"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "priorityclasses" };
    const COLUMNS: &'static [Column<PriorityClass>] = &[
        Column::name(),
        Column::new("Value", "integer", |class: &PriorityClass, _| Value::from(value(class)))
            .describe("The priority of pods of this class."),
        Column::new("Global-Default", "boolean", |class: &PriorityClass, _| {
            Value::from(class.global_default == Some(true))
        })
        .describe("Whether pods without a class get this one."),
        Column::age(),
        Column::new("PreemptionPolicy", "string", |class: &PriorityClass, _| {
            Value::from(class.preemption_policy.as_deref().unwrap_or_default())
        })
        .describe("Whether pods of this class may preempt others."),
    ];

    fn default(class: &mut PriorityClass) {
        class.value.get_or_insert(0);
        class.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }

    fn prepare_create(class: &mut PriorityClass) {
        class.metadata.generation = Some(1);
    }

    fn validate(class: &PriorityClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let name = class.name();
        if name.starts_with(SYSTEM_PREFIX) {
            if let Some(problem) = system_problem(class) {
                let why = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: \
                     {problem}"
                );
                errors.forbidden(&Path::new("metadata").child("name"), why);
            }
        } else if value(class) > USER_MAX {
            let why = format!("maximum allowed value of a user defined priority is {USER_MAX}");
            errors.forbidden(&Path::new("value"), why);
        }
        if let Some(policy) = &class.preemption_policy {
            let path = Path::new("preemptionPolicy");
            checks::one_of(&mut errors, &path, Some(policy), &["PreemptLowerPriority", "Never"]);
        }
        errors
    }

    fn validate_update(new: &PriorityClass, old: &PriorityClass) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if value(new) != value(old) {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        let path = Path::new("preemptionPolicy");
        checks::immutable(&mut errors, &path, &new.preemption_policy, &old.preemption_policy);
        errors
    }
}

fn value(class: &PriorityClass) -> i32 {
    class.value.unwrap_or_default()
}

/// Why a class with a system name is none of Kubernetes' own.
fn system_problem(class: &PriorityClass) -> Option<String> {
    let name = class.name();
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, known)) if *known != value(class) => Some(format!("value of {name} PriorityClass must be {known}")),
        Some(_) if class.global_default == Some(true) => {
            Some(format!("globalDefault of {name} PriorityClass must be false"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy as Classes;
    use crate::Strategy as _;
    use api::Typed;
    use api::scheduling::v1::PriorityClass;
    use serde_json::json;

    #[test]
    fn values_have_bounds_and_stay() {
        let class = |name: &str, value: i32| {
            let mut class = PriorityClass::from_value(json!({"metadata": {"name": name}, "value": value})).unwrap();
            Classes::default(&mut class);
            class
        };
        assert!(Classes::validate(&class("a", 1_000_000_000)).is_empty());
        assert!(Classes::validate(&class("system-node-critical", 2_000_001_000)).is_empty());
        assert_eq!(
            Classes::validate(&class("a", 1_000_000_001)).to_string(),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
        );
        assert_eq!(
            Classes::validate(&class("system-x", 1)).to_string(),
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
             error: system-x is not a known system priority class"
        );
        assert_eq!(
            Classes::validate_update(&class("a", 1), &class("a", 2)).to_string(),
            "value: Forbidden: may not be changed in an update."
        );
    }
}
