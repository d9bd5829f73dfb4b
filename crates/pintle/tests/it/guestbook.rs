//! The example application, end to end, with both kubectls: what `make up` promises.

use std::process::Command;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::leftovers;
use crate::tools::{BOTH, Beside, Version, check, eventually, run, source};

/// A web client that the image of the web tier has: the address follows. Busybox' own needs the C library's parts that
/// a static program cannot load.
const FETCH: [&str; 3] = [
    "python3.11",
    "-c",
    "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=5).read().decode())",
];
const TIERS: [&str; 3] = ["redis", "web", "frontend"];

#[test]
fn the_guestbook_runs() {
    let cluster = Cluster::start(&["redis", "web", "frontend"]);
    let guestbook = Guestbook { cluster: &cluster, version: Version::V1_35 };
    guestbook.kubectl(&["apply", "-f", &source("examples/guestbook/guestbook.yaml")]).run(30).ok();
    for tier in TIERS {
        guestbook.rolled_out(tier);
    }
    guestbook.pages();
    guestbook.pods_are_listed();
    guestbook.refusals();
    for version in BOTH {
        let guestbook = Guestbook { cluster: &cluster, version };
        guestbook.logs();
        guestbook.exec();
        guestbook.terminal();
        guestbook.port_forward();
        guestbook.copies();
        guestbook.scales();
        guestbook.rolls_out();
    }
    guestbook.a_bad_image_is_told();
    guestbook.is_deleted();
    cluster.finish();
}

struct Guestbook<'a> {
    cluster: &'a Cluster,
    version: Version,
}

