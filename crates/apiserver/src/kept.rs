//! Answers that are good for a while, in a bounded number: what those keep who ask others.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Values with the time at which each ends.
pub struct Kept<K, V> {
    len_max: usize,
    values: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    /// At most so many; when there are as many, all that are over go, or else all.
    pub fn new(len_max: usize) -> Self {
        Self { len_max, values: Mutex::default() }
    }

    /// The value, if it is there and not over.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: Instant) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let values = self.values.lock();
        values.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    /// Keeps a value until `until`.
    pub fn put(&self, key: K, value: V, now: Instant, until: Instant) {
        let mut values = self.values.lock();
        if values.len() >= self.len_max && !values.contains_key(&key) {
            values.retain(|_, (_, until)| now < *until);
            if values.len() >= self.len_max {
                values.clear();
            }
        }
        values.insert(key, (value, until));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn values_end_and_are_few() {
        let kept: Kept<&str, u8> = Kept::new(2);
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        kept.put("a", 1, start, start + second);
        kept.put("b", 2, start, start + second * 9);
        assert_eq!((kept.get("a", start), kept.get("a", start + second)), (Some(1), None));
        kept.put("c", 3, start + second, start + second * 9);
        let all = |now| ["a", "b", "c", "d"].map(|key| kept.get(key, now));
        assert_eq!(all(start + second), [None, Some(2), Some(3), None], "what was over made room");
        kept.put("d", 4, start + second, start + second * 9);
        assert_eq!(all(start + second), [None, None, None, Some(4)]);
    }
}
