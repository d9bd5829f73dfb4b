//! Costs and sizes as ranges; sums and products stop at the largest number.

/// The least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CostEstimate {
    pub min: u64,
    pub max: u64,
}

impl CostEstimate {
    pub(crate) const UNKNOWN: Self = CostEstimate { min: 0, max: u64::MAX };

    pub(crate) const fn fixed(value: u64) -> Self {
        CostEstimate { min: value, max: value }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        CostEstimate { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) fn times(self, other: Self) -> Self {
        CostEstimate { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// Rounded up.
    pub(crate) fn times_factor(self, factor: f64) -> Self {
        let scaled = |value: u64| (value as f64 * factor).ceil() as u64; // a cast of what is too large is the largest
        CostEstimate { min: scaled(self.min), max: scaled(self.max) }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        CostEstimate { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}
