//! What is mounted into a container: its volumes, `/etc/hosts`, and the file for its last words.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use api::core::v1::Container;
use cri::v1;

use super::{Job, Sandbox};
use crate::config::container::{propagation, sub_path};
use crate::config::{ConfigError, hosts};
use crate::labels::DEFAULT_TERMINATION_MESSAGE_PATH;
use crate::pod;
use crate::volume::{Mounted, Ready, mount};

/// A bind mount to be made before the runtime mounts it: volume, path within, target.
struct Bind {
    root: PathBuf,
    path: String,
    target: PathBuf,
}

impl Job {
    /// The mounts of one container; makes the files they need.
    pub(super) async fn mounts(
        &self,
        container: &Container,
        environment: &BTreeMap<String, String>,
        mounted: &Mounted,
        sandbox: &Sandbox,
        restart_count: u32,
    ) -> Result<Vec<v1::Mount>, ConfigError> {
        if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
            return Err(ConfigError::new("block volumes are not supported by this node"));
        }
        let pod_dir = self.agent.volumes.pod_dir(&self.entry.uid);
        let mut mounts = Vec::new();
        let mut binds = Vec::new();
        for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
            let Some(ready) = mounted.by_name.get(&wanted.name) else {
                return Err(ConfigError(format!(
                    "cannot find volume {:?} to mount into container {:?}",
                    wanted.name, container.name
                )));
            };
            let mut made = v1::Mount {
                container_path: absolute(&wanted.mount_path),
                readonly: wanted.read_only == Some(true),
                propagation: propagation(wanted).into(),
                ..Default::default()
            };
            match ready {
                Ready::Image { reference } => {
                    made.image = Some(v1::ImageSpec::named(reference));
                    made.readonly = true;
                }
                Ready::Path { path, read_only } => {
                    made.readonly |= *read_only;
                    let within = sub_path(wanted, environment)?;
                    let host = if within.is_empty() || !self.agent.volumes.mounts() {
                        path.join(&within)
                    } else {
                        let place = pod_dir.join("volume-subpaths").join(&wanted.name).join(&container.name);
                        let target = place.join(index.to_string());
                        binds.push(Bind { root: path.clone(), path: within, target: target.clone() });
                        target
                    };
                    made.host_path = host.to_string_lossy().into_owned();
                }
            }
            mounts.push(made);
        }
        let own_hosts = container.volume_mounts.iter().flatten().all(|m| m.mount_path != "/etc/hosts");
        let hosts_text = own_hosts.then(|| self.hosts(sandbox));
        let last_words = container.termination_message_path.as_deref().unwrap_or(DEFAULT_TERMINATION_MESSAGE_PATH);
        let words_file = pod_dir.join("containers").join(&container.name).join(format!("{restart_count}.termination"));
        let hosts_file = pod_dir.join("etc-hosts");
        let plain = |host: &Path, inside: &str| v1::Mount {
            container_path: inside.to_owned(),
            host_path: host.to_string_lossy().into_owned(),
            ..Default::default()
        };
        if hosts_text.is_some() {
            mounts.push(plain(&hosts_file, "/etc/hosts"));
        }
        if !last_words.is_empty() {
            mounts.push(plain(&words_file, last_words));
        }
        let done = tokio::task::spawn_blocking(move || make(&binds, hosts_text, &hosts_file, &words_file));
        done.await.map_err(|e| ConfigError(e.to_string()))?.map_err(ConfigError)?;
        Ok(mounts)
    }

    fn hosts(&self, sandbox: &Sandbox) -> String {
        if pod::is_host_network(&self.pod) {
            // A short read of a small local file.
            let host = fs::read_to_string("/etc/hosts").unwrap_or_default();
            return hosts::host_network_file(&self.pod, &host);
        }
        hosts::file(&self.pod, &sandbox.ips, &self.agent.facts.cluster.domain)
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Makes the files and binds. Blocking.
fn make(binds: &[Bind], hosts: Option<String>, hosts_file: &Path, words_file: &Path) -> Result<(), String> {
    for bind in binds {
        mount::bind_within(&bind.root, &bind.path, &bind.target)
            .map_err(|error| format!("failed to prepare subPath for volumeMount {:?}: {error}", bind.path))?;
    }
    let failed = |error: std::io::Error| error.to_string();
    if let Some(text) = hosts {
        if let Some(parent) = hosts_file.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(hosts_file, text).map_err(failed)?;
        fs::set_permissions(hosts_file, Permissions::from_mode(0o644)).map_err(failed)?;
    }
    if let Some(parent) = words_file.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(words_file, "").map_err(failed)?;
    // Whatever user the container runs as may leave its last words.
    fs::set_permissions(words_file, Permissions::from_mode(0o666)).map_err(failed)
}
