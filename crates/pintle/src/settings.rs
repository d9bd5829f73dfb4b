//! What all nodes of a cluster are told alike. The server has it from its flags and keeps it in the ConfigMap
//! `kube-system/pintle-nodes`, which nodes may read: a node that joins need not be told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use net::Cidr;

use crate::cli::ServerArgs;

/// The cluster's addresses and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The pods' addresses.
    pub cluster_cidr: Cidr,
    /// The Services' addresses.
    pub service_cidr: Cidr,
    /// The address of cluster DNS, inside the Services' addresses.
    pub cluster_dns: IpAddr,
    /// For example `cluster.local`.
    pub cluster_domain: String,
}

impl Settings {
    /// Of a server's flags.
    ///
    /// # Errors
    /// Names the flag that is no CIDR.
    pub fn of(arguments: &ServerArgs) -> Result<Self> {
        let cidr = |flag: &str, text: &str| text.parse::<Cidr>().map_err(|_| anyhow!("--{flag}: {text} is no CIDR"));
        Ok(Self {
            cluster_cidr: cidr("cluster-cidr", &arguments.cluster_cidr)?,
            service_cidr: cidr("service-cidr", &arguments.service_cidr)?,
            cluster_dns: arguments.cluster_dns,
            cluster_domain: arguments.cluster_domain.clone(),
        })
    }

    /// As the ConfigMap has them.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let all = [
            ("clusterCIDR", self.cluster_cidr.to_string()),
            ("serviceCIDR", self.service_cidr.to_string()),
            ("clusterDNS", self.cluster_dns.to_string()),
            ("clusterDomain", self.cluster_domain.clone()),
        ];
        all.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// From the ConfigMap's data.
    ///
    /// # Errors
    /// Names the key that is missing or cannot be read. Keys that are not known are left alone.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self> {
        let text = |key: &str| data.get(key).map(String::as_str).with_context(|| format!("{key} is missing"));
        let cidr = |key: &str| text(key)?.parse::<Cidr>().map_err(|_| anyhow!("{key} is no CIDR"));
        Ok(Self {
            cluster_cidr: cidr("clusterCIDR")?,
            service_cidr: cidr("serviceCIDR")?,
            cluster_dns: text("clusterDNS")?.parse().context("clusterDNS is no address")?,
            cluster_domain: text("clusterDomain")?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read_back() {
        let settings = Settings {
            cluster_cidr: "10.42.0.0/16".parse().unwrap(),
            service_cidr: "10.43.0.0/16".parse().unwrap(),
            cluster_dns: "10.43.0.10".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
        };
        let mut data = settings.to_data();
        data.insert("fromTheFuture".into(), "x".into());
        assert_eq!(Settings::from_data(&data).unwrap(), settings);
        data.insert("serviceCIDR".into(), "nonsense".into());
        assert_eq!(Settings::from_data(&data).unwrap_err().to_string(), "serviceCIDR is no CIDR");
        data.remove("clusterDNS");
        data.insert("serviceCIDR".into(), "10.43.0.0/16".into());
        assert_eq!(Settings::from_data(&data).unwrap_err().to_string(), "clusterDNS is missing");
    }
}
