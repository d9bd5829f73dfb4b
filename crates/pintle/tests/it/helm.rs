//! helm 4 on a whole cluster: three charts as the public ones are, through the whole life of a release.

use std::process::Command;

use serde_json::Value;

use crate::cluster::{Cluster, Invocation};
use crate::tools::{installed, source};

#[test]
fn helm_runs_three_charts() {
    let cluster = Cluster::start(&["redis", "web", "frontend"]);
    cluster.kubectl(&["create", "namespace", "shops"]).run(20).ok();
    let helm = Helm { cluster: &cluster };
    helm.shop();
    helm.cache();
    helm.tenant();
    helm.wrong_inputs();
    assert_eq!(helm.helm(&["list", "--all-namespaces", "--short"]).run(20).ok(), "");
    cluster.finish();
}

fn chart(name: &str) -> String {
    source(&format!("examples/charts/{name}"))
}

struct Helm<'a> {
    cluster: &'a Cluster,
}

impl Helm<'_> {
    fn helm(&self, words: &[&str]) -> Invocation {
        let mut command = Command::new(installed("bin/helm"));
        command.args(words).env("HOME", self.cluster.scratch()).env_remove("HELM_NAMESPACE");
        command.env("KUBECONFIG", self.cluster.data_dir().join("admin.kubeconfig"));
        Invocation::of(command)
    }

    /// The state of a release's revisions, oldest first.
    fn history(&self, release: &str) -> Vec<String> {
        let text = self.helm(&["history", release, "--namespace", "shops", "-o", "json"]).run(20).ok();
        let revisions: Value = serde_json::from_str(&text).unwrap();
        revisions.as_array().unwrap().iter().map(|own| own["status"].as_str().unwrap().to_owned()).collect()
    }

    /// A web server: waits for its pods, tests itself, changes, fails to and goes back by itself, is rolled back.
    fn shop(&self) {
        let (place, chart) = (["--namespace", "shops", "--timeout", "90s"], chart("shop"));
        let notes = self.helm(&["install", "front", &chart, "--wait"]).args(&place).run(100).ok();
        assert!(notes.contains("on Kubernetes v1.37") && notes.contains("autoscaling/v2"), "{notes}");
        self.helm(&["test", "front"]).args(&place).run(100).ok();
        let deployment = self.cluster.get(&["deployment", "front-shop", "-n", "shops"]);
        assert_eq!(deployment["status"]["readyReplicas"], 2);

        let change = ["upgrade", "front", &chart, "--wait", "--set", "greeting=Good evening,replicaCount=1"];
        self.helm(&change).args(&place).run(100).ok();
        self.helm(&["test", "front"]).args(&place).run(100).ok();

        let failing = ["upgrade", "front", &chart, "--rollback-on-failure", "--set", "image.tag=missing"];
        let short = ["--namespace", "shops", "--timeout", "8s"];
        let why = self.helm(&failing).args(&short).run(100).fails();
        assert!(why.contains("has been rolled back"), "{why}");
        assert_eq!(self.history("front"), ["superseded", "superseded", "failed", "deployed"]);
        self.helm(&["test", "front"]).args(&place).run(100).ok();

        self.helm(&["rollback", "front", "1", "--wait"]).args(&place).run(100).ok();
        let deployment = self.cluster.get(&["deployment", "front-shop", "-n", "shops"]);
        assert_eq!(deployment["spec"]["replicas"], 2);
        let scaled = ["upgrade", "front", &chart, "--set", "autoscaling.enabled=true", "--reset-values"];
        self.helm(&scaled).args(&place).run(100).ok();
        let autoscaler = self.cluster.get(&["hpa", "front-shop", "-n", "shops"]);
        assert_eq!(autoscaler["spec"]["scaleTargetRef"]["name"], "front-shop");
        self.helm(&["uninstall", "front", "--wait"]).args(&place).run(100).ok();
        let all = ["get", "deployments,services,ingresses,hpa,pdb,configmaps", "-n", "shops", "-o", "name"];
        let left = self.cluster.kubectl(&all).args(&["-l", "app.kubernetes.io/instance=front"]).run(20).ok();
        assert_eq!(left, "");
    }

    /// A stateful server with hooks; its password is looked up in the cluster, and so outlives an upgrade.
    fn cache(&self) {
        let (place, chart) = (["--namespace", "shops", "--timeout", "90s"], chart("cache"));
        self.helm(&["install", "store", &chart, "--wait"]).args(&place).run(100).ok();
        let password = || self.cluster.get(&["secret", "store-cache", "-n", "shops"])["data"]["password"].clone();
        let before = password();
        self.helm(&["upgrade", "store", &chart, "--wait", "--set", "maxmemory=8mb"]).args(&place).run(100).ok();
        assert_eq!(password(), before);
        let revision = ["exec", "-n", "shops", "deploy/store-cache", "--", "redis-cli", "get", "revision"];
        assert_eq!(self.cluster.kubectl(&revision).run(20).ok(), "2\n");
        let hooks = ["get", "pods", "-n", "shops", "-l", "app.kubernetes.io/component=hook", "-o", "name"];
        assert_eq!(self.cluster.kubectl(&hooks).run(20).ok(), "", "hooks that succeeded are deleted");
        self.helm(&["rollback", "store", "1", "--wait"]).args(&place).run(100).ok();
        assert_eq!(self.cluster.kubectl(&revision).run(20).ok(), "1\n", "the hook of revision 1 as it was");
        let values = self.helm(&["get", "values", "store", "--all", "-o", "json"]).args(&place[..2]).run(20).ok();
        assert!(values.contains("16mb"), "{values}");
        self.helm(&["uninstall", "store", "--wait"]).args(&place).run(100).ok();
    }

    /// A kind of its own with objects of it, and the rules around them.
    fn tenant(&self) {
        let (place, chart) = (["--namespace", "shops", "--timeout", "60s"], chart("tenant"));
        self.helm(&["install", "t", &chart, "--wait"]).args(&place).run(100).ok();
        assert_eq!(self.cluster.get(&["room", "t", "-n", "shops"])["spec"]["seats"], 3);
        self.helm(&["upgrade", "t", &chart, "--set", "seats=4"]).args(&place).run(100).ok();
        let why = self.helm(&["upgrade", "t", &chart, "--set", "seats=14"]).args(&place).run(100).fails();
        assert!(why.contains("denied request: no room has more than ten seats"), "{why}");
        let why = self.helm(&["upgrade", "t", &chart, "--set", "owner=root"]).args(&place).run(100).fails();
        assert!(why.contains("root owns no rooms"), "{why}");
        assert_eq!(self.history("t"), ["superseded", "deployed", "failed", "failed"]);
        self.helm(&["rollback", "t", "1", "--wait"]).args(&place).run(100).ok();
        assert_eq!(self.cluster.get(&["room", "t", "-n", "shops"])["spec"]["seats"], 3);
        self.helm(&["uninstall", "t", "--wait"]).args(&place).run(100).ok();
        // helm leaves definitions.
        self.cluster.kubectl(&["delete", "crd", "rooms.tenant.example.com"]).run(30).ok();
    }

    fn wrong_inputs(&self) {
        let chart = chart("tenant");
        let install = ["install", "twice", &chart, "--namespace", "shops", "--skip-crds"];
        let why = self.helm(&install).run(60).fails();
        assert!(why.contains(r#"no matches for kind "Room" in version "tenant.example.com/v1""#), "{why}");
        let nowhere = ["install", "x", &self::chart("shop"), "--namespace", "nowhere"];
        let why = self.helm(&nowhere).run(60).fails();
        assert!(why.contains(r#"namespaces "nowhere" not found"#), "{why}");
        let wrong = ["install", "x", &self::chart("shop"), "--namespace", "shops", "--set", "service.port=70000"];
        let why = self.helm(&wrong).run(60).fails();
        assert!(why.contains("must be between 1 and 65535, inclusive"), "{why}");
        self.helm(&["uninstall", "x", "--namespace", "shops", "--ignore-not-found", "--wait"]).run(60).ok();
        self.helm(&["uninstall", "twice", "--namespace", "shops", "--ignore-not-found"]).run(60).ok();
    }
}
