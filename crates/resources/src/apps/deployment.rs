//! Deployment: Pods of one template, replaced gradually when it changes.

use api::IntOrString;
use api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment};

use super::workload;
use crate::checks;
use crate::core::pod_template;
use crate::prelude::*;

pub struct Strategy;

const SCALE: Scale<Deployment> = Scale {
    spec_replicas: |deployment| deployment.spec.replicas.unwrap_or_default(),
    status_replicas: |deployment| status(deployment).and_then(|status| status.replicas).unwrap_or_default(),
    selector: |deployment| workload::scale_selector(Some(&deployment.spec.selector)),
    set_replicas: |deployment, replicas| deployment.spec.replicas = Some(replicas),
};

impl crate::Strategy for Strategy {
    type Object = Deployment;

    const NAMES: Names = Names::new("deployments", "deployment").short(&["deploy"]).categories(&["all"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "deployments" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const SCALE: Option<&'static Scale<Deployment>> = Some(&SCALE);
    const COLUMNS: &'static [Column<Deployment>] = &[
        Column::name(),
        Column::new("Ready", "string", |deployment: &Deployment, _| {
            let ready = status(deployment).and_then(|status| status.ready_replicas).unwrap_or_default();
            Value::from(format!("{ready}/{}", (SCALE.spec_replicas)(deployment)))
        })
        .describe("Number of the pod with ready state"),
        Column::new("Up-to-date", "string", |deployment: &Deployment, _| {
            Value::from(status(deployment).and_then(|status| status.updated_replicas).unwrap_or_default())
        })
        .describe("Number of pods of the newest template."),
        Column::new("Available", "string", |deployment: &Deployment, _| {
            Value::from(status(deployment).and_then(|status| status.available_replicas).unwrap_or_default())
        })
        .describe("Number of pods that have been ready for at least minReadySeconds."),
        Column::age(),
        Column::new("Containers", "string", |deployment: &Deployment, _| {
            workload::container_names(&deployment.spec.template)
        })
        .wide()
        .describe("Names of each container in the template."),
        Column::new("Images", "string", |deployment: &Deployment, _| workload::images(&deployment.spec.template))
            .wide()
            .describe("Images referenced by each container in the template."),
        Column::new("Selector", "string", |deployment: &Deployment, _| {
            Value::from(workload::selector_text(Some(&deployment.spec.selector)))
        })
        .wide()
        .describe("Which pods belong to the deployment."),
    ];

    fn default(deployment: &mut Deployment) {
        let spec = &mut deployment.spec;
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_default();
        if strategy.type_.as_deref().is_none_or(str::is_empty) {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let update = strategy.rolling_update.get_or_insert_default();
            update.max_unavailable.get_or_insert_with(|| IntOrString::String("25%".to_owned()));
            update.max_surge.get_or_insert_with(|| IntOrString::String("25%".to_owned()));
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        workload::default_template(&mut spec.template);
    }

    fn prepare_create(deployment: &mut Deployment) {
        deployment.status = Some(DeploymentStatus::default());
        deployment.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut Deployment, old: &Deployment) {
        new.status.clone_from(&old.status);
        new.metadata.generation = old.metadata.generation;
        let annotations = |deployment: &Deployment| deployment.metadata.annotations.clone().unwrap_or_default();
        if !checks::same(&new.spec, &old.spec) || annotations(new) != annotations(old) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn prepare_status_update(new: &mut Deployment, old: &Deployment) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate(deployment: &Deployment) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &deployment.spec);
        errors
    }

    fn validate_update(new: &Deployment, old: &Deployment) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = Path::new("spec").child("selector");
        checks::immutable(&mut errors, &path, &new.spec.selector, &old.spec.selector);
        errors
    }

    fn validate_status_update(new: &Deployment, old: &Deployment) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status");
        let empty = DeploymentStatus::default();
        let (status, before) = (status(new).unwrap_or(&empty), status(old).unwrap_or(&empty));
        let counts = [
            ("replicas", status.replicas.unwrap_or_default()),
            ("updatedReplicas", status.updated_replicas.unwrap_or_default()),
            ("readyReplicas", status.ready_replicas.unwrap_or_default()),
            ("availableReplicas", status.available_replicas.unwrap_or_default()),
            ("unavailableReplicas", status.unavailable_replicas.unwrap_or_default()),
        ];
        if let Some(generation) = status.observed_generation {
            checks::not_negative(&mut errors, &path.child("observedGeneration"), generation);
        }
        let (all, ready) = (counts[0].1, counts[2].1);
        let (bounded, unbounded) = counts.split_at(4);
        workload::validate_counts(&mut errors, &path, bounded, all, ready);
        for (name, count) in unbounded {
            checks::not_negative(&mut errors, &path.child(name), i64::from(*count));
        }
        workload::validate_collisions(&mut errors, &path, status.collision_count, before.collision_count);
        errors
    }

    fn warnings(deployment: &Deployment) -> Vec<String> {
        pod_template::warnings::template(&Path::new("spec").child("template"), &deployment.spec.template)
    }
}

fn status(deployment: &Deployment) -> Option<&DeploymentStatus> {
    deployment.status.as_ref()
}

