//! Somebody else says which images run, and webhooks are shown who asks them: what is configured by a file.

use std::time::Duration;

use apiserver::Options;
use apiserver::admission::{Chain, Settings};
use base::{Clock, Random, TaskGroup};
use http::Method;
use serde_json::{Value, json};

use crate::authorization_webhook::until;
use crate::peer::Peer;
use crate::world::World;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A server whose image policy asks `peer`, and its audit log.
async fn world(ca: &pki::Ca, peer: &Peer, tasks: &TaskGroup, with: &str, folder: &std::path::Path) -> World {
    let kubeconfig = peer.kubeconfig(ca, folder);
    let file = folder.join("admission.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: ImagePolicyWebhook\n  \
         configuration:\n    imagePolicy: {{kubeConfigFile: {}, retryBackoff: 1, {with}}}\n",
        kubeconfig.display()
    );
    std::fs::write(&file, text).unwrap();
    let admission = Chain::with(&["ImagePolicyWebhook".to_owned()], &[]).unwrap();
    let admission_settings = Settings::load(Some(&file), &admission, Clock::system(), &Random::system()).unwrap();
    let log = apiserver::audit::Options::log(folder.join("audit.log"));
    let audit = apiserver::audit::Audit::open(log, Clock::system(), tasks).await.unwrap();
    World::start_with(Options { admission, admission_settings, audit: Some(audit), ..Options::default() }).await
}

fn pod(name: &str, image: &str) -> String {
    let annotations = json!({"app.image-policy.k8s.io/break": "glass", "other": "x"});
    let containers = json!([{"name": "c", "image": image}]);
    json!({"metadata": {"name": name, "annotations": annotations}, "spec": {"containers": containers}}).to_string()
}

fn ca() -> pki::Ca {
    pki::Ca::generate("peers", Clock::system().now(), Duration::from_secs(3600)).unwrap()
}

fn judge(_: &str, review: &Value) -> (u16, Value) {
    let images = review["spec"]["containers"].as_array().unwrap();
    let status = match images[0]["image"].as_str().unwrap() {
        "good" => json!({"allowed": true, "auditAnnotations": {"seen": "yes"}}),
        "bad" => json!({"allowed": false, "reason": "too old"}),
        "odd" => json!({"allowed": false}),
        _ => return (500, json!({})),
    };
    (200, json!({"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview", "status": status}))
}

#[tokio::test]
async fn images_run_if_somebody_says_so() {
    let (ca, tasks, folder) = (ca(), TaskGroup::new(), tempfile::tempdir().unwrap());
    let peer = Peer::start(&ca, &tasks, judge).await;
    let world = world(&ca, &peer, &tasks, "allowTTL: 30, denyTTL: -1", folder.path()).await;
    let made = world.create(PODS, &pod("a", "good")).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let spec = json!({
        "containers": [{"image": "good"}], "namespace": "default",
        "annotations": {"app.image-policy.k8s.io/break": "glass"}
    });
    let seen = peer.seen();
    let asked = &seen[0].1;
    assert_eq!((&asked["kind"], &asked["spec"]), (&json!("ImageReview"), &spec));
    let refused = world.create(PODS, &pod("b", "bad")).await;
    let why = "pods \"b\" is forbidden: image policy webhook backend denied one or more images: too old";
    assert_eq!((refused.code, refused.message().as_str()), (403, why));
    let refused = world.create(PODS, &pod("b", "odd")).await;
    assert_eq!(refused.message(), "pods \"b\" is forbidden: one or more images rejected by webhook backend");

    // A yes is kept, a no that is not to be is not.
    let before = peer.seen().len();
    assert_eq!(world.create(PODS, &pod("c", "good")).await.code, 201);
    assert_eq!(peer.seen().len(), before);
    world.create(PODS, &pod("d", "bad")).await;
    assert_eq!(peer.seen().len(), before + 1);

    // Nobody says anything, five times: the pod is not taken.
    let failed = world.create(PODS, &pod("e", "broken")).await;
    assert_eq!((failed.code, peer.seen().len()), (403, before + 6), "{}", failed.message());
    assert!(failed.message().starts_with("pods \"e\" is forbidden: an error on the server ("), "{}", failed.message());

    // What is added to a running pod is shown as well; what runs already is not.
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "bad"}]}}).to_string();
    let headers = [("content-type", "application/strategic-merge-patch+json")];
    let added = world.send(Method::PATCH, &format!("{PODS}/a/ephemeralcontainers"), &headers, &debug).await;
    assert_eq!((added.code, added.message().ends_with("too old")), (403, true), "{}", added.text());
    assert_eq!(peer.seen().last().unwrap().1["spec"]["containers"], json!([{"image": "bad"}]));
}

