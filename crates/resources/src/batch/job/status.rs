//! What the status of a Job must be like. Most rules hold only for what an update changes, so that a Job that was
//! once taken stays writable.

use api::batch::v1::{Job, JobStatus};
use api::field::{FieldErrors, Path};

use super::{indexes, is_indexed, is_true};
use crate::checks;

/// All problems of an update of `/status`.
pub fn validate(new: &Job, old: &Job) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("status");
    let empty = JobStatus::default();
    let status = new.status.as_ref().unwrap_or(&empty);
    let before = old.status.as_ref().unwrap_or(&empty);
    counts(&mut errors, &path, status);
    completion(&mut errors, &path, new, status, old, before);
    finished(&mut errors, &path, new, status, old, before);
    index_sets(&mut errors, &path, new, status, before);
    if (status.ready, status.active) != (before.ready, before.active)
        && status.ready.unwrap_or_default() > status.active.unwrap_or_default()
    {
        errors.invalid(&path.child("ready"), status.ready, "cannot set more ready pods than active");
    }
    success(&mut errors, &path, new, old);
    history(&mut errors, &path, new, status, old, before);
    errors
}

fn counts(errors: &mut FieldErrors, path: &Path, status: &JobStatus) {
    let counts = [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ];
    for (name, count) in counts {
        checks::not_negative(errors, &path.child(name), i64::from(count.unwrap_or_default()));
    }
    let Some(uncounted) = &status.uncounted_terminated_pods else { return };
    let mut seen = std::collections::BTreeSet::new();
    for (name, uids) in [("succeeded", &uncounted.succeeded), ("failed", &uncounted.failed)] {
        for (index, uid) in uids.iter().flatten().enumerate() {
            let path = path.child("uncountedTerminatedPods").child(name).index(index);
            if uid.is_empty() {
                errors.invalid(&path, "", "must not be empty");
            } else {
                checks::unique(errors, &path, &mut seen, uid);
            }
        }
    }
}

/// Conditions against each other and against the times.
fn completion(errors: &mut FieldErrors, path: &Path, new: &Job, status: &JobStatus, old: &Job, before: &JobStatus) {
    let changed = |type_: &str| is_true(new, type_) != is_true(old, type_);
    let (complete, failed) = (is_true(new, "Complete"), is_true(new, "Failed"));
    let conditions = path.child("conditions");
    if (changed("Complete") || changed("Failed")) && complete && failed {
        errors.invalid_without_value(&conditions, "cannot set Complete=True and Failed=true conditions");
    }
    if (changed("Complete") || changed("FailureTarget")) && complete && is_true(new, "FailureTarget") {
        errors.invalid_without_value(&conditions, "cannot set Complete=True and FailureTarget=true conditions");
    }
    let completion_changed = status.completion_time != before.completion_time;
    let time_path = path.child("completionTime");
    if changed("Complete") || completion_changed {
        if status.completion_time.is_some() && !complete {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.invalid(&time_path, checks::shown(&status.completion_time), why);
        }
        if status.completion_time.is_none() && complete {
            errors.required(&time_path, "completionTime is required for Complete jobs");
        }
    }
    if (completion_changed || status.start_time != before.start_time)
        && let (Some(start), Some(end)) = (&status.start_time, &status.completion_time)
        && end.0 < start.0
    {
        errors.invalid(&time_path, checks::shown(end), "must be equal to or after `startTime`");
    }
    if (changed("Failed") || changed("FailureTarget")) && failed && !is_true(new, "FailureTarget") {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.invalid_without_value(&conditions, why);
    }
    let criteria = is_true(new, "SuccessCriteriaMet");
    if (changed("Complete") || changed("SuccessCriteriaMet")) && complete && !criteria {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.invalid_without_value(&conditions, why);
    }
}

/// A finished Job has started and has nothing left to run or to count.
fn finished(errors: &mut FieldErrors, path: &Path, new: &Job, status: &JobStatus, old: &Job, before: &JobStatus) {
    if !super::is_finished(new) {
        return;
    }
    let just = !super::is_finished(old);
    let active = status.active.unwrap_or_default();
    if just && active > 0 {
        errors.invalid(&path.child("active"), active, "active>0 is invalid for finished job");
    }
    if (just || status.start_time != before.start_time) && status.start_time.is_none() {
        errors.required(&path.child("startTime"), "startTime is required for finished job");
    }
    let uncounted = status
        .uncounted_terminated_pods
        .as_ref()
        .filter(|uncounted| uncounted.succeeded.iter().chain(&uncounted.failed).any(|uids| !uids.is_empty()));
    if let Some(uncounted) = uncounted
        && (just || status.uncounted_terminated_pods != before.uncounted_terminated_pods)
    {
        let path = path.child("uncountedTerminatedPods");
        errors.invalid(&path, checks::shown(uncounted), "must be empty for finished job");
    }
    let terminating = status.terminating.unwrap_or_default();
    if (just || status.terminating != before.terminating) && terminating > 0 {
        errors.invalid(&path.child("terminating"), terminating, "terminating>0 is invalid for finished job");
    }
}

