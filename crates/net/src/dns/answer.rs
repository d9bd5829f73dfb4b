//! What to answer: a name and a type in, records out. Pure.
//!
//! The names are those of the Kubernetes DNS specification 1.1.0; where it is silent, those of CoreDNS' kubernetes
//! plugin.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::state::{Endpoint, Entry, Kind, State, undashed};

/// How long an answer with a Service's own address may be kept, seconds. It changes only with the Service itself.
pub const SERVICE_TTL_SECONDS: u32 = 30;
/// How long an answer that follows endpoints, or a "no", may be kept, seconds.
pub const ENDPOINT_TTL_SECONDS: u32 = 5;
/// The version of the specification that `dns-version.<zone>` tells.
const SPEC_VERSION: &str = "1.1.0";

/// What to say to a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// An authoritative answer; without records the authority section says for how long that holds.
    Records {
        /// NoError or NXDomain.
        code: ResponseCode,
        /// The answer section.
        answers: Vec<Record>,
        /// The authority section.
        authorities: Vec<Record>,
        /// The additional section.
        additionals: Vec<Record>,
    },
    /// The name is another name for `target`, whose records of the asked type belong to the answer.
    Alias {
        /// The CNAME.
        record: Box<Record>,
        /// Where to go on.
        target: Name,
    },
    /// Not a name of the cluster.
    Forward,
    /// A name of the cluster, but the cluster has not been seen yet.
    NotReady,
}

/// Answers a question of class IN. `seed` (the question's id will do) turns the order of several addresses, so that
/// clients which take the first one spread.
pub fn answer(state: &State, name: &Name, kind: RecordType, seed: u16) -> Answer {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let zone = &state.zone.labels;
    if let Some(inside) = labels.strip_suffix(zone.as_slice()) {
        if !state.synced {
            return Answer::NotReady;
        }
        let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
        return Zoned { state, name, kind, seed }.answer(&inside);
    }
    match reverse_address(name, &labels) {
        Some(ip) => answer_reverse(state, name, kind, ip),
        None => Answer::Forward,
    }
}

/// A question about a name in the zone.
struct Zoned<'a> {
    state: &'a State,
    name: &'a Name,
    kind: RecordType,
    seed: u16,
}

