//! Image archives: reads OCI layouts and what `docker save` writes, and writes OCI layouts. Pure: bytes in, bytes out.
//!
//! Formats: the OCI image layout and image specifications; Docker's `manifest.json` image archive.

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::{Error, Result, reference};

/// `org.opencontainers.image.ref.name`: a tag, or a whole name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What containerd writes beside it: always the whole name.
const IMAGE_NAME: &str = "io.containerd.image.name";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The deepest nesting of indexes that is followed.
const DEPTH_MAX: usize = 4;

/// Points to a blob by its digest.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// `sha256:` and its hash.
    pub digest: String,
    /// Its length in bytes.
    pub size: i64,
    /// Names, among others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A blob of an archive, and what it refers to: its labels in containerd's content store.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:` and its hash.
    pub digest: String,
    /// The blob.
    pub data: Bytes,
    /// `containerd.io/gc.ref.content...`: keeps what it refers to as long as itself.
    pub labels: BTreeMap<String, String>,
}

/// The images of an archive, and the blobs they are made of.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    /// Full names and what they name.
    pub images: Vec<(String, Descriptor)>,
    /// In the order to store them: what is referred to comes first.
    pub blobs: Vec<Blob>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// One image in Docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The digest of `data`.
pub fn digest(data: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(data)))
}

fn invalid(message: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("not a usable image archive: {message}"))
}

impl Archive {
    /// Reads a tar, plain or gzipped. An image that has only a tag is named `base_name:TAG`; one without a name is
    /// refused.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what is wrong with it.
    pub fn read(archive: Bytes, base_name: &str) -> Result<Self> {
        let files = files(archive)?;
        let read = if files.contains_key("index.json") {
            read_layout(&files, base_name)?
        } else if files.contains_key("manifest.json") {
            read_docker(&files)?
        } else {
            return Err(invalid("it has neither an index.json nor a manifest.json"));
        };
        if read.images.is_empty() {
            return Err(invalid("no image in it has a name"));
        }
        Ok(read)
    }

    /// The full names of the images.
    pub fn names(&self) -> Vec<String> {
        self.images.iter().map(|(name, _)| name.clone()).collect()
    }

    /// An archive of one image of one layer. `layer` is an uncompressed tar, `config` the `config` object of the
    /// image's configuration (`Entrypoint`, `Env`, ...).
    pub fn single(name: &str, layer: Vec<u8>, config: &serde_json::Value) -> Self {
        let layer = Bytes::from(layer);
        let configuration = serde_json::json!({
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let configuration = Bytes::from(configuration.to_string());
        let mut archive = Self::default();
        archive.add_image(vec![reference::normalize(name)], configuration, vec![layer]);
        archive
    }

    /// Adds an image of a configuration and layers, with a manifest of ours.
    fn add_image(&mut self, names: Vec<String>, configuration: Bytes, layers: Vec<Bytes>) {
        let describe = |media_type: &str, data: &Bytes| Descriptor {
            media_type: media_type.to_owned(),
            digest: digest(data),
            size: i64::try_from(data.len()).unwrap_or(i64::MAX),
            annotations: BTreeMap::new(),
        };
        let of_layer = |data: &Bytes| describe(if is_gzip(data) { LAYER_GZIP } else { LAYER }, data);
        let config = describe(CONFIG, &configuration);
        let descriptors: Vec<Descriptor> = layers.iter().map(of_layer).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": descriptors,
        });
        let manifest = Bytes::from(manifest.to_string());
        let target = describe(MANIFEST, &manifest);
        let labels = manifest_labels(&config, &descriptors);
        for (descriptor, data) in descriptors.into_iter().zip(layers) {
            self.add_blob(descriptor.digest, data, BTreeMap::new());
        }
        self.add_blob(config.digest, configuration, BTreeMap::new());
        self.add_blob(target.digest.clone(), manifest, labels);
        self.images.extend(names.into_iter().map(|name| (name, target.clone())));
    }

    fn add_blob(&mut self, digest: String, data: Bytes, labels: BTreeMap<String, String>) {
        if !self.blobs.iter().any(|blob| blob.digest == digest) {
            self.blobs.push(Blob { digest, data, labels });
        }
    }

    /// Writes the archive as an OCI layout in a tar.
    pub fn write(&self) -> Vec<u8> {
        let named = self.images.iter().map(|(name, target)| {
            let mut target = target.clone();
            target.annotations.insert(IMAGE_NAME.into(), name.clone());
            target.annotations.insert(REF_NAME.into(), name.clone());
            target
        });
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": named.collect::<Vec<_>>(),
        });
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
        append(&mut tar, "index.json", index.to_string().as_bytes(), 0o644);
        for blob in &self.blobs {
            append(&mut tar, &format!("blobs/{}", blob.digest.replace(':', "/")), &blob.data, 0o644);
        }
        finish(tar)
    }
}

