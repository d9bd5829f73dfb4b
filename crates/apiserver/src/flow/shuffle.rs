//! Shuffle sharding: every flow is dealt a hand of queues, the same each time; two flows rarely hold the same hand.
//!
//! Pure.

/// The largest hand that sixty random bits deal (validation bounds the entropy of a hand).
pub const HAND_LEN_MAX: usize = 16;

/// Deals hands from a deck of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dealer {
    deck: u32,
    hand: u32,
}

/// The queues a flow may use.
#[derive(Debug, Clone, Copy)]
pub struct Hand {
    cards: [u32; HAND_LEN_MAX],
    len: usize,
}

impl Dealer {
    /// A dealer; sizes out of range are brought into it.
    pub fn new(deck: u32, hand: u32) -> Self {
        let deck = deck.max(1);
        Self { deck, hand: hand.clamp(1, deck.min(HAND_LEN_MAX as u32)) }
    }

    /// The hand of the flow with this hash: distinct cards, any of them as likely as any other.
    pub fn deal(&self, mut hash: u64) -> Hand {
        let mut hand = Hand { cards: [0; HAND_LEN_MAX], len: self.hand as usize };
        // In ascending order: a card drawn among those left is moved past each that was dealt before it.
        let mut dealt = [0u32; HAND_LEN_MAX];
        for at in 0..hand.len {
            let left = u64::from(self.deck) - at as u64;
            #[expect(clippy::cast_possible_truncation, reason = "less than the deck")]
            let mut card = (hash % left) as u32;
            hash /= left;
            let mut place = 0;
            while place < at && card >= dealt[place] {
                card += 1;
                place += 1;
            }
            dealt.copy_within(place..at, place + 1);
            dealt[place] = card;
            hand.cards[at] = card;
        }
        hand
    }
}

impl Hand {
    /// Its queues, in the order dealt.
    pub fn cards(&self) -> &[u32] {
        &self.cards[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_has_distinct_cards_and_is_dealt_again() {
        let dealer = Dealer::new(128, 6);
        for hash in (0..10_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let hand = dealer.deal(hash);
            let mut cards = hand.cards().to_vec();
            assert_eq!(cards, dealer.deal(hash).cards());
            cards.sort_unstable();
            cards.dedup();
            assert_eq!(cards.len(), 6);
            assert!(cards.iter().all(|card| *card < 128));
        }
    }

    #[test]
    fn all_hands_are_dealt_equally_often() {
        let mut seen = std::collections::BTreeMap::new();
        let dealer = Dealer::new(4, 2);
        for hash in 0..12 * 5 {
            *seen.entry(dealer.deal(hash).cards().to_vec()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 12);
        assert!(seen.values().all(|count| *count == 5), "{seen:?}");
    }

    #[test]
    fn a_hand_may_be_the_whole_deck() {
        assert_eq!(Dealer::new(1, 1).deal(u64::MAX).cards(), [0]);
        assert_eq!(Dealer::new(3, 9).deal(0).cards().len(), 3);
    }
}
