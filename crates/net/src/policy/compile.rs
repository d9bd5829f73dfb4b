//! The model as an nftables table. Pure.
//!
//! Connections are judged, not packets: rules look at what conntrack remembers of the connection (who opened it, and
//! who answers it, after a Service's address was rewritten), which is the same for every packet in both directions. So
//! answers need no rule of their own, and a policy that changes holds for connections that are open already: their next
//! packet is judged by the new rules.
//!
//! A packet meets two base chains, one for each end; in each, the isolated pod's address leads to the chain of all pods
//! that the same policies hold for. That chain asks the policies' chains, whose rules accept; what none of them accepts
//! is dropped. An accepted packet goes on to the other end's base chain.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use super::model::{Allowed, Direction, Model, Peers, Side};
use super::rule::{Block, PortMatch, Ports};
use crate::feed::Key;
use crate::nft::{Hook, Table};
use crate::proxy::endpoints::Protocol;
use crate::{Cidr, Family, names};

/// What the compiler knows of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The instance's name: names the table.
    pub instance: String,
    /// The families pods have addresses of.
    pub families: Vec<Family>,
    /// The bridge the pods hang on. `None`: the pod network is somebody else's.
    pub bridge: Option<String>,
    /// The addresses of cluster DNS on this node.
    pub cluster_dns: Vec<IpAddr>,
}

/// Before the service proxy's own filters, after all rewriting of destinations.
const EGRESS: i32 = -20;
/// After [`EGRESS`]: both ends have to agree.
const INGRESS: i32 = -10;
/// Neighbour discovery, router discovery and multicast groups: without them there is no IPv6 at all. By number, as
/// older nft knows the names of some only.
const DISCOVERY: &str = "meta l4proto ipv6-icmp icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 137, 143 } accept";

/// Compiles the whole table. Equal inputs give equal tables.
pub fn compile(model: &Model, facts: &Facts) -> Table {
    let mut compiler =
        Compiler { table: Table::new(names::policy_table(&facts.instance)), facts, taken: BTreeSet::new() };
    let groups = compiler.groups(&model.groups);
    compiler.side(Direction::Egress, &model.egress, &groups);
    compiler.side(Direction::Ingress, &model.ingress, &groups);
    compiler.table
}

struct Compiler<'a> {
    table: Table,
    facts: &'a Facts,
    /// Names given so far. A digest in a name is short enough that two could be made to meet on purpose.
    taken: BTreeSet<String>,
}

/// The names that a side's chains refer to.
struct Named<'a> {
    groups: &'a BTreeMap<String, String>,
    ports: BTreeMap<(Protocol, String), String>,
}

