//! KMS v2: values are sealed by local keys, and these by a plugin. One seed is made when the server starts and whenever
//! the plugin names another key; the plugin is asked to encrypt it once, and to decrypt what others were sealed with.
//!
//! Upstream: apiserver/pkg/server/options/encryptionconfig and apiserver/pkg/storage/value/encrypt/envelope/kmsv2.

mod envelope;
mod figures;
mod plugin;
mod settings;
mod sources;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base::{Backoff, Clock, Random, Timestamp};
use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use figures::Figures;
pub(super) use settings::{OneKms, Settings};

use super::provider::random;
use super::{Sealing, Unopened};
use crate::reload::hash_text;
use envelope::{SEED_LEN, Source};
use figures::Direction;
use plugin::Plugin;
use sources::{Known, Sources};
use v2::{DecryptRequest, EncryptRequest, EncryptedDekSourceType, EncryptedObject};

/// The messages of a plugin and of what is stored, named as `prost` names them.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod v2 {
    include!("../generated/kms_v2.rs");
}

/// What values begin with; the provider's name and a colon follow.
const PREFIX: &str = "k8s:enc:kms:v2:";

/// How often a plugin is asked how it is and which key it uses, while all is well and while it is not.
const ASK_EVERY: Duration = Duration::from_secs(60);
const ASK_ILL_EVERY: Duration = Duration::from_secs(10);
/// How long its answer holds for whoever asks meanwhile.
const WELL_FOR: Duration = Duration::from_secs(20);
const ILL_FOR: Duration = Duration::from_secs(3);
/// How long values are sealed without news of the plugin: it may use another key by then.
const SEALS_FOR: Duration = Duration::from_secs(180);
/// How long a start waits between two tries, at first and at most.
const START_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The seed that is made here is of this kind.
const KIND: EncryptedDekSourceType = EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed;

/// What plugins are asked with.
#[derive(Clone)]
pub struct Surroundings {
    pub clock: Clock,
    pub random: Random,
    pub figures: Arc<Figures>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { clock: Clock::system(), random: Random::system(), figures: Arc::default() }
    }
}

/// What seals.
struct State {
    /// Without data: key, encrypted seed, annotations.
    object: EncryptedObject,
    source_id: [u8; 32],
    known: Known,
    until: Instant,
    /// The same for people.
    until_time: Timestamp,
}

/// What the plugin answered last.
#[derive(Default)]
struct Probe {
    last: Option<(Instant, Result<(), String>)>,
    /// The version of its API, which must not change.
    version: Option<String>,
}

/// A provider whose plugin was reached.
pub struct Kms {
    settings: Settings,
    /// What its values begin with.
    prefix: String,
    plugin: Plugin,
    around: Surroundings,
    state: ArcSwapOption<State>,
    sources: Sources,
    /// Held while the plugin is asked how it is.
    probe: tokio::sync::Mutex<Probe>,
}

impl Kms {
    /// Reaches the plugin, which may be about to start, and has a seed encrypted.
    ///
    /// # Errors
    /// When it is not there, or not well, after the time that a call to it may take.
    pub async fn begin(settings: &Settings, around: &Surroundings) -> Result<Arc<Self>, String> {
        let kms = Self {
            prefix: prefix(&settings.name),
            plugin: Plugin::new(settings, around.clone()),
            settings: settings.clone(),
            around: around.clone(),
            state: ArcSwapOption::empty(),
            sources: Sources::default(),
            probe: tokio::sync::Mutex::default(),
        };
        let end = around.clock.monotonic() + settings.timeout;
        let mut backoff = Backoff::new(START_BACKOFF.0, START_BACKOFF.1);
        loop {
            let Err(why) = kms.ask(&mut *kms.probe.lock().await).await else { break };
            let wait = backoff.next();
            if around.clock.monotonic() + wait >= end {
                let Settings { name, socket, .. } = settings;
                return Err(format!("the KMS plugin {name} at unix://{socket} does not serve: {why}"));
            }
            around.clock.sleep(wait).await;
        }
        Ok(Arc::new(kms))
    }

    /// What is behind the prefix of a value of this provider.
    pub fn body(&self, stored: &Bytes) -> Option<Bytes> {
        stored.starts_with(self.prefix.as_bytes()).then(|| stored.slice(self.prefix.len()..))
    }

