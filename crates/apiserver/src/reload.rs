//! Configuration files that are read again when they change: a file that is wrong is reported and changes nothing.
//!
//! Upstream: apiserver/pkg/server/options (authentication and authorization configuration controllers).

use std::path::Path;
use std::time::Duration;

use base::{Clock, FileWatch};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// How often a file is looked at without being told: events of network file systems do not come (upstream's
/// interval).
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A file longer than this is not read.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    apiserver_id_hash: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Info {
    apiserver_id_hash: String,
    hash: String,
}

/// What is told of a file.
#[derive(Debug, Default)]
pub struct Figures {
    server_id_hash: Mutex<String>,
    reloads: Family<Reload, Counter>,
    times: Family<Reload, Gauge>,
    info: Family<Info, Gauge>,
    /// How often a changed file was taken or refused.
    outcomes: watch::Sender<u64>,
}

/// `sha256:...` of what must not be shown as it is.
pub fn hash_text(bytes: &[u8]) -> String {
    if bytes.is_empty() { String::new() } else { format!("sha256:{}", hex::encode(Sha256::digest(bytes))) }
}

impl Figures {
    /// Under `PREFIX_automatic_reloads_total` and so on; `what` is the file's kind.
    pub fn register(&self, prefix: &str, what: &str, registry: &mut Registry) {
        registry.register(
            format!("{prefix}_automatic_reloads"),
            format!("Total number of automatic reloads of {what} split by status and apiserver identity."),
            self.reloads.clone(),
        );
        registry.register(
            format!("{prefix}_automatic_reload_last_timestamp_seconds"),
            format!("Timestamp of the last automatic reload of {what} split by status and apiserver identity."),
            self.times.clone(),
        );
        registry.register(
            format!("{prefix}_last_config_info"),
            format!("Information about the last applied {what} with hash as label, split by apiserver identity."),
            self.info.clone(),
        );
    }

    /// The server's identity, and the file it started with.
    pub fn started(&self, server_id: &str, file: &[u8]) {
        *self.server_id_hash.lock() = hash_text(server_id.as_bytes());
        self.in_use(file);
    }

    fn in_use(&self, file: &[u8]) {
        self.info.clear();
        let labels = Info { apiserver_id_hash: self.server_id_hash.lock().clone(), hash: hash_text(file) };
        self.info.get_or_create(&labels).set(1);
    }

    /// Counts how often a changed file was taken, or refused; what it says is in effect when it is counted.
    pub fn outcomes(&self) -> watch::Receiver<u64> {
        self.outcomes.subscribe()
    }

    fn reloaded(&self, status: &'static str, clock: Clock) {
        let labels = Reload { apiserver_id_hash: self.server_id_hash.lock().clone(), status };
        self.reloads.get_or_create(&labels).inc();
        self.times.get_or_create(&labels).set(clock.now().as_second());
        self.outcomes.send_modify(|count| *count += 1);
    }
}

/// A file's bytes.
///
/// # Errors
/// Why it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| format!("open {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is longer than {FILE_BYTES_MAX} bytes", path.display()));
    }
    Ok(bytes)
}

/// Follows a file for ever, `used` being what it said at the start. `apply` puts a new text in effect, or says why not.
pub async fn follow(
    path: &Path,
    mut used: Vec<u8>,
    clock: Clock,
    figures: &Figures,
    apply: impl Fn(&[u8]) -> Result<(), String>,
) {
    let mut watch = FileWatch::new(path).ok();
    let mut refused: Option<Vec<u8>> = None;
    loop {
        let event = async {
            match &mut watch {
                Some(watch) => watch.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let told = tokio::select! {
            told = event => told,
            () = clock.sleep(LOOK_EVERY) => true,
        };
        if !told || watch.is_none() {
            watch = FileWatch::new(path).ok();
        }
        // A file that is being replaced may be gone for a moment; the next event tells.
        let Ok(text) = read(path) else { continue };
        if text == used || refused.as_ref() == Some(&text) {
            continue;
        }
        match apply(&text) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "the configuration was reloaded");
                figures.in_use(&text);
                figures.reloaded("success", clock);
                (used, refused) = (text, None);
            }
            Err(why) => {
                tracing::error!(path = %path.display(), %why, "the configuration stays as it was");
                figures.reloaded("failure", clock);
                refused = Some(text);
            }
        }
    }
}
