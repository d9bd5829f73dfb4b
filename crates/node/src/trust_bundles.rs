//! The ClusterTrustBundles that projected volumes are made of. A volume names one, or selects a signer's by their
//! labels, so all of them are followed: from when a pod of this node first needs one, for as long as some pod does.
//!
//! Upstream: pkg/kubelet/clustertrustbundle.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::certificates::v1::ClusterTrustBundle;
use api::core::v1::ClusterTrustBundleProjection;
use api::{LabelSelector, Object};
use base::{Random, TaskGroup};
use client::{Client, ListOptions, Reflector};
use parking_lot::Mutex;

use crate::inbox::{Inbox, Signal};
use crate::pod::Uid;

/// How long the first read may take.
const FIRST_READ_MAX: Duration = Duration::from_secs(10);

/// All bundles, when somebody needs them. Cheap to clone.
#[derive(Clone)]
pub struct TrustBundles(Arc<Inner>);

struct Inner {
    client: Client,
    random: Random,
    tasks: TaskGroup,
    /// `None`: nobody needs them.
    followed: Mutex<Option<Followed>>,
}

struct Followed {
    reflector: Reflector<ClusterTrustBundle>,
    tasks: TaskGroup,
    users: HashMap<Uid, Arc<Inbox>>,
}

impl TrustBundles {
    /// Bundles read through `client`.
    pub fn new(client: &Client, random: &Random, tasks: &TaskGroup) -> Self {
        let (client, random, tasks) = (client.clone(), random.clone(), tasks.clone());
        Self(Arc::new(Inner { client, random, tasks, followed: Mutex::default() }))
    }

    /// A pod needs bundles from now on; `inbox` is woken when one changes.
    pub fn follow(&self, uid: &str, inbox: &Arc<Inbox>) {
        let inner = &self.0;
        let mut followed = inner.followed.lock();
        let followed = followed.get_or_insert_with(|| {
            let tasks = inner.tasks.child();
            let (client, random) = (inner.client.clone(), inner.random.clone());
            let reflector = Reflector::start(client, ListOptions::default(), random, &tasks);
            tasks.spawn("trust bundles", forward(Arc::downgrade(inner), reflector.clone()));
            Followed { reflector, tasks, users: HashMap::new() }
        });
        followed.users.insert(uid.to_owned(), inbox.clone());
    }

    /// A pod needs no bundles any more.
    pub fn forget(&self, uid: &str) {
        let mut all = self.0.followed.lock();
        let Some(followed) = &mut *all else { return };
        followed.users.remove(uid);
        if followed.users.is_empty() {
            followed.tasks.cancel();
            *all = None;
        }
    }

    /// What a volume asks for, PEM: every certificate once.
    ///
    /// # Errors
    /// Why there is nothing to show, in upstream's words.
    pub async fn get(&self, wanted: &ClusterTrustBundleProjection) -> Result<String, String> {
        const UNSYNCED: &str = "ClusterTrustBundle informer has not yet synced";
        let reflector = self.0.followed.lock().as_ref().map(|followed| followed.reflector.clone());
        let reflector = reflector.ok_or(UNSYNCED)?;
        tokio::time::timeout(FIRST_READ_MAX, reflector.synced()).await.map_err(|_| UNSYNCED)?;
        select(wanted, reflector.snapshot().values())
    }
}

/// Wakes whoever needs bundles whenever one changes.
async fn forward(inner: Weak<Inner>, reflector: Reflector<ClusterTrustBundle>) {
    let mut changes = reflector.subscribe();
    loop {
        changes.next().await;
        let Some(inner) = inner.upgrade() else { return };
        let users: Vec<Arc<Inbox>> =
            inner.followed.lock().iter().flat_map(|followed| followed.users.values().cloned()).collect();
        for user in users {
            user.wake(Signal::Objects);
        }
    }
}

/// The certificates of the bundle of that name, or of those of the signer that the selector matches (none without one).
fn select<'a>(
    wanted: &ClusterTrustBundleProjection,
    mut all: impl Iterator<Item = &'a Arc<ClusterTrustBundle>>,
) -> Result<String, String> {
    let optional = wanted.optional == Some(true);
    let bundles: Vec<&Arc<ClusterTrustBundle>> = match (&wanted.name, &wanted.signer_name) {
        (Some(name), _) => match all.find(|bundle| bundle.name() == name) {
            Some(bundle) => vec![bundle],
            None if optional => Vec::new(),
            None => {
                return Err(format!(
                    "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {name:?} not found"
                ));
            }
        },
        (None, Some(signer)) => {
            let selector = LabelSelector::from_api(wanted.label_selector.as_ref())
                .map_err(|error| format!("while parsing label selector: {error}"))?;
            let fits = |bundle: &&Arc<ClusterTrustBundle>| {
                bundle.spec.signer_name.as_ref() == Some(signer)
                    && selector.matches_labels(bundle.metadata.labels.as_ref())
            };
            let found: Vec<_> = all.filter(fits).collect();
            if found.is_empty() && !optional {
                return Err("combination of signerName and labelSelector matched zero ClusterTrustBundles".to_owned());
            }
            found
        }
        (None, None) => {
            return Err("ClusterTrustBundle projection requires either name or signerName to be set".to_owned());
        }
    };
    pki::merge_bundles(bundles.iter().map(|bundle| bundle.spec.trust_bundle.as_str()))
        .map_err(|error| format!("while normalizing trust anchors: {error}"))
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use serde_json::json;

    use super::*;

    fn ca() -> String {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        pki::Ca::generate("root", now, Duration::from_secs(86_400)).unwrap().cert_pem().to_owned()
    }

    fn bundle(name: &str, signer: Option<&str>, team: &str, pem: &str) -> Arc<ClusterTrustBundle> {
        let bundle = json!({
            "metadata": {"name": name, "labels": {"team": team}}, "spec": {"signerName": signer, "trustBundle": pem}
        });
        Arc::new(ClusterTrustBundle::from_value(bundle).unwrap())
    }

    #[test]
    fn bundles_are_found_by_name_or_by_signer_and_labels() {
        let (a, b, c) = (ca(), ca(), ca());
        let all = [
            bundle("plain", None, "x", &format!("some words\n{a}")),
            bundle("s:1", Some("s"), "x", &format!("{a}{b}")),
            bundle("s:2", Some("s"), "y", &format!("{b}{c}")),
        ];
        let ask = |wanted: serde_json::Value| {
            let wanted: ClusterTrustBundleProjection = serde_json::from_value(wanted).unwrap();
            select(&wanted, all.iter())
        };
        let count = |pem: Result<String, String>| pem.unwrap().matches("BEGIN CERTIFICATE").count();
        assert_eq!(ask(json!({"path": "p", "name": "plain"})).unwrap(), a);
        let of = |selector: serde_json::Value| json!({"path": "p", "signerName": "s", "labelSelector": selector});
        assert_eq!(count(ask(of(json!({})))), 3, "each certificate once");
        assert_eq!(ask(of(json!({}))), ask(of(json!({}))), "in the same order");
        assert_eq!(count(ask(of(json!({"matchLabels": {"team": "y"}})))), 2);
        let none = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
        assert_eq!(ask(json!({"path": "p", "signerName": "s"})).unwrap_err(), none);
        assert_eq!(ask(json!({"path": "p", "signerName": "t", "labelSelector": {}, "optional": true})).unwrap(), "");
        let missing = "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"z\" not found";
        assert_eq!(ask(json!({"path": "p", "name": "z"})).unwrap_err(), missing);
        assert_eq!(ask(json!({"path": "p", "name": "z", "optional": true})).unwrap(), "");
    }
}
