//! Warnings about volumes: kinds that are gone, and files that take each other's place.

use std::collections::BTreeSet;

use api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PersistentVolumeClaimSpec, PodSpec, ProjectedVolumeSource, VolumeProjection,
};
use api::field::Path;

use super::fractional_bytes;

/// Warns of what is odd about a pod's volumes; `path` is the spec's.
pub fn volumes(warnings: &mut Vec<String>, path: &Path, spec: &PodSpec) {
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = path.child("volumes").index(index);
        let removed = [
            ("photonPersistentDisk", volume.photon_persistent_disk.is_some(), "v1.11, non-functional in v1.16+"),
            ("gitRepo", volume.git_repo.is_some(), "v1.11, and disabled by default in v1.33+"),
            ("scaleIO", volume.scale_io.is_some(), "v1.16, non-functional in v1.22+"),
            ("flocker", volume.flocker.is_some(), "v1.22, non-functional in v1.25+"),
            ("storageOS", volume.storageos.is_some(), "v1.22, non-functional in v1.25+"),
            ("quobyte", volume.quobyte.is_some(), "v1.22, non-functional in v1.25+"),
            ("glusterfs", volume.glusterfs.is_some(), "v1.25, non-functional in v1.26+"),
            ("cephfs", volume.cephfs.is_some(), "v1.28, non-functional in v1.31+"),
            ("rbd", volume.rbd.is_some(), "v1.28, non-functional in v1.31+"),
        ];
        for (name, _, since) in removed.iter().filter(|(_, set, _)| *set) {
            warnings.push(format!("{}: deprecated in {since}", path.child(name)));
        }
        if let Some(template) = volume.ephemeral.as_ref().and_then(|own| own.volume_claim_template.as_ref()) {
            claim(warnings, &path.child("ephemeral").child("volumeClaimTemplate").child("spec"), &template.spec);
        }
    }
    for volume in spec.volumes.iter().flatten() {
        let name = &volume.name;
        let mut look = |what: String, paths: Vec<&str>| overlaps(warnings, &what, paths.into_iter());
        if let Some(source) = &volume.config_map {
            look(format!("volume {name:?} (ConfigMap {:?})", source.name), keys(source.items.as_ref()));
        }
        if let Some(source) = &volume.secret {
            let secret = source.secret_name.as_deref().unwrap_or_default();
            look(format!("volume {name:?} (Secret {secret:?})"), keys(source.items.as_ref()));
        }
        if let Some(source) = &volume.downward_api {
            look(format!("volume {name:?} (DownwardAPI)"), files(source.items.as_ref()));
        }
        if let Some(source) = &volume.projected {
            projected(warnings, name, source);
        }
    }
}

/// Warns of amounts in a claim's spec that are no whole bytes.
pub fn claim(warnings: &mut Vec<String>, path: &Path, spec: &PersistentVolumeClaimSpec) {
    let Some(resources) = &spec.resources else { return };
    for (list, values) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        if let Some(value) = values.as_ref().and_then(|values| values.get("storage")) {
            fractional_bytes(warnings, &path.child("resources").child(list).key("storage"), value);
        }
    }
}

fn keys(items: Option<&Vec<KeyToPath>>) -> Vec<&str> {
    items.into_iter().flatten().map(|item| item.path.as_str()).collect()
}

fn files(items: Option<&Vec<DownwardAPIVolumeFile>>) -> Vec<&str> {
    items.into_iter().flatten().map(|item| item.path.as_str()).collect()
}

/// What a source is called in a warning, and the files it makes as far as they are known.
fn source_of(source: &VolumeProjection) -> Option<(String, Vec<&str>)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    if let Some(own) = source.config_map.as_ref().filter(|own| own.items.is_some()) {
        return Some((format!("ConfigMap {:?}", own.name), keys(own.items.as_ref())));
    }
    if let Some(own) = source.secret.as_ref().filter(|own| own.items.is_some()) {
        return Some((format!("Secret {:?}", own.name), keys(own.items.as_ref())));
    }
    if let Some(own) = source.downward_api.as_ref().filter(|own| own.items.is_some()) {
        return Some(("DownwardAPI".to_owned(), files(own.items.as_ref())));
    }
    if let Some(own) = &source.service_account_token {
        return Some(("ServiceAccountToken".to_owned(), vec![&own.path]));
    }
    let own = source.cluster_trust_bundle.as_ref()?;
    let named = own.name.clone().unwrap_or_else(|| text(&own.signer_name));
    Some((format!("ClusterTrustBundle {named:?}"), vec![&own.path]))
}

fn projected(warnings: &mut Vec<String>, name: &str, volume: &ProjectedVolumeSource) {
    let mut before: BTreeSet<&str> = BTreeSet::new();
    for source in volume.sources.iter().flatten() {
        if *source == VolumeProjection::default() {
            warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
            continue;
        }
        let Some((what, paths)) = source_of(source) else { continue };
        let what = format!("volume {name:?} (Projected {what})");
        overlaps(warnings, &what, paths.iter().copied());
        // Those of the sources before it, each of which may be there once more.
        let own: BTreeSet<&str> = paths.into_iter().collect();
        let mut all: Vec<&str> = own.iter().chain(&before).copied().collect();
        all.sort_unstable();
        overlaps(warnings, &what, all.into_iter());
        before.extend(own);
    }
}

/// Warns of each path that is one of those before it, or whose text begins as one of them or the other way round.
fn overlaps<'a>(warnings: &mut Vec<String>, what: &str, paths: impl Iterator<Item = &'a str>) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for path in paths {
        let path = path.trim_end_matches('/');
        let collides = |other: &&&str| {
            let (other, path) = (**other, path);
            format!("{other}/").starts_with(path) || format!("{path}/").starts_with(other)
        };
        if !path.is_empty()
            && let Some(other) = seen.iter().filter(|other| !other.is_empty()).find(collides)
        {
            warnings.push(format!("{what}: overlapping paths: {path:?} with {other:?}"));
        }
        seen.insert(path);
    }
}
