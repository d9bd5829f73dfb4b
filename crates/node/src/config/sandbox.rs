//! The sandbox's configuration (upstream `kuberuntime_sandbox.go`).

use std::collections::BTreeMap;

use api::Object;
use api::core::v1::Pod;
use cri::v1;

use super::{hosts, linux, security};
use crate::{labels, pod};

/// What a sandbox's configuration needs beside the pod.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    pub node_name: &'a str,
    pub cluster_domain: &'a str,
    pub dns: v1::DnsConfig,
    /// `""`: the runtime's own choice.
    pub cgroup_parent: &'a str,
    pub log_dir: String,
}

/// The directory of a pod's logs under `root`: `<namespace>_<name>_<uid>`.
pub fn log_dir(root: &str, p: &Pod) -> String {
    format!("{root}/{}_{}_{}", p.namespace(), p.name(), p.uid())
}

/// The configuration of the pod's `attempt`-th sandbox.
pub fn compile(p: &Pod, attempt: u32, context: &Context<'_>) -> v1::PodSandboxConfig {
    let host_network = pod::is_host_network(p);
    let limits = linux::pod_limits(p);
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: p.name().into(),
            uid: p.uid().into(),
            namespace: p.namespace().into(),
            attempt,
        }),
        hostname: if host_network { String::new() } else { hosts::kernel_hostname(p, context.cluster_domain) },
        log_directory: context.log_dir.clone(),
        dns_config: Some(context.dns.clone()),
        port_mappings: if host_network { Vec::new() } else { port_mappings(p) },
        labels: labels::sandbox_labels(p, context.node_name),
        annotations: p.metadata.annotations.clone().unwrap_or_default(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: context.cgroup_parent.to_owned(),
            security_context: Some(security::of_sandbox(p)),
            sysctls: sysctls(p),
            overhead: None,
            resources: Some(v1::LinuxContainerResources {
                cpu_shares: limits.cpu_shares,
                cpu_quota: limits.cpu_quota_micros,
                cpu_period: linux::PERIOD_MICROS,
                memory_limit_in_bytes: limits.memory_bytes,
                ..Default::default()
            }),
        }),
    }
}

fn sysctls(p: &Pod) -> BTreeMap<String, String> {
    let all = pod::spec(p).security_context.as_ref().and_then(|c| c.sysctls.as_ref());
    all.into_iter().flatten().map(|s| (s.name.replace('/', "."), s.value.clone())).collect()
}

fn port_mappings(p: &Pod) -> Vec<v1::PortMapping> {
    let sidecars = pod::init_containers(p).iter().filter(|c| pod::is_sidecar(c));
    let ports = pod::containers(p).iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = port.host_port.filter(|port| *port != 0)?;
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp,
                Some("SCTP") => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            };
            Some(v1::PortMapping {
                protocol: protocol.into(),
                container_port: port.container_port,
                host_port,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn ports_names_and_sysctls() {
        let p = Pod::decode(
            br#"{"metadata":{"name":"p","namespace":"n","uid":"u","labels":{"app":"x"}},"spec":{
                "securityContext":{"sysctls":[{"name":"net/core/somaxconn","value":"9"}]},
                "containers":[{"name":"a","ports":[{"containerPort":80,"hostPort":8080},{"containerPort":81}]}]}}"#,
        )
        .unwrap();
        let context = Context {
            node_name: "node",
            cluster_domain: "cluster.local",
            dns: v1::DnsConfig::default(),
            cgroup_parent: "/x",
            log_dir: log_dir("/var/log/pods", &p),
        };
        let config = compile(&p, 2, &context);
        assert_eq!(config.port_mappings.len(), 1);
        assert_eq!(config.log_directory, "/var/log/pods/n_p_u");
        assert_eq!(config.labels["app"], "x");
        assert_eq!(config.labels[labels::POD_UID], "u");
        assert_eq!(config.linux.unwrap().sysctls["net.core.somaxconn"], "9");
        assert_eq!(config.metadata.unwrap().attempt, 2);
    }
}
