//! What the API server serves, as its aggregated discovery says, and kept up to date.
//!
//! Upstream: k8s.io/client-go/discovery. Controllers that follow every resource ([`Served`]) learn of new ones from the
//! definitions and APIServices that make them, not from a timer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::apiextensions::v1::CustomResourceDefinition;
use api::apiregistration::v1::APIService;
use api::{Kind, Object, Typed};
use base::{Backoff, Random, TaskGroup};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::{Notify, watch};

use crate::follow::{Following, Sink, follow};
use crate::{Client, Error};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// Resources taken from one document; the rest is left out with a warning.
const RESOURCES_LEN_MAX: usize = 20_000;
/// Discovery is read anew after this long even if nothing tells of a change: what an aggregated server serves changes
/// without an event (upstream resyncs as often).
const SAFETY_NET: Duration = Duration::from_secs(30);
/// Changes that come close together are read once.
const SETTLE: Duration = Duration::from_millis(20);
/// Where much is served and it changes without end, reading takes one part in this many of the time.
const SHARE: u32 = 8;
/// How often discovery is read anew until it agrees with the definitions.
const DISAGREED_MAX: u32 = 10;

/// One resource in one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    pub kind: &'static Kind,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
}

impl Resource {
    /// Whether all these verbs are served.
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|own| own == verb))
    }
}

/// A subresource and the kind it speaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Subresource {
    pub name: String,
    pub group: String,
    pub kind: String,
}

/// What is served.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Discovered {
    /// Every version of every resource; the preferred version of a group before its others.
    resources: Vec<Resource>,
    /// Where in `resources` an api version's kind is.
    by_kind: HashMap<(&'static str, &'static str), usize>,
    /// Api versions whose server could not be asked: what they serve may be missing or out of date.
    stale: BTreeSet<String>,
    /// Versions that are none.
    malformed: BTreeSet<String>,
}

impl Discovered {
    /// All resources, in all versions.
    pub fn all(&self) -> &[Resource] {
        &self.resources
    }

    /// Each resource once, in the first version of its group that has it.
    pub fn preferred(&self) -> Vec<&Resource> {
        let mut seen = HashSet::new();
        self.resources.iter().filter(|one| seen.insert((one.kind.group, one.kind.plural))).collect()
    }

    /// The resource of a kind, `("apps/v1", "Deployment")`.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        // The keys live for ever, what is asked for does not.
        let by_kind: &HashMap<(&str, &str), usize> = &self.by_kind;
        by_kind.get(&(api_version, kind)).map(|at| &self.resources[*at])
    }

    /// Whether something of the group could not be asked for.
    pub fn is_stale(&self, group: &str) -> bool {
        self.stale.iter().any(|api_version| api_version.rsplit_once('/').map_or("", |(own, _)| own) == group)
    }

    /// What could not be asked for, in client-go's words.
    pub fn failure(&self) -> Option<(usize, String)> {
        let one = |gv: &String| format!("{gv}: stale GroupVersion discovery: {gv}");
        let all: Vec<String> = self.stale.iter().map(one).collect();
        let text = format!("unable to retrieve the complete list of server APIs: {}", all.join(", "));
        (!all.is_empty()).then_some((all.len(), text))
    }

    /// Versions that cannot be parsed, in client-go's words.
    pub fn unparsed(&self) -> Option<String> {
        let one = |gv: &String| format!("unexpected GroupVersion string: {gv}");
        let all: Vec<String> = self.malformed.iter().map(one).collect();
        match all.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("[{}]", many.join(", "))),
        }
    }

    /// Of one document.
    ///
    /// # Errors
    /// If it is no `APIGroupDiscoveryList`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut discovered = Self::default();
        discovered.read(bytes)?;
        Ok(discovered)
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let document: Document = serde_json::from_slice(bytes).map_err(|e| Error::Malformed(e.to_string()))?;
        if document.kind != "APIGroupDiscoveryList" {
            return Err(Error::Malformed(format!("expected an APIGroupDiscoveryList, got {:?}", document.kind)));
        }
        for group in document.items {
            let name = group.metadata.name;
            for version in group.versions {
                let api_version =
                    if name.is_empty() { version.version.clone() } else { format!("{name}/{}", version.version) };
                if version.version.is_empty() || api_version.matches('/').count() > 1 {
                    self.malformed.insert(api_version);
                    continue;
                }
                if version.freshness == "Stale" {
                    self.stale.insert(api_version);
                }
                for resource in version.resources {
                    self.take_in(&name, &version.version, resource);
                }
            }
        }
        Ok(())
    }

    fn take_in(&mut self, group: &str, version: &str, raw: RawResource) {
        if self.resources.len() == RESOURCES_LEN_MAX {
            tracing::warn!(group, version, "more resources are served than are followed");
        }
        let kind = raw.response_kind.kind;
        if self.resources.len() >= RESOURCES_LEN_MAX || raw.resource.is_empty() || kind.is_empty() {
            return;
        }
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let built_in = api::kinds::find(&api_version, &kind).filter(|known| known.plural == raw.resource);
        let kind = built_in.unwrap_or_else(|| Kind::custom(group, version, &kind, &raw.resource));
        let subresource = |raw: RawSubresource| Subresource {
            name: raw.subresource,
            group: raw.response_kind.group,
            kind: raw.response_kind.kind,
        };
        self.by_kind.entry((kind.api_version, kind.kind)).or_insert(self.resources.len());
        self.resources.push(Resource {
            kind,
            namespaced: raw.scope == "Namespaced",
            verbs: raw.verbs,
            subresources: raw.subresources.into_iter().map(subresource).collect(),
        });
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    items: Vec<RawGroup>,
}

