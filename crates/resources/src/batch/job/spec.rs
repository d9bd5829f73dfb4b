//! What a JobSpec must be like, in a Job and in the template of a CronJob.

use std::collections::BTreeSet;

use api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy,
    SuccessPolicyRule,
};
use api::field::{FieldErrors, Path};
use serde_json::Value;

use super::{indexes, is_indexed};
use crate::checks;
use crate::core::pod_template;

const INDEXED_PARALLELISM_MAX: i32 = 100_000;
const FAILED_INDEXES_MAX: i32 = 100_000;
const MANAGED_BY_BYTES_MAX: usize = 63;
const RULES_LEN_MAX: usize = 20;
const EXIT_CODES_LEN_MAX: usize = 255;
const CONDITIONS_LEN_MAX: usize = 20;
const INDEXES_BYTES_MAX: usize = 64 * 1024;
/// From here on a Job with limits per index must bound its other numbers.
const MANY_COMPLETIONS: i32 = 100_000;
const MANY_COMPLETIONS_MAX: i32 = 10_000;

/// All problems but those of the selector.
pub fn validate(errors: &mut FieldErrors, path: &Path, spec: &JobSpec) {
    let counts = [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ];
    for (name, count) in counts {
        checks::not_negative(errors, &path.child(name), count.unwrap_or_default());
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = &spec.managed_by {
        let path = path.child("managedBy");
        managed_by(errors, &path, manager);
        if manager.len() > MANAGED_BY_BYTES_MAX {
            errors.too_long(&path, MANAGED_BY_BYTES_MAX);
        }
    }
    completion_mode(errors, path, spec);
    if let Some(policy) = &spec.pod_failure_policy {
        pod_failure_policy(errors, &path.child("podFailurePolicy"), spec, policy);
    }
    if let Some(policy) = &spec.success_policy {
        let path = path.child("successPolicy");
        if is_indexed(spec) {
            success_policy(errors, &path, spec, policy);
        } else {
            errors.invalid(&path, checks::shown(policy), "requires indexed completion mode");
        }
    }
    if let Some(policy) = spec.pod_replacement_policy.as_deref() {
        let supported: &[&str] =
            if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        checks::one_of_listed(errors, &path.child("podReplacementPolicy"), policy, supported);
    }
    let template = path.child("template");
    pod_template::validate_template(errors, &template, &spec.template);
    restart_policy(errors, &template.child("spec").child("restartPolicy"), spec);
}

/// Who manages it: `example.com/controller`.
fn managed_by(errors: &mut FieldErrors, path: &Path, value: &str) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        checks::domain_prefixed_path(errors, path, value);
    }
}

fn restart_policy(errors: &mut FieldErrors, path: &Path, spec: &JobSpec) {
    let template = spec.template.spec.as_ref();
    match template.and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default() {
        "" | "Always" => errors.required(path, "valid values: \"OnFailure\", \"Never\""),
        policy @ "OnFailure" if spec.pod_failure_policy.is_some() => {
            errors.invalid(path, policy, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(path, other, &["OnFailure", "Never"]),
    }
}

fn completion_mode(errors: &mut FieldErrors, path: &Path, spec: &JobSpec) {
    let mode = spec.completion_mode.as_deref().unwrap_or("NonIndexed");
    match mode {
        "Indexed" => indexed(errors, path, spec),
        "NonIndexed" => {
            let only_indexed =
                [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)];
            for (name, value) in only_indexed {
                if let Some(value) = value {
                    errors.invalid(&path.child(name), value, "requires indexed completion mode");
                }
            }
        }
        other => errors.not_supported(&path.child("completionMode"), other, &["NonIndexed", "Indexed"]),
    }
}

fn indexed(errors: &mut FieldErrors, path: &Path, spec: &JobSpec) {
    let (parallelism, failed) = (spec.parallelism.unwrap_or_default(), spec.max_failed_indexes);
    let (parallelism_path, failed_path) = (path.child("parallelism"), path.child("maxFailedIndexes"));
    if spec.completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if parallelism > INDEXED_PARALLELISM_MAX {
        let why = format!("must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed");
        errors.invalid(&parallelism_path, parallelism, why);
    }
    if let (Some(failed), Some(completions)) = (failed, spec.completions)
        && failed > completions
    {
        errors.invalid(&failed_path, failed, "must be less than or equal to completions");
    }
    if let Some(failed) = failed.filter(|failed| *failed > FAILED_INDEXES_MAX) {
        errors.invalid(&failed_path, failed, format!("must be less than or equal to {FAILED_INDEXES_MAX}"));
    }
    let many = spec.completions.is_some_and(|completions| completions > MANY_COMPLETIONS);
    if !many || spec.backoff_limit_per_index.is_none() {
        return;
    }
    let why = format!(
        "must be less than or equal to {MANY_COMPLETIONS_MAX} when completions are above {MANY_COMPLETIONS} and used \
         with backoff limit per index"
    );
    if failed.is_none() {
        errors.required(&failed_path, format!("must be specified when completions is above {MANY_COMPLETIONS}"));
    }
    if parallelism > MANY_COMPLETIONS_MAX {
        errors.invalid(&parallelism_path, parallelism, why.clone());
    }
    if let Some(failed) = failed.filter(|failed| *failed > MANY_COMPLETIONS_MAX) {
        errors.invalid(&failed_path, failed, why);
    }
}

/// A choice whose absence is answered with what there is.
fn listed_choice(errors: &mut FieldErrors, path: &Path, value: &str, supported: &[&str]) {
    if value.is_empty() {
        let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        errors.required(path, format!("valid values: [{}]", quoted.join(" ")));
    } else {
        checks::one_of_listed(errors, path, value, supported);
    }
}

fn pod_failure_policy(errors: &mut FieldErrors, path: &Path, spec: &JobSpec, policy: &PodFailurePolicy) {
    let path = path.child("rules");
    if policy.rules.len() > RULES_LEN_MAX {
        errors.too_many(&path, policy.rules.len(), RULES_LEN_MAX);
    }
    let template = spec.template.spec.as_ref();
    let containers = template.into_iter().flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        spec.containers.iter().chain(init).map(|container| container.name.as_str())
    });
    let containers: BTreeSet<&str> = containers.collect();
    for (index, rule) in policy.rules.iter().enumerate() {
        failure_rule(errors, &path.index(index), spec, rule, &containers);
    }
}

