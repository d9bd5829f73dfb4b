//! In which order groups and versions are listed: clients take the first that has a name they look for.
//!
//! Pure. Upstream: cmd/kube-apiserver/app/aggregator.go, pkg/controlplane/apiserver/aggregator.go.

use std::collections::BTreeMap;

/// `groupPriorityMinimum` and `versionPriority` of an APIService. Larger numbers come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority {
    pub group: i32,
    pub version: i32,
}

/// What custom resources get.
pub const CUSTOM: Priority = Priority { group: 1000, version: 100 };
/// `apiregistration.k8s.io` comes before all that an APIService may ask for. It has no APIService of its own.
const REGISTRATION: Priority = Priority { group: 20_001, version: 0 };

/// Group, its priority, and that of each version.
type Row = (&'static str, i32, &'static [(&'static str, i32)]);

const BUILT_IN: &[Row] = &[
    ("", 18_000, &[("v1", 1)]),
    ("apps", 17_800, &[("v1", 15)]),
    ("events.k8s.io", 17_750, &[("v1", 15), ("v1beta1", 5)]),
    ("authentication.k8s.io", 17_700, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("authorization.k8s.io", 17_600, &[("v1", 15)]),
    ("autoscaling", 17_500, &[("v1", 15), ("v2", 30)]),
    ("batch", 17_400, &[("v1", 15), ("v1beta1", 9)]),
    ("certificates.k8s.io", 17_300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("networking.k8s.io", 17_200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17_100, &[("v1", 15), ("v1beta1", 9)]),
    ("rbac.authorization.k8s.io", 17_000, &[("v1", 15)]),
    ("storage.k8s.io", 16_800, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("apiextensions.k8s.io", 16_700, &[("v1", 15)]),
    ("admissionregistration.k8s.io", 16_700, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)]),
    ("scheduling.k8s.io", 16_600, &[("v1", 15), ("v1beta1", 9), ("v1alpha3", 1)]),
    ("coordination.k8s.io", 16_500, &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)]),
    ("node.k8s.io", 16_300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("discovery.k8s.io", 16_200, &[("v1", 15), ("v1beta1", 12)]),
    ("resource.k8s.io", 16_200, &[("v1", 20), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)]),
    ("flowcontrol.apiserver.k8s.io", 16_100, &[("v1", 21), ("v1beta3", 18)]),
    ("internal.apiserver.k8s.io", 16_000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15_800, &[("v1", 15), ("v1beta1", 9)]),
];

/// What a version that is built in gets; `None`: it is not known, and has no APIService.
pub fn built_in(group: &str, version: &str) -> Option<Priority> {
    let (_, of_group, versions) = BUILT_IN.iter().find(|(own, ..)| *own == group)?;
    let (_, of_version) = versions.iter().find(|(own, _)| *own == version)?;
    Some(Priority { group: *of_group, version: *of_version })
}

/// Priorities that somebody set by hand, by group and version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Priorities(pub BTreeMap<(String, String), Priority>);

impl Priorities {
    /// The priority of a version that this server serves.
    pub fn of(&self, group: &str, version: &str) -> Priority {
        if group == "apiregistration.k8s.io" {
            return REGISTRATION;
        }
        let set = if self.0.is_empty() { None } else { self.0.get(&(group.to_owned(), version.to_owned())).copied() };
        set.unwrap_or_else(|| usual(group, version))
    }
}

/// The priority of a version of this server's own that nobody changed.
pub fn usual(group: &str, version: &str) -> Priority {
    built_in(group, version).unwrap_or(CUSTOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_served_has_a_place() {
        for strategy in resources::ALL.iter().chain(resources::unstable::ALL) {
            let kind = strategy.kind();
            let known = kind.group == "apiregistration.k8s.io" || built_in(kind.group, kind.version).is_some();
            assert!(known, "{}/{}", kind.group, kind.version);
        }
    }

    #[test]
    fn what_was_set_by_hand_counts() {
        let mut priorities = Priorities::default();
        assert_eq!(priorities.of("example.com", "v1"), CUSTOM);
        priorities.0.insert(("example.com".into(), "v1".into()), Priority { group: 5, version: 6 });
        assert_eq!(priorities.of("example.com", "v1"), Priority { group: 5, version: 6 });
        assert_eq!(priorities.of("autoscaling", "v2"), Priority { group: 17_500, version: 30 });
    }
}
