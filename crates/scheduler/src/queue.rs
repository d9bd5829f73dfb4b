//! The scheduling queue: pods ready to be tried by priority, pods waiting out a back-off, and pods that fit nowhere
//! until something changes. Upstream: pkg/scheduler/backend/queue. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use api::Timestamp;

use crate::framework::ClusterEvent;
use crate::pod::PodInfo;

/// A pod tried in vain waits 1 s, doubling to 10 s.
const BACKOFF_FIRST_SECONDS: i64 = 1;
const BACKOFF_MAX_SECONDS: i64 = 10;
/// No pod waits longer than this for an event, in case one was not thought of.
const UNSCHEDULABLE_SECONDS_MAX: i64 = 300;

/// High priority first, then first come.
type Order = (std::cmp::Reverse<i32>, Timestamp, String);

#[derive(Debug)]
struct Queued {
    pod: PodInfo,
    added: Timestamp,
    attempts: u32,
    /// Where it is now.
    place: Place,
    /// Something happened while it was being tried: if it fails, it is tried again soon.
    moved: bool,
}

#[derive(Debug, PartialEq)]
enum Place {
    Active,
    Backoff {
        until: Timestamp,
    },
    /// Refused by these plugins; worth a try after these events.
    Unschedulable {
        since: Timestamp,
        events: Vec<ClusterEvent>,
    },
    InFlight,
}

/// Pods that are to be scheduled, by uid. Bounded by the number of such pods.
#[derive(Debug, Default)]
pub struct Queue {
    pods: HashMap<String, Queued>,
    active: BTreeSet<Order>,
    backoff: BTreeMap<(Timestamp, String), ()>,
}

impl Queue {
    /// Adds a pod, or takes in its new state: a pod that fits nowhere is tried again when its spec changed.
    pub fn add(&mut self, uid: &str, pod: PodInfo, now: Timestamp) {
        match self.pods.get_mut(uid) {
            Some(queued) => {
                let changed =
                    queued.pod.pod.spec != pod.pod.spec || queued.pod.pod.metadata.labels != pod.pod.metadata.labels;
                queued.pod = pod;
                if changed && matches!(queued.place, Place::Unschedulable { .. }) {
                    self.activate(uid);
                }
            }
            None => {
                let queued = Queued { pod, added: now, attempts: 0, place: Place::Active, moved: false };
                self.pods.insert(uid.to_owned(), queued);
                self.activate(uid);
            }
        }
    }

    /// The pod is gone or assigned.
    pub fn remove(&mut self, uid: &str) {
        if let Some(queued) = self.pods.remove(uid) {
            self.active.remove(&order(uid, &queued));
            if let Place::Backoff { until } = queued.place {
                self.backoff.remove(&(until, uid.to_owned()));
            }
        }
    }

    fn activate(&mut self, uid: &str) {
        if let Some(queued) = self.pods.get_mut(uid) {
            if let Place::Backoff { until } = queued.place {
                self.backoff.remove(&(until, uid.to_owned()));
            }
            queued.place = Place::Active;
            let order = order(uid, queued);
            self.active.insert(order);
        }
    }

    /// The next pod to try; it stays known as being tried.
    pub fn pop(&mut self, now: Timestamp) -> Option<PodInfo> {
        self.wake(now);
        let (_, _, uid) = self.active.pop_first()?;
        let queued = self.pods.get_mut(&uid)?;
        queued.place = Place::InFlight;
        queued.attempts += 1;
        queued.moved = false;
        Some(queued.pod.clone())
    }

