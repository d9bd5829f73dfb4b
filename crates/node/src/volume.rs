//! A pod's volumes on the node's disk: set up before its containers, kept current while it runs, removed after it.
//!
//! Upstream: kubelet `volumemanager`, `pkg/volume/{emptydir,hostpath,configmap,secret,downwardapi,projected}`.

pub mod atomic;
pub mod host_path;
pub mod mount;
pub mod payload;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use api::Object;
use api::core::v1::{
    EmptyDirVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, PodCertificateProjection,
    ProjectedVolumeSource, Volume,
};
use base::{Clock, Random, Timestamp};
use client::Client;

use crate::config::field::Known;
use crate::objects::Objects;
use crate::pod_certificates::{PodCertificates, Source};
use crate::token::Tokens;
use crate::{amount, pod};
use payload::Payload;

/// A volume that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// At this path on the node.
    Path { path: PathBuf, read_only: bool },
    /// An image the runtime mounts by itself.
    Image { reference: String },
}

/// A pod's volumes by name, and when some of them have to be renewed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mounted {
    pub by_name: BTreeMap<String, Ready>,
    pub renew_at: Option<Timestamp>,
}

/// A volume that could not be set up; the text is upstream's, for an event `FailedMount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub volume: String,
    pub message: String,
}

/// What is to be made of one volume on disk.
#[derive(Debug)]
enum Job {
    EmptyDir { memory: bool, size_bytes: Option<i64>, mode: Option<u32> },
    HostPath { path: PathBuf, type_: String, read_only: bool },
    Files { kind: &'static str, memory: bool, payload: Payload },
    Image { reference: String },
}

impl Job {
    /// As a plain directory, whatever was asked for.
    fn stay_on_disk(&mut self) {
        if let Self::EmptyDir { memory, .. } | Self::Files { memory, .. } = self {
            *memory = false;
        }
    }
}

/// What volumes are made from. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    pub client: Client,
    pub objects: Objects,
    pub tokens: Tokens,
    pub pod_certificates: PodCertificates,
}

/// Sets volumes up. Cheap to clone.
#[derive(Clone)]
pub struct Volumes {
    pods_dir: PathBuf,
    sources: Sources,
    clock: Clock,
    random: Random,
    /// Whether file systems are mounted. A fake runtime's containers read nothing: plain directories do for them.
    mounts: bool,
}

/// The ConfigMaps and Secrets a pod's volumes come from.
pub fn references(p: &Pod) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for volume in used(p) {
        config_maps.extend(volume.config_map.as_ref().map(|v| v.name.clone()));
        secrets.extend(volume.secret.as_ref().and_then(|v| v.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|v| v.sources.iter().flatten()) {
            config_maps.extend(source.config_map.as_ref().map(|v| v.name.clone()));
            secrets.extend(source.secret.as_ref().map(|v| v.name.clone()));
        }
    }
    (config_maps, secrets)
}

/// Whether a pod's volumes are made of ClusterTrustBundles.
pub fn needs_trust_bundles(p: &Pod) -> bool {
    let volumes = used(p);
    let mut sources =
        volumes.iter().flat_map(|volume| volume.projected.iter()).flat_map(|v| v.sources.iter().flatten());
    sources.any(|source| source.cluster_trust_bundle.is_some())
}

/// The `podCertificate` sources of a pod's volumes.
pub fn pod_certificates(p: &Pod) -> Vec<(Source, PodCertificateProjection)> {
    let mut found = Vec::new();
    for volume in used(p) {
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for (index, source) in sources.enumerate() {
            found.extend(source.pod_certificate.clone().map(|wanted| ((volume.name.clone(), index), wanted)));
        }
    }
    found
}

/// The volumes that some container mounts: the others are not set up.
fn used(p: &Pod) -> Vec<&Volume> {
    let regular = pod::containers(p).iter().chain(pod::init_containers(p)).filter_map(|c| c.volume_mounts.as_ref());
    let ephemeral = pod::ephemeral_containers(p).iter().filter_map(|c| c.volume_mounts.as_ref());
    let names: BTreeSet<&str> = regular.chain(ephemeral).flatten().map(|m| m.name.as_str()).collect();
    pod::spec(p).volumes.iter().flatten().filter(|v| names.contains(v.name.as_str())).collect()
}

impl Volumes {
    /// Volumes below `pods_dir` (`<uid>/volumes/...`).
    pub fn new(pods_dir: PathBuf, sources: Sources, clock: Clock, random: Random) -> Self {
        Self { pods_dir, sources, clock, random, mounts: true }
    }

