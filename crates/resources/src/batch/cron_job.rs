//! CronJob: Jobs of one template, made at the times of a schedule.

use api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, JobSpec};
use api::core::v1::PodTemplateSpec;
use api::cron::Schedule;

use super::job;
use crate::apps::workload;
use crate::checks;
use crate::column;
use crate::prelude::*;

/// Parts of a time zone's name are at most this long, as the database promises.
const ZONE_PART_LEN_MAX: usize = 14;
/// Jobs are named after the CronJob, a hyphen and ten digits; with it they must stay a label.
const NAME_LEN_MAX: usize = 63 - 11;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = CronJob;

    const NAMES: Names = Names::new("cronjobs", "cronjob").short(&["cj"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "cronjobs" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<CronJob>] = &[
        Column::name(),
        Column::new("Schedule", "string", |cron: &CronJob, _| Value::from(cron.spec.schedule.as_str()))
            .describe("When it makes Jobs."),
        Column::new("Timezone", "string", |cron: &CronJob, _| {
            Value::from(cron.spec.time_zone.as_deref().unwrap_or("<none>"))
        })
        .describe("Where the schedule's times are those of the clock."),
        Column::new("Suspend", "boolean", |cron: &CronJob, _| {
            let suspend = cron.spec.suspend.map_or_else(|| "<unset>".to_owned(), |suspend| title(suspend).to_owned());
            Value::from(suspend)
        })
        .describe("Whether it makes none for now."),
        Column::new("Active", "integer", |cron: &CronJob, _| {
            Value::from(status(cron).and_then(|status| status.active.as_ref()).map_or(0, Vec::len))
        })
        .describe("How many of its Jobs run."),
        Column::new("Last Schedule", "string", |cron, now| {
            let last = status(cron).and_then(|status| status.last_schedule_time.as_ref());
            Value::from(last.map_or_else(|| "<none>".to_owned(), |last| column::age(Some(last.0), now)))
        })
        .describe("Since the last Job was due."),
        Column::age(),
        Column::new("Containers", "string", |cron, _| {
            template(cron).map_or(Value::from(""), workload::container_names)
        })
        .wide()
        .describe("Names of each container in the template."),
        Column::new("Images", "string", |cron, _| template(cron).map_or(Value::from(""), workload::images))
            .wide()
            .describe("Images referenced by each container in the template."),
        Column::new("Selector", "string", |cron: &CronJob, _| {
            let selector = cron.spec.job_template.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            Value::from(workload::selector_text(selector))
        })
        .wide()
        .describe("Which pods belong to its Jobs; Jobs make that up themselves."),
    ];

    fn default(cron: &mut CronJob) {
        let spec = &mut cron.spec;
        if spec.concurrency_policy.as_deref().is_none_or(str::is_empty) {
            spec.concurrency_policy = Some("Allow".to_owned());
        }
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        job::default_template(spec.job_template.spec.get_or_insert_default());
    }

    fn prepare_create(cron: &mut CronJob) {
        cron.status = Some(CronJobStatus::default());
        cron.metadata.generation = Some(1);
        if let Some(spec) = &mut cron.spec.job_template.spec {
            spec.scheduling = None;
        }
    }

    fn prepare_update(new: &mut CronJob, old: &CronJob) {
        new.status.clone_from(&old.status);
        let scheduling = old.spec.job_template.spec.as_ref().and_then(|spec| spec.scheduling.clone());
        if let Some(spec) = &mut new.spec.job_template.spec {
            spec.scheduling = scheduling;
        }
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn prepare_status_update(new: &mut CronJob, old: &CronJob) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(cron: &CronJob) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &cron.spec, None);
        // Old ones with longer names can still be changed.
        if cron.name().len() > NAME_LEN_MAX {
            let why = format!("must be no more than {NAME_LEN_MAX} bytes");
            errors.invalid(&Path::new("metadata").child("name"), cron.name(), why);
        }
        errors
    }

    fn validate_update(new: &CronJob, old: &CronJob) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &new.spec, Some(&old.spec));
        errors
    }

    fn warnings(cron: &CronJob) -> Vec<String> {
        let mut warnings = Vec::new();
        let label = api::name::dns1123_label(cron.name(), false);
        if cron.metadata.resource_version.is_none() && !label.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
                 label is recommended: [{}]",
                label.join(" ")
            ));
        }
        if let Some(spec) = &cron.spec.job_template.spec {
            let path = Path::new("spec").child("jobTemplate").child("spec");
            warnings.extend(job::spec_warnings(&path, spec));
        }
        if cron.spec.schedule.contains("TZ") {
            warnings.push(
                "CRON_TZ or TZ used in spec.spec.schedule is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
        warnings
    }
}

