//! What is particular to PodCertificateRequests: that the key is there is proven when one is made, and an answer
//! is read with the server's own eyes, so that signers and nodes need not look again. Who answers must be allowed to
//! sign in the signer's name.
//!
//! Upstream: pkg/apis/certificates/validation, pkg/registry/certificates/podcertificaterequest.

use std::time::Duration;

use api::certificates::v1::{PodCertificateRequest, PodCertificateRequestStatus};
use api::meta::v1::Time;
use api::{FieldErrors, Object, Path, Timestamp};

use super::certificates::{Block, CERTIFICATE, OMITTED, blocks};
use crate::admission::signers;
use crate::{Caller, Server};

const STUB_BYTES_MAX: usize = 10 * 1024;
const CHAIN_BYTES_MAX: usize = 100 * 1024;
const LIFE_MIN: Duration = Duration::from_secs(3600);
/// How far the beginning of a certificate may be from now.
const NEAR: Duration = Duration::from_secs(300);
/// How far a refresh must be from both ends of a certificate's life.
const REFRESH_MARGIN: Duration = Duration::from_secs(600);

/// What is wrong with the proof that the key is there.
pub fn validate_request(object: &dyn Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let Some(request) = object.as_any().downcast_ref::<PodCertificateRequest>() else { return errors };
    let path = Path::new("spec").child("stubPKCS10Request");
    let stub = &request.spec.stub_pkc_s10_request.0;
    if stub.len() > STUB_BYTES_MAX {
        errors.too_long(&path, STUB_BYTES_MAX);
        return errors;
    }
    match pki::Csr::from_der(stub) {
        Ok(csr) if csr.key_type().is_none() => {
            let types = pki::subject_key::TYPES.join(", ");
            errors.invalid(&path, OMITTED, format!("the subject public key must be one of {types}"));
        }
        Ok(_) => {}
        Err(pki::Error::Refused(_)) => {
            errors.invalid(&path, OMITTED, "could not verify proof-of-possession signature");
        }
        Err(_) => errors.invalid(&path, OMITTED, "must be a valid PKCS#10 CSR"),
    }
    errors
}

/// What is wrong with an answer, if it is one: it, or that it is this caller's.
pub fn validate_answer(server: &Server, caller: &Caller, new: &dyn Object, old: &dyn Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let Some(new) = new.as_any().downcast_ref::<PodCertificateRequest>() else { return errors };
    let Some(old) = old.as_any().downcast_ref::<PodCertificateRequest>() else { return errors };
    let (answer, before) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    if answer == before {
        return errors;
    }
    validate_content(&mut errors, old, &answer, server.now());
    let signer = &old.spec.signer_name;
    if errors.is_empty() && !signers::caller_may(server, caller, "sign", signer) {
        let why = format!("User {:?} is not permitted to \"sign\" for signer {signer:?}", caller.name);
        errors.forbidden(&Path::new("spec").child("signerName"), why);
    }
    errors
}

fn validate_content(
    errors: &mut FieldErrors,
    request: &PodCertificateRequest,
    answer: &PodCertificateRequestStatus,
    now: Timestamp,
) {
    let path = Path::new("status");
    let conditions = answer.conditions.as_deref().unwrap_or_default();
    match conditions.first().map(|condition| condition.type_.as_str()) {
        Some("Issued") => {
            if let Err(Fault { field, value, why }) = validate_issued(request, answer, now) {
                let path = path.child(field);
                match value {
                    Some(value) => errors.invalid(&path, value, why),
                    None => errors.required(&path, why),
                }
            }
        }
        Some(_) => {
            let conditions = answer.conditions.clone();
            if *answer != (PodCertificateRequestStatus { conditions, ..PodCertificateRequestStatus::default() }) {
                let why = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
                errors.invalid(&path, OMITTED, why);
            }
        }
        None => {
            let why = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
            errors.invalid(&path, OMITTED, why);
        }
    }
}

/// The one thing that is said of an answer. Without a value the field is missing.
#[derive(Debug, PartialEq)]
struct Fault {
    field: &'static str,
    value: Option<String>,
    why: String,
}

const CHAIN: &str = "certificateChain";

fn fault(field: &'static str, value: impl ToString, why: impl Into<String>) -> Fault {
    Fault { field, value: Some(value.to_string()), why: why.into() }
}

