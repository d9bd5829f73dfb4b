//! The keys and certificates of `podCertificate` sources. For each source of a pod one task makes a key, asks for a
//! certificate with a PodCertificateRequest, follows what becomes of that, and asks with a new key when it is time to
//! refresh. The old pair is what the volume shows until the new one is there.
//!
//! Nothing of it outlives the node agent: after a restart each source asks anew at once, and what stands in the volume
//! stays until it is answered.
//!
//! Upstream: pkg/kubelet/podcertificate. A request that somebody deleted is made again as soon as the watch tells of
//! it, where upstream waits ten to fifteen minutes to be sure.

mod answer;
mod late;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::Object;
use api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use api::core::v1::{Node, Pod, PodCertificateProjection, ServiceAccount};
use api::meta::v1::{ObjectMeta, OwnerReference};
use base::{Backoff, Clock, Random, TaskGroup, Timestamp};
use client::{Client, ListOptions, Reflector};
use jiff::SignedDuration;
use parking_lot::Mutex;
use pki::SubjectKey;
use tokio::sync::{Notify, Semaphore};

use crate::events::{Events, Severity};
use crate::inbox::{Inbox, Signal};
use crate::pod::{self, Uid};
use answer::Answer;
use late::Lateness;

/// A refresh begins up to so much later than the signer says, so that not all begin at once.
const JITTER_SECONDS: u64 = 5 * 60;
/// Between tries to ask.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Keys being made at once: each takes a core while it lasts.
const KEYS_MAX: usize = 1;

/// A source of a pod: the name of its volume, and its place among the volume's sources.
pub type Source = (String, usize);

/// A key and the certificates for it.
#[derive(Debug)]
pub struct Bundle {
    key: SubjectKey,
    chain: String,
}

impl Bundle {
    /// What each path of the source is to hold.
    pub fn files<'a>(&self, source: &'a PodCertificateProjection) -> Vec<(&'a str, String)> {
        let (key, chain) = (self.key.pem(), self.chain.as_str());
        let wanted = [
            (&source.credential_bundle_path, [key, chain].concat()),
            (&source.key_path, key.to_owned()),
            (&source.certificate_chain_path, chain.to_owned()),
        ];
        let path = |path: &'a Option<String>| path.as_deref().filter(|path| !path.is_empty());
        wanted.into_iter().filter_map(|(wanted, text)| Some((path(wanted)?, text))).collect()
    }
}

/// The certificates of the node's pods. Cheap to clone.
#[derive(Clone)]
pub struct PodCertificates(Arc<Inner>);

struct Inner {
    client: Client,
    events: Events,
    node_name: String,
    clock: Clock,
    random: Random,
    tasks: TaskGroup,
    keys: Semaphore,
    /// `None`: no pod asks for certificates.
    followed: Mutex<Option<Followed>>,
}

struct Followed {
    /// All requests of this node.
    requests: Reflector<PodCertificateRequest>,
    tasks: TaskGroup,
    pods: HashMap<Uid, Served>,
}

struct Served {
    tasks: TaskGroup,
    records: BTreeMap<Source, Arc<Record>>,
}

#[derive(Default)]
struct Record {
    state: Mutex<State>,
    /// One of the pod's requests changed.
    changed: Notify,
}

/// What the volume can be given.
enum State {
    /// Nothing yet; perhaps something keeps us from asking.
    Waiting(Option<String>),
    Issued(Arc<Bundle>),
    /// There will be none, in upstream's words.
    Over(String),
}

impl Default for State {
    fn default() -> Self {
        Self::Waiting(None)
    }
}

/// A request that was made.
struct Asked {
    key: SubjectKey,
    /// `namespace/name`.
    name: String,
    uid: String,
    revision: u64,
}

/// Why nothing was asked.
enum Unasked {
    /// Another try may work.
    Yet(String),
    /// No try will.
    Never(String),
}

impl PodCertificates {
    /// Certificates for the pods of the node, asked for through `client`, which acts as the node.
    pub fn new(
        client: &Client,
        events: &Events,
        node_name: &str,
        clock: Clock,
        random: &Random,
        tasks: &TaskGroup,
    ) -> Self {
        Self(Arc::new(Inner {
            client: client.clone(),
            events: events.clone(),
            node_name: node_name.to_owned(),
            clock,
            random: random.clone(),
            tasks: tasks.clone(),
            keys: Semaphore::new(KEYS_MAX),
            followed: Mutex::default(),
        }))
    }