fn status(cron: &CronJob) -> Option<&CronJobStatus> {
    cron.status.as_ref()
}

fn template(cron: &CronJob) -> Option<&PodTemplateSpec> {
    cron.spec.job_template.spec.as_ref().map(|spec| &spec.template)
}

fn title(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

fn validate_spec(errors: &mut FieldErrors, spec: &CronJobSpec, old: Option<&CronJobSpec>) {
    let path = Path::new("spec");
    validate_schedule(errors, &path.child("schedule"), spec, old);
    if let Some(seconds) = spec.starting_deadline_seconds {
        checks::not_negative(errors, &path.child("startingDeadlineSeconds"), seconds);
    }
    // A zone that went out of the database since must not keep the object from being changed.
    if let Some(zone) = spec.time_zone.as_deref()
        && old.is_none_or(|old| old.time_zone != spec.time_zone)
    {
        validate_zone(errors, &path.child("timeZone"), zone);
    }
    match spec.concurrency_policy.as_deref().unwrap_or_default() {
        "" => errors.required(&path.child("concurrencyPolicy"), ""),
        "Allow" | "Forbid" | "Replace" => {}
        other => {
            let supported = ["Allow", "Forbid", "Replace"];
            errors.not_supported(&path.child("concurrencyPolicy"), other, &supported);
        }
    }
    validate_template(errors, &path.child("jobTemplate").child("spec"), spec);
    let limits = [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ];
    for (name, limit) in limits {
        checks::not_negative(errors, &path.child(name), i64::from(limit.unwrap_or_default()));
    }
}

fn validate_schedule(errors: &mut FieldErrors, path: &Path, spec: &CronJobSpec, old: Option<&CronJobSpec>) {
    let schedule = spec.schedule.as_str();
    if schedule.is_empty() {
        errors.required(path, "");
        return;
    }
    if let Err(why) = Schedule::parse(schedule) {
        errors.invalid(path, schedule, why);
    }
    if !schedule.contains("TZ") {
        return;
    }
    let had = old.is_some_and(|old| old.schedule.contains("TZ"));
    if !had {
        errors.invalid(path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if spec.time_zone.is_some() {
        errors.invalid(path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
    }
}

fn validate_zone(errors: &mut FieldErrors, path: &Path, zone: &str) {
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let unknown = format!("unknown time zone {zone}");
    if !is_well_formed(zone) {
        errors.invalid(path, zone, unknown);
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, why);
    }
    if zone != "Local" && api::cron::zone(zone).is_none() {
        errors.invalid(path, zone, unknown);
    }
}

/// Whether a name is one the database could have.
fn is_well_formed(zone: &str) -> bool {
    zone.split('/').all(|part| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
        let fits = (1..=ZONE_PART_LEN_MAX).contains(&part.len());
        fits && part != "." && part != ".." && !part.starts_with('-') && part.bytes().all(allowed)
    })
}

fn validate_template(errors: &mut FieldErrors, path: &Path, spec: &CronJobSpec) {
    let empty = JobSpec::default();
    let spec = spec.job_template.spec.as_ref().unwrap_or(&empty);
    job::spec::validate(errors, path, spec);
    if let Some(selector) = &spec.selector {
        errors.invalid(&path.child("selector"), checks::shown(selector), "`selector` will be auto-generated");
    }
    if spec.manual_selector == Some(true) {
        errors.not_supported(&path.child("manualSelector"), true, &["nil", "false"]);
    }
}

#[cfg(test)]
mod tests;
