//! One CertificateSigningRequest, from its creation to the certificate. Its name is made of its key, so that who asks
//! again with the same key takes up the request there is.

use std::sync::Arc;
use std::time::Duration;

use api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use api::meta::v1::ObjectMeta;
use base::{Random, TaskGroup};
use client::{Client, ListOptions, Reflector};
use pki::{Identity, PrivateKey};
use sha2::{Digest, Sha256};

use super::{Error, Files, NODES, Purpose, user};

/// How long a request is waited for before it is looked at anew (upstream: 15 minutes).
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// After this long without an answer, the log says what is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for a certificate and waits for it, and keeps it in `files`. Whoever `client` is must be allowed to ask in the
/// node's name. Cancel-safe: the request is taken up at the next call.
///
/// # Errors
/// See [`Error`].
pub async fn obtain(
    client: &Client,
    files: &Files,
    purpose: &Purpose,
    node_name: &str,
    clock: base::Clock,
    random: &Random,
    tasks: &TaskGroup,
) -> Result<Identity, Error> {
    let key = files.pending_key()?;
    let request = request(&key, purpose, node_name)?;
    let name = request.metadata.name.clone().unwrap_or_default();
    match client.create(request).await {
        Err(error) if error.is_already_exists() => tracing::debug!(name, "the request is there already"),
        made => drop(made?),
    }
    let waited = tokio::time::timeout(WAIT_MAX, answer(client, &name, random, tasks)).await;
    let pem = match waited.unwrap_or(Err(Error::Waiting { name: name.clone() })) {
        Ok(pem) => pem,
        Err(error) => {
            if matches!(error, Error::Refused { .. }) {
                files.forget_key()?;
            }
            return Err(error);
        }
    };
    let identity = checked(&pem, &key, purpose, node_name, &name).inspect_err(|_| drop(files.forget_key()))?;
    if clock.now() >= identity.not_after() {
        // The next call asks with another key.
        files.forget_key()?;
        return Err(Error::Late { name, end: identity.not_after() });
    }
    files.save(&identity, clock.now())?;
    Ok(identity)
}

/// What was signed, if it is what was asked for.
fn checked(pem: &str, key: &PrivateKey, purpose: &Purpose, node_name: &str, name: &str) -> Result<Identity, Error> {
    let identity = Identity::new(pem, key)?;
    if purpose.is_met_by(identity.certificate(), node_name) {
        return Ok(identity);
    }
    let why = format!("the signer answered with a certificate of {:?}", identity.certificate().common_name);
    Err(Error::Refused { name: name.to_owned(), what: "signed wrongly", why })
}

fn request(key: &PrivateKey, purpose: &Purpose, node_name: &str) -> Result<CertificateSigningRequest, Error> {
    let (dns_names, addresses) = match purpose {
        Purpose::Client => (Vec::new(), Vec::new()),
        Purpose::Serving { addresses } => (vec![node_name.to_owned()], addresses.clone()),
    };
    let pem = pki::csr::create(key, &user(node_name), &[NODES.to_owned()], &dns_names, &addresses)?;
    // A name for this key and what is asked for: other addresses are another request.
    let mut digest = Sha256::new_with_prefix(key.public_key().as_der());
    digest.update(purpose.signer());
    digest.update(format!("{dns_names:?}{addresses:?}"));
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(format!("node-csr-{}", hex::encode(&digest.finalize()[..20]))),
            ..Default::default()
        },
        spec: CertificateSigningRequestSpec {
            request: api::ByteString(pem.into_bytes()),
            signer_name: purpose.signer().to_owned(),
            usages: Some(purpose.usages()),
            ..Default::default()
        },
        ..Default::default()
    })
}

/// Follows the request until there is a certificate, or there will be none.
async fn answer(client: &Client, name: &str, random: &Random, tasks: &TaskGroup) -> Result<String, Error> {
    let options = ListOptions { field_selector: Some(format!("metadata.name={name}")), ..ListOptions::default() };
    let following = Following(tasks.child());
    let reflector: Reflector<CertificateSigningRequest> =
        Reflector::start(client.clone(), options, random.clone(), &following.0);
    let mut changes = reflector.subscribe();
    reflector.synced().await;
    let (mut told, mut seen) = (false, false);
    loop {
        match reflector.get(name) {
            Some(request) => {
                seen = true;
                if let Some(answer) = answered(&request) {
                    return answer;
                }
            }
            // The first list may be from before it was made.
            None if !seen => {}
            None => {
                let why = "somebody deleted it".to_owned();
                return Err(Error::Refused { name: name.to_owned(), what: "taken back", why });
            }
        }
        tokio::select! {
            _ = changes.next() => {}
            () = tokio::time::sleep(PATIENCE), if !told => {
                told = true;
                tracing::info!(
                    request = name,
                    "waiting for the certificate; a person approves it with `kubectl certificate approve {name}`"
                );
            }
        }
    }
}