    /// The same, mounting nothing: for runtimes without processes.
    pub fn without_mounts(self) -> Self {
        Self { mounts: false, ..self }
    }

    /// Whether file systems are mounted.
    pub fn mounts(&self) -> bool {
        self.mounts
    }

    /// Where all of a pod's files are.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir.join(uid)
    }

    /// Sets up what is not set up yet and renews the files of what is. Safe to repeat.
    pub async fn prepare(&self, p: &Pod, known: &Known<'_>) -> Result<Mounted, Vec<Failed>> {
        let mut jobs = Vec::new();
        let mut failed = Vec::new();
        let mut renew_at = None;
        for volume in used(p) {
            match self.job(p, volume, known, &mut renew_at).await {
                Ok(job) => jobs.push((volume.name.clone(), job)),
                Err(error) => {
                    let message = format!("MountVolume.SetUp failed for volume {:?} : {error}", volume.name);
                    failed.push(Failed { volume: volume.name.clone(), message });
                }
            }
        }
        if !failed.is_empty() {
            return Err(failed);
        }
        if !self.mounts {
            jobs.iter_mut().for_each(|(_, job)| job.stay_on_disk());
        }
        let group = pod::spec(p).security_context.as_ref().and_then(|c| c.fs_group).and_then(|g| u32::try_from(g).ok());
        let root = self.pod_dir(p.uid()).join("volumes");
        // A generation's name: unique, and readable when someone looks.
        let stamp = format!("{}.{}", self.clock.now().strftime("%Y_%m_%d_%H_%M_%S"), self.random.below(1 << 32));
        let done = tokio::task::spawn_blocking(move || {
            jobs.into_iter()
                .map(|(name, job)| (name.clone(), perform(&root, &name, job, &stamp, group)))
                .collect::<Vec<_>>()
        });
        let done = done.await.map_err(|error| vec![Failed { volume: String::new(), message: error.to_string() }])?;
        let mut mounted = Mounted { renew_at, ..Mounted::default() };
        for (name, result) in done {
            match result {
                Ok(ready) => {
                    mounted.by_name.insert(name, ready);
                }
                Err(error) => {
                    let message = format!("MountVolume.SetUp failed for volume {name:?} : {error}");
                    failed.push(Failed { volume: name, message });
                }
            }
        }
        if failed.is_empty() { Ok(mounted) } else { Err(failed) }
    }

    async fn job(
        &self,
        p: &Pod,
        volume: &Volume,
        known: &Known<'_>,
        renew_at: &mut Option<Timestamp>,
    ) -> Result<Job, String> {
        let namespace = p.namespace();
        if let Some(source) = &volume.empty_dir {
            return empty_dir(source);
        }
        if let Some(source) = &volume.host_path {
            let type_ = source.type_.clone().unwrap_or_default();
            return Ok(Job::HostPath { path: source.path.clone().into(), type_, read_only: false });
        }
        if let Some(source) = &volume.config_map {
            let map = self.sources.objects.config_map(namespace, &source.name).await.map_err(|e| e.to_string())?;
            let default_mode = source.default_mode.unwrap_or(payload::DEFAULT_MODE);
            let optional = source.optional == Some(true);
            let payload =
                payload::config_map(&source.name, map.as_deref(), source.items.as_ref(), default_mode, optional)?;
            return Ok(Job::Files { kind: "configmap", memory: false, payload });
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let secret = self.sources.objects.secret(namespace, name).await.map_err(|e| e.to_string())?;
            let default_mode = source.default_mode.unwrap_or(payload::DEFAULT_MODE);
            let optional = source.optional == Some(true);
            let payload = payload::secret(name, secret.as_deref(), source.items.as_ref(), default_mode, optional)?;
            return Ok(Job::Files { kind: "secret", memory: true, payload });
        }
        if let Some(source) = &volume.downward_api {
            let default_mode = source.default_mode.unwrap_or(payload::DEFAULT_MODE);
            let payload = payload::downward(p, source.items.as_ref(), default_mode, known)?;
            return Ok(Job::Files { kind: "downward-api", memory: true, payload });
        }
        if let Some(source) = &volume.projected {
            let payload = self.projected(p, &volume.name, source, known, renew_at).await?;
            return Ok(Job::Files { kind: "projected", memory: true, payload });
        }
        if let Some(source) = &volume.persistent_volume_claim {
            return self.claim(namespace, &source.claim_name, source.read_only == Some(true)).await;
        }
        if volume.ephemeral.is_some() {
            return self.claim(namespace, &format!("{}-{}", p.name(), volume.name), false).await;
        }
        if let Some(source) = &volume.image {
            let reference = source.reference.clone().unwrap_or_default();
            return Ok(Job::Image { reference });
        }
        Err("no volume plugin matched".into())
    }

    async fn projected(
        &self,
        p: &Pod,
        name: &str,
        source: &ProjectedVolumeSource,
        known: &Known<'_>,
        renew_at: &mut Option<Timestamp>,
    ) -> Result<Payload, String> {
        let namespace = p.namespace();
        let default_mode = source.default_mode.unwrap_or(payload::DEFAULT_MODE);
        let mut out = Payload::new();
        for (index, part) in source.sources.iter().flatten().enumerate() {
            if let Some(s) = &part.config_map {
                let map = self.sources.objects.config_map(namespace, &s.name).await.map_err(|e| e.to_string())?;
                let optional = s.optional == Some(true);
                out.extend(payload::config_map(&s.name, map.as_deref(), s.items.as_ref(), default_mode, optional)?);
            } else if let Some(s) = &part.secret {
                let secret = self.sources.objects.secret(namespace, &s.name).await.map_err(|e| e.to_string())?;
                let optional = s.optional == Some(true);
                out.extend(payload::secret(&s.name, secret.as_deref(), s.items.as_ref(), default_mode, optional)?);
            } else if let Some(s) = &part.downward_api {
                out.extend(payload::downward(p, s.items.as_ref(), default_mode, known)?);
            } else if let Some(s) = &part.service_account_token {
                let audience = s.audience.as_deref().unwrap_or_default();
                let token = self.sources.tokens.get(p, audience, s.expiration_seconds.unwrap_or(3600)).await?;
                *renew_at = Some(renew_at.map_or(token.renew_at, |at| at.min(token.renew_at)));
                out.insert(s.path.clone(), token_file(p, token.text, default_mode));
            } else if let Some(s) = &part.cluster_trust_bundle {
                let anchors = self.sources.objects.trust_bundles().get(s).await?;
                out.insert(s.path.clone(), token_file(p, anchors, default_mode));
            } else if let Some(s) = &part.pod_certificate {
                let bundle = self.sources.pod_certificates.get(p.uid(), &(name.to_owned(), index))?;
                for (path, text) in bundle.files(s) {
                    let file = token_file(p, text, default_mode);
                    let uid = s.user.and_then(|user| u32::try_from(user).ok()).or(file.uid);
                    out.insert(path.to_owned(), payload::File { uid, ..file });
                }
            } else {
                return Err("this projected volume source is not supported".into());
            }
        }
        Ok(out)
    }

    /// A claim's volume, for kinds that are paths on this node.
    async fn claim(&self, namespace: &str, name: &str, read_only: bool) -> Result<Job, String> {
        let claim =
            self.sources.client.get::<PersistentVolumeClaim>(namespace, name).await.map_err(|e| e.to_string())?;
        let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let volume_name = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|_| bound);
        let Some(volume_name) = volume_name else {
            return Err(format!("PVC {namespace}/{name} is not bound"));
        };
        let volume = self.sources.client.get::<PersistentVolume>("", &volume_name).await.map_err(|e| e.to_string())?;
        let Some(spec) = &volume.spec else { return Err("no volume plugin matched".into()) };
        if let Some(local) = &spec.local {
            let path: PathBuf = local.path.clone().into();
            return match path.exists() {
                true => Ok(Job::HostPath { path, type_: String::new(), read_only }),
                false => Err(format!("path {:?} does not exist", local.path)),
            };
        }
        if let Some(host) = &spec.host_path {
            let type_ = host.type_.clone().unwrap_or_default();
            return Ok(Job::HostPath { path: host.path.clone().into(), type_, read_only });
        }
        Err("no volume plugin matched".into())
    }

    /// Removes all of a pod from disk. Safe to repeat.
    pub async fn remove(&self, uid: &str) -> io::Result<()> {
        let dir = self.pod_dir(uid);
        tokio::task::spawn_blocking(move || mount::remove(&dir)).await.map_err(io::Error::other)?
    }

    /// Unmounts a pod's volumes and removes them, but keeps its container files (logs refer to them).
    pub async fn unmount(&self, uid: &str) -> io::Result<()> {
        let dir = self.pod_dir(uid);
        let done = tokio::task::spawn_blocking(move || {
            mount::remove(&dir.join("volume-subpaths"))?;
            mount::remove(&dir.join("volumes"))
        });
        done.await.map_err(io::Error::other)?
    }

    /// The uids of pods that have files on disk.
    pub async fn pods(&self) -> BTreeSet<String> {
        let dir = self.pods_dir.clone();
        let done = tokio::task::spawn_blocking(move || {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        });
        done.await.unwrap_or_default()
    }
}

