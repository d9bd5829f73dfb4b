//! Every way in which a token is right or wrong.

use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + seconds).unwrap()
}

fn grant() -> Grant {
    Grant {
        namespace: "shop".to_owned(),
        service_account: Ref::new("web", "sa-uid"),
        bound: Bound::Pod { pod: Ref::new("web-1", "pod-uid"), node: Some(Ref::new("node-1", "node-uid")) },
        audiences: vec![ISSUER.to_owned()],
        expiration_seconds: 3607,
        warn_after_seconds: None,
        id: "5f2c4a4e-0000-4000-8000-000000000000".to_owned(),
    }
}

fn pair() -> (Signer, Verifier) {
    let key = PrivateKey::generate().unwrap();
    let verifier = Verifier::new(vec![ISSUER.to_owned()], vec![key.public_key().clone()], vec![ISSUER.to_owned()]);
    (Signer::new(ISSUER, key), verifier)
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

fn text(token: &str, index: usize) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

/// A token with any header and claims, signed with `signer`'s key.
fn forge(signer: &Signer, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = signer.key.sign_fixed(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn the_wire_form_is_upstreams() {
    let (signer, _) = pair();
    let token = signer.sign(&grant(), now()).unwrap();
    assert_eq!(text(&token, 0), format!(r#"{{"alg":"ES256","kid":"{}"}}"#, signer.key.public_key().key_id()));
    assert_eq!(
        text(&token, 1),
        concat!(
            r#"{"aud":["https://kubernetes.default.svc.cluster.local"],"exp":1767229207,"iat":1767225600,"#,
            r#""iss":"https://kubernetes.default.svc.cluster.local","jti":"5f2c4a4e-0000-4000-8000-000000000000","#,
            r#""kubernetes.io":{"namespace":"shop","node":{"name":"node-1","uid":"node-uid"},"#,
            r#""pod":{"name":"web-1","uid":"pod-uid"},"serviceaccount":{"name":"web","uid":"sa-uid"}},"#,
            r#""nbf":1767225600,"sub":"system:serviceaccount:shop:web"}"#
        )
    );
    let bound = |bound| part(&signer.sign(&Grant { bound, ..grant() }, now()).unwrap(), 1)["kubernetes.io"].clone();
    let account = json!({"name": "web", "uid": "sa-uid"});
    assert_eq!(bound(Bound::Nothing), json!({"namespace": "shop", "serviceaccount": account}));
    assert_eq!(bound(Bound::Secret(Ref::new("s", "u")))["secret"], json!({"name": "s", "uid": "u"}));
    assert_eq!(bound(Bound::Node(Ref::new("n", "u")))["node"], json!({"name": "n", "uid": "u"}));
    let unknown_node = Bound::Pod { pod: Ref::new("p", "u"), node: Some(Ref::new("n", "")) };
    assert_eq!(bound(unknown_node)["node"], json!({"name": "n"}));
    let warned = Grant { warn_after_seconds: Some(3607), expiration_seconds: 31_536_000, ..grant() };
    assert_eq!(part(&signer.sign(&warned, now()).unwrap(), 1)["kubernetes.io"]["warnafter"], 1_767_229_207);
}

#[test]
fn a_good_token_says_whose_it_is() {
    let (signer, verifier) = pair();
    let grant = Grant { audiences: vec!["vault".to_owned(), ISSUER.to_owned()], ..grant() };
    let token = signer.sign(&grant, now()).unwrap();
    let verified = verifier.verify(&token, &[], now()).unwrap();
    assert_eq!(verified.claims.subject, "system:serviceaccount:shop:web");
    assert_eq!(verified.claims.kubernetes.service_account, grant.service_account);
    assert_eq!(verified.claims.kubernetes.pod, Some(Ref::new("web-1", "pod-uid")));
    assert_eq!(verified.claims.id.as_deref(), Some(grant.id.as_str()));
    assert_eq!(verified.audiences, [ISSUER]);
    assert!(!verified.legacy);
    let for_vault = verifier.verify(&token, &["vault".to_owned(), "other".to_owned()], now()).unwrap();
    assert_eq!(for_vault.audiences, ["vault"]);
}

#[test]
fn audiences_must_meet() {
    let (signer, verifier) = pair();
    let token = signer.sign(&Grant { audiences: vec!["vault".to_owned()], ..grant() }, now()).unwrap();
    let error = verifier.verify(&token, &[], now()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(r#"token audiences ["vault"] is invalid for the target audiences ["{ISSUER}"]"#)
    );
    assert!(!error.is_foreign());
    // One audience as a string, as RFC 7519 allows.
    let mut claims = part(&token, 1);
    claims["aud"] = json!("vault");
    let token = forge(&signer, &part(&token, 0), &claims);
    assert_eq!(verifier.verify(&token, &["vault".to_owned()], now()).unwrap().audiences, ["vault"]);
}

#[test]
fn time_is_kept_with_a_minute_of_leeway() {
    let (signer, verifier) = pair();
    let token = signer.sign(&grant(), now()).unwrap();
    for (at, expected) in
        [(-61, Some(Error::NotYetValid)), (-60, None), (3607, None), (3667, None), (3668, Some(Error::Expired))]
    {
        assert_eq!(verifier.verify(&token, &[], seconds(at)).err(), expected, "at {at} s");
    }
    assert_eq!(Error::Expired.to_string(), "service account token has expired");
    assert_eq!(Error::NotYetValid.to_string(), "service account token is not valid yet");
}

#[test]
fn another_issuers_token_is_left_to_others() {
    let (signer, verifier) = pair();
    let other = Signer::new("https://elsewhere", signer.key.clone());
    let error = verifier.verify(&other.sign(&grant(), now()).unwrap(), &[], now()).unwrap_err();
    assert_eq!(error, Error::WrongIssuer("https://elsewhere".to_owned()));
    assert!(error.is_foreign());
}

#[test]
fn only_our_keys_and_es256_sign() {
    let (signer, verifier) = pair();
    let token = signer.sign(&grant(), now()).unwrap();
    let (header, claims) = (part(&token, 0), part(&token, 1));
    let kid = signer.key.public_key().key_id();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let bad = |token: &str| match verifier.verify(token, &[], now()) {
        Err(Error::BadSignature(reason)) => reason,
        other => panic!("{other:?}"),
    };

    // Another key, announced as itself, as ours, and not at all.
    let (stranger, _) = pair();
    assert_eq!(bad(&stranger.sign(&grant(), now()).unwrap()), "invalid signature, no keys found");
    assert_eq!(bad(&forge(&stranger, &header, &claims)), "invalid signature");
    assert_eq!(bad(&forge(&stranger, &json!({"alg": "ES256"}), &claims)), "invalid signature");
    assert!(verifier.verify(&forge(&signer, &json!({"alg": "ES256"}), &claims), &[], now()).is_ok());

    // No algorithm, and a secret-key algorithm keyed with the public key.
    for alg in ["none", "None", "HS256", "RS256", "es256", ""] {
        let unsigned = json!({"alg": alg, "kid": kid});
        bad(&forge(&signer, &unsigned, &claims));
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        bad(&format!("{}.{}.", encode(&unsigned), encode(&claims)));
    }
    bad(&forge(&signer, &json!({"alg": "ES256", "kid": kid, "crit": ["b64"], "b64": false}), &claims));

    // A changed payload, a truncated signature, none, all zeroes.
    let mut promoted = claims.clone();
    promoted["sub"] = json!("system:serviceaccount:kube-system:root");
    let payload = URL_SAFE_NO_PAD.encode(promoted.to_string());
    bad(&format!("{}.{payload}.{signature}", token.split('.').next().unwrap()));
    bad(&format!("{signed}.{}", &signature[..signature.len() - 2]));
    bad(&format!("{signed}."));
    bad(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64])));
}

#[test]
fn a_retired_key_still_verifies() {
    let (old, _) = pair();
    let (new, _) = pair();
    let keys = vec![new.key.public_key().clone(), old.key.public_key().clone()];
    let verifier = Verifier::new(vec![ISSUER.to_owned()], keys, vec![ISSUER.to_owned()]);
    for signer in [&old, &new] {
        assert!(verifier.verify(&signer.sign(&grant(), now()).unwrap(), &[], now()).is_ok());
    }
}

#[test]
fn what_is_no_token_is_left_to_others() {
    let (signer, verifier) = pair();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = encode(r#"{"alg":"ES256"}"#);
    for text in [
        String::new(),
        "opaque".to_owned(),
        "a.b".to_owned(),
        "a.b.c".to_owned(),
        "a.b.c.d".to_owned(),
        "..".to_owned(),
        format!("{header}.{}.", encode("not json")),
        format!("{header}.{}.", encode("{}")),
        format!("{header}.{}.", encode(r#"{"iss":7}"#)),
        format!("{}.{}.", encode("[]"), encode("{}")),
        "x".repeat(TOKEN_LEN_MAX + 1),
        format!("{}=", signer.sign(&grant(), now()).unwrap()),
    ] {
        let error = verifier.verify(&text, &[], now()).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)) && error.is_foreign(), "{error:?} for {text:.80}");
    }
}

#[test]
fn a_secrets_token_never_expires_and_is_for_the_api_server() {
    let (signer, verifier) = pair();
    let token = signer.sign_legacy("shop", &Ref::new("web", "sa-uid"), "web-token").unwrap();
    assert_eq!(
        text(&token, 1),
        concat!(
            r#"{"iss":"kubernetes/serviceaccount","kubernetes.io/serviceaccount/namespace":"shop","#,
            r#""kubernetes.io/serviceaccount/secret.name":"web-token","#,
            r#""kubernetes.io/serviceaccount/service-account.name":"web","#,
            r#""kubernetes.io/serviceaccount/service-account.uid":"sa-uid","sub":"system:serviceaccount:shop:web"}"#
        )
    );
    let verified = verifier.verify(&token, &[], seconds(1_000_000_000)).unwrap();
    assert!(verified.legacy);
    assert_eq!(verified.claims.kubernetes.secret, Some(Ref::new("web-token", "")));
    assert_eq!(verified.audiences, [ISSUER]);
    let refused = verifier.verify(&token, &["vault".to_owned()], now());
    assert!(matches!(refused, Err(Error::WrongAudience { .. })));
}
