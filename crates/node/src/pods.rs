//! The pods of the node: who has a worker, and which sandbox or container belongs to whom. What other parts of the
//! node (the streaming server, statistics, eviction) look pods up in.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::Object;
use api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;

use crate::inbox::{Inbox, Signal};
use crate::pod::{self, Uid};
use crate::state::PodState;

/// One pod as its worker is told of it, and as it tells of it.
#[derive(Debug)]
pub struct Entry {
    pub uid: Uid,
    pub inbox: Arc<Inbox>,
    /// The pod counts towards what the node is full with.
    admitted: AtomicBool,
    view: Mutex<View>,
}

#[derive(Debug)]
struct View {
    pod: Arc<Pod>,
    /// The API does not have the pod any more.
    gone: bool,
    /// The node ended the pod: reason and message.
    failed: Option<(String, String)>,
    state: Arc<PodState>,
    /// The status as last told.
    status: Option<Arc<PodStatus>>,
}

impl Entry {
    fn new(pod: Arc<Pod>, gone: bool) -> Self {
        // What has begun elsewhere or before is here to stay.
        let begun = pod.status.as_ref().is_some_and(|s| s.container_statuses.is_some());
        let admitted = AtomicBool::new(begun);
        let view = View { pod: pod.clone(), gone, failed: None, state: Arc::default(), status: None };
        Self { uid: pod.uid().to_owned(), inbox: Arc::default(), admitted, view: Mutex::new(view) }
    }

    /// The pod as the API has it, or had it last.
    pub fn known(&self) -> Arc<Pod> {
        self.view.lock().pod.clone()
    }

    /// Whether the API does not have the pod any more.
    pub fn is_gone(&self) -> bool {
        self.view.lock().gone
    }

    /// What the runtime last said of the pod.
    pub fn state(&self) -> Arc<PodState> {
        self.view.lock().state.clone()
    }

    /// Whether the node has taken the pod.
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    pub(crate) fn set_admitted(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    /// Why the node ended the pod, if it did.
    pub fn failed(&self) -> Option<(String, String)> {
        self.view.lock().failed.clone()
    }

    /// Ends the pod for good (eviction, preemption). The first reason counts.
    pub fn fail(&self, reason: &str, message: &str) {
        self.view.lock().failed.get_or_insert_with(|| (reason.to_owned(), message.to_owned()));
        self.inbox.wake(Signal::Pod);
    }

    pub(crate) fn set_pod(&self, pod: Arc<Pod>) {
        self.view.lock().pod = pod;
        self.inbox.wake(Signal::Pod);
    }

    pub(crate) fn set_gone(&self) {
        self.view.lock().gone = true;
        self.inbox.wake(Signal::Pod);
    }

    /// The pod with its status as the node has it, which may be newer than the API's.
    pub fn pod(&self) -> Arc<Pod> {
        let (pod, status) = {
            let view = self.view.lock();
            (view.pod.clone(), view.status.clone())
        };
        match status {
            Some(status) if pod.status.as_ref() != Some(&*status) => {
                let mut pod = (*pod).clone();
                pod.status = Some((*status).clone());
                Arc::new(pod)
            }
            _ => pod,
        }
    }

    pub(crate) fn set_status(&self, status: PodStatus) {
        self.view.lock().status = Some(Arc::new(status));
    }

    pub(crate) fn set_state(&self, state: Arc<PodState>) {
        self.view.lock().state = state;
    }
}

/// All pods of the node that have a worker.
#[derive(Debug, Default)]
pub struct Pods {
    index: Mutex<Index>,
    /// Held while one pod is admitted: two must not take the same room.
    door: Mutex<()>,
}

#[derive(Debug, Default)]
struct Index {
    by_uid: HashMap<Uid, Arc<Entry>>,
    /// Sandbox and container ids to pods.
    owners: HashMap<String, Uid>,
}

impl Pods {
    /// The entry of a pod, and whether it is new. `gone`: the API does not have it.
    pub(crate) fn enter(&self, pod: &Arc<Pod>, gone: bool) -> (Arc<Entry>, bool) {
        let mut index = self.index.lock();
        if let Some(entry) = index.by_uid.get(pod.uid()) {
            return (entry.clone(), false);
        }
        let entry = Arc::new(Entry::new(pod.clone(), gone));
        index.by_uid.insert(pod.uid().to_owned(), entry.clone());
        (entry, true)
    }

    /// The pod with that uid.
    pub fn get(&self, uid: &str) -> Option<Arc<Entry>> {
        self.index.lock().by_uid.get(uid).cloned()
    }

    /// The pod with that name that the API has; failing that one it had.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let index = self.index.lock();
        let named: Vec<&Arc<Entry>> = index
            .by_uid
            .values()
            .filter(|e| {
                let pod = e.known();
                pod.name() == name && pod.namespace() == namespace
            })
            .collect();
        named.iter().find(|e| !e.is_gone()).or(named.first()).map(|e| (*e).clone())
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<Arc<Entry>> = self.index.lock().by_uid.values().cloned().collect();
        all.sort_by(|a, b| a.uid.cmp(&b.uid));
        all
    }

    /// Lets a pod in if `fits` says so of it and of those that are in.
    pub(crate) fn admit<E>(
        &self,
        entry: &Entry,
        p: &Pod,
        fits: impl FnOnce(&Pod, &[Arc<Pod>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let _door = self.door.lock();
        let others = self.all().into_iter().filter(|o| o.uid != entry.uid && o.is_admitted() && !o.is_gone());
        let others: Vec<Arc<Pod>> =
            others.map(|o| o.pod()).filter(|o| !pod::is_terminal_phase(pod::phase(o))).collect();
        fits(p, &others)?;
        entry.set_admitted();
        Ok(())
    }

    /// Notes whose a sandbox or container is.
    pub(crate) fn own(&self, id: &str, uid: &str) {
        self.index.lock().owners.insert(id.to_owned(), uid.to_owned());
    }

    /// The pod whose sandbox or container that is.
    pub fn owner(&self, id: &str) -> Option<Arc<Entry>> {
        let index = self.index.lock();
        index.owners.get(id).and_then(|uid| index.by_uid.get(uid)).cloned()
    }

    /// Forgets a pod and all that is its.
    pub(crate) fn leave(&self, uid: &str) {
        let mut index = self.index.lock();
        index.by_uid.remove(uid);
        index.owners.retain(|_, owner| owner != uid);
    }
}
