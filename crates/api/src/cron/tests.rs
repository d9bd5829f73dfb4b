//! Schedules and their times.

use super::{Schedule, zone};
use jiff::Timestamp;
use jiff::tz::TimeZone;

fn times(schedule: &str, zone: &TimeZone, after: &str, count: usize) -> Vec<String> {
    let (schedule, _) = Schedule::parse(schedule).unwrap();
    let mut at: Timestamp = after.parse().unwrap();
    let mut found = Vec::new();
    for _ in 0..count {
        let Some(next) = schedule.next(at, zone) else { break };
        found.push(next.to_string());
        at = next;
    }
    found
}

#[test]
fn what_is_no_schedule_is_told_in_upstreams_words() {
    let cases = [
        ("", "empty spec string"),
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        ("@reboot", "unrecognized descriptor: @reboot"),
        ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
        ("@every 5y", "failed to parse duration @every 5y: time: unknown unit \"y\" in duration \"5y\""),
        ("TZ=Nowhere * * * * *", "provided bad location Nowhere: unknown time zone Nowhere"),
        ("TZ=UTC", "invalid schedule format: runtime error: slice bounds out of range [:-1]"),
    ];
    for (text, why) in cases {
        assert_eq!(Schedule::parse(text).unwrap_err(), why, "{text}");
    }
}

#[test]
fn times_follow_one_another() {
    let utc = TimeZone::UTC;
    let after = "2026-01-31T10:58:30Z";
    assert_eq!(times("*/30 * * * *", &utc, after, 2), ["2026-01-31T11:00:00Z", "2026-01-31T11:30:00Z"]);
    assert_eq!(times("0 0 1 jan,FEB *", &utc, after, 2), ["2026-02-01T00:00:00Z", "2027-01-01T00:00:00Z"]);
    assert_eq!(times("0 12 13 * fri", &utc, after, 2), ["2026-02-06T12:00:00Z", "2026-02-13T12:00:00Z"]);
    // Every other day is not any day: the 31st is due, Monday or not.
    assert_eq!(times("0 12 */2 * 1", &utc, after, 1), ["2026-01-31T12:00:00Z"]);
    assert_eq!(times("0 0 30 2 *", &utc, after, 1), [""; 0]);
    assert_eq!(times("0 0 29 2 *", &utc, after, 1), ["2028-02-29T00:00:00Z"]);
    assert_eq!(times("@weekly", &utc, after, 1), ["2026-02-01T00:00:00Z"]);
    assert_eq!(times("@every 1m30s", &utc, after, 1), ["2026-01-31T11:00:00Z"]);
}

#[test]
fn clocks_that_are_put_forward_or_back() {
    let new_york = zone("America/New_York").unwrap();
    // 2:30 does not exist on March 8, 2026; 1:30 comes twice on November 1.
    assert_eq!(times("30 2 * * *", &new_york, "2026-03-08T00:00:00-05:00", 1), ["2026-03-09T06:30:00Z"]);
    assert_eq!(
        times("30 1 * * *", &new_york, "2026-11-01T00:00:00-04:00", 3),
        ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z"]
    );
}

#[test]
fn zones_are_those_of_the_database() {
    for name in ["UTC", "Europe/Zurich", "Etc/GMT+1", "America/Argentina/Buenos_Aires"] {
        assert!(zone(name).is_some(), "{name}");
    }
    for name in ["Europe/Nowhere", "europe/zurich", "+01:00"] {
        assert!(zone(name).is_none(), "{name}");
    }
}
