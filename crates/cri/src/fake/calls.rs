//! The calls of the fake runtime. See [`crate::Runtime`] for what each is for.

use bytes::Bytes;

use super::state::{Container, State, image, image_id};
use super::*;
use crate::runtime::{not_found, selects};
use crate::v1::{ContainerState, NamespaceMode, PodSandboxState};

#[allow(missing_docs)] // they are those of `Runtime`
impl Fake {
    pub async fn version(&self) -> Result<v1::VersionResponse> {
        let _state = self.enter("version")?;
        Ok(v1::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1.0.0".into(),
            runtime_api_version: "v1".into(),
        })
    }

    pub async fn status(&self, _verbose: bool) -> Result<v1::StatusResponse> {
        let state = self.enter("status")?;
        let ready = |kind: &str, status| v1::RuntimeCondition { r#type: kind.into(), status, ..Default::default() };
        let mut network = ready("NetworkReady", !state.network_not_ready);
        if state.network_not_ready {
            network.reason = "NetworkPluginNotReady".into();
            network.message = "Network plugin returns error: cni plugin not initialized".into();
        }
        let conditions = vec![ready("RuntimeReady", true), network];
        Ok(v1::StatusResponse { status: Some(v1::RuntimeStatus { conditions }), ..Default::default() })
    }

    pub async fn runtime_config(&self) -> Result<v1::RuntimeConfigResponse> {
        let _state = self.enter("runtime_config")?;
        let mut linux = v1::LinuxRuntimeConfiguration::default();
        linux.set_cgroup_driver(v1::CgroupDriver::Cgroupfs);
        Ok(v1::RuntimeConfigResponse { linux: Some(linux) })
    }

    pub async fn update_runtime_config(&self, pod_cidr: &str) -> Result<()> {
        let mut state = self.enter("update_runtime_config")?;
        let first = pod_cidr.split(',').next().unwrap_or("").split('/').next().unwrap_or("");
        state.pod_cidr = first.parse().ok().or(state.pod_cidr);
        Ok(())
    }

    pub async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig, runtime_handler: &str) -> Result<String> {
        let Some(metadata) = config.metadata.clone() else {
            return Err(Error::failed("sandbox config must include metadata"));
        };
        drop(self.enter("run_pod_sandbox")?);
        if !runtime_handler.is_empty() && !self.0.options.handlers.iter().any(|handler| handler == runtime_handler) {
            return Err(Error::failed(format!("no runtime for {runtime_handler:?} is configured")));
        }
        let (id, created_at) = (self.new_id(), self.now_nanos());
        {
            let mut state = self.state();
            if let Some(other) = state.sandboxes.values().find(|other| other.metadata.as_ref() == Some(&metadata)) {
                let v1::PodSandboxMetadata { name, uid, namespace, attempt } = metadata;
                let name = format!("{name}_{namespace}_{uid}_{attempt}");
                let taken = format!("failed to reserve sandbox name {name:?}: name {name:?} is reserved for");
                return Err(Error::failed(format!("{taken} {:?}", other.id)));
            }
            let options = config.linux.and_then(|linux| linux.security_context).and_then(|c| c.namespace_options);
            let status = v1::PodSandboxStatus {
                id: id.clone(),
                metadata: Some(metadata),
                state: PodSandboxState::SandboxNotready.into(),
                created_at,
                network: None,
                linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options }) }),
                labels: config.labels,
                annotations: config.annotations,
                runtime_handler: runtime_handler.to_owned(),
            };
            state.sandboxes.insert(id.clone(), status);
            state.log_directories.insert(id.clone(), config.log_directory.into());
        }
        self.0.clock.sleep(self.0.options.sandbox_start).await;
        {
            let mut state = self.state();
            let host = state.sandboxes.get(&id).is_some_and(on_host_network);
            let network = if host || state.addressless {
                v1::PodSandboxNetworkStatus::default()
            } else {
                v1::PodSandboxNetworkStatus { ip: state.next_address(), additional_ips: Vec::new() }
            };
            let sandbox = state.sandboxes.get_mut(&id).ok_or_else(|| not_found("sandbox", &id))?;
            sandbox.set_state(PodSandboxState::SandboxReady);
            sandbox.network = Some(network);
        }
        self.send(&id, EventKind::Started);
        Ok(id)
    }

    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        drop(self.enter("stop_pod_sandbox")?);
        self.end_sandbox(id);
        Ok(())
    }

    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        drop(self.enter("remove_pod_sandbox")?);
        self.end_sandbox(id);
        let gone: Vec<String> = {
            let mut state = self.state();
            let inside = state.containers.iter().filter(|(_, container)| container.sandbox_id == id);
            let mut gone: Vec<String> = inside.map(|(id, _)| id.clone()).collect();
            for container in &gone {
                state.containers.remove(container);
            }
            state.log_directories.remove(id);
            gone.extend(state.sandboxes.remove(id).map(|sandbox| sandbox.id));
            gone
        };
        for id in gone {
            self.send(&id, EventKind::Deleted);
        }
        Ok(())
    }

    pub async fn pod_sandbox_status(&self, id: &str, _verbose: bool) -> Result<v1::PodSandboxStatusResponse> {
        let state = self.enter("pod_sandbox_status")?;
        let status = state.sandboxes.get(id).cloned().ok_or_else(|| not_found("sandbox", id))?;
        Ok(v1::PodSandboxStatusResponse { status: Some(status), ..Default::default() })
    }

    pub async fn list_pod_sandbox(&self, filter: Option<v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>> {
        let state = self.enter("list_pod_sandbox")?;
        let filter = filter.unwrap_or_default();
        let passes = |sandbox: &&v1::PodSandboxStatus| {
            sandbox.id.starts_with(&filter.id)
                && filter.state.is_none_or(|wanted| wanted.state == sandbox.state)
                && selects(&filter.label_selector, &sandbox.labels)
        };
        let brief = |sandbox: &v1::PodSandboxStatus| v1::PodSandbox {
            id: sandbox.id.clone(),
            metadata: sandbox.metadata.clone(),
            state: sandbox.state,
            created_at: sandbox.created_at,
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
            runtime_handler: sandbox.runtime_handler.clone(),
        };
        Ok(state.sandboxes.values().filter(passes).map(brief).collect())
    }

    pub async fn update_pod_sandbox_resources(&self, request: v1::UpdatePodSandboxResourcesRequest) -> Result<()> {
        let state = self.enter("update_pod_sandbox_resources")?;
        let id = &request.pod_sandbox_id;
        state.sandboxes.get(id).map(|_| ()).ok_or_else(|| not_found("sandbox", id))
    }

    pub async fn create_container(
        &self,
        pod_sandbox_id: &str,
        config: v1::ContainerConfig,
        _sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String> {
        let (id, created_at) = (self.new_id(), self.now_nanos());
        let mut state = self.enter("create_container")?;
        let Some(metadata) = config.metadata.clone() else {
            return Err(Error::failed("container config must include metadata"));
        };
        let sandbox = state.sandboxes.get(pod_sandbox_id).ok_or_else(|| not_found("sandbox", pod_sandbox_id))?;
        if sandbox.state() != PodSandboxState::SandboxReady {
            return Err(Error::NotFound(
                "failed to get sandbox container task: no running task found: not found".into(),
            ));
        }
        let same = |other: &&Container| {
            other.sandbox_id == pod_sandbox_id && other.status.metadata.as_ref() == Some(&metadata)
        };
        if let Some(other) = state.containers.values().find(same) {
            let v1::ContainerMetadata { name, attempt } = metadata;
            let taken = format!("failed to reserve container name \"{name}_{attempt}\": it is reserved for");
            return Err(Error::failed(format!("{taken} {:?}", other.status.id)));
        }
        let wanted = config.image.clone().unwrap_or_default().image;
        let Some(name) = state.find_image(&wanted) else {
            return Err(Error::NotFound(format!("failed to resolve image {wanted:?}: not found")));
        };
        let command: Vec<String> = config.command.iter().chain(&config.args).cloned().collect();
        let program = match state.programs.get(&name) {
            Some(program) if command.is_empty() => program.clone(),
            _ => Program::read(&command),
        };
        let directory = state.log_directories.get(pod_sandbox_id).cloned().unwrap_or_default();
        let log_path = if config.log_path.is_empty() { PathBuf::new() } else { directory.join(&config.log_path) };
        let linux = config.linux.as_ref().and_then(|linux| linux.resources.clone());
        let status = v1::ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: ContainerState::ContainerCreated.into(),
            created_at,
            image: Some(v1::ImageSpec::named(&name)),
            image_ref: image_id(&name),
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts,
            log_path: log_path.to_string_lossy().into_owned(),
            resources: Some(v1::ContainerResources { linux }),
            image_id: image_id(&name),
            ..Default::default()
        };
        let sandbox_id = pod_sandbox_id.to_owned();
        let container =
            Container { sandbox_id, status, program, run: 0, ended: Arc::default(), usage: (1_000_000, 4 << 20) };
        state.containers.insert(id.clone(), container);
        Ok(id)
    }

    pub async fn start_container(&self, id: &str) -> Result<()> {
        {
            let state = self.enter("start_container")?;
            let container = state.containers.get(id).ok_or_else(|| not_found("container", id))?;
            if container.status.state() != ContainerState::ContainerCreated {
                let now = container.status.state().as_str_name();
                return Err(Error::failed(format!("failed to set starting state for container {id:?}: {now}")));
            }
            if !state.sandboxes.get(&container.sandbox_id).is_some_and(is_ready) {
                let sandbox = &container.sandbox_id;
                return Err(Error::failed(format!("sandbox container {sandbox:?} is not running")));
            }
        }
        self.0.clock.sleep(self.0.options.container_start).await;
        let now = self.now_nanos();
        let (program, run, log_path) = {
            let mut state = self.state();
            state.runs += 1;
            let run = state.runs;
            let container = state.containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
            if container.program.missing {
                return Err(start_error(container, now));
            }
            container.run = run;
            container.status.set_state(ContainerState::ContainerRunning);
            container.status.started_at = now;
            (container.program.clone(), run, PathBuf::from(&container.status.log_path))
        };
        if self.0.options.logs && !log_path.as_os_str().is_empty() {
            write_log(&log_path, self.0.clock.now(), &program.lines)?;
        }
        self.send(id, EventKind::Started);
        if let Some(duration) = program.duration {
            let (fake, id) = (self.clone(), id.to_owned());
            self.0.tasks.spawn("fake container", async move {
                fake.0.clock.sleep(duration).await;
                if program.out_of_memory {
                    fake.send(&id, EventKind::Oom);
                }
                let reason = if program.out_of_memory { "OOMKilled" } else { "Error" };
                fake.finish(&id, Some(run), program.exit_code, reason);
            });
        }
        Ok(())
    }

    pub async fn stop_container(&self, id: &str, grace_seconds: i64) -> Result<()> {
        let (on_term, ended) = {
            let state = self.enter("stop_container")?;
            let Some(container) = state.containers.get(id) else { return Ok(()) };
            if container.status.state() != ContainerState::ContainerRunning {
                return Ok(());
            }
            (container.program.on_term, container.ended.clone().notified_owned())
        };
        match u64::try_from(grace_seconds) {
            Ok(grace_seconds) if grace_seconds > 0 => match on_term {
                Some(code) => self.finish(id, None, code, "Error"),
                None => {
                    tokio::select! {
                        biased;
                        () = ended => {}
                        () = self.0.clock.sleep(Duration::from_secs(grace_seconds)) => {}
                    }
                }
            },
            _ => {}
        }
        self.finish(id, None, 137, "Error");
        Ok(())
    }

    pub async fn remove_container(&self, id: &str) -> Result<()> {
        drop(self.enter("remove_container")?);
        self.finish(id, None, 137, "Error");
        if self.state().containers.remove(id).is_some() {
            self.send(id, EventKind::Deleted);
        }
        Ok(())
    }

    pub async fn list_containers(&self, filter: Option<v1::ContainerFilter>) -> Result<Vec<v1::Container>> {
        let state = self.enter("list_containers")?;
        let filter = filter.unwrap_or_default();
        let passes = |container: &&Container| {
            container.status.id.starts_with(&filter.id)
                && filter.state.is_none_or(|wanted| wanted.state == container.status.state)
                && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == container.sandbox_id)
                && selects(&filter.label_selector, &container.status.labels)
        };
        let brief = |container: &Container| v1::Container {
            id: container.status.id.clone(),
            pod_sandbox_id: container.sandbox_id.clone(),
            metadata: container.status.metadata.clone(),
            image: container.status.image.clone(),
            image_ref: container.status.image_ref.clone(),
            state: container.status.state,
            created_at: container.status.created_at,
            labels: container.status.labels.clone(),
            annotations: container.status.annotations.clone(),
            image_id: container.status.image_id.clone(),
        };
        Ok(state.containers.values().filter(passes).map(brief).collect())
    }

    pub async fn container_status(&self, id: &str, _verbose: bool) -> Result<v1::ContainerStatusResponse> {
        let state = self.enter("container_status")?;
        let container = state.containers.get(id).ok_or_else(|| not_found("container", id))?;
        Ok(v1::ContainerStatusResponse { status: Some(container.status.clone()), ..Default::default() })
    }

    pub async fn update_container_resources(
        &self,
        id: &str,
        linux: v1::LinuxContainerResources,
        _annotations: BTreeMap<String, String>,
    ) -> Result<()> {
        let mut state = self.enter("update_container_resources")?;
        let container = state.containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
        container.status.resources = Some(v1::ContainerResources { linux: Some(linux) });
        Ok(())
    }

    pub async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let state = self.enter("reopen_container_log")?;
        let container = state.containers.get(id).ok_or_else(|| not_found("container", id))?;
        match container.status.state() {
            ContainerState::ContainerRunning => Ok(()),
            _ => Err(Error::failed("container is not running")),
        }
    }

    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout_seconds: i64,
    ) -> Result<v1::ExecSyncResponse> {
        {
            let state = self.enter("exec_sync")?;
            let container = state.containers.get(id).ok_or_else(|| not_found("container", id))?;
            if container.status.state() != ContainerState::ContainerRunning {
                let now = container.status.state().as_str_name();
                return Err(Error::failed(format!("failed to exec in container: container is in {now} state")));
            }
            if let Some(answer) = state.execs.get(&command) {
                return Ok(answer.clone());
            }
        }
        let program = Program::read(&command);
        if program.missing {
            let name = command.first().cloned().unwrap_or_default();
            let cause = format!("exec: {name:?}: executable file not found in $PATH: unknown");
            return Err(Error::failed(format!("failed to exec in container: failed to start exec: {cause}")));
        }
        let limit = u64::try_from(timeout_seconds).ok().filter(|limit| *limit > 0).map(Duration::from_secs);
        let takes = program.duration.unwrap_or_default();
        if let Some(limit) = limit.filter(|limit| *limit < takes) {
            self.0.clock.sleep(limit).await;
            return Err(Error::Deadline);
        }
        self.0.clock.sleep(takes).await;
        let stdout = program.lines.iter().flat_map(|line| [line, "\n"]).collect::<String>().into_bytes();
        Ok(v1::ExecSyncResponse { stdout, stderr: Vec::new(), exit_code: program.exit_code })
    }

    /// The fake has no streaming server.
    pub async fn exec(&self, _request: v1::ExecRequest) -> Result<String> {
        self.enter("exec").and(Err(Error::Unimplemented))
    }

    /// The fake has no streaming server.
    pub async fn attach(&self, _request: v1::AttachRequest) -> Result<String> {
        self.enter("attach").and(Err(Error::Unimplemented))
    }

    /// The fake has no streaming server.
    pub async fn port_forward(&self, _request: v1::PortForwardRequest) -> Result<String> {
        self.enter("port_forward").and(Err(Error::Unimplemented))
    }

    pub async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats> {
        let now = self.now_nanos();
        let state = self.enter("container_stats")?;
        state.containers.get(id).map(|container| stats(container, now)).ok_or_else(|| not_found("container", id))
    }

    pub async fn list_container_stats(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>> {
        let now = self.now_nanos();
        let state = self.enter("list_container_stats")?;
        let filter = filter.unwrap_or_default();
        let passes = |container: &&Container| {
            container.status.state() == ContainerState::ContainerRunning
                && container.status.id.starts_with(&filter.id)
                && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == container.sandbox_id)
                && selects(&filter.label_selector, &container.status.labels)
        };
        Ok(state.containers.values().filter(passes).map(|container| stats(container, now)).collect())
    }

    pub async fn pod_sandbox_stats(&self, id: &str) -> Result<v1::PodSandboxStats> {
        let now = self.now_nanos();
        let state = self.enter("pod_sandbox_stats")?;
        let sandbox = state.sandboxes.get(id).ok_or_else(|| not_found("sandbox", id))?;
        Ok(sandbox_stats(&state, sandbox, now))
    }

    pub async fn list_pod_sandbox_stats(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>> {
        let now = self.now_nanos();
        let state = self.enter("list_pod_sandbox_stats")?;
        let filter = filter.unwrap_or_default();
        let passes = |sandbox: &&v1::PodSandboxStatus| {
            is_ready(sandbox) && sandbox.id.starts_with(&filter.id) && selects(&filter.label_selector, &sandbox.labels)
        };
        Ok(state.sandboxes.values().filter(passes).map(|sandbox| sandbox_stats(&state, sandbox, now)).collect())
    }

    pub async fn list_images(&self, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>> {
        let state = self.enter("list_images")?;
        let wanted = filter.and_then(|filter| filter.image).map(|spec| spec.image).filter(|name| !name.is_empty());
        match wanted {
            Some(wanted) => Ok(state.find_image(&wanted).map(|name| image(&name)).into_iter().collect()),
            None => Ok(state.images.iter().map(|name| image(name)).collect()),
        }
    }

    pub async fn image_status(&self, spec: v1::ImageSpec) -> Result<Option<v1::Image>> {
        let state = self.enter("image_status")?;
        Ok(state.find_image(&spec.image).map(|name| image(&name)))
    }

    pub async fn pull_image(
        &self,
        spec: v1::ImageSpec,
        _auth: Option<v1::AuthConfig>,
        _sandbox_config: Option<v1::PodSandboxConfig>,
    ) -> Result<String> {
        drop(self.enter("pull_image")?);
        self.0.clock.sleep(self.0.options.pull).await;
        let name = reference::normalize(&spec.image);
        let mut state = self.state();
        if !state.registry_has_all && !state.registry.contains(&name) {
            let cause = format!("failed to resolve reference {name:?}: {name}: not found");
            return Err(Error::NotFound(format!("failed to pull and unpack image {name:?}: {cause}")));
        }
        state.images.insert(name.clone());
        Ok(image_id(&name))
    }

    pub async fn remove_image(&self, spec: v1::ImageSpec) -> Result<()> {
        let mut state = self.enter("remove_image")?;
        if let Some(name) = state.find_image(&spec.image) {
            state.images.remove(&name);
        }
        Ok(())
    }

    pub async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse> {
        let timestamp = self.now_nanos();
        let state = self.enter("image_fs_info")?;
        let count = state.images.len() as u64;
        let usage = v1::FilesystemUsage {
            timestamp,
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: "/".into() }),
            used_bytes: Some(v1::UInt64Value { value: count * 1_000_000 }),
            inodes_used: Some(v1::UInt64Value { value: count * 100 }),
        };
        Ok(v1::ImageFsInfoResponse { image_filesystems: vec![usage], container_filesystems: Vec::new() })
    }

    pub async fn import_image(&self, archive: Bytes, base_name: &str) -> Result<Vec<String>> {
        let names = crate::archive::Archive::read(archive, base_name)?.names();
        drop(self.enter("import_image")?);
        names.iter().for_each(|name| self.add_image(name));
        Ok(names)
    }
}

