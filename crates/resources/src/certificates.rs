//! The resources of certificates.k8s.io/v1. What is in certificates and signing requests is read by the server, which
//! knows how: here is what can be said without.

pub mod certificate_signing_request;
pub mod cluster_trust_bundle;
pub mod pod_certificate_request;
pub mod signer;
