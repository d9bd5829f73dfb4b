//! Ranges of addresses, as far as services need them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, `10.43.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    base: u128,
    is_ipv4: bool,
    len: u8,
}

/// The text is no CIDR.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoCidr;

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl FromStr for Prefix {
    type Err = NoCidr;

    fn from_str(text: &str) -> Result<Self, NoCidr> {
        let (address, len) = text.split_once('/').ok_or(NoCidr)?;
        let address: IpAddr = address.parse().map_err(|_| NoCidr)?;
        let len: u8 = len.parse().map_err(|_| NoCidr)?;
        let is_ipv4 = address.is_ipv4();
        let host_bits = (if is_ipv4 { 32_u8 } else { 128 }).checked_sub(len).ok_or(NoCidr)?;
        let mask = u128::MAX.checked_shl(u32::from(host_bits)).unwrap_or(0);
        Ok(Self { base: number(address) & mask, is_ipv4, len })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.base) {
            Ok(base) if self.is_ipv4 => write!(f, "{}/{}", Ipv4Addr::from(base), self.len),
            _ => write!(f, "{}/{}", Ipv6Addr::from(self.base), self.len),
        }
    }
}

impl Prefix {
    pub fn is_ipv4(&self) -> bool {
        self.is_ipv4
    }

    fn last(self) -> u128 {
        self.base | !u128::MAX.checked_shl(self.host_bits()).unwrap_or(0)
    }

    /// The first part of this range with that length that overlaps none of `taken`, `None` if there is none.
    pub fn first_free(&self, len: u8, taken: &[Self]) -> Option<Self> {
        let mut free = Self { len: len.max(self.len), ..*self };
        let overlap = |other: &&Self| self.covers(other) || other.covers(self);
        let mut taken: Vec<_> = taken.iter().filter(overlap).map(|other| (other.base, other.last())).collect();
        taken.sort_unstable();
        for (first, last) in taken {
            if first > free.last() {
                break;
            }
            if last >= free.base {
                // The next part after it; there is none after the last address.
                let within = !u128::MAX.checked_shl(free.host_bits()).unwrap_or(0);
                free.base = (last | within).checked_add(1)?;
            }
        }
        self.covers(&free).then_some(free)
    }

    fn host_bits(self) -> u32 {
        u32::from((if self.is_ipv4 { 32 } else { 128 }) - self.len)
    }

    fn contains(self, address: u128) -> bool {
        let shift = self.host_bits();
        address.checked_shr(shift).unwrap_or(0) == self.base.checked_shr(shift).unwrap_or(0)
    }

    /// Whether the address is one that services may be given: not the network's own, nor IPv4's broadcast.
    pub fn gives(&self, address: IpAddr) -> bool {
        let (number, family) = (number(address), address.is_ipv4());
        family == self.is_ipv4
            && self.contains(number)
            && number != self.base
            && !(self.is_ipv4 && number == self.last())
    }

    /// Whether all of the other range is in this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.is_ipv4 == other.is_ipv4 && self.len <= other.len && self.contains(other.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn the_edges_are_not_given() {
        let range = prefix("10.0.0.0/29");
        let given = |text: &str| range.gives(text.parse().unwrap());
        assert!(given("10.0.0.1") && given("10.0.0.6"));
        assert!(!given("10.0.0.0") && !given("10.0.0.7") && !given("10.0.0.8") && !given("::a00:1"));
        let range = prefix("fd00::/126");
        assert!(range.gives("fd00::3".parse().unwrap()) && !range.gives("fd00::".parse().unwrap()));
        assert!(prefix("0.0.0.0/0").gives("1.2.3.4".parse().unwrap()));
        assert!(prefix("::/0").gives("::1".parse().unwrap()));
    }

    #[test]
    fn a_range_covers_its_parts() {
        assert!(prefix("10.0.0.0/8").covers(&prefix("10.1.0.0/16")));
        assert!(prefix("10.0.0.0/8").covers(&prefix("10.0.0.0/8")));
        assert!(!prefix("10.1.0.0/16").covers(&prefix("10.0.0.0/8")));
        assert!(!prefix("10.0.0.0/8").covers(&prefix("11.0.0.0/16")));
        assert!(!prefix("::/0").covers(&prefix("10.0.0.0/8")));
    }

    #[test]
    fn the_first_free_part_overlaps_nothing() {
        let free = |range: &str, len: u8, taken: &[&str]| {
            let taken: Vec<_> = taken.iter().map(|text| prefix(text)).collect();
            prefix(range).first_free(len, &taken).map(|free| free.to_string())
        };
        assert_eq!(free("10.0.0.0/8", 24, &[]).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(free("10.0.0.0/24", 16, &[]).as_deref(), Some("10.0.0.0/24"), "no part is larger than the whole");
        assert_eq!(free("10.0.0.0/8", 24, &["10.0.0.0/16", "10.1.0.9/32"]).as_deref(), Some("10.1.1.0/24"));
        assert_eq!(free("10.0.0.0/8", 24, &["10.0.2.0/24", "10.0.0.0/24"]).as_deref(), Some("10.0.1.0/24"));
        assert_eq!(free("10.0.0.0/8", 24, &["0.0.0.0/0"]), None);
        assert_eq!(free("255.255.255.0/24", 25, &["255.255.255.0/25", "255.255.255.128/25"]), None);
        assert_eq!(free("::/0", 64, &["::/1"]).as_deref(), Some("8000::/64"));
        assert_eq!(free("ffff::/16", 64, &["ffff::/16"]), None, "nothing follows the last address");
        assert_eq!(free("::/0", 0, &["10.0.0.0/8"]).as_deref(), Some("::/0"), "another family takes nothing");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1", "::/129"] {
            assert_eq!(bad.parse::<Prefix>(), Err(NoCidr), "{bad}");
        }
    }
}
