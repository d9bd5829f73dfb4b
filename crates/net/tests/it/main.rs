//! The node's network in the kernel: real connections through real namespaces. Needs root, iproute2, nftables,
//! conntrack and the CNI plugins.

mod dns;
mod lab;
mod pod_network;
mod services;
