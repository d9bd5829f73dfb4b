//! What is told of KMS plugins, under upstream's names. Keys are shown by the hash of their id alone.
//!
//! Upstream: apiserver/pkg/storage/value/encrypt/envelope/metrics.

use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::reload::hash_text;

/// How many keys are told apart; the one that was used longest ago gives way.
const KEYS_LEN_MAX: usize = 10;

/// Which way a value went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    FromStorage,
    ToStorage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Used {
    apiserver_id_hash: String,
    key_id_hash: String,
    provider_name: String,
    transformation_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Shown {
    apiserver_id_hash: String,
    key_id_hash: String,
    provider_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Invalid {
    error: &'static str,
    provider_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProvider {
    provider_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    grpc_status_code: String,
    method_name: String,
    provider_name: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// From a tenth of a millisecond to most of a minute.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 20))
}

/// The figures of all plugins.
pub struct Figures {
    server_id_hash: String,
    used: Family<Used, Counter>,
    used_at: Family<Used, Seconds>,
    shown_at: Family<Shown, Seconds>,
    invalid: Family<Invalid, Counter>,
    sources: Family<OfProvider, Gauge>,
    calls: Family<Called, Histogram, fn() -> Histogram>,
    misses: Counter,
    used_keys: Mutex<Vec<Used>>,
    shown_keys: Mutex<Vec<Shown>>,
}

impl Default for Figures {
    fn default() -> Self {
        Self::new("")
    }
}

/// Puts `one` last; what is first and too many is returned.
fn touch<T: PartialEq + Clone>(all: &mut Vec<T>, one: &T) -> Option<T> {
    if let Some(at) = all.iter().position(|own| own == one) {
        all[at..].rotate_left(1);
        return None;
    }
    all.push(one.clone());
    (all.len() > KEYS_LEN_MAX).then(|| all.remove(0))
}

#[allow(clippy::cast_precision_loss)] // milliseconds since 1970 fit
fn seconds(now: base::Timestamp) -> f64 {
    now.as_millisecond() as f64 / 1000.0
}

impl Figures {
    /// `server_id`: what tells this server apart from others.
    pub fn new(server_id: &str) -> Self {
        Self {
            server_id_hash: hash_text(server_id.as_bytes()),
            used: Family::default(),
            used_at: Family::default(),
            shown_at: Family::default(),
            invalid: Family::default(),
            sources: Family::default(),
            calls: Family::new_with_constructor(latency as fn() -> Histogram),
            misses: Counter::default(),
            used_keys: Mutex::default(),
            shown_keys: Mutex::default(),
        }
    }

    /// Shows the figures.
    pub fn register(&self, registry: &mut Registry) {
        let prefix = |name: &str| format!("apiserver_envelope_encryption_{name}");
        let help = "Number of times a keyID is used split by transformation type, provider, and apiserver identity.";
        registry.register(prefix("key_id_hash"), help, self.used.clone());
        let help = "The last time in seconds when a keyID was used.";
        registry.register(prefix("key_id_hash_last_timestamp_seconds"), help, self.used_at.clone());
        let help = "The last time in seconds when a keyID was returned by the Status RPC call.";
        registry.register(prefix("key_id_hash_status_last_timestamp_seconds"), help, self.shown_at.clone());
        let help = "Number of times an invalid keyID is returned by the Status RPC call split by error.";
        registry.register(prefix("invalid_key_id_from_status"), help, self.invalid.clone());
        let help = "Number of records in data encryption key (DEK) source cache. On a restart, this value is an \
                    approximation of the number of decrypt RPC calls the server will make to the KMS plugin.";
        registry.register(prefix("dek_source_cache_size"), help, self.sources.clone());
        let help = "KMS operation duration with gRPC error code status total.";
        registry.register(prefix("kms_operations_latency_seconds"), help, self.calls.clone());
        let help = "Total number of cache misses while accessing key decryption key(KEK).";
        registry.register("apiserver_storage_envelope_transformation_cache_misses", help, self.misses.clone());
    }

    pub(super) fn used(&self, direction: Direction, provider: &str, key_id_hash: &str, now: base::Timestamp) {
        let labels = Used {
            apiserver_id_hash: self.server_id_hash.clone(),
            key_id_hash: key_id_hash.to_owned(),
            provider_name: provider.to_owned(),
            transformation_type: match direction {
                Direction::FromStorage => "from_storage",
                Direction::ToStorage => "to_storage",
            },
        };
        let mut keys = self.used_keys.lock();
        if let Some(old) = touch(&mut keys, &labels) {
            self.used.remove(&old);
            self.used_at.remove(&old);
        }
        self.used.get_or_create(&labels).inc();
        self.used_at.get_or_create(&labels).set(seconds(now));
    }

    pub(super) fn shown(&self, provider: &str, key_id: &str, now: base::Timestamp) {
        let labels = Shown {
            apiserver_id_hash: self.server_id_hash.clone(),
            key_id_hash: hash_text(key_id.as_bytes()),
            provider_name: provider.to_owned(),
        };
        let mut keys = self.shown_keys.lock();
        if let Some(old) = touch(&mut keys, &labels) {
            self.shown_at.remove(&old);
        }
        self.shown_at.get_or_create(&labels).set(seconds(now));
    }

    pub(super) fn invalid(&self, provider: &str, error: &'static str) {
        self.invalid.get_or_create(&Invalid { error, provider_name: provider.to_owned() }).inc();
    }

    pub(super) fn missed(&self) {
        self.misses.inc();
    }

    pub(super) fn holds(&self, provider: &str, count: usize) {
        let labels = OfProvider { provider_name: provider.to_owned() };
        self.sources.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn called(&self, provider: &str, method: &str, code: String, took: Duration) {
        let labels = Called {
            grpc_status_code: code,
            method_name: format!("/v2.KeyManagementService/{method}"),
            provider_name: provider.to_owned(),
        };
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_are_told_apart() {
        let figures = Figures::new("apiserver-a");
        let mut registry = Registry::default();
        figures.register(&mut registry);
        for key in 0..12 {
            figures.used(Direction::ToStorage, "p", &format!("h{}", key % 11), base::Timestamp::UNIX_EPOCH);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let counts: Vec<&str> =
            text.lines().filter(|line| line.starts_with("apiserver_envelope_encryption_key_id_hash_total{")).collect();
        assert_eq!(counts.len(), KEYS_LEN_MAX, "{text}");
        assert!(counts.iter().all(|line| line.ends_with(" 1")), "h0 came back anew: {text}");
    }
}
