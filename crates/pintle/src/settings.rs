//! What all nodes of a cluster are told alike. The server has it from its flags.

use std::net::IpAddr;

use anyhow::{Result, anyhow};
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
}
