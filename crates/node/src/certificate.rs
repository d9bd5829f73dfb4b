//! The node's own certificates: asked for with CertificateSigningRequests, kept in files as upstream's kubelet lays
//! them out, and replaced in time while everything runs.
//!
//! Upstream: client-go `util/certificate`, pkg/kubelet/certificate.

mod files;
mod keep;
mod request;

use std::net::IpAddr;

pub use files::Files;
pub use keep::{Keeper, renewal_time};
pub use request::obtain;

/// The group of all nodes.
const NODES: &str = "system:nodes";

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To be known to the API server as the node.
    Client,
    /// To serve the node's own API, under the node's name and at these addresses.
    Serving { addresses: Vec<IpAddr> },
}

impl Purpose {
    fn signer(&self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving { .. } => "kubernetes.io/kubelet-serving",
        }
    }

    fn usages(&self) -> Vec<String> {
        let purpose = match self {
            Self::Client => "client auth",
            Self::Serving { .. } => "server auth",
        };
        vec!["digital signature".to_owned(), purpose.to_owned()]
    }

    /// Whether a certificate is for this, and of that node.
    pub fn is_met_by(&self, certificate: &pki::Certificate, node_name: &str) -> bool {
        let same = |a: &[IpAddr], b: &[IpAddr]| a.iter().all(|ip| b.contains(ip)) && a.len() == b.len();
        certificate.common_name == user(node_name)
            && match self {
                Self::Client => true,
                Self::Serving { addresses } => {
                    certificate.dns_names == [node_name] && same(addresses, &certificate.ip_addresses)
                }
            }
    }
}

/// The node as a user of the API.
pub fn user(node_name: &str) -> String {
    format!("system:node:{node_name}")
}

/// Why there is no (new) certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API said no, or was not reached; see [`client::Error::is_retryable`].
    #[error(transparent)]
    Api(#[from] client::Error),
    /// Somebody denied the request, or the signer refused it. Another one may be approved.
    #[error("the request {name} was {what}: {why}")]
    Refused { name: String, what: &'static str, why: String },
    /// Nobody has approved the request yet. Retryable: it is taken up again.
    #[error("the request {name} has no certificate yet: see `kubectl get csr {name}`")]
    Waiting { name: String },
    /// The request was answered so long ago that its certificate has ended, or this host's clock is wrong. Another one
    /// is made at the next try.
    #[error("the certificate of the request {name} ended at {end} already: is this host's clock right?")]
    Late { name: String, end: base::Timestamp },
    /// A file cannot be read or written, or what was signed is not what was asked for.
    #[error(transparent)]
    Pki(#[from] pki::Error),
}