fn is_ready(sandbox: &v1::PodSandboxStatus) -> bool {
    sandbox.state() == PodSandboxState::SandboxReady
}

fn on_host_network(sandbox: &v1::PodSandboxStatus) -> bool {
    let namespaces = sandbox.linux.as_ref().and_then(|linux| linux.namespaces.as_ref());
    namespaces.and_then(|n| n.options.as_ref()).is_some_and(|options| options.network() == NamespaceMode::Node)
}

/// The figures of a sandbox: those of its running containers, and their sums.
fn sandbox_stats(state: &State, sandbox: &v1::PodSandboxStatus, now_nanos: i64) -> v1::PodSandboxStats {
    let value = |value| Some(v1::UInt64Value { value });
    let inside = state.containers.values().filter(|container| {
        container.sandbox_id == sandbox.id && container.status.state() == ContainerState::ContainerRunning
    });
    let containers: Vec<v1::ContainerStats> = inside.map(|container| stats(container, now_nanos)).collect();
    let sum = |figure: fn(&v1::ContainerStats) -> Option<v1::UInt64Value>| {
        value(containers.iter().filter_map(figure).map(|found| found.value).sum())
    };
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: sandbox.metadata.clone(),
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: Some(v1::CpuUsage {
                timestamp: now_nanos,
                usage_core_nano_seconds: sum(|stats| stats.cpu.as_ref()?.usage_core_nano_seconds),
                usage_nano_cores: sum(|stats| stats.cpu.as_ref()?.usage_nano_cores),
                psi: None,
            }),
            memory: Some(v1::MemoryUsage {
                timestamp: now_nanos,
                working_set_bytes: sum(|stats| stats.memory.as_ref()?.working_set_bytes),
                usage_bytes: sum(|stats| stats.memory.as_ref()?.usage_bytes),
                ..Default::default()
            }),
            process: Some(v1::ProcessUsage { timestamp: now_nanos, process_count: value(containers.len() as u64 + 1) }),
            containers,
            ..Default::default()
        }),
    }
}

