//! Job: Pods that run to completion, a number of them or one per index.

use api::LabelSelector;
use api::batch::v1::{Job, JobSpec, JobStatus};
use api::core::v1::PodTemplateSpec;
use api::meta::v1::LabelSelector as Selector;

use crate::apps::workload;
use crate::checks;
use crate::column;
use crate::core::pod_template;
use crate::prelude::*;

mod indexes;
pub(crate) mod spec;
mod status;

/// The uid of the Job, on its pods: what its selector selects.
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// The same labels from before they had a prefix.
const OLD_CONTROLLER_UID: &str = "controller-uid";
const OLD_JOB_NAME: &str = "job-name";

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Job;

    const NAMES: Names = Names::new("jobs", "job").categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "jobs" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const SELECTABLE: &'static [Selectable<Job>] =
        &[Selectable { path: "status.successful", value: |job| succeeded(job).to_string() }];
    const ORPHANS_DEPENDENTS: bool = true;
    const COLUMNS: &'static [Column<Job>] = &[
        Column::name(),
        Column::new("Status", "string", |job, _| Value::from(status_text(job))).describe("What the job has come to."),
        Column::new("Completions", "string", |job, _| Value::from(completions_text(job)))
            .describe("Pods that succeeded, of those that have to."),
        Column::new("Duration", "string", |job, now| Value::from(duration_text(job, now)))
            .describe("How long it has been running, or ran."),
        Column::age(),
        Column::new("Containers", "string", |job, _| template(job).map_or(Value::from(""), workload::container_names))
            .wide()
            .describe("Names of each container in the template."),
        Column::new("Images", "string", |job, _| template(job).map_or(Value::from(""), workload::images))
            .wide()
            .describe("Images referenced by each container in the template."),
        Column::new("Selector", "string", |job: &Job, _| {
            let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            Value::from(workload::selector_text(selector))
        })
        .wide()
        .describe("Which pods belong to the job."),
    ];

    fn default(job: &mut Job) {
        let spec = job.spec.get_or_insert_default();
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        spec.backoff_limit.get_or_insert(limit);
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        spec.pod_replacement_policy.get_or_insert_with(|| replacement.to_owned());
        default_template(spec);
        // A new Job without labels gets its template's once those are complete: see `prepare_create`.
        let complete = spec.manual_selector == Some(true) || label(&spec.template, CONTROLLER_UID).is_some();
        if complete {
            copy_labels(job);
        }
    }

    fn prepare_create(job: &mut Job) {
        job.status = Some(JobStatus::default());
        job.metadata.generation = Some(1);
        let (name, uid) = (job.name().to_owned(), job.uid().to_owned());
        let spec = job.spec.get_or_insert_default();
        spec.scheduling = None;
        if spec.manual_selector != Some(true) {
            generate_selector(spec, &name, &uid);
        }
        copy_labels(job);
    }

    fn prepare_update(new: &mut Job, old: &Job) {
        new.status.clone_from(&old.status);
        if let Some(spec) = &mut new.spec {
            spec.scheduling.clone_from(&old.spec.as_ref().and_then(|spec| spec.scheduling.clone()));
        }
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn prepare_status_update(new: &mut Job, old: &Job) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(job: &Job) -> FieldErrors {
        validate(job, true)
    }

    fn validate_update(new: &Job, old: &Job) -> FieldErrors {
        let old_template = template(old);
        let has = |name| old_template.is_some_and(|template| label(template, name).is_some());
        let mut errors = validate(new, has(JOB_NAME) && has(CONTROLLER_UID));
        if let (Some(spec), Some(before)) = (&new.spec, &old.spec) {
            validate_spec_update(&mut errors, spec, before, old);
        }
        errors
    }

    fn validate_status_update(new: &Job, old: &Job) -> FieldErrors {
        status::validate(new, old)
    }

    fn warnings(job: &Job) -> Vec<String> {
        let mut warnings = Vec::new();
        let label = api::name::dns1123_label(job.name(), false);
        // Only of a new one: an old one cannot be given another name.
        if job.metadata.resource_version.is_none() && !label.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
                 label is recommended: [{}]",
                label.join(" ")
            ));
        }
        if let Some(spec) = &job.spec {
            warnings.extend(spec_warnings(&Path::new("spec"), spec));
        }
        warnings
    }
}

