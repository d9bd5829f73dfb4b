//! Authorization by a file: webhooks that decide, are not asked, fail; a file that changes while the server runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver::authz::Chain;
use apiserver::{Caller, Options};
use base::{Clock, Random};
use http::Request;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::peer::Peer;
use crate::world::{Answer, World};

const PODS: &str = "/api/v1/namespaces/default/pods";

struct Place {
    world: World,
    chain: Arc<Chain>,
    folder: tempfile::TempDir,
    ca: pki::Ca,
    /// One certificate for each user: its fingerprint is part of what a webhook is asked.
    clients: Mutex<BTreeMap<String, Arc<rustls::ClientConfig>>>,
}

async fn place() -> Place {
    let clock = Clock::system();
    let chain = Arc::new(Chain::standard(clock, Random::system()));
    let world = World::start_with(Options { authorizer: chain.clone(), ..Options::default() }).await;
    let ca = pki::Ca::generate("peers", clock.now(), Duration::from_secs(3600)).unwrap();
    Place { world, chain, folder: tempfile::tempdir().unwrap(), ca, clients: Mutex::default() }
}

fn file(kubeconfig: &Path, policy: &str, conditions: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- type: Webhook\n  \
         name: hook\n  webhook:\n    timeout: 2s\n    subjectAccessReviewVersion: v1\n    \
         matchConditionSubjectAccessReviewVersion: v1\n    failurePolicy: {policy}\n    connectionInfo:\n      \
         type: KubeConfigFile\n      kubeConfigFile: {}\n    matchConditions: [{conditions}]\n- type: RBAC\n  name: rbac\n",
        kubeconfig.display()
    )
}

impl Place {
    fn follow(&self, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join("authorization.yaml");
        std::fs::write(&path, text).unwrap();
        self.chain.follow(path.clone(), "server-1", &self.world.tasks).unwrap();
        path
    }

    async fn as_user(&self, user: &str, path: &str) -> (u16, String) {
        let client = self
            .clients
            .lock()
            .entry(user.to_owned())
            .or_insert_with(|| self.world.client_for(Some((user, &[]))))
            .clone();
        let mut sender = self.world.connect(client).await;
        let request = Request::get(path).header("host", "test").body(Full::default()).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let answer = Answer { code: head.status.as_u16(), headers: head.headers, bytes };
        (answer.code, answer.message())
    }

    async fn figure(&self, line: &str) -> bool {
        self.world.get("/metrics").await.text().lines().any(|own| own == line)
    }
}

fn by_name(body: &Value) -> Value {
    match body["spec"]["user"].as_str() {
        Some("ann") => json!({"status": {"allowed": true, "reason": "she may"}}),
        Some("bob") => json!({"status": {"allowed": false, "denied": true, "reason": "never"}}),
        _ => json!({"status": {"allowed": false, "reason": "I do not know"}}),
    }
}

#[tokio::test]
async fn a_webhook_decides_and_its_answers_are_kept() {
    let place = place().await;
    let hook = Peer::start(&place.ca, &place.world.tasks, |_, body| (200, by_name(body))).await;
    let kubeconfig = hook.kubeconfig(&place.ca, place.folder.path());
    place.follow(&file(&kubeconfig, "Deny", ""));
    assert_eq!(place.as_user("ann", PODS).await.0, 200);
    let (code, why) = place.as_user("bob", PODS).await;
    assert_eq!((code, why.ends_with("in the namespace \"default\": never")), (403, true), "{why}");
    let (code, why) = place.as_user("eve", PODS).await;
    assert_eq!((code, why.ends_with(": I do not know")), (403, true), "{why}");
    let asked = hook.seen();
    assert_eq!(asked[0].0, "/ask?timeout=2s");
    assert_eq!(
        asked[0].1["spec"]["resourceAttributes"],
        json!({"namespace": "default", "verb": "list", "version": "v1", "resource": "pods"})
    );
    assert_eq!(asked[0].1["spec"]["groups"], json!(["system:authenticated"]));
    for user in ["ann", "bob", "eve"] {
        place.as_user(user, PODS).await;
    }
    assert_eq!(hook.seen().len(), 3, "answers are kept");
    assert_eq!(place.as_user("ann", &format!("{PODS}?labelSelector=a%3Db")).await.0, 200);
    let requirement = json!([{"key": "a", "operator": "In", "values": ["b"]}]);
    assert_eq!(hook.seen()[3].1["spec"]["resourceAttributes"]["labelSelector"]["requirements"], requirement);
    // The administrators' group is never asked about.
    assert_eq!(place.world.get(PODS).await.code, 200);
    assert_eq!(hook.seen().len(), 4);
    for line in [
        "apiserver_authorization_decisions_total{type=\"Webhook\",name=\"hook\",decision=\"allowed\"} 3",
        "apiserver_authorization_decisions_total{type=\"Webhook\",name=\"hook\",decision=\"denied\"} 2",
        "apiserver_authorization_webhook_evaluations_total{name=\"hook\",result=\"success\"} 4",
    ] {
        assert!(place.figure(line).await, "{line}");
    }
}

