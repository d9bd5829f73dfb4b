//! A pod's `/etc/hosts`, host name and domain.

use api::Object;
use api::core::v1::{HostAlias, Pod};

use crate::pod;

/// The longest host name Linux takes.
const HOSTNAME_BYTES_MAX: usize = 63;

/// The pod's host name and its domain (`""` without a subdomain).
pub fn names(p: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod::spec(p);
    if let Some(whole) = spec.hostname_override.as_deref().filter(|h| !h.is_empty()) {
        return (whole.to_owned(), String::new());
    }
    let wanted = spec.hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(p.name());
    let mut hostname: String = wanted.chars().take(HOSTNAME_BYTES_MAX).collect();
    while hostname.ends_with(['-', '.']) {
        hostname.pop();
    }
    let domain = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(subdomain) => format!("{subdomain}.{}.svc.{cluster_domain}", p.namespace()),
        None => String::new(),
    };
    (hostname, domain)
}

/// The host name given to the kernel: the fully qualified one when the pod asks for that.
pub fn kernel_hostname(p: &Pod, cluster_domain: &str) -> String {
    let (hostname, domain) = names(p, cluster_domain);
    if pod::spec(p).set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        format!("{hostname}.{domain}")
    } else {
        hostname
    }
}

/// The hosts file of a pod with its own network.
pub fn file(p: &Pod, ips: &[String], cluster_domain: &str) -> String {
    let (hostname, domain) = names(p, cluster_domain);
    let mut out = String::from("# Kubernetes-managed hosts file.\n");
    out.push_str("127.0.0.1\tlocalhost\n");
    out.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
    out.push_str("fe00::0\tip6-localnet\n");
    out.push_str("fe00::0\tip6-mcastprefix\n");
    out.push_str("fe00::1\tip6-allnodes\n");
    out.push_str("fe00::2\tip6-allrouters\n");
    for ip in ips {
        match domain.as_str() {
            "" => out.push_str(&format!("{ip}\t{hostname}\n")),
            domain => out.push_str(&format!("{ip}\t{hostname}.{domain}\t{hostname}\n")),
        }
    }
    out.push_str(&aliases(pod::spec(p).host_aliases.as_deref().unwrap_or_default()));
    out
}

/// The hosts file of a pod in the node's network: the node's own and the pod's aliases.
pub fn host_network_file(p: &Pod, host: &str) -> String {
    let aliases = aliases(pod::spec(p).host_aliases.as_deref().unwrap_or_default());
    format!("# Kubernetes-managed hosts file (host network).\n{host}{aliases}")
}

fn aliases(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        out.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn names_and_file() {
        let p = Pod::decode(
            br#"{"metadata":{"name":"p","namespace":"n"},"spec":{"containers":[],"subdomain":"s","setHostnameAsFQDN":true,
                "hostAliases":[{"ip":"1.2.3.4","hostnames":["a","b"]}]}}"#,
        )
        .unwrap();
        assert_eq!(kernel_hostname(&p, "cluster.local"), "p.s.n.svc.cluster.local");
        let text = file(&p, &["10.0.0.2".into()], "cluster.local");
        assert!(text.contains("10.0.0.2\tp.s.n.svc.cluster.local\tp\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
