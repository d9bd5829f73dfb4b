//! The small languages of fields: quantities, schedules, JSON paths, names.

use api::cron::Schedule;
use api::quantity::{self, Amount};
use api::{Timestamp, name};
use structural::json_path::Path;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(amount) = Amount::parse(text) {
        let (_, _, _) = (amount.value(), amount.milli_value(), amount.as_f64());
        let canonical = quantity::canonical(text).expect("it parses");
        assert_eq!(quantity::canonical(&canonical).as_ref(), Ok(&canonical), "{text:?}");
        let again = Amount::parse(&canonical).expect("it is canonical");
        assert_eq!(amount.value(), again.value(), "{text:?} and {canonical:?}");
    }
    if let Ok((schedule, zone)) = Schedule::parse(text) {
        let zone = zone.or_else(|| api::cron::zone("UTC")).expect("there is UTC");
        if let Some(next) = schedule.next(Timestamp::UNIX_EPOCH, &zone) {
            assert!(next > Timestamp::UNIX_EPOCH, "{text:?}");
        }
    }
    if let Ok(path) = Path::parse(text) {
        let object = crate::patch::deployment();
        let all = path.select(&object);
        assert_eq!(path.first(&object), all.first().copied());
        let _ = path.fields();
    }
    for rule in [name::dns1123_label, name::dns1123_subdomain, name::dns1035_label, name::path_segment] {
        let (_, _) = (rule(text, false), rule(text, true));
    }
    for rule in [
        name::qualified,
        name::label_value,
        name::port_name,
        name::env_var,
        name::config_map_key,
        name::percent,
        name::condition_reason,
        name::http_header,
        name::wildcard_dns1123_subdomain,
    ] {
        let _ = rule(text);
    }
}
