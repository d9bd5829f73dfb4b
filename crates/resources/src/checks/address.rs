//! Addresses and ranges in the one way of writing them that newer kinds take.

use std::net::IpAddr;

use api::field::{FieldErrors, Path};

use super::{parse_cidr, parse_ip};

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const MAPPED: &str = "must not be an IPv4-mapped IPv6 address";

/// Why `text` is no address in its canonical form.
pub fn canonical_ip(text: &str) -> Vec<String> {
    let Some(ip) = parse_ip(text) else { return vec![IP.to_owned()] };
    if is_mapped(ip) {
        return vec![MAPPED.to_owned()];
    }
    if ip.to_string() == text { Vec::new() } else { vec![format!("must be in canonical form ({:?})", ip.to_string())] }
}

/// A range in its canonical form.
pub fn canonical_cidr(errors: &mut FieldErrors, path: &Path, text: &str) {
    let Some((ip, length)) = parse_cidr(text) else {
        errors.invalid(path, text, CIDR);
        return;
    };
    let canonical = format!("{}/{length}", network(ip, length));
    if is_mapped(ip) {
        errors.invalid(path, text, MAPPED);
    } else if network(ip, length) != ip {
        errors.invalid(path, text, "must not have bits set beyond the prefix length");
    } else if canonical != text {
        errors.invalid(path, text, format!("must be in canonical form ({canonical:?})"));
    }
}

/// Whether one range lies within another, and is smaller.
pub fn is_strict_subset(part: (IpAddr, u8), whole: (IpAddr, u8)) -> bool {
    let start = network(part.0, part.1);
    part.0.is_ipv4() == whole.0.is_ipv4() && whole.1 < part.1 && network(start, whole.1) == network(whole.0, whole.1)
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// The first address of the range of that prefix length around `ip`.
fn network(ip: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        for good in ["10.0.0.1", "2001:db8::1"] {
            assert_eq!(canonical_ip(good), Vec::<String>::new());
        }
        assert_eq!(canonical_ip("10.0.0"), [IP]);
        assert_eq!(canonical_ip("2001:DB8::1"), ["must be in canonical form (\"2001:db8::1\")"]);
        assert_eq!(canonical_ip("::ffff:10.0.0.1"), [MAPPED]);
    }

    #[test]
    fn ranges_have_one_form() {
        let check = |text: &str| {
            let mut errors = FieldErrors::new();
            canonical_cidr(&mut errors, &Path::new("c"), text);
            errors.0.iter().map(|error| error.detail.clone()).collect::<Vec<_>>()
        };
        for good in ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/64", "10.1.2.3/32"] {
            assert_eq!(check(good), Vec::<String>::new());
        }
        assert_eq!(check("10.0.0.0/33"), [CIDR]);
        assert_eq!(check("10.0.0.1/8"), ["must not have bits set beyond the prefix length"]);
        assert_eq!(check("2001:DB8::/64"), ["must be in canonical form (\"2001:db8::/64\")"]);
    }

    #[test]
    fn parts_are_smaller_and_inside() {
        let range = |text: &str| parse_cidr(text).unwrap();
        let check = |part: &str, whole: &str| is_strict_subset(range(part), range(whole));
        assert!(check("10.1.0.0/16", "10.0.0.0/8"));
        assert!(check("10.1.0.0/16", "0.0.0.0/0"));
        assert!(!check("10.0.0.0/8", "10.0.0.0/8"));
        assert!(!check("11.0.0.0/16", "10.0.0.0/8"));
        assert!(!check("fd00::/64", "0.0.0.0/0"));
    }
}
