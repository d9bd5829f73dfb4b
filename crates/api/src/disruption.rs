//! What the eviction of pods and the disruption controller must agree on: the condition that sums a budget up.

use crate::Timestamp;
use crate::meta::v1::{Condition, Time};
use crate::policy::v1::PodDisruptionBudgetStatus;

/// The condition's type.
pub const ALLOWED: &str = "DisruptionAllowed";

/// Makes the condition tell what `disruptionsAllowed` says.
pub fn set_allowed(status: &mut PodDisruptionBudgetStatus, now: Timestamp) {
    let (value, reason) = match status.disruptions_allowed.unwrap_or_default() {
        1.. => ("True", "SufficientPods"),
        _ => ("False", "InsufficientPods"),
    };
    set(status, value, reason, "", now);
}

/// Sets the condition. The time of its last transition is kept if its value stays.
pub fn set(status: &mut PodDisruptionBudgetStatus, value: &str, reason: &str, message: &str, now: Timestamp) {
    let observed_generation = status.observed_generation;
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|condition| condition.type_ == ALLOWED);
    let since = known.map(|index| &conditions[index]).filter(|condition| condition.status == value);
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation,
        last_transition_time: since.map_or(Time(now), |condition| condition.last_transition_time.clone()),
    };
    match known {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_is_remembered() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut status = PodDisruptionBudgetStatus { disruptions_allowed: Some(1), ..Default::default() };
        set_allowed(&mut status, at(1));
        set_allowed(&mut status, at(2));
        let seen = |status: &PodDisruptionBudgetStatus| {
            let condition = &status.conditions.as_ref().unwrap()[0];
            (condition.status.clone(), condition.reason.clone(), condition.last_transition_time.0.as_second())
        };
        assert_eq!(seen(&status), ("True".into(), "SufficientPods".into(), 1));
        status.disruptions_allowed = Some(0);
        set_allowed(&mut status, at(3));
        assert_eq!(seen(&status), ("False".into(), "InsufficientPods".into(), 3));
        assert_eq!(status.conditions.unwrap().len(), 1);
    }
}
