//! What a signer made of a request: pure.

use api::Object;
use api::certificates::v1::PodCertificateRequest;
use api::meta::v1::Condition;
use base::Timestamp;
use pki::SubjectKey;

use super::Bundle;

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    Issued {
        bundle: Bundle,
        begin_refresh_at: Timestamp,
        not_after: Timestamp,
    },
    /// There will be no certificate.
    Never {
        /// `Denied` or `Failed`.
        outcome: &'static str,
        verb: &'static str,
        reason: String,
        message: String,
        /// The request, `namespace/name`.
        name: String,
    },
    /// It is not there any more.
    Gone,
}

/// The condition that decides, if one does.
pub fn decision(request: &PodCertificateRequest) -> Option<&Condition> {
    let mut conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|condition| matches!(condition.type_.as_str(), "Denied" | "Failed" | "Issued"))
}

/// What it says of a request made for `key`. A certificate that is none, or for another key, is a failure.
pub fn read(decision: &Condition, request: &PodCertificateRequest, key: SubjectKey) -> Answer {
    let never = |outcome, verb, reason: &str, message: &str| {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        Answer::Never { outcome, verb, reason, message, name: request.key() }
    };
    match decision.type_.as_str() {
        "Denied" => never("Denied", "was denied", &decision.reason, &decision.message),
        "Failed" => never("Failed", "failed", &decision.reason, &decision.message),
        _ => match issued(request, &key) {
            Ok((chain, begin_refresh_at, not_after)) => {
                Answer::Issued { bundle: Bundle { key, chain }, begin_refresh_at, not_after }
            }
            Err(why) => never("Failed", "failed", "UnusableCertificate", &why),
        },
    }
}

fn issued(request: &PodCertificateRequest, key: &SubjectKey) -> Result<(String, Timestamp, Timestamp), String> {
    let status = request.status.as_ref().ok_or("there is no status")?;
    let chain = status.certificate_chain.as_deref().unwrap_or_default();
    let chain = pki::certificate_chain(chain).map_err(|error| error.to_string())?;
    let leaf = pki::Certificate::from_pem(&chain).map_err(|error| error.to_string())?;
    if leaf.public_key_der != key.public_key_der() {
        return Err("the leaf certificate was not issued to the requested public key".to_owned());
    }
    let begin_refresh_at = status.begin_refresh_at.as_ref().ok_or("beginRefreshAt is missing")?.0;
    let not_after = status.not_after.as_ref().ok_or("notAfter is missing")?.0;
    Ok((chain, begin_refresh_at, not_after))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use api::Typed;
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn request(status: &Value) -> PodCertificateRequest {
        let request = json!({"metadata": {"name": "req-1", "namespace": "n"}, "spec": {}, "status": status});
        PodCertificateRequest::from_value(request).unwrap()
    }

    fn condition(kind: &str) -> Value {
        json!([{"type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": NOW}])
    }

    fn answer(status: &Value, key: SubjectKey) -> Answer {
        let request = request(status);
        read(decision(&request).unwrap(), &request, key)
    }

    fn chain_for(key: &SubjectKey) -> String {
        let now: Timestamp = NOW.parse().unwrap();
        let ca = pki::Ca::generate("pods", now, Duration::from_secs(86_400)).unwrap();
        let usages = pki::Usages::parse(&["client auth".to_owned()]).unwrap();
        let profile = pki::Profile { usages, valid: Duration::from_secs(3600) };
        let leaf = ca.sign_stub_request(key.stub_request(), "pod", &profile, now).unwrap();
        format!("# leaf\n{leaf}# issuer\n{}", ca.cert_pem())
    }

    #[test]
    fn a_refusal_is_for_good() {
        assert!(decision(&request(&json!({}))).is_none());
        for (kind, told) in [("Denied", "was denied"), ("Failed", "failed")] {
            let key = SubjectKey::generate("ED25519").unwrap();
            match answer(&json!({"conditions": condition(kind)}), key) {
                Answer::Never { outcome, verb, reason, message, name } => {
                    assert_eq!((outcome, verb, name.as_str()), (kind, told, "n/req-1"));
                    assert_eq!((reason.as_str(), message.as_str()), ("R", "m"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_certificate_comes_with_its_key_and_nothing_else() {
        let key = SubjectKey::generate("ECDSAP384").unwrap();
        let (chain, pem) = (chain_for(&key), key.pem().to_owned());
        let status = json!({
            "conditions": condition("Issued"), "certificateChain": chain,
            "notAfter": "2026-01-01T01:00:00Z", "beginRefreshAt": "2026-01-01T00:30:00Z"
        });
        let Answer::Issued { bundle, begin_refresh_at, not_after } = answer(&status, key) else { panic!() };
        assert_eq!(begin_refresh_at.to_string(), "2026-01-01T00:30:00Z");
        assert_eq!(not_after.to_string(), "2026-01-01T01:00:00Z");
        let clean: String =
            chain.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        let source: api::core::v1::PodCertificateProjection = serde_json::from_value(json!({
            "keyType": "ECDSAP384", "signerName": "s",
            "credentialBundlePath": "both", "keyPath": "key", "certificateChainPath": ""
        }))
        .unwrap();
        let files = bundle.files(&source).into_iter().map(|(path, text)| (path.to_owned(), text));
        let files: Vec<_> = files.collect();
        assert_eq!(files, [("both".to_owned(), format!("{pem}{clean}")), ("key".to_owned(), pem)]);
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_a_failure() {
        let key = || SubjectKey::generate("ECDSAP256").unwrap();
        let (own, other) = (key(), chain_for(&key()));
        let (own_chain, times) = (chain_for(&own), json!("2026-01-01T00:30:00Z"));
        let status = |chain: &str, refresh: &Value| {
            json!({
                "conditions": condition("Issued"), "certificateChain": chain,
                "notAfter": times, "beginRefreshAt": refresh
            })
        };
        let cases = [
            (status(&other, &times), "the leaf certificate was not issued to the requested public key"),
            (status("", &times), "certificate: no certificate in the PEM data"),
            (status(&own_chain, &Value::Null), "beginRefreshAt is missing"),
        ];
        for (status, why) in cases {
            let request = request(&status);
            assert_eq!(issued(&request, &own).unwrap_err(), why);
        }
    }
}