    /// Keeps these sources of a pod supplied from now on; `inbox` is woken when one has something new to show. What is
    /// supplied already is left alone.
    pub fn follow(&self, p: &Arc<Pod>, sources: Vec<(Source, PodCertificateProjection)>, inbox: &Arc<Inbox>) {
        if sources.is_empty() {
            return;
        }
        let inner = &self.0;
        let mut followed = inner.followed.lock();
        let followed = followed.get_or_insert_with(|| {
            let tasks = inner.tasks.child();
            // All a node may read of them.
            let own = format!("spec.nodeName={}", inner.node_name);
            let options = ListOptions { field_selector: Some(own), ..ListOptions::default() };
            let requests = Reflector::start(inner.client.clone(), options, inner.random.clone(), &tasks);
            tasks.spawn("pod certificate requests", forward(Arc::downgrade(inner), requests.clone()));
            Followed { requests, tasks, pods: HashMap::new() }
        });
        let tasks = &followed.tasks;
        let served = followed
            .pods
            .entry(p.uid().to_owned())
            .or_insert_with(|| Served { tasks: tasks.child(), records: BTreeMap::new() });
        for (source, wanted) in sources {
            if served.records.contains_key(&source) {
                continue;
            }
            let record = Arc::<Record>::default();
            served.records.insert(source, record.clone());
            let supply = Supply {
                inner: inner.clone(),
                requests: followed.requests.clone(),
                pod: p.clone(),
                wanted,
                record,
                inbox: inbox.clone(),
            };
            served.tasks.spawn("pod certificate", supply.run());
        }
    }

    /// A pod needs no certificates any more; its keys are forgotten.
    pub fn forget(&self, uid: &str) {
        let mut all = self.0.followed.lock();
        let Some(followed) = &mut *all else { return };
        if let Some(served) = followed.pods.remove(uid) {
            served.tasks.cancel();
        }
        if followed.pods.is_empty() {
            followed.tasks.cancel();
            *all = None;
        }
    }

    /// What a source has to show.
    ///
    /// # Errors
    /// Why there is nothing, in upstream's words.
    pub fn get(&self, uid: &str, source: &Source) -> Result<Arc<Bundle>, String> {
        const UNISSUED: &str = "credential bundle is not issued yet";
        let record = self.0.record(uid, source);
        let Some(record) = record else { return Err(UNISSUED.to_owned()) };
        match &*record.state.lock() {
            State::Waiting(None) => Err(UNISSUED.to_owned()),
            State::Waiting(Some(why)) => Err(format!("{UNISSUED}: {why}")),
            State::Issued(bundle) => Ok(bundle.clone()),
            State::Over(why) => Err(why.clone()),
        }
    }
}

impl Inner {
    fn record(&self, uid: &str, source: &Source) -> Option<Arc<Record>> {
        self.followed.lock().as_ref()?.pods.get(uid)?.records.get(source).cloned()
    }

    fn jitter(&self) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(self.random.below(JITTER_SECONDS)).unwrap_or_default())
    }
}

/// Tells the sources of a pod when one of its requests changes.
async fn forward(inner: Weak<Inner>, requests: Reflector<PodCertificateRequest>) {
    let mut changes = requests.subscribe();
    loop {
        let changes = changes.next().await;
        let Some(inner) = inner.upgrade() else { return };
        let followed = inner.followed.lock();
        let Some(followed) = &*followed else { return };
        for request in changes.iter().filter_map(|change| change.latest()) {
            let served = followed.pods.get(&request.spec.pod_uid);
            served
                .into_iter()
                .flat_map(|served| served.records.values())
                .for_each(|record| record.changed.notify_one());
        }
    }
}

/// Keeps one source supplied.
struct Supply {
    inner: Arc<Inner>,
    requests: Reflector<PodCertificateRequest>,
    pod: Arc<Pod>,
    wanted: PodCertificateProjection,
    record: Arc<Record>,
    inbox: Arc<Inbox>,
}

impl Supply {
    /// Until the pod is forgotten, or the signer says that there will be nothing.
    async fn run(self) {
        let clock = self.inner.clock;
        let mut late = None;
        let mut retry = Backoff::new(RETRY, RETRY_MAX);
        loop {
            match self.while_late(&mut late, self.once()).await {
                Ok(Answer::Issued { bundle, begin_refresh_at, not_after }) => {
                    retry.reset();
                    let refresh_at = begin_refresh_at + self.inner.jitter();
                    late = Some(Lateness::new(refresh_at, not_after));
                    self.show(State::Issued(Arc::new(bundle)));
                    clock.sleep_until(refresh_at).await;
                }
                Ok(Answer::Never { verb, outcome, reason, message, name }) => {
                    let why = format!("reason={reason:?}, message={message:?}");
                    self.warn(outcome, format!("PodCertificateRequest {name} {verb}, {why}"));
                    let word = outcome.to_lowercase();
                    self.show(State::Over(format!(
                        "PodCertificateRequest was permanently {word}: reason={reason:?} message={message:?}"
                    )));
                    return;
                }
                Ok(Answer::Gone) => self.pause(&mut late, &mut retry).await,
                Err(Unasked::Yet(why)) => {
                    tracing::warn!(pod = %pod::full_name(&self.pod), %why, "a certificate cannot be asked for yet");
                    self.note(why);
                    self.pause(&mut late, &mut retry).await;
                }
                Err(Unasked::Never(why)) => {
                    self.show(State::Over(why));
                    return;
                }
            }
        }
    }