    /// JSON to what is stored. The plugin is not asked.
    ///
    /// # Errors
    /// When nothing was heard of it for too long.
    pub fn seal(&self, key: &str, json: &[u8]) -> Result<Bytes, String> {
        let state = self.state.load();
        let state = state.as_deref().ok_or("the KMS plugin has encrypted no seed yet")?;
        if self.around.clock.monotonic() > state.until {
            return Err(format!(
                "encryptedDEKSource with keyID hash {:?} expired at {} (current time is {})",
                state.known.key_id_hash,
                words(state.until_time),
                words(self.around.clock.now())
            ));
        }
        // It is read soon, be it by whoever follows the store.
        self.sources.keep(state.source_id, &state.known);
        let mut sealed = Vec::with_capacity(json.len() + 64);
        state.known.source.seal(key, json, &mut sealed)?;
        self.used(Direction::ToStorage, &state.known);
        let object = EncryptedObject { encrypted_data: sealed.into(), ..state.object.clone() };
        let mut out = Vec::with_capacity(self.prefix.len() + object.encoded_len());
        out.extend_from_slice(self.prefix.as_bytes());
        object.encode(&mut out).expect("a vector grows");
        Ok(out.into())
    }

    /// What is stored, without its prefix, to JSON, and whether the present key sealed it. The plugin is asked for a
    /// seed that is not known yet.
    ///
    /// # Errors
    /// When the bytes are not what they were, or the plugin does not decrypt the seed.
    pub async fn open(&self, key: &str, body: Bytes) -> Result<(Bytes, bool), Unopened> {
        let object = EncryptedObject::decode(body).map_err(|why| Unopened::Sealed(why.to_string()))?;
        let kind = envelope::check(&object).map_err(Unopened::Sealed)?;
        let known = self.known(kind, &object).await?;
        self.used(Direction::FromStorage, &known);
        let json = known.source.open(key, &object.encrypted_data).map_err(Unopened::Sealed)?;
        let state = self.state.load();
        let newest = state.as_deref().is_some_and(|state| state.object.key_id == object.key_id && kind == KIND);
        Ok((json, newest))
    }

    /// The seed or key that an object was sealed with.
    async fn known(&self, kind: EncryptedDekSourceType, object: &EncryptedObject) -> Result<Known, Unopened> {
        let cell = self.sources.cell(envelope::source_id(object));
        if let Some(known) = cell.get() {
            return Ok(known.clone());
        }
        let ask = cell.get_or_try_init(|| async {
            self.around.figures.missed();
            let request = DecryptRequest {
                ciphertext: object.encrypted_dek_source.clone(),
                uid: self.around.random.uid(),
                key_id: object.key_id.clone(),
                annotations: object.annotations.clone(),
            };
            let plain = self.plugin.decrypt(request).await.map_err(|error| Unopened::Plugin(undecrypted(&error)))?;
            let source = Arc::new(Source::new(kind, &plain).map_err(Unopened::Sealed)?);
            Ok(Known { source, key_id_hash: hash_text(object.key_id.as_bytes()).into() })
        });
        // Who comes while another's call is under way waits for that one, and no longer than for one's own.
        let known = match tokio::time::timeout(self.plugin.timeout(), ask).await {
            Ok(known) => known?.clone(),
            Err(_) => return Err(Unopened::Plugin(undecrypted(&plugin::Error::deadline()))),
        };
        self.around.figures.holds(&self.settings.name, self.sources.count());
        Ok(known)
    }

    fn used(&self, direction: Direction, known: &Known) {
        let Surroundings { clock, figures, .. } = &self.around;
        figures.used(direction, &self.settings.name, &known.key_id_hash, clock.now());
    }

    /// Whether the plugin is well, as it said a moment ago or says now.
    ///
    /// # Errors
    /// What is wrong, in upstream's words.
    pub async fn check(&self) -> Result<(), String> {
        let mut probe = self.probe.lock().await;
        if let Some((at, outcome)) = &probe.last
            && self.around.clock.monotonic() - *at < if outcome.is_ok() { WELL_FOR } else { ILL_FOR }
        {
            return outcome.clone();
        }
        self.ask(&mut probe).await
    }

    async fn ask(&self, probe: &mut Probe) -> Result<(), String> {
        let outcome = self.ask_anew(&mut probe.version).await;
        probe.last = Some((self.around.clock.monotonic(), outcome.clone()));
        outcome
    }

