//! A Pintle of a test's own: its folder, its ports, its names; and the end of it all.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use client::{Client, https::Https};
use pki::Kubeconfig;
use rustix::process::Signal;
use serde_json::Value;

use crate::leftovers;
use crate::tools::{Output, Version, check, eventually, free_port, run, send};

/// The pods' and Services' addresses of all tests: others than the defaults, so that a Pintle in use is not disturbed.
const CLUSTER_CIDR: &str = "10.172.0.0/16";
const SERVICE_CIDR: &str = "10.173.0.0/16";
pub const CLUSTER_DNS: &str = "10.173.0.10";
/// Held by whoever has a node running.
const LOCK: &str = "/tmp/pintle-live-tests.lock";
/// How many lines of the server's log are shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// One Pintle. Dropped, it is ended and cleaned away; [`Cluster::finish`] sees to it that nothing stays.
pub struct Cluster {
    folder: Option<tempfile::TempDir>,
    pub instance: String,
    pub port: u16,
    kubelet_port: u16,
    server: Option<Child>,
    /// Further flags of the server.
    flags: Vec<String>,
    /// `None`: no node.
    lock: Option<Lock>,
}

/// Clusters of this process.
static STARTED: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    /// Control plane and node, with these images, Ready.
    pub fn start(images: &[&str]) -> Self {
        Self::start_with(&[], images)
    }

    /// Control plane and node with these flags, Ready.
    pub fn start_with(flags: &[&str], images: &[&str]) -> Self {
        assert!(rustix::process::geteuid().is_root(), "a node needs root");
        let mut cluster = Self::prepare(Some(Lock::take()));
        cluster.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        cluster.launch();
        cluster.wait_ready();
        for image in images {
            cluster.pintle(&["image", "import"]).arg(crate::tools::image(image)).run(60).ok();
        }
        cluster
    }

    /// A control plane alone.
    pub fn control_plane() -> Self {
        Self::control_plane_with(&[])
    }

    /// A control plane alone, with these flags.
    pub fn control_plane_with(flags: &[&str]) -> Self {
        let mut cluster = Self::prepare(None);
        cluster.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        cluster.launch();
        cluster.wait_api();
        cluster
    }

    fn prepare(lock: Option<Lock>) -> Self {
        // Sockets' paths have a limit of 107 bytes: close to the root.
        let folder = tempfile::Builder::new().prefix("pt").tempdir_in("/tmp").unwrap();
        let count = STARTED.fetch_add(1, Ordering::Relaxed);
        let instance = format!("t{:x}{:x}", std::process::id() & 0xf_ffff, count & 0xf);
        let mut lock = lock;
        if let Some(lock) = &mut lock {
            lock.note(&instance, &folder.path().join("d"));
        }
        let (port, kubelet_port) = (free_port(), free_port());
        Self { folder: Some(folder), instance, port, kubelet_port, server: None, flags: Vec::new(), lock }
    }

    fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it is there until the end").path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("d")
    }

    /// A folder for the test's own files.
    pub fn scratch(&self) -> PathBuf {
        let path = self.folder().join("scratch");
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// What the server logs.
    pub fn log(&self) -> PathBuf {
        self.folder().join("server.log")
    }

    /// `pintle COMMAND... --data-dir ... --instance ...`
    pub fn pintle(&self, words: &[&str]) -> Invocation {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pintle"));
        command.args(words).arg("--data-dir").arg(self.data_dir()).args(["--instance", &self.instance]);
        Invocation::of(command)
    }

    /// Starts the server; does not wait for it.
    pub fn launch(&mut self) {
        assert!(self.server.is_none(), "it is running");
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.pintle(&["server"]).command;
        command.args(["--bind", &format!("0.0.0.0:{}", self.port)]);
        command.args(["--kubelet-port", &self.kubelet_port.to_string(), "--node-name", "node-1"]);
        command.args(["--cluster-cidr", CLUSTER_CIDR, "--service-cidr", SERVICE_CIDR, "--cluster-dns", CLUSTER_DNS]);
        if self.lock.is_none() {
            command.arg("--no-agent");
        }
        command.args(&self.flags);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap());
    }

    /// Ends the server; what it returned.
    fn end_server(&mut self, signal: Signal) -> ExitStatus {
        let mut server = self.server.take().expect("it is running");
        send(server.id(), signal);
        let waited = eventually("the server's end", 30, || match server.try_wait().unwrap() {
            Some(status) => Ok(Some(status)),
            None if std::thread::panicking() => Ok(None),
            None => Err("it runs on".into()),
        });
        waited.unwrap_or_else(|| {
            let _ = server.kill();
            server.wait().unwrap()
        })
    }

    /// SIGKILL.
    pub fn kill_server(&mut self) {
        let status = self.end_server(Signal::KILL);
        assert_eq!(status.signal(), Some(9), "it ended by itself before: {status}");
    }

    /// SIGTERM, which ends it cleanly.
    pub fn stop_server(&mut self) {
        let status = self.end_server(Signal::TERM);
        assert!(status.success(), "{status}");
    }

    /// Ends the server and starts it again with these flags beside its own.
    pub fn restart_with(&mut self, flags: &[String]) {
        self.stop_server();
        self.flags = flags.to_vec();
        self.launch();
        self.wait_api();
    }

    /// Until `/readyz` says ok.
    pub fn wait_api(&mut self) {
        let mut server = self.server.take().expect("it was started");
        eventually("the API", 60, || {
            if let Some(status) = server.try_wait().unwrap() {
                panic!("the server ended: {status}\n{}", self.log_end());
            }
            check(self.data_dir().join("admin.kubeconfig").exists(), || "no kubeconfig yet".into())?;
            let ready = self.kubectl(&["get", "--raw", "/readyz"]).run(10);
            check(ready.code == 0 && ready.stdout == "ok", || format!("{ready:?}"))
        });
        self.server = Some(server);
    }

    /// Until the node is Ready.
    pub fn wait_ready(&mut self) {
        self.wait_api();
        self.pintle(&["status", "--wait", "90"]).run(100).ok();
    }

    /// The newer kubectl, as admin.
    pub fn kubectl(&self, words: &[&str]) -> Invocation {
        self.kubectl_of(Version::V1_35, words)
    }

    /// A kubectl, as admin.
    pub fn kubectl_of(&self, version: Version, words: &[&str]) -> Invocation {
        let mut command = Command::new(version.path());
        command.arg("--kubeconfig").arg(self.data_dir().join("admin.kubeconfig")).args(words);
        command.env("HOME", self.folder()).env_remove("KUBECONFIG");
        Invocation::of(command)
    }

    /// An object as JSON.
    pub fn get(&self, words: &[&str]) -> Value {
        let text = self.kubectl(&["get", "-o", "json"]).args(words).run(20).ok();
        serde_json::from_str(&text).unwrap()
    }

    /// `kubectl apply` of a text.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        self.kubectl(&["apply", "-f", "-"]).stdin(yaml).run(30).ok();
    }

    fn kubeconfig(&self) -> Kubeconfig {
        Kubeconfig::load(&self.data_dir().join("admin.kubeconfig"), None).unwrap()
    }

    /// A client of our own, as admin. Call it within a tokio runtime.
    pub fn client(&self) -> Client {
        let kubeconfig = self.kubeconfig();
        let identity = pki::tls::Reloadable::new(kubeconfig.identity.clone().unwrap());
        let ca = kubeconfig.ca_pem.as_deref().unwrap();
        let clock = base::Clock::system();
        let tls = pki::tls::client_config(ca, Some(identity), pki::tls::Alpn::Http2, clock).unwrap();
        Client::new(Arc::new(Https::new(&kubeconfig.server, tls, None)))
    }

    /// A request that no proper client would send: the answer's code and body.
    pub fn http(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> (u16, Value) {
        let scratch = self.scratch();
        let kubeconfig = self.kubeconfig();
        let identity = kubeconfig.identity.clone().unwrap();
        let (ca, cert, key) = (scratch.join("ca.pem"), scratch.join("cert.pem"), scratch.join("key.pem"));
        fs::write(&ca, kubeconfig.ca_pem.as_deref().unwrap()).unwrap();
        fs::write(&cert, identity.cert_pem()).unwrap();
        fs::write(&key, identity.key_pem().as_bytes()).unwrap();
        let mut command = Command::new("curl");
        command.args(["-sS", "--http1.1", "-X", method, "-w", "\n%{http_code}", "-H", "Expect:"]);
        command.arg("--cacert").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        for header in headers {
            command.args(["-H", header]);
        }
        if !body.is_empty() {
            command.args(["--data-binary", "@-"]);
        }
        command.arg(format!("{}{path}", kubeconfig.server));
        let text = run(&mut command, body, 60).ok();
        let (answer, code) = text.rsplit_once('\n').unwrap();
        let answer = serde_json::from_str(answer).unwrap_or_else(|_| Value::String(answer.to_owned()));
        (code.parse().unwrap(), answer)
    }

    /// A request without the admin's certificate: the answer's code and body.
    pub fn anonymous(&self, path: &str, headers: &[&str]) -> (u16, String) {
        let ca = self.scratch().join("ca.pem");
        let kubeconfig = self.kubeconfig();
        fs::write(&ca, kubeconfig.ca_pem.as_deref().unwrap()).unwrap();
        let mut command = Command::new("curl");
        command.args(["-sS", "-w", "\n%{http_code}"]).arg("--cacert").arg(ca);
        for header in headers {
            command.args(["-H", header]);
        }
        let text = run(command.arg(format!("{}{path}", kubeconfig.server)), b"", 60).ok();
        let (answer, code) = text.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), answer.to_owned())
    }

    /// The last lines the server logged.
    fn log_end(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Ends everything, sees that nothing stays on the machine, and that no task of the server panicked.
    pub fn finish(mut self) {
        let namespaces = leftovers::network_namespaces(&self.instance);
        if self.server.is_some() {
            self.stop_server();
        }
        if self.lock.is_some() {
            self.pintle(&["down"]).run(60).ok();
        }
        let mut left = leftovers::all(&self.instance, &self.data_dir());
        left.extend(namespaces.iter().filter(|path| path.exists()).map(|path| format!("netns {}", path.display())));
        assert!(left.is_empty(), "left behind by `pintle down`: {left:#?}");
        let log = fs::read_to_string(self.log()).unwrap();
        let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked at")).collect();
        assert!(panics.is_empty(), "{panics:#?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log ends with\n{}\n---", self.log_end());
        }
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        let data_dir = self.data_dir();
        if self.lock.is_some() {
            clear(&self.instance, &data_dir);
        }
        if mounted_below(&data_dir) {
            // Removing the folder would reach through the mounts.
            eprintln!("{} has mounts and is not removed", data_dir.display());
            let _ = self.folder.take().expect("it is there until the end").keep();
        }
    }
}