fn index_sets(errors: &mut FieldErrors, path: &Path, new: &Job, status: &JobStatus, before: &JobStatus) {
    let completed = status.completed_indexes.as_deref().unwrap_or_default();
    let failed = status.failed_indexes.as_deref();
    let completed_changed = completed != before.completed_indexes.as_deref().unwrap_or_default();
    let failed_changed = status.failed_indexes != before.failed_indexes;
    let (completed_path, failed_path) = (path.child("completedIndexes"), path.child("failedIndexes"));
    let Some(spec) = &new.spec else { return };
    if let (true, Some(completions)) = (completed_changed, spec.completions)
        && let Err(why) = indexes::count(completed, completions)
    {
        errors.invalid(&completed_path, completed, format!("error parsing completedIndexes: {why}"));
    }
    if let (true, Some(failed), Some(completions), Some(_)) =
        (failed_changed, failed, spec.completions, spec.backoff_limit_per_index)
        && let Err(why) = indexes::count(failed, completions)
    {
        errors.invalid(&failed_path, failed, format!("error parsing failedIndexes: {why}"));
    }
    if completed_changed && !completed.is_empty() && !is_indexed(spec) {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&completed_path, completed, why);
    }
    if let (true, Some(failed), None) = (failed_changed, failed, spec.backoff_limit_per_index) {
        errors.invalid(&failed_path, failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    }
    if let (true, Some(failed), Some(completions)) = (failed_changed || completed_changed, failed, spec.completions)
        && let Some(index) = indexes::overlap(completed, failed, completions)
    {
        errors.invalid(&failed_path, failed, format!("failedIndexes and completedIndexes overlap at index: {index}"));
    }
}

fn success(errors: &mut FieldErrors, path: &Path, new: &Job, old: &Job) {
    let path = path.child("conditions");
    let criteria = is_true(new, "SuccessCriteriaMet");
    if criteria && is_true(new, "Failed") {
        errors.invalid_without_value(&path, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if criteria && is_true(new, "FailureTarget") {
        errors.invalid_without_value(&path, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    let has_policy = new.spec.as_ref().is_some_and(|spec| spec.success_policy.is_some());
    if has_policy && !criteria && is_true(new, "Complete") {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.invalid_without_value(&path, why);
    }
    for type_ in ["Failed", "Complete", "FailureTarget"] {
        if is_true(old, type_) && !is_true(new, type_) {
            let why = format!("cannot disable the terminal {type_}=True condition");
            errors.invalid_without_value(&path, why);
        }
    }
}

/// What may only grow, or not change at all.
fn history(errors: &mut FieldErrors, path: &Path, new: &Job, status: &JobStatus, old: &Job, before: &JobStatus) {
    let spec = new.spec.clone().unwrap_or_default();
    let (failed, succeeded) = (status.failed.unwrap_or_default(), status.succeeded.unwrap_or_default());
    if failed < before.failed.unwrap_or_default() {
        errors.invalid(&path.child("failed"), failed, "cannot decrease the failed counter");
    }
    let may_shrink = is_indexed(&spec) && spec.completions == spec.parallelism;
    if !may_shrink && succeeded < before.succeeded.unwrap_or_default() {
        errors.invalid(&path.child("succeeded"), succeeded, "cannot decrease the succeeded counter");
    }
    if let (Some(new), Some(old)) = (&status.completion_time, &before.completion_time)
        && new != old
    {
        errors.invalid(&path.child("completionTime"), checks::shown(new), checks::IMMUTABLE);
    }
    let suspended = spec.suspend == Some(true);
    if before.start_time.is_some() && before.start_time != status.start_time && !suspended {
        errors.required(&path.child("startTime"), "startTime cannot be removed for unsuspended job");
    }
    let conditions = path.child("conditions");
    let criteria = is_true(new, "SuccessCriteriaMet");
    let had = is_true(old, "SuccessCriteriaMet");
    if had && !criteria {
        errors.invalid_without_value(&conditions, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if is_true(old, "Complete") && !had && criteria {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.invalid_without_value(&conditions, why);
    }
}
