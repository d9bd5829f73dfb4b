//! What holds for every beta and alpha version.

use serde_json::json;

use super::*;

#[test]
fn every_version_says_what_it_is() {
    let mut seen = std::collections::BTreeSet::new();
    for strategy in ALL {
        let kind = strategy.kind();
        assert!(kind.version.contains("beta") || kind.version.contains("alpha"), "{kind:?}");
        assert!(seen.insert((kind.api_version, kind.kind)), "{kind:?}");
        assert_eq!(strategy.names().plural, kind.plural);
        if let Some(text) = strategy.deprecated() {
            let own = format!("{} {} is deprecated in v1.", kind.api_version, kind.kind);
            assert!(text.starts_with(&own), "{text}");
        }
        let Some(stored_as) = strategy.stored_as() else { continue };
        assert_eq!((stored_as.kind.group, stored_as.kind.kind), (kind.group, kind.kind));
        // A bare object gets there and back.
        let object = kind.decode_value(json!({"metadata": {"name": "a", "labels": {"a": "b"}}})).unwrap();
        let stored = (stored_as.to_stored)(&*object);
        assert_eq!(stored.kind(), stored_as.kind);
        assert_eq!((stored_as.from_stored)(&*stored).to_value(), object.to_value());
    }
}

fn there_and_back(api_version: &str, kind: &str, spec: Value, stored_spec: &Value) {
    let strategy = ALL.iter().find(|one| (one.kind().api_version, one.kind().kind) == (api_version, kind)).unwrap();
    let object = strategy.kind().decode_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
    let stored_as = strategy.stored_as().unwrap();
    let stored = (stored_as.to_stored)(&*object);
    assert_eq!(&stored.to_value()["spec"], stored_spec);
    assert_eq!((stored_as.from_stored)(&*stored).to_value(), object.to_value());
}

#[test]
fn requests_for_devices_are_moved() {
    let spec = json!({"devices": {"requests": [
        {"allocationMode": "ExactCount", "count": 2, "deviceClassName": "gpu", "name": "one"},
        {"firstAvailable": [{"deviceClassName": "gpu", "name": "sub"}], "name": "two"},
    ]}});
    let stored = json!({"devices": {"requests": [
        {"exactly": {"allocationMode": "ExactCount", "count": 2, "deviceClassName": "gpu"}, "name": "one"},
        {"firstAvailable": [{"deviceClassName": "gpu", "name": "sub"}], "name": "two"},
    ]}});
    there_and_back("resource.k8s.io/v1beta1", "ResourceClaim", spec.clone(), &stored);
    let (spec, stored) = (json!({"spec": spec}), json!({"spec": stored}));
    there_and_back("resource.k8s.io/v1beta1", "ResourceClaimTemplate", spec, &stored);
}

#[test]
fn devices_are_moved() {
    let pool = json!({"generation": 1, "name": "p", "resourceSliceCount": 1});
    let spec =
        json!({"devices": [{"basic": {"attributes": {"a": {"int": 1}}}, "name": "d"}], "driver": "x", "pool": pool});
    let stored = json!({"devices": [{"attributes": {"a": {"int": 1}}, "name": "d"}], "driver": "x", "pool": pool});
    there_and_back("resource.k8s.io/v1beta1", "ResourceSlice", spec, &stored);
}