impl Guestbook<'_> {
    fn kubectl(&self, words: &[&str]) -> crate::cluster::Invocation {
        self.cluster.kubectl_of(self.version, words).args(&["--namespace", "guestbook"])
    }

    /// `kubectl exec`: the namespace comes first, since everything after `--` is the command's.
    fn exec_in(&self, options: &[&str], command: &[&str]) -> crate::cluster::Invocation {
        let kubectl = self.cluster.kubectl_of(self.version, &["--namespace", "guestbook", "exec"]);
        kubectl.args(options).arg("--").args(command)
    }

    #[track_caller]
    fn rolled_out(&self, tier: &str) {
        let output = self.kubectl(&["rollout", "status", &format!("deployment/{tier}"), "--timeout=90s"]).run(100);
        if output.code != 0 {
            let pods = self.kubectl(&["describe", "pods", "-l", &format!("tier={tier}")]).run(20);
            panic!("{output:#?}\n{}", pods.stdout);
        }
        assert!(output.stdout.contains("successfully rolled out"), "{output:#?}");
    }

    /// The name of a pod of a tier that is Ready and stays.
    fn pod(&self, tier: &str) -> String {
        eventually("a ready pod", 30, || {
            let pods = self.cluster.get(&["pods", "-n", "guestbook", "-l", &format!("tier={tier}")]);
            let ready = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod);
            let found = pods["items"].as_array().unwrap().iter().find(ready);
            found.map(|pod| text(&pod["metadata"]["name"])).ok_or_else(|| format!("{pods:#}"))
        })
    }

    fn node_port_url(&self) -> String {
        let nodes = self.cluster.get(&["nodes"]);
        let addresses = nodes["items"][0]["status"]["addresses"].as_array().unwrap();
        let address = addresses.iter().find(|address| address["type"] == "InternalIP").unwrap();
        format!("http://{}:30080", text(&address["address"]))
    }

    /// A request from the host: the answer's body; retried while a Service's rules are on their way.
    fn fetch(&self, what: &str, words: &[&str]) -> String {
        eventually(what, 20, || {
            let output = run(Command::new("curl").args(["-sS", "-f", "--max-time", "5"]).args(words), b"", 10);
            check(output.code == 0, || format!("{output:?}")).map(|()| output.stdout)
        })
    }

    fn pages(&self) {
        let url = self.node_port_url();
        let page = self.fetch("the page by its NodePort", &[&url]);
        assert!(page.contains("<title>Guestbook</title>"), "{page}");
        let message = "Grüße & <b>bold</b>";
        let posted = self.fetch("a message", &["--data-binary", message, &format!("{url}/api/messages")]);
        assert!(posted.contains("\"ok\": true"), "{posted}");
        let answer: Value =
            serde_json::from_str(&self.fetch("the messages", &[&format!("{url}/api/messages")])).unwrap();
        assert_eq!(answer["messages"][0], message);

        // The same from a pod: by the Service's address, and by its name.
        let service = self.cluster.get(&["service", "frontend", "-n", "guestbook"]);
        let address = text(&service["spec"]["clusterIP"]);
        assert!(address.starts_with("10.173."), "{address}");
        let pod = self.pod("web");
        for host in [address.as_str(), "frontend", "frontend.guestbook.svc.cluster.local"] {
            let page = self.exec_in(&[&pod], &FETCH).arg(format!("http://{host}/")).run(20).ok();
            assert!(page.contains("<title>Guestbook</title>"), "{host}: {page}");
        }
        // Both pods of a Service are reached.
        eventually("answers of both web pods", 20, || {
            let mut servers = std::collections::BTreeSet::new();
            for _ in 0..12 {
                let answer = self.fetch("the messages", &[&format!("{url}/api/messages")]);
                let answer: Value = serde_json::from_str(&answer).unwrap();
                servers.insert(text(&answer["served_by"]));
            }
            check(servers.len() == 2, || format!("{servers:?}"))
        });
    }

    fn pods_are_listed(&self) {
        for version in BOTH {
            let table = self.cluster.kubectl_of(version, &["get", "pods", "-A", "-o", "wide"]).run(20).ok();
            let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
            let head = "NAMESPACE NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES";
            assert_eq!(rows.next().unwrap().join(" "), head);
            let rows: Vec<Vec<&str>> = rows.collect();
            assert_eq!(rows.len(), 5, "{table}");
            for row in rows {
                assert_eq!((row[0], row[2], row[3], row[4]), ("guestbook", "1/1", "Running", "0"), "{table}");
                assert!(row[6].starts_with("10.172.") && row[7] == "node-1", "{table}");
            }
        }
    }

    /// What the API says to requests for containers that are not there.
    fn refusals(&self) {
        let pod = self.pod("web");
        let base = format!("/api/v1/namespaces/guestbook/pods/{pod}");
        for (method, path) in [
            ("POST", format!("{base}/exec?command=id&stdout=1&container=nope")),
            ("GET", format!("{base}/log?container=nope")),
        ] {
            let (code, status) = self.cluster.http(method, &path, &[], b"");
            assert_eq!((code, &status["reason"]), (400, &Value::from("BadRequest")), "{path}: {status}");
            assert_eq!(status["message"], format!("container nope is not valid for pod {pod}"), "{path}");
        }
        let (code, status) = self.cluster.http("GET", "/api/v1/namespaces/guestbook/pods/nobody/log", &[], b"");
        assert_eq!((code, &status["message"]), (404, &Value::from("pods \"nobody\" not found")));
        let error = self.exec_in(&[&pod], &["/no/such/program"]).run(20).fails();
        assert!(error.contains("no such file or directory"), "{error}");
        let error = self.kubectl(&["logs", &pod, "--previous"]).run(20).fails();
        assert!(
            error.contains(&format!("previous terminated container \"web\" in pod \"{pod}\" not found")),
            "{error}"
        );
    }

    fn logs(&self) {
        let pod = self.pod("web");
        let all = self.kubectl(&["logs", &pod]).run(20).ok();
        assert!(all.lines().next().unwrap().starts_with("guestbook: serving on port 8080"), "{all}");
        let one = self.kubectl(&["logs", &pod, "--tail=1", "--timestamps"]).run(20).ok();
        assert_eq!(one.lines().count(), 1, "{one}");
        assert!(one.starts_with("20") && one.split(' ').next().unwrap().ends_with('Z'), "{one}");

        let following = Beside::start(&mut self.kubectl(&["logs", "--follow", "--tail=0", &pod]).command);
        // The line is written when the reader is there: asked for until it is seen would hide a reader that lags.
        let nonce = format!("/nonce-{:?}-{}", self.version, std::process::id());
        let (sender, done) = std::sync::mpsc::sync_channel::<()>(1);
        let (pod, nonce) = (pod.as_str(), nonce.as_str());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // One request a second until the reader has seen one: it may not follow yet at the first.
                loop {
                    let url = format!("http://127.0.0.1:8080{nonce}");
                    assert!(self.exec_in(&[pod], &FETCH).arg(url).run(20).fails().contains("404"));
                    let wait = std::time::Duration::from_secs(1);
                    if done.recv_timeout(wait) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            });
            let line = following.line_with(nonce, 20);
            drop(sender);
            assert!(line.contains("404"), "{line}");
        });
    }

    fn exec(&self) {
        let pod = self.pod("frontend");
        assert_eq!(self.exec_in(&[&pod], &["id", "-u"]).run(20).ok(), "10001\n");
        let both = self.exec_in(&[&pod], &["sh", "-c", "echo out; echo err >&2; exit 7"]).run(20);
        assert_eq!((both.code, both.stdout.as_str()), (7, "out\n"), "{both:#?}");
        // The server greets with an empty message, as upstream's do; a client that is not ready for it yet logs that it
        // drops it. What the program writes is all there in any case.
        let greeting = |line: &&str| line.ends_with("] Unknown stream id 1, discarding message\n");
        let stderr: String = both.stderr.split_inclusive('\n').filter(|line| !greeting(line)).collect();
        assert_eq!(stderr, "err\ncommand terminated with exit code 7\n", "{both:#?}");

        // The end of the input reaches the program, and what it says after that reaches us.
        let echoed = self.exec_in(&["-i", &pod], &["sh", "-c", "cat; echo end"]).stdin("x\n").run(20).ok();
        assert_eq!(echoed, "x\nend\n");
        let much = "0123456789abcdef\n".repeat(40_000);
        let sum = self.exec_in(&["-i", &pod], &["wc", "-c"]).stdin(&much).run(30).ok();
        assert_eq!(sum.trim(), much.len().to_string());
        let back = self.exec_in(&["-i", &pod], &["cat"]).stdin(&much).run(30).ok();
        assert!(back == much, "{} bytes came back of {}", back.len(), much.len());
    }

    /// `-t` gives a terminal of the caller's size.
    fn terminal(&self) {
        let pod = self.pod("frontend");
        // The size is told once the program runs.
        let words = "test -t 0 && test -t 1 && echo terminal; \
                     for i in $(seq 50); do busybox stty size 2>&1 | grep ^[0-9] && break; sleep 0.1; done";
        let exec = self.exec_in(&["-it", &pod], &["sh", "-c", &format!("'{words}'")]);
        let line: Vec<String> = std::iter::once(exec.command.get_program())
            .chain(exec.command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let line = format!("stty rows 41 cols 97; {}", line.join(" "));
        let output = run(Command::new("script").args(["-qec", &line, "/dev/null"]), b"", 30).ok();
        assert!(output.contains("terminal\r\n"), "{output:?}");
        assert!(output.contains("41 97"), "{output:?}");
    }

    fn port_forward(&self) {
        for target in [format!("pod/{}", self.pod("frontend")), "service/frontend".to_owned()] {
            let port = if target.starts_with("pod") { ":8080" } else { ":80" };
            let forward = Beside::start(&mut self.kubectl(&["port-forward", &target, port]).command);
            let line = forward.line_with("Forwarding from 127.0.0.1:", 20);
            let local = line.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap();
            let url = format!("http://127.0.0.1:{local}");
            for _ in 0..3 {
                let page = run(Command::new("curl").args(["-sSf", "--max-time", "10", &url]), b"", 15).ok();
                assert!(page.contains("<title>Guestbook</title>"), "{page}");
            }
            let ten = vec![format!("{url}/api/messages"); 10];
            let mut curl = Command::new("curl");
            let answers = run(curl.args(["-sSf", "--parallel", "--max-time", "10"]).args(ten), b"", 20).ok();
            assert_eq!(answers.matches("served_by").count(), 10, "{answers}");
        }
    }

    fn copies(&self) {
        let pod = self.pod("frontend");
        let folder = self.cluster.scratch().join(format!("copy-{:?}", self.version));
        std::fs::create_dir_all(folder.join("in/deep")).unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(folder.join("in/deep/random"), &bytes).unwrap();
        std::fs::write(folder.join("in/small"), "small\n").unwrap();
        let there = format!("guestbook/{pod}:/tmp/{:?}", self.version);
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        self.cluster.kubectl_of(self.version, &["cp", &path("in"), &there]).run(30).ok();
        self.cluster.kubectl_of(self.version, &["cp", &there, &path("out")]).run(30).ok();
        assert!(std::fs::read(folder.join("out/deep/random")).unwrap() == bytes);
        assert_eq!(std::fs::read_to_string(folder.join("out/small")).unwrap(), "small\n");
    }

    fn scales(&self) {
        for replicas in [3, 2] {
            self.kubectl(&["scale", "deployment/web", &format!("--replicas={replicas}")]).run(20).ok();
            self.rolled_out("web");
            eventually("the endpoints", 20, || {
                let slices =
                    self.cluster.get(&["endpointslices", "-n", "guestbook", "-l", "kubernetes.io/service-name=web"]);
                let items = slices["items"].as_array().unwrap().iter();
                let ready = items.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
                let ready = ready.filter(|endpoint| endpoint["conditions"]["ready"] == true).count();
                check(ready == replicas, || format!("{slices:#}"))
            });
        }
    }

    fn revision(&self) -> u64 {
        let deployment = self.cluster.get(&["deployment", "web", "-n", "guestbook"]);
        text(&deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"]).parse().unwrap()
    }

    fn greeting(&self) -> String {
        let pod = self.pod("web");
        self.exec_in(&[&pod], &["sh", "-c", "echo -n $GREETING"]).run(20).ok()
    }

    fn rolls_out(&self) {
        let before = self.greeting();
        let first = self.revision();
        let greeting = format!("hello-{:?}", self.version);
        self.kubectl(&["rollout", "pause", "deployment/web"]).run(20).ok();
        self.kubectl(&["set", "env", "deployment/web", &format!("GREETING={greeting}")]).run(20).ok();
        // A paused deployment takes note of its new template and does nothing about it.
        eventually("the controller's notice", 20, || {
            let deployment = self.cluster.get(&["deployment", "web", "-n", "guestbook"]);
            let seen = deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"];
            check(seen, || format!("{deployment:#}"))
        });
        assert_eq!((self.revision(), self.greeting()), (first, before.clone()));
        self.kubectl(&["rollout", "resume", "deployment/web"]).run(20).ok();
        self.rolled_out("web");
        assert_eq!((self.revision(), self.greeting()), (first + 1, greeting));
        let history = self.kubectl(&["rollout", "history", "deployment/web"]).run(20).ok();
        for revision in [first, first + 1] {
            assert!(history.lines().any(|l| l.split(' ').next() == Some(&revision.to_string())), "{history}");
        }
        let told = self.kubectl(&["rollout", "undo", "deployment/web"]).run(20).ok();
        assert!(told.contains("rolled back"), "{told}");
        self.rolled_out("web");
        assert_eq!((self.revision(), self.greeting()), (first + 2, before));
    }

    fn a_bad_image_is_told(&self) {
        let image = "localhost/guestbook/web:missing";
        self.kubectl(&["set", "image", "deployment/web", &format!("web={image}")]).run(20).ok();
        eventually("ImagePullBackOff", 60, || {
            let pods = self.cluster.get(&["pods", "-n", "guestbook", "-l", "tier=web"]);
            let mut waiting = pods["items"].as_array().unwrap().iter();
            let found = waiting.find_map(|pod| {
                let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
                (waiting["reason"] == "ImagePullBackOff").then(|| text(&waiting["message"]))
            });
            let message = found.ok_or_else(|| format!("{pods:#}"))?;
            check(message.contains(&format!("Back-off pulling image \"{image}\"")), || message)
        });
        let events = self.kubectl(&["events", "--types=Warning"]).run(20).ok();
        assert!(events.contains("Failed to pull image") && events.contains("Error: ImagePullBackOff"), "{events}");
        // What runs goes on, and the way back is short.
        self.fetch("the page by its NodePort", &[&self.node_port_url()]);
        self.kubectl(&["rollout", "undo", "deployment/web"]).run(20).ok();
        self.rolled_out("web");
        self.fetch("the messages", &[&format!("{}/api/messages", self.node_port_url())]);
    }

    fn is_deleted(&self) {
        self.kubectl(&["delete", "-f", &source("examples/guestbook/guestbook.yaml")]).run(90).ok();
        let error = self.cluster.kubectl(&["get", "namespace", "guestbook"]).run(20).fails();
        assert!(error.contains("namespaces \"guestbook\" not found"), "{error}");
        assert_eq!(self.cluster.get(&["pods", "-A"])["items"].as_array().unwrap().len(), 0);
        eventually("the end of the containers' processes", 20, || {
            let running = leftovers::in_containers(&self.cluster.instance);
            check(running.is_empty(), || format!("{running:?}"))
        });
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
