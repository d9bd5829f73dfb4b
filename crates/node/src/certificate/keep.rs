//! Keeps a certificate that is in use: it is replaced when most of its life is over.

use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, Clock, Random, TaskGroup, Timestamp};
use client::Client;
use pki::tls::Reloadable;
use pki::{Certificate, Identity};

use super::{Error, Files, Purpose, obtain};

/// Between tries to get another.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Renews one certificate.
pub struct Keeper {
    pub purpose: Purpose,
    pub node_name: String,
    pub files: Files,
    /// With whom to ask: `true` if the client certificate there is has ended.
    pub client: Arc<dyn Fn(bool) -> Client + Send + Sync>,
    /// Told whenever there is another certificate in use.
    pub renewed: Arc<dyn Fn() + Send + Sync>,
    pub clock: Clock,
    pub random: Random,
    pub tasks: TaskGroup,
}

impl Keeper {
    /// Asks until there is a certificate. What goes wrong is told in the log.
    pub async fn first(&self) -> Identity {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        loop {
            match self.ask(false).await {
                Ok(identity) => return identity,
                Err(error) => self.pause(&mut backoff, &error).await,
            }
        }
    }

    /// Replaces the certificate in `identity` in time, for ever.
    pub async fn keep(&self, identity: Arc<Reloadable>) {
        loop {
            let current = identity.identity();
            let renew = renewal_time(current.certificate(), self.random.fraction());
            tracing::debug!(at = %renew, purpose = ?self.purpose, "the certificate will be renewed");
            self.clock.sleep_until(renew).await;
            let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
            let new = loop {
                let ended = self.clock.now() >= current.not_after();
                match self.ask(ended).await {
                    Ok(new) => break new,
                    Err(error) => {
                        if ended {
                            tracing::error!(
                                ended = %current.not_after(),
                                "the certificate in {} has ended and there is no other yet; pods go on",
                                self.files.current().display()
                            );
                        }
                        self.pause(&mut backoff, &error).await;
                    }
                }
            };
            tracing::info!(purpose = ?self.purpose, until = %new.not_after(), "the certificate was renewed");
            identity.replace(new);
            (self.renewed)();
        }
    }

    async fn ask(&self, ended: bool) -> Result<Identity, Error> {
        let client = (self.client)(ended);
        let (files, purpose) = (&self.files, &self.purpose);
        obtain(&client, files, purpose, &self.node_name, self.clock, &self.random, &self.tasks).await
    }

    async fn pause(&self, backoff: &mut Backoff, error: &Error) {
        let pause = backoff.next_jittered(&self.random);
        tracing::warn!(%error, ?pause, purpose = ?self.purpose, "there is no new certificate yet");
        self.clock.sleep(pause).await;
    }
}

/// When a certificate is replaced: after 70 to 90 % of its life, as `fraction` of 0 to 1 says, so that nodes that
/// joined together do not ask together (upstream's `nextRotationDeadline`). Signers date certificates back by some
/// minutes, for clocks that are behind: these are not counted, for a short life would be over before it began.
pub fn renewal_time(certificate: &Certificate, fraction: f64) -> Timestamp {
    let (begin, end) = (certificate.not_before, certificate.not_after);
    let life = Duration::try_from(end.duration_since(begin)).unwrap_or_default();
    let used = life.saturating_sub(pki::ca::BACKDATE);
    let used = if used.is_zero() { life } else { used };
    let left = used.mul_f64(1.0 - (0.7 + 0.2 * fraction.clamp(0.0, 1.0)));
    end.checked_sub(left).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_a_life_is_lived() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ca = pki::Ca::generate("ca", now, Duration::from_secs(1_000_000)).unwrap();
        let key = pki::PrivateKey::generate().unwrap();
        let csr = pki::csr::create(&key, "system:node:a", &["system:nodes".to_owned()], &[], &[]).unwrap();
        let renewed_after = |seconds: u64, fraction: f64| {
            // As the cluster's signer does it, dated back by five minutes however short the life.
            let usages = pki::Usages::parse(&["client auth"]).unwrap();
            let profile = pki::Profile { usages, valid: Duration::from_secs(seconds) };
            let signed = Certificate::from_pem(&ca.sign_csr(&csr, &profile, now).unwrap()).unwrap();
            renewal_time(&signed, fraction).duration_since(now).as_secs_f64().round()
        };
        assert_eq!((renewed_after(100_000, 0.0), renewed_after(100_000, 1.0)), (70_000.0, 90_000.0));
        assert_eq!((renewed_after(20, 0.0), renewed_after(20, 1.0)), (14.0, 18.0));
    }
}
