//! An nftables table as data: what it holds, the script that makes it, and the script that turns one state of it into
//! another in one atomic transaction.
//!
//! Everything in this file is pure. `kernel` runs the scripts, `watch` hears of changes made by others, and `keeper` is
//! the two together. The service proxy compiles into a [`Table`], and network policies into another one.

pub mod keeper;
pub mod kernel;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// How many elements are written in one `add element` command.
const ELEMENTS_PER_COMMAND: usize = 256;

/// A table of the `inet` family with all that is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The table's name, unique on the machine.
    pub name: String,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
}

/// A chain: rules that are evaluated in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls it; `None` for a chain that only others jump to.
    pub hook: Option<Hook>,
    /// The rules in nft's own words.
    pub rules: Vec<String>,
}

/// Where a base chain hangs. The policy is always accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `prerouting`, `input`, `forward`, `output` or `postrouting`.
    pub hook: &'static str,
    /// Smaller is earlier. Numeric: older nft knows the names for some hooks only.
    pub priority: i32,
}

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Whether elements carry a value.
    pub map: bool,
    /// Type, flags and timeout in nft's own words, e.g. `type ipv4_addr; flags dynamic,timeout; timeout 10800s;`.
    pub definition: String,
    /// The elements: key to value (the value of a set's element is empty). Elements that packets add are not here.
    pub elements: BTreeMap<String, String>,
}

impl Table {
    /// An empty table.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a regular chain.
    pub fn chain(&mut self, name: impl Into<String>, rules: Vec<String>) {
        self.chains.insert(name.into(), Chain { hook: None, rules });
    }

    /// Adds a base chain.
    pub fn base_chain(&mut self, name: &str, hook: Hook, rules: Vec<String>) {
        self.chains.insert(name.into(), Chain { hook: Some(hook), rules });
    }

    /// Adds an empty map from `key` to a verdict.
    pub fn verdict_map(&mut self, name: impl Into<String>, key: &str) {
        let definition = format!("type {key} : verdict;");
        self.sets.insert(name.into(), Set { map: true, definition, elements: BTreeMap::new() });
    }

    /// Adds an empty set.
    pub fn set(&mut self, name: impl Into<String>, definition: String) {
        self.sets.insert(name.into(), Set { map: false, definition, elements: BTreeMap::new() });
    }

    /// Adds an element to a set.
    pub fn set_element(&mut self, set: &str, key: String) {
        let elements = &mut self.sets.get_mut(set).expect("sets are declared before they are filled").elements;
        elements.insert(key, String::new());
    }

    /// Adds an element to a map unless the key is taken; returns whether it was free.
    pub fn map_element(&mut self, map: &str, key: String, value: String) -> bool {
        let elements = &mut self.sets.get_mut(map).expect("maps are declared before they are filled").elements;
        match elements.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(value);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }
}

/// The script that makes the table as `new` says, whatever is in the kernel. One transaction.
pub fn replace(new: &Table) -> String {
    let mut script = format!("{}add table inet {}\n", delete(&new.name), new.name);
    script.push_str(&changes(&Table::new(new.name.clone()), new));
    script
}

/// The script that turns `old` (as it is in the kernel) into `new`; empty when they are equal. One transaction:
/// elements
/// that packets added to sets stay, chains that did not change are not touched.
pub fn diff(old: &Table, new: &Table) -> String {
    if old == new {
        String::new()
    } else if old.name != new.name || !alterable(old, new) {
        replace(new)
    } else {
        changes(old, new)
    }
}

/// The script that removes a table, whether it exists or not.
pub fn delete(name: &str) -> String {
    format!("add table inet {name}\ndelete table inet {name}\n")
}

/// A set's type and a chain's hook cannot be altered in place.
fn alterable(old: &Table, new: &Table) -> bool {
    new.chains.iter().all(|(name, chain)| old.chains.get(name).is_none_or(|known| known.hook == chain.hook))
        && new.sets.iter().all(|(name, set)| {
            old.sets.get(name).is_none_or(|known| known.definition == set.definition && known.map == set.map)
        })
}

/// The order matters: what is referred to is added before it is named and deleted after its last mention.
fn changes(old: &Table, new: &Table) -> String {
    let table = &new.name;
    let mut script = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        script.write_fmt(text).expect("writing to a string cannot fail");
        script.push('\n');
    };
    for (name, set) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
        line(format_args!("add {} inet {table} {name} {{ {} }}", word(set), set.definition));
    }
    for (name, chain) in new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
        match chain.hook {
            None => line(format_args!("add chain inet {table} {name}")),
            Some(Hook { kind, hook, priority }) => line(format_args!(
                "add chain inet {table} {name} {{ type {kind} hook {hook} priority {priority}; policy accept; }}"
            )),
        }
    }
    for (name, chain) in &old.chains {
        if new.chains.get(name).is_none_or(|kept| kept.rules != chain.rules) && !chain.rules.is_empty() {
            line(format_args!("flush chain inet {table} {name}"));
        }
    }
    for (name, set) in &old.sets {
        let Some(kept) = new.sets.get(name) else { continue };
        let gone = set.elements.iter().filter(|(key, value)| kept.elements.get(*key) != Some(value));
        for chunk in elements(gone) {
            line(format_args!("delete element inet {table} {name} {{ {chunk} }}"));
        }
    }
    for (name, chain) in &new.chains {
        if old.chains.get(name).is_none_or(|known| known.rules != chain.rules) {
            for rule in &chain.rules {
                line(format_args!("add rule inet {table} {name} {rule}"));
            }
        }
    }
    for (name, set) in &new.sets {
        let known = old.sets.get(name);
        let added = set
            .elements
            .iter()
            .filter(|(key, value)| known.is_none_or(|known| known.elements.get(*key) != Some(value)));
        for chunk in elements(added) {
            line(format_args!("add element inet {table} {name} {{ {chunk} }}"));
        }
    }
    // A map that goes away takes its elements' references to chains with it, so maps go first.
    for (name, set) in old.sets.iter().filter(|(name, _)| !new.sets.contains_key(*name)) {
        line(format_args!("delete {} inet {table} {name}", word(set)));
    }
    for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
        line(format_args!("delete chain inet {table} {name}"));
    }
    script
}

