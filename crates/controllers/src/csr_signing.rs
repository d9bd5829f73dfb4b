//! Signs approved CertificateSigningRequests of the signers `kubernetes.io/...` with the cluster's CA.
//!
//! Upstream: pkg/controller/certificates/signer (four controllers there, one for each signer; one rule book here).

use std::sync::Arc;
use std::time::Duration;

use api::ByteString;
use api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use api::meta::v1::Time;
use api::{Object, Timestamp};
use client::{Client, Error};
use pki::{Csr, Profile, Usages};

use crate::certificates;
use crate::harness::{Actor, Context, Read, Write};

pub struct Controller;

/// No certificate is asked for that lives shorter; what is stored from before is given as much.
const VALID_MIN: Duration = Duration::from_secs(600);
/// Certificates of this life or longer end as much before their time as they begin before it.
const LONG: Duration = Duration::from_secs(8 * 3600);
/// The CA could not sign: it has expired, or the machine has no randomness. Nothing will tell when that changes.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Actor for Controller {
    const NAME: &'static str = "certificate-controller";
    type Primary = CertificateSigningRequest;

    fn reads() -> Vec<Read> {
        Vec::new()
    }

    fn writes() -> Vec<Write> {
        vec![Write::subresource::<CertificateSigningRequest>("status", &["update"])]
    }

    async fn act(
        &self,
        request: Arc<CertificateSigningRequest>,
        context: &Context,
        client: &Client,
    ) -> Result<Option<Duration>, Error> {
        let Some(signing) = &context.signing else { return Ok(None) };
        let now = context.clock.now();
        match decide(&request, signing.valid_max) {
            Decision::Leave => {}
            Decision::Sign(profile) => {
                let pem = String::from_utf8_lossy(&request.spec.request.0);
                match signing.issuer.ca().sign_csr(&pem, &profile, now) {
                    Ok(certificate) => drop(client.update_status(issued(&request, certificate)).await?),
                    Err(error) => {
                        tracing::warn!(request = request.name(), %error, "a certificate could not be signed");
                        return Ok(Some(LOOK_AGAIN));
                    }
                }
            }
            Decision::Fail(why) => drop(client.update_status(failed(&request, why, now)).await?),
        }
        Ok(None)
    }
}

#[derive(Debug)]
enum Decision {
    /// It is not for us, not approved, or has its answer.
    Leave,
    Sign(Profile),
    /// It asks for what its signer never signs.
    Fail(String),
}

fn decide(request: &CertificateSigningRequest, valid_max: Duration) -> Decision {
    if certificates::is_issued(request)
        || !certificates::is_approved(request)
        || certificates::has_failed(request)
        || request.is_terminating()
    {
        return Decision::Leave;
    }
    // What is stored was read when it was made: what is no request now was never ours.
    let Ok(csr) = Csr::from_pem(&String::from_utf8_lossy(&request.spec.request.0)) else { return Decision::Leave };
    let usages = certificates::usages(request);
    match certificates::check(&request.spec.signer_name, &csr, usages) {
        None => Decision::Leave,
        Some(Err(why)) => Decision::Fail(why),
        Some(Ok(())) => match Usages::parse(usages) {
            Ok(usages) => Decision::Sign(Profile { usages, valid: valid(request.spec.expiration_seconds, valid_max) }),
            Err(why) => Decision::Fail(why.to_string()),
        },
    }
}

/// How long from now a certificate lives: as asked, within the signer's bounds; what asks for nothing, as long as may
/// be.
fn valid(asked_seconds: Option<i32>, max: Duration) -> Duration {
    let life = match asked_seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0))) {
        Some(asked) if asked <= max => asked.max(VALID_MIN),
        _ => max,
    };
    if life < LONG { life } else { life - pki::ca::BACKDATE }
}

fn issued(request: &CertificateSigningRequest, certificate: String) -> CertificateSigningRequest {
    let mut new = request.clone();
    new.status.get_or_insert_default().certificate = Some(ByteString(certificate.into_bytes()));
    new
}

fn failed(request: &CertificateSigningRequest, why: String, now: Timestamp) -> CertificateSigningRequest {
    let mut new = request.clone();
    new.status.get_or_insert_default().conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
        type_: "Failed".to_owned(),
        status: "True".to_owned(),
        reason: Some("SignerValidationFailure".to_owned()),
        message: Some(why),
        last_update_time: Some(Time(now)),
        last_transition_time: None,
    });
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_life_is_within_the_signers_bounds() {
        let year = 8760 * HOUR;
        let cases = [
            (None, year, year - pki::ca::BACKDATE),
            (Some(3600), year, HOUR),
            (Some(8 * 3600), year, 8 * HOUR - pki::ca::BACKDATE),
            (Some(i32::MAX), year, year - pki::ca::BACKDATE),
            (Some(60), year, VALID_MIN),
            (Some(7200), HOUR, HOUR),
            (None, HOUR, HOUR),
            (None, HOUR / 90, HOUR / 90),
        ];
        for (asked, max, wanted) in cases {
            assert_eq!(valid(asked, max), wanted, "{asked:?} of at most {max:?}");
        }
    }
}