/// Warnings of a JobSpec, in a Job or in the template of a CronJob.
pub(crate) fn spec_warnings(path: &Path, spec: &JobSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    let unbounded = spec.backoff_limit_per_index.is_none();
    let many = spec.completions.is_some_and(|completions| completions > 100_000);
    if is_indexed(spec) && unbounded && many && spec.parallelism.is_some_and(|parallelism| parallelism > 10_000) {
        warnings.push(
            "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
                .to_owned(),
        );
    }
    warnings.extend(pod_template::warnings::template(&path.child("template"), &spec.template));
    warnings
}

/// The defaults that a JobSpec has in a Job and in the template of a CronJob.
pub(crate) fn default_template(spec: &mut JobSpec) {
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
    for pattern in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
        if pattern.status.as_deref().is_none_or(str::is_empty) {
            pattern.status = Some("True".to_owned());
        }
    }
    workload::default_template(&mut spec.template);
}

fn label<'a>(template: &'a PodTemplateSpec, name: &str) -> Option<&'a String> {
    template.metadata.as_ref()?.labels.as_ref()?.get(name)
}

fn template(job: &Job) -> Option<&PodTemplateSpec> {
    job.spec.as_ref().map(|spec| &spec.template)
}

/// A Job without labels has those of its pods.
fn copy_labels(job: &mut Job) {
    if job.metadata.labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty) {
        let labels = template(job).and_then(|template| template.metadata.as_ref()?.labels.clone());
        job.metadata.labels = labels.filter(|labels| !labels.is_empty());
    }
}

/// Labels that no other Job's pods have, and a selector for them. What the user set stays, to be refused if wrong.
fn generate_selector(spec: &mut JobSpec, name: &str, uid: &str) {
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    let generated = [(OLD_JOB_NAME, name), (JOB_NAME, name), (OLD_CONTROLLER_UID, uid), (CONTROLLER_UID, uid)];
    for (key, value) in generated {
        labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    let selector = spec.selector.get_or_insert_default().match_labels.get_or_insert_default();
    if !selector.contains_key(OLD_CONTROLLER_UID) {
        selector.entry(CONTROLLER_UID.to_owned()).or_insert_with(|| uid.to_owned());
    }
}

/// Whether its pods are told apart by index.
pub(crate) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn is_true(job: &Job, type_: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == type_).any(|condition| condition.status == "True")
}

fn is_finished(job: &Job) -> bool {
    is_true(job, "Complete") || is_true(job, "Failed")
}

fn validate(job: &Job, prefixed: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let empty = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    validate_generated_selector(&mut errors, job, spec, prefixed);
    let path = Path::new("spec");
    spec::validate(&mut errors, &path, spec);
    let selector_path = path.child("selector");
    match &spec.selector {
        None => errors.required(&selector_path, ""),
        Some(selector) => checks::label_selector(&mut errors, &selector_path, Some(selector)),
    }
    let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    if LabelSelector::from_api(spec.selector.as_ref()).is_ok_and(|selector| !selector.matches_labels(labels)) {
        let path = path.child("template").child("metadata").child("labels");
        errors.invalid(&path, checks::shown(&labels), "`selector` does not match template `labels`");
    }
    if let Some(completions) = spec.completions.filter(|completions| is_indexed(spec) && *completions > 0) {
        let hostname = format!("{}-{}", job.name(), completions - 1);
        if !api::name::dns1123_label(&hostname, false).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {hostname}");
            errors.invalid(&Path::new("metadata").child("name"), job.name(), why);
        }
    }
    errors
}