impl Compiler<'_> {
    fn name(&mut self, kind: &str, parts: &[&str]) -> String {
        let wanted = names::chain(kind, parts);
        let mut name = wanted.clone();
        let mut number = 1;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}.{number}");
        }
        name
    }

    /// One set per group and family; returns their names without the family.
    fn groups(&mut self, groups: &BTreeMap<String, BTreeSet<IpAddr>>) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (text, addresses) in groups {
            let name = self.name("pods", &[text]);
            self.sets(&name, "", addresses.iter().map(|ip| (Family::of(*ip), ip.to_string())));
            all.insert(text.clone(), name);
        }
        all
    }

    /// A set per family, of addresses and what else is in its type.
    fn sets(&mut self, name: &str, more: &str, elements: impl Iterator<Item = (Family, String)>) {
        for family in &self.facts.families {
            let address = address_type(*family);
            let kind = if more == "self" { format!("{address} . {address}") } else { format!("{address}{more}") };
            self.table.set(named(name, *family), format!("type {kind};"));
        }
        for (family, element) in elements {
            if self.facts.families.contains(&family) {
                self.table.set_element(&named(name, family), element);
            }
        }
    }

    fn side(&mut self, direction: Direction, side: &Side, groups: &BTreeMap<String, String>) {
        let isolated = side.isolated.iter().filter(|(ip, _)| self.facts.families.contains(&Family::of(**ip)));
        let isolated: Vec<(IpAddr, &Vec<Key>)> = isolated.map(|(ip, policies)| (*ip, policies)).collect();
        if isolated.is_empty() {
            return;
        }
        let word = word(direction);
        let mut ports = BTreeMap::new();
        for ((protocol, port), numbers) in &side.named {
            let name = self.name(&format!("{word}-port"), &[protocol.word(), port]);
            let elements = numbers.iter().map(|(ip, number)| (Family::of(*ip), format!("{ip} . {number}")));
            self.sets(&name, " . inet_service", elements);
            ports.insert((*protocol, port.clone()), name);
        }
        let known = Named { groups, ports };
        let mut policies = BTreeMap::new();
        for (key, allowed) in &side.policies {
            let name = self.name(&format!("{word}-policy"), &[&key.namespace, &key.name]);
            self.table.chain(&name, self.policy(direction, allowed, &known));
            policies.insert(key.clone(), name);
        }
        self.frame(direction, &isolated);
        let mut chains: BTreeMap<&Vec<Key>, String> = BTreeMap::new();
        for (ip, keys) in isolated {
            let chain = match chains.get(keys) {
                Some(chain) => chain.clone(),
                None => {
                    let chain = self.isolation(word, keys, &policies);
                    chains.insert(keys, chain.clone());
                    chain
                }
            };
            let family = Family::of(ip);
            self.table.map_element(&named(word, family), ip.to_string(), format!("goto {chain}"));
            self.table.set_element(&named(&format!("{word}-isolated"), family), ip.to_string());
            self.table.set_element(&named(&format!("{word}-self"), family), format!("{ip} . {ip}"));
        }
    }

    /// The chain of all pods that these policies hold for.
    fn isolation(&mut self, word: &str, keys: &[Key], policies: &BTreeMap<Key, String>) -> String {
        let parts: Vec<&str> = keys.iter().flat_map(|key| [key.namespace.as_str(), key.name.as_str()]).collect();
        let name = self.name(word, &parts);
        // A pod cannot be kept from itself.
        let own = self.facts.families.iter().map(|family| {
            let (opener, answerer) = (opener(*family), answerer(*family));
            format!("{opener} . {answerer} @{} accept", named(&format!("{word}-self"), *family))
        });
        let asked = keys.iter().filter_map(|key| policies.get(key)).map(|chain| format!("jump {chain}"));
        let rules = own.chain(asked).chain(["drop".to_owned()]).collect();
        self.table.chain(&name, rules);
        name
    }

    /// The base chains of a direction, and the maps and sets they look into.
    fn frame(&mut self, direction: Direction, isolated: &[(IpAddr, &Vec<Key>)]) {
        let word = word(direction);
        for family in &self.facts.families {
            self.table.verdict_map(named(word, *family), address_type(*family));
        }
        self.sets(&format!("{word}-isolated"), "", std::iter::empty());
        self.sets(&format!("{word}-self"), "self", std::iter::empty());

        // Packets that conntrack cannot place in a connection cannot be judged: isolated pods neither send nor get
        // them.
        let unplaced = format!("{word}-unplaced");
        let end = if direction == Direction::Egress { "saddr" } else { "daddr" };
        let drops =
            self.facts.families.iter().map(|family| {
                format!("{} {end} @{} drop", header(*family), named(&format!("{word}-isolated"), *family))
            });
        self.table.chain(&unplaced, drops.collect());
        let judge = |family: Family| match direction {
            Direction::Egress => format!("{} vmap @{}", opener(family), named(word, family)),
            Direction::Ingress => format!("{} vmap @{}", answerer(family), named(word, family)),
        };

        let mut forward = vec![DISCOVERY.to_owned()];
        if let Some(bridge) = &self.facts.bridge {
            let across = format!("iifname \"{bridge}\" oifname \"{bridge}\"");
            // Every pod on a bridge has a link-local address which no policy speaks of, and hears what is sent to all.
            forward.push(format!("{across} ip6 saddr fe80::/10 drop"));
            forward.push(format!("{across} ip6 daddr fe80::/10 drop"));
            if direction == Direction::Ingress {
                forward.push(format!("{across} fib daddr type {{ broadcast, multicast }} drop"));
            }
        }
        forward.push("ct state related accept".into());
        forward.push(format!("ct state invalid,untracked jump {unplaced}"));
        forward.extend(self.facts.families.iter().map(|family| judge(*family)));
        let priority = if direction == Direction::Egress { EGRESS } else { INGRESS };
        let hook = |hook| Hook { kind: "filter", hook, priority };
        self.table.base_chain(&format!("{word}-forward"), hook("forward"), forward);

        // Of the node itself only cluster DNS is judged, which is a Service's address that happens to be here.
        let mut input = Vec::new();
        for ip in self.facts.cluster_dns.iter().filter(|_| direction == Direction::Egress) {
            let family = Family::of(*ip);
            if isolated.iter().any(|(ip, _)| Family::of(*ip) == family) {
                input.push(format!("{} daddr {ip} ct state invalid,untracked jump {unplaced}", header(family)));
                input.push(format!("{} daddr {ip} {}", header(family), judge(family)));
            }
        }
        if !input.is_empty() {
            self.table.base_chain(&format!("{word}-input"), hook("input"), input);
        }
    }

    /// A policy's rules: one for each kind of peer and of port.
    fn policy(&self, direction: Direction, allowed: &[Allowed], known: &Named<'_>) -> Vec<String> {
        let mut rules: Vec<String> = Vec::new();
        let mut said: HashSet<String> = HashSet::new();
        for one in allowed {
            let peers =
                one.peers.as_ref().map_or_else(|| vec![(None, String::new())], |it| self.peers(direction, it, known));
            let ports = one.ports.as_ref().map_or_else(|| vec![Ends::default()], |it| self.ports(it, known));
            for (peers_family, peer) in &peers {
                for Ends { family, before, after } in &ports {
                    if peers_family.is_some() && family.is_some() && peers_family != family {
                        continue;
                    }
                    let rule = format!("{before}{peer}{after}accept");
                    if said.insert(rule.clone()) {
                        rules.push(rule);
                    }
                }
            }
        }
        rules
    }

    fn peers(&self, direction: Direction, peers: &Peers, known: &Named<'_>) -> Vec<(Option<Family>, String)> {
        let other = |family| match direction {
            Direction::Egress => answerer(family),
            Direction::Ingress => opener(family),
        };
        let mut all = Vec::new();
        for name in peers.groups.iter().filter_map(|group| known.groups.get(group)) {
            let each = self.facts.families.iter();
            all.extend(each.map(|family| (Some(*family), format!("{} @{} ", other(*family), named(name, *family)))));
        }
        for family in &self.facts.families {
            let (whole, parted): (Vec<&Block>, Vec<&Block>) = peers
                .blocks
                .iter()
                .filter(|block| block.family() == *family)
                .partition(|block| block.except.is_empty());
            let whole = widest(whole.into_iter().map(|block| block.cidr));
            match whole.as_slice() {
                [] => {}
                // `0.0.0.0/0` is no condition to nft, but it is one on the family.
                [all_of_it, ..] if all_of_it.prefix_len() == 0 => {
                    all.push((Some(*family), format!("meta nfproto {} ", protocol(*family))));
                }
                some => {
                    let text = one_of(some.iter().map(ToString::to_string).collect());
                    all.push((Some(*family), format!("{} {text} ", other(*family))));
                }
            }
            let texts = parted.into_iter().filter_map(|block| range(&other(*family), block));
            all.extend(texts.map(|text| (Some(*family), text)));
        }
        all
    }

    fn ports(&self, ports: &[PortMatch], known: &Named<'_>) -> Vec<Ends> {
        let mut all = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let of_protocol = || ports.iter().filter(|port| port.protocol == protocol).map(|port| &port.ports);
            let before = format!("meta l4proto {} ", protocol.word());
            if of_protocol().any(|ports| *ports == Ports::All) {
                all.push(Ends { family: None, before, after: String::new() });
                continue;
            }
            let numbers = ranges(of_protocol().filter_map(|ports| match ports {
                Ports::Range(first, last) => Some((*first, *last)),
                _ => None,
            }));
            if !numbers.is_empty() {
                let after = format!("ct reply proto-src {} ", one_of(numbers));
                all.push(Ends { family: None, before: before.clone(), after });
            }
            let names: BTreeSet<&String> = of_protocol()
                .filter_map(|ports| match ports {
                    Ports::Named(name) => Some(name),
                    _ => None,
                })
                .collect();
            for name in names.into_iter().filter_map(|name| known.ports.get(&(protocol, name.clone()))) {
                for family in &self.facts.families {
                    let set = named(name, *family);
                    let after = format!("{} . ct reply proto-src @{set} ", answerer(*family));
                    all.push(Ends { family: Some(*family), before: before.clone(), after });
                }
            }
        }
        all
    }
}

