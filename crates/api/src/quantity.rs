//! Quantities (`100m`, `1Gi`): exact arithmetic and the canonical form (`apimachinery/pkg/api/resource`).
//!
//! An amount is a whole number of nano-units in 128 bits, so nothing is ever a float. What is finer is rounded away
//! from zero, as upstream does; what is larger than 128 bits hold (1.7e29 units) is capped, where upstream caps only
//! the binary forms, at 2^63-1.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::Quantity;

/// Nano-units in one unit.
const NANOS: i128 = 1_000_000_000;
/// The largest amount written with a binary suffix.
const BINARY_MAX: i128 = i64::MAX as i128 * NANOS;

/// Which suffixes an amount is written with. It is remembered from parsing and has no part in comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `m`, `k`, `M`, `G` ...: powers of 1000.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi` ...: powers of 1024.
    BinarySi,
    /// `e3`, `e6` ...
    DecimalExponent,
}

/// Why a text is no quantity; upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Number,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// A parsed quantity. Amounts compare by value: `1Ki` equals `1024`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Amount {
    nanos: i128,
    format: Format,
}

/// The power that a suffix stands for.
enum Power {
    Ten(i32),
    Two(u32),
}

fn suffix_power(suffix: &str) -> Option<(Power, Format)> {
    let decimal = |exponent| Some((Power::Ten(exponent), Format::DecimalSi));
    let binary = |exponent| Some((Power::Two(exponent), Format::BinarySi));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            // beyond these bounds every amount but zero is capped or rounded up to a nano-unit anyway
            Some((Power::Ten(exponent.clamp(-1000, 1000) as i32), Format::DecimalExponent))
        }
    }
}

/// `digits` as a number, capped.
fn number(digits: &str) -> i128 {
    let step = |sum: i128, digit: u8| sum.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
    digits.bytes().fold(0, step)
}

/// `digits` times ten to the `exponent`, rounded up, capped.
fn scaled(digits: &str, exponent: i32) -> i128 {
    if exponent < 0 {
        let kept = digits.len().saturating_sub(exponent.unsigned_abs() as usize);
        let rest = digits[kept..].bytes().any(|digit| digit != b'0');
        return number(&digits[..kept]).saturating_add(i128::from(rest));
    }
    let value = number(digits);
    if value == 0 {
        return 0;
    }
    10i128.checked_pow(exponent.unsigned_abs()).and_then(|power| value.checked_mul(power)).unwrap_or(i128::MAX)
}

/// `whole.fraction` times two to the `exponent`, in nano-units, rounded up, capped.
fn shifted(whole: &str, fraction: &str, exponent: u32) -> i128 {
    const FRACTION_DIGITS: usize = 18;
    let power = 1i128 << exponent;
    let head = number(whole).checked_mul(power).and_then(|units| units.checked_mul(NANOS)).unwrap_or(i128::MAX);
    // 18 digits times 2^60 fit into 128 bits
    let kept = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let rest = fraction[kept.len()..].bytes().any(|digit| digit != b'0');
    let tail = number(&format!("{kept:0<FRACTION_DIGITS$}")) * power + i128::from(rest);
    head.saturating_add(tail.div_euclid(NANOS) + i128::from(tail.rem_euclid(NANOS) != 0))
}

impl FromStr for Amount {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let digits_end = |text: &str| text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        let (whole, rest) = unsigned.split_at(digits_end(unsigned));
        let (fraction, suffix, pointed) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (fraction, suffix) = rest.split_at(digits_end(rest));
                (fraction, suffix, true)
            }
            None => ("", rest, false),
        };
        check_suffix(suffix)?;
        if whole.is_empty() && fraction.is_empty() {
            let nothing = text.is_empty() || !pointed && suffix.is_empty();
            return Err(if nothing { ParseError::Format } else { ParseError::Number });
        }
        let (power, mut format) = suffix_power(suffix).ok_or(ParseError::Suffix)?;
        let mut nanos = match power {
            Power::Ten(exponent) => scaled(&format!("{whole}{fraction}"), exponent + 9 - fraction.len() as i32),
            Power::Two(exponent) => shifted(whole, fraction, exponent).min(BINARY_MAX),
        };
        if format == Format::BinarySi && nanos > 0 && nanos < NANOS {
            format = Format::DecimalSi;
        }
        if text.starts_with('-') {
            nanos = -nanos;
        }
        Ok(Self { nanos, format })
    }
}

