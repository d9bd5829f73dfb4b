//! StatefulSet: Pods with names and volumes of their own, made and replaced in order.

use api::IntOrString;
use api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};
use serde_json::json;

use super::workload;
use crate::checks;
use crate::core::pod_template;
use crate::prelude::*;

pub struct Strategy;

const SCALE: Scale<StatefulSet> = Scale {
    spec_replicas: |set| set.spec.replicas.unwrap_or_default(),
    status_replicas: |set| status(set).map(|status| status.replicas).unwrap_or_default(),
    selector: |set| workload::scale_selector(Some(&set.spec.selector)),
    set_replicas: |set, replicas| set.spec.replicas = Some(replicas),
};

/// What an update of anything else than these is answered with.
const IMMUTABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                         'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                         'minReadySeconds' are forbidden";

impl crate::Strategy for Strategy {
    type Object = StatefulSet;

    const NAMES: Names = Names::new("statefulsets", "statefulset").short(&["sts"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "statefulsets" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const SCALE: Option<&'static Scale<StatefulSet>> = Some(&SCALE);
    const COLUMNS: &'static [Column<StatefulSet>] = &[
        Column::name(),
        Column::new("Ready", "string", |set: &StatefulSet, _| {
            let ready = status(set).and_then(|status| status.ready_replicas).unwrap_or_default();
            Value::from(format!("{ready}/{}", (SCALE.spec_replicas)(set)))
        })
        .describe("Number of the pod with ready state"),
        Column::age(),
        Column::new("Containers", "string", |set: &StatefulSet, _| workload::container_names(&set.spec.template))
            .wide()
            .describe("Names of each container in the template."),
        Column::new("Images", "string", |set: &StatefulSet, _| workload::images(&set.spec.template))
            .wide()
            .describe("Images referenced by each container in the template."),
    ];

    fn default(set: &mut StatefulSet) {
        let spec = &mut set.spec;
        fill(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.as_deref().is_none_or(str::is_empty) {
            strategy.type_ = Some("RollingUpdate".to_owned());
            strategy.rolling_update.get_or_insert_default();
        }
        if strategy.type_.as_deref() == Some("RollingUpdate")
            && let Some(update) = &mut strategy.rolling_update
        {
            update.partition.get_or_insert(0);
            update.max_unavailable.get_or_insert(IntOrString::Int(1));
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        fill(&mut retention.when_deleted, "Retain");
        fill(&mut retention.when_scaled, "Retain");
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        workload::default_template(&mut spec.template);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            let claim_spec = claim.spec.get_or_insert_default();
            claim_spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
            fill(&mut claim.status.get_or_insert_default().phase, "Pending");
        }
    }

    fn prepare_create(set: &mut StatefulSet) {
        set.status = Some(StatefulSetStatus::default());
        set.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut StatefulSet, old: &StatefulSet) {
        new.status.clone_from(&old.status);
        let changed = !checks::same(&new.spec, &old.spec);
        checks::count_generation(&mut new.metadata, &old.metadata, changed);
    }

    fn prepare_status_update(new: &mut StatefulSet, old: &StatefulSet) {
        new.spec.clone_from(&old.spec);
    }

    /// Its pods are named after it, and so are their host names.
    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        api::name::dns1123_label(name, prefix)
    }

    fn validate(set: &StatefulSet) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &set.spec);
        errors.extend(template_problems(&set.spec));
        errors.extend(claim_problems(&set.spec));
        errors
    }

    fn validate_update(new: &StatefulSet, old: &StatefulSet) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (spec, before) = (&new.spec, &old.spec);
        validate_spec(&mut errors, spec);
        // Sets from before templates were checked can still be changed.
        if template_problems(before).is_empty() {
            errors.extend(template_problems(spec));
        }
        if claim_problems(before).is_empty() {
            errors.extend(claim_problems(spec));
        }
        let mut kept = spec.clone();
        kept.replicas = before.replicas;
        kept.ordinals.clone_from(&before.ordinals);
        kept.template.clone_from(&before.template);
        kept.update_strategy.clone_from(&before.update_strategy);
        kept.revision_history_limit = before.revision_history_limit;
        kept.min_ready_seconds = before.min_ready_seconds;
        kept.persistent_volume_claim_retention_policy.clone_from(&before.persistent_volume_claim_retention_policy);
        if !checks::same(&kept, before) {
            errors.forbidden(&Path::new("spec"), IMMUTABLE);
        }
        errors
    }

    fn validate_status_update(new: &StatefulSet, old: &StatefulSet) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status");
        let empty = StatefulSetStatus::default();
        let (status, before) = (status(new).unwrap_or(&empty), status(old).unwrap_or(&empty));
        let (all, ready) = (status.replicas, status.ready_replicas.unwrap_or_default());
        let available = status.available_replicas.unwrap_or_default();
        let counts = [
            ("readyReplicas", ready),
            ("currentReplicas", status.current_replicas.unwrap_or_default()),
            ("updatedReplicas", status.updated_replicas.unwrap_or_default()),
            ("availableReplicas", available),
        ];
        checks::not_negative(&mut errors, &path.child("replicas"), i64::from(all));
        for (name, count) in counts {
            checks::not_negative(&mut errors, &path.child(name), i64::from(count));
        }
        checks::not_negative(
            &mut errors,
            &path.child("observedGeneration"),
            status.observed_generation.unwrap_or_default(),
        );
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > all) {
            errors.invalid(&path.child(name), count, "cannot be greater than status.replicas");
        }
        if available > ready {
            let path = path.child("availableReplicas");
            errors.invalid(&path, available, "cannot be greater than status.readyReplicas");
        }
        workload::validate_collisions(&mut errors, &path, status.collision_count, before.collision_count);
        errors
    }

    fn warnings(set: &StatefulSet) -> Vec<String> {
        let path = Path::new("spec");
        let mut warnings = pod_template::warnings::template(&path.child("template"), &set.spec.template);
        for (index, claim) in set.spec.volume_claim_templates.iter().flatten().enumerate() {
            let path = path.child("volumeClaimTemplates").index(index);
            claim.spec.iter().for_each(|spec| pod_template::warnings::claim(&mut warnings, &path, spec));
        }
        if set.spec.revision_history_limit.is_some_and(|limit| limit < 0) {
            warnings.push(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                 recommended"
                    .to_owned(),
            );
        }
        warnings
    }
}

