//! Where a private containerd keeps its files, and its configuration. What the configuration says is a pure function
//! of the options and what was seen of the host.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::Options;
use crate::{Error, Result, pause};

/// The longest path of a Unix socket that Linux takes, without its final zero.
const SOCKET_PATH_LEN_MAX: usize = 107;

/// A log larger than this is set aside when containerd starts.
const LOG_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Plugins that a Kubernetes node has no use for. Their start costs time and, for `opt`, a directory in `/opt`.
const DISABLED: [&str; 9] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.nri.v1.nri",
];

/// A runtime handler beside `runc`: what a RuntimeClass names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handler {
    /// containerd's name of the shim: `io.containerd.runsc.v1`, `io.containerd.kata.v2`, `io.containerd.runc.v2`.
    pub runtime_type: String,
    /// The shim's options, for example `BinaryName`.
    pub options: BTreeMap<String, String>,
}

/// The files of a private containerd.
#[derive(Debug, Clone)]
pub struct Layout {
    /// What outlives a reboot: images, snapshots, metadata.
    pub root: PathBuf,
    /// What a reboot voids: running tasks.
    pub state: PathBuf,
    pub socket: PathBuf,
    /// Where containerd says that it is ready.
    pub notify: PathBuf,
    pub config: PathBuf,
    pub log: PathBuf,
    /// Per-registry settings (`certs.d`), for the user to fill.
    pub registries: PathBuf,
}

impl Layout {
    /// The files under `data_dir`; sockets and state go to `/run` when their paths would be too long for a socket.
    ///
    /// # Errors
    /// [`Error::Failed`] when the current directory is unknown and `data_dir` relative.
    pub fn of(data_dir: &Path) -> Result<Self> {
        let directory = std::path::absolute(data_dir)?.join("containerd");
        // The longest name below: containerd adds `.ttrpc` for its second socket.
        let too_long = directory.join("containerd.sock.ttrpc").as_os_str().len() > SOCKET_PATH_LEN_MAX;
        let run = if too_long {
            let hash = crate::archive::digest(directory.as_os_str().as_encoded_bytes());
            PathBuf::from(format!("/run/pintle-{}", &hash["sha256:".len()..][..12]))
        } else {
            directory.clone()
        };
        Ok(Self {
            root: directory.join("root"),
            state: run.join("state"),
            socket: run.join("containerd.sock"),
            notify: run.join("notify.sock"),
            config: directory.join("config.toml"),
            log: directory.join("containerd.log"),
            registries: directory.join("certs.d"),
        })
    }

    /// Where containerd listens: `unix:///PATH`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// [`Error::Failed`] when one cannot be made.
    pub fn create_directories(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        for directory in [self.config.parent(), self.socket.parent(), Some(&*self.root), Some(&*self.registries)] {
            let directory = directory.expect("every file here has a parent");
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711) // containers of other users are reached through it
                .create(directory)
                .map_err(|error| Error::failed(format!("{} cannot be made: {error}", directory.display())))?;
        }
        Ok(())
    }

    /// Makes all ready for a start: the configuration is written, what an earlier boot left is dropped.
    ///
    /// # Errors
    /// [`Error::Failed`] when a file cannot be written.
    pub fn prepare(&self, text: &str) -> Result<()> {
        self.create_directories()?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let seen = self.config.with_file_name("boot_id");
        if std::fs::read_to_string(&seen).is_ok_and(|before| before != boot) && self.state.exists() {
            // Nothing of an earlier boot runs or is mounted any more.
            std::fs::remove_dir_all(&self.state)?;
        }
        std::fs::write(&seen, boot)?;
        if std::fs::metadata(&self.log).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            std::fs::rename(&self.log, self.log.with_extension("log.1"))?;
        }
        std::fs::write(&self.config, text)?;
        Ok(())
    }
}

/// What of the host the configuration depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Whether a process may be made less likely to be killed for want of memory (`CAP_SYS_RESOURCE`).
    pub may_lower_oom_score: bool,
    /// Whether the data directory lies on a file system that overlayfs cannot stack on.
    pub on_overlay: bool,
}

/// Bit of `CAP_SYS_RESOURCE` in a capability set.
const CAP_SYS_RESOURCE: u32 = 24;
/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