/// The loose form of suffixes: letters, a sign, digits.
fn check_suffix(suffix: &str) -> Result<(), ParseError> {
    let rest = suffix.trim_start_matches(|letter: char| "eEinumkKMGTP".contains(letter));
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    if rest.bytes().all(|byte| byte.is_ascii_digit()) { Ok(()) } else { Err(ParseError::Format) }
}

impl Amount {
    /// Zero.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// So many units.
    pub fn new(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANOS, format }
    }

    /// So many thousandths.
    pub fn from_milli(milli_units: i64, format: Format) -> Self {
        Self { nanos: i128::from(milli_units) * (NANOS / 1000), format }
    }

    /// From text.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        text.parse()
    }

    /// Units, rounded away from zero, capped at 64 bits.
    pub fn value(self) -> i64 {
        self.rounded(NANOS)
    }

    /// Thousandths, rounded away from zero, capped at 64 bits.
    pub fn milli_value(self) -> i64 {
        self.rounded(NANOS / 1000)
    }

    fn rounded(self, unit: i128) -> i64 {
        let (quotient, remainder) = (self.nanos / unit, self.nanos % unit);
        let value = quotient + remainder.signum();
        i64::try_from(value).unwrap_or(if value > 0 { i64::MAX } else { i64::MIN })
    }

    /// The nearest float, for ratios and metrics.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The suffixes it is written with.
    pub fn format(self) -> Format {
        self.format
    }

    /// Zero takes over the other's format.
    fn with(self, other: Self, nanos: i128) -> Self {
        Self { nanos, format: if self.is_zero() { other.format } else { self.format } }
    }

    /// As an API value in canonical form.
    pub fn to_quantity(self) -> Quantity {
        Quantity(self.to_string())
    }
}

impl std::ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, self.nanos.saturating_add(other.nanos))
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(other, self.nanos.saturating_sub(other.nanos))
    }
}

impl std::ops::SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::ops::Neg for Amount {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nanos: self.nanos.saturating_neg(), format: self.format }
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |sum, amount| sum + amount)
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Amount {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        let whole = self.nanos % NANOS == 0;
        if self.format == Format::BinarySi && whole && self.nanos.abs() >= 1024 * NANOS {
            let mut mantissa = self.nanos / NANOS;
            let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter();
            let mut suffix = suffixes.next().expect("the list is not empty");
            while mantissa % 1024 == 0 {
                let Some(larger) = suffixes.next() else { break };
                (mantissa, suffix) = (mantissa / 1024, larger);
            }
            return write!(f, "{mantissa}{suffix}");
        }
        let exponents = self.format == Format::DecimalExponent;
        let (mut mantissa, mut exponent) = (self.nanos, -9);
        while mantissa % 1000 == 0 && (exponents || exponent < 18) {
            (mantissa, exponent) = (mantissa / 1000, exponent + 3);
        }
        match exponent {
            0 => write!(f, "{mantissa}"),
            _ if exponents => write!(f, "{mantissa}e{exponent}"),
            _ => {
                let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                write!(f, "{mantissa}{}", suffixes[((exponent + 9) / 3) as usize])
            }
        }
    }
}

impl TryFrom<&Quantity> for Amount {
    type Error = ParseError;

    fn try_from(quantity: &Quantity) -> Result<Self, ParseError> {
        quantity.0.parse()
    }
}

impl From<Amount> for Quantity {
    fn from(amount: Amount) -> Self {
        amount.to_quantity()
    }
}