/// What stands before and behind the peer in a rule. nft knows the type of a port only once it knows the protocol.
#[derive(Default)]
struct Ends {
    /// `None`: any.
    family: Option<Family>,
    before: String,
    after: String,
}

/// A range and what is left out of it; `None` if nothing remains.
fn range(address: &str, block: &Block) -> Option<String> {
    let whole = match block.cidr.prefix_len() {
        0 => format!("meta nfproto {} ", protocol(block.family())),
        _ => format!("{address} {} ", block.cidr),
    };
    let except = widest(block.except.iter().copied());
    if except.iter().any(|part| covers(part, &block.cidr)) {
        return None;
    }
    let except: Vec<String> = except.iter().map(ToString::to_string).collect();
    Some(if except.is_empty() { whole } else { format!("{whole}{address} != {} ", one_of(except)) })
}

fn covers(outer: &Cidr, inner: &Cidr) -> bool {
    outer.prefix_len() <= inner.prefix_len() && outer.contains(inner.base())
}

/// Those that do not lie in another one, sorted: nft refuses a set of ranges that do.
fn widest(ranges: impl Iterator<Item = Cidr>) -> Vec<Cidr> {
    let sorted: BTreeSet<Cidr> = ranges.collect();
    let mut widest: Vec<Cidr> = Vec::new();
    // Ranges never overlap in part, and one that covers others comes right before them.
    for range in sorted {
        if widest.last().is_none_or(|before| !covers(before, &range)) {
            widest.push(range);
        }
    }
    widest
}

/// One value as it is, several as a set without a name.
fn one_of(values: Vec<String>) -> String {
    match <[String; 1]>::try_from(values) {
        Ok([one]) => one,
        Err(many) => format!("{{ {} }}", many.join(", ")),
    }
}

/// Ranges of ports that do not touch, as nft writes them.
fn ranges(ports: impl Iterator<Item = (u16, u16)>) -> Vec<String> {
    let mut sorted: Vec<(u16, u16)> = ports.filter(|(first, last)| first <= last).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    let text = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    merged.into_iter().map(text).collect()
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    }
}

fn header(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn protocol(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

/// Who opened the connection.
fn opener(family: Family) -> String {
    format!("ct original {} saddr", header(family))
}

/// Who answers it, after all rewriting.
fn answerer(family: Family) -> String {
    format!("ct reply {} saddr", header(family))
}

fn named(name: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{name}-v4"),
        Family::V6 => format!("{name}-v6"),
    }
}