impl Zoned<'_> {
    /// `labels` are those in front of the zone's, in lower case.
    fn answer(&self, labels: &[&str]) -> Answer {
        match labels {
            [] => self.apex(),
            ["dns-version"] if self.wants(RecordType::TXT) => {
                self.found(vec![self.record(SERVICE_TTL_SECONDS, RData::TXT(TXT::new(vec![SPEC_VERSION.into()])))])
            }
            ["dns-version" | "dns" | "svc" | "pod"] => self.no_data(),
            ["ns", "dns"] => self.addresses(&self.state.zone.addresses, SERVICE_TTL_SECONDS),
            [namespace, "svc" | "pod"] => {
                if self.state.namespaces.contains_key(*namespace) {
                    self.no_data()
                } else {
                    self.nothing()
                }
            }
            [ip, namespace, "pod"] => self.pod(ip, namespace),
            [front @ .., service, namespace, "svc"] => {
                match self.state.namespaces.get(*namespace).and_then(|services| services.get(*service)) {
                    Some(entry) => self.service(front, entry, service, namespace),
                    None => self.nothing(),
                }
            }
            _ => self.nothing(),
        }
    }

    fn apex(&self) -> Answer {
        match self.kind {
            RecordType::SOA => self.found(vec![self.soa(SERVICE_TTL_SECONDS)]),
            RecordType::NS => match name_server(self.state) {
                Some(server) => {
                    let additionals = addresses_of(&server, &self.state.zone.addresses, SERVICE_TTL_SECONDS);
                    let ns = self.record(SERVICE_TTL_SECONDS, RData::NS(NS(server)));
                    self.found_with(vec![ns], additionals)
                }
                None => self.no_data(),
            },
            _ => self.no_data(),
        }
    }

    fn pod(&self, ip: &str, namespace: &str) -> Answer {
        match undashed(ip) {
            Some(ip) if self.state.namespaces.contains_key(namespace) => self.addresses(&[ip], ENDPOINT_TTL_SECONDS),
            _ => self.nothing(),
        }
    }

    fn service(&self, front: &[&str], entry: &Entry, service: &str, namespace: &str) -> Answer {
        if let Kind::ExternalName(target) = &entry.kind {
            if !front.is_empty() {
                return self.nothing();
            }
            let record = self.record(SERVICE_TTL_SECONDS, RData::CNAME(CNAME(target.clone())));
            return match self.kind {
                RecordType::CNAME => self.found(vec![record]),
                _ => Answer::Alias { record: Box::new(record), target: target.clone() },
            };
        }
        match front {
            [] if self.kind == RecordType::SRV => self.srv(entry, service, namespace, |_, _| true),
            [] => match &entry.kind {
                Kind::ClusterIps(ips) => self.addresses(ips, SERVICE_TTL_SECONDS),
                _ if entry.endpoints.is_empty() => self.nothing(),
                _ => self.endpoint_addresses(&entry.endpoints.iter().collect::<Vec<_>>()),
            },
            [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
                self.named_port(entry, service, namespace, &port[1..], &protocol[1..])
            }
            [protocol] if protocol.starts_with('_') => {
                let known = has_port(entry, |_, p| p == &protocol[1..]);
                if known { self.no_data() } else { self.nothing() }
            }
            [host] => {
                let named: Vec<&Endpoint> = entry.endpoints.iter().filter(|endpoint| endpoint.host == *host).collect();
                if named.is_empty() { self.nothing() } else { self.endpoint_addresses(&named) }
            }
            _ => self.nothing(),
        }
    }

    fn named_port(&self, entry: &Entry, service: &str, namespace: &str, port: &str, protocol: &str) -> Answer {
        let wanted = |name: &str, p: &str| name == port && p == protocol;
        if port.is_empty() || !has_port(entry, wanted) {
            return self.nothing();
        }
        if self.wants(RecordType::SRV) { self.srv(entry, service, namespace, wanted) } else { self.no_data() }
    }

    /// One record per port of the Service, or per port of every endpoint when it is headless.
    fn srv(&self, entry: &Entry, service: &str, namespace: &str, wanted: impl Fn(&str, &str) -> bool) -> Answer {
        let mut targets: Vec<(u16, Name)> = Vec::new();
        let mut additionals = Vec::new();
        if let Kind::ClusterIps(ips) = &entry.kind {
            let Some(target) = self.state.service_name(None, service, namespace) else { return self.nothing() };
            additionals = addresses_of(&target, ips, SERVICE_TTL_SECONDS);
            let ports = entry.ports.iter().filter(|port| wanted(&port.name, port.protocol));
            targets.extend(ports.map(|port| (port.number, target.clone())));
        } else {
            for endpoint in turned(&entry.endpoints, self.seed) {
                let target = self.state.service_name(Some(&endpoint.host), service, namespace);
                let Some(target) = target else { continue };
                additionals.extend(addresses_of(&target, &[endpoint.ip], ENDPOINT_TTL_SECONDS));
                let ports = endpoint.ports.iter().filter(|port| wanted(&port.name, port.protocol));
                targets.extend(ports.map(|port| (port.number, target.clone())));
            }
        }
        if targets.is_empty() {
            return self.nothing();
        }
        targets.dedup();
        let ttl = if entry.kind == Kind::Headless { ENDPOINT_TTL_SECONDS } else { SERVICE_TTL_SECONDS };
        let weight = u16::try_from(100 / targets.len()).unwrap_or(1).max(1);
        let records =
            targets.into_iter().map(|(port, target)| self.record(ttl, RData::SRV(SRV::new(0, weight, port, target))));
        self.found_with(records.collect(), additionals)
    }

    fn endpoint_addresses(&self, endpoints: &[&Endpoint]) -> Answer {
        let mut ips: Vec<IpAddr> = endpoints.iter().map(|endpoint| endpoint.ip).collect();
        ips.dedup();
        self.addresses(&ips, ENDPOINT_TTL_SECONDS)
    }

    fn addresses(&self, ips: &[IpAddr], ttl_seconds: u32) -> Answer {
        let fitting: Vec<IpAddr> = ips
            .iter()
            .copied()
            .filter(|ip| self.wants(if ip.is_ipv4() { RecordType::A } else { RecordType::AAAA }))
            .collect();
        if fitting.is_empty() {
            return self.no_data();
        }
        self.found(turned(&fitting, self.seed).map(|ip| self.record(ttl_seconds, rdata(*ip))).collect())
    }

    fn wants(&self, kind: RecordType) -> bool {
        self.kind == kind || self.kind == RecordType::ANY
    }

    /// A record for the name as it was asked, letters as they were.
    fn record(&self, ttl_seconds: u32, data: RData) -> Record {
        Record::from_rdata(self.name.clone(), ttl_seconds, data)
    }

    fn soa(&self, ttl_seconds: u32) -> Record {
        soa(self.state, &self.state.zone.name, ttl_seconds)
    }

    fn found(&self, answers: Vec<Record>) -> Answer {
        self.found_with(answers, Vec::new())
    }

    fn found_with(&self, answers: Vec<Record>, additionals: Vec<Record>) -> Answer {
        Answer::Records { code: ResponseCode::NoError, answers, authorities: Vec::new(), additionals }
    }

    /// The name exists, but not with this type.
    fn no_data(&self) -> Answer {
        negative(ResponseCode::NoError, self.soa(ENDPOINT_TTL_SECONDS))
    }

    /// There is no such name.
    fn nothing(&self) -> Answer {
        negative(ResponseCode::NXDomain, self.soa(ENDPOINT_TTL_SECONDS))
    }
}

