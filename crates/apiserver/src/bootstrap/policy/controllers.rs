//! The roles of upstream's controllers, `system:controller:NAME`, each bound to the service account of that name in
//! `kube-system`: add-ons and operators look for them by name, whoever does the controller's work here.
//!
//! Left out is what upstream gives only behind gates that are off in v1.37: rules for evictions of lifecycle.k8s.io,
//! storage versions, statuses of resource pools, PodGroups and Workloads of jobs and claims.
//!
//! Pure. Upstream: bootstrappolicy/controller_policy.go.

use api::Object;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};

use super::{
    APPS, AUTOSCALING, BATCH, CERTIFICATES, COORDINATION, CORE, CREATE, DISCOVERY, GET, LIST, NETWORKING, POLICY, RBAC,
    READ, RESOURCE, STORAGE, access_reviews, bind, events, named, role, service_account,
};
use crate::authz::rule::{self, resources};

const PREFIX: &str = "system:controller:";
const ADMISSION: &[&str] = &["admissionregistration.k8s.io"];
const ALL: &[&str] = &["*"];
const APPS_AND_OLD: &[&str] = &["apps", "extensions"];
const UPDATE: &[&str] = &["update"];
const EXTENDED: &[&str] = &["apiextensions.k8s.io"];
const CHANGE: &[&str] = &["patch", "update"];
const READ_UPDATE: &[&str] = &["get", "list", "update", "watch"];