fn fill(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

fn status(set: &StatefulSet) -> Option<&StatefulSetStatus> {
    set.status.as_ref()
}

fn validate_spec(errors: &mut FieldErrors, spec: &StatefulSetSpec) {
    let path = Path::new("spec");
    match spec.pod_management_policy.as_deref().unwrap_or_default() {
        "" => errors.required(&path.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid(&path.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'"),
    }
    validate_strategy(errors, &path.child("updateStrategy"), spec);
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        for (name, choice) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
            let choice = choice.as_deref().unwrap_or_default();
            checks::one_of_listed(errors, &path.child(name), choice, &["Delete", "Retain"]);
        }
    }
    checks::not_negative(errors, &path.child("replicas"), i64::from(spec.replicas.unwrap_or_default()));
    checks::not_negative(errors, &path.child("minReadySeconds"), i64::from(spec.min_ready_seconds.unwrap_or_default()));
    if let Some(ordinals) = &spec.ordinals {
        checks::not_negative(errors, &path.child("ordinals.start"), i64::from(ordinals.start.unwrap_or_default()));
    }
    let selector_path = path.child("selector");
    checks::label_selector(errors, &selector_path, Some(&spec.selector));
    if checks::is_empty_selector(&spec.selector) {
        errors.invalid(&selector_path, checks::shown(&spec.selector), "empty selector is invalid for statefulset");
    }
    let template_path = path.child("template");
    match api::LabelSelector::from_api(Some(&spec.selector)) {
        Ok(selector) => workload::validate_match(errors, &template_path, &spec.template, &selector),
        Err(_) => errors.invalid(&selector_path, checks::shown(&spec.selector), ""),
    }
    workload::validate_endless(errors, &template_path, &spec.template, "StatefulSet");
}

fn validate_strategy(errors: &mut FieldErrors, path: &Path, spec: &StatefulSetSpec) {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let update = strategy.rolling_update.as_ref();
    let update_path = path.child("rollingUpdate");
    // Values that upstream shows in its internal form, which has no field names of the wire.
    let shown = |update: Option<&RollingUpdateStatefulSetStrategy>| {
        update.map_or(Value::Null, |update| {
            json!({"Partition": update.partition.unwrap_or_default(), "MaxUnavailable": update.max_unavailable})
        })
    };
    match (strategy.type_.as_deref().unwrap_or_default(), update) {
        ("", _) => errors.required(path, ""),
        ("OnDelete", Some(_)) => {
            errors.invalid(&update_path, shown(update), "only allowed for updateStrategy 'RollingUpdate'");
        }
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("RollingUpdate", Some(update)) => {
            let partition = i64::from(update.partition.unwrap_or_default());
            checks::not_negative(errors, &update_path.child("partition"), partition);
            if let Some(unavailable) = &update.max_unavailable {
                let path = update_path.child("maxUnavailable");
                checks::count_or_percent(errors, &path, unavailable);
                if workload::number(unavailable) == 0 {
                    errors.invalid(&path, checks::shown(unavailable), "cannot be 0");
                }
                checks::at_most_all(errors, &path, unavailable);
            }
        }
        (other, _) => {
            let value = json!({"Type": other, "RollingUpdate": shown(update)});
            errors.invalid(path, value, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

/// Problems of the template as its pods will have it: with a volume for each claim template.
fn template_problems(spec: &StatefulSetSpec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut template = spec.template.clone();
    let volumes = template.spec.get_or_insert_default().volumes.get_or_insert_default();
    let mut claimed = Vec::new();
    for claim in spec.volume_claim_templates.iter().flatten() {
        let name = claim.name().to_owned();
        volumes.retain(|volume| volume.name != name);
        if api::name::dns1123_label(&name, false).is_empty() && !claimed.contains(&name) {
            claimed.push(name);
        }
    }
    volumes.extend(claimed.into_iter().map(|name| Volume {
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None }),
        name,
        ..Default::default()
    }));
    pod_template::validate_template(&mut errors, &Path::new("spec").child("template"), &template);
    errors
}

/// Problems of the claims that pods will be given.
fn claim_problems(spec: &StatefulSetSpec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let empty = Default::default();
    for (index, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
        let path = Path::new("spec").child("volumeClaimTemplates").index(index);
        let metadata = path.child("metadata");
        checks::labels(&mut errors, &metadata.child("labels"), claim.metadata.labels.as_ref());
        checks::annotations(&mut errors, &metadata.child("annotations"), claim.metadata.annotations.as_ref());
        let claim_spec = claim.spec.as_ref().unwrap_or(&empty);
        pod_template::volumes::validate_claim(&mut errors, &path.child("spec"), claim_spec);
    }
    errors
}

#[cfg(test)]
mod tests;
