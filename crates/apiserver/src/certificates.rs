//! The server's own certificates: replaced while it serves when somebody asks, and how long each of them lasts.
//!
//! What replaces them is whoever has their keys ([`Certificates`]); this is the door: `POST /pintle/certs/rotate`.

use std::fmt;
use std::sync::Arc;

use api::{Status, Timestamp};
use base::Clock;
use futures_util::future::BoxFuture;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::Server;

/// What is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Every certificate but the CAs'.
    Leaves,
    /// New CAs are made and trusted beside those that sign.
    Introduce,
    /// The new CAs sign, and every certificate is issued again.
    Switch,
    /// The old CAs are trusted no more.
    Retire,
}

impl Step {
    /// From the parameter `ca` of a request; without one it is about no CA.
    ///
    /// # Errors
    /// 400 if there is no such step.
    pub fn parse(ca: Option<&str>) -> Result<Self, Status> {
        match ca {
            None => Ok(Self::Leaves),
            Some("introduce") => Ok(Self::Introduce),
            Some("switch") => Ok(Self::Switch),
            Some("retire") => Ok(Self::Retire),
            Some(other) => {
                let why = format!("ca={other}: the steps are introduce, switch and retire, in this order");
                Err(Status::bad_request(why))
            }
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotated {
    /// The certificates that were issued again.
    pub issued: Vec<String>,
    /// How things stand now and what comes next, for people.
    pub words: String,
}

/// Who has the keys.
pub trait Certificates: Send + Sync + 'static {
    /// Takes a step while `server` serves. Whoever must know has been told when it ends.
    ///
    /// # Errors
    /// 409 if it is not the time for that step; 500 if something cannot be written.
    fn rotate<'a>(&'a self, server: &'a Arc<Server>, step: Step) -> BoxFuture<'a, Result<Rotated, Status>>;

    /// Every certificate, CAs included: its name and its end.
    fn ends(&self) -> Vec<(String, Timestamp)>;
}

impl Server {
    /// Replaces certificates.
    ///
    /// # Errors
    /// 503 if the server has none of its own; as [`Certificates::rotate`].
    pub async fn rotate_certificates(self: &Arc<Self>, step: Step) -> Result<Rotated, Status> {
        let certificates = self.options().certificates.clone();
        let certificates =
            certificates.ok_or_else(|| Status::unavailable("this server has no certificates of its own"))?;
        certificates.rotate(self, step).await
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    certificate: String,
}

/// Seconds until each certificate ends, counted when somebody looks.
pub(crate) struct Lives {
    pub certificates: Arc<dyn Certificates>,
    pub clock: Clock,
}

impl fmt::Debug for Lives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lives")
    }
}

impl Collector for Lives {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let now = self.clock.now();
        let help = "Seconds until a certificate of the server's own ends, negative if it has";
        let mut all = encoder.encode_descriptor("pintle_certificate_ttl_seconds", help, None, MetricType::Gauge)?;
        for (certificate, end) in self.certificates.ends() {
            let left_seconds = end.as_second() - now.as_second();
            ConstGauge::new(left_seconds).encode(all.encode_family(&Labels { certificate })?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_known_by_name() {
        assert_eq!(Step::parse(None).unwrap(), Step::Leaves);
        assert_eq!(Step::parse(Some("switch")).unwrap(), Step::Switch);
        let refused = Step::parse(Some("everything")).unwrap_err();
        assert_eq!((refused.code(), refused.message().contains("introduce, switch and retire")), (400, true));
    }
}