fn validate_issued(
    request: &PodCertificateRequest,
    answer: &PodCertificateRequestStatus,
    now: Timestamp,
) -> Result<(), Fault> {
    let leaf = validate_chain(answer.certificate_chain.as_deref().unwrap_or_default())?;
    let wanted = pki::Csr::from_der(&request.spec.stub_pkc_s10_request.0).and_then(|csr| csr.public_key_der());
    if wanted.ok().as_deref() != Some(leaf.public_key_der.as_slice()) {
        return Err(fault(CHAIN, OMITTED, "leaf certificate was not issued to the requested public key"));
    }
    let set = |field, time: &Option<Time>, what| {
        let missing = || Fault { field, value: None, why: format!("must be present and {what}") };
        time.as_ref().map(|time| time.0).ok_or_else(missing)
    };
    let not_before = set("notBefore", &answer.not_before, "consistent with the issued certificate")?;
    let not_after = set("notAfter", &answer.not_after, "consistent with the issued certificate")?;
    let range = "in the range [notbefore+10min, notafter-10min]";
    let begin_refresh_at = set("beginRefreshAt", &answer.begin_refresh_at, range)?;
    if not_before != leaf.not_before {
        let why = "must be set to the NotBefore time encoded in the leaf certificate";
        return Err(fault("notBefore", not_before, why));
    }
    if not_before < now - NEAR || not_before > now + NEAR {
        let why = "must be set to within 5 minutes of kube-apiserver's current time";
        return Err(fault("notBefore", not_before, why));
    }
    if not_after != leaf.not_after {
        return Err(fault("notAfter", not_after, "must be set to the NotAfter time encoded in the leaf certificate"));
    }
    let max_seconds = request.spec.max_expiration_seconds.unwrap_or_default();
    let max = Duration::from_secs(u64::try_from(max_seconds).unwrap_or_default());
    let life_seconds = not_after.duration_since(not_before).as_secs();
    if not_after < not_before + LIFE_MIN {
        return Err(fault(CHAIN, format!("{life_seconds}s"), "leaf certificate lifetime must be >= 1 hour"));
    }
    if not_after > not_before + max {
        let why = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({max_seconds})");
        return Err(fault(CHAIN, format!("{life_seconds}s"), why));
    }
    if begin_refresh_at < not_before + REFRESH_MARGIN {
        return Err(fault("beginRefreshAt", begin_refresh_at, "must be at least 10 minutes after status.notBefore"));
    }
    if begin_refresh_at > not_after - REFRESH_MARGIN {
        return Err(fault("beginRefreshAt", begin_refresh_at, "must be at least 10 minutes before status.notAfter"));
    }
    Ok(())
}

