//! The files of ConfigMap, Secret, downward API and projected volumes: pure.

use std::collections::BTreeMap;

use api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use crate::config::field::{self, Known};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Its owner, where it is not root.
    pub uid: Option<u32>,
}

/// Files by path relative to the volume.
pub type Payload = BTreeMap<String, File>;

/// Upstream's default permissions.
pub const DEFAULT_MODE: i32 = 0o644;

/// Permission bits as the API has them.
pub fn mode(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o7777
}

fn uid(user: Option<i64>) -> Option<u32> {
    user.and_then(|u| u32::try_from(u).ok())
}

/// Picks `items` (all without any) out of `data`.
fn pick(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&Vec<KeyToPath>>,
    default_mode: i32,
    optional: bool,
    missing: &str,
) -> Result<Payload, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let file = |data: &Vec<u8>| File { data: data.clone(), mode: mode(default_mode), uid: None };
        return Ok(data.iter().map(|(key, data)| (key.clone(), file(data))).collect());
    };
    let mut out = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                let file =
                    File { data: bytes.clone(), mode: mode(item.mode.unwrap_or(default_mode)), uid: uid(item.user) };
                out.insert(item.path.clone(), file);
            }
            None if optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(out)
}

/// A ConfigMap's files. `None`: it does not exist.
pub fn config_map(
    name: &str,
    map: Option<&ConfigMap>,
    items: Option<&Vec<KeyToPath>>,
    default_mode: i32,
    optional: bool,
) -> Result<Payload, String> {
    let Some(map) = map else {
        return if optional { Ok(Payload::new()) } else { Err(format!("configmap {name:?} not found")) };
    };
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    let data = text.chain(binary).collect();
    pick(&data, items, default_mode, optional, "configmap references non-existent config key")
}

/// A Secret's files. `None`: it does not exist.
pub fn secret(
    name: &str,
    secret: Option<&Secret>,
    items: Option<&Vec<KeyToPath>>,
    default_mode: i32,
    optional: bool,
) -> Result<Payload, String> {
    let Some(secret) = secret else {
        return if optional { Ok(Payload::new()) } else { Err(format!("secret {name:?} not found")) };
    };
    let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
    pick(&data, items, default_mode, optional, "references non-existent secret key")
}

/// The pod's own fields as files.
pub fn downward(
    p: &Pod,
    items: Option<&Vec<DownwardAPIVolumeFile>>,
    default_mode: i32,
    known: &Known<'_>,
) -> Result<Payload, String> {
    let mut out = Payload::new();
    for item in items.into_iter().flatten() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => field::value(p, &reference.field_path, known),
            (None, Some(selector)) => field::resource(p, None, selector, known),
            (None, None) => continue,
        };
        let data = text.map_err(|error| error.0)?.into_bytes();
        let file = File { data, mode: mode(item.mode.unwrap_or(default_mode)), uid: uid(item.user) };
        out.insert(item.path.trim_start_matches('/').to_owned(), file);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn items_modes_and_missing_keys() {
        let map = ConfigMap::decode(br#"{"data":{"a":"1","b":"2"},"binaryData":{"c":"AAE="}}"#).unwrap();
        let all = config_map("m", Some(&map), None, 0o640, false).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!((all["c"].data.as_slice(), all["a"].mode), ([0, 1].as_slice(), 0o640));
        let items = vec![KeyToPath { key: "a".into(), path: "d/x".into(), mode: Some(0o400), user: None }];
        let some = config_map("m", Some(&map), Some(&items), 0o644, false).unwrap();
        assert_eq!(some.keys().collect::<Vec<_>>(), ["d/x"]);
        assert_eq!(some["d/x"].mode, 0o400);
        let items = vec![KeyToPath { key: "z".into(), path: "z".into(), ..KeyToPath::default() }];
        let error = config_map("m", Some(&map), Some(&items), 0o644, false).unwrap_err();
        assert_eq!(error, "configmap references non-existent config key: z");
        assert!(config_map("m", Some(&map), Some(&items), 0o644, true).unwrap().is_empty());
        assert_eq!(config_map("m", None, None, 0o644, false).unwrap_err(), "configmap \"m\" not found");
    }
}
