//! Conditions of the shape that newer kinds share (`metav1.Condition`).

use std::collections::BTreeSet;

use api::Timestamp;
use api::field::{FieldErrors, Path};
use api::meta::v1::Condition;

use super::{label_key, one_of_listed, problems, unique};

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// All problems of a list of conditions; no type twice.
pub fn conditions(errors: &mut FieldErrors, path: &Path, conditions: Option<&[Condition]>) {
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        unique(errors, &path.child("type"), &mut seen, &condition.type_);
        validate(errors, &path, condition);
    }
}

fn validate(errors: &mut FieldErrors, path: &Path, condition: &Condition) {
    label_key(errors, &path.child("type"), &condition.type_);
    one_of_listed(errors, &path.child("status"), &condition.status, &["False", "True", "Unknown"]);
    if let Some(generation) = condition.observed_generation.filter(|generation| *generation < 0) {
        errors.invalid(&path.child("observedGeneration"), generation, "must be greater than or equal to zero");
    }
    if condition.last_transition_time.0 == Timestamp::UNIX_EPOCH {
        errors.required(&path.child("lastTransitionTime"), "must be set");
    }
    let (reason, reason_path) = (condition.reason.as_str(), path.child("reason"));
    if reason.is_empty() {
        errors.required(&reason_path, "must be set");
    } else {
        problems(errors, &reason_path, reason, api::name::condition_reason(reason));
        if reason.len() > REASON_BYTES_MAX {
            errors.too_long(&reason_path, REASON_BYTES_MAX);
        }
    }
    if condition.message.len() > MESSAGE_BYTES_MAX {
        errors.too_long(&path.child("message"), MESSAGE_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_condition_says_what_since_when_and_why() {
        let all: Vec<Condition> = serde_json::from_value(json!([
            {"type": "Ready", "status": "True", "reason": "AllGood", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Ready", "status": "Maybe", "observedGeneration": -1, "reason": "", "message": "",
                "lastTransitionTime": "1970-01-01T00:00:00Z"},
        ]))
        .unwrap();
        let mut errors = FieldErrors::new();
        conditions(&mut errors, &Path::new("c"), Some(&all));
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "c[1].type: Duplicate value: \"Ready\"",
                "c[1].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
                "c[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
                "c[1].lastTransitionTime: Required value: must be set",
                "c[1].reason: Required value: must be set",
            ]
        );
    }
}
