//! NetworkPolicies as their users meet them: kubectl applies them, pods of a real runtime meet them.

use serde_json::Value;

use crate::cluster::{CLUSTER_DNS, Cluster};
use crate::guestbook::text;
use crate::tools::{check, eventually};

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Namespace
metadata: {name: office, labels: {team: b}}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: server
    image: localhost/guestbook/web:v1
    command: [sh, -c, 'for port in 7000 7001 7002; do python3.11 -m http.server $port & done; wait']
    ports: [{name: web, containerPort: 7000}]
    readinessProbe: {tcpSocket: {port: web}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: shop}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'localhost/guestbook/web:v1', command: [sleep, '100000']}
---
apiVersion: v1
kind: Pod
metadata: {name: clerk, namespace: office, labels: {app: client}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'localhost/guestbook/web:v1', command: [python3.11, -m, http.server, '7000']}
";

/// Connects to the host and port that follow.
const CONNECT: &str = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1)";
/// Tries ten times to connect, from the pod's first moment on.
const AT_ONCE: &str = "
import socket, sys, time
reached = 0
for _ in range(10):
    try:
        socket.create_connection((sys.argv[1], 7000), timeout=0.3).close()
        reached += 1
    except OSError:
        time.sleep(0.01)
print('reached', reached)
";

const CLIENT: (&str, &str) = ("shop", "client");
const CLERK: (&str, &str) = ("office", "clerk");

struct Shop<'a>(&'a Cluster);

impl Shop<'_> {
    fn address(&self, (namespace, pod): (&str, &str)) -> String {
        text(&self.0.get(&["pod", pod, "-n", namespace])["status"]["podIP"])
    }

    fn python(&self, (namespace, pod): (&str, &str), words: &[&str]) -> crate::tools::Output {
        self.0.kubectl(&["exec", "-n", namespace, pod, "--", "python3.11", "-c"]).args(words).run(20)
    }

    fn reaches(&self, from: (&str, &str), host: &str, port: u16) -> bool {
        let output = self.python(from, &[CONNECT, host, &port.to_string()]);
        let denied = output.stderr.contains("TimeoutError") || output.stderr.contains("timed out");
        assert!(output.code == 0 || denied, "{output:#?}");
        output.code == 0
    }

    /// Until the pod reaches just these of the hosts and ports: a policy holds a moment after it was written.
    #[track_caller]
    fn becomes(&self, from: (&str, &str), wanted: &[(&str, u16, bool)]) {
        for (host, port, reached) in wanted {
            eventually(&format!("{from:?} to {host}:{port}: {reached}"), 20, || {
                check(self.reaches(from, host, *port) == *reached, || "it is not so".into())
            });
        }
    }

    fn policy(&self, name: &str, spec: &str) {
        self.0.apply(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
        ));
    }

    fn without(&self, names: &[&str]) {
        self.0.kubectl(&["delete", "networkpolicy", "-n", "shop"]).args(names).run(20).ok();
    }
}

#[test]
fn network_policies_hold() {
    let cluster = Cluster::start(&["web"]);
    cluster.apply(OBJECTS);
    for (namespace, pods) in [("shop", &["pod/server", "pod/client"][..]), ("office", &["pod/clerk"])] {
        let wait = ["wait", "-n", namespace, "--for=condition=Ready", "--timeout=60s"];
        cluster.kubectl(&wait).args(pods).run(70).ok();
    }
    let shop = Shop(&cluster);
    let (server, service) = (shop.address(("shop", "server")), "server.shop.svc.cluster.local");
    let server = server.as_str();
    for from in [CLIENT, CLERK] {
        shop.becomes(from, &[(server, 7000, true), (server, 7002, true), (service, 80, true)]);
    }
    comes_in(&shop, server, service);
    goes_out(&shop, server, service);
    begins_isolated(&shop);
    is_told(&cluster);
    cluster.kubectl(&["delete", "namespace", "shop", "office", "--timeout=60s"]).run(70).ok();
    cluster.finish();
}

