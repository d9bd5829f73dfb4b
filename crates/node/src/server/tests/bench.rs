//! A containerd of its own, a pod in it, and a server before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use api::Typed;
use api::core::v1::Pod;
use base::{Clock, TaskGroup};
use cri::private::{Containerd, Options};
use cri::{Runtime, conformance, v1};
use futures_util::FutureExt;
use pki::tls::{Alpn, Reloadable};
use pki::{Ca, Request, Usage};

use super::Client;
use crate::labels;
use crate::server::{self, Pods, Server, access};

const HOUR: Duration = Duration::from_secs(3600);
/// Serves, writes five lines to both outputs in turn, and stays.
const MAIN: &str = "httpd -p 127.0.0.1:8080 -h /etc; for i in 1 2 3 4 5; do \
    [ $((i % 2)) = 0 ] && echo started $i >&2 || echo started $i; sleep 0.05; done; exec sleep 1000";
const ECHO: &str = "while read line; do echo got $line; done; echo bye";

pub struct Bench {
    directory: PathBuf,
    tasks: TaskGroup,
    ca: Ca,
    runtime: Option<Runtime>,
    containers: BTreeMap<&'static str, String>,
    server: Option<Server>,
}

struct Fixed(Arc<Pod>);

impl Pods for Fixed {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        ((namespace, name) == ("ns", "web")).then(|| self.0.clone())
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        vec![self.0.clone()]
    }
}

/// Names that are this process's own.
fn bridge() -> String {
    format!("pnt{}", std::process::id())
}

fn cgroup() -> String {
    format!("pintle-node-test-{}", std::process::id())
}