fn word(set: &Set) -> &'static str {
    if set.map { "map" } else { "set" }
}

fn elements<'a>(elements: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<String> {
    let all: Vec<String> =
        elements.map(|(key, value)| if value.is_empty() { key.clone() } else { format!("{key} : {value}") }).collect();
    all.chunks(ELEMENTS_PER_COMMAND).map(|chunk| chunk.join(", ")).collect()
}

/// The names in a table: enough to see that somebody removed something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Chains.
    pub chains: BTreeSet<String>,
    /// Sets and maps.
    pub sets: BTreeSet<String>,
}

impl Names {
    /// The names in `table`.
    pub fn of(table: &Table) -> Self {
        Self { chains: table.chains.keys().cloned().collect(), sets: table.sets.keys().cloned().collect() }
    }

    /// Reads the answer of `nft -j -t list table`. `None` if it is not one.
    pub fn parse(listing: &[u8]) -> Option<Self> {
        let listing: serde_json::Value = serde_json::from_slice(listing).ok()?;
        let mut names = Self::default();
        for item in listing.get("nftables")?.as_array()? {
            for (kind, object) in item.as_object()? {
                let Some(name) = object.get("name").and_then(serde_json::Value::as_str) else { continue };
                match kind.as_str() {
                    "chain" => names.chains.insert(name.to_owned()),
                    "set" | "map" => names.sets.insert(name.to_owned()),
                    _ => continue,
                };
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(services: &[(&str, &str)]) -> Table {
        let mut table = Table::new("t");
        table.verdict_map("m", "ipv4_addr");
        table.base_chain(
            "pre",
            Hook { kind: "nat", hook: "prerouting", priority: -100 },
            vec!["ip daddr vmap @m".into()],
        );
        for (ip, rule) in services {
            let chain = format!("s-{ip}");
            table.map_element("m", (*ip).to_owned(), format!("goto {chain}"));
            table.chain(chain, vec![(*rule).to_owned()]);
        }
        table
    }

    #[test]
    fn equal_states_need_no_script() {
        assert_eq!(diff(&table(&[("1.1.1.1", "accept")]), &table(&[("1.1.1.1", "accept")])), "");
    }

    #[test]
    fn a_replacement_removes_what_was_there() {
        let script = replace(&table(&[("1.1.1.1", "accept")]));
        assert_eq!(
            script,
            "add table inet t\n\
             delete table inet t\n\
             add table inet t\n\
             add map inet t m { type ipv4_addr : verdict; }\n\
             add chain inet t pre { type nat hook prerouting priority -100; policy accept; }\n\
             add chain inet t s-1.1.1.1\n\
             add rule inet t pre ip daddr vmap @m\n\
             add rule inet t s-1.1.1.1 accept\n\
             add element inet t m { 1.1.1.1 : goto s-1.1.1.1 }\n"
        );
    }

    #[test]
    fn a_difference_touches_only_what_changed() {
        let old = table(&[("1.1.1.1", "accept"), ("2.2.2.2", "accept"), ("3.3.3.3", "accept")]);
        let new = table(&[("1.1.1.1", "accept"), ("2.2.2.2", "drop"), ("4.4.4.4", "accept")]);
        assert_eq!(
            diff(&old, &new),
            "add chain inet t s-4.4.4.4\n\
             flush chain inet t s-2.2.2.2\n\
             flush chain inet t s-3.3.3.3\n\
             delete element inet t m { 3.3.3.3 : goto s-3.3.3.3 }\n\
             add rule inet t s-2.2.2.2 drop\n\
             add rule inet t s-4.4.4.4 accept\n\
             add element inet t m { 4.4.4.4 : goto s-4.4.4.4 }\n\
             delete chain inet t s-3.3.3.3\n"
        );
    }

    #[test]
    fn a_changed_hook_or_type_replaces_the_table() {
        let old = table(&[]);
        let mut new = old.clone();
        new.sets.get_mut("m").unwrap().definition = "type ipv6_addr : verdict;".into();
        assert!(diff(&old, &new).starts_with("add table inet t\ndelete table inet t\n"));
    }

    #[test]
    fn names_are_read_back() {
        let listing = br#"{"nftables":[{"metainfo":{"version":"1.0.6"}},{"table":{"family":"inet","name":"t"}},
            {"map":{"name":"m","table":"t"}},{"chain":{"name":"pre"}},{"rule":{"chain":"pre"}}]}"#;
        let names = Names::parse(listing).unwrap();
        assert_eq!(
            names,
            Names::of(&{
                let mut table = table(&[]);
                table.chains.retain(|name, _| name == "pre");
                table
            })
        );
    }
}
