//! Timestamps and durations: reading, writing, their parts in a time zone.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::{Offset, TimeZone};

use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("duration duration_to_duration (duration) duration", |args| Ok(args[0].clone())),
    ("duration int64_to_duration (int) duration", duration),
    ("duration string_to_duration (string) duration", duration),
    ("timestamp timestamp_to_timestamp (timestamp) timestamp", |args| Ok(args[0].clone())),
    ("timestamp int64_to_timestamp (int) timestamp", timestamp),
    ("timestamp string_to_timestamp (string) timestamp", timestamp),
    ("getFullYear timestamp_to_year timestamp.() int", |args| part(args, |at| i64::from(at.year()))),
    ("getFullYear timestamp_to_year_with_tz timestamp.(string) int", |args| part(args, |at| i64::from(at.year()))),
    ("getMonth timestamp_to_month timestamp.() int", |args| part(args, |at| i64::from(at.month()) - 1)),
    ("getMonth timestamp_to_month_with_tz timestamp.(string) int", |args| part(args, |at| i64::from(at.month()) - 1)),
    ("getDayOfYear timestamp_to_day_of_year timestamp.() int", |args| part(args, day_of_year)),
    ("getDayOfYear timestamp_to_day_of_year_with_tz timestamp.(string) int", |args| part(args, day_of_year)),
    ("getDayOfMonth timestamp_to_day_of_month timestamp.() int", |args| part(args, |at| i64::from(at.day()) - 1)),
    ("getDayOfMonth timestamp_to_day_of_month_with_tz timestamp.(string) int", |args| {
        part(args, |at| i64::from(at.day()) - 1)
    }),
    ("getDate timestamp_to_day_of_month_1_based timestamp.() int", |args| part(args, |at| i64::from(at.day()))),
    ("getDate timestamp_to_day_of_month_1_based_with_tz timestamp.(string) int", |args| {
        part(args, |at| i64::from(at.day()))
    }),
    ("getDayOfWeek timestamp_to_day_of_week timestamp.() int", |args| part(args, day_of_week)),
    ("getDayOfWeek timestamp_to_day_of_week_with_tz timestamp.(string) int", |args| part(args, day_of_week)),
    ("getHours timestamp_to_hours timestamp.() int", |args| part(args, |at| i64::from(at.hour()))),
    ("getHours timestamp_to_hours_with_tz timestamp.(string) int", |args| part(args, |at| i64::from(at.hour()))),
    ("getHours duration_to_hours duration.() int", |args| span(args, 3600 * SECOND)),
    ("getMinutes timestamp_to_minutes timestamp.() int", |args| part(args, |at| i64::from(at.minute()))),
    ("getMinutes timestamp_to_minutes_with_tz timestamp.(string) int", |args| part(args, |at| i64::from(at.minute()))),
    ("getMinutes duration_to_minutes duration.() int", |args| span(args, 60 * SECOND)),
    ("getSeconds timestamp_to_seconds timestamp.() int", |args| part(args, |at| i64::from(at.second()))),
    ("getSeconds timestamp_to_seconds_with_tz timestamp.(string) int", |args| part(args, |at| i64::from(at.second()))),
    ("getSeconds duration_to_seconds duration.() int", |args| span(args, SECOND)),
    ("getMilliseconds timestamp_to_milliseconds timestamp.() int", |args| part(args, |at| i64::from(at.millisecond()))),
    ("getMilliseconds timestamp_to_milliseconds_with_tz timestamp.(string) int", |args| {
        part(args, |at| i64::from(at.millisecond()))
    }),
    ("getMilliseconds duration_to_milliseconds duration.() int", milliseconds),
];

const SECOND: i64 = 1_000_000_000;
/// The first second of the year 1 and the last of 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

fn within(at: Timestamp) -> Option<Timestamp> {
    SECONDS.contains(&at.as_second()).then_some(at)
}

pub(crate) fn shifted(at: Timestamp, nanos: i128) -> Option<Timestamp> {
    within(Timestamp::from_nanosecond(at.as_nanosecond() + nanos).ok()?)
}