impl Bench {
    /// Runs a test; everything is gone when it returns, also after a panic.
    pub async fn run(test: impl AsyncFnOnce(&Self)) {
        assert!(rustix::process::geteuid().is_root(), "these tests need root: containers are made");
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let mut bench = Self {
            directory: directory.path().to_owned(),
            tasks: tasks.clone(),
            ca: Ca::generate("test", Clock::system().now(), HOUR).unwrap(),
            runtime: None,
            containers: BTreeMap::new(),
            server: None,
        };
        let all = async {
            bench.start().await;
            test(&bench).await;
        };
        let outcome = std::panic::AssertUnwindSafe(all).catch_unwind().await;
        assert!(tasks.shutdown(Duration::from_secs(10)).await, "the server's tasks end");
        let down = cri::private::down(Options::new(directory.path()), Clock::system()).await;
        let _ = Command::new("ip").args(["link", "delete", &bridge()]).status();
        for root in std::fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(|entry| Some(entry.ok()?.path())) {
            let _ = std::fs::remove_dir(root.join(cgroup()));
        }
        if let Err(panic) = outcome {
            let log = std::fs::read_to_string(directory.path().join("containerd/containerd.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("containerd's last words:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            std::panic::resume_unwind(panic);
        }
        down.unwrap();
        directory.close().unwrap();
        assert_eq!(base::task::panics(), 0);
    }

    async fn start(&mut self) {
        self.configure_network();
        let containerd = Containerd::start(Options::new(&self.directory), Clock::system(), &self.tasks).await.unwrap();
        let runtime = containerd.runtime();
        let binary = std::fs::read("/bin/busybox").expect("busybox-static is installed");
        runtime.import_image(conformance::busybox(&binary), "").await.unwrap();
        self.runtime = Some(runtime.clone());
        let sandbox = self.sandbox_config();
        let id = runtime.run_pod_sandbox(sandbox.clone(), "").await.unwrap();
        for (name, script, stdin) in [("main", MAIN, false), ("echo", ECHO, true)] {
            let config = self.container_config(name, script, stdin);
            let container = runtime.create_container(&id, config, sandbox.clone()).await.unwrap();
            runtime.start_container(&container).await.unwrap();
            self.containers.insert(name, container);
        }
        self.serve(runtime).await;
    }

    /// A bridge without a way out.
    fn configure_network(&self) {
        let directory = self.directory.join("cni/net.d");
        std::fs::create_dir_all(&directory).unwrap();
        let ipam = serde_json::json!({
            "type": "host-local", "subnet": "10.211.55.0/24", "dataDir": self.directory.join("cni/addresses"),
        });
        let plugin = serde_json::json!({ "type": "bridge", "bridge": bridge(), "ipam": ipam });
        let list = serde_json::json!({ "cniVersion": "0.4.0", "name": "test", "plugins": [plugin] });
        std::fs::write(directory.join("10-test.conflist"), list.to_string()).unwrap();
    }

    fn sandbox_config(&self) -> v1::PodSandboxConfig {
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: "web".into(),
                uid: "uid-1".into(),
                namespace: "ns".into(),
                attempt: 0,
            }),
            log_directory: self.directory.join("logs").to_string_lossy().into_owned(),
            labels: [(labels::POD_UID.to_owned(), "uid-1".to_owned())].into(),
            linux: Some(v1::LinuxPodSandboxConfig { cgroup_parent: format!("/{}", cgroup()), ..Default::default() }),
            ..Default::default()
        }
    }

    fn container_config(&self, name: &str, script: &str, stdin: bool) -> v1::ContainerConfig {
        let labels = [(labels::POD_UID, "uid-1"), (labels::CONTAINER_NAME, name)];
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(v1::ImageSpec::named(conformance::IMAGE)),
            command: ["sh", "-c", script].map(String::from).to_vec(),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            log_path: format!("{name}/0.log"),
            stdin,
            stdin_once: stdin,
            linux: Some(v1::LinuxContainerConfig::default()),
            ..Default::default()
        }
    }

    async fn serve(&mut self, runtime: Runtime) {
        let status = |name: &str, id: Option<&String>| match id {
            Some(id) => serde_json::json!({
                "name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "containerID": format!("containerd://{id}"), "state": { "running": {} },
            }),
            None => serde_json::json!({
                "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": "ContainerCreating" } },
            }),
        };
        let names = ["main", "echo", "waits"];
        let pod = serde_json::json!({
            "metadata": { "name": "web", "namespace": "ns", "uid": "uid-1" },
            "spec": { "containers": names.map(|name| serde_json::json!({ "name": name })) },
            "status": { "containerStatuses": names.map(|name| status(name, self.containers.get(name))) },
        });
        let pods = Arc::new(Fixed(Arc::new(Pod::decode(pod.to_string().as_bytes()).unwrap())));
        let clock = Clock::system();
        let request = Request {
            common_name: "node-1".into(),
            organizations: Vec::new(),
            dns_names: Vec::new(),
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
            usage: Usage::Server,
            valid: HOUR,
        };
        let identity = Reloadable::new(self.ca.issue(&request, clock.now()).unwrap());
        let tls = pki::tls::server_config(identity, Some(self.ca.cert_pem()), clock).unwrap();
        let authorize = access::only(&["kube-apiserver-kubelet-client"], &[]);
        let options = server::Options::new("127.0.0.1:0".parse().unwrap(), tls, authorize, "node-1");
        self.server = Some(Server::start(options, pods, runtime, clock, &self.tasks).await.unwrap());
    }

    pub fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    pub fn container(&self, name: &str) -> &str {
        &self.containers[name]
    }

    /// The API server.
    pub fn client(&self) -> Client {
        self.client_as(Some("kube-apiserver-kubelet-client"))
    }

    /// Somebody with a certificate of the node's CA, or without any.
    pub fn client_as(&self, user: Option<&str>) -> Client {
        self.client_of(&self.ca, user)
    }

    /// Somebody with a certificate of another CA.
    pub fn stranger(&self) -> Client {
        let other = Ca::generate("other", Clock::system().now(), HOUR).unwrap();
        self.client_of(&other, Some("kube-apiserver-kubelet-client"))
    }

    fn client_of(&self, ca: &Ca, user: Option<&str>) -> Client {
        let clock = Clock::system();
        let identity =
            user.map(|user| Reloadable::new(ca.issue(&Request::client(user, &[], HOUR), clock.now()).unwrap()));
        let tls = pki::tls::client_config(self.ca.cert_pem(), identity, Alpn::Http1, clock).unwrap();
        Client::new(self.server.as_ref().unwrap().address(), tls)
    }

    /// Returns when the log file of the container ends with `text`.
    pub async fn wait_for_log(&self, container: &str, text: &str) {
        let path = self.directory.join("logs").join(container).join("0.log");
        let ends = |path: &Path| std::fs::read_to_string(path).is_ok_and(|log| log.ends_with(text));
        let there = async {
            while !ends(&path) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), there).await.expect("the log is written");
    }
}
