//! Which of the versions built in are shown to clients (`--runtime-config`). A stable version that is off is neither
//! served over HTTP nor described; the cluster's own parts, which are in this process, go on using it. A beta or
//! alpha version is there only if it is turned on.
//!
//! Pure. Upstream: apiserver/pkg/server/options/api_enablement.go, apiserver/pkg/server/resourceconfig.

use std::collections::{BTreeMap, BTreeSet};

use resources::{AnyStrategy, unstable};

/// What is turned on and off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enablement {
    /// Group and version, and whether it is on: of those not named the stable ones are.
    versions: BTreeMap<(String, String), bool>,
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
    /// What is wrong, in upstream's words.
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
        let all = strategies.iter().chain(unstable::ALL);
        let known: BTreeSet<(&str, &str)> = all.map(|one| (one.kind().group, one.kind().version)).collect();
        let mut all = Self::default();
        for (key, of) in MANY {
            let Some(value) = settings.remove(*key) else { continue };
            let matching = known.iter().filter(|(_, version)| of.is_none_or(|of| of == stage(version)));
            let matching = matching.map(|(group, version)| ((*group).to_owned(), (*version).to_owned()));
            match &*value {
                "true" => all.versions.extend(matching.map(|version| (version, true))),
                "false" => all.versions.extend(matching.map(|version| (version, false))),
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
            None => {
                self.versions.insert((group, version), on);
            }
        }
        Ok(())
    }

    /// Whether clients are shown that resource.
    pub fn serves(&self, group: &str, version: &str, plural: &str) -> bool {
        // Versions of custom resources are as stable as whoever defines them says.
        let unstable = || unstable::ALL.iter().any(|one| one.kind().group == group && one.kind().version == version);
        let stable = stage(version) == Stage::Stable || !unstable();
        if self.versions.is_empty() && self.resources.is_empty() {
            return stable;
        }
        let (group, version) = (group.to_owned(), version.to_owned());
        let of_resource = self.resources.get(&(group.clone(), version.clone(), plural.to_owned()));
        *of_resource.or_else(|| self.versions.get(&(group, version))).unwrap_or(&stable)
    }

    /// What there is: every stable version, hidden or not, and those of the others that are turned on.
    pub fn strategies(&self, stable: &'static [&'static dyn AnyStrategy]) -> Vec<&'static dyn AnyStrategy> {
        let asked = unstable::ALL.iter().filter(|one| {
            let kind = one.kind();
            self.serves(kind.group, kind.version, kind.plural)
        });
        let mut all: Vec<&'static dyn AnyStrategy> = stable.iter().chain(asked).copied().collect();
        // What is stored comes with what is another spelling of it.
        let missing: Vec<&'static dyn AnyStrategy> = unstable::ALL
            .iter()
            .filter(|one| all.iter().any(|own| own.stored_as().is_some_and(|stored| stored.kind == one.kind())))
            .filter(|one| !all.iter().any(|own| own.kind() == one.kind()))
            .copied()
            .collect();
        all.extend(missing);
        all
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
    fn what_is_not_stable_is_asked_for() {
        let shown = [
            ("resource.k8s.io", "v1", "deviceclasses"),
            ("resource.k8s.io", "v1beta1", "deviceclasses"),
            ("resource.k8s.io", "v1beta2", "resourceslices"),
            ("resource.k8s.io", "v1alpha3", "devicetaintrules"),
            ("coordination.k8s.io", "v1alpha2", "leasecandidates"),
            ("example.com", "v1alpha1", "cats"), // somebody's own, always there
        ];
        let table: &[(&str, [bool; 6])] = &[
            ("", [true, false, false, false, false, true]),
            ("api/beta=true", [true, true, true, false, false, true]),
            ("api/alpha=true", [true, false, false, true, true, true]),
            ("api/alpha=false", [true, false, false, false, false, true]),
            ("api/all=true", [true, true, true, true, true, true]),
            ("api/all=true,api/alpha=false", [true, true, true, false, false, true]),
            ("resource.k8s.io/v1beta1", [true, true, false, false, false, true]),
            ("api/beta=true,resource.k8s.io/v1beta1=false", [true, false, true, false, false, true]),
            ("resource.k8s.io/v1beta2/resourceslices=true", [true, false, true, false, false, true]),
            ("coordination.k8s.io/v1alpha2=true", [true, false, false, false, true, true]),
        ];
        for (text, expected) in table {
            let own = parse(text).unwrap();
            assert_eq!(shown.map(|(group, version, plural)| own.serves(group, version, plural)), *expected, "{text}");
        }
        // The older version is kept as the newer one, which stays hidden.
        let own = parse("coordination.k8s.io/v1alpha2=true").unwrap();
        let all = own.strategies(resources::ALL);
        let versions: Vec<&str> =
            all.iter().filter(|one| one.kind().kind == "LeaseCandidate").map(|one| one.kind().version).collect();
        assert_eq!(versions, ["v1alpha2", "v1beta1"]);
        assert!(!own.serves("coordination.k8s.io", "v1beta1", "leasecandidates"));
        assert_eq!(Enablement::default().strategies(resources::ALL).len(), resources::ALL.len());
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
            ("resource.k8s.io/v1beta9", "group version resource.k8s.io/v1beta9 that has not been registered"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why, "{text}");
        }
    }
}
