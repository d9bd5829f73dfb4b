//! Which objects the pods of each node use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::certificates::v1::PodCertificateRequest;
use api::core::v1::{
    Container, EnvFromSource, EnvVar, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, ProjectedVolumeSource,
    Volume,
};
use api::resource::v1::ResourceSlice;
use api::storage::v1::VolumeAttachment;
use api::{Object, Typed};

use crate::Lookup;
use crate::authz::follow::{Follower, cache_of};
use crate::cache::Entry;

/// Pods made by the node itself refer to nothing.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// A kind of object that nodes may be related to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    Pod,
    Secret,
    ConfigMap,
    ServiceAccount,
    /// PersistentVolumeClaim.
    Claim,
    /// PersistentVolume.
    Volume,
    ResourceClaim,
    /// VolumeAttachment.
    Attachment,
    /// ResourceSlice.
    Slice,
    /// PodCertificateRequest.
    PodCertificate,
}

/// A pod on a node, and what it uses in its namespace.
struct Bound {
    node: Arc<str>,
    uses: Vec<(Thing, String)>,
}

/// Pods by node, with what they use.
#[derive(Default)]
pub struct Graph {
    seen: Follower,
    /// By namespace and name.
    pods: HashMap<(String, String), Bound>,
    nodes: HashMap<Arc<str>, HashSet<(String, String)>>,
}

impl Graph {
    pub fn is_current(&self, lookup: &Lookup) -> bool {
        self.seen.is_current(cache_of::<Pod>(lookup))
    }

    pub fn advance(&mut self, lookup: &Lookup) {
        let Self { seen, pods, nodes } = self;
        let cache = cache_of::<Pod>(lookup);
        let paths = cache.map(|cache| cache.strategy.selectable_paths()).unwrap_or_default();
        let node_at = paths.iter().position(|path| *path == "spec.nodeName");
        let is_bound = |entry: &Entry| node_at.is_none_or(|at| !entry.fields()[at].is_empty());
        seen.advance(cache, |old, new| {
            let Some(entry) = new.or(old) else { return };
            let key = (entry.namespace().to_owned(), entry.name().to_owned());
            if let Some(bound) = pods.remove(&key)
                && let Some(on_node) = nodes.get_mut(&bound.node)
            {
                on_node.remove(&key);
                if on_node.is_empty() {
                    nodes.remove(&bound.node);
                }
            }
            // Without leaving the typed form behind in the cache.
            let object = new.filter(|new| is_bound(new)).and_then(|new| new.object_to_change().ok());
            let Some(pod) = object.as_deref().and_then(api::downcast::<Pod>) else { return };
            let Some(spec) = &pod.spec else { return };
            let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) else { return };
            let node: Arc<str> = node.into();
            nodes.entry(node.clone()).or_default().insert(key.clone());
            let mut uses = if pod.annotation(MIRROR).is_some() { Vec::new() } else { uses(pod.name(), spec) };
            // Claims made from templates are named in the status, which the scheduler's side writes.
            let made = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_ref());
            let made = made.into_iter().flatten().filter_map(|one| one.resource_claim_name.clone());
            uses.extend(made.map(|name| (Thing::ResourceClaim, name)));
            pods.insert(key, Bound { node, uses });
        });
    }

    /// Whether the object is one that a pod of the node uses.
    pub fn has(&self, node: &str, thing: Thing, namespace: &str, name: &str, lookup: &Lookup) -> bool {
        if thing == Thing::Volume {
            return get::<PersistentVolume>(lookup, "", name).is_some_and(|volume| self.has_volume(node, &volume));
        }
        if thing == Thing::Pod {
            let key = (namespace.to_owned(), name.to_owned());
            return self.pods.get(&key).is_some_and(|bound| &*bound.node == node);
        }
        let is = |own: Option<&str>| own == Some(node);
        match thing {
            Thing::Attachment => {
                return get::<VolumeAttachment>(lookup, "", name).is_some_and(|own| own.spec.node_name == node);
            }
            Thing::Slice => {
                return get::<ResourceSlice>(lookup, "", name).is_some_and(|own| is(own.spec.node_name.as_deref()));
            }
            Thing::PodCertificate => {
                let found = get::<PodCertificateRequest>(lookup, namespace, name);
                return found.is_some_and(|own| own.spec.node_name == node);
            }
            _ => {}
        }
        let on_node = || self.nodes.get(node).into_iter().flatten();
        let here = |key: &&(String, String)| key.0 == namespace;
        let uses = |key: &(String, String), thing, name: &str| {
            self.pods.get(key).is_some_and(|bound| bound.uses.iter().any(|(own, of)| *own == thing && of == name))
        };
        if on_node().filter(here).any(|key| uses(key, thing, name)) {
            return true;
        }
        // A volume's driver may need a secret in any namespace.
        thing == Thing::Secret && on_node().any(|key| self.volume_needs(key, namespace, name, lookup))
    }

    fn has_volume(&self, node: &str, volume: &PersistentVolume) -> bool {
        let Some(claim) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
        let (Some(namespace), Some(name)) = (&claim.namespace, &claim.name) else { return false };
        let on_node = self.nodes.get(node).into_iter().flatten().filter(|key| key.0 == *namespace);
        let mut uses = on_node.filter_map(|key| self.pods.get(key)).flat_map(|bound| &bound.uses);
        uses.any(|(thing, of)| *thing == Thing::Claim && of == name)
    }

    fn volume_needs(&self, pod: &(String, String), namespace: &str, secret: &str, lookup: &Lookup) -> bool {
        let uses = self.pods.get(pod).into_iter().flat_map(|bound| &bound.uses);
        let claims = uses.filter(|(thing, _)| *thing == Thing::Claim);
        claims.filter_map(|(_, claim)| get::<PersistentVolumeClaim>(lookup, &pod.0, claim)).any(|claim| {
            let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
            let Some(volume) = get::<PersistentVolume>(lookup, "", volume) else { return false };
            let Some(csi) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) else { return false };
            let wanted = [
                &csi.node_publish_secret_ref,
                &csi.node_stage_secret_ref,
                &csi.node_expand_secret_ref,
                &csi.controller_publish_secret_ref,
                &csi.controller_expand_secret_ref,
            ];
            wanted.into_iter().flatten().any(|reference| {
                reference.namespace.as_deref() == Some(namespace) && reference.name.as_deref() == Some(secret)
            })
        })
    }
}

