//! Tokens that others issue or know: OpenID Connect issuers by a configuration file, and a webhook.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apiserver::authn::{self, Authenticator, Certificates, Configured, TokenWebhook};
use apiserver::{Options, authz};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base::{Clock, Random, TaskGroup};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::auth_flow::send_as;
use crate::authorization_webhook::counted;
use crate::peer::Peer;
use crate::world::{Answer, World};

const OWN: &str = "https://kubernetes.default.svc.cluster.local";

/// A key by which an issuer signs.
struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &str) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        Self { id: id.to_owned(), pair }
    }

    fn public(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": part(x), "y": part(y)})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "kid": self.id}), claims)
    }
}

/// A server on which an issuer publishes its keys, and the cluster that accepts its tokens.
struct Place {
    world: World,
    configured: Arc<Configured>,
    issuer: Peer,
    keys: Arc<Mutex<Vec<Value>>>,
    folder: tempfile::TempDir,
    ca: pki::Ca,
}

async fn issuer(ca: &pki::Ca, tasks: &TaskGroup, keys: &Arc<Mutex<Vec<Value>>>) -> Peer {
    let (url, keys) = (Arc::new(OnceLock::<String>::new()), keys.clone());
    let own = url.clone();
    let peer = Peer::start(ca, tasks, move |path, _| match path {
        "/.well-known/openid-configuration" => {
            let url = own.get().cloned().unwrap_or_default();
            (200, json!({"issuer": url, "jwks_uri": format!("{url}/keys")}))
        }
        "/keys" => (200, json!({"keys": *keys.lock()})),
        _ => (404, json!({})),
    })
    .await;
    url.set(peer.url.clone()).unwrap();
    peer
}

async fn world(others: Vec<Arc<dyn Authenticator>>) -> World {
    let key = pki::PrivateKey::generate().unwrap();
    let verifier =
        pki::token::Verifier::new(vec![OWN.to_owned()], vec![key.public_key().clone()], vec![OWN.to_owned()]);
    World::start_with(Options {
        authenticator: authn::standard_and(verifier, Certificates::default(), Clock::system(), others),
        authorizer: Arc::new(authz::Chain::standard(Clock::system(), Random::system())),
        ..Options::default()
    })
    .await
}

async fn place(key: &Key) -> Place {
    let (clock, tasks) = (Clock::system(), TaskGroup::new());
    let ca = pki::Ca::generate("issuers", clock.now(), Duration::from_secs(3600)).unwrap();
    let keys = Arc::new(Mutex::new(vec![key.public()]));
    let issuer = issuer(&ca, &tasks, &keys).await;
    let configured = Arc::new(Configured::new(vec![OWN.to_owned()], vec![OWN.to_owned()], clock, &tasks));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authentication.yaml");
    std::fs::write(&path, file(&issuer.url, &ca, "anonymous: {enabled: true, conditions: [{path: /livez}]}")).unwrap();
    configured.follow(path, "server-1").unwrap();
    let world = world(vec![configured.clone()]).await;
    Place { world, configured, issuer, keys, folder, ca }
}

