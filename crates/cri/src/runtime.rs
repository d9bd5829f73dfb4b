//! The handle to whichever runtime a node has. Its methods are CRI's calls; what each backend does is in its own file.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Client, Error, EventStream, Fake, Result, v1};

/// A container runtime. Cheap to clone; clones share the connection.
///
/// Every call has a deadline of two minutes, more where it takes longer by nature (upstream: kubelet's
/// `runtimeRequestTimeout`); past it the answer is [`Error::Deadline`].
#[derive(Clone, Debug)]
pub enum Runtime {
    /// containerd, CRI-O or another runtime, over CRI v1.
    Cri(Client),
    /// The in-memory runtime of tests and simulations.
    Fake(Fake),
}

impl Runtime {
    /// Connects to `endpoint`: `unix:///PATH`, `/PATH`, or the name of a runtime at its usual place (`containerd`,
    /// `cri-o`).
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nothing listens there yet; [`Error::Unsupported`] when what listens does not speak
    /// CRI v1, and for Docker.
    pub async fn connect(endpoint: &str) -> Result<Self> {
        Ok(Self::Cri(Client::connect(endpoint).await?))
    }

    /// What happens to sandboxes and containers from now on. See [`EventStream`].
    pub fn events(&self) -> EventStream {
        match self {
            Self::Cri(client) => client.events(),
            Self::Fake(fake) => fake.events(),
        }
    }

    /// Imports an image archive (OCI layout or `docker save`, a plain or gzipped tar) and returns the full names it
    /// gave. An image that the archive gives only a tag is named `base_name:TAG`; without a `base_name` it is refused.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the archive is neither or is damaged; [`Error::Unimplemented`] when the runtime has no
    /// way to import (only containerd has).
    pub async fn import_image(&self, archive: Bytes, base_name: &str) -> Result<Vec<String>> {
        match self {
            Self::Cri(client) => client.import_image(archive, base_name).await,
            Self::Fake(fake) => fake.import_image(archive, base_name).await,
        }
    }
}

/// Writes the methods that both backends have.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Runtime {
            $(
                $(#[$doc])*
                pub async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                    match self {
                        Self::Cri(client) => client.$name($($argument),*).await,
                        Self::Fake(fake) => fake.$name($($argument),*).await,
                    }
                }
            )*
        }
    };
}

calls! {
    /// The runtime's name and version.
    version() -> v1::VersionResponse;
    /// The conditions `RuntimeReady` and `NetworkReady`; `verbose` adds the runtime's own information.
    status(verbose: bool) -> v1::StatusResponse;
    /// Which cgroup driver the runtime wants. [`Error::Unimplemented`] on containerd 1.x.
    runtime_config() -> v1::RuntimeConfigResponse;
    /// Tells the runtime the node's pod CIDR.
    update_runtime_config(pod_cidr: &str) -> ();

    /// Creates and starts a sandbox and returns its id. An empty `runtime_handler` is the default one. Four minutes.
    run_pod_sandbox(config: v1::PodSandboxConfig, runtime_handler: &str) -> String;
    /// Stops a sandbox and all in it and gives its network back. Not there: done.
    stop_pod_sandbox(id: &str) -> ();
    /// Removes a sandbox and all in it. Not there: done.
    remove_pod_sandbox(id: &str) -> ();
    /// The state of one sandbox; `verbose` adds the runtime's own information (containerd: `pid`, `runtimeSpec`, ...).
    pod_sandbox_status(id: &str, verbose: bool) -> v1::PodSandboxStatusResponse;
    /// The sandboxes that pass `filter`, all without one.
    list_pod_sandbox(filter: Option<v1::PodSandboxFilter>) -> Vec<v1::PodSandbox>;
    /// Tells the runtime of a resized pod. Best effort; [`Error::Unimplemented`] on older runtimes.
    update_pod_sandbox_resources(request: v1::UpdatePodSandboxResourcesRequest) -> ();

    /// Creates a container and returns its id.
    create_container(
        pod_sandbox_id: &str, config: v1::ContainerConfig, sandbox_config: v1::PodSandboxConfig
    ) -> String;
    /// Starts a created container.
    start_container(id: &str) -> ();
    /// Stops a container, with force after `grace_seconds`. The deadline is two minutes more. Not running: done.
    stop_container(id: &str, grace_seconds: i64) -> ();
    /// Removes a container, with force if it runs. Not there: done.
    remove_container(id: &str) -> ();
    /// The containers that pass `filter`, all without one.
    list_containers(filter: Option<v1::ContainerFilter>) -> Vec<v1::Container>;
    /// The state of one container; `verbose` adds the runtime's own information (containerd: `pid`, ...).
    container_status(id: &str, verbose: bool) -> v1::ContainerStatusResponse;
    /// Changes a container's resources in place.
    update_container_resources(
        id: &str, linux: v1::LinuxContainerResources, annotations: BTreeMap<String, String>
    ) -> ();
    /// Makes the runtime open the container's log file anew, after it was rotated.
    reopen_container_log(id: &str) -> ();

    /// Runs a command in a container to its end. `timeout_seconds` 0 is no limit; past the limit the answer is
    /// [`Error::Deadline`].
    exec_sync(id: &str, command: Vec<String>, timeout_seconds: i64) -> v1::ExecSyncResponse;
    /// Prepares a stream to a new command; returns the URL to which it is opened.
    exec(request: v1::ExecRequest) -> String;
    /// Prepares a stream to a container's first process; returns the URL to which it is opened.
    attach(request: v1::AttachRequest) -> String;
    /// Prepares a stream to ports of a sandbox; returns the URL to which it is opened.
    port_forward(request: v1::PortForwardRequest) -> String;

    /// The figures of one container.
    container_stats(id: &str) -> v1::ContainerStats;
    /// The figures of the running containers that pass `filter`.
    list_container_stats(filter: Option<v1::ContainerStatsFilter>) -> Vec<v1::ContainerStats>;
    /// The figures of one sandbox.
    pod_sandbox_stats(id: &str) -> v1::PodSandboxStats;
    /// The figures of the sandboxes that pass `filter`.
    list_pod_sandbox_stats(filter: Option<v1::PodSandboxStatsFilter>) -> Vec<v1::PodSandboxStats>;

    /// The images on the node.
    list_images(filter: Option<v1::ImageFilter>) -> Vec<v1::Image>;
    /// One image, `None` when it is not on the node.
    image_status(image: v1::ImageSpec) -> Option<v1::Image>;
    /// Fetches an image and returns its reference. No deadline of its own: runtimes end a pull that makes no progress.
    pull_image(
        image: v1::ImageSpec, auth: Option<v1::AuthConfig>, sandbox_config: Option<v1::PodSandboxConfig>
    ) -> String;
    /// Removes an image with all its names. Not there: done.
    remove_image(image: v1::ImageSpec) -> ();
    /// How much room images take.
    image_fs_info() -> v1::ImageFsInfoResponse;
}

impl v1::ImageSpec {
    /// An image by its name or id.
    pub fn named(image: &str) -> Self {
        Self { image: image.to_owned(), ..Self::default() }
    }
}

impl Runtime {
    /// The names of all images on the node, sorted: what `pintle image list` prints.
    ///
    /// # Errors
    /// As [`Runtime::list_images`].
    pub async fn image_names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> =
            self.list_images(None).await?.into_iter().flat_map(|image| image.repo_tags).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// Whether `labels` has every pair of `selector`.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The error of a call that names something the runtime does not know.
pub(crate) fn not_found(what: &str, id: &str) -> Error {
    Error::NotFound(format!("an error occurred when try to find {what} {id:?}: not found"))
}