fn validate_generated_selector(errors: &mut FieldErrors, job: &Job, spec: &JobSpec, prefixed: bool) {
    let Some(selector) = spec.selector.as_ref().filter(|_| spec.manual_selector != Some(true)) else { return };
    if job.uid().is_empty() {
        errors.required(&Path::new("metadata").child("uid"), "");
    }
    let old = [(OLD_CONTROLLER_UID, job.uid()), (OLD_JOB_NAME, job.name())];
    let new = [(CONTROLLER_UID, job.uid()), (JOB_NAME, job.name())];
    let expected: Vec<(&str, &str)> = old.into_iter().chain(new.into_iter().filter(|_| prefixed)).collect();
    let path = Path::new("spec").child("template").child("metadata").child("labels");
    let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    for (key, value) in &expected {
        match label(&spec.template, key) {
            None => errors.required(&path.key(key), format!("must be '{value}'")),
            Some(found) if found != value => {
                errors.invalid(&path.key(key), checks::shown(&labels), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    let owned = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    if LabelSelector::from_api(Some(selector)).is_ok_and(|selector| !selector.matches_labels(Some(&owned))) {
        let path = Path::new("spec").child("selector");
        errors.invalid(&path, checks::shown::<Selector>(selector), "`selector` not auto-generated");
    }
}

fn validate_spec_update(errors: &mut FieldErrors, new: &JobSpec, old: &JobSpec, old_job: &Job) {
    let path = Path::new("spec");
    let completions = path.child("completions");
    if !is_indexed(new) {
        checks::immutable(errors, &completions, &new.completions, &old.completions);
    } else if new.completions != old.completions && new.completions.is_some() && new.completions != new.parallelism {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&completions, new.completions, why);
    }
    checks::immutable(errors, &path.child("selector"), &new.selector, &old.selector);
    validate_template_update(errors, &path.child("template"), new, old, old_job);
    macro_rules! immutable {
        ($($field:ident: $name:literal),* $(,)?) => { $( checks::immutable(errors, &path.child($name), &new.$field,
            &old.$field); )* };
    }
    immutable! {
        completion_mode: "completionMode",
        pod_failure_policy: "podFailurePolicy",
        backoff_limit_per_index: "backoffLimitPerIndex",
        managed_by: "managedBy",
        success_policy: "successPolicy",
    }
}

/// A suspended Job none of whose pods is left may be told where its pods are to run, and with what.
fn validate_template_update(errors: &mut FieldErrors, path: &Path, new: &JobSpec, old: &JobSpec, old_job: &Job) {
    let status = old_job.status.clone().unwrap_or_default();
    let idle = status.start_time.is_none() || (is_true(old_job, "Suspended") && status.active.unwrap_or_default() == 0);
    if old.suspend != Some(true) || !idle {
        checks::immutable(errors, path, &new.template, &old.template);
        return;
    }
    let (Some(new), Some(mut old)) = (&new.template.spec, old.template.spec.clone()) else { return };
    let node_affinity = new.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    if new.affinity.is_some() || old.affinity.is_some() {
        old.affinity.get_or_insert_default().node_affinity = node_affinity;
    }
    if new.affinity.is_none() && old.affinity.as_ref() == Some(&Default::default()) {
        old.affinity = None;
    }
    old.node_selector.clone_from(&new.node_selector);
    old.tolerations.clone_from(&new.tolerations);
    old.scheduling_gates.clone_from(&new.scheduling_gates);
    let lists = [
        (Some(&new.containers), Some(&mut old.containers)),
        (new.init_containers.as_ref(), old.init_containers.as_mut()),
    ];
    for (new, old) in lists {
        let (Some(new), Some(old)) = (new, old) else { continue };
        if new.len() != old.len() {
            continue;
        }
        for (new, old) in new.iter().zip(old).filter(|(new, old)| new.name == old.name) {
            old.resources.clone_from(&new.resources);
        }
    }
    checks::immutable(errors, &path.child("spec"), new, &old);
}

fn succeeded(job: &Job) -> i32 {
    job.status.as_ref().and_then(|status| status.succeeded).unwrap_or_default()
}

fn status_text(job: &Job) -> &'static str {
    let on = |type_| is_true(job, type_);
    match () {
        () if on("Complete") => "Complete",
        () if on("Failed") => "Failed",
        () if job.metadata.deletion_timestamp.is_some() => "Terminating",
        () if on("Suspended") => "Suspended",
        () if on("FailureTarget") => "FailureTarget",
        () if on("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions_text(job: &Job) -> String {
    let (done, spec) = (succeeded(job), job.spec.as_ref());
    let parallelism = spec.and_then(|spec| spec.parallelism).unwrap_or_default();
    match spec.and_then(|spec| spec.completions) {
        Some(completions) => format!("{done}/{completions}"),
        None if parallelism > 1 => format!("{done}/1 of {parallelism}"),
        None => format!("{done}/1"),
    }
}

fn duration_text(job: &Job, now: Timestamp) -> String {
    let status = job.status.as_ref();
    let Some(start) = status.and_then(|status| status.start_time.as_ref()) else { return String::new() };
    let end = status.and_then(|status| status.completion_time.as_ref()).map_or(now, |end| end.0);
    column::human_duration(end.duration_since(start.0).as_secs())
}

#[cfg(test)]
mod tests;
