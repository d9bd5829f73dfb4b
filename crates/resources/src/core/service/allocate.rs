//! Addresses and node ports of services: which are free, which a service asks for, which it gets.
//!
//! Pure: the registry holds [`Used`] (made from all services), hands over randomness, and writes the service under the
//! lock that guards both. Wording as upstream's allocators.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use api::core::v1::{Service, ServiceSpec};
use api::field::{FieldErrors, Path};

use super::{family_of, is_headless, kind, needs_health_check_node_port, needs_node_ports, validate};
use crate::checks;

/// Node ports unless configured otherwise.
pub const NODE_PORTS: RangeInclusive<i32> = 30_000..=32_767;

/// A range of service addresses, `10.43.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: u128,
    is_ipv4: bool,
    prefix_len: u8,
}

/// The text is no CIDR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix_len) = checks::parse_cidr(text).ok_or_else(|| CidrError(text.to_owned()))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let host_bits = u32::from(width - prefix_len);
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Ok(Self { base: number(address) & mask, is_ipv4: address.is_ipv4(), prefix_len })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(0), self.prefix_len)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Cidr {
    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.is_ipv4 { "IPv4" } else { "IPv6" }
    }

    fn address(&self, offset: u128) -> IpAddr {
        let number = self.base.saturating_add(offset);
        if self.is_ipv4 {
            Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
        } else {
            Ipv6Addr::from(number).into()
        }
    }

    /// How many addresses can be given out: not the network's own, nor IPv4's broadcast.
    fn usable(&self) -> u128 {
        let width = if self.is_ipv4 { 32 } else { 128 };
        let all = 1u128.checked_shl(u32::from(width - self.prefix_len)).unwrap_or(u128::MAX);
        all.saturating_sub(if self.is_ipv4 { 2 } else { 1 })
    }

    /// Whether the address can be given out.
    pub fn contains(&self, address: IpAddr) -> bool {
        let offset = number(address).wrapping_sub(self.base);
        address.is_ipv4() == self.is_ipv4 && (1..=self.usable()).contains(&offset)
    }

    /// The first address that can be given out; that of the service `kubernetes`.
    pub fn first(&self) -> IpAddr {
        self.address(1)
    }
}

/// What services may be given.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// The primary family first; at most one of each.
    pub services: Vec<Cidr>,
    /// Every range that addresses are taken from, in this order; `None`: those above.
    pub pools: Option<Vec<Cidr>>,
    pub node_ports: RangeInclusive<i32>,
}

impl Ranges {
    fn of(&self, family: &str) -> Option<&Cidr> {
        self.services.iter().find(|range| range.family() == family)
    }

    fn pools_of(&self, family: &str) -> Vec<&Cidr> {
        let pools = self.pools.as_deref().unwrap_or(&self.services);
        pools.iter().filter(|range| range.family() == family).collect()
    }
}

/// What services have been given. A number may be held more than once while a service is replaced.
#[derive(Debug, Clone, Default)]
pub struct Used {
    addresses: BTreeMap<IpAddr, usize>,
    node_ports: BTreeMap<i32, usize>,
}

/// The addresses a service has.
pub fn addresses(service: &Service) -> BTreeSet<IpAddr> {
    let ips = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    ips.filter_map(|ip| checks::parse_ip(ip)).collect()
}

fn node_ports(service: &Service) -> BTreeSet<i32> {
    let Some(spec) = &service.spec else { return BTreeSet::new() };
    let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port);
    ports.chain(spec.health_check_node_port).filter(|port| *port != 0).collect()
}

fn release<T: Ord>(held: &mut BTreeMap<T, usize>, item: &T) {
    if let Some(count) = held.get_mut(item) {
        *count -= 1;
        if *count == 0 {
            held.remove(item);
        }
    }
}

