//! Defaults, validation and columns of Jobs.

use super::Strategy as Jobs;
use crate::Strategy as _;
use api::Typed;
use api::batch::v1::Job;
use serde_json::{Value, json};

fn merge(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (Value::Object(value), Value::Object(patch)) => {
            for (key, field) in patch {
                if field.is_null() {
                    value.remove(key);
                } else {
                    merge(value.entry(key.clone()).or_insert(Value::Null), field);
                }
            }
        }
        (value, patch) => *value = patch.clone(),
    }
}

fn job(patch: &Value) -> Job {
    let mut value = json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "a", "image": "a:1"}]}}}});
    merge(&mut value, patch);
    let mut job = Job::from_value(value).unwrap();
    Jobs::default(&mut job);
    Jobs::prepare_create(&mut job);
    Jobs::default(&mut job);
    job
}

fn texts(errors: &api::FieldErrors) -> Vec<String> {
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn a_job_selects_its_own_pods_and_has_their_labels() {
    let job = job(&json!({}));
    assert_eq!(texts(&Jobs::validate(&job)), [""; 0]);
    let labels = json!({"batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "j",
        "controller-uid": "u", "job-name": "j"});
    assert_eq!(serde_json::to_value(&job.metadata.labels).unwrap(), labels);
    let mut spec = serde_json::to_value(job.spec).unwrap();
    assert_eq!(spec["template"].take()["metadata"]["labels"], labels);
    spec.as_object_mut().unwrap().remove("template");
    assert_eq!(
        spec,
        json!({"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
            "suspend": false, "manualSelector": false, "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}})
    );
}

#[test]
fn specs_are_refused_in_upstreams_words() {
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 5});
        merge(&mut spec, &more);
        spec
    };
    let cases = [
        (json!({"parallelism": -1}), "spec.parallelism: Invalid value: -1: must be greater than or equal to 0"),
        (
            json!({"completionMode": "X"}),
            "spec.completionMode: Unsupported value: \"X\": supported values: \
            \"NonIndexed\", \"Indexed\"",
        ),
        (
            json!({"backoffLimitPerIndex": 1}),
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed \
            completion mode",
        ),
        (
            indexed(json!({"completions": null, "parallelism": 1})),
            "spec.completions: Required value: when completion \
            mode is Indexed",
        ),
        (
            indexed(json!({"maxFailedIndexes": 2})),
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes \
            is specified",
        ),
        (
            json!({"managedBy": "x"}),
            "spec.managedBy: Invalid value: \"x\": must be a domain-prefixed path (such as \
            \"acme.io/foo\")",
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "Always"}}}),
            "spec.template.spec.restartPolicy: Required \
            value: valid values: \"OnFailure\", \"Never\"",
        ),
        (
            rule(json!({"action": "Ignore"})),
            "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of \
            OnExitCodes and OnPodConditions is required",
        ),
        (
            rule(json!({"action": "FailIndex", "onPodConditions": [{"type": "X"}]})),
            "spec.podFailurePolicy.rules[0]\
            .action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
        ),
        (
            rule(json!({"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [3, 1]}})),
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,1]: must be ordered",
        ),
        (
            json!({"successPolicy": {"rules": []}}),
            "spec.successPolicy: Invalid value: {\"rules\":[]}: requires \
            indexed completion mode",
        ),
        (
            indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 3}]}})),
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number \
            of indexes in the specified succeededIndexes field)",
        ),
        (
            json!({"template": {"metadata": {"labels": {"job-name": "x"}}}}),
            "spec.template.metadata.labels[job-name]: \
            Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"j\",\
            \"controller-uid\":\"u\",\"job-name\":\"x\"}: must be 'j'",
        ),
    ];
    for (spec, expected) in cases {
        let found = texts(&Jobs::validate(&job(&json!({"spec": spec}))));
        assert_eq!(found, [expected], "{spec}");
    }
}

