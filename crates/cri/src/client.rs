//! A runtime over CRI v1 on a Unix socket. The connection is made on first use and again after it broke.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};

use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::{Error, EventStream, Result, events, import, v1};

/// Ordinary calls (kubelet's `runtimeRequestTimeout`).
const DEADLINE: Duration = Duration::from_secs(120);

/// The largest answer taken; a node's whole list of containers must fit (upstream's limit).
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where containerd listens unless told otherwise.
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// Where CRI-O listens unless told otherwise.
const CRIO_SOCKET: &str = "/var/run/crio/crio.sock";

/// A connection to a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    socket: PathBuf,
    runtime_name: String,
}

/// The socket that `endpoint` names. See [`crate::Runtime::connect`].
fn socket_path(endpoint: &str) -> Result<PathBuf> {
    match endpoint {
        "containerd" => Ok(CONTAINERD_SOCKET.into()),
        "cri-o" | "crio" => Ok(CRIO_SOCKET.into()),
        "docker" => Err(Error::Unsupported("the docker runtime is not supported yet; use containerd or CRI-O".into())),
        _ => match endpoint.strip_prefix("unix://").unwrap_or(endpoint) {
            path if path.starts_with('/') => Ok(path.into()),
            _ => Err(Error::Unsupported(format!("{endpoint:?} is no runtime: give containerd, cri-o or unix:///PATH"))),
        },
    }
}

/// A channel over the Unix socket at `path`; dialled on first use.
fn channel(path: &Path) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", path.display()));
    let endpoint = endpoint.map_err(|error| Error::Unsupported(format!("{}: {error}", path.display())))?;
    Ok(endpoint.connect_lazy())
}

/// Makes the call, ended after `limit`; the runtime is told the limit too.
async fn within<Q, A, F>(limit: Duration, message: Q, call: impl FnOnce(tonic::Request<Q>) -> F) -> Result<A>
where
    F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
{
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    match tokio::time::timeout(limit + Duration::from_secs(1), call(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        // Which code a timeout gets depends on which side noticed it first.
        Ok(Err(status)) if status.code() == tonic::Code::Cancelled => Err(Error::Deadline),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(Error::Deadline),
    }
}

impl Client {
    /// See [`crate::Runtime::connect`].
    ///
    /// # Errors
    /// See [`crate::Runtime::connect`].
    pub async fn connect(endpoint: &str) -> Result<Self> {
        let socket = socket_path(endpoint)?;
        let channel = channel(&socket)?;
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut service = runtime.clone();
        let request = v1::VersionRequest { version: "v1".into() };
        let version = match within(DEADLINE, request, |request| async move { service.version(request).await }).await {
            Ok(version) => version,
            Err(error) => {
                return Err(match error {
                    Error::Unimplemented => {
                        Error::Unsupported(format!("the runtime at {} does not speak CRI v1", socket.display()))
                    }
                    Error::Unavailable(message) => {
                        Error::Unavailable(format!("the runtime at {} cannot be reached: {message}", socket.display()))
                    }
                    error => error,
                });
            }
        };
        tracing::debug!(name = version.runtime_name, version = version.runtime_version, "connected to the runtime");
        Ok(Self(Arc::new(Inner {
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            runtime,
            channel,
            socket,
            runtime_name: version.runtime_name,
        })))
    }

    /// The socket the runtime listens on.
    pub fn socket(&self) -> &Path {
        &self.0.socket
    }

    /// The runtime's name: `containerd`, `cri-o`.
    pub fn runtime_name(&self) -> &str {
        &self.0.runtime_name
    }

    pub(crate) fn channel(&self) -> Channel {
        self.0.channel.clone()
    }

    pub(crate) fn runtime_service(&self) -> RuntimeServiceClient<Channel> {
        self.0.runtime.clone()
    }

    /// See [`crate::Runtime::events`].
    pub fn events(&self) -> EventStream {
        events::of(self)
    }

    /// See [`crate::Runtime::import_image`].
    pub async fn import_image(&self, archive: Bytes, base_name: &str) -> Result<Vec<String>> {
        if self.0.runtime_name != "containerd" {
            return Err(Error::Unimplemented);
        }
        import::import(self, archive, base_name).await
    }
}

/// Writes methods that are one call each: the service, the call, its request, and what of the answer is given back.
macro_rules! calls {
    ($($service:ident $name:ident($($argument:ident: $type:ty),*) -> $answer:ty
        = $call:ident $request:expr, $limit:expr, |$got:ident| $give:expr;)*) => {
        impl Client {
            $(
                /// See [`crate::Runtime`].
                pub async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                    let mut service = self.0.$service.clone();
                    let limit = $limit;
                    let $got = within(limit, $request, |request| async move { service.$call(request).await }).await?;
                    Ok($give)
                }
            )*
        }
    };
}

