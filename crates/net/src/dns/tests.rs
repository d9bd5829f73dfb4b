//! The cluster's names as tables: what is answered to what.

use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use serde_json::{Value, json};

use super::wire::{self, Request};
use super::*;

fn service(namespace: &str, name: &str, spec: Value) -> Arc<api::core::v1::Service> {
    let object = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn slice(namespace: &str, service: &str, ports: Value, endpoints: Value) -> Arc<api::discovery::v1::EndpointSlice> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": format!("{service}-1"), "namespace": namespace,
                         "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        }))
        .unwrap(),
    )
}

fn zone() -> Zone {
    let reverse = vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()];
    Zone::new("cluster.local", vec!["10.43.0.10".parse().unwrap()], reverse).unwrap()
}

fn feed() -> Feed {
    let feed = Feed::new();
    let http = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let target = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    feed.replace_services([
        service(
            "default",
            "web",
            json!({"clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7", "fd43::7"], "ports": http}),
        ),
        service("default", "db", json!({"clusterIP": "None", "ports": http})),
        service("default", "early", json!({"clusterIP": "None", "publishNotReadyAddresses": true})),
        service("default", "empty", json!({"clusterIP": "None"})),
        service("default", "out", json!({"type": "ExternalName", "externalName": "Example.org"})),
    ]);
    feed.replace_slices([
        slice(
            "default",
            "db",
            target.clone(),
            json!([
                {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.6"], "conditions": {"ready": true}},
                {"addresses": ["10.42.0.7"], "hostname": "db-2", "conditions": {"ready": false}},
            ]),
        ),
        slice("default", "web", target, json!([{"addresses": ["10.42.0.9"]}])),
        slice("default", "early", Value::Null, json!([{"addresses": ["10.42.0.8"], "conditions": {"ready": false}}])),
    ]);
    feed.replace_namespaces(
        ["default", "bare"].map(|name| Arc::new(serde_json::from_value(json!({"metadata": {"name": name}})).unwrap())),
    );
    feed
}

fn state() -> State {
    State::build(zone(), &feed().snapshot(), 7)
}

/// The answer in one line: code, then the records' data, sorted.
fn ask(name: &str, kind: RecordType) -> String {
    match answer(&state(), &Name::from_ascii(name).unwrap(), kind, 0) {
        Answer::Records { code, answers, authorities, .. } => {
            let mut data: Vec<String> = answers.iter().map(|record| format!("{}", record.data)).collect();
            data.sort();
            assert_eq!(data.is_empty(), !authorities.is_empty(), "a SOA stands for records, and only then");
            let code = match code {
                ResponseCode::NoError if data.is_empty() => "NODATA".to_owned(),
                ResponseCode::NoError => String::new(),
                other => format!("{other:?}"),
            };
            format!("{code}{}", data.join(" | "))
        }
        Answer::Alias { target, .. } => format!("alias {target}"),
        Answer::Forward => "forward".into(),
        Answer::NotReady => "not ready".into(),
    }
}

