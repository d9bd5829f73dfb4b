//! An address range in prefix notation. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::{Error, Family};

/// A network prefix, e.g. `10.42.0.0/16`. The host bits are always zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    base: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// Whether the two have addresses in common: one then contains the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.base()) || other.contains(self.base())
    }

    /// Whether the other is a part of this one, or all of it.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix_len() <= other.prefix_len() && self.contains(other.base())
    }

    /// The range of `prefix_len` bits that holds `addr`; `None` if there are not that many bits.
    pub fn new(addr: IpAddr, prefix_len: u8) -> Option<Self> {
        let bits = bits_of(addr);
        if u32::from(prefix_len) > bits {
            return None;
        }
        let base = from_number(number(addr) & mask(bits, prefix_len), addr.is_ipv4());
        Some(Self { base, prefix_len })
    }

    /// IPv4 or IPv6.
    pub fn family(&self) -> Family {
        Family::of(self.base)
    }

    /// The network address.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// How many leading bits are fixed.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether `addr` lies in the range; never for an address of the other family.
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.base.is_ipv4()
            && number(addr) & mask(bits_of(addr), self.prefix_len) == number(self.base)
    }

    /// The `n`th address of the range (0 is the network address), `None` when the range is smaller.
    pub fn nth(&self, n: u64) -> Option<IpAddr> {
        let host_bits = bits_of(self.base) - u32::from(self.prefix_len);
        let fits = host_bits >= 64 || n < 1u64 << host_bits;
        fits.then(|| from_number(number(self.base) + u128::from(n), self.base.is_ipv4()))
    }
}

fn bits_of(addr: IpAddr) -> u32 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_number(number: u128, v4: bool) -> IpAddr {
    if v4 {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(number))
    }
}

fn mask(bits: u32, prefix_len: u8) -> u128 {
    let all = if bits == 32 { u128::from(u32::MAX) } else { u128::MAX };
    let host_bits = bits - u32::from(prefix_len);
    if host_bits == 128 { 0 } else { (all >> host_bits) << host_bits }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_len)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Invalid(format!("{text:?} is not a network range such as 10.42.0.0/16"));
        let (addr, len) = text.trim().split_once('/').ok_or_else(invalid)?;
        let addr: IpAddr = addr.parse().map_err(|_| invalid())?;
        Self::new(addr, len.parse().map_err(|_| invalid())?).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_hold_their_addresses_and_no_others() {
        for (range, addr, held) in [
            ("10.42.0.0/16", "10.42.255.255", true),
            ("10.42.0.0/16", "10.43.0.0", false),
            ("10.42.7.9/24", "10.42.7.1", true),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("10.42.0.0/16", "::1", false),
            ("::/0", "fe80::1", true),
            ("fd00::/108", "fd00::f:ffff", true),
            ("fd00::/108", "fd00::10:0", false),
        ] {
            assert_eq!(cidr(range).contains(addr.parse().unwrap()), held, "{range} {addr}");
        }
        assert_eq!(cidr("10.42.7.9/24").to_string(), "10.42.7.0/24");
    }

    #[test]
    fn nth_stays_inside() {
        assert_eq!(cidr("10.42.7.0/24").nth(1), Some("10.42.7.1".parse().unwrap()));
        assert_eq!(cidr("10.42.7.0/24").nth(256), None);
        assert_eq!(cidr("fd00::/64").nth(16), Some("fd00::10".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["10.42.0.0", "10.42.0.0/33", "x/8", "::/129", ""] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
