//! The node's network: service proxy and network policies on nftables, the pod network through the standard CNI
//! plugins, and cluster DNS.
//!
//! State is compiled, then applied: Services, EndpointSlices and Pods come in through a [`feed::Feed`], what policies
//! look at through a [`policy::Feed`]; pure functions make nftables tables or a DNS answer of them; small actors bring
//! the result into the kernel or onto the wire. The core knows nothing of how the objects arrive: only `run` knows the
//! API client.
//!
//! This crate never writes to the API, and touches nothing in the kernel that does not carry its instance's name.

pub mod cidr;
pub mod cni;
mod command;
pub mod dns;
mod error;
pub mod feed;
pub mod links;
pub mod names;
pub mod nft;
pub mod policy;
pub mod proxy;
pub mod routes;
pub mod run;

use std::net::IpAddr;

pub use cidr::Cidr;
pub use error::{Error, Result};
pub use feed::Feed;
pub use run::{Handle, Options, Sources, cleanup, start};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `IPv4` or `IPv6`, as in `spec.ipFamilies` and in an EndpointSlice's `addressType`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}
