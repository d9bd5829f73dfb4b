//! A signer of one's own for pods' certificates, as those who run a cluster bring it: it follows the
//! PodCertificateRequests of its name and answers each. It does as a request's annotation `<its domain>/answer` says:
//! `deny`, `fail` or `wait`; without one it issues.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::certificates::v1::{PodCertificateRequest, PodCertificateRequestStatus};
use api::meta::v1::{Condition, Time};
use base::{Clock, Random, TaskGroup, Timestamp};
use client::{Client, ListOptions, Reflector};
use pki::{Ca, Profile, Usages};

const CA_VALID: Duration = Duration::from_secs(3650 * 86_400);
/// Where a request does not say.
const SECONDS_MAX: i32 = 86_400;

/// A signer with a CA of its own.
pub struct Signer {
    name: String,
    ca: Ca,
    usages: Usages,
    client: Client,
    clock: Clock,
    requests: Reflector<PodCertificateRequest>,
}

impl Signer {
    /// Signs as `name` through `client` until its group ends.
    ///
    /// # Errors
    /// If there can be no CA.
    pub fn start(name: &str, client: Client, clock: Clock, random: &Random, tasks: &TaskGroup) -> Result<()> {
        let ca = Ca::generate(name, clock.now(), CA_VALID).context("the signer's CA")?;
        let usages = Usages::parse(&["digital signature", "client auth", "server auth"])?;
        let own = ListOptions { field_selector: Some(format!("spec.signerName={name}")), ..ListOptions::default() };
        let requests = Reflector::start(client.clone(), own, random.clone(), tasks);
        let signer = Self { name: name.to_owned(), ca, usages, client, clock, requests };
        tasks.spawn("signer of pod certificates", signer.run());
        Ok(())
    }

    async fn run(self) {
        let mut changes = self.requests.subscribe();
        loop {
            for request in changes.next().await.into_iter().filter_map(|change| change.new) {
                let decided = request.status.as_ref().is_some_and(|status| status.conditions.is_some());
                let Some(status) = (!decided).then(|| self.answer(&request)).flatten() else { continue };
                let mut answered = PodCertificateRequest::clone(&request);
                answered.status = Some(status);
                match self.client.update_status(answered).await {
                    Ok(_) => {}
                    // It is gone, or changed: what is still there is met again.
                    Err(error) if error.is_not_found() || error.is_conflict() => {}
                    // A panic fails the spec.
                    Err(error) => panic!("the answer of {} is refused: {error}", self.name),
                }
            }
        }
    }

    fn answer(&self, request: &Arc<PodCertificateRequest>) -> Option<PodCertificateRequestStatus> {
        let now = self.clock.now();
        let domain = self.name.split('/').next().unwrap_or_default();
        let wish = request.spec.unverified_user_annotations.as_ref();
        match wish.and_then(|wishes| wishes.get(&format!("{domain}/answer"))).map(String::as_str) {
            Some("wait") => None,
            Some("deny") => Some(decided("Denied", "UnsupportedKeyType", "ECDSAP256 would do", now)),
            Some("fail") => Some(decided("Failed", "OutOfOrder", "the signer is broken", now)),
            _ => Some(
                self.issue(request, now).unwrap_or_else(|why| decided("Denied", "Malformed", &why.to_string(), now)),
            ),
        }
    }

    fn issue(&self, request: &PodCertificateRequest, now: Timestamp) -> Result<PodCertificateRequestStatus> {
        let seconds = request.spec.max_expiration_seconds.unwrap_or(SECONDS_MAX);
        let life = Duration::from_secs(u64::try_from(seconds)?);
        let profile = Profile { usages: self.usages.clone(), valid: life - pki::ca::POD_BACKDATE };
        let name = &request.spec.pod_name;
        let leaf = self.ca.sign_stub_request(&request.spec.stub_pkc_s10_request.0, name, &profile, now)?;
        let issued = pki::Certificate::from_pem(&leaf)?;
        Ok(PodCertificateRequestStatus {
            certificate_chain: Some(leaf + self.ca.cert_pem()),
            not_before: Some(Time(issued.not_before)),
            not_after: Some(Time(issued.not_after)),
            begin_refresh_at: Some(Time(issued.not_before + life / 2)),
            ..decided("Issued", "Issued", "", now)
        })
    }
}

fn decided(kind: &str, reason: &str, message: &str, now: Timestamp) -> PodCertificateRequestStatus {
    let condition = Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(now),
        observed_generation: None,
    };
    PodCertificateRequestStatus { conditions: Some(vec![condition]), ..PodCertificateRequestStatus::default() }
}

#[cfg(test)]
mod tests;