/// The canonical form of a quantity's text.
pub fn canonical(text: &str) -> Result<String, ParseError> {
    Ok(Amount::parse(text)?.to_string())
}

/// A stored quantity's amount; stored quantities were checked, so what cannot be read counts as zero.
pub fn amount(quantity: &Quantity) -> Amount {
    Amount::try_from(quantity).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, expected) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1000Ki", "1000Ki"),
            ("1024Ki", "1Mi"),
            ("1023", "1023"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.1m", "100u"),
            ("0.0001n", "1n"),
            ("-0.0001n", "-1n"),
            ("12e6", "12e6"),
            ("1e3", "1e3"),
            ("1e2", "100"),
            ("1E", "1E"),
            ("1e-3", "1e-3"),
            ("1Ei", "1Ei"),
            ("8Ei", "9223372036854775807"),
            ("9223372036854775807", "9223372036854775807"),
            ("0.5Ki", "512"),
            ("0.0005Ki", "512m"),
            ("1.1Ki", "1126400m"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("1000000000000000000000", "1000E"),
            ("3.0G", "3G"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refused() {
        for (text, error) in [
            ("", ParseError::Format),
            ("1 Gi", ParseError::Format),
            ("1GB", ParseError::Format),
            ("1KK", ParseError::Suffix),
            ("1gi", ParseError::Format),
            ("1i", ParseError::Suffix),
            ("1.2.3", ParseError::Format),
            ("abc", ParseError::Format),
        ] {
            assert_eq!(Amount::parse(text).map(|_| ()), Err(error), "{text}");
        }
    }

    #[test]
    fn rounding_is_away_from_zero() {
        let amount = |text: &str| Amount::parse(text).expect(text);
        assert_eq!((amount("1.1").value(), amount("-1.1").value(), amount("0.1").value()), (2, -2, 1));
        assert_eq!(
            (amount("100u").milli_value(), amount("250m").milli_value(), amount("2").milli_value()),
            (1, 250, 2000)
        );
        assert_eq!(amount("1000E").value(), i64::MAX);
    }

    #[test]
    fn sums_keep_the_first_format() {
        let sum = |a: &str, b: &str| (Amount::parse(a).expect(a) + Amount::parse(b).expect(b)).to_string();
        assert_eq!(sum("1Gi", "1Gi"), "2Gi");
        assert_eq!(sum("0", "1Gi"), "1Gi");
        assert_eq!(sum("1", "1Ki"), "1025");
        assert_eq!(sum("100m", "900m"), "1");
        assert_eq!((Amount::parse("1Gi").expect("ok") - Amount::parse("512Mi").expect("ok")).to_string(), "512Mi");
    }

    proptest! {
        #[test]
        fn canonical_is_stable_and_exact(
            number in -1_000_000_000_000i64..1_000_000_000_000,
            fraction in "[0-9]{0,6}",
            suffix in "n|u|m||k|M|G|T|Ki|Mi|Gi|Ti|e3|e-3|E2",
        ) {
            let text = format!("{number}.{fraction}{suffix}");
            let amount = Amount::parse(&text).expect("well formed");
            let canonical = amount.to_string();
            let again = Amount::parse(&canonical).expect("canonical form parses");
            prop_assert_eq!(amount, again);
            prop_assert_eq!(again.to_string(), canonical.clone());
            prop_assert!(!canonical.contains('.'));
        }

        #[test]
        fn addition_and_subtraction_cancel(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (Amount::from_milli(a, Format::DecimalSi), Amount::from_milli(b, Format::BinarySi));
            prop_assert_eq!(a + b - b, a);
            prop_assert_eq!((a + b).cmp(&a), b.cmp(&Amount::ZERO));
        }

        #[test]
        fn never_panics(text in "[-+0-9.eEinumkKMGTP]{0,24}") {
            let _ = Amount::parse(&text);
        }
    }
}