#[tokio::test]
async fn conditions_keep_questions_from_the_webhook() {
    let place = place().await;
    let hook = Peer::start(&place.ca, &place.world.tasks, |_, body| (200, by_name(body))).await;
    let kubeconfig = hook.kubeconfig(&place.ca, place.folder.path());
    let only = "{expression: \"has(request.resourceAttributes)\"}, \
                {expression: \"request.resourceAttributes.namespace == 'default'\"}";
    place.follow(&file(&kubeconfig, "Deny", only));
    assert_eq!(place.as_user("ann", PODS).await.0, 200);
    assert_eq!(place.as_user("ann", "/api/v1/namespaces/other/pods").await.0, 403);
    assert_eq!(place.as_user("ann", "/metrics").await.0, 403);
    assert_eq!(hook.seen().len(), 1);
    let line = "apiserver_authorization_match_condition_exclusions_total{type=\"Webhook\",name=\"hook\"} 2";
    assert!(place.figure(line).await);
}

#[tokio::test]
async fn a_webhook_that_fails_is_what_the_policy_says() {
    let place = place().await;
    let hook = Peer::start(&place.ca, &place.world.tasks, |_, _| (403, json!({}))).await;
    let kubeconfig = hook.kubeconfig(&place.ca, place.folder.path());
    let path = place.follow(&file(&kubeconfig, "NoOpinion", ""));
    let role =
        json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]});
    let binding = json!({
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}],
    });
    let base = "/apis/rbac.authorization.k8s.io/v1";
    assert_eq!(place.world.create(&format!("{base}/clusterroles"), &role.to_string()).await.code, 201);
    assert_eq!(place.world.create(&format!("{base}/clusterrolebindings"), &binding.to_string()).await.code, 201);
    place.world.server.lookup().wait_fresh().await.unwrap();
    assert_eq!(place.as_user("ann", PODS).await.0, 200, "RBAC is asked after it");
    assert_eq!(place.as_user("bob", PODS).await.0, 500, "nobody could say");
    let line = "apiserver_authorization_webhook_evaluations_fail_open_total{name=\"hook\",result=\"error\"} 2";
    assert!(place.figure(line).await);

    // A wrong file changes nothing, and is counted; a right one holds at once.
    let reloaded = |status: &str| {
        let id = apiserver::reload::hash_text(b"server-1");
        format!(
            "apiserver_authorization_config_controller_automatic_reloads_total{{apiserver_id_hash=\"{id}\",\
             status=\"{status}\"}} 1"
        )
    };
    let mut reloads = place.chain.reloads();
    replace(&path, "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n");
    counted(&mut reloads, 1).await;
    assert!(place.figure(&reloaded("failure")).await);
    assert_eq!(place.as_user("ann", PODS).await.0, 200);
    replace(&path, &file(&kubeconfig, "Deny", ""));
    counted(&mut reloads, 2).await;
    assert!(place.figure(&reloaded("success")).await);
    assert_eq!(place.as_user("ann", PODS).await.0, 500, "the webhook's failure denies now");
}

/// As an editor does it: a new file in the old one's place.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Asks anew until it is so, for what nothing tells of yet: the audit log's file.
pub async fn until<'a>(mut holds: impl FnMut() -> futures_util::future::BoxFuture<'a, bool>) {
    let asking = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("within twenty seconds");
}

/// Waits until so much was counted.
pub async fn counted(count: &mut tokio::sync::watch::Receiver<u64>, least: u64) {
    let waiting = tokio::time::timeout(Duration::from_secs(20), count.wait_for(|count| *count >= least));
    waiting.await.expect("within twenty seconds").expect("the server runs");
}

/// Expressions and admission cannot wait: they hold up their thread, and only where there are others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_cannot_wait_ask_too() {
    use apiserver::authz::{Attributes, Authorizer, Decision, What};
    let place = place().await;
    let hook = Peer::start(&place.ca, &place.world.tasks, |_, body| (200, by_name(body))).await;
    let kubeconfig = hook.kubeconfig(&place.ca, place.folder.path());
    place.follow(&file(&kubeconfig, "Deny", ""));
    let caller = Caller::new("ann", &[]);
    let attributes = Attributes { caller: &caller, verb: "get", what: What::Path("/metrics") };
    let decision = place.chain.authorize(&attributes, place.world.server.lookup());
    assert_eq!(decision, Decision::Allow("she may".to_owned()));
}
