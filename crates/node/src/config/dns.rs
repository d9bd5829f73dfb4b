//! A pod's resolver configuration (upstream `kubelet/network/dns`).

use api::Object;
use api::core::v1::Pod;
use cri::v1;

use crate::pod;

/// The resolver limits of upstream.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;

/// The cluster's side of name resolution.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// The cluster's DNS servers; without any, `ClusterFirst` falls back to the node's.
    pub servers: Vec<String>,
    /// For example `cluster.local`.
    pub domain: String,
}

/// Reads a `resolv.conf`.
pub fn parse_resolv_conf(text: &str) -> v1::DnsConfig {
    let mut config = v1::DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let rest = |words: std::str::SplitWhitespace<'_>| words.map(str::to_owned).collect::<Vec<_>>();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => {
                config.searches = rest(words).into_iter().map(|s| s.trim_end_matches('.').to_owned()).collect();
                config.searches.retain(|s| !s.is_empty());
            }
            Some("options") => config.options = rest(words),
            _ => {}
        }
    }
    config
}

/// What is left out of a configuration because resolvers do not take more; `None` when all fits.
pub type Truncated = Option<String>;

/// The pod's resolver configuration, given the node's.
pub fn compile(p: &Pod, cluster: &Cluster, host: &v1::DnsConfig) -> (v1::DnsConfig, Truncated) {
    let spec = pod::spec(p);
    let cluster_dns = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => !pod::is_host_network(p),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    } && !cluster.servers.is_empty();
    let mut config = if spec.dns_policy.as_deref() == Some("None") {
        v1::DnsConfig::default()
    } else if cluster_dns {
        let domain = &cluster.domain;
        let own = [format!("{}.svc.{domain}", p.namespace()), format!("svc.{domain}"), domain.clone()];
        v1::DnsConfig {
            servers: cluster.servers.clone(),
            searches: unique(own.into_iter().chain(host.searches.iter().cloned())),
            options: vec!["ndots:5".into()],
        }
    } else {
        host.clone()
    };
    if let Some(extra) = &spec.dns_config {
        config.servers = unique(config.servers.into_iter().chain(extra.nameservers.iter().flatten().cloned()));
        config.searches = unique(config.searches.into_iter().chain(extra.searches.iter().flatten().cloned()));
        for option in extra.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let text = match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            };
            let same = |o: &String| o.split(':').next() == Some(name.as_str());
            match config.options.iter_mut().find(|o| same(o)) {
                Some(existing) => *existing = text,
                None => config.options.push(text),
            }
        }
    }
    let truncated = truncate(&mut config);
    (config, truncated)
}

fn unique(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for item in items {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

fn truncate(config: &mut v1::DnsConfig) -> Truncated {
    let mut message = None;
    if config.servers.len() > NAMESERVERS_MAX {
        config.servers.truncate(NAMESERVERS_MAX);
        message = Some(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            config.servers.join(" ")
        ));
    }
    let whole = |searches: &[String]| searches.iter().map(|s| s.len() + 1).sum::<usize>().saturating_sub(1);
    if config.searches.len() > SEARCHES_MAX || whole(&config.searches) > SEARCH_BYTES_MAX {
        config.searches.truncate(SEARCHES_MAX);
        while whole(&config.searches) > SEARCH_BYTES_MAX {
            config.searches.pop();
        }
        message = Some(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            config.searches.join(" ")
        ));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn policies() {
        let cluster = Cluster { servers: vec!["10.43.0.10".into()], domain: "cluster.local".into() };
        let host = parse_resolv_conf("# x\nnameserver 9.9.9.9\nsearch lan.\noptions edns0\n");
        let of = |spec: &str| {
            let text = format!(r#"{{"metadata":{{"namespace":"n"}},"spec":{spec}}}"#);
            compile(&Pod::decode(text.as_bytes()).unwrap(), &cluster, &host).0
        };
        let first = of(r#"{"containers":[],"dnsConfig":{"options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}}"#);
        assert_eq!(first.searches, ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"]);
        assert_eq!(first.servers, ["10.43.0.10"]);
        assert_eq!(first.options, ["ndots:2", "edns0"]);
        assert_eq!(of(r#"{"containers":[],"hostNetwork":true}"#), host);
        assert_eq!(of(r#"{"containers":[],"dnsPolicy":"Default"}"#), host);
        let with = of(r#"{"containers":[],"hostNetwork":true,"dnsPolicy":"ClusterFirstWithHostNet"}"#);
        assert_eq!(with.servers, ["10.43.0.10"]);
        let none = of(r#"{"containers":[],"dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1"]}}"#);
        assert_eq!((none.servers.as_slice(), none.options.len()), (["1.1.1.1".to_owned()].as_slice(), 0));
    }
}