impl Used {
    /// What these services hold.
    pub fn of<'a>(services: impl IntoIterator<Item = &'a Service>) -> Self {
        let mut used = Self::default();
        services.into_iter().for_each(|service| used.add(service));
        used
    }

    /// These addresses are taken, whoever has them.
    pub fn hold(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for ip in addresses {
            *self.addresses.entry(ip).or_default() += 1;
        }
    }

    /// A service was stored.
    pub fn add(&mut self, service: &Service) {
        for ip in addresses(service) {
            *self.addresses.entry(ip).or_default() += 1;
        }
        for port in node_ports(service) {
            *self.node_ports.entry(port).or_default() += 1;
        }
    }

    /// A service is gone, or was replaced.
    pub fn remove(&mut self, service: &Service) {
        addresses(service).iter().for_each(|ip| release(&mut self.addresses, ip));
        node_ports(service).iter().for_each(|port| release(&mut self.node_ports, port));
    }
}

/// Why a service cannot be given what it needs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// It asks for what it cannot have: 422.
    #[error("{0}")]
    Invalid(FieldErrors),
    /// Nothing is left: 500.
    #[error("{0}")]
    Exhausted(String),
}

/// Chooses what the service lacks and checks what it asks for, after `prepare_*` and before `validate*`. `old` is the
/// stored service on update. What `old` holds already is not taken anew. `random` yields any number.
pub fn allocate(
    service: &mut Service,
    old: Option<&Service>,
    ranges: &Ranges,
    used: &Used,
    mut random: impl FnMut() -> u64,
) -> Result<(), Error> {
    resolve_families(service, old, ranges).map_err(Error::Invalid)?;
    choose_addresses(service, old, ranges, used, &mut random)?;
    choose_node_ports(service, old, ranges, used, &mut random)
}

fn strings(list: &Option<Vec<String>>) -> Vec<String> {
    list.clone().unwrap_or_default()
}

