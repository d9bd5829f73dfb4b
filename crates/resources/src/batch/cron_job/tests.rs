//! Defaults, validation and columns of CronJobs.

use super::Strategy as CronJobs;
use crate::Strategy as _;
use api::Typed;
use api::batch::v1::CronJob;
use serde_json::{Value, json};

fn cron_job(name: &str, spec: &Value) -> CronJob {
    let mut value = json!({"metadata": {"name": name, "namespace": "n", "uid": "u"}, "spec": {"schedule": "*/5 * * * *",
        "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [
            {"name": "a", "image": "a:1"}]}}}}}});
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    let mut cron = CronJob::from_value(value).unwrap();
    CronJobs::default(&mut cron);
    CronJobs::prepare_create(&mut cron);
    cron
}

fn texts(errors: &api::FieldErrors) -> Vec<String> {
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_upstreams() {
    let cron = cron_job("c", &json!({}));
    assert_eq!(texts(&CronJobs::validate(&cron)), [""; 0]);
    let mut spec = serde_json::to_value(cron.spec).unwrap();
    let template = spec["jobTemplate"].take();
    spec.as_object_mut().unwrap().remove("jobTemplate");
    assert_eq!(
        spec,
        json!({"schedule": "*/5 * * * *", "concurrencyPolicy": "Allow", "suspend": false,
            "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1})
    );
    assert_eq!(template["spec"]["backoffLimit"], Value::Null, "only a Job gets that");
}

#[test]
fn specs_are_refused_in_upstreams_words() {
    let long = "a".repeat(53);
    let cases = [
        (json!({"schedule": ""}), "spec.schedule: Required value"),
        (
            json!({"schedule": "* * *"}),
            "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: \
            [* * *]",
        ),
        (
            json!({"schedule": "TZ=UTC * * * * *"}),
            "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ \
            or CRON_TZ in schedule, use timeZone field instead",
        ),
        (json!({"timeZone": ""}), "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string"),
        (
            json!({"timeZone": "Mars/Olympus"}),
            "spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone \
            Mars/Olympus",
        ),
        (
            json!({"timeZone": "local"}),
            "spec.timeZone: Invalid value: \"local\": timeZone must be an explicit time \
            zone as defined in https://www.iana.org/time-zones",
        ),
        (
            json!({"concurrencyPolicy": "Skip"}),
            "spec.concurrencyPolicy: Unsupported value: \"Skip\": supported \
            values: \"Allow\", \"Forbid\", \"Replace\"",
        ),
        (
            json!({"startingDeadlineSeconds": -1}),
            "spec.startingDeadlineSeconds: Invalid value: -1: must be greater \
            than or equal to 0",
        ),
        (
            json!({"failedJobsHistoryLimit": -1}),
            "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than \
            or equal to 0",
        ),
    ];
    for (spec, expected) in cases {
        let found = texts(&CronJobs::validate(&cron_job("c", &spec)));
        assert_eq!(found[0], expected, "{spec}");
    }
    assert_eq!(
        texts(&CronJobs::validate(&cron_job(&long, &json!({})))),
        [format!("metadata.name: Invalid value: \"{long}\": must be no more than 52 bytes")]
    );
}

#[test]
fn what_was_taken_once_stays_writable() {
    let zoned = cron_job("c", &json!({"schedule": "TZ=UTC * * * * *"}));
    assert_eq!(texts(&CronJobs::validate_update(&zoned, &zoned)), [""; 0]);
    let mut both = zoned.clone();
    both.spec.time_zone = Some("UTC".to_owned());
    assert!(texts(&CronJobs::validate_update(&both, &zoned))[0].ends_with("in schedule"));
    let gone = cron_job("c", &json!({"timeZone": "Mars/Olympus"}));
    assert_eq!(texts(&CronJobs::validate_update(&gone, &gone)), [""; 0]);
}

#[test]
fn columns_tell_when_it_ran() {
    let mut cron = cron_job("c", &json!({"timeZone": "UTC"}));
    cron.status =
        serde_json::from_value(json!({"active": [{"name": "j"}], "lastScheduleTime": "2026-01-01T00:00:00Z"})).unwrap();
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    let cells: Vec<Value> = CronJobs::COLUMNS.iter().map(|column| (column.cell)(&cron, now)).collect();
    assert_eq!(
        serde_json::to_value(cells).unwrap(),
        json!(["c", "*/5 * * * *", "UTC", "False", 1, "60s", "<unknown>", "a", "a:1", "<none>"])
    );
}