/// The tar's bytes.
pub fn finish(tar: tar::Builder<Vec<u8>>) -> Vec<u8> {
    tar.into_inner().expect("writing into memory does not fail")
}

/// Adds a file to a tar, owned by root and as old as can be, so that the same content gives the same bytes.
pub fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, data: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, path, data).expect("writing into memory does not fail");
}

/// Adds a symbolic link to a tar.
pub fn append_link(tar: &mut tar::Builder<Vec<u8>>, path: &str, target: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    header.set_mtime(0);
    tar.append_link(&mut header, path, target).expect("writing into memory does not fail");
}

/// The architecture's name in image configurations (Go's `GOARCH`).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn is_gzip(data: &[u8]) -> bool {
    data.starts_with(&[0x1f, 0x8b])
}

/// The files of a tar by path; links to files in it are followed.
fn files(archive: Bytes) -> Result<BTreeMap<String, Bytes>> {
    let archive = if is_gzip(&archive) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&*archive).read_to_end(&mut plain).map_err(invalid)?;
        Bytes::from(plain)
    } else {
        archive
    };
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    for entry in tar::Archive::new(&*archive).entries().map_err(invalid)? {
        let entry = entry.map_err(invalid)?;
        let path = clean(&entry.path().map_err(invalid)?);
        match entry.header().entry_type() {
            kind if kind.is_file() => {
                let start = usize::try_from(entry.raw_file_position()).map_err(invalid)?;
                let end = start.saturating_add(usize::try_from(entry.size()).map_err(invalid)?);
                if end > archive.len() {
                    return Err(invalid(format!("{path} is cut off")));
                }
                files.insert(path, archive.slice(start..end));
            }
            kind if kind.is_symlink() || kind.is_hard_link() => {
                let target = entry.link_name().map_err(invalid)?.unwrap_or_default();
                let directory = std::path::Path::new(&path).parent().unwrap_or("".as_ref());
                let target = if kind.is_symlink() { directory.join(target) } else { target.into_owned() };
                links.push((path, clean(&target)));
            }
            _ => {}
        }
    }
    for (path, target) in links {
        if let Some(data) = files.get(&target).cloned() {
            files.insert(path, data);
        }
    }
    Ok(files)
}

/// A path without `.` and `..`.
fn clean(path: &std::path::Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts.join("/")
}

fn json<T: serde::de::DeserializeOwned>(what: &str, data: &[u8]) -> Result<T> {
    serde_json::from_slice(data).map_err(|error| invalid(format!("{what}: {error}")))
}

fn read_layout(files: &BTreeMap<String, Bytes>, base_name: &str) -> Result<Archive> {
    let index: Index = json("index.json", &files["index.json"])?;
    let mut archive = Archive::default();
    for descriptor in index.manifests {
        let Some(name) = name_of(&descriptor.annotations, base_name)? else { continue };
        if !add_tree(files, &descriptor, &mut archive, 0)? {
            return Err(invalid(format!("it has no blob {}", descriptor.digest)));
        }
        archive.images.push((name, descriptor));
    }
    Ok(archive)
}

/// The full name that an index gives one of its images, `None` when it gives none.
fn name_of(annotations: &BTreeMap<String, String>, base_name: &str) -> Result<Option<String>> {
    if let Some(name) = annotations.get(IMAGE_NAME) {
        return Ok(Some(reference::normalize(name)));
    }
    match annotations.get(REF_NAME) {
        None => Ok(None),
        Some(name) if name.contains(['/', ':']) => Ok(Some(reference::normalize(name))),
        Some(tag) if base_name.is_empty() => Err(invalid(format!("it names an image {tag:?} only, which is a tag"))),
        Some(tag) => Ok(Some(reference::normalize(&format!("{base_name}:{tag}")))),
    }
}

