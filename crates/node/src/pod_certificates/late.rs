//! When it is to be said that a certificate should have been refreshed: pure.

use base::Timestamp;
use jiff::SignedDuration;

/// So long after a refresh began it is overdue.
const OVERDUE: SignedDuration = SignedDuration::from_mins(10);

/// What is left to say of the certificate a pod has: when, and the event's reason and message, which are upstream's.
#[derive(Debug)]
pub struct Lateness(Vec<(Timestamp, &'static str, &'static str)>);

impl Lateness {
    /// Of a certificate whose refresh begins, and that ends, at these times.
    pub fn new(refresh_at: Timestamp, not_after: Timestamp) -> Self {
        let mut due = vec![
            (refresh_at + OVERDUE, "CertificateOverdueForRefresh", "PodCertificate refresh overdue"),
            (not_after, "CertificateExpired", "PodCertificate expired"),
        ];
        due.sort_by_key(|(at, ..)| *at);
        Self(due)
    }

    /// When there is something to say.
    pub fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, ..)| *at)
    }

    /// What is to be said now; each is said once.
    pub fn due(&mut self, now: Timestamp) -> Vec<(&'static str, &'static str)> {
        let count = self.0.partition_point(|(at, ..)| *at <= now);
        self.0.drain(..count).map(|(_, reason, message)| (reason, message)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once() {
        let at = |time: &str| -> Timestamp { format!("2026-01-01T{time}Z").parse().unwrap() };
        let mut late = Lateness::new(at("10:00:00"), at("12:00:00"));
        assert_eq!(late.next(), Some(at("10:10:00")));
        assert!(late.due(at("10:09:59")).is_empty());
        assert_eq!(late.due(at("10:10:00")), [("CertificateOverdueForRefresh", "PodCertificate refresh overdue")]);
        assert!(late.due(at("11:00:00")).is_empty());
        assert_eq!(late.due(at("13:00:00")), [("CertificateExpired", "PodCertificate expired")]);
        assert_eq!(late.next(), None);
        let short = Lateness::new(at("10:00:00"), at("10:05:00"));
        assert_eq!(short.next(), Some(at("10:05:00")));
    }
}