impl Host {
    /// Looks at this host.
    ///
    /// # Errors
    /// [`Error::Failed`] when the data directory cannot be examined.
    pub fn look(data_dir: &Path) -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let capabilities = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
        let file_system = rustix::fs::statfs(data_dir).map_err(Error::failed)?;
        Ok(Self {
            may_lower_oom_score: capabilities >> CAP_SYS_RESOURCE & 1 == 1,
            on_overlay: file_system.f_type as u64 == OVERLAYFS_MAGIC,
        })
    }
}

/// A TOML string. JSON's strings are a subset of TOML's basic strings.
fn quote(text: impl AsRef<std::ffi::OsStr>) -> String {
    serde_json::Value::from(text.as_ref().to_string_lossy()).to_string()
}

/// The configuration file, version 2: containerd 1.5 to 2.x read it.
pub fn text(options: &Options, layout: &Layout, host: Host) -> String {
    let disabled = DISABLED.map(|name| format!("  {},\n", quote(name))).concat();
    let mut text = format!(
        r#"# Written by Pintle at each start; changes are lost.
version = 2
root = {root}
state = {state}
oom_score = {oom_score}
disabled_plugins = [
{disabled}]

[grpc]
  address = {socket}

[debug]
  level = "info"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {pause}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = {restrict}
  tolerate_missing_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = {cni_bin}
  conf_dir = {cni_conf}
  max_conf_num = 1

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = {registries}

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = {snapshotter}
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = false
    Root = {runc_root}
"#,
        root = quote(&layout.root),
        state = quote(&layout.state),
        oom_score = if host.may_lower_oom_score { -999 } else { 0 },
        socket = quote(&layout.socket),
        pause = quote(pause::IMAGE),
        restrict = !host.may_lower_oom_score,
        cni_bin = quote(&options.cni_bin_dir),
        cni_conf = quote(&options.cni_conf_dir),
        registries = quote(&layout.registries),
        snapshotter = quote(if host.on_overlay { "native" } else { "overlayfs" }),
        runc_root = quote(layout.state.join("runc")),
    );
    for (name, handler) in &options.handlers {
        let table = format!(r#"plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{}"#, quote(name));
        let runtime_type = quote(&handler.runtime_type);
        let mut settings = String::new();
        for (key, value) in &handler.options {
            let _ = writeln!(settings, "    {key} = {}", quote(value));
        }
        let _ = write!(text, "\n[{table}]\n  runtime_type = {runtime_type}\n  [{table}.options]\n{settings}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Host = Host { may_lower_oom_score: false, on_overlay: false };

    #[test]
    fn the_host_decides_oom_scores_and_the_snapshotter() {
        let options = Options::new("/var/lib/pintle");
        let layout = Layout::of(&options.data_dir).unwrap();
        let here = text(&options, &layout, HOST);
        for line in ["oom_score = 0", "restrict_oom_score_adj = true", "snapshotter = \"overlayfs\""] {
            assert!(here.lines().any(|l| l.trim() == line), "{line} in\n{here}");
        }
        let there = text(&options, &layout, Host { may_lower_oom_score: true, on_overlay: true });
        for line in ["oom_score = -999", "restrict_oom_score_adj = false", "snapshotter = \"native\""] {
            assert!(there.lines().any(|l| l.trim() == line), "{line} in\n{there}");
        }
    }

    #[test]
    fn handlers_become_tables() {
        let mut options = Options::new("/var/lib/pintle");
        let crun = [("BinaryName".to_owned(), "/usr/bin/crun".to_owned())].into();
        options.handlers.insert("crun".into(), Handler { runtime_type: "io.containerd.runc.v2".into(), options: crun });
        let text = text(&options, &Layout::of(&options.data_dir).unwrap(), HOST);
        assert!(text.contains(r#"containerd.runtimes."crun".options]"#), "{text}");
        assert!(text.ends_with("    BinaryName = \"/usr/bin/crun\"\n"), "{text}");
    }

    #[test]
    fn sockets_have_short_paths_wherever_the_data_is() {
        for data_dir in ["/var/lib/pintle".to_owned(), format!("/{}", "long/".repeat(40))] {
            let layout = Layout::of(data_dir.as_ref()).unwrap();
            assert!(layout.socket.as_os_str().len() + ".ttrpc".len() <= SOCKET_PATH_LEN_MAX);
            assert!(layout.root.starts_with(&data_dir));
        }
    }
}
