//! The names of what this crate makes in the kernel, derived from the instance so that several Pintles on one machine
//! do not meet. Pure.

/// The longest name an interface may have in Linux (`IFNAMSIZ` less the final zero).
const INTERFACE_LEN_MAX: usize = 15;
/// The longest chain name written; the kernel takes 255, older tools 128.
const CHAIN_LEN_MAX: usize = 120;

/// The nftables table of an instance's service proxy, in the `inet` family.
pub fn table(instance: &str) -> String {
    let clean = clean(instance);
    if clean == "pintle" || clean.starts_with("pintle-") { clean } else { format!("pintle-{clean}") }
}

/// The nftables table of an instance's network policies, in the `inet` family. No instance's name has an underscore in
/// its clean form, so it is nobody's [`table`].
pub fn policy_table(instance: &str) -> String {
    format!("{}_policy", table(instance))
}

/// The nftables table beside [`policy_table`], in the `bridge` family. Named otherwise, because the kernel's
/// notifications tell tables apart by name.
pub fn guard_table(instance: &str) -> String {
    format!("{}_guard", table(instance))
}

/// The bridge that the node's pods hang on, e.g. `pintle0`.
pub fn bridge(instance: &str) -> String {
    interface(instance, "0")
}

/// The interface that carries the cluster DNS address, e.g. `pintle-dns`.
pub fn dns_link(instance: &str) -> String {
    interface(instance, "-dns")
}

/// The name of the CNI network, which is also the directory of its address leases.
pub fn network(instance: &str) -> String {
    table(instance)
}

/// The file of the CNI network configuration inside the configuration directory.
pub fn conflist_file(instance: &str) -> String {
    format!("10-{}.conflist", table(instance))
}

/// The metric of the instance's routes: tells them from others', and loses to everybody's.
pub fn route_metric(instance: &str) -> u32 {
    40_000 + u32::try_from(digest(instance) % 10_000).unwrap_or(0)
}

/// A chain or set: kind, a digest of `parts`, then the parts readable, cut to a length nft takes.
pub fn chain(kind: &str, parts: &[&str]) -> String {
    let full = parts.join("/");
    let mut name = format!("{kind}-{:010x}-", digest(&format!("{kind}/{full}")) & 0xff_ffff_ffff);
    for c in full.chars() {
        if name.len() >= CHAIN_LEN_MAX {
            break;
        }
        name.push(if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.') { c } else { '.' });
    }
    name
}

fn interface(instance: &str, suffix: &str) -> String {
    let clean = clean(instance);
    if clean.len() + suffix.len() <= INTERFACE_LEN_MAX {
        return format!("{clean}{suffix}");
    }
    let keep = INTERFACE_LEN_MAX - suffix.len() - 5;
    format!("{}-{:04x}{suffix}", &clean[..keep.min(clean.len())], digest(instance) & 0xffff)
}

/// Letters, digits and dashes only; never empty.
fn clean(instance: &str) -> String {
    let clean: String =
        instance.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let clean = clean.trim_matches('-');
    if clean.is_empty() { "pintle".into() } else { clean.into() }
}

/// FNV-1a, 64 bits: the same on every machine and in every version.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_fit_and_differ() {
        assert_eq!(bridge("pintle"), "pintle0");
        assert_eq!(dns_link("pintle"), "pintle-dns");
        let (a, b) = (bridge("a-very-long-instance-name-1"), bridge("a-very-long-instance-name-2"));
        assert_ne!(a, b);
        for name in [a, b, dns_link("a-very-long-instance-name-1"), bridge("fourteen-chars")] {
            assert!(name.len() <= INTERFACE_LEN_MAX, "{name}");
        }
    }

    #[test]
    fn tables_are_identifiers() {
        assert_eq!(table("pintle"), "pintle");
        assert_eq!(table("pintle-b"), "pintle-b");
        assert_eq!(table("2nd one"), "pintle-2nd-one");
    }

    #[test]
    fn chains_are_short_identifiers_and_differ_by_their_whole_name() {
        let long = "n".repeat(63);
        let a = chain("service", &[&long, &long, "tcp", "a"]);
        let b = chain("service", &[&long, &long, "tcp", "b"]);
        assert_ne!(a, b);
        assert!(a.len() <= CHAIN_LEN_MAX);
        assert!(!chain("endpoint", &["ns", "web", "tcp", "", "fd00::1"]).contains(':'));
    }
}
