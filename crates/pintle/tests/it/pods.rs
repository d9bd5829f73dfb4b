//! What becomes of pods that end, fail, overeat, are asked to go, or talk to the API themselves.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::guestbook::text;
use crate::tools::{BOTH, check, eventually};

fn pod(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "pods"}, "spec": spec})
        .to_string()
}

fn container(name: &str, command: &str) -> Value {
    json!({"name": name, "image": "localhost/guestbook/web:v1", "command": ["sh", "-c", command]})
}

struct Pods<'a>(&'a Cluster);

impl Pods<'_> {
    /// Creates a pod from its spec.
    fn run(&self, name: &str, spec: &Value) {
        self.0.apply(&pod(name, spec));
    }

    fn get(&self, name: &str) -> Value {
        self.0.get(&["pod", name, "-n", "pods"])
    }

    /// The pod's status once something in it is so.
    #[track_caller]
    fn when(&self, name: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{name}: {what}"), 40, || {
            let status = self.get(name)["status"].clone();
            check(so(&status), || format!("{status:#}")).map(|()| status)
        })
    }

    fn logs(&self, words: &[&str]) -> String {
        self.0.kubectl(&["logs", "-n", "pods"]).args(words).run(20).ok()
    }
}

fn first(status: &Value) -> &Value {
    &status["containerStatuses"][0]
}

#[test]
fn pods_end_as_they_should() {
    let cluster = Cluster::start(&["web"]);
    cluster.kubectl(&["create", "namespace", "pods"]).run(20).ok();
    let pods = Pods(&cluster);
    // All at once: they do not wait for each other.
    let shared = json!([{"name": "shared", "mountPath": "/shared"}]);
    let with_shared = |mut container: Value| {
        container["volumeMounts"] = shared.clone();
        container
    };
    let order = json!({
        "restartPolicy": "Never",
        "initContainers": [
            with_shared(container("first", "sleep 1; echo one > /shared/order")),
            with_shared(container("second", "echo two >> /shared/order")),
        ],
        "containers": [with_shared(container("main", "cat /shared/order"))],
        "volumes": [{"name": "shared", "emptyDir": {}}],
    });
    pods.run("order", &order);
    pods.run("fails", &json!({"restartPolicy": "Never", "containers": [container("main", "echo no; exit 3")]}));
    let loops = json!({"containers": [container("main", "echo try at $(date +%s%N); exit 1")]});
    pods.run("loops", &loops);
    let mut sick = container("main", "echo begun; touch /tmp/well; sleep 3; rm /tmp/well; sleep 1000");
    sick["livenessProbe"] =
        json!({"exec": {"command": ["test", "-e", "/tmp/well"]}, "periodSeconds": 1, "failureThreshold": 2});
    pods.run("sick", &json!({"terminationGracePeriodSeconds": 1, "containers": [sick]}));
    let mut hungry = container("main", "exec python3.11 -c 'x = bytearray(300 << 20)'");
    hungry["resources"] = json!({"limits": {"memory": "64Mi"}});
    pods.run("hungry", &json!({"restartPolicy": "Never", "containers": [hungry]}));
    let kind = "trap 'echo asked; sleep 1; echo bye; exit 0' TERM; echo begun; while true; do sleep 0.1; done";
    pods.run("kind", &json!({"terminationGracePeriodSeconds": 20, "containers": [container("main", kind)]}));

    ends(&pods);
    quick(&pods);
    fails(&pods);
    goes_kindly(&cluster, &pods);
    asks_the_api(&cluster, &pods);
    attaches(&cluster, &pods);
    cluster.kubectl(&["delete", "namespace", "pods", "--timeout=60s"]).run(70).ok();
    cluster.finish();
}

