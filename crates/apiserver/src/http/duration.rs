//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`.

use std::time::Duration;

/// Reads a duration; what is negative is none.
///
/// # Errors
/// Why it is no duration, in Go's words.
pub fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {text:?}");
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut left = rest;
    let mut seconds = 0.0;
    while !left.is_empty() {
        let end = left.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(left.len());
        let number = &left[..end];
        if number.len() > 32 || !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let number: f64 = number.parse().map_err(|_| invalid())?;
        left = &left[end..];
        let end = left.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(left.len());
        let unit = match &left[..end] {
            "" => return Err(format!("missing unit in duration {text:?}")),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            other => return Err(format!("unknown unit {other:?} in duration {text:?}")),
        };
        left = &left[end..];
        seconds += number * unit;
    }
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
    if duration > Duration::from_nanos(i64::MAX as u64) {
        return Err(invalid());
    }
    Ok(if negative { Duration::ZERO } else { duration })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        for (text, ms) in [("1h30m", 5_400_000), ("1.5s", 1500), ("300ms", 300), ("+2m", 120_000), ("0", 0), ("-5s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, why) in [
            ("invalid", "invalid duration \"invalid\""),
            ("", "invalid duration \"\""),
            ("10", "missing unit in duration \"10\""),
            ("10d", "unknown unit \"d\" in duration \"10d\""),
            (".s", "invalid duration \".s\""),
            ("1..2s", "invalid duration \"1..2s\""),
            ("9999999999h", "invalid duration \"9999999999h\""),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()), "{text}");
        }
    }
}
