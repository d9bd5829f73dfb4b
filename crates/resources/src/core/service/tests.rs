//! Services as the API server sees them, with what they are given.

use api::Typed;
use api::core::v1::Service;
use serde_json::{Value, json};

use super::Strategy as Services;
use super::allocate::{Error, NODE_PORTS, Ranges, Used, allocate};
use crate::Strategy as _;

fn service(spec: Value) -> Service {
    let mut service = Service::from_value(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec})).unwrap();
    Services::default(&mut service);
    Services::prepare_create(&mut service);
    service
}

fn ranges() -> Ranges {
    Ranges { services: vec!["10.43.0.0/16".parse().unwrap()], pools: None, node_ports: NODE_PORTS }
}

fn dual() -> Ranges {
    Ranges {
        services: vec!["10.43.0.0/16".parse().unwrap(), "fd00:43::/112".parse().unwrap()],
        pools: None,
        node_ports: NODE_PORTS,
    }
}

fn given(spec: Value, ranges: &Ranges, used: &Used) -> Result<Service, String> {
    let mut service = service(spec);
    allocate(&mut service, None, ranges, used, || 1000).map_err(|error| error.to_string())?;
    let problems = Services::validate(&service);
    if problems.is_empty() { Ok(service) } else { Err(problems.to_string()) }
}

fn spec(service: &Service) -> Value {
    serde_json::to_value(&service.spec).unwrap()
}

#[test]
fn defaults_are_upstreams() {
    let service = given(json!({"ports": [{"port": 80}]}), &ranges(), &Used::default()).unwrap();
    assert_eq!(
        spec(&service),
        json!({"clusterIP": "10.43.4.233", "clusterIPs": ["10.43.4.233"], "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None",
                "type": "ClusterIP"})
    );
    assert_eq!(serde_json::to_value(&service.status).unwrap(), json!({"loadBalancer": {}}));
    let sticky = given(
        json!({"sessionAffinity": "ClientIP", "ports": [{"port": 80}], "type": "NodePort"}),
        &ranges(),
        &Used::default(),
    )
    .unwrap();
    let spec = spec(&sticky);
    assert_eq!(spec["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
    assert_eq!((&spec["externalTrafficPolicy"], &spec["ports"][0]["nodePort"]), (&json!("Cluster"), &json!(31086)));
}

#[test]
fn addresses_asked_for_are_checked() {
    let taken = given(json!({"clusterIP": "10.43.0.9", "ports": [{"port": 1}]}), &ranges(), &Used::default()).unwrap();
    let mut used = Used::of([&taken]);
    let ask = |ip: &str, used: &Used| {
        given(json!({"clusterIP": ip, "ports": [{"port": 1}]}), &ranges(), used)
            .map(|service| spec(&service)["clusterIPs"].clone())
    };
    assert_eq!(ask("10.43.0.10", &used), Ok(json!(["10.43.0.10"])));
    assert_eq!(
        ask("10.43.0.9", &used),
        Err(
            "spec.clusterIPs: Invalid value: [\"10.43.0.9\"]: failed to allocate IP 10.43.0.9: provided IP is already \
             allocated"
                .to_owned()
        )
    );
    assert_eq!(
        ask("10.44.0.1", &used),
        Err("spec.clusterIPs: Invalid value: [\"10.44.0.1\"]: failed to allocate IP 10.44.0.1: the provided \
             network does not match the current range"
            .to_owned())
    );
    for special in ["10.43.0.0", "10.43.255.255"] {
        assert!(ask(special, &used).is_err(), "{special}");
    }
    assert_eq!(
        ask("fd00::1", &used),
        Err("spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster".to_owned())
    );
    used.remove(&taken);
    assert!(ask("10.43.0.9", &used).is_ok());
    assert_eq!(ask("None", &used), Ok(json!(["None"])));
}

#[test]
fn node_ports_are_chosen_and_checked() {
    let used = Used::of([&given(
        json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30500}]}),
        &ranges(),
        &Used::default(),
    )
    .unwrap()]);
    let ask = |port: i32| {
        given(json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]}), &ranges(), &used)
            .map(|service| spec(&service)["ports"][0]["nodePort"].clone())
    };
    assert_eq!(ask(30501), Ok(json!(30501)));
    assert_eq!(
        ask(30500),
        Err("spec.ports[0].nodePort: Invalid value: 30500: provided port is already allocated".to_owned())
    );
    assert_eq!(
        ask(80),
        Err("spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid \
             ports is 30000-32767"
            .to_owned())
    );
    let shared = given(
        json!({"type": "NodePort", "ports": [{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP"},
            {"name": "c", "port": 80}]}),
        &ranges(),
        &used,
    )
    .unwrap();
    let ports = &spec(&shared)["ports"];
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"], "one number, two protocols");
    assert_ne!(ports[0]["nodePort"], ports[2]["nodePort"]);
}