fn failure_rule(
    errors: &mut FieldErrors,
    path: &Path,
    spec: &JobSpec,
    rule: &PodFailurePolicyRule,
    containers: &BTreeSet<&str>,
) {
    let action = path.child("action");
    if rule.action == "FailIndex" {
        if spec.backoff_limit_per_index.is_none() {
            errors.invalid(&action, "FailIndex", "requires the backoffLimitPerIndex to be set");
        }
    } else {
        listed_choice(errors, &action, &rule.action, &["Count", "FailIndex", "FailJob", "Ignore"]);
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(errors, &path.child("onExitCodes"), codes, containers);
    }
    let conditions_path = path.child("onPodConditions");
    if conditions.len() > CONDITIONS_LEN_MAX {
        errors.too_many(&conditions_path, conditions.len(), CONDITIONS_LEN_MAX);
    }
    for (index, pattern) in conditions.iter().enumerate() {
        let path = conditions_path.index(index);
        checks::qualified(errors, &path.child("type"), &pattern.type_);
        let status = pattern.status.as_deref().unwrap_or_default();
        listed_choice(errors, &path.child("status"), status, &["False", "True", "Unknown"]);
    }
    match (&rule.on_exit_codes, conditions) {
        (Some(_), [_, ..]) => {
            let why = "specifying both OnExitCodes and OnPodConditions is not supported";
            errors.invalid_without_value(path, why);
        }
        (None, []) => {
            errors.invalid_without_value(path, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
}

fn exit_codes(
    errors: &mut FieldErrors,
    path: &Path,
    codes: &PodFailurePolicyOnExitCodesRequirement,
    containers: &BTreeSet<&str>,
) {
    listed_choice(errors, &path.child("operator"), &codes.operator, &["In", "NotIn"]);
    if let Some(name) = codes.container_name.as_deref()
        && !containers.contains(name)
    {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&path.child("containerName"), name, why);
    }
    let path = path.child("values");
    if codes.values.is_empty() {
        errors.invalid(&path, Value::Array(Vec::new()), "at least one value is required");
    } else if codes.values.len() > EXIT_CODES_LEN_MAX {
        errors.too_many(&path, codes.values.len(), EXIT_CODES_LEN_MAX);
    }
    let mut seen = BTreeSet::new();
    for (index, code) in codes.values.iter().enumerate() {
        let path = path.index(index);
        if codes.operator == "In" && *code == 0 {
            errors.invalid(&path, 0, "must not be 0 for the In operator");
        }
        if !seen.insert(*code) {
            errors.duplicate(&path, *code);
        }
    }
    if !codes.values.is_sorted() {
        errors.invalid(&path, checks::shown(&codes.values), "must be ordered");
    }
}

fn success_policy(errors: &mut FieldErrors, path: &Path, spec: &JobSpec, policy: &SuccessPolicy) {
    let path = path.child("rules");
    if policy.rules.is_empty() {
        errors.required(&path, "at least one rules must be specified when the successPolicy is specified");
    }
    if policy.rules.len() > RULES_LEN_MAX {
        errors.too_many(&path, policy.rules.len(), RULES_LEN_MAX);
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        success_rule(errors, &path.index(index), spec.completions.unwrap_or_default(), rule);
    }
}

fn success_rule(errors: &mut FieldErrors, path: &Path, completions: i32, rule: &SuccessPolicyRule) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        errors.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(text) = rule.succeeded_indexes.as_deref() {
        let path = path.child("succeededIndexes");
        if text.len() > INDEXES_BYTES_MAX {
            errors.too_long(&path, INDEXES_BYTES_MAX);
        }
        match indexes::count(text, completions) {
            Ok(count) => total = count,
            Err(why) => errors.invalid(&path, text, format!("error parsing succeededIndexes: {why}")),
        }
    }
    let Some(count) = rule.succeeded_count else { return };
    let path = path.child("succeededCount");
    checks::not_negative(errors, &path, i64::from(count));
    if count > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.invalid(&path, count, why);
    }
    if rule.succeeded_indexes.is_some() && count > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.invalid(&path, count, why);
    }
}
