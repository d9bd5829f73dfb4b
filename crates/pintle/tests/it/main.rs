//! The whole program as its users meet it: the real binary, a real containerd, a real kubectl. Needs root, and what
//! `scripts/setup test` and `scripts/images` put in place: a tool that is missing fails the test that needs it.
//!
//! Every test that has a node holds one lock for as long as it runs, so that there is one at a time on a machine.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "these tests wait for other processes, on the machine's own time")]

mod certificates;
mod clients;
mod cluster;
mod crash;
mod dns;
mod guestbook;
mod hardening;
mod helm;
mod input;
mod join;
mod joined;
mod kms;
#[path = "../../../apiserver/tests/it/kms_plugin.rs"]
#[allow(dead_code, reason = "the API server's tests use the rest of it")]
mod kms_plugin;
mod kube_rs;
mod leftovers;
mod network_policies;
mod pod_certificates;
mod pods;
mod restart;
mod secret_values;
mod security;
mod starts;
mod tools;