#[derive(Deserialize)]
struct RawGroup {
    #[serde(default)]
    metadata: RawMetadata,
    #[serde(default)]
    versions: Vec<RawVersion>,
}

#[derive(Deserialize, Default)]
struct RawMetadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct RawVersion {
    #[serde(default)]
    version: String,
    #[serde(default)]
    freshness: String,
    #[serde(default)]
    resources: Vec<RawResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawResource {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    response_kind: RawKind,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    subresources: Vec<RawSubresource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSubresource {
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    response_kind: RawKind,
}

#[derive(Deserialize, Default)]
struct RawKind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    kind: String,
}

impl Client {
    /// Asks the server what it serves.
    ///
    /// # Errors
    /// If it does not say. A group whose own server does not answer is no error: see [`Discovered::failure`].
    pub async fn discover(&self) -> Result<Discovered, Error> {
        let mut discovered = Discovered::default();
        for path in ["/api", "/apis"] {
            discovered.read(&self.document(path, AGGREGATED).await?)?;
        }
        Ok(discovered)
    }
}

/// What is served, kept up to date. Cheap to clone.
#[derive(Clone)]
pub struct Served(watch::Receiver<Option<Arc<Discovered>>>);

impl Served {
    /// Begins to follow it.
    pub fn start(client: &Client, random: &Random, tasks: &TaskGroup) -> Self {
        let (sender, receiver) = watch::channel(None);
        let makers = Arc::new(Makers::default());
        for kind in [CustomResourceDefinition::KIND, APIService::KIND] {
            let (client, makers, random) = (client.clone(), makers.clone(), random.clone());
            tasks.supervise("discovery: what makes resources", move || {
                let following = Following { kind, metadata_only: false, ending: watch::channel(false).1 };
                follow(client.clone(), following, makers.clone(), random.clone())
            });
        }
        let (client, random) = (client.clone(), random.clone());
        let sender = Arc::new(sender);
        tasks.supervise("discovery", move || keep(client.clone(), makers.clone(), sender.clone(), random.clone()));
        Self(receiver)
    }

    /// What never changes: for tests.
    pub fn fixed(discovered: Discovered) -> Self {
        Self(watch::channel(Some(Arc::new(discovered))).1)
    }

