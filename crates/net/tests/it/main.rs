//! The node's network in the kernel: real connections through real namespaces. Needs root, iproute2, nftables,
//! conntrack and the CNI plugins.

#![allow(clippy::unwrap_used)] // all of this is test code, whose functions clippy does not see as such

mod dns;
mod lab;
mod pod_network;
mod policies;
mod services;
mod wired;