#[test]
fn names_and_their_answers() {
    use RecordType as T;
    for (name, kind, expected) in [
        ("web.default.svc.cluster.local.", T::A, "10.43.0.7"),
        ("WEB.Default.svc.Cluster.Local.", T::A, "10.43.0.7"),
        ("web.default.svc.cluster.local.", T::AAAA, "fd43::7"),
        ("web.default.svc.cluster.local.", T::MX, "NODATA"),
        ("web.default.svc.cluster.local.", T::SRV, "0 100 80 web.default.svc.cluster.local."),
        ("_http._tcp.web.default.svc.cluster.local.", T::SRV, "0 100 80 web.default.svc.cluster.local."),
        ("_http._tcp.web.default.svc.cluster.local.", T::A, "NODATA"),
        ("_tcp.web.default.svc.cluster.local.", T::A, "NODATA"),
        ("_udp.web.default.svc.cluster.local.", T::A, "NXDomain"),
        ("_http._udp.web.default.svc.cluster.local.", T::SRV, "NXDomain"),
        ("_nope._tcp.web.default.svc.cluster.local.", T::SRV, "NXDomain"),
        ("10-42-0-9.web.default.svc.cluster.local.", T::A, "10.42.0.9"),
        ("web.other.svc.cluster.local.", T::A, "NXDomain"),
        ("nope.default.svc.cluster.local.", T::A, "NXDomain"),
        ("default.svc.cluster.local.", T::A, "NODATA"),
        ("bare.svc.cluster.local.", T::A, "NODATA"),
        ("other.svc.cluster.local.", T::A, "NXDomain"),
        ("svc.cluster.local.", T::A, "NODATA"),
        ("cluster.local.", T::A, "NODATA"),
        ("cluster.local.", T::NS, "ns.dns.cluster.local."),
        ("ns.dns.cluster.local.", T::A, "10.43.0.10"),
        ("cluster.local.", T::SOA, "ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"),
        ("dns-version.cluster.local.", T::TXT, "1.1.0"),
        ("dns-version.cluster.local.", T::A, "NODATA"),
        ("db.default.svc.cluster.local.", T::A, "10.42.0.5 | 10.42.0.6"),
        ("db.default.svc.cluster.local.", T::AAAA, "NODATA"),
        ("db-0.db.default.svc.cluster.local.", T::A, "10.42.0.5"),
        ("10-42-0-6.db.default.svc.cluster.local.", T::A, "10.42.0.6"),
        ("db-2.db.default.svc.cluster.local.", T::A, "NXDomain"),
        (
            "_http._tcp.db.default.svc.cluster.local.",
            T::SRV,
            "0 50 8080 10-42-0-6.db.default.svc.cluster.local. | 0 50 8080 db-0.db.default.svc.cluster.local.",
        ),
        ("early.default.svc.cluster.local.", T::A, "10.42.0.8"),
        ("empty.default.svc.cluster.local.", T::A, "NXDomain"),
        ("out.default.svc.cluster.local.", T::A, "alias Example.org."),
        ("out.default.svc.cluster.local.", T::CNAME, "Example.org."),
        ("10-42-3-4.default.pod.cluster.local.", T::A, "10.42.3.4"),
        ("10-42-3-4.default.pod.cluster.local.", T::AAAA, "NODATA"),
        ("fd42--4.default.pod.cluster.local.", T::AAAA, "fd42::4"),
        ("10-42-3-4.other.pod.cluster.local.", T::A, "NXDomain"),
        ("x.default.pod.cluster.local.", T::A, "NXDomain"),
        ("7.0.43.10.in-addr.arpa.", T::PTR, "web.default.svc.cluster.local."),
        ("5.0.42.10.in-addr.arpa.", T::PTR, "db-0.db.default.svc.cluster.local."),
        ("99.0.42.10.in-addr.arpa.", T::PTR, "NXDomain"),
        ("7.0.43.10.in-addr.arpa.", T::A, "NODATA"),
        ("1.2.0.192.in-addr.arpa.", T::PTR, "forward"),
        ("example.org.", T::A, "forward"),
        ("web.default.svc.", T::A, "forward"),
        ("notcluster.local.", T::A, "forward"),
    ] {
        assert_eq!(ask(name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn before_the_cluster_is_seen_nothing_is_denied() {
    let state = State::empty(zone());
    let ask = |name: &str| answer(&state, &Name::from_ascii(name).unwrap(), RecordType::A, 0);
    assert_eq!(ask("web.default.svc.cluster.local."), Answer::NotReady);
    assert_eq!(ask("example.org."), Answer::Forward);
}

#[test]
fn addresses_turn_with_the_seed() {
    let name = Name::from_ascii("db.default.svc.cluster.local.").unwrap();
    let first = |seed| match answer(&state(), &name, RecordType::A, seed) {
        Answer::Records { answers, .. } => answers[0].data.to_string(),
        other => panic!("{other:?}"),
    };
    assert_ne!(first(0), first(1));
}

fn question(name: &str) -> Message {
    let mut message = Message::new(42, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

fn reply_to(asked: &Message, state: &State) -> Message {
    match answer(state, asked.queries[0].name(), RecordType::A, 0) {
        Answer::Records { code, answers, authorities, additionals } => {
            wire::reply(asked, code, answers, authorities, additionals)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn letters_come_back_as_they_were_sent() {
    let asked = question("wEb.Default.svc.cluster.local.");
    let bytes = wire::encode(&reply_to(&asked, &state()), 512).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("wEb") && text.contains("Default"), "{text}");
    let reply = Message::from_vec(&bytes).unwrap();
    assert!(reply.metadata.authoritative && reply.metadata.id == 42);
}

#[test]
fn what_does_not_fit_is_truncated_and_says_so() {
    let feed = Feed::new();
    feed.replace_services([service("default", "many", json!({"clusterIP": "None"}))]);
    let endpoints: Vec<Value> = (0..200).map(|n| json!({"addresses": [format!("10.42.1.{n}")]})).collect();
    feed.replace_slices([slice("default", "many", json!([{"port": 80}]), endpoints.into())]);
    feed.replace_namespaces([]);
    let state = State::build(zone(), &feed.snapshot(), 1);
    let asked = question("many.default.svc.cluster.local.");
    let reply = reply_to(&asked, &state);
    let short = wire::encode(&reply, wire::payload_bytes(&asked)).unwrap();
    assert!(short.len() <= 512);
    let short = Message::from_vec(&short).unwrap();
    assert!(short.metadata.truncation);
    assert!(short.answers.len() > 20, "{}", short.answers.len());
    let long = Message::from_vec(&wire::encode(&reply, u16::MAX).unwrap()).unwrap();
    assert!(!long.metadata.truncation);
    assert_eq!(long.answers.len(), 200);
    assert!(long.answers.iter().all(|record| matches!(record.data, RData::A(_)) && record.ttl == 5));
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let code = |bytes: &[u8]| match wire::read(bytes) {
        Request::Reply(reply) => u16::from(Message::from_vec(&reply).unwrap().metadata.response_code).to_string(),
        Request::Ignore => "ignored".into(),
        Request::Question(_) => "question".into(),
    };
    let plain = question("a.").to_vec().unwrap();
    assert_eq!(code(&plain), "question");
    assert_eq!(code(b"abc"), "ignored");
    assert_eq!(code(&plain[..plain.len() - 3]), u16::from(ResponseCode::FormErr).to_string());
    let mut answer = question("a.");
    answer.metadata.message_type = MessageType::Response;
    assert_eq!(code(&answer.to_vec().unwrap()), "ignored");
    let mut update = question("a.");
    update.metadata.op_code = OpCode::Status;
    assert_eq!(code(&update.to_vec().unwrap()), u16::from(ResponseCode::NotImp).to_string());
    let mut chaos = question("version.bind.");
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    assert_eq!(code(&chaos.to_vec().unwrap()), u16::from(ResponseCode::Refused).to_string());
    let mut newer = question("a.");
    let mut edns = hickory_proto::op::Edns::new();
    edns.set_version(1);
    newer.edns = Some(edns);
    assert_eq!(code(&newer.to_vec().unwrap()), u16::from(ResponseCode::BADVERS).to_string());
}
