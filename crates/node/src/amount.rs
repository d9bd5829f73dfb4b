//! Quantities in the units the kernel wants.

use api::Quantity;

/// The quantity times 10^9, rounded up to thousandths; 0 when it cannot be read (validation refuses such).
pub fn nano(quantity: &Quantity) -> i128 {
    i128::from(api::quantity::amount(quantity).milli_value()) * 1_000_000
}

/// The quantity in whole units, rounded up.
pub fn units(quantity: &Quantity) -> i64 {
    units_of_nano(nano(quantity))
}

/// Thousandths from units of 10^-9, rounded up.
pub fn milli_of_nano(nano: i128) -> i64 {
    i64::try_from(ceil(nano, 1_000_000)).unwrap_or(i64::MAX)
}

/// Whole units from units of 10^-9, rounded up.
pub fn units_of_nano(nano: i128) -> i64 {
    i64::try_from(ceil(nano, 1_000_000_000)).unwrap_or(i64::MAX)
}

/// `value / divisor`, rounded up.
pub fn ceil(value: i128, divisor: i128) -> i128 {
    value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up() {
        assert_eq!(nano(&Quantity("100m".into())), 100_000_000);
        assert_eq!(units(&Quantity("1500m".into())), 2);
        assert_eq!(units(&Quantity("1.5Gi".into())), 1_610_612_736);
    }
}
