//! Keys, certificates, tokens, kubeconfigs and TLS configurations: everything by which one part of a cluster knows
//! another.
//!
//! One crypto library (`aws-lc-rs`), one kind of key of our own making (ECDSA P-256), TLS 1.3 only. This crate opens
//! no socket and never reads a clock: the time is an argument, or a [`base::Clock`] handed over for handshakes.

pub mod authority;
pub mod bootstrap;
pub mod ca;
pub mod certificate;
pub mod csr;
pub mod error;
pub mod file;
pub mod identity;
pub mod jose;
pub mod key;
pub mod kubeconfig;
pub mod lineage;
pub mod openid;
mod pem;
pub mod subject_key;
pub mod tls;
pub mod token;
pub mod usage;

pub use authority::{Authority, Options};
pub use ca::{Ca, Issuer, Profile, Request};
pub use certificate::{Certificate, PeerIdentity, peer_identity, spki_hash};
pub use csr::Csr;
pub use error::{Error, Result};
pub use identity::Identity;
pub use key::{PrivateKey, PublicKey};
pub use kubeconfig::Kubeconfig;
pub use lineage::{Lineage, Stage};
pub use pem::{certificate_chain, merge_bundles};
pub use subject_key::SubjectKey;
pub use usage::{Usage, Usages};