/// Fills the address families and their policy, and checks that the cluster has them.
fn resolve_families(service: &mut Service, old: Option<&Service>, ranges: &Ranges) -> Result<(), FieldErrors> {
    if kind(service) == "ExternalName" {
        return Ok(());
    }
    let path = Path::new("spec");
    let old_spec = old.and_then(|old| old.spec.as_ref());
    let spec = service.spec.get_or_insert_default();
    let selectorless =
        spec.cluster_ip.as_deref() == Some("None") && spec.selector.as_ref().is_none_or(BTreeMap::is_empty);
    if spec.ip_family_policy.is_none() {
        let before = old_spec.and_then(|spec| spec.ip_family_policy.clone());
        let default = if selectorless { "RequireDualStack" } else { "SingleStack" };
        spec.ip_family_policy = Some(before.unwrap_or_else(|| default.to_owned()));
    }
    let problems = validate::cluster_ips(service);
    if !problems.is_empty() {
        return Err(problems);
    }
    let spec = service.spec.get_or_insert_default();
    let single = spec.ip_family_policy.as_deref() == Some("SingleStack");
    let mut errors = FieldErrors::new();
    if let Some(before) = old_spec {
        fit_to_policy(&mut errors, &path, spec, before, single);
    }
    let policy = checks::shown(&spec.ip_family_policy);
    let policy_path = path.child("ipFamilyPolicy");
    if single {
        for (count, what) in
            [(strings(&spec.cluster_ips).len(), "cluster IPs"), (strings(&spec.ip_families).len(), "IP families")]
        {
            if count == 2 {
                let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.invalid(&policy_path, policy.clone(), why);
            }
        }
    }
    let (ips, mut families) = (strings(&spec.cluster_ips), strings(&spec.ip_families));
    for (index, ip) in ips.iter().enumerate().take_while(|(_, ip)| *ip != "None").skip(families.len()) {
        let Some(family) = family_of(ip) else { continue };
        if ranges.of(family).is_some() {
            families.push(family.to_owned());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.invalid(&path.child("clusterIPs").index(index), checks::shown(&ips), why);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let primary = ranges.services.first().map_or("IPv4", Cidr::family);
    if !selectorless {
        if spec.ip_family_policy.as_deref() == Some("RequireDualStack") && ranges.services.len() < 2 {
            errors.invalid(&policy_path, policy, "this cluster is not configured for dual-stack services");
        }
        for (index, family) in families.iter().enumerate().filter(|(_, family)| ranges.of(family).is_none()) {
            let path = path.child("ipFamilies").index(index);
            errors.invalid(&path, family.as_str(), "not configured on this cluster");
        }
        if !errors.is_empty() {
            return Err(errors);
        }
    }
    if families.is_empty() {
        families.push(primary.to_owned());
    }
    if !single && families.len() == 1 && (selectorless || ranges.services.len() == 2) {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    spec.ip_families = Some(families);
    Ok(())
}

/// On update: the policy `SingleStack` lets the second address go; without it none may go.
fn fit_to_policy(errors: &mut FieldErrors, path: &Path, spec: &mut ServiceSpec, before: &ServiceSpec, single: bool) {
    let policy = checks::shown(&spec.ip_family_policy);
    let lists = [
        (&mut spec.cluster_ips, &before.cluster_ips, "cluster IP"),
        (&mut spec.ip_families, &before.ip_families, "IP family"),
    ];
    for (now, before, what) in lists {
        let before = before.as_deref().unwrap_or_default();
        let Some(list) = now else { continue };
        if single && list.as_slice() == before {
            list.truncate(1);
        } else if !single && before.len() == 2 && list.len() == 1 && list[0] == before[0] {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            errors.invalid(&path.child("ipFamilyPolicy"), policy.clone(), why);
        }
    }
}

fn choose_addresses(
    service: &mut Service,
    old: Option<&Service>,
    ranges: &Ranges,
    used: &Used,
    random: &mut impl FnMut() -> u64,
) -> Result<(), Error> {
    if kind(service) == "ExternalName" || is_headless(service) {
        return Ok(());
    }
    let held = old.map(addresses).unwrap_or_default();
    let spec = service.spec.get_or_insert_default();
    let families = strings(&spec.ip_families);
    let mut ips = strings(&spec.cluster_ips);
    let asked = checks::shown(&ips);
    ips.resize(families.len().max(ips.len()), String::new());
    for (ip, family) in ips.iter_mut().zip(&families) {
        if ranges.of(family).is_none() {
            continue;
        }
        let pools = ranges.pools_of(family);
        if ip.is_empty() {
            let chosen = pools
                .iter()
                .find_map(|range| choose_address(range, used, random))
                .ok_or_else(|| Error::Exhausted("failed to allocate a serviceIP: range is full".to_owned()))?;
            *ip = chosen.to_string();
            continue;
        }
        let Some(address) = checks::parse_ip(ip) else { continue };
        if held.contains(&address) {
            continue;
        }
        let problem = if !pools.iter().any(|range| range.contains(address)) {
            "the provided network does not match the current range"
        } else if used.addresses.contains_key(&address) {
            "provided IP is already allocated"
        } else {
            continue;
        };
        let mut errors = FieldErrors::new();
        let why = format!("failed to allocate IP {ip}: {problem}");
        errors.invalid(&Path::new("spec").child("clusterIPs"), asked, why);
        return Err(Error::Invalid(errors));
    }
    spec.cluster_ip = ips.first().cloned();
    spec.cluster_ips = Some(ips);
    Ok(())
}

/// A free address, from the part above the band that is left to addresses asked for by name while that lasts.
fn choose_address(range: &Cidr, used: &Used, random: &mut impl FnMut() -> u64) -> Option<IpAddr> {
    let usable = range.usable();
    let band = band(usable, 16, 16, 256);
    let free = |offset: u128| {
        let address = range.address(1 + offset);
        (!used.addresses.contains_key(&address)).then_some(address)
    };
    probe(band, usable, random, free).or_else(|| probe(0, band, random, free))
}

/// How many numbers at the range's start are given out last (upstream's static band): `size / divisor`, within bounds.
fn band(size: u128, divisor: u128, least: u128, most: u128) -> u128 {
    if size <= least { 0 } else { (size / divisor).clamp(least, most) }
}

/// The first free number from a random one on, within `from..to`.
fn probe<T>(from: u128, to: u128, random: &mut impl FnMut() -> u64, free: impl Fn(u128) -> Option<T>) -> Option<T> {
    let size = to.checked_sub(from).filter(|size| *size > 0)?;
    let start = u128::from(random()) % size;
    // Every used number costs one step, so the walk ends long before a large range does.
    (0..size).find_map(|step| free(from + (start + step) % size))
}

fn choose_node_ports(
    service: &mut Service,
    old: Option<&Service>,
    ranges: &Ranges,
    used: &Used,
    random: &mut impl FnMut() -> u64,
) -> Result<(), Error> {
    let held = old.map(node_ports).unwrap_or_default();
    let may_choose = needs_node_ports(service);
    let mut taken: BTreeSet<i32> = BTreeSet::new();
    if matches!(kind(service), "NodePort" | "LoadBalancer") {
        let path = Path::new("spec").child("ports");
        let ports = service.spec.get_or_insert_default().ports.as_deref_mut().unwrap_or_default();
        for (index, port) in ports.iter().enumerate() {
            let Some(number) = port.node_port.filter(|number| *number != 0) else { continue };
            if !held.contains(&number) && !taken.contains(&number) {
                check_node_port(number, ranges, used).map_err(|problem| {
                    let mut errors = FieldErrors::new();
                    errors.invalid(&path.index(index).child("nodePort"), number, problem);
                    Error::Invalid(errors)
                })?;
            }
            taken.insert(number);
        }
        // Ports of one number and several protocols share a node port.
        let mut shared: BTreeMap<i32, i32> =
            ports.iter().filter_map(|port| Some((port.port, port.node_port.filter(|number| *number != 0)?))).collect();
        for port in ports.iter_mut().filter(|port| may_choose && port.node_port.unwrap_or_default() == 0) {
            let number = match shared.get(&port.port) {
                Some(number) if old.is_none() => *number,
                _ => choose_node_port(ranges, used, &taken, random)
                    .ok_or_else(|| Error::Exhausted("failed to allocate a nodePort: range is full".to_owned()))?,
            };
            taken.insert(number);
            shared.insert(port.port, number);
            port.node_port = Some(number);
        }
    }
    if !needs_health_check_node_port(service) {
        return Ok(());
    }
    let spec = service.spec.get_or_insert_default();
    match spec.health_check_node_port.filter(|number| *number != 0) {
        Some(number) if held.contains(&number) => {}
        Some(number) => check_node_port(number, ranges, used).map_err(|problem| {
            Error::Exhausted(format!("failed to allocate requested HealthCheck NodePort {number}: {problem}"))
        })?,
        None => {
            let chosen = choose_node_port(ranges, used, &taken, random).ok_or_else(|| {
                Error::Exhausted("failed to allocate a HealthCheck NodePort 0: range is full".to_owned())
            })?;
            spec.health_check_node_port = Some(chosen);
        }
    }
    Ok(())
}

fn check_node_port(number: i32, ranges: &Ranges, used: &Used) -> Result<(), String> {
    if !ranges.node_ports.contains(&number) {
        let (low, high) = (ranges.node_ports.start(), ranges.node_ports.end());
        return Err(format!("provided port is not in the valid range. The range of valid ports is {low}-{high}"));
    }
    if used.node_ports.contains_key(&number) {
        return Err("provided port is already allocated".to_owned());
    }
    Ok(())
}

fn choose_node_port(
    ranges: &Ranges,
    used: &Used,
    taken: &BTreeSet<i32>,
    random: &mut impl FnMut() -> u64,
) -> Option<i32> {
    let first = *ranges.node_ports.start();
    let size = u128::try_from(i64::from(*ranges.node_ports.end()) - i64::from(first) + 1).unwrap_or_default();
    let band = band(size, 32, 16, 128);
    let free = |offset: u128| {
        let number = first + i32::try_from(offset).unwrap_or(i32::MAX - first);
        (!used.node_ports.contains_key(&number) && !taken.contains(&number)).then_some(number)
    };
    probe(band, size, random, free).or_else(|| probe(0, band, random, free))
}