/// Adds a blob and all it refers to; `false` when the blob itself is not in the archive.
fn add_tree(
    files: &BTreeMap<String, Bytes>,
    descriptor: &Descriptor,
    archive: &mut Archive,
    depth: usize,
) -> Result<bool> {
    if depth > DEPTH_MAX {
        return Err(invalid("its indexes are nested too deep"));
    }
    let Some(data) = files.get(&format!("blobs/{}", descriptor.digest.replace(':', "/"))) else { return Ok(false) };
    if digest(data) != descriptor.digest {
        return Err(invalid(format!("the blob {} is damaged", descriptor.digest)));
    }
    let mut labels = BTreeMap::new();
    match descriptor.media_type.as_str() {
        INDEX | DOCKER_INDEX => {
            // An index may name other platforms' manifests, which need not be here.
            for (n, child) in json::<Index>("an index", data)?.manifests.iter().enumerate() {
                if add_tree(files, child, archive, depth + 1)? {
                    labels.insert(format!("containerd.io/gc.ref.content.m.{n}"), child.digest.clone());
                }
            }
        }
        MANIFEST | DOCKER_MANIFEST => {
            let manifest: Manifest = json("a manifest", data)?;
            for child in manifest.layers.iter().chain([&manifest.config]) {
                if !add_tree(files, child, archive, depth + 1)? {
                    return Err(invalid(format!("it has no blob {}", child.digest)));
                }
            }
            labels = manifest_labels(&manifest.config, &manifest.layers);
        }
        _ => {}
    }
    archive.add_blob(descriptor.digest.clone(), data.clone(), labels);
    Ok(true)
}

fn manifest_labels(config: &Descriptor, layers: &[Descriptor]) -> BTreeMap<String, String> {
    let config = [("containerd.io/gc.ref.content.config".to_owned(), config.digest.clone())];
    let layers = layers.iter().enumerate();
    config
        .into_iter()
        .chain(layers.map(|(n, l)| (format!("containerd.io/gc.ref.content.l.{n}"), l.digest.clone())))
        .collect()
}

fn read_docker(files: &BTreeMap<String, Bytes>) -> Result<Archive> {
    let file =
        |path: &str| files.get(&clean(path.as_ref())).cloned().ok_or_else(|| invalid(format!("it has no file {path}")));
    let mut archive = Archive::default();
    for image in json::<Vec<DockerImage>>("manifest.json", &files["manifest.json"])? {
        let names = image.repo_tags.unwrap_or_default().iter().map(|tag| reference::normalize(tag)).collect();
        let layers = image.layers.iter().map(|path| file(path)).collect::<Result<Vec<_>>>()?;
        archive.add_image(names, file(&image.config)?, layers);
    }
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Archive {
        let mut layer = tar::Builder::new(Vec::new());
        append(&mut layer, "hello", b"hi", 0o644);
        Archive::single("example/hello:1", finish(layer), &serde_json::json!({}))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let archive = small();
        let read = Archive::read(archive.write().into(), "").unwrap();
        assert_eq!(read.names(), ["docker.io/example/hello:1"]);
        assert_eq!(read.images[0].1.digest, archive.images[0].1.digest);
        assert_eq!(read.blobs.len(), 3);
        assert_eq!(read.blobs[2].labels.len(), 2, "the manifest refers to its configuration and its layer");
    }

    #[test]
    fn a_gzipped_docker_archive_with_linked_layers() {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "a/layer.tar", b"one", 0o644);
        append_link(&mut tar, "b/layer.tar", "../a/layer.tar");
        append(&mut tar, "c.json", b"{}", 0o644);
        let manifest = r#"[{"Config":"c.json","RepoTags":["hello:1"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
        append(&mut tar, "manifest.json", manifest.as_bytes(), 0o644);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &finish(tar)).unwrap();
        let read = Archive::read(gzip.finish().unwrap().into(), "").unwrap();
        assert_eq!(read.names(), ["docker.io/library/hello:1"]);
        assert_eq!(read.blobs.len(), 3, "the same layer twice is one blob");
    }

    #[test]
    fn a_tag_needs_a_name_to_go_with() {
        let tag = BTreeMap::from([(REF_NAME.to_owned(), "v1".to_owned())]);
        assert_eq!(name_of(&tag, "web").unwrap().as_deref(), Some("docker.io/library/web:v1"));
        assert!(name_of(&tag, "").is_err());
    }

    #[test]
    fn damage_is_refused() {
        let mut archive = small();
        archive.blobs[0].data = Bytes::from_static(b"other");
        let error = Archive::read(archive.write().into(), "").unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        archive.blobs.remove(0);
        let error = Archive::read(archive.write().into(), "").unwrap_err();
        assert!(error.to_string().contains("it has no blob"), "{error}");
        for junk in [&b"junk"[..], b"", &[0x1f, 0x8b, 0]] {
            assert!(matches!(Archive::read(Bytes::copy_from_slice(junk), ""), Err(Error::Invalid(_))));
        }
    }
}
