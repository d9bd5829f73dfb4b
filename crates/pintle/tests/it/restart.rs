//! A server that ends and comes back finds its pods as it left them; a runtime that dies is started again.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::guestbook::text;
use crate::leftovers::{self, Processes};
use crate::tools::{check, eventually, send};

/// Pods that do nothing but stay.
const STEADY: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady, namespace: default}
spec:
  replicas: 3
  selector: {matchLabels: {app: steady}}
  template:
    metadata: {labels: {app: steady}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: steady
        image: localhost/guestbook/frontend:v1
        command: [sh, -c, 'while true; do date; sleep 1; done']
        livenessProbe: {exec: {command: [\"true\"]}, periodSeconds: 1}
";

/// What must not change while the server is away: the containers, and their processes.
#[derive(Debug, PartialEq)]
pub struct Steady {
    /// Pod, container id, restart count.
    containers: Vec<(String, String, u64)>,
    /// The containers' first processes; those of probes and of the loop come and go.
    processes: Processes,
}

/// Starts the pods and waits until they are Ready.
pub fn steady_pods(cluster: &Cluster) -> Steady {
    cluster.apply(STEADY);
    cluster.kubectl(&["rollout", "status", "deployment/steady", "--timeout=60s"]).run(70).ok();
    look(cluster)
}

/// What there is of the pods now.
pub fn look(cluster: &Cluster) -> Steady {
    let pods = cluster.get(&["pods", "-n", "default", "-l", "app=steady"]);
    let mut containers: Vec<_> = pods["items"].as_array().unwrap().iter().map(container).collect();
    containers.sort();
    let processes = leftovers::in_containers(&cluster.instance).into_iter().filter(|((pid, _), _)| is_first(*pid));
    Steady { containers, processes: processes.collect() }
}

fn container(pod: &Value) -> (String, String, u64) {
    let status = &pod["status"]["containerStatuses"][0];
    (text(&pod["metadata"]["name"]), text(&status["containerID"]), status["restartCount"].as_u64().unwrap())
}

/// Whether a process is number 1 of its container.
fn is_first(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.and_then(|pids| pids.split_whitespace().last()).is_some_and(|innermost| innermost == "1")
}

/// The pods are as they were; the sandbox of one that is gone may be a moment behind it.
fn unchanged(cluster: &Cluster, before: &Steady) {
    eventually("nothing but the pods from before, untouched", 60, || {
        let now = look(cluster);
        check(now == *before, || format!("{now:#?}\nwas {before:#?}"))
    });
}

fn ready_condition(cluster: &Cluster) -> Result<String, String> {
    let output = cluster.kubectl(&["get", "node", "node-1", "-o", "json"]).run(20);
    check(output.code == 0, || format!("{output:?}"))?;
    let node: Value = serde_json::from_str(&output.stdout).unwrap();
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|condition| condition["type"] == "Ready").ok_or("no condition")?;
    Ok(format!("{} {}: {}", text(&ready["status"]), text(&ready["reason"]), text(&ready["message"])))
}

#[test]
fn pods_outlive_the_server_and_the_runtime() {
    let mut cluster = Cluster::start(&["frontend"]);
    let before = steady_pods(&cluster);
    assert_eq!((before.containers.len(), before.processes.len()), (3, 6), "three pods of two containers: {before:#?}");

    cluster.stop_server();
    assert_eq!(leftovers::in_containers(&cluster.instance).keys().filter(|(pid, _)| is_first(*pid)).count(), 6);
    cluster.launch();
    cluster.wait_ready();
    pods_work(&cluster);
    unchanged(&cluster, &before);

    // The runtime is started again at once; it is killed until the node has noticed.
    eventually("a node that is not Ready", 60, || {
        let containerd = leftovers::naming(&cluster.data_dir()).into_iter().filter(|(_, name)| name == "containerd");
        for ((pid, _), _) in containerd {
            send(pid, rustix::process::Signal::KILL);
        }
        let ready = ready_condition(&cluster)?;
        check(ready.starts_with("False KubeletNotReady"), || ready)
    });
    eventually("a node that is Ready again", 60, || {
        let ready = ready_condition(&cluster)?;
        check(ready.starts_with("True KubeletReady"), || ready)
    });
    pods_work(&cluster);
    unchanged(&cluster, &before);

    // A pod that is deleted goes, although the server that started it is gone.
    cluster.kubectl(&["delete", "deployment", "steady"]).run(30).ok();
    eventually("the end of the pods", 40, || {
        let pods = cluster.get(&["pods", "-n", "default"]);
        check(pods["items"].as_array().unwrap().is_empty(), || format!("{pods:#}"))
    });
    cluster.finish();
}

/// Logs and exec reach the containers, and new pods can be started.
fn pods_work(cluster: &Cluster) {
    let output = eventually("exec", 20, || {
        let output = cluster.kubectl(&["exec", "deployment/steady", "--", "echo", "hello"]).run(20);
        check(output.code == 0, || format!("{output:?}")).map(|()| output.stdout)
    });
    assert_eq!(output, "hello\n");
    eventually("lines of the log", 20, || {
        let logs = cluster.kubectl(&["logs", "deployment/steady", "--tail=2"]).run(20).ok();
        check(logs.lines().count() == 2, || logs)
    });
    let run = ["run", "new", "--image=localhost/guestbook/frontend:v1", "--restart=Never", "--rm", "-i", "--command"];
    let output = cluster.kubectl(&run).args(&["--", "cat"]).stdin("through a new pod\n").run(60).ok();
    assert!(output.contains("through a new pod"), "{output}");
}
