//! Which of the versions built in are shown to clients (`--runtime-config`). What is turned off is neither served over
//! HTTP nor described; the cluster's own parts, which are in this process, go on using it.
//!
//! Pure. Upstream: apiserver/pkg/server/options/api_enablement.go, apiserver/pkg/server/resourceconfig.

use std::collections::{BTreeMap, BTreeSet};

use resources::AnyStrategy;

/// What is turned off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enablement {
    /// Group and version.
    versions: BTreeSet<(String, String)>,
    /// Group, version, plural, and whether it is on: these have the last word.
    resources: BTreeMap<(String, String, String), bool>,
}

/// How stable a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Stable,
    Beta,
    Alpha,
}

/// The keys that stand for many versions, in the order in which they count.
const MANY: &[(&str, Option<Stage>)] = &[
    ("api/all", None),
    ("api/ga", Some(Stage::Stable)),
    ("api/beta", Some(Stage::Beta)),
    ("api/alpha", Some(Stage::Alpha)),
];

fn stage(version: &str) -> Stage {
    match version {
        beta if beta.contains("beta") => Stage::Beta,
        alpha if alpha.contains("alpha") => Stage::Alpha,
        _ => Stage::Stable,
    }
}

impl Enablement {
    /// Reads `key=value` pairs: `api/all`, `api/ga`, `api/beta`, `api/alpha`, `VERSION`, `GROUP/VERSION` or
    /// `GROUP/VERSION/RESOURCE`; without a value they turn on.
    ///
    /// # Errors
    /// What is wrong, in upstream's words; that beta and alpha versions are not built, if one is turned on.
    pub fn parse(pairs: &[String], strategies: &[&dyn AnyStrategy]) -> Result<Self, String> {
        let mut settings: BTreeMap<String, String> = BTreeMap::new();
        for pair in pairs.iter().filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = match key {
                "api/legacy" => continue,
                "v1" | "api/v1" => "/v1",
                key if key.starts_with("v1/") || key.starts_with("api/v1/") => "/v1",
                key => key,
            };
            settings.insert(key.to_owned(), value.to_owned());
        }
        if settings.len() == 1 && settings.get("api/all").is_some_and(|value| value == "false") {
            return Err("invalid key with only api/all=false".to_owned());
        }
        let known: BTreeSet<(&str, &str)> =
            strategies.iter().map(|one| (one.kind().group, one.kind().version)).collect();
        let mut all = Self::default();
        for (key, of) in MANY {
            let Some(value) = settings.remove(*key) else { continue };
            let matching = known.iter().filter(|(_, version)| of.is_none_or(|of| of == stage(version)));
            let matching = matching.map(|(group, version)| ((*group).to_owned(), (*version).to_owned()));
            match &*value {
                "true" if matches!(of, Some(Stage::Beta | Stage::Alpha)) => {
                    return Err(format!("{key}=true: no beta or alpha version is built yet"));
                }
                "true" => {
                    let on: BTreeSet<_> = matching.collect();
                    all.versions.retain(|own| !on.contains(own));
                }
                "false" => all.versions.extend(matching),
                other => return Err(format!("invalid value {key}={other}")),
            }
        }
        for (key, value) in &settings {
            all.set(key, value, &known)?;
        }
        Ok(all)
    }

    fn set(&mut self, key: &str, value: &str, known: &BTreeSet<(&str, &str)>) -> Result<(), String> {
        let parts: Vec<&str> = key.split('/').collect();
        let (group, version, resource) = match parts.as_slice() {
            [group, version] => (*group, *version, None),
            [group, version, resource] => (*group, *version, Some(*resource)),
            _ => return Err(format!("runtime-config invalid key {key}")),
        };
        if !known.iter().any(|(own, _)| *own == group) {
            return Err(format!("unknown api groups {group}"));
        }
        let on = match value {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            other => {
                let why = format!("strconv.ParseBool: parsing {other:?}: invalid syntax");
                return Err(format!("invalid value of {key}: {other}, err: {why}"));
            }
        };
        if !known.contains(&(group, version)) {
            // What is not there is off already.
            if !on && stage(version) != Stage::Stable {
                return Ok(());
            }
            let shown = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
            return Err(format!("group version {shown} that has not been registered"));
        }
        let (group, version) = (group.to_owned(), version.to_owned());
        match resource {
            Some(resource) if resource.to_lowercase() != resource => {
                let why = "group/version/resource and resource is always lowercase plural, not";
                return Err(format!("invalid key {key}: {why} {resource:?}"));
            }
            Some(resource) => {
                self.resources.insert((group, version, resource.to_owned()), on);
            }
            None if on => {
                self.versions.remove(&(group, version));
            }
            None => {
                self.versions.insert((group, version));
            }
        }
        Ok(())
    }

    /// Whether clients are shown that resource.
    pub fn serves(&self, group: &str, version: &str, plural: &str) -> bool {
        if self.versions.is_empty() && self.resources.is_empty() {
            return true;
        }
        let (group, version) = (group.to_owned(), version.to_owned());
        match self.resources.get(&(group.clone(), version.clone(), plural.to_owned())) {
            Some(on) => *on,
            None => !self.versions.contains(&(group, version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Enablement, String> {
        let pairs: Vec<String> = text.split(',').map(str::to_owned).collect();
        Enablement::parse(&pairs, resources::ALL)
    }

    #[test]
    fn the_narrower_counts() {
        let table: &[(&str, [bool; 4])] = &[
            ("", [true, true, true, true]),
            ("batch/v1=false", [true, false, false, true]),
            ("batch/v1=false,batch/v1/jobs=true", [true, true, false, true]),
            ("api/all=false,v1=true", [true, false, false, false]),
            ("api/ga=false,api/v1,apps/v1=T", [true, false, false, true]),
            ("batch/v1/jobs=0", [true, false, true, true]),
            ("api/beta=false,batch/v1beta1=false,api/legacy=false", [true, true, true, true]),
        ];
        for (text, expected) in table {
            let own = parse(text).unwrap();
            let shown = [
                ("", "v1", "pods"),
                ("batch", "v1", "jobs"),
                ("batch", "v1", "cronjobs"),
                ("apps", "v1", "deployments"),
            ];
            assert_eq!(shown.map(|(group, version, plural)| own.serves(group, version, plural)), *expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("api/all=false", "invalid key with only api/all=false"),
            ("api/all=maybe,v1=true", "invalid value api/all=maybe"),
            ("batch=false", "runtime-config invalid key batch"),
            ("nothing.example.com/v1=true", "unknown api groups nothing.example.com"),
            ("batch/v1beta1=true", "group version batch/v1beta1 that has not been registered"),
            ("batch/v7=false", "group version batch/v7 that has not been registered"),
            ("batch/v1=yes", "invalid value of batch/v1: yes, err: strconv.ParseBool: parsing \"yes\": invalid syntax"),
            (
                "batch/v1/Jobs=false",
                "invalid key batch/v1/Jobs: group/version/resource and resource is always lowercase plural, not \"Jobs\"",
            ),
            ("api/beta=true", "api/beta=true: no beta or alpha version is built yet"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why, "{text}");
        }
    }
}
