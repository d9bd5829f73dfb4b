//! Randomness and ids from one source: the operating system, or a seed that makes a run repeatable.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// A shared source of randomness. Cheap to clone; clones draw from the same stream.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<StdRng>>);

/// The letters of generated name suffixes: no vowels and no look-alikes, so that no words appear (upstream's
/// `k8s.io/apimachinery/pkg/util/rand`).
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Random {
    /// Seeded by the operating system.
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// The same seed draws the same values.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A random suffix of `len` characters, as appended to `generateName`.
    pub fn suffix(&self, len: usize) -> String {
        let mut rng = self.0.lock();
        (0..len).map(|_| char::from(SUFFIX_ALPHABET[rng.random_range(0..SUFFIX_ALPHABET.len())])).collect()
    }

    /// A version 4 UUID in its lower-case text form: an object's `metadata.uid`.
    pub fn uid(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// Fills `bytes`. Not for long-lived keys: those come from the crypto library (`pki`).
    pub fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill_bytes(bytes);
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.lock().random_range(0..bound) }
    }

    /// A number in `0.0..1.0`, for jitter.
    pub fn fraction(&self) -> f64 {
        self.0.lock().random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_ids_have_their_shape() {
        let (a, b) = (Random::seeded(7), Random::seeded(7));
        assert_eq!(a.suffix(5), b.suffix(5));
        assert_eq!(a.uid(), b.uid());
        assert_eq!(a.uid().len(), 36);
        assert_eq!(a.uid().as_bytes()[14], b'4');
        assert!(a.suffix(100).bytes().all(|c| SUFFIX_ALPHABET.contains(&c)));
    }
}