    async fn pause(&self, late: &mut Option<Lateness>, retry: &mut Backoff) {
        let delay = retry.next_jittered(&self.inner.random);
        self.while_late(late, self.inner.clock.sleep(delay)).await;
    }

    /// Does the work, and says in the meantime that what the pod has is getting old.
    async fn while_late<T>(&self, late: &mut Option<Lateness>, work: impl Future<Output = T>) -> T {
        let clock = self.inner.clock;
        let mut work = std::pin::pin!(work);
        loop {
            let next: Option<Timestamp> = late.as_ref().and_then(Lateness::next);
            let alarm = async move {
                match next {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = alarm => {
                    let told = late.iter_mut().flat_map(|late| late.due(clock.now()));
                    told.for_each(|(reason, message)| self.warn(reason, message.to_owned()));
                }
            }
        }
    }

    /// One key, one request, and what became of it.
    async fn once(&self) -> Result<Answer, Unasked> {
        let asked = self.ask().await?;
        // From here on a request that is not there was deleted.
        self.requests.reach(asked.revision).await;
        loop {
            let changed = self.record.changed.notified();
            let request = self.requests.get(&asked.name).filter(|request| request.uid() == asked.uid);
            let Some(request) = request else { return Ok(Answer::Gone) };
            if let Some(decision) = answer::decision(&request) {
                return Ok(answer::read(decision, &request, asked.key));
            }
            changed.await;
        }
    }

    async fn ask(&self) -> Result<Asked, Unasked> {
        let (inner, p) = (&self.inner, &self.pod);
        let yet = |what: &'static str| move |error: client::Error| Unasked::Yet(format!("while {what}: {error}"));
        let account_name = pod::spec(p).service_account_name.as_deref().filter(|name| !name.is_empty());
        let account_name = account_name.unwrap_or("default");
        let account = inner.client.get::<ServiceAccount>(p.namespace(), account_name).await;
        let account = account.map_err(yet("fetching service account"))?;
        let node = inner.client.get::<Node>("", &inner.node_name).await.map_err(yet("getting node object"))?;
        let key = self.make_key().await?;
        let request = PodCertificateRequest {
            metadata: ObjectMeta {
                generate_name: Some("req-".to_owned()),
                namespace: Some(p.namespace().to_owned()),
                // Upstream says `core/v1`, which is no group: its requests are left to the cleaner.
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Pod".to_owned(),
                    name: p.name().to_owned(),
                    uid: p.uid().to_owned(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: PodCertificateRequestSpec {
                signer_name: self.wanted.signer_name.clone(),
                pod_name: p.name().to_owned(),
                pod_uid: p.uid().to_owned(),
                service_account_name: account_name.to_owned(),
                service_account_uid: account.uid().to_owned(),
                node_name: inner.node_name.clone(),
                node_uid: node.uid().to_owned(),
                max_expiration_seconds: self.wanted.max_expiration_seconds,
                stub_pkc_s10_request: api::ByteString(key.stub_request().to_vec()),
                unverified_user_annotations: self.wanted.user_annotations.clone(),
            },
            status: None,
        };
        let made = inner.client.create(request).await.map_err(yet("creating PodCertificateRequest"))?;
        let revision = made.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
        Ok(Asked { key, name: made.key(), uid: made.uid().to_owned(), revision: revision.unwrap_or_default() })
    }

    async fn make_key(&self) -> Result<SubjectKey, Unasked> {
        let _turn = self.inner.keys.acquire().await.map_err(|error| Unasked::Yet(error.to_string()))?;
        let key_type = self.wanted.key_type.clone();
        let made = tokio::task::spawn_blocking(move || SubjectKey::generate(&key_type)).await;
        match made {
            Ok(Ok(key)) => Ok(key),
            Ok(Err(error @ pki::Error::Refused(_))) => {
                Err(Unasked::Never(format!("while generating keypair: {error}")))
            }
            Ok(Err(error)) => Err(Unasked::Yet(format!("while generating keypair: {error}"))),
            Err(error) => Err(Unasked::Yet(format!("while generating keypair: {error}"))),
        }
    }

    /// The volume is to be made from this.
    fn show(&self, state: State) {
        *self.record.state.lock() = state;
        self.inbox.wake(Signal::Objects);
    }

    /// Says why nothing could be asked, where there is nothing to show.
    fn note(&self, why: String) {
        if let State::Waiting(noted) = &mut *self.record.state.lock() {
            *noted = Some(why);
        }
    }

    fn warn(&self, reason: &str, message: String) {
        self.inner.events.pod(&self.pod, Severity::Warning, reason, message);
    }
}