/// Ends the reflector with the wait.
struct Following(TaskGroup);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What became of a request; `None`: nothing yet.
fn answered(request: &Arc<CertificateSigningRequest>) -> Option<Result<String, Error>> {
    let status = request.status.as_ref()?;
    let refused = status.conditions.iter().flatten().find_map(|condition| match condition.type_.as_str() {
        "Denied" => Some(("denied", condition)),
        "Failed" if condition.status == "True" => Some(("refused by its signer", condition)),
        _ => None,
    });
    if let Some((what, condition)) = refused {
        let name = request.metadata.name.clone().unwrap_or_default();
        let words = [&condition.reason, &condition.message].into_iter().flatten().filter(|text| !text.is_empty());
        let why = words.cloned().collect::<Vec<_>>().join(": ");
        return Some(Err(Error::Refused { name, what, why }));
    }
    let pem = status.certificate.as_ref().filter(|pem| !pem.0.is_empty())?;
    Some(Ok(String::from_utf8_lossy(&pem.0).into_owned()))
}

#[cfg(test)]
mod tests {
    use api::Typed;
    use pki::Csr;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_request_is_known_by_its_key_and_what_it_asks_for() {
        let key = PrivateKey::generate().unwrap();
        let serving = |ip: &str| Purpose::Serving { addresses: vec![ip.parse().unwrap()] };
        let name = |key: &PrivateKey, purpose: &Purpose| request(key, purpose, "a").unwrap().metadata.name.unwrap();
        let first = name(&key, &serving("192.0.2.1"));
        assert_eq!(name(&key, &serving("192.0.2.1")), first);
        assert_ne!(name(&key, &serving("192.0.2.2")), first);
        assert_ne!(name(&key, &Purpose::Client), first);
        assert_ne!(name(&PrivateKey::generate().unwrap(), &serving("192.0.2.1")), first);
        assert_eq!(first.len(), "node-csr-".len() + 40);
        let made = request(&key, &serving("192.0.2.1"), "a").unwrap();
        let csr = Csr::from_pem(&String::from_utf8_lossy(&made.spec.request.0)).unwrap();
        assert_eq!(csr.public_key_der().unwrap(), key.public_key().as_der());
        assert_eq!((csr.common_name.as_str(), &csr.organizations[..]), ("system:node:a", &[NODES.to_owned()][..]));
        assert_eq!((csr.dns_names.len(), csr.ip_addresses.len()), (1, 1));
    }

    #[test]
    fn an_answer_is_a_certificate_or_why_there_is_none() {
        let said = |status: Value| {
            let spec = json!({"request": "YQ==", "signerName": "a/b"});
            let request = json!({"metadata": {"name": "r"}, "spec": spec, "status": status});
            let request = Arc::new(CertificateSigningRequest::from_value(request).unwrap());
            answered(&request).map(|answer| answer.map_err(|error| error.to_string()))
        };
        assert_eq!(said(json!({})), None);
        assert_eq!(said(json!({"conditions": [{"type": "Approved", "status": "True"}]})), None);
        assert_eq!(said(json!({"certificate": "eA=="})), Some(Ok("x".to_owned())));
        let denied = json!([{"type": "Denied", "status": "True", "reason": "No", "message": "not today"}]);
        let wanted = "the request r was denied: No: not today";
        assert_eq!(said(json!({"conditions": denied})), Some(Err(wanted.to_owned())));
        let failed =
            json!([{"type": "Approved", "status": "True"}, {"type": "Failed", "status": "True", "message": "m"}]);
        let wanted = "the request r was refused by its signer: m";
        assert_eq!(said(json!({"conditions": failed})), Some(Err(wanted.to_owned())));
    }
}
