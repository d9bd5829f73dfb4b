//! Names and Service addresses as a pod sees them.

use std::time::{Duration, Instant};

use crate::cluster::{CLUSTER_DNS, Cluster};
use crate::guestbook::text;
use crate::tools::{check, eventually};

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: names}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: names, labels: {app: db}}
spec:
  hostname: db-0
  subdomain: db
  terminationGracePeriodSeconds: 1
  containers:
  - name: db
    image: localhost/guestbook/frontend:v1
    command: [sh, -c, 'while true; do echo hello | nc -l -p 7000; done']
    ports: [{name: sql, containerPort: 7000}]
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: names, labels: {app: db}}
spec:
  hostname: db-1
  subdomain: db
  terminationGracePeriodSeconds: 1
  containers:
  - name: db
    image: localhost/guestbook/frontend:v1
    command: [sh, -c, 'while true; do echo hello | nc -l -p 7000; done']
    ports: [{name: sql, containerPort: 7000}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: names}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 7000, targetPort: sql}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: names}
spec: {selector: {app: db}, ports: [{name: sql, port: 70, targetPort: sql}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: names}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: names}
spec: {type: ExternalName, externalName: front.names.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata: {name: asker, namespace: names}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: asker
    image: localhost/guestbook/web:v1
    command: [sleep, \"100000\"]
";

/// Connects to the host and port that follow, and says what is said there.
const CONNECT: &str = "import socket, sys; \
    print(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10).recv(100).decode(), end='')";

struct Asker<'a>(&'a Cluster);

impl Asker<'_> {
    fn exec(&self, command: &[&str]) -> crate::tools::Output {
        self.0.kubectl(&["exec", "-n", "names", "asker", "--"]).args(command).run(30)
    }

    /// What the resolver says about a name, until it is what is wanted: endpoints come a moment after their pods.
    #[track_caller]
    fn answers(&self, type_: &str, name: &str, wanted: &[&str]) -> String {
        eventually(&format!("{type_} of {name}"), 20, || {
            let output = self.exec(&["nslookup", &format!("-type={type_}"), name]);
            let missing: Vec<_> = wanted.iter().filter(|text| !output.stdout.contains(**text)).collect();
            check(missing.is_empty(), || format!("no {missing:?} in {output:#?}")).map(|()| output.stdout)
        })
    }
}

#[test]
fn pods_find_services_by_name() {
    let cluster = Cluster::start(&["frontend", "web"]);
    cluster.apply(OBJECTS);
    let wait = ["wait", "-n", "names", "pod/asker", "pod/db-0", "pod/db-1", "--for=condition=Ready", "--timeout=60s"];
    cluster.kubectl(&wait).run(70).ok();
    let asker = Asker(&cluster);

    let resolv_conf = asker.exec(&["cat", "/etc/resolv.conf"]).ok();
    assert!(resolv_conf.contains(&format!("nameserver {CLUSTER_DNS}")), "{resolv_conf}");
    assert!(resolv_conf.contains("search names.svc.cluster.local svc.cluster.local cluster.local"), "{resolv_conf}");
    assert!(resolv_conf.contains("options ndots:5"), "{resolv_conf}");

    let address = text(&cluster.get(&["service", "front", "-n", "names"])["spec"]["clusterIP"]);
    asker.answers("a", "front.names.svc.cluster.local", &[&address]);
    asker.answers("srv", "_sql._tcp.front.names.svc.cluster.local", &["70 front.names.svc.cluster.local"]);
    asker.answers("a", "elsewhere.names.svc.cluster.local", &["front.names.svc.cluster.local", &address]);
    asker.answers("a", "kubernetes.default.svc.cluster.local", &["10.173.0.1"]);
    let reverse = address.split('.').rev().collect::<Vec<_>>().join(".");
    asker.answers("ptr", &format!("{reverse}.in-addr.arpa"), &["front.names.svc.cluster.local"]);

    // A headless Service is its pods, by name too.
    let pods = cluster.get(&["pods", "-n", "names", "-l", "app=db"]);
    let mut addresses: Vec<_> =
        pods["items"].as_array().unwrap().iter().map(|pod| text(&pod["status"]["podIP"])).collect();
    addresses.sort();
    assert_eq!(addresses.len(), 2);
    asker.answers("a", "db.names.svc.cluster.local", &[&addresses[0], &addresses[1]]);
    let first = text(&cluster.get(&["pod", "db-0", "-n", "names"])["status"]["podIP"]);
    asker.answers("a", "db-0.db.names.svc.cluster.local", &[&first]);
    let both = ["7000 db-0.db.names.svc.cluster.local", "7000 db-1.db.names.svc.cluster.local"];
    asker.answers("srv", "_sql._tcp.db.names.svc.cluster.local", &both);

    let nobody = asker.exec(&["nslookup", "-type=a", "nobody.names.svc.cluster.local"]);
    assert!(format!("{nobody:?}").contains("NXDOMAIN"), "{nobody:#?}");
    // Short names, as programs use them.
    for host in ["front", "front.names", "front.names.svc"] {
        eventually(host, 20, || {
            let output = asker.exec(&["python3.11", "-c", CONNECT, host, "70"]);
            check(output.stdout == "hello\n", || format!("{output:#?}"))
        });
    }
    dead_ends(&cluster, &asker);
    cluster.finish();
}

/// Service addresses nobody answers at are refused at once: no program waits for a timeout.
fn dead_ends(cluster: &Cluster, asker: &Asker<'_>) {
    let empty = text(&cluster.get(&["service", "empty", "-n", "names"])["spec"]["clusterIP"]);
    for address in [empty.as_str(), "10.173.200.200"] {
        eventually(&format!("{address} to be refused"), 20, || {
            let started = Instant::now();
            let output = asker.exec(&["python3.11", "-c", CONNECT, address, "80"]);
            let took = started.elapsed();
            let refused =
                output.stderr.contains("ConnectionRefusedError") || output.stderr.contains("No route to host");
            let refused = refused && took < Duration::from_secs(5);
            check(refused, || format!("{took:?} {output:#?}"))
        });
    }
}
