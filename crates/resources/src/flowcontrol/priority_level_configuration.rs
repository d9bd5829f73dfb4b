//! PriorityLevelConfiguration: How much of the server the requests of one level get, and how they wait for it.

use api::flowcontrol::v1::{
    ExemptPriorityLevelConfiguration, LimitResponse, LimitedPriorityLevelConfiguration, PriorityLevelConfiguration,
    PriorityLevelConfigurationSpec, PriorityLevelConfigurationStatus, QueuingConfiguration,
};

use super::flow_schema::validate_condition_types;
use super::mandatory;
use crate::checks;
use crate::prelude::*;

const SHARES: i32 = 30;
const QUEUES: i32 = 64;
const HAND_SIZE: i32 = 8;
const QUEUE_LEN: i32 = 50;
const QUEUES_MAX: i32 = 10_000_000;
/// A flow's hand of queues is dealt from a hash of so many bits.
const HASH_BITS: i32 = 60;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = PriorityLevelConfiguration;

    const NAMES: Names = Names::new("prioritylevelconfigurations", "prioritylevelconfiguration");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "prioritylevelconfigurations" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<PriorityLevelConfiguration>] = &[
        Column::name(),
        Column::new("Type", "string", |level: &PriorityLevelConfiguration, _| Value::from(level.spec.type_.as_str()))
            .describe("Whether its requests are limited."),
        Column::new("NominalConcurrencyShares", "string", |level: &PriorityLevelConfiguration, _| {
            or_none(level.spec.limited.as_ref().map(|limited| limited.nominal_concurrency_shares.unwrap_or_default()))
        })
        .describe("Its share of the server."),
        Column::new("Queues", "string", |level: &PriorityLevelConfiguration, _| {
            queuing(level, |queuing| queuing.queues)
        })
        .describe("How many queues its requests wait in."),
        Column::new("HandSize", "string", |level: &PriorityLevelConfiguration, _| {
            queuing(level, |queuing| queuing.hand_size)
        })
        .describe("How many of them one flow may use."),
        Column::new("QueueLengthLimit", "string", |level: &PriorityLevelConfiguration, _| {
            queuing(level, |queuing| queuing.queue_length_limit)
        })
        .describe("How many requests may wait in one queue."),
        Column::age(),
    ];

    fn default(level: &mut PriorityLevelConfiguration) {
        if let Some(exempt) = &mut level.spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        let Some(limited) = &mut level.spec.limited else { return };
        limited.nominal_concurrency_shares.get_or_insert(SHARES);
        limited.lendable_percent.get_or_insert(0);
        if let Some(queuing) = &mut limited.limit_response.queuing {
            for (field, value) in [
                (&mut queuing.hand_size, HAND_SIZE),
                (&mut queuing.queues, QUEUES),
                (&mut queuing.queue_length_limit, QUEUE_LEN),
            ] {
                *field = field.filter(|field| *field != 0).or(Some(value));
            }
        }
    }

    fn prepare_create(level: &mut PriorityLevelConfiguration) {
        level.status = Some(PriorityLevelConfigurationStatus::default());
        level.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut PriorityLevelConfiguration, old: &PriorityLevelConfiguration) {
        new.status.clone_from(&old.status);
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn prepare_status_update(new: &mut PriorityLevelConfiguration, old: &PriorityLevelConfiguration) {
        new.spec.clone_from(&old.spec);
        new.metadata.clone_from(&old.metadata);
    }

    fn validate(level: &PriorityLevelConfiguration) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        validate_spec(&mut errors, &path, level.name(), &level.spec);
        validate_mandatory(&mut errors, &path, level);
        validate_status(&mut errors, level);
        errors
    }

    fn validate_status_update(new: &PriorityLevelConfiguration, _old: &PriorityLevelConfiguration) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_status(&mut errors, new);
        errors
    }
}

fn or_none(number: Option<i32>) -> Value {
    number.map_or_else(|| Value::from("<none>"), Value::from)
}

fn queuing(level: &PriorityLevelConfiguration, field: fn(&QueuingConfiguration) -> Option<i32>) -> Value {
    let queuing = level.spec.limited.as_ref().and_then(|limited| limited.limit_response.queuing.as_ref());
    or_none(queuing.map(|queuing| field(queuing).unwrap_or_default()))
}

fn validate_status(errors: &mut FieldErrors, level: &PriorityLevelConfiguration) {
    let conditions = level.status.iter().flat_map(|status| status.conditions.iter().flatten());
    validate_condition_types(errors, conditions.map(|condition| condition.type_.as_str()));
}

/// The mandatory levels are as they are, but that the exempt level's shares are the operator's.
fn validate_mandatory(errors: &mut FieldErrors, path: &Path, level: &PriorityLevelConfiguration) {
    let name = level.name();
    let Some(fixed) = mandatory::priority_levels().into_iter().find(|fixed| fixed.name() == name) else { return };
    let exempt = name == mandatory::EXEMPT;
    let compared = |spec: &PriorityLevelConfigurationSpec| PriorityLevelConfigurationSpec {
        exempt: if exempt { None } else { spec.exempt.clone() },
        ..spec.clone()
    };
    if !checks::same(&compared(&fixed.spec), &compared(&level.spec)) {
        let but = if exempt { " except the 'spec.exempt' field" } else { "" };
        let why = format!("spec of '{name}'{but} must equal the fixed value");
        errors.invalid(path, checks::shown(&level.spec), why);
    }
}

