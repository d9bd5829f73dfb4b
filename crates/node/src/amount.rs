//! Quantities in the units the kernel wants.

use api::Quantity;

/// The quantity times 10^9; 0 when it cannot be read (validation refuses such).
pub fn nano(quantity: &Quantity) -> i128 {
    let text = quantity.0.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let Some((factor, divisor)) = scale(suffix) else { return 0 };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: String = whole.chars().chain(fraction.chars()).collect();
    let Ok(digits) = digits.parse::<i128>() else { return 0 };
    let denominator = 10i128.checked_pow(u32::try_from(fraction.len()).unwrap_or(u32::MAX)).unwrap_or(i128::MAX);
    let numerator = digits.saturating_mul(factor).saturating_mul(1_000_000_000);
    let denominator = denominator.saturating_mul(divisor);
    let value = numerator / denominator + i128::from(numerator % denominator != 0);
    if negative { -value } else { value }
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    let power = |base: i128, n: u32| Some((base.pow(n), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let size = 10i128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, size) } else { (size, 1) })
        }
    }
}

/// The quantity in thousandths, rounded up.
pub fn milli(quantity: &Quantity) -> i64 {
    milli_of_nano(nano(quantity))
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
    fn reads_the_forms_people_write() {
        for (text, want) in [
            ("100m", 100_000_000),
            ("1.5Gi", 1_610_612_736_000_000_000),
            ("2", 2_000_000_000),
            ("1e3", 1_000_000_000_000),
            ("0.5", 500_000_000),
            ("128974848", 128_974_848_000_000_000),
        ] {
            assert_eq!(nano(&Quantity(text.into())), want, "{text}");
        }
        assert_eq!(milli(&Quantity("250m".into())), 250);
        assert_eq!(units(&Quantity("1500m".into())), 2);
    }
}