fn empty_dir(source: &EmptyDirVolumeSource) -> Result<Job, String> {
    let medium = source.medium.as_deref().unwrap_or_default();
    if !matches!(medium, "" | "Memory") {
        return Err(format!("storage medium {medium:?} is not supported by this node"));
    }
    let size = source.size_limit.as_ref().map(amount::units).filter(|size| *size > 0);
    Ok(Job::EmptyDir { memory: medium == "Memory", size_bytes: size, mode: source.mode.map(payload::mode) })
}

/// A token, or what else the node wrote for its pod, may be read by that alone.
fn token_file(p: &Pod, text: String, default_mode: i32) -> payload::File {
    let context = pod::spec(p).security_context.as_ref();
    let group = context.and_then(|c| c.fs_group);
    let user = run_as_user(p);
    let mode = if group.is_some() || user.is_some() { 0o600 } else { payload::mode(default_mode) };
    payload::File { data: text.into_bytes(), mode, uid: if group.is_some() { None } else { user } }
}

/// The one user all of the pod's containers run as, if it is said.
fn run_as_user(p: &Pod) -> Option<u32> {
    let outer = pod::spec(p).security_context.as_ref().and_then(|c| c.run_as_user);
    let mut users = pod::containers(p)
        .iter()
        .chain(pod::init_containers(p))
        .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(outer));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first).and_then(|user| u32::try_from(user).ok())
}