    /// What is served now; waits until it is known for the first time.
    pub async fn now(&mut self) -> Arc<Discovered> {
        loop {
            if let Some(known) = self.0.borrow_and_update().clone() {
                return known;
            }
            if self.0.changed().await.is_err() {
                // Whoever kept it has ended, and this reader ends with it.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What is known already, without waiting.
    pub fn known(&self) -> Option<Arc<Discovered>> {
        self.0.borrow().clone()
    }

    /// Returns when it has changed since [`Served::now`].
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The objects that make resources: definitions of custom ones, and APIServices.
#[derive(Default)]
struct Makers {
    /// What each definition serves, by its uid.
    defined: Mutex<BTreeMap<String, Defined>>,
    changed: Notify,
}

/// Group and plural, and the versions served.
type Defined = ((String, String), BTreeSet<String>);

/// What a definition makes the server serve.
fn defined_by(crd: &CustomResourceDefinition) -> Option<Defined> {
    let conditions = crd.status.as_ref()?.conditions.as_deref()?;
    let established = conditions.iter().any(|one| one.type_ == "Established" && one.status == "True");
    let versions = crd.spec.versions.iter().filter(|version| version.served).map(|version| version.name.clone());
    let name = (crd.spec.group.clone(), crd.spec.names.plural.clone());
    established.then(|| (name, versions.collect()))
}

impl Sink for Makers {
    fn put(&self, object: &dyn Object) {
        if let Some(crd) = api::downcast::<CustomResourceDefinition>(object) {
            let mut all = self.defined.lock();
            match defined_by(crd) {
                Some(defined) => drop(all.insert(object.uid().to_owned(), defined)),
                None => drop(all.remove(object.uid())),
            }
        }
        self.changed.notify_one();
    }

    fn remove(&self, object: &dyn Object) {
        self.defined.lock().remove(object.uid());
        self.changed.notify_one();
    }

    fn listed(&self, uids: &HashSet<String>) {
        // APIServices are listed here too, but of them nothing is kept: only a list with definitions forgets any.
        let mut all = self.defined.lock();
        if all.keys().any(|uid| uids.contains(uid)) {
            all.retain(|uid, _| uids.contains(uid));
        }
        self.changed.notify_one();
    }
}

impl Makers {
    /// Whether what was discovered is what the definitions define, and nothing that they defined before.
    fn agree(&self, with: &Discovered, before: &mut BTreeSet<(String, String)>) -> bool {
        let now: BTreeMap<_, _> = self.defined.lock().values().cloned().collect();
        let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for kind in with.all().iter().map(|one| one.kind).filter(|kind| kind.is_custom()) {
            let name = (kind.group.to_owned(), kind.plural.to_owned());
            found.entry(name).or_default().insert(kind.version.to_owned());
        }
        let gone = before.iter().all(|name| now.contains_key(name) || !found.contains_key(name));
        let there = now.iter().all(|(name, versions)| match found.get(name) {
            Some(found) => found == versions,
            None => versions.is_empty(),
        });
        if gone && there {
            *before = now.into_keys().collect();
        }
        gone && there
    }
}

/// Reads discovery whenever something may have changed, and publishes what has.
async fn keep(
    client: Client,
    makers: Arc<Makers>,
    sender: Arc<watch::Sender<Option<Arc<Discovered>>>>,
    random: Random,
) {
    let mut backoff = Backoff::new(SETTLE, Duration::from_secs(5));
    let (mut before, mut disagreed) = (BTreeSet::new(), 0);
    loop {
        let changed = makers.changed.notified();
        let began = tokio::time::Instant::now();
        let again = match client.discover().await {
            Err(error) => {
                tracing::warn!(%error, "discovery failed");
                true
            }
            Ok(discovered) => {
                let agreed = makers.agree(&discovered, &mut before);
                disagreed = if agreed { 0 } else { disagreed + 1 };
                sender.send_if_modified(|known| {
                    let differs = known.as_deref() != Some(&discovered);
                    if differs {
                        *known = Some(Arc::new(discovered));
                    }
                    differs
                });
                !agreed && disagreed < DISAGREED_MAX
            }
        };
        let settle = SETTLE.max(began.elapsed() * (SHARE - 1)).min(SAFETY_NET);
        let wait = if again { backoff.next_jittered(&random) } else { SAFETY_NET };
        if !again {
            backoff.reset();
        }
        tokio::select! {
            () = changed => tokio::time::sleep(settle).await,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(freshness: &str) -> Vec<u8> {
        let cat = |verbs: &[&str]| {
            json!({"resource": "cats", "responseKind": {"group": "example.com", "version": "", "kind": "Cat"},
                "scope": "Namespaced", "verbs": verbs, "subresources": [
                {"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}}]})
        };
        json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
                {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced",
                 "verbs": ["get", "list"]}]}]},
            {"metadata": {"name": "example.com"}, "versions": [
                {"version": "v2", "freshness": freshness, "resources": [cat(&["list", "watch", "delete"])]},
                {"version": "v1", "freshness": "Current", "resources": [cat(&["list"])]}]},
            {"metadata": {"name": "bad/group"}, "versions": [{"version": "v1"}]},
        ]})
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_document_names_the_kinds_and_their_preferred_versions() {
        let mut found = Discovered::default();
        found.read(&document("Current")).unwrap();
        let preferred: Vec<&str> = found.preferred().iter().map(|one| one.kind.api_version).collect();
        assert_eq!(preferred, ["apps/v1", "example.com/v2"]);
        let deployment = found.of_kind("apps/v1", "Deployment").unwrap();
        assert!(!deployment.kind.is_custom(), "built-in kinds are ours");
        let old = found.of_kind("example.com/v1", "Cat").unwrap();
        assert!(old.kind.is_custom() && !old.can(&["list", "delete"]));
        assert_eq!(old.subresources[0].name, "scale");
        assert_eq!(found.of_kind("example.com/v3", "Cat"), None);
        assert_eq!(found.failure(), None);
        assert_eq!(found.unparsed().unwrap(), "unexpected GroupVersion string: bad/group/v1");
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let mut found = Discovered::default();
        found.read(&document("Stale")).unwrap();
        assert!(found.is_stale("example.com") && !found.is_stale("apps"));
        let (count, text) = found.failure().unwrap();
        assert_eq!(count, 1);
        assert_eq!(
            text,
            "unable to retrieve the complete list of server APIs: example.com/v2: stale GroupVersion discovery: \
             example.com/v2"
        );
        for bad in ["[]", "{}", r#"{"kind": "APIGroupList", "groups": []}"#] {
            assert!(Discovered::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    fn crd(versions: &[(&str, bool)], established: &str) -> CustomResourceDefinition {
        let versions: Vec<_> =
            versions.iter().map(|(name, served)| json!({"name": name, "served": served, "storage": true})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "cats.example.com", "uid": "1"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "cats", "kind": "Cat"},
                "versions": versions},
            "status": {"conditions": [{"type": "Established", "status": established}]},
        }))
        .unwrap()
    }

    #[test]
    fn discovery_is_believed_once_it_agrees_with_the_definitions() {
        let makers = Makers::default();
        let (mut before, empty) = (BTreeSet::new(), Discovered::default());
        let mut found = Discovered::default();
        found.read(&document("Current")).unwrap();
        makers.put(&crd(&[("v1", true)], "False"));
        assert!(makers.agree(&empty, &mut before), "nothing is established yet");
        makers.put(&crd(&[("v1", true), ("v2", true)], "True"));
        assert!(!makers.agree(&empty, &mut before));
        assert!(makers.agree(&found, &mut before));
        makers.put(&crd(&[("v1", true), ("v2", false)], "True"));
        assert!(!makers.agree(&found, &mut before), "v2 is still served");
        makers.remove(&crd(&[], "True"));
        assert!(!makers.agree(&found, &mut before), "it is gone, and still served");
        assert!(makers.agree(&empty, &mut before));
    }
}
