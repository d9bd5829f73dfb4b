//! ServiceAccount: every pod runs as one, and finds its token where it expects it.
//!
//! Upstream: plugin/pkg/admission/serviceaccount. The deprecated annotation
//! `kubernetes.io/enforce-mountable-secrets` is not looked at.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, Pod,
    PodSpec, ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};
use api::{Object, Status};
use futures_util::future::BoxFuture;

use super::{Operation, Request, done};
use crate::Lookup;

pub struct Plugin;

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const SUFFIX_LEN: usize = 5;
/// An hour, and enough to tell such tokens from others.
const TOKEN_SECONDS: i64 = 3607;
const FILE_MODE: i32 = 0o644;
/// A new namespace gets its service account `default` a moment after it is made: a pod waits for it this long.
const DEFAULT_WAIT: Duration = Duration::from_millis(1500);

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        operation == Operation::Create && group.is_empty() && resource == "pods" && subresource.is_empty()
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some(pod) = request.object::<Pod>() else { return Ok(()) };
            if pod.annotation(MIRROR).is_some() {
                return mirror(pod).map_err(|why| request.forbidden(why));
            }
            let spec = pod.spec.get_or_insert_default();
            if spec.service_account_name.as_deref().unwrap_or_default().is_empty() {
                spec.service_account_name = Some(DEFAULT.to_owned());
            }
            let name = spec.service_account_name.clone().unwrap_or_default();
            spec.service_account = Some(name.clone());
            let Some(account) = find(request.lookup(), request.namespace, &name).await? else {
                return Err(request.forbidden(&format!(
                    "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                    request.namespace
                )));
            };
            let suffix = request.server.options().random.suffix(SUFFIX_LEN);
            if let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) {
                serve(spec, &account, &suffix);
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let checked = match request.object::<Pod>() {
            Some(pod) if pod.annotation(MIRROR).is_some() => mirror(pod),
            _ => Ok(()),
        };
        done(checked.map_err(|why| request.forbidden(why)))
    }
}

/// Pods that stand for a node's static pods have no account of their own.
fn mirror(pod: &Pod) -> Result<(), &'static str> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    if spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return Err("a mirror pod may not reference service accounts");
    }
    let volumes = || spec.volumes.iter().flatten();
    if volumes().any(|volume| volume.secret.is_some()) {
        return Err("a mirror pod may not reference secrets");
    }
    let sources =
        || volumes().filter_map(|volume| volume.projected.as_ref()).flat_map(|own| own.sources.iter().flatten());
    if sources().any(|source| source.service_account_token.is_some()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

async fn find(lookup: &Lookup, namespace: &str, name: &str) -> Result<Option<Arc<ServiceAccount>>, Status> {
    if let Some(found) = lookup.get(namespace, name) {
        return Ok(Some(found));
    }
    if let Some(found) = lookup.get_live(namespace, name).await? {
        return Ok(Some(found));
    }
    if name != DEFAULT {
        return Ok(None);
    }
    let appears = async {
        loop {
            let seen = lookup.caches.progress();
            if let Some(found) = lookup.get(namespace, name) {
                return Some(found);
            }
            if lookup.caches.wait_for(seen + 1).await.is_err() {
                return None;
            }
        }
    };
    Ok(tokio::time::timeout(DEFAULT_WAIT, appears).await.ok().flatten())
}

/// Gives a pod what its service account has: the token, and the secrets to pull images with.
fn serve(spec: &mut PodSpec, account: &ServiceAccount, suffix: &str) {
    let wanted = spec.automount_service_account_token.or(account.automount_service_account_token).unwrap_or(true);
    if wanted {
        mount_token(spec, suffix);
    }
    let own = spec.image_pull_secrets.as_ref().is_some_and(|secrets| !secrets.is_empty());
    if !own && let Some(secrets) = account.image_pull_secrets.as_ref().filter(|secrets| !secrets.is_empty()) {
        spec.image_pull_secrets = Some(secrets.clone());
    }
}

fn mount_token(spec: &mut PodSpec, suffix: &str) {
    let existing = spec.volumes.iter().flatten().find(|volume| volume.name.starts_with(VOLUME_PREFIX));
    let there = existing.is_some();
    let name = existing.map_or_else(|| format!("{VOLUME_PREFIX}{suffix}"), |volume| volume.name.clone());
    let mut used = false;
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        used |= mount_into(container, &name);
    }
    if used && !there {
        spec.volumes.get_or_insert_default().push(token_volume(name));
    }
}