/// The first certificate of a chain that holds nothing but certificates.
fn validate_chain(chain: &str) -> Result<pki::Certificate, Fault> {
    let bad = |why: &str| fault(CHAIN, OMITTED, why);
    if chain.len() > CHAIN_BYTES_MAX {
        return Err(bad(&format!("may not be more than {CHAIN_BYTES_MAX} bytes")));
    }
    let mut certificates = blocks(chain.as_bytes());
    let read = |block: &Block, what: &str| {
        if block.label != CERTIFICATE {
            return Err(bad("issued certificate chain must consist entirely of CERTIFICATE PEM blocks"));
        }
        let parsed = pki::Certificate::from_der(&block.der);
        parsed.map_err(|_| bad(&format!("{what} certificate does not parse as valid X.509")))
    };
    let leaf = certificates.next().ok_or_else(|| bad("issued certificate chain must contain at least one certificate"));
    let leaf = read(&leaf?, "leaf")?;
    for name in &leaf.dns_names {
        let why = match name.as_str() {
            "" => "leaf certificate should not contain empty DNSName",
            name if name.contains("..") => "leaf certificate's DNSName should not contain '..'",
            name if name.starts_with('.') || name.ends_with('.') => {
                "leaf certificate's DNSName should not start or end with '.'"
            }
            _ => continue,
        };
        return Err(fault(CHAIN, name, why));
    }
    certificates.try_for_each(|block| read(&block, "intermediate").map(drop))?;
    Ok(leaf)
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use pki::{Ca, Profile, SubjectKey, Usages};
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:02:30Z";

    fn stub(key: &SubjectKey) -> api::ByteString {
        api::ByteString(key.stub_request().to_vec())
    }

    fn request(stub: &api::ByteString) -> PodCertificateRequest {
        let request = json!({
            "metadata": {"name": "r"},
            "spec": {"signerName": "example.com/s", "stubPKCS10Request": stub, "maxExpirationSeconds": 7200}
        });
        PodCertificateRequest::from_value(request).unwrap()
    }

    fn problems(stub: Vec<u8>) -> Vec<String> {
        let errors = validate_request(&request(&api::ByteString(stub)));
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_key_must_be_there_and_of_a_known_kind() {
        let key = SubjectKey::generate("ED25519").unwrap();
        assert_eq!(problems(key.stub_request().to_vec()), Vec::<String>::new());
        let mut forged = key.stub_request().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let of = |what: &str| vec![format!("spec.stubPKCS10Request: Invalid value: \"{OMITTED}\": {what}")];
        assert_eq!(problems(forged), of("could not verify proof-of-possession signature"));
        assert_eq!(problems(b"ab".to_vec()), of("must be a valid PKCS#10 CSR"));
        let long = problems(vec![0; STUB_BYTES_MAX + 1]);
        assert!(long[0].starts_with("spec.stubPKCS10Request: Too long"), "{long:?}");
    }

    #[test]
    fn an_answer_is_for_the_key_that_was_asked_for_and_says_how_long_it_holds() {
        let now: Timestamp = NOW.parse().unwrap();
        let ca = Ca::generate("pods", now, Duration::from_secs(86_400)).unwrap();
        let issue = |key: &SubjectKey, seconds: u64| {
            let usages = Usages::parse(&["client auth"]).unwrap();
            let profile = Profile { usages, valid: Duration::from_secs(seconds) - pki::ca::POD_BACKDATE };
            ca.sign_stub_request(key.stub_request(), "pod", &profile, now).unwrap()
        };
        let (own, other) = (SubjectKey::generate("ED25519").unwrap(), SubjectKey::generate("ED25519").unwrap());
        let request = request(&stub(&own));
        let good = json!({
            "certificateChain": issue(&own, 7200) + ca.cert_pem(), "notBefore": "2026-01-01T00:00:00Z",
            "notAfter": "2026-01-01T02:00:00Z", "beginRefreshAt": "2026-01-01T01:00:00Z",
        });
        let check_at = |changes: Value, now: &str| {
            let mut status = good.clone();
            for (key, value) in changes.as_object().unwrap() {
                status[key] = value.clone();
            }
            let status: PodCertificateRequestStatus = serde_json::from_value(status).unwrap();
            validate_issued(&request, &status, now.parse().unwrap())
        };
        let check = |changes: Value| check_at(changes, NOW);
        assert_eq!(check(json!({})), Ok(()));
        let why = |result: Result<(), Fault>| result.map_err(|fault| (fault.field, fault.why)).unwrap_err();
        let leaf = issue(&own, 7200);
        let cases = [
            (json!({"certificateChain": ""}), CHAIN, "issued certificate chain must contain at least one certificate"),
            (
                json!({"certificateChain": leaf.replace("CERTIFICATE", "KEY")}),
                CHAIN,
                "issued certificate chain must consist entirely of CERTIFICATE PEM blocks",
            ),
            (
                json!({"certificateChain": issue(&other, 7200)}),
                CHAIN,
                "leaf certificate was not issued to the requested public key",
            ),
            (
                json!({"certificateChain": leaf + "-----BEGIN CERTIFICATE-----\nYWI=\n-----END CERTIFICATE-----\n"}),
                CHAIN,
                "intermediate certificate does not parse as valid X.509",
            ),
            (json!({"notAfter": null}), "notAfter", "must be present and consistent with the issued certificate"),
            (
                json!({"notBefore": "2026-01-01T00:00:01Z"}),
                "notBefore",
                "must be set to the NotBefore time encoded in the leaf certificate",
            ),
            (
                json!({"beginRefreshAt": "2026-01-01T00:09:59Z"}),
                "beginRefreshAt",
                "must be at least 10 minutes after status.notBefore",
            ),
            (
                json!({"beginRefreshAt": "2026-01-01T01:50:01Z"}),
                "beginRefreshAt",
                "must be at least 10 minutes before status.notAfter",
            ),
            (
                json!({"certificateChain": issue(&own, 7201), "notAfter": "2026-01-01T02:00:01Z"}),
                CHAIN,
                "leaf certificate lifetime must be <= spec.maxExpirationSeconds (7200)",
            ),
            (
                json!({"certificateChain": issue(&own, 3599), "notAfter": "2026-01-01T00:59:59Z"}),
                CHAIN,
                "leaf certificate lifetime must be >= 1 hour",
            ),
        ];
        for (changes, field, wanted) in cases {
            assert_eq!(why(check(changes)), (field, wanted.to_owned()));
        }
        let late = why(check_at(json!({}), "2026-01-01T00:05:01Z"));
        assert_eq!(late, ("notBefore", "must be set to within 5 minutes of kube-apiserver's current time".to_owned()));
    }
}