#[tokio::test]
async fn silence_may_be_a_yes() {
    let (ca, tasks, folder) = (ca(), TaskGroup::new(), tempfile::tempdir().unwrap());
    let peer = Peer::start(&ca, &tasks, judge).await;
    let world = world(&ca, &peer, &tasks, "defaultAllow: true", folder.path()).await;
    let made = world.create(PODS, &pod("a", "broken")).await;
    assert_eq!(made.code, 201, "{}", made.text());
    assert_eq!(world.create(PODS, &pod("b", "bad")).await.code, 403, "a no is a no");
    assert_eq!(world.create(PODS, &pod("c", "good")).await.code, 201);
    let log = || std::fs::read_to_string(folder.path().join("audit.log")).unwrap_or_default();
    until(|| Box::pin(async { log().contains("image-policy.k8s.io/seen") })).await;
    for line in
        ["\"imagepolicywebhook.image-policy.k8s.io/failed-open\":\"true\"", "image-policy.k8s.io/seen\":\"yes\""]
    {
        assert!(log().contains(line), "{}", log());
    }
}

#[tokio::test]
async fn webhooks_are_shown_the_user_that_is_meant_for_them() {
    let (ca, tasks, folder) = (ca(), TaskGroup::new(), tempfile::tempdir().unwrap());
    let peer = Peer::start(&ca, &tasks, |_, review| {
        let response = json!({"uid": review["request"]["uid"], "allowed": true});
        (200, json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
    })
    .await;
    let host = peer.url.strip_prefix("https://").unwrap();
    let users = folder.path().join("users.yaml");
    std::fs::write(
        &users,
        format!("apiVersion: v1\nkind: Config\nusers:\n- {{name: '{host}', user: {{token: secret-word}}}}\n"),
    )
    .unwrap();
    let file = folder.path().join("admission.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: \
         ValidatingAdmissionWebhook\n  configuration: {{apiVersion: apiserver.config.k8s.io/v1, kind: \
         WebhookAdmissionConfiguration, kubeConfigFile: {}}}\n",
        users.display()
    );
    std::fs::write(&file, text).unwrap();
    let admission = Chain::default();
    let admission_settings = Settings::load(Some(&file), &admission, Clock::system(), &Random::system()).unwrap();
    let world = World::start_with(Options { admission, admission_settings, ..Options::default() }).await;
    let bundle = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, ca.cert_pem());
    for (kind, plural) in [
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    ] {
        let rule = json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]});
        let hook = json!({
            "name": "v.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "rules": [rule],
            "clientConfig": {"url": format!("{}/{plural}", peer.url), "caBundle": bundle},
        });
        let object = json!({"kind": kind, "metadata": {"name": "v"}, "webhooks": [hook]});
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
        let made = world.create(&path, &object.to_string()).await;
        assert_eq!(made.code, 201, "{}", made.text());
    }
    world.server.lookup().wait_fresh().await.unwrap();
    let made = world.create("/api/v1/namespaces/default/configmaps", r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let shown: Vec<(String, String)> = peer.bearers();
    let of = |plural: &str| {
        let found = shown.iter().find(|(path, _)| path.starts_with(&format!("/{plural}")));
        found.map(|(_, token)| token.clone())
    };
    assert_eq!(of("validatingwebhookconfigurations").as_deref(), Some("Bearer secret-word"));
    assert_eq!(of("mutatingwebhookconfigurations").as_deref(), Some(""), "the other plugin has no users");
}