    /// When a waiting pod is due, if nothing happens before.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.backoff.keys().next().map(|(until, _)| *until)
    }

    /// The pod fits nowhere: it waits for one of `events`.
    pub fn unschedulable(&mut self, uid: &str, events: Vec<ClusterEvent>, now: Timestamp) {
        let Some(queued) = self.pods.get_mut(uid) else { return };
        if queued.moved {
            return self.back_off(uid, now);
        }
        queued.place = Place::Unschedulable { since: now, events };
    }

    /// Trying failed for a passing reason: again after its back-off.
    pub fn back_off(&mut self, uid: &str, now: Timestamp) {
        let Some(queued) = self.pods.get_mut(uid) else { return };
        let exponent = queued.attempts.saturating_sub(1).min(10);
        let seconds = (BACKOFF_FIRST_SECONDS << exponent).min(BACKOFF_MAX_SECONDS);
        let until = now + Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
        queued.place = Place::Backoff { until };
        self.backoff.insert((until, uid.to_owned()), ());
    }

    /// Something happened: pods that wait for it are tried again, at once if their back-off is over.
    pub fn happened(&mut self, event: ClusterEvent, now: Timestamp) {
        let mut ready = Vec::new();
        for (uid, queued) in &mut self.pods {
            match &queued.place {
                Place::Unschedulable { since, events } if events.contains(&event) => ready.push((uid.clone(), *since)),
                Place::InFlight => queued.moved = true,
                _ => {}
            }
        }
        for (uid, since) in ready {
            let Some(queued) = self.pods.get_mut(&uid) else { continue };
            let exponent = queued.attempts.saturating_sub(1).min(10);
            let seconds = (BACKOFF_FIRST_SECONDS << exponent).min(BACKOFF_MAX_SECONDS);
            let until = since + Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
            if until <= now {
                self.activate(&uid);
            } else {
                queued.place = Place::Backoff { until };
                self.backoff.insert((until, uid), ());
            }
        }
    }

    /// Moves what is due: back-offs that are over.
    fn wake(&mut self, now: Timestamp) {
        while let Some(((until, uid), ())) = self.backoff.first_key_value() {
            if *until > now {
                break;
            }
            let uid = uid.clone();
            self.activate(&uid);
        }
    }

    /// Tries again what has waited for an event for too long. Call about every 30 s.
    pub fn flush(&mut self, now: Timestamp) {
        let old = |queued: &Queued| match queued.place {
            Place::Unschedulable { since, .. } => now.duration_since(since).as_secs() >= UNSCHEDULABLE_SECONDS_MAX,
            _ => false,
        };
        let uids: Vec<String> =
            self.pods.iter().filter(|(_, queued)| old(queued)).map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.activate(&uid);
        }
    }

    /// Pods that wait, in any place.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }
}

fn order(uid: &str, queued: &Queued) -> Order {
    (std::cmp::Reverse(queued.pod.priority), queued.added, uid.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::lean::Pod;
    use api::{Object, Typed};
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: i32) -> PodInfo {
        let pod = json!({"metadata": {"name": name, "uid": name}, "spec": {"priority": priority, "containers": []}});
        PodInfo::new(Arc::new(Pod::from_value(pod).expect("a pod")))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    #[test]
    fn priority_comes_first_then_age() {
        let mut queue = Queue::default();
        queue.add("old", pod("old", 0), at(0));
        queue.add("new", pod("new", 0), at(1));
        queue.add("high", pod("high", 10), at(2));
        let order: Vec<String> = std::iter::from_fn(|| queue.pop(at(3))).map(|pod| pod.pod.name().to_owned()).collect();
        assert_eq!(order, ["high", "old", "new"]);
    }

    #[test]
    fn a_pod_waits_for_what_it_lacks() {
        let mut queue = Queue::default();
        queue.add("a", pod("a", 0), at(0));
        assert!(queue.pop(at(0)).is_some());
        queue.unschedulable("a", vec![ClusterEvent::PodGone], at(0));
        queue.happened(ClusterEvent::NodeTaintsChanged, at(5));
        assert!(queue.pop(at(5)).is_none(), "that event does not concern it");
        queue.happened(ClusterEvent::PodGone, at(5));
        assert!(queue.pop(at(5)).is_some());
    }

    #[test]
    fn an_event_during_the_attempt_is_not_lost() {
        let mut queue = Queue::default();
        queue.add("a", pod("a", 0), at(0));
        assert!(queue.pop(at(0)).is_some());
        queue.happened(ClusterEvent::PodGone, at(0));
        queue.unschedulable("a", vec![ClusterEvent::PodGone], at(0));
        assert_eq!(queue.next_due(), Some(at(1)));
        assert!(queue.pop(at(1)).is_some());
    }
}
