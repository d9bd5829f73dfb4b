//! What authenticators of tokens count, under upstream's names.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Issued {
    jwt_issuer_hash: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeySet {
    jwt_issuer_hash: String,
    hash: String,
}

fn seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0])
}

/// All figures of configured authenticators.
#[derive(Clone)]
pub struct Figures {
    latency: Family<Issued, Histogram, fn() -> Histogram>,
    fetched: Family<Issued, Gauge>,
    key_sets: Family<KeySet, Gauge>,
    /// Of the configuration file.
    pub reloads: Arc<crate::reload::Figures>,
    /// How often an issuer was asked for its keys, and they are in use or it failed.
    pub fetches: tokio::sync::watch::Sender<u64>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            latency: Family::new_with_constructor(seconds as fn() -> Histogram),
            fetched: Family::default(),
            key_sets: Family::default(),
            reloads: Arc::default(),
            fetches: tokio::sync::watch::Sender::default(),
        }
    }
}

impl Figures {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_authentication_jwt_authenticator_latency_seconds",
            "Latency of jwt authentication operations in seconds. This is the time spent authenticating a token for \
             cache miss only (i.e. when the token is not found in the cache).",
            self.latency.clone(),
        );
        registry.register(
            "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds",
            "Timestamp of the last successful or failed JWKS fetch split by result, api server identity and jwt issuer \
             for the JWT authenticator.",
            self.fetched.clone(),
        );
        registry.register(
            "apiserver_authentication_jwt_authenticator_jwks_fetch_last_key_set_info",
            "Information about the last JWKS fetched by the JWT authenticator with hash as label, split by api server \
             identity and jwt issuer.",
            self.key_sets.clone(),
        );
        self.reloads.register("apiserver_authentication_config_controller", "AuthenticationConfiguration", registry);
    }

    /// A token of that issuer was looked at.
    pub fn authenticated(&self, issuer_hash: &str, good: bool, took: Duration) {
        let labels = Issued { jwt_issuer_hash: issuer_hash.to_owned(), result: result(good) };
        self.latency.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// An issuer's keys were fetched at that time (Unix seconds): `Some` of their bytes if it went well.
    pub fn fetched(&self, issuer_hash: &str, keys: Option<&[u8]>, at_seconds: i64) {
        let labels = Issued { jwt_issuer_hash: issuer_hash.to_owned(), result: result(keys.is_some()) };
        self.fetched.get_or_create(&labels).set(at_seconds);
        if let Some(keys) = keys {
            let labels = KeySet { jwt_issuer_hash: issuer_hash.to_owned(), hash: crate::reload::hash_text(keys) };
            self.key_sets.get_or_create(&labels).set(1);
        }
    }
}

fn result(good: bool) -> &'static str {
    if good { "success" } else { "failure" }
}