fn validate_spec(errors: &mut FieldErrors, spec: &DeploymentSpec) {
    let path = Path::new("spec");
    checks::not_negative(errors, &path.child("replicas"), i64::from(spec.replicas.unwrap_or_default()));
    let selector = workload::validate_selector(errors, &path.child("selector"), &spec.selector, "deployment");
    if let Some(selector) = selector {
        workload::validate_template(errors, &path.child("template"), &spec.template, &selector, "ReplicaSet");
    }
    validate_strategy(errors, &path.child("strategy"), &spec.strategy.clone().unwrap_or_default());
    let min_ready_seconds = spec.min_ready_seconds.unwrap_or_default();
    checks::not_negative(errors, &path.child("minReadySeconds"), i64::from(min_ready_seconds));
    if let Some(limit) = spec.revision_history_limit {
        checks::not_negative(errors, &path.child("revisionHistoryLimit"), i64::from(limit));
    }
    if let Some(seconds) = spec.progress_deadline_seconds {
        let path = path.child("progressDeadlineSeconds");
        checks::not_negative(errors, &path, i64::from(seconds));
        if seconds <= min_ready_seconds {
            errors.invalid(&path, seconds, "must be greater than minReadySeconds");
        }
    }
}

fn validate_strategy(errors: &mut FieldErrors, path: &Path, strategy: &DeploymentStrategy) {
    let update_path = path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            errors.forbidden(&update_path, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => errors.required(&update_path, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(update)) => validate_rolling_update(errors, &update_path, update),
        (other, _) => errors.not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

fn validate_rolling_update(errors: &mut FieldErrors, path: &Path, update: &RollingUpdateDeployment) {
    let zero = IntOrString::Int(0);
    let unavailable = update.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = update.max_surge.as_ref().unwrap_or(&zero);
    let unavailable_path = path.child("maxUnavailable");
    checks::count_or_percent(errors, &unavailable_path, unavailable);
    checks::count_or_percent(errors, &path.child("maxSurge"), surge);
    if workload::number(unavailable) == 0 && workload::number(surge) == 0 {
        errors.invalid(&unavailable_path, checks::shown(unavailable), "may not be 0 when `maxSurge` is 0");
    }
    checks::at_most_all(errors, &unavailable_path, unavailable);
}

#[cfg(test)]
mod tests {
    use super::Strategy as Deployments;
    use crate::Strategy as _;
    use api::Typed;
    use api::apps::v1::Deployment;
    use serde_json::{Value, json};

    fn deployment(spec: Value) -> Deployment {
        let mut value = json!({"metadata": {"name": "d", "namespace": "n"}, "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a",
                "image": "a:1"}]}}}});
        for (key, field) in spec.as_object().unwrap() {
            value["spec"][key] = field.clone();
        }
        let mut deployment = Deployment::from_value(value).unwrap();
        Deployments::default(&mut deployment);
        Deployments::prepare_create(&mut deployment);
        deployment
    }

    fn texts(errors: &api::FieldErrors) -> Vec<String> {
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_upstreams() {
        let deployment = deployment(json!({}));
        assert!(Deployments::validate(&deployment).is_empty());
        let mut spec = serde_json::to_value(deployment.spec).unwrap();
        let template = spec["template"].take();
        spec.as_object_mut().unwrap().remove("template");
        assert_eq!(
            spec,
            json!({"progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {"app": "x"}},
                "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"}})
        );
        assert_eq!(template["spec"]["enableServiceLinks"], Value::Null, "only a pod gets that");
        assert_eq!(template["spec"]["dnsPolicy"], "ClusterFirst");
    }

    #[test]
    fn specs_are_refused_in_upstreams_words() {
        let template = |labels: Value, policy: &str| {
            json!({"template": {"metadata": {"labels": labels},
                "spec": {"restartPolicy": policy, "containers": [{"name": "a", "image": "a:1"}]}}})
        };
        let cases = [
            (json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            (json!({"selector": {}}), "spec.selector: Invalid value: {}: empty selector is invalid for deployment"),
            (
                template(json!({"app": "y"}), "Always"),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"y\"}: `selector` does not match template \
                 `labels`",
            ),
            (
                template(json!({"app": "x"}), "Never"),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ),
            (
                json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
            ),
            (
                json!({"strategy": {"rollingUpdate": {"maxUnavailable": "101%"}}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"minReadySeconds": 600}),
                "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
            ),
        ];
        for (patch, expected) in cases {
            let found = texts(&Deployments::validate(&deployment(patch.clone())));
            assert_eq!(found, [expected], "{patch}");
        }
    }

    #[test]
    fn the_selector_stays_and_the_generation_counts() {
        let old = deployment(json!({}));
        let mut new = old.clone();
        new.spec.replicas = Some(3);
        Deployments::prepare_update(&mut new, &old);
        assert_eq!(new.metadata.generation, Some(2));
        assert!(Deployments::validate_update(&new, &old).is_empty());
        let labels = [("app".to_owned(), "x".to_owned()), ("b".to_owned(), "c".to_owned())];
        new.spec.selector.match_labels = Some([labels[0].clone()].into());
        new.spec.template.metadata.as_mut().unwrap().labels = Some(labels.clone().into());
        new.spec.selector.match_labels = Some([labels[1].clone()].into());
        assert_eq!(
            texts(&Deployments::validate_update(&new, &old)),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"b\":\"c\"}}: field is immutable"]
        );
    }
}