fn comes_in(shop: &Shop<'_>, server: &str, service: &str) {
    let nothing = [(server, 7000, false), (service, 80, false)];
    let everything = [(server, 7000, true), (server, 7001, true), (server, 7002, true), (service, 80, true)];
    shop.policy("deny", "{podSelector: {}, policyTypes: [Ingress]}");
    for from in [CLIENT, CLERK] {
        shop.becomes(from, &nothing);
    }
    // The node reaches its pods: probes go on.
    let ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let from = |peers: &str| format!("{{podSelector: {{matchLabels: {{app: server}}}}, ingress: [{{from: {peers}}}]}}");
    shop.policy("allow", &from("[{podSelector: {matchLabels: {app: client}}}]"));
    shop.becomes(CLIENT, &everything);
    shop.becomes(CLERK, &nothing);
    shop.policy("allow", &from("[{namespaceSelector: {matchLabels: {team: b}}}]"));
    shop.becomes(CLERK, &everything);
    shop.becomes(CLIENT, &nothing);
    let ports =
        |ports: &str| format!("{{podSelector: {{matchLabels: {{app: server}}}}, ingress: [{{ports: {ports}}}]}}");
    shop.policy("allow", &ports("[{port: web}]"));
    shop.becomes(CLIENT, &[(server, 7000, true), (server, 7001, false), (service, 80, true)]);
    shop.policy("allow", &ports("[{port: 7001, endPort: 7002}]"));
    shop.becomes(CLIENT, &[(server, 7000, false), (server, 7001, true), (server, 7002, true), (service, 80, false)]);
    let pod = shop.0.get(&["pod", "server", "-n", "shop"]);
    assert!(ready(&pod), "{pod:#}");
    shop.without(&["allow", "deny"]);
    for from in [CLIENT, CLERK] {
        shop.becomes(from, &everything);
    }
}

fn goes_out(shop: &Shop<'_>, server: &str, service: &str) {
    let resolves = |wanted: bool| {
        eventually(&format!("names resolve: {wanted}"), 40, || {
            let script = "import socket, sys; socket.getaddrinfo(sys.argv[1], 80)";
            let output = shop.python(CLIENT, &[script, service]);
            check((output.code == 0) == wanted, || format!("{output:#?}"))
        });
    };
    let clerk = shop.address(CLERK);
    shop.policy("deny", "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}");
    shop.becomes(CLIENT, &[(server, 7000, false), (&clerk, 7000, false), (CLUSTER_DNS, 53, false)]);
    resolves(false);
    shop.policy(
        "dns",
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}, {port: 53}], to: [{\
         namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, \
         podSelector: {matchLabels: {k8s-app: kube-dns}}}]}]}",
    );
    resolves(true);
    shop.becomes(CLIENT, &[(server, 7000, false), (service, 80, false)]);
    let block = format!("cidr: 10.172.0.0/16, except: [{server}/32]");
    let spec =
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {BLOCK}}]}]}";
    shop.policy("block", &spec.replace("BLOCK", &block));
    shop.becomes(CLIENT, &[(&clerk, 7000, true), (server, 7000, false), (service, 80, false)]);
    shop.without(&["deny", "dns", "block"]);
    shop.becomes(CLIENT, &[(server, 7000, true), (service, 80, true)]);
}

/// A pod that a policy isolates does not get a packet out before it is isolated.
fn begins_isolated(shop: &Shop<'_>) {
    shop.policy("deny", "{podSelector: {matchLabels: {app: born}}, policyTypes: [Egress]}");
    let clerk = shop.address(CLERK);
    let pod = |name: &str, app: &str| {
        serde_json::json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "localhost/guestbook/web:v1",
                "command": ["python3.11", "-c", AT_ONCE, clerk]}]}})
        .to_string()
    };
    let isolated = ["born-1", "born-2", "born-3"];
    shop.0.apply(&pod("free", "free"));
    for name in isolated {
        shop.0.apply(&pod(name, "born"));
    }
    for (name, isolated) in [("free", false)].into_iter().chain(isolated.map(|name| (name, true))) {
        let phase = "--for=jsonpath={.status.phase}=Succeeded";
        shop.0.kubectl(&["wait", "-n", "shop", &format!("pod/{name}"), phase, "--timeout=60s"]).run(70).ok();
        let logs = shop.0.kubectl(&["logs", "-n", "shop", name]).run(20).ok();
        let reached: u32 = logs.trim().strip_prefix("reached ").unwrap().parse().unwrap();
        assert_eq!(reached == 0, isolated, "{name}: {logs}");
    }
    shop.without(&["deny"]);
}

/// The node says that it enforces policies, and `pintle status --security` believes it.
fn is_told(cluster: &Cluster) {
    let node = cluster.get(&["node", "node-1"]);
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let said = conditions.iter().find(|condition| condition["type"] == "NetworkPolicyEnforced").unwrap();
    assert_eq!((text(&said["status"]), text(&said["reason"])), ("True".into(), "PoliciesApplied".into()));
    let output = cluster.pintle(&["status", "--security", "-o", "json"]).run(60);
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let line = report["checks"].as_array().unwrap().iter().find(|check| check["id"] == "5.3.1").unwrap();
    assert_eq!(line["result"], "PASS", "{line:#}");
}