calls! {
    runtime version() -> v1::VersionResponse = version v1::VersionRequest { version: "v1".into() }, DEADLINE, |a| a;
    runtime status(verbose: bool) -> v1::StatusResponse = status v1::StatusRequest { verbose }, DEADLINE, |a| a;
    runtime runtime_config() -> v1::RuntimeConfigResponse
        = runtime_config v1::RuntimeConfigRequest {}, DEADLINE, |a| a;
    runtime update_runtime_config(pod_cidr: &str) -> ()
        = update_runtime_config v1::UpdateRuntimeConfigRequest {
            runtime_config: Some(v1::RuntimeConfig {
                network_config: Some(v1::NetworkConfig { pod_cidr: pod_cidr.into() }),
            }),
        }, DEADLINE, |_a| ();

    runtime run_pod_sandbox(config: v1::PodSandboxConfig, runtime_handler: &str) -> String
        = run_pod_sandbox v1::RunPodSandboxRequest { config: Some(config), runtime_handler: runtime_handler.into() },
        2 * DEADLINE, |a| a.pod_sandbox_id;
    runtime try_stop_pod_sandbox(id: &str) -> ()
        = stop_pod_sandbox v1::StopPodSandboxRequest { pod_sandbox_id: id.into() }, DEADLINE, |_a| ();
    runtime try_remove_pod_sandbox(id: &str) -> ()
        = remove_pod_sandbox v1::RemovePodSandboxRequest { pod_sandbox_id: id.into() }, DEADLINE, |_a| ();
    runtime pod_sandbox_status(id: &str, verbose: bool) -> v1::PodSandboxStatusResponse
        = pod_sandbox_status v1::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose }, DEADLINE, |a| a;
    runtime list_pod_sandbox(filter: Option<v1::PodSandboxFilter>) -> Vec<v1::PodSandbox>
        = list_pod_sandbox v1::ListPodSandboxRequest { filter }, DEADLINE, |a| a.items;
    runtime update_pod_sandbox_resources(request: v1::UpdatePodSandboxResourcesRequest) -> ()
        = update_pod_sandbox_resources request, DEADLINE, |_a| ();

    runtime create_container(
        pod_sandbox_id: &str, config: v1::ContainerConfig, sandbox_config: v1::PodSandboxConfig
    ) -> String
        = create_container v1::CreateContainerRequest {
            pod_sandbox_id: pod_sandbox_id.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        }, DEADLINE, |a| a.container_id;
    runtime start_container(id: &str) -> ()
        = start_container v1::StartContainerRequest { container_id: id.into() }, DEADLINE, |_a| ();
    runtime try_stop_container(id: &str, grace_seconds: i64) -> ()
        = stop_container v1::StopContainerRequest { container_id: id.into(), timeout: grace_seconds },
        DEADLINE + Duration::from_secs(grace_seconds.max(0).unsigned_abs()), |_a| ();
    runtime try_remove_container(id: &str) -> ()
        = remove_container v1::RemoveContainerRequest { container_id: id.into() }, DEADLINE, |_a| ();
    runtime list_containers(filter: Option<v1::ContainerFilter>) -> Vec<v1::Container>
        = list_containers v1::ListContainersRequest { filter }, DEADLINE, |a| a.containers;
    runtime container_status(id: &str, verbose: bool) -> v1::ContainerStatusResponse
        = container_status v1::ContainerStatusRequest { container_id: id.into(), verbose }, DEADLINE, |a| a;
    runtime update_container_resources(
        id: &str, linux: v1::LinuxContainerResources, annotations: BTreeMap<String, String>
    ) -> ()
        = update_container_resources v1::UpdateContainerResourcesRequest {
            container_id: id.into(),
            linux: Some(linux),
            annotations,
        }, DEADLINE, |_a| ();
    runtime reopen_container_log(id: &str) -> ()
        = reopen_container_log v1::ReopenContainerLogRequest { container_id: id.into() }, DEADLINE, |_a| ();

    runtime exec(request: v1::ExecRequest) -> String = exec request, DEADLINE, |a| a.url;
    runtime attach(request: v1::AttachRequest) -> String = attach request, DEADLINE, |a| a.url;
    runtime port_forward(request: v1::PortForwardRequest) -> String = port_forward request, DEADLINE, |a| a.url;

    runtime container_stats(id: &str) -> v1::ContainerStats
        = container_stats v1::ContainerStatsRequest { container_id: id.into() }, DEADLINE,
        |a| a.stats.unwrap_or_default();
    runtime list_container_stats(filter: Option<v1::ContainerStatsFilter>) -> Vec<v1::ContainerStats>
        = list_container_stats v1::ListContainerStatsRequest { filter }, DEADLINE, |a| a.stats;
    runtime pod_sandbox_stats(id: &str) -> v1::PodSandboxStats
        = pod_sandbox_stats v1::PodSandboxStatsRequest { pod_sandbox_id: id.into() }, DEADLINE,
        |a| a.stats.unwrap_or_default();
    runtime list_pod_sandbox_stats(filter: Option<v1::PodSandboxStatsFilter>) -> Vec<v1::PodSandboxStats>
        = list_pod_sandbox_stats v1::ListPodSandboxStatsRequest { filter }, DEADLINE, |a| a.stats;

    images list_images(filter: Option<v1::ImageFilter>) -> Vec<v1::Image>
        = list_images v1::ListImagesRequest { filter }, DEADLINE, |a| a.images;
    images image_status(image: v1::ImageSpec) -> Option<v1::Image>
        = image_status v1::ImageStatusRequest { image: Some(image), verbose: false }, DEADLINE, |a| a.image;
    images remove_image(image: v1::ImageSpec) -> ()
        = remove_image v1::RemoveImageRequest { image: Some(image) }, DEADLINE, |_a| ();
    images image_fs_info() -> v1::ImageFsInfoResponse = image_fs_info v1::ImageFsInfoRequest {}, DEADLINE, |a| a;
}