fn file(url: &str, ca: &pki::Ca, anonymous: &str) -> String {
    let pem: String = ca.cert_pem().lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{anonymous}\njwt:\n- issuer:\n    \
         url: {url}\n    audiences: [me, us]\n    audienceMatchPolicy: MatchAny\n    certificateAuthority: |\n{pem}  \
         claimMappings:\n    username: {{claim: sub, prefix: 'oidc:'}}\n    groups: {{claim: groups, prefix: ''}}\n  \
         userValidationRules: [{{expression: \"!user.groups.exists(g, g.startsWith('system:'))\"}}]\n"
    )
}

impl Place {
    fn claims(&self, with: Value) -> Value {
        let now = Clock::system().now().as_second();
        let mut claims =
            json!({"iss": self.issuer.url, "aud": "me", "sub": "jane", "exp": now + 600, "groups": ["dev"]});
        claims.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        claims
    }

    async fn who(&self, token: &str) -> Answer {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
        let headers = [("authorization", format!("Bearer {token}"))];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        send_as(&self.world, None, Method::POST, path, &headers, &body).await
    }

    /// Waits until the issuer's keys are known. Who asks then gets 403, not 401: nobody may ask who they are.
    async fn ready(&self) {
        counted(&mut self.configured.fetches(), 1).await;
    }

    async fn metrics(&self) -> String {
        self.world.get("/metrics").await.text()
    }
}

/// So much time is over for all in this test; nobody waits for it.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[tokio::test]
async fn an_issuers_tokens_are_accepted_if_they_hold() {
    let key = Key::new("one");
    let place = place(&key).await;
    let good = key.token(&place.claims(json!({})));
    place.ready().await;
    let answer = place.who(&good).await;
    assert_eq!(answer.code, 403, "{}", answer.text());
    assert!(answer.message().contains("User \"oidc:jane\" cannot create"), "{}", answer.message());
    let now = Clock::system().now().as_second();
    let stranger = Key::new("one");
    let refused = [
        ("another audience", key.token(&place.claims(json!({"aud": "you"})))),
        ("no audience", key.token(&place.claims(json!({"aud": []})))),
        ("another issuer", key.token(&place.claims(json!({"iss": "https://other.example"})))),
        ("expired", key.token(&place.claims(json!({"exp": now - 10})))),
        ("without an end", key.token(&place.claims(json!({"exp": null})))),
        ("not valid yet", key.token(&place.claims(json!({"nbf": now + 3600})))),
        ("unsigned", key.sign(&json!({"alg": "none"}), &place.claims(json!({})))),
        ("symmetric", key.sign(&json!({"alg": "HS256", "kid": "one"}), &place.claims(json!({})))),
        ("another's key", stranger.token(&place.claims(json!({})))),
        ("truncated", good[..good.len() - 10].to_owned()),
        ("no signature", good.rsplit_once('.').unwrap().0.to_owned()),
        ("a group of the system", key.token(&place.claims(json!({"groups": ["system:masters"]})))),
        ("no name", key.token(&place.claims(json!({"sub": null})))),
        ("no token", "x".to_owned()),
    ];
    for (what, token) in &refused {
        let answer = place.who(token).await;
        assert_eq!((answer.code, answer.json()["reason"].as_str()), (401, Some("Unauthorized")), "{what}");
        assert_eq!(answer.message(), "Unauthorized", "{what}");
    }
    let several = key.token(&place.claims(json!({"aud": ["you", "us"]})));
    assert_eq!(place.who(&several).await.code, 403);
    let hash = apiserver::reload::hash_text(place.issuer.url.as_bytes());
    let metrics = place.metrics().await;
    let labels = format!("{{jwt_issuer_hash=\"{hash}\",result=\"failure\"}}");
    let count = format!("apiserver_authentication_jwt_authenticator_latency_seconds_count{labels}");
    assert!(metrics.lines().any(|line| line.starts_with(&count)), "{metrics}");

    // A review says the same of it.
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": good}});
    let reviewed = place.world.create("/apis/authentication.k8s.io/v1/tokenreviews", &review.to_string()).await;
    let status = &reviewed.json()["status"];
    assert_eq!((&status["authenticated"], &status["user"]["username"]), (&json!(true), &json!("oidc:jane")));
    assert_eq!(
        (&status["user"]["groups"], &status["audiences"]),
        (&json!(["dev", "system:authenticated"]), &json!([OWN]))
    );
}

#[tokio::test]
async fn new_keys_are_found_and_old_ones_forgotten() {
    let (first, second) = (Key::new("one"), Key::new("two"));
    let place = place(&first).await;
    let claims = place.claims(json!({}));
    place.ready().await;
    assert_eq!(place.who(&first.token(&claims)).await.code, 403);
    *place.keys.lock() = vec![second.public()];
    // Fetched at most once in five seconds, whatever tokens come.
    let asked = || place.issuer.seen().iter().filter(|(path, _)| path == "/keys").count();
    let before = asked();
    for _ in 0..20 {
        place.who(&Key::new("three").token(&claims)).await;
    }
    assert!(asked() <= before + 1, "{} fetches", asked() - before);
    pass(Duration::from_secs(6)).await;
    assert_eq!(place.who(&second.token(&claims)).await.code, 403);
    assert_eq!(place.who(&first.token(&claims)).await.code, 401);
}

#[tokio::test]
async fn the_file_may_change_and_says_who_is_anonymous() {
    let key = Key::new("one");
    let place = place(&key).await;
    let anonymous = async |path: &str| send_as(&place.world, None, Method::GET, path, &[], "").await.code;
    assert_eq!((anonymous("/livez").await, anonymous("/readyz").await, anonymous("/version").await), (200, 401, 401));
    let token = key.token(&place.claims(json!({})));
    place.ready().await;
    assert_eq!(place.who(&token).await.code, 403);
    let path = place.folder.path().join("authentication.yaml");
    let reloaded = |status: &str| {
        let id = apiserver::reload::hash_text(b"server-1");
        format!(
            "apiserver_authentication_config_controller_automatic_reloads_total{{apiserver_id_hash=\"{id}\",\
             status=\"{status}\"}} 1"
        )
    };
    let mut reloads = place.configured.reloads();
    replace(&path, &file("http://not.example", &place.ca, ""));
    counted(&mut reloads, 1).await;
    assert!(place.metrics().await.contains(&reloaded("failure")));
    assert_eq!(place.who(&token).await.code, 403, "what is wrong changes nothing");
    replace(
        &path,
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {enabled: true}\n",
    );
    counted(&mut reloads, 2).await;
    assert!(place.metrics().await.contains(&reloaded("success")));
    assert_eq!(place.who(&token).await.code, 401);
    // Anybody gets as far as authorization; who shows bad credentials does not.
    assert_eq!((anonymous("/readyz").await, anonymous("/api/v1/pods").await), (200, 403));
    assert_eq!(place.configured.anonymous("/api/v1/pods"), Some(true));
}

#[tokio::test]
async fn a_webhook_knows_tokens_and_its_answers_are_kept() {
    let (clock, tasks) = (Clock::system(), TaskGroup::new());
    let ca = pki::Ca::generate("peers", clock.now(), Duration::from_secs(3600)).unwrap();
    let hook = Peer::start(&ca, &tasks, |_, body| match body["spec"]["token"].as_str() {
        Some("good") => {
            let user = json!({"username": "ann", "groups": ["dev"], "extra": {"scope": ["a"]}});
            (200, json!({"status": {"authenticated": true, "user": user}}))
        }
        Some("elsewhere") => {
            let user = json!({"username": "ann"});
            (200, json!({"status": {"authenticated": true, "user": user, "audiences": ["https://other"]}}))
        }
        Some("broken") => (500, json!({})),
        _ => (200, json!({"status": {"authenticated": false, "error": "who?"}})),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = hook.kubeconfig(&ca, folder.path());
    let kept = Duration::from_secs(60);
    let webhook = TokenWebhook::new(&kubeconfig, "v1", kept, vec![OWN.to_owned()], clock).unwrap();
    assert!(TokenWebhook::new(&kubeconfig, "v2", kept, Vec::new(), clock).is_err());
    let world = world(vec![Arc::new(webhook)]).await;
    let code = async |token: &str| {
        let header = format!("Bearer {token}");
        let headers = [("authorization", header.as_str())];
        let answer = send_as(&world, None, Method::GET, "/api/v1/namespaces/default/pods", &headers, "").await;
        (answer.code, answer.message().contains("User \"ann\""))
    };
    assert_eq!(code("good").await, (403, true));
    let asked = &hook.seen()[0].1;
    assert_eq!(
        (&asked["apiVersion"], &asked["spec"]["audiences"]),
        (&json!("authentication.k8s.io/v1"), &json!([OWN]))
    );
    for token in ["bad", "elsewhere", "broken"] {
        assert_eq!(code(token).await, (401, false), "{token}");
    }
    let before = hook.seen().len();
    assert_eq!((code("good").await, code("bad").await), ((403, true), (401, false)));
    assert_eq!(hook.seen().len(), before, "answers are kept");
    code("broken").await;
    assert_eq!(hook.seen().len(), before + 1, "failures are not");
}