/// A program that is not in the image: the container is over before it ran.
fn start_error(container: &mut Container, now_nanos: i64) -> Error {
    let cause = "exec: \"no-such-program\": executable file not found in $PATH: unknown";
    let message = format!("failed to create containerd task: failed to create shim task: {cause}");
    container.status.set_state(ContainerState::ContainerExited);
    container.status.started_at = now_nanos;
    container.status.finished_at = now_nanos;
    container.status.exit_code = 128;
    container.status.reason = "StartError".into();
    container.status.message.clone_from(&message);
    Error::failed(message)
}

/// Log lines in CRI's format: time, stream, `F` for a full line, text.
fn write_log(path: &std::path::Path, now: base::Timestamp, lines: &[String]) -> Result<()> {
    let text: String = lines.iter().map(|line| format!("{now:.9} stdout F {line}\n")).collect();
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    Ok(std::fs::write(path, text)?)
}

fn stats(container: &Container, now_nanos: i64) -> v1::ContainerStats {
    let value = |value| Some(v1::UInt64Value { value });
    let (nano_cores, memory_bytes) = container.usage;
    let status = &container.status;
    let ran_nanos = now_nanos.saturating_sub(status.started_at).max(0).unsigned_abs();
    let core_nanos = u128::from(nano_cores) * u128::from(ran_nanos) / 1_000_000_000;
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: status.id.clone(),
            metadata: status.metadata.clone(),
            labels: status.labels.clone(),
            annotations: status.annotations.clone(),
        }),
        cpu: Some(v1::CpuUsage {
            timestamp: now_nanos,
            usage_core_nano_seconds: value(u64::try_from(core_nanos).unwrap_or(u64::MAX)),
            usage_nano_cores: value(nano_cores),
            psi: None,
        }),
        memory: Some(v1::MemoryUsage {
            timestamp: now_nanos,
            working_set_bytes: value(memory_bytes),
            usage_bytes: value(memory_bytes),
            rss_bytes: value(memory_bytes),
            ..Default::default()
        }),
        writable_layer: Some(v1::FilesystemUsage { timestamp: now_nanos, used_bytes: value(0), ..Default::default() }),
        ..Default::default()
    }
}