#[test]
fn a_suspended_job_may_be_told_where_to_run() {
    let old = job(&json!({"spec": {"suspend": true}}));
    let mut new = old.clone();
    let pod = new.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    pod.node_selector = Some([("zone".to_owned(), "a".to_owned())].into());
    assert_eq!(texts(&Jobs::validate_update(&new, &old)), [""; 0]);
    let mut image = old.clone();
    image.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0].image = Some("b:1".to_owned());
    assert!(texts(&Jobs::validate_update(&image, &old))[0].starts_with("spec.template.spec: Invalid value: "));
    let running = job(&json!({}));
    let mut new = running.clone();
    let pod = new.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    pod.node_selector = Some([("zone".to_owned(), "a".to_owned())].into());
    let found = texts(&Jobs::validate_update(&new, &running));
    assert!(found[0].ends_with("field is immutable") && found[0].starts_with("spec.template: "), "{found:?}");
}

#[test]
fn a_status_tells_one_story() {
    let with = |status: Value| {
        let mut job = job(&json!({"spec": {"completionMode": "Indexed", "completions": 5}}));
        job.status = serde_json::from_value(status).unwrap();
        job
    };
    let on =
        |types: &[&str]| -> Vec<Value> { types.iter().map(|type_| json!({"type": type_, "status": "True"})).collect() };
    let start = "2026-01-01T00:00:00Z";
    let good = with(json!({"startTime": start, "completionTime": start, "succeeded": 5, "completedIndexes": "0-4",
        "conditions": on(&["SuccessCriteriaMet", "Complete"])}));
    assert_eq!(texts(&Jobs::validate_status_update(&good, &with(json!({"startTime": start})))), [""; 0]);
    let cases = [
        (
            json!({"startTime": start, "active": 1, "conditions": on(&["FailureTarget", "Failed"])}),
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ),
        (
            json!({"startTime": start, "conditions": on(&["Failed"])}),
            "status.conditions: Invalid value: cannot set \
            Failed=True condition without the FailureTarget=true condition",
        ),
        (
            json!({"completionTime": start}),
            "status.completionTime: Invalid value: \"2026-01-01T00:00:00Z\": cannot \
            set completionTime when there is no Complete=True condition",
        ),
        (
            json!({"completedIndexes": "3-9"}),
            "status.completedIndexes: Invalid value: \"3-9\": error parsing \
            completedIndexes: too large index: \"9\"",
        ),
        (json!({"ready": 1}), "status.ready: Invalid value: 1: cannot set more ready pods than active"),
        (
            json!({"uncountedTerminatedPods": {"failed": ["a", "a"]}}),
            "status.uncountedTerminatedPods.failed[1]: \
            Duplicate value: \"a\"",
        ),
    ];
    for (status, expected) in cases {
        let found = texts(&Jobs::validate_status_update(&with(status.clone()), &with(json!({}))));
        assert_eq!(found, [expected], "{status}");
    }
    let cases = [
        (
            json!({"failed": 2}),
            json!({"failed": 1}),
            "status.failed: Invalid value: 1: cannot decrease the failed \
            counter",
        ),
        (
            json!({"startTime": start}),
            json!({}),
            "status.startTime: Required value: startTime cannot be removed for \
            unsuspended job",
        ),
    ];
    for (old, new, expected) in cases {
        assert_eq!(texts(&Jobs::validate_status_update(&with(new), &with(old))), [expected]);
    }
}

#[test]
fn columns_tell_how_far_it_is() {
    let cells = |patch: Value| {
        let mut job = job(&json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}));
        let mut value = serde_json::to_value(&job).unwrap();
        merge(&mut value, &patch);
        job = Job::from_value(value).unwrap();
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let cells: Vec<Value> = Jobs::COLUMNS.iter().map(|column| (column.cell)(&job, now)).collect();
        serde_json::to_value(cells).unwrap()
    };
    assert_eq!(
        cells(json!({"status": {"succeeded": 1, "startTime": "2026-01-01T00:00:20Z"}})),
        json!(["j", "Running", "1/1", "40s", "60s", "a", "a:1", "batch.kubernetes.io/controller-uid=u"])
    );
    let suspended = json!({"spec": {"completions": null, "parallelism": 3},
        "status": {"conditions": [{"type": "Suspended", "status": "True"}]}});
    let found = cells(suspended);
    assert_eq!(found.as_array().unwrap()[1..4], [json!("Suspended"), json!("0/1 of 3"), json!("")]);
}
