//! Each way to say who one is, held and not held: certificates, tokens of service accounts, bootstrap tokens, a proxy
//! that vouches, and acting as somebody else. Issuers and the token webhook are in `authentication`.

use std::time::Duration;

use apiserver::{Options, authn, authz, bootstrap};
use base::{Clock, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use pki::tls::{Alpn, Reloadable};
use pki::token::{Bound, Grant, Ref, Signer, Verifier};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::auth_flow::send_as;
use crate::world::{Answer, World};

const OWN: &str = "https://kubernetes.default.svc.cluster.local";
const HOUR: Duration = Duration::from_secs(3600);
/// How long clients' certificates hold, and twice that: the authorities of the tests hold for an hour.
const VALID: Duration = Duration::from_secs(600);
const LATER: Duration = Duration::from_secs(1200);
const MYSELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// A cluster, and the key that signs its service accounts' tokens.
struct Place {
    world: World,
    key: pki::PrivateKey,
}

async fn place() -> Place {
    let key = pki::PrivateKey::generate().unwrap();
    let own = vec![OWN.to_owned()];
    let verifier = Verifier::new(own.clone(), vec![key.public_key().clone()], own);
    let world = World::start_by(|proxy_ca| {
        let proxy = authn::FrontProxy::new(proxy_ca.cert_pem(), &[authn::FRONT_PROXY], Clock::system()).unwrap();
        Options {
            authenticator: authn::standard(verifier, Some(proxy), Clock::system()),
            authorizer: authz::standard(),
            ..Options::default()
        }
    })
    .await;
    let own = bootstrap::Options {
        advertise_address: "192.0.2.10".parse().unwrap(),
        port: 6443,
        service_ip: "10.43.0.1".parse().unwrap(),
        client_ca_pem: String::new(),
        front_proxy_ca_pem: String::new(),
        node_settings: Default::default(),
        extra: Vec::new(),
    };
    bootstrap::run(&world.server, &own).await.unwrap();
    world.server.lookup().wait_fresh().await.unwrap();
    Place { world, key }
}

impl Place {
    async fn made(&self, path: &str, body: Value) -> Value {
        let answer = self.world.create(path, &body.to_string()).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
        self.world.server.lookup().wait_fresh().await.unwrap();
        answer.json()
    }

    /// Who one is with that token: the answer's code, and the user's name.
    async fn bearer(&self, token: &str) -> (u16, String) {
        let header = format!("Bearer {token}");
        let answer = send_as(&self.world, None, Method::POST, MYSELF, &[("authorization", &header)], "{}").await;
        (answer.code, name_of(&answer.json()))
    }

    /// Who one is with a certificate that `ca` issued `at` for ten minutes; `None` if the handshake fails.
    async fn shown(
        &self,
        ca: &pki::Ca,
        name: &str,
        groups: &[&str],
        at: Timestamp,
        headers: &[(&str, &str)],
    ) -> Option<(u16, Value)> {
        let identity = Reloadable::new(ca.issue(&pki::Request::client(name, groups, VALID), at).unwrap());
        let tls =
            pki::tls::client_config(self.world.ca.cert_pem(), Some(identity), Alpn::Http1, self.world.clock).unwrap();
        let socket = TcpStream::connect(self.world.address).await.unwrap();
        let to = rustls_pki_types::ServerName::from(self.world.address.ip());
        let stream = tokio_rustls::TlsConnector::from(tls).connect(to, socket).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        self.world.tasks.spawn("client", async move { drop(connection.await) });
        let mut request = Request::post(MYSELF).header("host", "test").body(Full::new(Bytes::from("{}"))).unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some((parts.status.as_u16(), serde_json::from_slice(&body).unwrap_or_default()))
    }
}

fn name_of(review: &Value) -> String {
    review["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_owned()
}

fn grant(uid: &str) -> Grant {
    Grant {
        namespace: "default".to_owned(),
        service_account: Ref::new("app", uid),
        bound: Bound::Nothing,
        audiences: vec![OWN.to_owned()],
        expiration_seconds: 3600,
        warn_after_seconds: None,
        id: "5f2c4a4e-0000-4000-8000-000000000000".to_owned(),
    }
}

#[tokio::test]
async fn certificates_of_the_clusters_authority_name_users() {
    let place = place().await;
    let (ca, now) = (&place.world.ca, place.world.clock.now());
    let (code, review) = place.shown(ca, "jane", &["dev", "ops"], now, &[]).await.unwrap();
    let info = &review["status"]["userInfo"];
    assert_eq!((code, info["username"].as_str()), (201, Some("jane")), "{review}");
    assert_eq!(info["groups"], json!(["dev", "ops", "system:authenticated"]));

    let other = pki::Ca::generate("other", now, HOUR * 9).unwrap();
    for (what, ca, at) in [("another authority", &other, now), ("expired", ca, now - LATER), ("early", ca, now + LATER)]
    {
        assert_eq!(place.shown(ca, "jane", &["system:masters"], at, &[]).await, None, "{what}");
    }
    // A name is a must: without one it is as if there were no certificate.
    assert_eq!(place.shown(ca, "", &["system:masters"], now, &[]).await.unwrap().0, 401);
}

#[tokio::test]
async fn service_account_tokens_are_good_while_everything_in_them_is() {
    let place = place().await;
    let account = place.made("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "app"}})).await;
    let uid = account["metadata"]["uid"].as_str().unwrap();
    let secret = place.made("/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "s"}})).await;
    let secret_uid = secret["metadata"]["uid"].as_str().unwrap();
    let (signer, now) = (Signer::new(OWN, place.key.clone()), place.world.clock.now());
    let good = signer.sign(&grant(uid), now).unwrap();
    let user = "system:serviceaccount:default:app";
    assert_eq!(place.bearer(&good).await, (201, user.to_owned()));
    let by_secret = Grant { bound: Bound::Secret(Ref::new("s", secret_uid)), ..grant(uid) };
    let by_secret = signer.sign(&by_secret, now).unwrap();
    assert_eq!(place.bearer(&by_secret).await, (201, user.to_owned()));

    let of = |grant: Grant| signer.sign(&grant, now).unwrap();
    let bound = |to: Bound| of(Grant { bound: to, ..grant(uid) });
    let stranger = Signer::new(OWN, pki::PrivateKey::generate().unwrap());
    let elsewhere = Signer::new("https://elsewhere.example", place.key.clone());
    let claims = good.split('.').nth(1).unwrap();
    let unsigned = |alg: &str| format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string()));
    let missing_pod = Bound::Pod { pod: Ref::new("gone", "u"), node: None };
    let refused = [
        ("expired", signer.sign(&grant(uid), now - HOUR * 2).unwrap()),
        ("not valid yet", signer.sign(&grant(uid), now + HOUR).unwrap()),
        ("another audience", of(Grant { audiences: vec!["vault".to_owned()], ..grant(uid) })),
        ("another issuer", elsewhere.sign(&grant(uid), now).unwrap()),
        ("another key", stranger.sign(&grant(uid), now).unwrap()),
        ("unsigned", unsigned("none")),
        ("symmetric", unsigned("HS256")),
        ("truncated", good[..good.len() - 10].to_owned()),
        ("without its signature", good.rsplit_once('.').unwrap().0.to_owned()),
        ("an account of that name before", of(grant("another-uid"))),
        ("no such account", of(Grant { service_account: Ref::new("nobody", uid), ..grant(uid) })),
        ("no such pod", bound(missing_pod)),
        ("no such secret", bound(Bound::Secret(Ref::new("gone", "u")))),
        ("another secret of that name", bound(Bound::Secret(Ref::new("s", "another-uid")))),
        ("no such node", bound(Bound::Node(Ref::new("gone", "u")))),
    ];
    for (what, token) in &refused {
        assert_eq!(place.bearer(token).await, (401, String::new()), "{what}");
    }

    // What they stand on is taken away.
    assert_eq!(place.world.delete("/api/v1/namespaces/default/secrets/s", "").await.code, 200);
    place.world.server.lookup().wait_fresh().await.unwrap();
    assert_eq!(place.bearer(&by_secret).await.0, 401);
    assert_eq!(place.bearer(&good).await.0, 201);
    assert_eq!(place.world.delete("/api/v1/namespaces/default/serviceaccounts/app", "").await.code, 200);
    place.world.server.lookup().wait_fresh().await.unwrap();
    assert_eq!(place.bearer(&good).await.0, 401);
}

#[tokio::test]
async fn bootstrap_tokens_are_good_until_they_end() {
    let place = place().await;
    let now = place.world.clock.now();
    let secret = |id: &str, kind: &str, with: Value| {
        let mut data = json!({
            "token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"
        });
        data.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": kind, "stringData": data})
    };
    let kind = "bootstrap.kubernetes.io/token";
    let soon = (now + HOUR).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let past = (now - HOUR).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    for (id, kind, with) in [
        ("aaaaaa", kind, json!({"expiration": soon})),
        ("bbbbbb", kind, json!({"expiration": past})),
        ("cccccc", kind, json!({"usage-bootstrap-authentication": "false"})),
        ("dddddd", "Opaque", json!({})),
        ("eeeeee", kind, json!({"token-id": "ffffff"})),
    ] {
        // One that says another id than its name's is not made to begin with.
        let path = "/api/v1/namespaces/kube-system/secrets";
        place.world.create(path, &secret(id, kind, with).to_string()).await;
    }
    place.world.server.lookup().wait_fresh().await.unwrap();
    let token = |id: &str| format!("{id}.0123456789abcdef");
    assert_eq!(place.bearer(&token("aaaaaa")).await, (201, "system:bootstrap:aaaaaa".to_owned()));
    for (what, token) in [
        ("expired", token("bbbbbb")),
        ("for other uses", token("cccccc")),
        ("a secret of another type", token("dddddd")),
        ("of another id", token("eeeeee")),
        ("unknown", token("zzzzzz")),
        ("another secret", "aaaaaa.0123456789abcdee".to_owned()),
        ("truncated", "aaaaaa.0123456789abcde".to_owned()),
        ("the id alone", "aaaaaa".to_owned()),
    ] {
        assert_eq!(place.bearer(&token).await, (401, String::new()), "{what}");
    }
}

#[tokio::test]
async fn a_proxy_vouches_only_with_its_certificate() {
    let place = place().await;
    let (ca, proxy_ca, now) = (&place.world.ca, &place.world.front_proxy_ca, place.world.clock.now());
    let jane: &[(&str, &str)] = &[
        ("x-remote-user", "jane"),
        ("x-remote-group", "dev"),
        ("x-remote-uid", "7"),
        ("x-remote-extra-example.com%2fscope", "a"),
    ];
    let (code, review) = place.shown(proxy_ca, authn::FRONT_PROXY, &[], now, jane).await.unwrap();
    let info = &review["status"]["userInfo"];
    assert_eq!((code, info["username"].as_str(), info["uid"].as_str()), (201, Some("jane"), Some("7")), "{review}");
    assert_eq!(info["groups"], json!(["dev", "system:authenticated"]));
    assert_eq!(info["extra"], json!({"example.com/scope": ["a"]}));

    let code = async |ca: &pki::Ca, name: &str, at: Timestamp, headers: &[(&str, &str)]| {
        place.shown(ca, name, &[], at, headers).await.map(|(code, review)| (code, name_of(&review)))
    };
    let nobody = Some((401, String::new()));
    assert_eq!(code(proxy_ca, "another-proxy", now, jane).await, nobody, "a name that is not allowed");
    assert_eq!(code(proxy_ca, authn::FRONT_PROXY, now, &[]).await, nobody, "nobody is named");
    let group = [("x-remote-group", "system:masters")];
    assert_eq!(code(proxy_ca, authn::FRONT_PROXY, now, &group).await, nobody, "a group alone");
    assert_eq!(code(proxy_ca, authn::FRONT_PROXY, now - LATER, jane).await, None, "expired");
    assert_eq!(code(proxy_ca, authn::FRONT_PROXY, now + LATER, jane).await, None, "not valid yet");
    // A user with a certificate of the cluster stays who he is, whatever he writes; who has none is nobody.
    assert_eq!(code(ca, authn::FRONT_PROXY, now, jane).await, Some((201, authn::FRONT_PROXY.to_owned())));
    let without = send_as(&place.world, None, Method::POST, MYSELF, jane, "{}").await;
    assert_eq!(without.code, 401);
}

#[tokio::test]
async fn acting_as_others_is_allowed_piece_by_piece() {
    let place = place().await;
    let rule = |group: &str, resource: &str, name: &str| {
        let verbs = ["impersonate"];
        json!({"apiGroups": [group], "resources": [resource], "resourceNames": [name], "verbs": verbs})
    };
    let auth = "authentication.k8s.io";
    let rules = json!([
        rule("", "users", "jane"),
        rule("", "groups", "dev"),
        rule("", "serviceaccounts", "app"),
        rule(auth, "uids", "7"),
        rule(auth, "userextras/scopes", "view"),
    ]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    place.made(&format!("{rbac}/clusterroles"), json!({"metadata": {"name": "actor"}, "rules": rules})).await;
    let binding = json!({
        "metadata": {"name": "actor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "actor"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    place.made(&format!("{rbac}/clusterrolebindings"), binding).await;
    let bob: Option<(&str, &[&str])> = Some(("bob", &[]));
    let act = async |headers: &[(&str, &str)]| -> Answer {
        send_as(&place.world, bob, Method::POST, MYSELF, headers, "{}").await
    };
    let user = ("impersonate-user", "jane");
    let (group, uid, extra) =
        (("impersonate-group", "dev"), ("impersonate-uid", "7"), ("impersonate-extra-scopes", "view"));
    let whole = act(&[user, group, uid, extra]).await;
    let info = &whole.json()["status"]["userInfo"];
    assert_eq!((whole.code, &info["username"], &info["uid"]), (201, &json!("jane"), &json!("7")), "{}", whole.text());
    assert_eq!(info["groups"], json!(["dev", "system:authenticated"]));
    assert_eq!(info["extra"], json!({"scopes": ["view"]}));
    let account = ("impersonate-user", "system:serviceaccount:default:app");
    assert_eq!(name_of(&act(&[account]).await.json()), account.1);

    let cannot = |what: &str, resource: &str, group: &str, place: &str| {
        format!(
            "{what} is forbidden: User \"bob\" cannot impersonate resource \"{resource}\" in API group \"{group}\" \
             {place}"
        )
    };
    let cluster = "at the cluster scope";
    let refused: [(&[(&str, &str)], String); 5] = [
        (&[("impersonate-user", "root")], cannot("users \"root\"", "users", "", cluster)),
        (&[user, ("impersonate-group", "system:masters")], cannot("groups \"system:masters\"", "groups", "", cluster)),
        (&[user, ("impersonate-uid", "8")], cannot("uids.authentication.k8s.io \"8\"", "uids", auth, cluster)),
        (
            &[user, ("impersonate-extra-scopes", "edit")],
            cannot("userextras.authentication.k8s.io \"edit\"", "userextras/scopes", auth, cluster),
        ),
        (
            &[("impersonate-user", "system:serviceaccount:kube-system:root")],
            cannot("serviceaccounts \"root\"", "serviceaccounts", "", "in the namespace \"kube-system\""),
        ),
    ];
    for (headers, why) in refused {
        let answer = act(headers).await;
        assert_eq!((answer.code, answer.message()), (403, why));
    }
    // Nobody in particular cannot be in a group.
    let nobody = act(&[group]).await;
    assert_eq!(nobody.code, 400, "{}", nobody.text());
}