fn mount_into(container: &mut Container, volume: &str) -> bool {
    let mounts = container.volume_mounts.get_or_insert_default();
    let taken = mounts.iter().any(|mount| mount.mount_path == MOUNT_PATH);
    if !taken {
        mounts.push(VolumeMount {
            name: volume.to_owned(),
            read_only: Some(true),
            mount_path: MOUNT_PATH.to_owned(),
            ..VolumeMount::default()
        });
    }
    !taken
}

/// The volume with the token, the cluster's CA and the namespace.
fn token_volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(TOKEN_SECONDS),
        ..ServiceAccountTokenProjection::default()
    };
    let ca = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), ..KeyToPath::default() }]),
        optional: None,
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: "metadata.namespace".to_owned(),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(ca), ..VolumeProjection::default() },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection { items: Some(vec![namespace]) }),
            ..VolumeProjection::default()
        },
    ];
    let projected = ProjectedVolumeSource {
        default_mode: Some(FILE_MODE),
        sources: Some(sources),
        ..ProjectedVolumeSource::default()
    };
    Volume { name, projected: Some(projected), ..Volume::default() }
}

#[cfg(test)]
mod tests {
    use api::core::v1::LocalObjectReference;

    use super::*;

    fn spec() -> PodSpec {
        let container = |name: &str| Container { name: name.to_owned(), ..Container::default() };
        PodSpec {
            containers: vec![container("a"), container("b")],
            init_containers: Some(vec![container("i")]),
            ..PodSpec::default()
        }
    }

    #[test]
    fn the_token_is_mounted_into_every_container() {
        let mut spec = spec();
        serve(&mut spec, &ServiceAccount::default(), "x7k2p");
        let volume = &spec.volumes.as_ref().unwrap()[0];
        assert_eq!(volume.name, "kube-api-access-x7k2p");
        let sources = volume.projected.as_ref().unwrap().sources.as_ref().unwrap();
        assert_eq!(sources[0].service_account_token.as_ref().unwrap().expiration_seconds, Some(3607));
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let mount = &container.volume_mounts.as_ref().unwrap()[0];
            assert_eq!((mount.mount_path.as_str(), mount.read_only), (MOUNT_PATH, Some(true)));
            assert_eq!(mount.name, volume.name);
        }
        // A second time (a retried write) nothing is added.
        let once = spec.clone();
        serve(&mut spec, &ServiceAccount::default(), "other");
        assert_eq!(spec, once);
    }

    #[test]
    fn pod_and_account_may_decline_the_token() {
        let declines = ServiceAccount { automount_service_account_token: Some(false), ..ServiceAccount::default() };
        let mut pod = spec();
        serve(&mut pod, &declines, "x");
        assert!(pod.volumes.is_none());
        let mut pod = PodSpec { automount_service_account_token: Some(true), ..spec() };
        serve(&mut pod, &declines, "x");
        assert!(pod.volumes.is_some());
        let mut pod = PodSpec { automount_service_account_token: Some(false), ..spec() };
        serve(&mut pod, &ServiceAccount::default(), "x");
        assert!(pod.volumes.is_none());
    }

    #[test]
    fn pull_secrets_come_from_the_account_unless_the_pod_has_its_own() {
        let secret = |name: &str| LocalObjectReference { name: name.to_owned() };
        let account = ServiceAccount { image_pull_secrets: Some(vec![secret("sa")]), ..ServiceAccount::default() };
        let mut pod = spec();
        serve(&mut pod, &account, "x");
        assert_eq!(pod.image_pull_secrets, Some(vec![secret("sa")]));
        let mut pod = PodSpec { image_pull_secrets: Some(vec![secret("own")]), ..spec() };
        serve(&mut pod, &account, "x");
        assert_eq!(pod.image_pull_secrets, Some(vec![secret("own")]));
    }

    #[test]
    fn mirror_pods_refer_to_nothing() {
        let mut pod = Pod { spec: Some(spec()), ..Pod::default() };
        assert_eq!(mirror(&pod), Ok(()));
        pod.spec.as_mut().unwrap().service_account_name = Some("web".into());
        assert_eq!(mirror(&pod), Err("a mirror pod may not reference service accounts"));
    }
}