fn ends(pods: &Pods<'_>) {
    let status = pods.when("order", "the end", |status| status["phase"] == "Succeeded");
    let ended = &first(&status)["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("Completed"), &json!(0)), "{status:#}");
    assert_eq!(pods.logs(&["order"]), "one\ntwo\n");
    let status = pods.when("fails", "the end", |status| status["phase"] == "Failed");
    let ended = &first(&status)["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("Error"), &json!(3)), "{status:#}");
    let status = pods.when("hungry", "the end", |status| status["phase"] == "Failed");
    let ended = &first(&status)["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{status:#}");
}

/// Containers that are over before the runtime has said that they begin: none is forgotten.
fn quick(pods: &Pods<'_>) {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [container("first", "true"), container("second", "true")],
        "containers": [container("main", "true"), container("beside", "true")],
    });
    let names: Vec<String> = (0..8).map(|at| format!("quick-{at}")).collect();
    for name in &names {
        pods.run(name, &spec);
    }
    for name in &names {
        pods.when(name, "the end", |status| status["phase"] == "Succeeded");
    }
}

fn fails(pods: &Pods<'_>) {
    let status = pods.when("loops", "the back-off", |status| {
        first(status)["state"]["waiting"]["reason"] == "CrashLoopBackOff" && first(status)["restartCount"] != 0
    });
    let message = text(&first(&status)["state"]["waiting"]["message"]);
    assert!(message.starts_with("back-off ") && message.contains("restarting failed container=main"), "{message}");
    assert_eq!(first(&status)["lastState"]["terminated"]["exitCode"], 1, "{status:#}");
    assert!(pods.logs(&["loops", "--previous"]).starts_with("try at "));

    pods.when("sick", "a restart", |status| first(status)["restartCount"] != 0 && first(status)["ready"] == true);
    assert_eq!(pods.logs(&["sick", "--previous"]), "begun\n");
    eventually("the events", 10, || {
        let events = pods.0.kubectl(&["events", "-n", "pods", "--for", "pod/sick"]).run(20).ok();
        let told =
            events.contains("Liveness probe failed") && events.contains("failed liveness probe, will be restarted");
        check(told, || events)
    });
}

/// SIGTERM, the time it takes, and a log that is complete.
fn goes_kindly(cluster: &Cluster, pods: &Pods<'_>) {
    pods.when("kind", "running", |status| first(status)["ready"] == true);
    let mut follow = cluster.kubectl(&["logs", "-n", "pods", "-f", "kind"]);
    let following = crate::tools::Beside::start(&mut follow.command);
    following.line_with("begun", 20);
    cluster.kubectl(&["delete", "pod", "-n", "pods", "kind", "--timeout=20s"]).run(30).ok();
    following.line_with("asked", 10);
    following.line_with("bye", 10);
}

/// A pod's own token is good for what its service account may do, and for no more.
fn asks_the_api(cluster: &Cluster, pods: &Pods<'_>) {
    let program = "import json, ssl, urllib.request as r, urllib.error as e\n\
        at = '/var/run/secrets/kubernetes.io/serviceaccount/'\n\
        tls = ssl.create_default_context(cafile=at + 'ca.crt')\n\
        url = 'https://kubernetes.default.svc/api/v1/namespaces/' + open(at + 'namespace').read() + '/pods'\n\
        ask = r.Request(url, headers={'Authorization': 'Bearer ' + open(at + 'token').read()})\n\
        try: print(200, json.load(r.urlopen(ask, timeout=5, context=tls))['kind'])\n\
        except e.HTTPError as x: print(x.code, json.load(x)['message'])\n";
    pods.run("asker", &json!({"terminationGracePeriodSeconds": 1, "containers": [container("main", "sleep 1000")]}));
    pods.when("asker", "running", |status| first(status)["ready"] == true);
    let ask = || cluster.kubectl(&["exec", "-n", "pods", "asker", "--", "python3.11", "-c", program]).run(20).ok();
    let refused = ask();
    let user = "403 pods is forbidden: User \"system:serviceaccount:pods:default\" cannot list resource \"pods\"";
    assert!(refused.starts_with(user), "{refused}");
    let binding =
        ["create", "rolebinding", "reader", "-n", "pods", "--clusterrole=view", "--serviceaccount=pods:default"];
    cluster.kubectl(&binding).run(20).ok();
    assert_eq!(ask(), "200 PodList\n");
}

fn attaches(cluster: &Cluster, pods: &Pods<'_>) {
    let mut cat = container("main", "while read line; do echo got $line; done; echo end");
    cat["stdin"] = json!(true);
    cat["stdinOnce"] = json!(true);
    for version in BOTH {
        let name = format!("cat-{}", if version == BOTH[0] { "new" } else { "old" });
        pods.run(&name, &json!({"restartPolicy": "Never", "containers": [cat]}));
        pods.when(&name, "running", |status| first(status)["ready"] == true);
        let attach = cluster.kubectl_of(version, &["attach", "-n", "pods", "-i", &name]).stdin("a line\n").run(20).ok();
        assert!(attach.contains("got a line\n"), "{attach}");
        pods.when(&name, "the end", |status| status["phase"] == "Succeeded");
        assert_eq!(pods.logs(&[&name]), "got a line\nend\n");
    }
}