fn negative(code: ResponseCode, soa: Record) -> Answer {
    Answer::Records { code, answers: Vec::new(), authorities: vec![soa], additionals: Vec::new() }
}

fn answer_reverse(state: &State, name: &Name, kind: RecordType, ip: IpAddr) -> Answer {
    let ours = state.zone.reverse.iter().any(|range| range.contains(ip));
    if !state.synced && ours {
        return Answer::NotReady;
    }
    // The SOA's owner has to enclose the name: the reverse tree as a whole does.
    let tree = name.trim_to(2);
    match state.reverse.get(&ip) {
        Some(names) if kind == RecordType::PTR || kind == RecordType::ANY => Answer::Records {
            code: ResponseCode::NoError,
            answers: names
                .iter()
                .map(|target| Record::from_rdata(name.clone(), ENDPOINT_TTL_SECONDS, RData::PTR(PTR(target.clone()))))
                .collect(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        },
        Some(_) => negative(ResponseCode::NoError, soa(state, &tree, ENDPOINT_TTL_SECONDS)),
        None if ours => negative(ResponseCode::NXDomain, soa(state, &tree, ENDPOINT_TTL_SECONDS)),
        None => Answer::Forward,
    }
}

/// The address of a full reverse name.
fn reverse_address(name: &Name, labels: &[String]) -> Option<IpAddr> {
    let full = match labels {
        [.., tree, arpa] if tree == "in-addr" && arpa == "arpa" => labels.len() == 6,
        [.., tree, arpa] if tree == "ip6" && arpa == "arpa" => labels.len() == 34,
        _ => false,
    };
    full.then(|| name.parse_arpa_name().ok().map(|net| net.addr()))?
}

fn name_server(state: &State) -> Option<Name> {
    Name::from_labels([&b"ns"[..], b"dns"]).ok()?.append_domain(&state.zone.name).ok()
}

fn soa(state: &State, owner: &Name, ttl_seconds: u32) -> Record {
    let server = name_server(state).unwrap_or_else(Name::root);
    let mailbox = state.zone.name.prepend_label("hostmaster").unwrap_or_else(|_| Name::root());
    let data = SOA::new(server, mailbox, state.serial, 7200, 1800, 86_400, ENDPOINT_TTL_SECONDS);
    Record::from_rdata(owner.clone(), ttl_seconds, RData::SOA(data))
}

fn addresses_of(name: &Name, ips: &[IpAddr], ttl_seconds: u32) -> Vec<Record> {
    ips.iter().map(|ip| Record::from_rdata(name.clone(), ttl_seconds, rdata(*ip))).collect()
}

fn rdata(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

fn has_port(entry: &Entry, wanted: impl Fn(&str, &str) -> bool) -> bool {
    match entry.kind {
        Kind::Headless => {
            entry.endpoints.iter().flat_map(|endpoint| &endpoint.ports).any(|port| wanted(&port.name, port.protocol))
        }
        _ => entry.ports.iter().any(|port| wanted(&port.name, port.protocol)),
    }
}

/// `items` starting somewhere else.
fn turned<T>(items: &[T], seed: u16) -> impl Iterator<Item = &T> {
    let start = if items.is_empty() { 0 } else { usize::from(seed) % items.len() };
    items[start..].iter().chain(&items[..start])
}