/// Makes one volume. Blocking.
fn perform(root: &Path, name: &str, job: Job, stamp: &str, group: Option<u32>) -> Result<Ready, String> {
    let text = |error: io::Error| error.to_string();
    match job {
        Job::Image { reference } => Ok(Ready::Image { reference }),
        Job::HostPath { path, type_, read_only } => {
            host_path::check(&path, &type_)?;
            Ok(Ready::Path { path, read_only })
        }
        Job::EmptyDir { memory, size_bytes, mode } => {
            let path = root.join("kubernetes.io~empty-dir").join(name);
            let fresh = !path.exists() || (memory && !mount::is_mount_point(&path));
            if fresh {
                make_empty_dir(&path, memory, size_bytes, mode.unwrap_or(0o777), group).map_err(text)?;
            }
            Ok(Ready::Path { path, read_only: false })
        }
        Job::Files { kind, memory, payload } => {
            let path = root.join(format!("kubernetes.io~{kind}")).join(name);
            fs::create_dir_all(&path).map_err(text)?;
            if memory {
                // Secrets never reach the disk.
                mount::tmpfs(&path, None).map_err(text)?;
            }
            fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(text)?;
            if group.is_some() {
                chown(&path, None, group).map_err(text)?;
            }
            atomic::write(&path, &payload, stamp, group).map_err(text)?;
            Ok(Ready::Path { path, read_only: false })
        }
    }
}

fn make_empty_dir(path: &Path, memory: bool, size: Option<i64>, mode: u32, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if memory {
        mount::tmpfs(path, size)?;
    }
    let mut bits = mode;
    if group.is_some() {
        chown(path, None, group)?;
        // New files belong to the group, too.
        bits |= 0o2070;
    }
    fs::set_permissions(path, Permissions::from_mode(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn only_mounted_volumes_are_set_up() {
        let p = Pod::decode(
            br#"{"spec":{"containers":[{"name":"a","volumeMounts":[{"name":"m","mountPath":"/m"}]}],"volumes":[
                {"name":"m","projected":{"sources":[{"configMap":{"name":"c"}},{"secret":{"name":"s"}}]}},
                {"name":"unused","secret":{"secretName":"never"}}]}}"#,
        )
        .unwrap();
        let (config_maps, secrets) = references(&p);
        assert_eq!(config_maps, BTreeSet::from(["c".to_owned()]));
        assert_eq!(secrets, BTreeSet::from(["s".to_owned()]));
    }

    #[test]
    fn an_empty_dir_belongs_to_the_group_and_keeps_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let job = || Job::EmptyDir { memory: false, size_bytes: None, mode: None };
        let Ok(Ready::Path { path, .. }) = perform(dir.path(), "e", job(), "g", Some(0)) else { panic!() };
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o2777);
        fs::write(path.join("kept"), "x").unwrap();
        perform(dir.path(), "e", job(), "g2", Some(0)).unwrap();
        assert!(path.join("kept").exists());
    }
}
