//! 4.2 and 4.3: the node's API and the service proxy: what the node does when one knocks.

use super::api_server::{UPDATE, strong_tls};
use super::components::serving_renewal;
use super::doors::{NodeDoors, Seen};
use super::facts::{Facts, known};
use super::{Check, Decided, Group, Verdict, fail, not_applicable, pass, warn};

pub static GROUP: Group = Group {
    id: "4.2",
    title: "Node agent",
    checks: &[
        Check { id: "4.2.1", title: "The node answers nobody without credentials", decide: anonymous },
        Check { id: "4.2.2", title: "The node does not answer everybody it knows", decide: authorization },
        Check { id: "4.2.3", title: "The node knows its clients by the cluster's CA", decide: client_ca },
        Check { id: "4.2.4", title: "Nothing is served without authentication", decide: read_only },
        Check { id: "4.2.5", title: "Streams that are dead are ended", decide: idle_streams },
        Check { id: "4.2.6", title: "Chains of iptables are kept", decide: iptables },
        Check { id: "4.2.7", title: "The node's certificate bears the node's name", decide: name },
        Check { id: "4.2.8", title: "Events are not lost in a storm", decide: events },
        Check { id: "4.2.9", title: "The node serves with a certificate of the cluster's CA", decide: certificate },
        Check { id: "4.2.10", title: "The node's client certificate is renewed", decide: client_certificate },
        Check { id: "4.2.11", title: "The node's serving certificate is renewed", decide: serving_renewal },
        Check { id: "4.2.12", title: "Only strong ciphers are agreed on", decide: ciphers },
        Check { id: "4.2.13", title: "Pods' processes are limited in number", decide: process_limit },
        Check { id: "4.2.14", title: "Pods that say nothing have a seccomp profile", decide: seccomp },
    ],
};

pub static PROXY: Group = Group {
    id: "4.3",
    title: "Service proxy",
    checks: &[Check { id: "4.3.1", title: "The proxy's figures are served on loopback only", decide: proxy_port }],
};

/// Decides on the node, if there is one.
fn on_node(facts: &Facts, decide: impl Fn(&NodeDoors) -> Decided) -> Decided {
    if !facts.has_node()? {
        return not_applicable("no node runs here");
    }
    decide(facts.doors.node.as_ref().ok_or("the node's port is not known")?)
}

fn anonymous(facts: &Facts) -> Decided {
    on_node(facts, |node| match known(&node.anonymous)? {
        Seen::Answered(401) | Seen::Refused => pass("401"),
        seen => fail(format!("/pods without credentials: {seen:?}"), UPDATE),
    })
}

fn authorization(facts: &Facts) -> Decided {
    on_node(facts, |node| match known(&node.other_user)? {
        Seen::Answered(403) => pass("a user who has no business with it is refused"),
        seen => fail(format!("/pods as the admin, not the API server: {seen:?}"), UPDATE),
    })
}

fn client_ca(facts: &Facts) -> Decided {
    on_node(facts, |node| match known(&node.stranger)? {
        Seen::Refused | Seen::Answered(401) => pass("a certificate of another CA is refused"),
        seen => fail(format!("/pods with a certificate of another CA: {seen:?}"), UPDATE),
    })
}

fn read_only(facts: &Facts) -> Decided {
    on_node(facts, |node| match node.read_only {
        false => pass("nobody listens on port 10255"),
        true => fail("somebody listens on port 10255", "fuser -v 10255/tcp"),
    })
}

fn idle_streams(facts: &Facts) -> Decided {
    on_node(facts, |_| not_applicable("no limit of idleness is set: the kernel's keep-alive ends what is dead"))
}

fn iptables(facts: &Facts) -> Decided {
    on_node(facts, |_| not_applicable("rules are of nftables, in tables of their own that are mended when changed"))
}

fn name(facts: &Facts) -> Decided {
    on_node(facts, |node| {
        let own = facts.flag("hostname-override")?.to_owned();
        let certificate = known(&node.certificate)?;
        if certificate.dns_names.contains(&own) {
            return pass(own);
        }
        fail(
            format!("the node is {own}, its certificate is of {}", certificate.dns_names.join(", ")),
            "systemctl restart pintle # pods keep running",
        )
    })
}

fn events(facts: &Facts) -> Decided {
    on_node(facts, |_| not_applicable("events have no rate: like ones are counted up, and the queue is bounded"))
}

fn certificate(facts: &Facts) -> Decided {
    // The visit itself verified it by the cluster's CA.
    on_node(facts, |node| Ok(Verdict::Pass(format!("until {}", known(&node.certificate)?.not_after))))
}

fn client_certificate(facts: &Facts) -> Decided {
    on_node(facts, |_| not_applicable("the node agent is part of the server's process and has no certificate"))
}

fn ciphers(facts: &Facts) -> Decided {
    on_node(facts, |node| strong_tls(&node.old_tls, &node.agreed))
}

/// The kernel's own limit for the cgroup that all pods are in.
fn process_limit(facts: &Facts) -> Decided {
    on_node(facts, |_| {
        let (path, limit) = known(&facts.process_limit)?;
        match limit.as_str() {
            "max" => warn(format!("{} is max", path.display()), format!("echo 16384 > {}", path.display())),
            limit => pass(format!("all pods together: {limit}; each: {}", facts.flag("pod-max-pids")?)),
        }
    })
}

fn seccomp(facts: &Facts) -> Decided {
    on_node(facts, |_| not_applicable("the node gives RuntimeDefault to whoever says nothing: see 5.6.2 for the rest"))
}

fn proxy_port(_: &Facts) -> Decided {
    not_applicable("the service proxy runs within the server and has no port of its own")
}
