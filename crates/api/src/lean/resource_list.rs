//! Amounts of resources in less room than a map takes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::Quantity;

/// Amounts by resource name, in order. A node of a `BTreeMap` has room for eleven; pods name two or three.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResourceList(Box<[(String, Quantity)]>);

impl ResourceList {
    /// The amount of a resource.
    pub fn get(&self, name: &str) -> Option<&Quantity> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, quantity)| quantity)
    }

    /// Whether the resource is named.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

impl FromIterator<(String, Quantity)> for ResourceList {
    fn from_iter<I: IntoIterator<Item = (String, Quantity)>>(all: I) -> Self {
        let mut list: Vec<(String, Quantity)> = all.into_iter().collect();
        // Stable, and the last of a name counts, as in a map.
        list.reverse();
        list.sort_by(|(one, _), (other, _)| one.cmp(other));
        list.dedup_by(|(later, _), (kept, _)| later == kept);
        Self(list.into_boxed_slice())
    }
}

/// A name and its amount.
type Item = (String, Quantity);

impl<'a> IntoIterator for &'a ResourceList {
    type Item = (&'a String, &'a Quantity);
    type IntoIter = std::iter::Map<std::slice::Iter<'a, Item>, fn(&'a Item) -> (&'a String, &'a Quantity)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, quantity)| (name, quantity))
    }
}

impl Serialize for ResourceList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de> Deserialize<'de> for ResourceList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = ResourceList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of resource names to quantities")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResourceList, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = map.next_entry::<String, Quantity>()? {
                    all.push(item);
                }
                Ok(all.into_iter().collect())
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_a_map_in_json() {
        let list: ResourceList = serde_json::from_str(r#"{"memory":"1Gi","cpu":"1","cpu":"2"}"#).unwrap();
        assert_eq!(serde_json::to_value(&list).unwrap(), json!({"cpu": "2", "memory": "1Gi"}));
        assert_eq!(list.get("cpu"), Some(&Quantity("2".into())));
        assert!(list.contains_key("memory") && !list.contains_key("pods"));
        assert_eq!(list.into_iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["cpu", "memory"]);
    }
}
