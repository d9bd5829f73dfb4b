//! IP addresses and ranges of them.

use std::fmt;
use std::net::IpAddr;

use super::text;
use crate::error::EvalError;
use crate::functions::Declaration;
use crate::value::{Thing, Value};

/// An address with the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    }
}

impl Cidr {
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = format!("netip.ParsePrefix({text:?})");
        let (address, len) = text.split_once('/').ok_or_else(|| format!("{whole}: no '/'"))?;
        let address: IpAddr = parse_ip(address).map_err(|_| format!("{whole}: unable to parse IP"))?;
        let plain = !len.is_empty() && len.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || (len.len() > 1 && len.starts_with('0')) {
            return Err(format!("{whole}: bad bits after slash: {len:?}"));
        }
        match len.parse::<u8>() {
            Ok(prefix_len) if prefix_len <= bits(address).1 => Ok(Cidr { address, prefix_len }),
            _ => Err(format!("{whole}: prefix length out of range")),
        }
    }

    pub(crate) fn cost_size(self: &Cidr) -> u64 {
        u64::from(self.prefix_len).div_ceil(8)
    }

    fn mask(&self) -> u128 {
        // a shift by all 128 bits is none
        u128::MAX.checked_shl(128 - u32::from(self.prefix_len)).unwrap_or(0)
    }

    fn contains(&self, address: IpAddr) -> bool {
        let ((mine, width), (other, other_width)) = (bits(self.address), bits(address));
        width == other_width && (mine ^ other) & self.mask() == 0
    }

    fn contains_cidr(&self, other: &Cidr) -> bool {
        self.prefix_len <= other.prefix_len && self.contains(other.address)
    }

    fn masked(&self) -> Cidr {
        let kept = bits(self.address).0 & self.mask();
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(((kept >> 96) as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(kept.into()),
        };
        Cidr { address, prefix_len: self.prefix_len }
    }
}

/// An address without a zone, and none of IPv4 in the form of IPv6.
pub fn parse_ip(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        Ok(address) => Ok(address),
        Err(_) if text.contains('%') => Err(format!("IP address {text:?} with zone value is not allowed")),
        Err(_) => Err(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        )),
    }
}

fn cidr(text: &str) -> Result<Cidr, EvalError> {
    Cidr::parse(text).map_err(|problem| {
        EvalError::runtime(format!("network address parse error during conversion from string: {problem}"))
    })
}

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("ip string_to_ip (string) IP", |args| {
        let address = parse_ip(text(args, 0)?).map_err(EvalError::runtime)?;
        Ok(Value::thing(Thing::Ip(address)))
    }),
    ("ip cidr_ip CIDR.() IP", |args| Ok(Value::thing(Thing::Ip(range(args, 0)?.address)))),
    ("isIP is_ip (string) bool", |args| Ok(Value::Bool(parse_ip(text(args, 0)?).is_ok()))),
    ("ip.isCanonical ip_is_canonical (string) bool", |args| {
        let text = text(args, 0)?;
        let address = parse_ip(text).map_err(EvalError::runtime)?;
        Ok(Value::Bool(address.to_string() == text))
    }),
    ("family ip_family IP.() int", |args| Ok(Value::Int(if address(args, 0)?.is_ipv4() { 4 } else { 6 }))),
    ("isUnspecified ip_is_unspecified IP.() bool", |args| Ok(Value::Bool(address(args, 0)?.is_unspecified()))),
    ("isLoopback ip_is_loopback IP.() bool", |args| Ok(Value::Bool(address(args, 0)?.is_loopback()))),
    ("isLinkLocalMulticast ip_is_link_local_multicast IP.() bool", |args| {
        Ok(Value::Bool(local_multicast(address(args, 0)?)))
    }),
    ("isLinkLocalUnicast ip_is_link_local_unicast IP.() bool", |args| {
        Ok(Value::Bool(local_unicast(address(args, 0)?)))
    }),
    ("isGlobalUnicast ip_is_global_unicast IP.() bool", |args| Ok(Value::Bool(global_unicast(address(args, 0)?)))),
    ("string ip_to_string (IP) string", |args| Ok(Value::string(address(args, 0)?.to_string()))),
    ("cidr string_to_cidr (string) CIDR", |args| Ok(Value::thing(Thing::Cidr(cidr(text(args, 0)?)?)))),
    ("isCIDR is_cidr (string) bool", |args| Ok(Value::Bool(cidr(text(args, 0)?).is_ok()))),
    ("containsIP cidr_contains_ip_string CIDR.(string) bool", |args| {
        let other = parse_ip(text(args, 1)?).map_err(EvalError::runtime)?;
        Ok(Value::Bool(range(args, 0)?.contains(other)))
    }),
    ("containsIP cidr_contains_ip_ip CIDR.(IP) bool", |args| {
        Ok(Value::Bool(range(args, 0)?.contains(address(args, 1)?)))
    }),
    ("containsCIDR cidr_contains_cidr_string CIDR.(string) bool", |args| {
        Ok(Value::Bool(range(args, 0)?.contains_cidr(&cidr(text(args, 1)?)?)))
    }),
    ("containsCIDR cidr_contains_cidr CIDR.(CIDR) bool", |args| {
        Ok(Value::Bool(range(args, 0)?.contains_cidr(&range(args, 1)?)))
    }),
    ("masked cidr_masked CIDR.() CIDR", |args| Ok(Value::thing(Thing::Cidr(range(args, 0)?.masked())))),
    ("prefixLength cidr_prefix_length CIDR.() int", |args| Ok(Value::Int(i64::from(range(args, 0)?.prefix_len)))),
    ("string cidr_to_string (CIDR) string", |args| Ok(Value::string(range(args, 0)?.to_string()))),
];

fn address(args: &[Value<'_>], at: usize) -> Result<IpAddr, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(thing)) => match &**thing {
            Thing::Ip(address) => Ok(*address),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn range(args: &[Value<'_>], at: usize) -> Result<Cidr, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(thing)) => match &**thing {
            Thing::Cidr(cidr) => Ok(*cidr),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn global_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    let other = address.is_unspecified() || address.is_loopback() || address.is_multicast() || local_unicast(address);
    !broadcast && !other
}
