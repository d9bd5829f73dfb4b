//! When a range is ready, and when it may go.

use api::Typed;
use serde_json::{Value, json};

use super::*;
use crate::harness::Op;

fn range(name: &str, cidrs: &[&str], finalizers: &[&str], deleted: Option<&str>) -> Arc<ServiceCIDR> {
    let mut value = json!({"metadata": {"name": name, "finalizers": finalizers}, "spec": {"cidrs": cidrs}});
    if let Some(at) = deleted {
        value["metadata"]["deletionTimestamp"] = at.into();
    }
    Arc::new(ServiceCIDR::from_value(value).unwrap())
}

fn address(name: &str) -> Arc<IPAddress> {
    let value = json!({"metadata": {"name": name, "labels": {MANAGED_BY.0: MANAGED_BY.1}},
        "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}});
    Arc::new(IPAddress::from_value(value).unwrap())
}

fn planned(range: &Arc<ServiceCIDR>, others: &[Arc<ServiceCIDR>], addresses: &[&str], seconds: i64) -> (Value, Plan) {
    let mut all = others.to_vec();
    all.push(range.clone());
    let now = Timestamp::from_second(seconds).unwrap();
    let plan = plan(range, &all, || addresses.iter().map(|name| address(name)).collect(), now);
    let shown = match plan.steps.first().map(|step| &step.op) {
        Some(Op::Update(object)) => json!({"finalizers": object.metadata().finalizers}),
        Some(Op::UpdateStatus(object)) => object.to_value()["status"]["conditions"][0].take(),
        _ => Value::Null,
    };
    (shown, plan)
}

const DELETED: &str = "1970-01-01T00:00:00Z";

#[test]
fn a_range_is_protected_and_then_ready() {
    let (step, _) = planned(&range("a", &["10.0.0.0/24"], &[], None), &[], &[], 0);
    assert_eq!(step, json!({"finalizers": [FINALIZER]}));
    let (step, _) = planned(&range("a", &["10.0.0.0/24"], &[FINALIZER], None), &[], &[], 0);
    assert_eq!(step["status"], "True");
    assert_eq!(step["message"], "Kubernetes Service CIDR is ready");
}

#[test]
fn a_range_stays_while_an_address_depends_on_it_alone() {
    let own = range("a", &["10.0.0.0/24"], &[FINALIZER], Some(DELETED));
    let (step, _) = planned(&own, &[], &["10.0.0.7"], 60);
    assert_eq!((&step["status"], &step["reason"]), (&json!("False"), &json!("Terminating")));
    // Its addresses are elsewhere, in another range too, or all of it is.
    let part = range("b", &["10.0.0.0/28"], &[], None);
    let whole = range("b", &["10.0.0.0/16"], &[], None);
    for (others, addresses) in
        [(vec![], vec!["10.1.0.7"]), (vec![part.clone()], vec!["10.0.0.7"]), (vec![whole], vec!["10.0.0.200"])]
    {
        assert_eq!(planned(&own, &others, &addresses, 60).0, json!({"finalizers": []}), "{addresses:?}");
    }
    assert_eq!(planned(&own, &[part], &["10.0.0.200"], 60).0["status"], "False");
}

#[test]
fn a_range_goes_after_a_grace() {
    let own = range("a", &["10.0.0.0/24"], &[FINALIZER, "x/y"], Some(DELETED));
    let (step, plan) = planned(&own, &[], &[], 3);
    assert_eq!((step, plan.requeue_after), (Value::Null, Some(Duration::from_secs(7))));
    assert_eq!(planned(&own, &[], &[], 10).0, json!({"finalizers": ["x/y"]}));
}