#[test]
fn a_full_range_says_so() {
    let ranges = Ranges { services: vec!["10.0.0.0/30".parse().unwrap()], pools: None, node_ports: 30000..=30000 };
    let first = given(json!({"type": "NodePort", "ports": [{"port": 1}]}), &ranges, &Used::default()).unwrap();
    let second = given(json!({"ports": [{"port": 1}]}), &ranges, &Used::of([&first])).unwrap();
    assert_ne!(spec(&first)["clusterIP"], spec(&second)["clusterIP"]);
    let mut third = service(json!({"ports": [{"port": 1}]}));
    assert_eq!(
        allocate(&mut third, None, &ranges, &Used::of([&first, &second]), || 7),
        Err(Error::Exhausted("failed to allocate a serviceIP: range is full".to_owned()))
    );
    let mut fourth = service(json!({"clusterIP": "None", "type": "ClusterIP"}));
    assert_eq!(allocate(&mut fourth, None, &ranges, &Used::of([&first, &second]), || 7), Ok(()));
}

#[test]
fn families_follow_policy_and_cluster() {
    let used = Used::default();
    let families = |spec_: Value, ranges: &Ranges| {
        given(spec_, ranges, &used).map(|service| {
            let spec = spec(&service);
            (spec["ipFamilyPolicy"].clone(), spec["ipFamilies"].clone())
        })
    };
    let ports = || json!([{"port": 1}]);
    let cases = [
        (json!({"ports": ports()}), Ok(("SingleStack", json!(["IPv4"])))),
        (json!({"ports": ports(), "ipFamilyPolicy": "PreferDualStack"}), Ok(("PreferDualStack", json!(["IPv4"])))),
        (
            json!({"ports": ports(), "ipFamilyPolicy": "RequireDualStack"}),
            Err("spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for \
                 dual-stack services"),
        ),
        (json!({"clusterIP": "None"}), Ok(("RequireDualStack", json!(["IPv4", "IPv6"])))),
        (json!({"clusterIP": "None", "selector": {"a": "b"}}), Ok(("SingleStack", json!(["IPv4"])))),
        (
            json!({"ports": ports(), "ipFamilies": ["IPv6"]}),
            Err("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"),
        ),
    ];
    for (value, expected) in cases {
        let expected = expected.map(|(policy, families)| (json!(policy), families)).map_err(str::to_owned);
        assert_eq!(families(value.clone(), &ranges()), expected, "{value}");
    }
    let both = given(json!({"ports": ports(), "ipFamilyPolicy": "PreferDualStack"}), &dual(), &used).unwrap();
    assert_eq!(spec(&both)["clusterIPs"], json!(["10.43.4.233", "fd00:43::4e9"]));
}

#[test]
fn specs_are_refused_in_upstreams_words() {
    let cases = [
        (json!({}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (json!({"ports": [{"port": 1}, {"port": 2}]}), "spec.ports[0].name: Required value"),
        (
            json!({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]}),
            "spec.ports[1]: Duplicate value: {\"protocol\":\"TCP\",\"port\":1}",
        ),
        (
            json!({"ports": [{"port": 1, "protocol": "ICMP"}]}),
            "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"type": "Cloud", "ports": [{"port": 1}]}),
            "spec.type: Unsupported value: \"Cloud\": supported values: \"ClusterIP\", \"ExternalName\", \
             \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({"ports": [{"port": 1, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (json!({"type": "ExternalName"}), "spec.externalName: Required value"),
        (
            json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 1}]}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
        (
            json!({"externalTrafficPolicy": "Local", "ports": [{"port": 1}]}),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
        (
            json!({"externalIPs": ["127.0.0.1"], "ports": [{"port": 1}]}),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
             ::1/128)",
        ),
    ];
    for (value, expected) in cases {
        let found: Vec<String> =
            Services::validate(&service(value.clone())).0.iter().map(ToString::to_string).collect();
        assert!(found.contains(&expected.to_owned()), "{value}\n{found:#?}");
    }
}

fn updated(old: &Service, change: impl Fn(&mut Service)) -> Result<Service, String> {
    let mut new = old.clone();
    change(&mut new);
    Services::default(&mut new);
    Services::prepare_update(&mut new, old);
    allocate(&mut new, Some(old), &ranges(), &Used::of([old]), || 5).map_err(|error| error.to_string())?;
    let problems = Services::validate_update(&new, old);
    if problems.is_empty() { Ok(new) } else { Err(problems.to_string()) }
}