fn get<T: Typed>(lookup: &Lookup, namespace: &str, name: &str) -> Option<Arc<T>> {
    if name.is_empty() { None } else { lookup.get(namespace, name) }
}

/// Everything in its namespace that a pod refers to, each once.
pub fn uses(pod: &str, spec: &PodSpec) -> Vec<(Thing, String)> {
    let mut found = Vec::new();
    let account = spec.service_account_name.as_deref().or(spec.service_account.as_deref()).unwrap_or_default();
    if !account.is_empty() {
        found.push((Thing::ServiceAccount, account.to_owned()));
    }
    let claims = spec.resource_claims.iter().flatten().filter_map(|claim| claim.resource_claim_name.clone());
    found.extend(claims.map(|name| (Thing::ResourceClaim, name)));
    found.extend(spec.image_pull_secrets.iter().flatten().map(|secret| (Thing::Secret, secret.name.clone())));
    for volume in spec.volumes.iter().flatten() {
        of_volume(pod, volume, &mut found);
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let Container { env, env_from, .. } = container;
        of_env(env, env_from, &mut found);
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        of_env(&container.env, &container.env_from, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

fn of_env(env: &Option<Vec<EnvVar>>, from: &Option<Vec<EnvFromSource>>, found: &mut Vec<(Thing, String)>) {
    for source in env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
        found.extend(source.secret_key_ref.iter().map(|key| (Thing::Secret, key.name.clone())));
        found.extend(source.config_map_key_ref.iter().map(|key| (Thing::ConfigMap, key.name.clone())));
    }
    for source in from.iter().flatten() {
        found.extend(source.secret_ref.iter().map(|all| (Thing::Secret, all.name.clone())));
        found.extend(source.config_map_ref.iter().map(|all| (Thing::ConfigMap, all.name.clone())));
    }
}

fn of_volume(pod: &str, volume: &Volume, found: &mut Vec<(Thing, String)>) {
    let mut secret = |name: Option<&String>| found.extend(name.map(|name| (Thing::Secret, name.clone())));
    secret(volume.secret.as_ref().and_then(|source| source.secret_name.as_ref()));
    secret(volume.azure_file.as_ref().map(|source| &source.secret_name));
    secret(volume.cephfs.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|local| &local.name));
    secret(volume.cinder.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|local| &local.name));
    secret(volume.csi.as_ref().and_then(|source| source.node_publish_secret_ref.as_ref()).map(|local| &local.name));
    secret(volume.flex_volume.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|local| &local.name));
    secret(volume.iscsi.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|local| &local.name));
    secret(volume.rbd.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|local| &local.name));
    secret(volume.scale_io.as_ref().map(|source| &source.secret_ref.name));
    secret(volume.storageos.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|local| &local.name));
    found.extend(volume.config_map.iter().map(|source| (Thing::ConfigMap, source.name.clone())));
    found.extend(volume.persistent_volume_claim.iter().map(|source| (Thing::Claim, source.claim_name.clone())));
    found.extend(volume.ephemeral.iter().map(|_| (Thing::Claim, format!("{pod}-{}", volume.name))));
    if let Some(ProjectedVolumeSource { sources: Some(sources), .. }) = &volume.projected {
        for source in sources {
            found.extend(source.secret.iter().map(|own| (Thing::Secret, own.name.clone())));
            found.extend(source.config_map.iter().map(|own| (Thing::ConfigMap, own.name.clone())));
        }
    }
}
