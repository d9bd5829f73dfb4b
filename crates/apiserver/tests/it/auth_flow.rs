//! Who may do what, seen from outside: bootstrap, tokens, roles, escalation, nodes, impersonation, admission of pods.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{Options, authn, authz, bootstrap};
use base::Clock;
use bytes::Bytes;
use http::{HeaderName, Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::world::{Answer, World};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn bootstrap_options() -> bootstrap::Options {
    bootstrap::Options {
        advertise_address: "192.0.2.10".parse().unwrap(),
        port: 6443,
        service_ip: "10.43.0.1".parse().unwrap(),
        client_ca_pem: "client CA".to_owned(),
        front_proxy_ca_pem: "front proxy CA".to_owned(),
        node_settings: Default::default(),
        extra: Vec::new(),
    }
}

/// A cluster as it is after its first start.
pub async fn cluster() -> World {
    let key = pki::PrivateKey::generate().unwrap();
    let audiences = vec![ISSUER.to_owned()];
    let verifier =
        pki::token::Verifier::new(vec![ISSUER.to_owned()], vec![key.public_key().clone()], audiences.clone());
    let options = Options {
        authenticator: authn::standard(verifier, None, Clock::system()),
        authorizer: authz::standard(),
        tokens: Some(Arc::new(pki::token::Signer::new(ISSUER, key))),
        token_audiences: audiences,
        ..Options::default()
    };
    let world = World::start_with(options).await;
    bootstrap::run(&world.server, &bootstrap_options()).await.unwrap();
    world.server.lookup().wait_fresh().await.unwrap();
    world
}

/// A request by somebody with a certificate (name, groups) or without one.
pub async fn send_as(
    world: &World,
    user: Option<(&str, &[&str])>,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut sender = world.connect(world.client_for(user)).await;
    let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    request.headers_mut().insert("host", "test".parse().unwrap());
    for (name, value) in headers {
        request.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Answer { code: parts.status.as_u16(), headers: parts.headers, bytes: body.collect().await.unwrap().to_bytes() }
}

async fn get_as(world: &World, user: (&str, &[&str]), path: &str) -> Answer {
    send_as(world, Some(user), Method::GET, path, &[], "").await
}

async fn made(world: &World, path: &str, body: Value) -> Value {
    let answer = world.create(path, &body.to_string()).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
}

#[tokio::test]
async fn a_cluster_begins_with_its_own_objects() {
    let world = cluster().await;
    for path in [
        "/api/v1/namespaces/kube-node-lease",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:node-proxier",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/extension-apiserver-authentication-reader",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
    ] {
        assert_eq!(world.get(path).await.code, 200, "{path}");
    }
    let service = world.get("/api/v1/namespaces/default/services/kubernetes").await.json();
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.1");

    // A second start writes nothing, a changed address only what it is in.
    let revision = |answer: &Answer| answer.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let before = revision(&world.get("/api/v1/namespaces").await);
    bootstrap::run(&world.server, &bootstrap_options()).await.unwrap();
    assert_eq!(revision(&world.get("/api/v1/namespaces").await), before);
    let moved = bootstrap::Options { advertise_address: "192.0.2.11".parse().unwrap(), ..bootstrap_options() };
    bootstrap::run(&world.server, &moved).await.unwrap();
    let slice = world.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await.json();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.11"]));
}

#[tokio::test]
async fn bootstrap_is_quick() {
    let clock = Clock::system();
    let world = World::start().await;
    let start = clock.monotonic();
    bootstrap::run(&world.server, &bootstrap_options()).await.unwrap();
    let took = clock.monotonic() - start;
    println!("bootstrap took {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn rights_come_from_roles() {
    let world = cluster().await;
    let jane: (&str, &[&str]) = ("jane", &["dev"]);
    let refused = get_as(&world, jane, "/api/v1/namespaces/default/pods").await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let binding = |name: &str, role: &str| {
        json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "dev"}],
        })
    };
    made(&world, bindings, binding("dev-edit", "edit")).await;
    world.server.lookup().wait_fresh().await.unwrap();
    assert_eq!(get_as(&world, jane, "/api/v1/namespaces/default/pods").await.code, 200);
    assert_eq!(get_as(&world, jane, "/api/v1/namespaces/kube-system/pods").await.code, 403);

    // What she asks about herself.
    let review =
        json!({"spec": {"resourceAttributes": {"namespace": "default", "verb": "delete", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = send_as(&world, Some(jane), Method::POST, path, &[], &review.to_string()).await.json();
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(
        answer["status"]["reason"],
        "RBAC: allowed by RoleBinding \"dev-edit/default\" of ClusterRole \"edit\" to Group \"dev\""
    );
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let review = json!({"spec": {"namespace": "default"}}).to_string();
    let rules = send_as(&world, Some(jane), Method::POST, path, &[], &review).await.json();
    assert!(rules["status"]["resourceRules"].as_array().unwrap().len() > 10, "{rules}");
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let myself = send_as(&world, Some(jane), Method::POST, path, &[], "{}").await.json();
    assert_eq!(myself["status"]["userInfo"]["username"], "jane");

    // What is taken back is gone.
    assert_eq!(world.delete(&format!("{bindings}/dev-edit"), "").await.code, 200);
    world.server.lookup().wait_fresh().await.unwrap();
    assert_eq!(get_as(&world, jane, "/api/v1/namespaces/default/pods").await.code, 403);

    // A role that is not there.
    made(&world, bindings, binding("dev-gone", "gone")).await;
    world.server.lookup().wait_fresh().await.unwrap();
    let refused = get_as(&world, jane, "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles").await;
    assert!(
        refused
            .message()
            .ends_with("in the namespace \"default\": RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let world = cluster().await;
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    made(
        &world,
        path,
        json!({
            "metadata": {"name": "jane-admin"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
        }),
    )
    .await;
    world.server.lookup().wait_fresh().await.unwrap();
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let role = |name: &str, resource: &str| {
        let rule = json!({"apiGroups": [""], "resources": [resource], "verbs": ["get", "delete"]});
        json!({"metadata": {"name": name}, "rules": [rule]}).to_string()
    };
    let jane: Option<(&str, &[&str])> = Some(("jane", &[]));
    let fine = send_as(&world, jane, Method::POST, roles, &[], &role("fine", "pods")).await;
    assert_eq!(fine.code, 201, "{}", fine.text());
    let refused = send_as(&world, jane, Method::POST, roles, &[], &role("more", "nodes")).await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"delete\"]}"
    );
    let binding = json!({
        "metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    let refused = send_as(&world, jane, Method::POST, path, &[], &binding.to_string()).await;
    assert_eq!(refused.code, 403);
    assert!(
        refused.message().contains("{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_token_is_good_while_its_pod_is() {
    let world = cluster().await;
    let pod = made(&world, "/api/v1/namespaces/default/pods", pod("web")).await;
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["tolerations"][1]["tolerationSeconds"], 300);
    let volume = &spec["volumes"][0];
    assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(mount["name"], volume["name"]);

    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid});
    let asked = json!({"spec": {"boundObjectRef": bound}});
    let granted = made(&world, "/api/v1/namespaces/default/serviceaccounts/default/token", asked).await;
    let token = granted["status"]["token"].as_str().unwrap();
    let bearer = format!("Bearer {token}");
    let myself = || async {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        send_as(&world, None, Method::POST, path, &[("authorization", &bearer)], "{}").await
    };
    let info = myself().await.json()["status"]["userInfo"].clone();
    assert_eq!(info["username"], "system:serviceaccount:default:default");
    let groups = json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
    assert_eq!(info["groups"], groups);
    assert_eq!(info["extra"]["authentication.kubernetes.io/pod-name"], json!(["web"]));

    let review = |token: &str, audiences: Value| json!({"spec": {"token": token, "audiences": audiences}}).to_string();
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let good = world.create(path, &review(token, json!([]))).await.json();
    assert_eq!(good["status"]["authenticated"], true);
    assert_eq!(good["status"]["audiences"], json!([ISSUER]));
    let wrong = world.create(path, &review(token, json!(["vault"]))).await.json();
    assert_eq!(wrong["status"]["authenticated"], Value::Null);
    assert!(wrong["status"]["error"].as_str().unwrap().contains("is invalid for the target audiences"), "{wrong}");

    let gone = world.delete("/api/v1/namespaces/default/pods/web?gracePeriodSeconds=0", "").await;
    assert_eq!(gone.code, 200, "{}", gone.text());
    world.server.lookup().wait_fresh().await.unwrap();
    assert_eq!(myself().await.code, 401);
    let nobody = send_as(&world, None, Method::GET, "/api", &[("authorization", "Bearer nonsense")], "").await;
    assert_eq!(nobody.code, 401);
}

#[tokio::test]
async fn bootstrap_tokens_let_a_node_introduce_itself() {
    let world = cluster().await;
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
        },
    });
    made(&world, "/api/v1/namespaces/kube-system/secrets", secret).await;
    world.server.lookup().wait_fresh().await.unwrap();
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let header = [("authorization", "Bearer abcdef.0123456789abcdef")];
    let answer = send_as(&world, None, Method::POST, path, &header, "{}").await.json();
    assert_eq!(answer["status"]["userInfo"]["username"], "system:bootstrap:abcdef");
    let header = [("authorization", "Bearer abcdef.0123456789abcdee")];
    assert_eq!(send_as(&world, None, Method::POST, path, &header, "{}").await.code, 401);
}

#[tokio::test]
async fn acting_as_others_must_be_allowed() {
    let world = cluster().await;
    let path = "/api/v1/namespaces/default/pods";
    let jane = [("impersonate-user", "jane"), ("impersonate-group", "dev")];
    let refused = world.send(Method::GET, path, &jane, "").await;
    assert!(refused.message().contains("User \"jane\" cannot list"), "{}", refused.message());
    let bob: Option<(&str, &[&str])> = Some(("bob", &[]));
    let refused = send_as(&world, bob, Method::GET, path, &jane, "").await;
    assert_eq!(
        refused.message(),
        "users \"jane\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the \
         cluster scope"
    );
}

#[tokio::test]
async fn strangers_see_health_alone() {
    let world = cluster().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(send_as(&world, None, Method::GET, path, &[], "").await.code, 200, "{path}");
    }
    for path in ["/version", "/api", "/metrics", "/api/v1/namespaces"] {
        assert_eq!(send_as(&world, None, Method::GET, path, &[], "").await.code, 401, "{path}");
    }
}

#[tokio::test]
async fn nodes_keep_to_themselves() {
    let world = cluster().await;
    let n1: (&str, &[&str]) = ("system:node:n1", &["system:nodes"]);
    let node = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}}).to_string();
    let create = |body: String| {
        let world = &world;
        async move { send_as(world, Some(n1), Method::POST, "/api/v1/nodes", &[], &body).await }
    };
    let refused = create(node("n2", json!({}))).await;
    assert_eq!(refused.message(), "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\"");
    let refused = create(node("n1", json!({"node-restriction.kubernetes.io/x": "y"}))).await;
    assert!(
        refused.message().ends_with("set the following labels: node-restriction.kubernetes.io/x"),
        "{}",
        refused.message()
    );
    let created = create(node("n1", json!({"kubernetes.io/hostname": "n1"}))).await;
    assert_eq!(created.code, 201, "{}", created.text());
    assert_eq!(created.json()["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");

    made(&world, "/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "s"}})).await;
    let path = "/api/v1/namespaces/default/secrets/s";
    let refused = get_as(&world, n1, path).await;
    assert_eq!(
        refused.message(),
        "secrets \"s\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in the \
         namespace \"default\": no relationship found between node 'n1' and this object"
    );
    let mut user = pod("user");
    user["spec"]["nodeName"] = json!("n1");
    user["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]);
    made(&world, "/api/v1/namespaces/default/pods", user).await;
    world.server.lookup().wait_fresh().await.unwrap();
    assert_eq!(get_as(&world, n1, path).await.code, 200);
    assert_eq!(get_as(&world, ("system:node:n2", &["system:nodes"]), path).await.code, 403);
}

#[tokio::test]
async fn what_a_pod_refers_to_must_be_there() {
    let world = cluster().await;
    let pods = "/api/v1/namespaces/default/pods";
    let create = |spec: Value| {
        let world = &world;
        async move {
            let mut body = pod("p");
            for (key, value) in spec.as_object().unwrap() {
                body["spec"][key] = value.clone();
            }
            world.create(pods, &body.to_string()).await
        }
    };
    let refused = create(json!({"serviceAccountName": "web"})).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (
            403,
            "pods \"p\" is forbidden: error looking up service account default/web: serviceaccount \"web\" not found"
        )
    );
    let refused = create(json!({"priorityClassName": "high"})).await;
    assert_eq!(refused.message(), "pods \"p\" is forbidden: no PriorityClass with name high was found");
    let refused = create(json!({"runtimeClassName": "kata"})).await;
    assert_eq!(refused.message(), "pods \"p\" is forbidden: pod rejected: RuntimeClass \"kata\" not found");
    let critical = create(json!({"priorityClassName": "system-node-critical"})).await.json();
    assert_eq!(critical["spec"]["priority"], 2_000_001_000);

    let missing = world.create("/api/v1/namespaces/gone/configmaps", r#"{"metadata":{"name":"c"}}"#).await;
    assert_eq!((missing.code, missing.message().as_str()), (404, "namespaces \"gone\" not found"));
    let refused = world.delete("/api/v1/namespaces/kube-system", "").await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (403, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted")
    );
    made(&world, "/api/v1/namespaces", json!({"metadata": {"name": "going"}})).await;
    world.delete("/api/v1/namespaces/going", "").await;
    world.server.lookup().wait_fresh().await.unwrap();
    let refused = world.create("/api/v1/namespaces/going/configmaps", r#"{"metadata":{"name":"c"}}"#).await;
    assert_eq!(refused.code, 403);
    let cause = &refused.json()["details"]["causes"][0];
    assert_eq!(cause["reason"], "NamespaceTerminating");
}

#[tokio::test]
async fn a_namespace_demands_security_of_its_pods() {
    let world = cluster().await;
    let labels = json!({
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.30",
    });
    made(&world, "/api/v1/namespaces", json!({"metadata": {"name": "safe", "labels": labels}})).await;
    made(&world, "/api/v1/namespaces/safe/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let pods = "/api/v1/namespaces/safe/pods";
    let mut bad = pod("bad");
    bad["spec"]["hostPID"] = json!(true);
    let refused = world.create(pods, &bad.to_string()).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (403, "pods \"bad\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)")
    );
    let fine = world.create(pods, &pod("fine").to_string()).await;
    assert_eq!(fine.code, 201, "{}", fine.text());
    let warning = fine.headers.get("warning").unwrap().to_str().unwrap();
    assert!(
        warning.contains("would violate PodSecurity \\\"restricted:v1.30\\\": allowPrivilegeEscalation"),
        "{warning}"
    );

    let stricter = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let merge = "application/merge-patch+json";
    let patched = world.patch("/api/v1/namespaces/safe", merge, &stricter.to_string()).await;
    assert_eq!(patched.code, 200, "{}", patched.text());
    let warnings: Vec<&str> = patched.headers.get_all("warning").iter().map(|one| one.to_str().unwrap()).collect();
    assert!(warnings[0].contains("existing pods in namespace \\\"safe\\\" violate the new PodSecurity enforce level"));
    let wrong = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "strict"}}});
    let refused = world.patch("/api/v1/namespaces/safe", merge, &wrong.to_string()).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
}

#[tokio::test]
async fn a_bound_pod_is_told_its_zone() {
    let world = cluster().await;
    let labels = json!({"topology.kubernetes.io/zone": "z1", "example.com/rack": "r"});
    made(&world, "/api/v1/nodes", json!({"metadata": {"name": "n9", "labels": labels}})).await;
    let path = "/api/v1/namespaces/default/pods";
    made(&world, path, pod("zoned")).await;
    world.server.lookup().wait_fresh().await.unwrap();
    let binding = json!({"metadata": {"name": "zoned"}, "target": {"kind": "Node", "name": "n9"}});
    let bound = world.create(&format!("{path}/zoned/binding"), &binding.to_string()).await;
    assert_eq!(bound.code, 201, "{}", bound.text());
    let pod = world.get(&format!("{path}/zoned")).await.json();
    assert_eq!(pod["spec"]["nodeName"], "n9");
    assert_eq!(pod["metadata"]["labels"], json!({"topology.kubernetes.io/zone": "z1"}));
}
