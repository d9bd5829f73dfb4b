//! Ranges of addresses, as far as services need them.

use std::net::IpAddr;
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

impl Prefix {
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
        let last = self.base | !u128::MAX.checked_shl(self.host_bits()).unwrap_or(0);
        family == self.is_ipv4 && self.contains(number) && number != self.base && !(self.is_ipv4 && number == last)
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
    fn what_is_no_range_is_refused() {
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1", "::/129"] {
            assert_eq!(bad.parse::<Prefix>(), Err(NoCidr), "{bad}");
        }
    }
}