/// RFC 3339, strictly.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = "dddd-dd-ddTdd:dd:dd";
    let head = bytes.get(..shape.len())?.iter().zip(shape.bytes()).all(|(byte, kind)| match kind {
        b'd' => byte.is_ascii_digit(),
        kind => *byte == kind,
    });
    let mut tail = &bytes[shape.len()..];
    if let Some(fraction) = tail.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        tail = if digits == 0 { b"" } else { &fraction[digits..] };
    }
    let zone = match tail {
        b"Z" => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    if head && zone { within(text.parse().ok()?) } else { None }
}

/// A timestamp, or a date as the first instant of its day.
pub(crate) fn parse_date_or_timestamp(text: &str) -> Option<Timestamp> {
    if text.len() == 10 { parse_timestamp(&format!("{text}T00:00:00Z")) } else { parse_timestamp(text) }
}

/// As Go writes durations: `1h30m`, `-1.5s`, `100ms`. In nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(whole_len);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit: i128 = match &after[..unit_len] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &after[unit_len..];
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        // 18 digits of a fraction times an hour in nanoseconds fit into 128 bits
        let digits = &fraction[..fraction.len().min(18)];
        if !digits.is_empty() {
            total += digits.parse::<i128>().ok()? * unit / 10i128.pow(digits.len() as u32);
        }
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// In seconds, as upstream's strings and JSON have it.
pub(crate) fn duration_text(nanos: i64) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{fraction:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

fn duration<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Duration(_) => Ok(args[0].clone()),
        Value::Int(nanos) => Ok(Value::Duration(*nanos)),
        Value::String(text) => parse_duration(text)
            .map(Value::Duration)
            .ok_or_else(|| EvalError::runtime("type conversion error from 'string' to 'google.protobuf.Duration'")),
        _ => Err(EvalError::no_overload()),
    }
}

fn timestamp<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Timestamp(_) => Ok(args[0].clone()),
        Value::Int(seconds) => Timestamp::from_second(*seconds)
            .ok()
            .and_then(within)
            .map(Value::Timestamp)
            .ok_or_else(|| EvalError::runtime("timestamp overflow")),
        Value::String(text) => parse_timestamp(text)
            .map(Value::Timestamp)
            .ok_or_else(|| EvalError::runtime("type conversion error from 'string' to 'google.protobuf.Timestamp'")),
        _ => Err(EvalError::no_overload()),
    }
}

/// A zone by name, or as `+02:00`, `-8:30`, `02:00`.
fn zone(text: &str) -> Option<TimeZone> {
    let Some((hours, minutes)) = text.split_once(':') else {
        return match text {
            "" | "UTC" => Some(TimeZone::UTC),
            name => TimeZone::get(name).ok(),
        };
    };
    let (negative, hours) = match hours.as_bytes().first()? {
        b'-' => (true, &hours[1..]),
        b'+' => (false, &hours[1..]),
        _ => (false, hours),
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..=25).contains(&hours) || !(0..60).contains(&minutes) {
        return None;
    }
    let seconds = (hours * 60 + minutes) * 60;
    Some(TimeZone::fixed(Offset::from_seconds(if negative { -seconds } else { seconds }).ok()?))
}

fn part<'a>(args: &[Value<'a>], of: fn(&jiff::Zoned) -> i64) -> Outcome<'a> {
    let Value::Timestamp(at) = &args[0] else { return Err(EvalError::no_overload()) };
    let zone = match args.get(1) {
        None => TimeZone::UTC,
        Some(Value::String(name)) => {
            zone(name).ok_or_else(|| EvalError::runtime(format!("unknown time zone {}", name.as_str())))?
        }
        Some(_) => return Err(EvalError::no_overload()),
    };
    Ok(Value::Int(of(&at.to_zoned(zone))))
}

fn day_of_year(at: &jiff::Zoned) -> i64 {
    i64::from(at.day_of_year()) - 1
}

fn day_of_week(at: &jiff::Zoned) -> i64 {
    let day: Weekday = at.weekday();
    i64::from(day.to_sunday_zero_offset())
}

fn span<'a>(args: &[Value<'a>], unit: i64) -> Outcome<'a> {
    match &args[0] {
        Value::Duration(nanos) => Ok(Value::Int(nanos / unit)),
        _ => Err(EvalError::no_overload()),
    }
}

fn milliseconds<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match &args[0] {
        Value::Duration(nanos) => Ok(Value::Int(nanos / 1_000_000)),
        _ => Err(EvalError::no_overload()),
    }
}