type Named = (&'static str, Vec<PolicyRule>);

/// Roles and bindings of controllers: upstream's, and those that the controllers here declare of themselves. A name in
/// both has the rules of both.
pub fn roles(declared: &[(ClusterRole, ClusterRoleBinding)]) -> Vec<(ClusterRole, ClusterRoleBinding)> {
    let mut all: Vec<(ClusterRole, ClusterRoleBinding)> =
        [workloads(), batch(), services(), storage(), cluster(), identities()]
            .into_iter()
            .flatten()
            .map(|(name, rules)| {
                let full = format!("{PREFIX}{name}");
                (role(&full, rules), bind(&full, vec![service_account("kube-system", name)]))
            })
            .collect();
    for (own, binding) in declared {
        let rules = own.rules.clone().unwrap_or_default();
        if let Some((known, _)) = all.iter_mut().find(|(known, _)| known.name() == own.name()) {
            let known = known.rules.get_or_insert_default();
            let missing = rule::uncovered(known, &rules);
            known.extend(missing);
        } else {
            let subjects = binding.subjects.clone().unwrap_or_default();
            all.push((role(own.name(), rules), bind(own.name(), subjects)));
        }
    }
    all
}

fn workloads() -> Vec<Named> {
    const PODS: &[&str] = &["create", "delete", "list", "patch", "watch"];
    let revisions =
        || resources(APPS, &["controllerrevisions"], &["create", "delete", "get", "list", "patch", "update", "watch"]);
    vec![
        (
            "daemon-set-controller",
            vec![
                resources(APPS_AND_OLD, &["daemonsets"], READ),
                resources(APPS_AND_OLD, &["daemonsets/finalizers", "daemonsets/status"], UPDATE),
                resources(CORE, &["nodes"], LIST),
                resources(CORE, &["pods"], PODS),
                resources(CORE, &["pods/binding"], CREATE),
                revisions(),
                events(),
            ],
        ),
        (
            "deployment-controller",
            vec![
                resources(APPS_AND_OLD, &["deployments"], READ_UPDATE),
                resources(APPS_AND_OLD, &["deployments/finalizers", "deployments/status"], UPDATE),
                resources(
                    APPS_AND_OLD,
                    &["replicasets"],
                    &["create", "delete", "get", "list", "patch", "update", "watch"],
                ),
                resources(CORE, &["pods"], READ_UPDATE),
                events(),
            ],
        ),
        (
            "disruption-controller",
            vec![
                resources(APPS_AND_OLD, &["deployments", "replicasets"], READ),
                resources(CORE, &["replicationcontrollers"], READ),
                resources(POLICY, &["poddisruptionbudgets"], READ),
                resources(APPS, &["statefulsets"], READ),
                resources(POLICY, &["poddisruptionbudgets/status"], UPDATE),
                resources(CORE, &["pods/status"], CHANGE),
                resources(ALL, &["*/scale"], GET),
                events(),
            ],
        ),
        (
            "replicaset-controller",
            vec![
                resources(APPS_AND_OLD, &["replicasets"], READ_UPDATE),
                resources(APPS_AND_OLD, &["replicasets/finalizers", "replicasets/status"], UPDATE),
                resources(CORE, &["pods"], PODS),
                events(),
            ],
        ),
        (
            "replication-controller",
            vec![
                resources(CORE, &["replicationcontrollers"], READ_UPDATE),
                resources(CORE, &["replicationcontrollers/finalizers", "replicationcontrollers/status"], UPDATE),
                resources(CORE, &["pods"], PODS),
                events(),
            ],
        ),
        (
            "statefulset-controller",
            vec![
                resources(CORE, &["pods"], &["create", "delete", "get", "list", "patch", "update", "watch"]),
                resources(APPS, &["statefulsets"], READ),
                resources(APPS, &["statefulsets/finalizers", "statefulsets/status"], UPDATE),
                resources(CORE, &["pods/finalizers"], UPDATE),
                revisions(),
                resources(CORE, &["persistentvolumeclaims"], &["create", "delete", "get", "list", "update", "watch"]),
                events(),
            ],
        ),
    ]
}

fn batch() -> Vec<Named> {
    const PODS: &[&str] = &["create", "delete", "list", "patch", "watch"];
    vec![
        (
            "cronjob-controller",
            vec![
                resources(BATCH, &["cronjobs"], READ_UPDATE),
                resources(BATCH, &["jobs"], &["create", "delete", "get", "list", "patch", "update", "watch"]),
                resources(BATCH, &["cronjobs/finalizers", "cronjobs/status"], UPDATE),
                resources(CORE, &["pods"], &["delete", "list", "watch"]),
                events(),
            ],
        ),
        (
            "horizontal-pod-autoscaler",
            vec![
                resources(AUTOSCALING, &["horizontalpodautoscalers"], READ),
                resources(AUTOSCALING, &["horizontalpodautoscalers/status"], UPDATE),
                resources(ALL, &["*/scale"], &["get", "update"]),
                resources(CORE, &["pods"], LIST),
                resources(&["metrics.k8s.io"], &["pods"], LIST),
                resources(&["custom.metrics.k8s.io", "external.metrics.k8s.io"], ALL, READ),
                events(),
            ],
        ),
        (
            "job-controller",
            vec![
                resources(BATCH, &["jobs"], &["get", "list", "patch", "update", "watch"]),
                resources(BATCH, &["jobs/finalizers", "jobs/status"], UPDATE),
                resources(CORE, &["pods"], PODS),
                events(),
            ],
        ),
        (
            "ttl-after-finished-controller",
            vec![resources(BATCH, &["jobs"], &["delete", "get", "list", "watch"]), events()],
        ),
        (
            "resource-claim-controller",
            vec![
                resources(CORE, &["pods"], READ),
                resources(CORE, &["pods/finalizers"], UPDATE),
                resources(RESOURCE, &["resourceclaims"], &["create", "delete", "get", "list", "watch"]),
                resources(RESOURCE, &["resourceclaims", "resourceclaims/status"], CHANGE),
                resources(RESOURCE, &["resourceclaims/binding"], CHANGE),
                resources(CORE, &["pods/status"], CHANGE),
                events(),
            ],
        ),
    ]
}

fn services() -> Vec<Named> {
    const SLICES: &[&str] = &["create", "delete", "get", "list", "update", "watch"];
    vec![
        (
            "endpoint-controller",
            vec![
                resources(CORE, &["pods", "services"], READ),
                resources(CORE, &["endpoints"], SLICES),
                resources(CORE, &["endpoints/restricted"], CREATE),
                events(),
            ],
        ),
        (
            "endpointslice-controller",
            vec![
                resources(CORE, &["nodes", "pods", "services"], READ),
                resources(CORE, &["services/finalizers"], UPDATE),
                resources(DISCOVERY, &["endpointslices"], SLICES),
                events(),
            ],
        ),
        (
            "endpointslicemirroring-controller",
            vec![
                resources(CORE, &["endpoints", "services"], READ),
                resources(CORE, &["endpoints/finalizers", "services/finalizers"], UPDATE),
                resources(DISCOVERY, &["endpointslices"], SLICES),
                events(),
            ],
        ),
        (
            "service-controller",
            vec![
                resources(CORE, &["services"], READ),
                resources(CORE, &["services/status"], CHANGE),
                resources(CORE, &["nodes"], LIST),
                events(),
            ],
        ),
        (
            "service-cidrs-controller",
            vec![
                resources(NETWORKING, &["servicecidrs"], &["get", "list", "patch", "update", "watch"]),
                resources(NETWORKING, &["servicecidrs/finalizers", "servicecidrs/status"], CHANGE),
                resources(NETWORKING, &["ipaddresses"], READ),
                events(),
            ],
        ),
        (
            "route-controller",
            vec![resources(CORE, &["nodes"], LIST), resources(CORE, &["nodes/status"], &["patch"]), events()],
        ),
    ]
}

fn storage() -> Vec<Named> {
    vec![
        (
            "attachdetach-controller",
            vec![
                resources(CORE, &["persistentvolumeclaims", "persistentvolumes", "pods"], LIST),
                resources(CORE, &["nodes"], READ),
                resources(CORE, &["nodes/status"], CHANGE),
                events(),
                resources(STORAGE, &["volumeattachments"], &["create", "delete", "get", "list", "watch"]),
                resources(STORAGE, &["csidrivers", "csinodes"], READ),
            ],
        ),
        (
            "expand-controller",
            vec![
                resources(CORE, &["persistentvolumes"], &["get", "list", "patch", "update", "watch"]),
                resources(CORE, &["persistentvolumeclaims/status"], CHANGE),
                resources(CORE, &["persistentvolumeclaims"], READ),
                events(),
            ],
        ),
        (
            "ephemeral-volume-controller",
            vec![
                resources(CORE, &["pods"], READ),
                resources(CORE, &["pods/finalizers"], UPDATE),
                resources(CORE, &["persistentvolumeclaims"], &["create", "get", "list", "watch"]),
                events(),
            ],
        ),
        (
            "persistent-volume-binder",
            vec![
                resources(CORE, &["persistentvolumes"], &["create", "delete", "get", "list", "update", "watch"]),
                resources(CORE, &["persistentvolumeclaims/status", "persistentvolumes/status"], UPDATE),
                resources(CORE, &["persistentvolumeclaims"], READ_UPDATE),
                resources(CORE, &["pods"], &["create", "delete", "get", "list", "watch"]),
                resources(STORAGE, &["storageclasses"], READ),
                resources(CORE, &["nodes"], LIST),
                resources(CORE, &["events"], &["watch"]),
                events(),
            ],
        ),
        ("pv-protection-controller", vec![resources(CORE, &["persistentvolumes"], READ_UPDATE), events()]),
        (
            "pvc-protection-controller",
            vec![
                resources(CORE, &["persistentvolumeclaims"], READ_UPDATE),
                resources(CORE, &["persistentvolumeclaims/status"], UPDATE),
                resources(CORE, &["pods"], READ),
                events(),
            ],
        ),
        (
            "volumeattributesclass-protection-controller",
            vec![
                resources(CORE, &["persistentvolumeclaims", "persistentvolumes"], READ),
                resources(STORAGE, &["volumeattributesclasses"], READ_UPDATE),
                events(),
            ],
        ),
        (
            "selinux-warning-controller",
            vec![
                resources(CORE, &["persistentvolumeclaims", "persistentvolumes", "pods"], READ),
                resources(STORAGE, &["csidrivers"], READ),
                events(),
            ],
        ),
    ]
}

fn cluster() -> Vec<Named> {
    vec![
        (
            "generic-garbage-collector",
            vec![resources(ALL, ALL, &["delete", "get", "list", "patch", "update", "watch"]), events()],
        ),
        (
            "namespace-controller",
            vec![
                resources(CORE, &["namespaces"], &["delete", "get", "list", "watch"]),
                resources(CORE, &["namespaces/finalize", "namespaces/status"], UPDATE),
                resources(ALL, ALL, &["delete", "deletecollection", "get", "list", "watch"]),
            ],
        ),
        (
            "node-controller",
            vec![
                resources(CORE, &["nodes"], &["delete", "get", "list", "patch", "update", "watch"]),
                resources(CORE, &["nodes/status", "pods/status"], CHANGE),
                resources(CORE, &["pods"], &["delete", "get", "list", "watch"]),
                resources(COORDINATION, &["leases"], READ),
                events(),
            ],
        ),
        (
            "pod-garbage-collector",
            vec![
                resources(CORE, &["pods"], &["delete", "list", "watch"]),
                resources(CORE, &["nodes"], READ),
                resources(CORE, &["pods/status"], &["patch"]),
            ],
        ),
        (
            "resourcequota-controller",
            vec![resources(ALL, ALL, LIST), resources(CORE, &["resourcequotas/status"], UPDATE), events()],
        ),
        (
            "storage-version-migrator-controller",
            vec![
                resources(ALL, ALL, &["list", "patch"]),
                resources(EXTENDED, &["customresourcedefinitions"], GET),
                resources(EXTENDED, &["customresourcedefinitions/status"], &["patch"]),
                resources(&["storagemigration.k8s.io"], &["storageversionmigrations/status"], UPDATE),
            ],
        ),
        ("ttl-controller", vec![resources(CORE, &["nodes"], &["list", "patch", "update", "watch"]), events()]),
        (
            "validatingadmissionpolicy-status-controller",
            vec![
                resources(ADMISSION, &["validatingadmissionpolicies"], READ),
                resources(ADMISSION, &["validatingadmissionpolicies/status"], &["get", "patch", "update"]),
                events(),
            ],
        ),
        (
            "device-taint-eviction-controller",
            vec![
                resources(CORE, &["pods"], &["delete", "get", "list", "watch"]),
                resources(CORE, &["pods/status"], CHANGE),
                resources(RESOURCE, &["deviceclasses", "resourceclaims", "resourceslices"], READ),
                events(),
                resources(RESOURCE, &["devicetaintrules/status"], CHANGE),
                resources(RESOURCE, &["devicetaintrules"], READ),
            ],
        ),
    ]
}

/// Who somebody is, and what they may do.
fn identities() -> Vec<Named> {
    let signers = |verb: &str, names: &[&str]| named(resources(CERTIFICATES, &["signers"], &[verb]), names);
    let kubelet = "kubernetes.io/kube-apiserver-client-kubelet";
    let signed = [
        "kubernetes.io/kube-apiserver-client",
        kubelet,
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/legacy-unknown",
    ];
    let since = "kube-apiserver-legacy-service-account-token-tracking";
    vec![
        (
            "certificate-controller",
            vec![
                resources(CERTIFICATES, &["certificatesigningrequests"], &["delete", "get", "list", "watch"]),
                resources(
                    CERTIFICATES,
                    &["certificatesigningrequests/approval", "certificatesigningrequests/status"],
                    UPDATE,
                ),
                signers("approve", &[kubelet]),
                signers("sign", &signed),
                access_reviews(),
                events(),
            ],
        ),
        (
            "clusterrole-aggregation-controller",
            vec![resources(RBAC, &["clusterroles"], &["escalate", "get", "list", "patch", "update", "watch"])],
        ),
        (
            "kube-apiserver-serving-clustertrustbundle-publisher",
            vec![
                signers("attest", &["kubernetes.io/kube-apiserver-serving"]),
                resources(CERTIFICATES, &["clustertrustbundles"], &["create", "delete", "list", "update", "watch"]),
                events(),
            ],
        ),
        (
            "legacy-service-account-token-cleaner",
            vec![
                named(resources(CORE, &["configmaps"], GET), &[since]),
                resources(CORE, &["secrets"], &["delete", "patch"]),
            ],
        ),
        (
            "podcertificaterequestcleaner",
            vec![resources(CERTIFICATES, &["podcertificaterequests"], &["delete", "get", "list", "watch"])],
        ),
        ("root-ca-cert-publisher", vec![resources(CORE, &["configmaps"], &["create", "update"]), events()]),
        ("service-account-controller", vec![resources(CORE, &["serviceaccounts"], CREATE), events()]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_controller_declares_is_added_to_upstreams_rules() {
        let own = resources(&["example.com"], &["widgets"], GET);
        let declared = (role("system:controller:job-controller", vec![own.clone()]), bind("x", Vec::new()));
        let other = role("system:controller:mine", vec![own.clone()]);
        let declared = [declared, (other, bind("y", vec![service_account("kube-system", "mine")]))];
        let all = roles(&declared);
        let rules = |name: &str| {
            let found: Vec<_> = all.iter().filter(|(role, _)| role.name() == format!("{PREFIX}{name}")).collect();
            assert_eq!(found.len(), 1, "{name}");
            found[0].0.rules.clone().unwrap()
        };
        assert!(rules("job-controller").contains(&own));
        assert!(rules("job-controller").len() > 1);
        assert_eq!(rules("mine"), [own]);
        for (role, binding) in &all {
            assert_eq!(binding.role_ref.name, role.name());
            let account = &binding.subjects.as_ref().unwrap()[0];
            assert_eq!(format!("{PREFIX}{}", account.name), role.name());
            assert_eq!(role.annotation(super::super::AUTOUPDATE), Some("true"));
        }
    }

    /// Nobody but the collectors and the migrator may touch everything; no controller may do everything.
    #[test]
    fn wide_rules_are_few() {
        let wide = |rule: &PolicyRule| {
            let all = |list: &Option<Vec<String>>| list.iter().flatten().any(|item| item == "*");
            all(&rule.resources) && all(&rule.api_groups)
        };
        let all = roles(&[]);
        let names: Vec<&str> = all
            .iter()
            .filter(|(role, _)| role.rules.iter().flatten().any(wide))
            .map(|(role, _)| role.name().trim_start_matches(PREFIX))
            .collect();
        let expected = [
            "resourcequota-controller",
            "generic-garbage-collector",
            "namespace-controller",
            "storage-version-migrator-controller",
        ];
        let mut names = names;
        names.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert!(
            all.iter().flat_map(|(role, _)| role.rules.iter().flatten()).all(|rule| !rule.verbs.contains(&"*".into()))
        );
    }
}