    async fn ask_anew(&self, known_version: &mut Option<String>) -> Result<(), String> {
        let name = &self.settings.name;
        let status = self.plugin.status().await.map_err(|error| {
            format!("failed to perform status section of the healthz check for KMS Provider {name}, error: {error}")
        })?;
        let mut wrong = Vec::new();
        if status.healthz != "ok" {
            wrong.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        if matches!(&*status.version, "v2" | "v2beta1") {
            let first = known_version.get_or_insert_with(|| status.version.clone());
            if *first != status.version {
                wrong.push(format!(
                    "KMSv2 API version should not change after the initial status response version {first}, got {}",
                    status.version
                ));
            }
        } else {
            wrong.push(format!("expected KMSv2 API version v2, got {}", status.version));
        }
        match envelope::check_key_id(&status.key_id) {
            Err((code, why)) => {
                self.around.figures.invalid(name, code);
                let hash = hash_text(status.key_id.as_bytes());
                wrong.push(format!("got invalid KMSv2 KeyID hash {hash:?}: {why}"));
            }
            Ok(()) => {
                self.around.figures.shown(name, &status.key_id, self.around.clock.now());
                wrong.extend(self.follow_key(&status.key_id).await.err());
            }
        }
        match super::aggregate(wrong) {
            None => Ok(()),
            Some(why) => Err(format!("kmsv2 Provider {name} is not healthy, error: {why}")),
        }
    }

    /// Goes on sealing with the seed that there is, or with a new one if the plugin uses another key. Without one, the
    /// old one seals until its time is over.
    async fn follow_key(&self, key_id: &str) -> Result<(), String> {
        let Surroundings { clock, random, .. } = &self.around;
        // Reckoned from before the call: that is when the plugin last used the key for certain.
        let until = clock.monotonic() + SEALS_FOR;
        let until_time = clock.now().checked_add(SEALS_FOR).unwrap_or(Timestamp::MAX);
        let old = self.state.load_full();
        if let Some(old) = old.as_deref().filter(|old| old.object.key_id == key_id) {
            let State { object, known, source_id, .. } = old;
            let (object, known, source_id) = (object.clone(), known.clone(), *source_id);
            self.state.store(Some(Arc::new(State { object, source_id, known, until, until_time })));
            return Ok(());
        }
        let uid = random.uid();
        let made = self.new_source(&uid).await;
        let why = match made {
            Ok((object, source)) if object.key_id == key_id => {
                let known = Known { source: Arc::new(source), key_id_hash: hash_text(key_id.as_bytes()).into() };
                let source_id = envelope::source_id(&object);
                self.sources.keep(source_id, &known);
                self.around.figures.holds(&self.settings.name, self.sources.count());
                let (new, old) = (&known.key_id_hash, old.as_deref().map(|old| &*old.known.key_id_hash));
                tracing::info!(provider = self.settings.name, key = %new, old, "values are sealed with a new seed");
                self.state.store(Some(Arc::new(State { object, source_id, known, until, until_time })));
                return Ok(());
            }
            Ok((object, _)) => format!("errGen=<nil>, encryptKeyIDHash={:?}", hash_text(object.key_id.as_bytes())),
            Err(why) => format!("errGen={why}, encryptKeyIDHash=\"\""),
        };
        let (hash, expires) = old
            .as_deref()
            .map_or_else(Default::default, |old| (old.known.key_id_hash.to_string(), words(old.until_time)));
        Err(format!(
            "failed to rotate DEK uid={uid:?}, useSeed=true, {why}, statusKeyIDHash={:?}, stateKeyIDHash={hash:?}, \
             expirationTimestamp={expires}",
            hash_text(key_id.as_bytes())
        ))
    }

    /// A new seed, and what the plugin made of it.
    async fn new_source(&self, uid: &str) -> Result<(EncryptedObject, Source), String> {
        let seed = Zeroizing::new(random::<SEED_LEN>()?);
        let request = EncryptRequest { plaintext: Bytes::copy_from_slice(&*seed), uid: uid.to_owned() };
        let answer = self.plugin.encrypt(request).await;
        let answer = answer.map_err(|error| format!("failed to encrypt DEK, error: {error}"))?;
        let object = EncryptedObject {
            encrypted_data: Bytes::new(),
            key_id: answer.key_id,
            encrypted_dek_source: answer.ciphertext,
            annotations: answer.annotations,
            encrypted_dek_source_type: KIND.into(),
        };
        envelope::check_source(&object)?;
        Ok((object, Source::new(KIND, &*seed)?))
    }
}

fn undecrypted(error: &plugin::Error) -> String {
    format!("failed to decrypt DEK, error: {error}")
}

/// What values of a provider begin with.
pub(super) fn prefix(name: &str) -> String {
    format!("{PREFIX}{name}:")
}

/// Whole seconds, as Go's RFC 3339.
fn words(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Asks the plugins of the rules that hold how they are, until the server ends.
pub(crate) async fn follow(sealing: Arc<Sealing>, clock: Clock) {
    let mut wait = ASK_EVERY;
    loop {
        clock.sleep(wait).await;
        wait = if sealing.check_plugins().await.is_some() { ASK_ILL_EVERY } else { ASK_EVERY };
    }
}