#[test]
fn what_was_chosen_stays_though_not_repeated() {
    let old = given(json!({"type": "NodePort", "ports": [{"port": 80}]}), &ranges(), &Used::default()).unwrap();
    let new = updated(&old, |service| {
        let spec = service.spec.as_mut().unwrap();
        (spec.cluster_ip, spec.cluster_ips, spec.ip_families, spec.ip_family_policy) = (None, None, None, None);
        spec.ports.as_mut().unwrap()[0].node_port = None;
    });
    assert_eq!(spec(&new.unwrap()), spec(&old));
    let error = updated(&old, |service| service.spec.as_mut().unwrap().cluster_ip = Some("10.43.0.77".into()));
    assert_eq!(error.unwrap_err(), "spec.clusterIPs[0]: Invalid value: [\"10.43.0.77\"]: may not change once set");
}

#[test]
fn fields_of_the_old_type_go() {
    let old = given(json!({"type": "NodePort", "ports": [{"port": 80}]}), &ranges(), &Used::default()).unwrap();
    let plain = updated(&old, |service| service.spec.as_mut().unwrap().type_ = Some("ClusterIP".into())).unwrap();
    let plain = spec(&plain);
    assert_eq!((&plain["ports"][0]["nodePort"], &plain["externalTrafficPolicy"]), (&Value::Null, &Value::Null));
    let external = updated(&old, |service| {
        let spec = service.spec.as_mut().unwrap();
        spec.type_ = Some("ExternalName".into());
        spec.external_name = Some("example.com".into());
        spec.internal_traffic_policy = None;
    })
    .unwrap();
    assert_eq!(spec(&external)["clusterIPs"], Value::Null);
    let back = updated(&external, |service| service.spec.as_mut().unwrap().type_ = Some("ClusterIP".into())).unwrap();
    assert_eq!(spec(&back)["clusterIPs"][0], json!("10.43.1.6"));
}

#[test]
fn columns_show_ports_and_addresses() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let cells = |service: &Service| -> Vec<Value> {
        Services::COLUMNS.iter().map(|column| (column.cell)(service, now)).collect()
    };
    let mut balanced = given(
        json!({"type": "LoadBalancer", "selector": {"a": "b"}, "ports": [{"port": 80}]}),
        &ranges(),
        &Used::default(),
    )
    .unwrap();
    assert_eq!(
        cells(&balanced),
        [
            json!("s"),
            json!("LoadBalancer"),
            json!("10.43.4.233"),
            json!("<pending>"),
            json!("80:31086/TCP"),
            json!("<unknown>"),
            json!("a=b")
        ]
    );
    balanced.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}})).unwrap();
    assert_eq!(cells(&balanced)[3], json!("1.2.3.4"));
    let headless = service(json!({"clusterIP": "None"}));
    assert_eq!(cells(&headless)[1..5], [json!("ClusterIP"), json!("None"), json!("<none>"), json!("<none>")]);
}

#[test]
fn addresses_come_from_every_range_that_is_ready() {
    let all: Vec<_> = ["10.43.0.0/30", "10.99.0.0/29"].iter().map(|range| range.parse().unwrap()).collect();
    let ranges = Ranges { pools: Some(all), ..ranges() };
    let mut used = Used::default();
    let mut seen = Vec::new();
    for _ in 0..8 {
        let service = given(json!({"ports": [{"port": 80}]}), &ranges, &used).unwrap();
        seen.push(spec(&service)["clusterIP"].as_str().unwrap().to_owned());
        used.add(&service);
    }
    seen.sort();
    assert_eq!(seen[..2], ["10.43.0.1", "10.43.0.2"]);
    assert_eq!((seen[2].as_str(), seen[7].as_str()), ("10.99.0.1", "10.99.0.6"));
    assert_eq!(
        given(json!({"ports": [{"port": 80}]}), &ranges, &used).unwrap_err(),
        "failed to allocate a serviceIP: range is full"
    );
    // What others hold is taken too.
    let mut used = Used::default();
    used.hold(["10.99.0.3".parse().unwrap()]);
    let refused = given(json!({"clusterIP": "10.99.0.3", "ports": [{"port": 80}]}), &ranges, &used).unwrap_err();
    assert!(refused.ends_with("failed to allocate IP 10.99.0.3: provided IP is already allocated"), "{refused}");
}