fn validate_spec(errors: &mut FieldErrors, path: &Path, name: &str, spec: &PriorityLevelConfigurationSpec) {
    let type_ = spec.type_.as_str();
    if (name == mandatory::EXEMPT) != (type_ == "Exempt") {
        let why = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.invalid(&path.child("type"), type_, why);
    }
    match type_ {
        "Exempt" => {
            if spec.limited.is_some() {
                errors.forbidden(&path.child("limited"), "must be nil if the type is not Limited");
            }
            if let Some(exempt) = &spec.exempt {
                validate_exempt(errors, &path.child("exempt"), exempt);
            }
        }
        "Limited" => {
            if spec.exempt.is_some() {
                errors.forbidden(&path.child("exempt"), "must be nil if the type is Limited");
            }
            match &spec.limited {
                Some(limited) => validate_limited(errors, &path.child("limited"), limited),
                None => errors.required(&path.child("limited"), "must not be empty when type is Limited"),
            }
        }
        other => errors.not_supported(&path.child("type"), other, &["Exempt", "Limited"]),
    }
}

fn validate_exempt(errors: &mut FieldErrors, path: &Path, exempt: &ExemptPriorityLevelConfiguration) {
    validate_shares(errors, path, exempt.nominal_concurrency_shares, exempt.lendable_percent);
}

fn validate_shares(errors: &mut FieldErrors, path: &Path, shares: Option<i32>, lendable: Option<i32>) {
    if let Some(shares) = shares.filter(|shares| *shares < 0) {
        errors.invalid(&path.child("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
    if let Some(percent) = lendable.filter(|percent| !(0..=100).contains(percent)) {
        errors.invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn validate_limited(errors: &mut FieldErrors, path: &Path, limited: &LimitedPriorityLevelConfiguration) {
    validate_shares(errors, path, limited.nominal_concurrency_shares, None);
    validate_response(errors, &path.child("limitResponse"), &limited.limit_response);
    validate_shares(errors, path, None, limited.lendable_percent);
    if let Some(percent) = limited.borrowing_limit_percent.filter(|percent| *percent < 0) {
        let why = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, why);
    }
}

fn validate_response(errors: &mut FieldErrors, path: &Path, response: &LimitResponse) {
    let queuing_path = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            errors.forbidden(&queuing_path, "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Queue", None) => {
            errors.required(&queuing_path, "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Queue", Some(queuing)) => validate_queuing(errors, &queuing_path, queuing),
        ("Reject", None) => {}
        (other, _) => errors.not_supported(&path.child("type"), other, &["Queue", "Reject"]),
    }
}

fn validate_queuing(errors: &mut FieldErrors, path: &Path, queuing: &QueuingConfiguration) {
    const POSITIVE: &str = "must be positive";
    let number = |field: Option<i32>| field.unwrap_or_default();
    let (limit, queues, hand) = (number(queuing.queue_length_limit), number(queuing.queues), number(queuing.hand_size));
    if limit <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), limit, POSITIVE);
    }
    if queues <= 0 {
        errors.invalid(&path.child("queues"), queues, POSITIVE);
    } else if queues > QUEUES_MAX {
        errors.invalid(&path.child("queues"), queues, format!("must not be greater than {QUEUES_MAX}"));
    }
    let path = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&path, hand, POSITIVE);
    } else if hand > queues {
        errors.invalid(&path, hand, format!("should not be greater than queues ({queues})"));
    } else if entropy_bits(queues, hand) > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.invalid(&path, hand, why);
    }
}

/// How many random bits deal a hand from a deck.
fn entropy_bits(deck: i32, hand: i32) -> i32 {
    let bits = f64::from(deck).log2() * f64::from(hand);
    // Bounded by the checks before: at most 24 bits for each of 10 million cards.
    #[expect(clippy::cast_possible_truncation, reason = "at most 2.4e8")]
    let whole = bits.ceil() as i32;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_is_dealt_from_sixty_bits() {
        assert_eq!(entropy_bits(64, 8), 48);
        assert_eq!(entropy_bits(64, 10), 60);
        assert_eq!(entropy_bits(128, 9), 63);
    }

    #[test]
    fn the_mandatory_levels_are_valid() {
        for level in mandatory::priority_levels() {
            let errors = <Strategy as crate::Strategy>::validate(&level);
            assert!(errors.is_empty(), "{errors}");
        }
        for schema in mandatory::flow_schemas() {
            let errors = <super::super::flow_schema::Strategy as crate::Strategy>::validate(&schema);
            assert!(errors.is_empty(), "{errors}");
        }
    }
}