/// An end that has come already is an end: containerd 1.6 tells some of them as errors.
fn done(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(Error::NotFound(_)) => Ok(()),
        outcome => outcome,
    }
}

impl Client {
    /// See [`crate::Runtime::stop_pod_sandbox`].
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        done(self.try_stop_pod_sandbox(id).await)
    }

    /// See [`crate::Runtime::remove_pod_sandbox`].
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        done(self.try_remove_pod_sandbox(id).await)
    }

    /// See [`crate::Runtime::stop_container`].
    pub async fn stop_container(&self, id: &str, grace_seconds: i64) -> Result<()> {
        done(self.try_stop_container(id, grace_seconds).await)
    }

    /// See [`crate::Runtime::remove_container`].
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        done(self.try_remove_container(id).await)
    }

    /// See [`crate::Runtime::exec_sync`].
    pub async fn exec_sync(&self, id: &str, cmd: Vec<String>, timeout_seconds: i64) -> Result<v1::ExecSyncResponse> {
        let message = v1::ExecSyncRequest { container_id: id.into(), cmd, timeout: timeout_seconds };
        let mut service = self.0.runtime.clone().max_decoding_message_size(2 * MESSAGE_BYTES_MAX + 1024);
        if timeout_seconds <= 0 {
            return Ok(service.exec_sync(message).await?.into_inner());
        }
        let limit = DEADLINE + Duration::from_secs(timeout_seconds.unsigned_abs());
        within(limit, message, |request| async move { service.exec_sync(request).await }).await
    }

    /// See [`crate::Runtime::pull_image`].
    pub async fn pull_image(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        sandbox_config: Option<v1::PodSandboxConfig>,
    ) -> Result<String> {
        let message = v1::PullImageRequest { image: Some(image), auth, sandbox_config };
        Ok(self.0.images.clone().pull_image(message).await?.into_inner().image_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (endpoint, expected) in [
            ("containerd", CONTAINERD_SOCKET),
            ("cri-o", CRIO_SOCKET),
            ("unix:///run/x.sock", "/run/x.sock"),
            ("/run/x.sock", "/run/x.sock"),
        ] {
            assert_eq!(socket_path(endpoint), Ok(PathBuf::from(expected)));
        }
        for endpoint in ["docker", "podman", "tcp://127.0.0.1:1", ""] {
            assert!(matches!(socket_path(endpoint), Err(Error::Unsupported(_))), "{endpoint}");
        }
    }
}