fn mounted_below(folder: &Path) -> bool {
    fs::read_to_string("/proc/mounts").unwrap_or_default().contains(&format!(" {}/", folder.display()))
}

/// Takes away what is there of an instance, whatever state it is in.
fn clear(instance: &str, data_dir: &Path) {
    if !data_dir.exists() {
        return;
    }
    let mut down = Command::new(env!("CARGO_BIN_EXE_pintle"));
    down.args(["down", "--instance", instance, "--data-dir"]).arg(data_dir);
    let output = run(&mut down, b"", 60);
    if output.code != 0 {
        eprintln!("{output:#?}");
    }
    for ((pid, _), name) in leftovers::naming(data_dir).into_iter().chain(leftovers::in_containers(instance)) {
        eprintln!("killing {pid} ({name})");
        send(pid, Signal::KILL);
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(point).starts_with(data_dir) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// A program with its arguments and input.
pub struct Invocation {
    pub command: Command,
    stdin: Vec<u8>,
}

impl Invocation {
    pub fn of(command: Command) -> Self {
        Self { command, stdin: Vec::new() }
    }

    pub fn arg(mut self, word: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(word);
        self
    }

    pub fn args(mut self, words: &[&str]) -> Self {
        self.command.args(words);
        self
    }

    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.as_bytes().to_vec();
        self
    }

    /// Runs it to its end, for at most `seconds`.
    pub fn run(mut self, seconds: u32) -> Output {
        run(&mut self.command, &self.stdin, seconds)
    }
}

/// The right to have a node on this machine, over all test processes. The file says who has it, so that the next can
/// clean up after a test that was killed.
struct Lock(File);

impl Lock {
    fn take() -> Self {
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(LOCK).unwrap();
        file.lock().unwrap();
        let mut last = String::new();
        file.read_to_string(&mut last).unwrap();
        if let Some((instance, data_dir)) = last.trim().split_once(' ') {
            clear(instance, Path::new(data_dir));
        }
        Self(file)
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(text.as_bytes())
    }

    fn note(&mut self, instance: &str, data_dir: &Path) {
        self.write(&format!("{instance} {}\n", data_dir.display())).unwrap();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Fields are dropped after `Cluster::drop`: everything is gone by now.
        let _ = self.write("");
    }
}
