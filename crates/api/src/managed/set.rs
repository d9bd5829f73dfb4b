//! A set of field paths, as `FieldsV1` writes it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Paths as a tree. A step is written as in `FieldsV1`: `f:<field>`, `k:{"name":"a"}`, `v:<value>`, `i:<index>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(BTreeMap<String, Node>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    /// The path that ends here is in the set.
    member: bool,
    below: Set,
}

impl Set {
    /// Whether there is no path in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the path of one step in; the set of what is below it.
    pub(super) fn insert(&mut self, step: &str) {
        self.0.entry(step.to_owned()).or_default().member = true;
    }

    /// The set below a step, made if need be. Leave no empty ones behind.
    pub(super) fn graft(&mut self, step: &str, below: Self) {
        if !below.is_empty() {
            self.0.entry(step.to_owned()).or_default().below = below;
        }
    }

    /// Takes a step out with all that is below it.
    pub(super) fn remove(&mut self, step: &str) {
        self.0.remove(step);
    }

    /// Whether the step itself is in the set.
    pub(super) fn has(&self, step: &str) -> bool {
        self.0.get(step).is_some_and(|node| node.member)
    }

    /// What is below a step.
    pub(super) fn below(&self, step: &str) -> Option<&Self> {
        self.0.get(step).map(|node| &node.below)
    }

    /// Whether the step, or anything below it, is in the set.
    pub(super) fn touches(&self, step: &str) -> bool {
        self.0.contains_key(step)
    }

    /// Takes all of the other's paths in.
    pub fn extend(&mut self, other: &Self) {
        for (step, theirs) in &other.0 {
            let ours = self.0.entry(step.clone()).or_default();
            ours.member |= theirs.member;
            ours.below.extend(&theirs.below);
        }
    }

    /// Takes the other's paths out.
    pub fn subtract(&mut self, other: &Self) {
        for (step, theirs) in &other.0 {
            let Some(ours) = self.0.get_mut(step) else { continue };
            ours.member &= !theirs.member;
            ours.below.subtract(&theirs.below);
            if !ours.member && ours.below.is_empty() {
                self.0.remove(step);
            }
        }
    }

    /// The paths in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (step, ours) in &self.0 {
            let Some(theirs) = other.0.get(step) else { continue };
            let node = Node { member: ours.member && theirs.member, below: ours.below.intersection(&theirs.below) };
            if node.member || !node.below.is_empty() {
                both.0.insert(step.clone(), node);
            }
        }
        both
    }

    /// From a `FieldsV1`.
    pub fn decode(fields: &Value) -> Self {
        let mut set = Self::default();
        for (step, below) in fields.as_object().into_iter().flatten().filter(|(step, _)| *step != ".") {
            let member = below.as_object().is_none_or(Map::is_empty) || below.get(".").is_some();
            set.0.insert(step.clone(), Node { member, below: Self::decode(below) });
        }
        set
    }

    /// As a `FieldsV1`.
    pub fn encode(&self) -> Value {
        let mut map = Map::new();
        for (step, node) in &self.0 {
            let mut below = node.below.encode();
            if let (true, Value::Object(below)) = (node.member && !node.below.is_empty(), &mut below) {
                below.shift_insert(0, ".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(step.clone(), below);
        }
        Value::Object(map)
    }

    /// The paths as conflicts write them: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.write_paths("", &mut paths);
        paths
    }

    fn write_paths(&self, before: &str, paths: &mut Vec<String>) {
        for (step, node) in &self.0 {
            let path = format!("{before}{}", shown(step));
            if node.member {
                paths.push(path.clone());
            }
            node.below.write_paths(&path, paths);
        }
    }
}

/// One step as conflicts write it.
fn shown(step: &str) -> String {
    match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("i", index)) => format!("[{index}]"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => step.to_owned(),
    }
}
