//! The roles and bindings every cluster has, with upstream's names and rules.
//!
//! Pure. Upstream: plugin/pkg/auth/authorizer/rbac/bootstrappolicy.

pub mod controllers;
#[cfg(test)]
mod facts;

use std::collections::BTreeMap;

use api::meta::v1::{LabelSelector, ObjectMeta};
use api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use crate::authz::rule::{paths, resources};

const GROUP: &str = "rbac.authorization.k8s.io";
/// `"false"` on a role or binding: Pintle leaves it alone.
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

const READ: &[&str] = &["get", "list", "watch"];
const LIST: &[&str] = &["list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const READ_WRITE: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const GET: &[&str] = &["get"];

const CORE: &[&str] = &[""];
const APPS: &[&str] = &["apps"];
const AUTHENTICATION: &[&str] = &["authentication.k8s.io"];
const AUTHORIZATION: &[&str] = &["authorization.k8s.io"];
const AUTOSCALING: &[&str] = &["autoscaling"];
const BATCH: &[&str] = &["batch"];
const CERTIFICATES: &[&str] = &["certificates.k8s.io"];
const COORDINATION: &[&str] = &["coordination.k8s.io"];
const DISCOVERY: &[&str] = &["discovery.k8s.io"];
const EXTENSIONS: &[&str] = &["extensions"];
const NETWORKING: &[&str] = &["networking.k8s.io"];
const NODE: &[&str] = &["node.k8s.io"];
const POLICY: &[&str] = &["policy"];
const RBAC: &[&str] = &[GROUP];
const RESOURCE: &[&str] = &["resource.k8s.io"];
const STORAGE: &[&str] = &["storage.k8s.io"];

/// Metadata of a default object.
fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        annotations: Some(BTreeMap::from([(AUTOUPDATE.to_owned(), "true".to_owned())])),
        labels: Some(BTreeMap::from([("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".to_owned())])),
        ..ObjectMeta::default()
    }
}

fn role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole { metadata: metadata("", name), rules: Some(rules), aggregation_rule: None }
}

fn labelled(mut role: ClusterRole, to: &str) -> ClusterRole {
    let label = format!("{GROUP}/aggregate-to-{to}");
    role.metadata.labels.get_or_insert_default().insert(label, "true".to_owned());
    role
}

fn named(mut rule: PolicyRule, names: &[&str]) -> PolicyRule {
    rule.resource_names = Some(names.iter().map(|name| (*name).to_owned()).collect());
    rule
}

fn events() -> PolicyRule {
    resources(&["", "events.k8s.io"], &["events"], &["create", "patch", "update"])
}

fn token_reviews() -> PolicyRule {
    resources(AUTHENTICATION, &["tokenreviews"], CREATE)
}

fn access_reviews() -> PolicyRule {
    resources(AUTHORIZATION, &["subjectaccessreviews"], CREATE)
}

/// A role made of the rules of those that `to` names in their labels.
fn aggregated(name: &str, parts: &[&ClusterRole]) -> ClusterRole {
    let selector = LabelSelector {
        match_labels: Some(BTreeMap::from([(format!("{GROUP}/aggregate-to-{name}"), "true".to_owned())])),
        ..LabelSelector::default()
    };
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in parts.iter().flat_map(|part| part.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    ClusterRole {
        aggregation_rule: Some(AggregationRule { cluster_role_selectors: Some(vec![selector]) }),
        ..role(name, rules)
    }
}

/// Every default ClusterRole.
pub fn cluster_roles() -> Vec<ClusterRole> {
    let to_admin = labelled(role("system:aggregate-to-admin", admin_rules()), "admin");
    let to_edit = labelled(role("system:aggregate-to-edit", edit_rules()), "edit");
    let to_view = labelled(role("system:aggregate-to-view", view_rules()), "view");
    let view = labelled(aggregated("view", &[&to_view]), "edit");
    let edit = labelled(aggregated("edit", &[&to_edit, &view]), "admin");
    let admin = aggregated("admin", &[&edit, &to_admin]);
    let mut all = vec![
        role("cluster-admin", vec![resources(&["*"], &["*"], &["*"]), paths(&["*"], &["*"])]),
        admin,
        edit,
        view,
        to_admin,
        to_edit,
        to_view,
    ];
    all.extend(user_roles());
    all.extend(certificate_roles());
    all.extend(component_roles());
    all.extend(joining_roles());
    all
}

fn admin_rules() -> Vec<PolicyRule> {
    vec![
        resources(AUTHORIZATION, &["localsubjectaccessreviews"], CREATE),
        resources(RBAC, &["rolebindings", "roles"], READ_WRITE),
    ]
}

fn edit_rules() -> Vec<PolicyRule> {
    const INTO_PODS: &[&str] = &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy"];
    vec![
        resources(CORE, &[INTO_PODS, &["secrets", "services/proxy"]].concat(), READ),
        resources(CORE, &["serviceaccounts"], &["impersonate"]),
        resources(CORE, &[&["pods"], INTO_PODS].concat(), WRITE),
        resources(CORE, &["pods/eviction"], CREATE),
        resources(
            CORE,
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
            WRITE,
        ),
        resources(CORE, &["serviceaccounts/token"], CREATE),
        resources(
            APPS,
            &[
                "daemonsets",
                "deployments",
                "deployments/rollback",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
            ],
            WRITE,
        ),
        resources(AUTOSCALING, &["horizontalpodautoscalers"], WRITE),
        resources(BATCH, &["cronjobs", "jobs"], WRITE),
        resources(
            EXTENSIONS,
            &[
                "daemonsets",
                "deployments",
                "deployments/rollback",
                "deployments/scale",
                "ingresses",
                "networkpolicies",
                "replicasets",
                "replicasets/scale",
                "replicationcontrollers/scale",
            ],
            WRITE,
        ),
        resources(POLICY, &["poddisruptionbudgets"], WRITE),
        resources(NETWORKING, &["ingresses", "networkpolicies"], WRITE),
        resources(COORDINATION, &["leases"], READ_WRITE),
        resources(RESOURCE, &["resourceclaims", "resourceclaimtemplates"], WRITE),
    ]
}

fn view_rules() -> Vec<PolicyRule> {
    vec![
        resources(
            CORE,
            &[
                "configmaps",
                "endpoints",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            READ,
        ),
        resources(
            CORE,
            &[
                "bindings",
                "events",
                "limitranges",
                "namespaces/status",
                "pods/log",
                "pods/status",
                "replicationcontrollers/status",
                "resourcequotas",
                "resourcequotas/status",
            ],
            READ,
        ),
        resources(CORE, &["namespaces"], READ),
        resources(DISCOVERY, &["endpointslices"], READ),
        resources(
            APPS,
            &[
                "controllerrevisions",
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "statefulsets",
                "statefulsets/scale",
                "statefulsets/status",
            ],
            READ,
        ),
        resources(AUTOSCALING, &["horizontalpodautoscalers", "horizontalpodautoscalers/status"], READ),
        resources(BATCH, &["cronjobs", "cronjobs/status", "jobs", "jobs/status"], READ),
        resources(
            EXTENSIONS,
            &[
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "ingresses",
                "ingresses/status",
                "networkpolicies",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "replicationcontrollers/scale",
            ],
            READ,
        ),
        resources(POLICY, &["poddisruptionbudgets", "poddisruptionbudgets/status"], READ),
        resources(NETWORKING, &["ingresses", "ingresses/status", "networkpolicies"], READ),
        resources(RESOURCE, &["resourceclaims", "resourceclaims/status", "resourceclaimtemplates"], READ),
    ]
}

/// What people and their tools have.
fn user_roles() -> Vec<ClusterRole> {
    const INFO: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
    const APIS: &[&str] = &["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
    const ISSUER: &[&str] = &[
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ];
    const HEALTH: &[&str] =
        &["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"];
    vec![
        role("system:auth-delegator", vec![token_reviews(), access_reviews()]),
        role(
            "system:basic-user",
            vec![
                resources(AUTHORIZATION, &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], CREATE),
                resources(AUTHENTICATION, &["selfsubjectreviews"], CREATE),
            ],
        ),
        role("system:discovery", vec![paths(&[APIS, INFO].concat(), GET)]),
        role("system:monitoring", vec![paths(HEALTH, GET), paths(&["/flagz"], GET), paths(&["/statusz"], GET)]),
        role("system:public-info-viewer", vec![paths(INFO, GET)]),
        role("system:cluster-trust-bundle-discovery", vec![resources(CERTIFICATES, &["clustertrustbundles"], READ)]),
        role("system:service-account-issuer-discovery", vec![paths(ISSUER, GET)]),
        role(
            "system:kubelet-api-admin",
            vec![
                resources(CORE, &["nodes"], READ),
                resources(CORE, &["nodes"], &["proxy"]),
                resources(CORE, &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats"], &["*"]),
                resources(CORE, &["nodes/configz", "nodes/healthz", "nodes/pods"], &["*"]),
            ],
        ),
        role(
            "system:node-problem-detector",
            vec![resources(CORE, &["nodes"], GET), resources(CORE, &["nodes/status"], &["patch"]), events()],
        ),
        role(
            "system:heapster",
            vec![
                resources(CORE, &["events", "namespaces", "nodes", "pods"], READ),
                resources(EXTENSIONS, &["deployments"], READ),
            ],
        ),
        role(
            "system:persistent-volume-provisioner",
            vec![
                resources(CORE, &["persistentvolumes"], &["create", "delete", "get", "list", "watch"]),
                resources(CORE, &["persistentvolumeclaims"], &["get", "list", "update", "watch"]),
                resources(STORAGE, &["storageclasses"], READ),
                resources(CORE, &["events"], &["watch"]),
                events(),
            ],
        ),
    ]
}

fn certificate_roles() -> Vec<ClusterRole> {
    let approver = |name: &str, signer: &str| {
        let rule = named(resources(CERTIFICATES, &["signers"], &["approve"]), &[signer]);
        role(&format!("system:certificates.k8s.io:{name}"), vec![rule])
    };
    let requester = |kind: &str| {
        let resource = format!("certificatesigningrequests/{kind}");
        let rules = vec![resources(CERTIFICATES, &[resource.as_str()], CREATE)];
        role(&format!("system:certificates.k8s.io:certificatesigningrequests:{kind}"), rules)
    };
    vec![
        requester("nodeclient"),
        requester("selfnodeclient"),
        approver("kube-apiserver-client-approver", "kubernetes.io/kube-apiserver-client"),
        approver("kube-apiserver-client-kubelet-approver", "kubernetes.io/kube-apiserver-client-kubelet"),
        approver("kubelet-serving-approver", "kubernetes.io/kubelet-serving"),
        approver("legacy-unknown-approver", "kubernetes.io/legacy-unknown"),
        role(
            "pintle:certificatesigningrequests:selfnodeserver",
            vec![resources(CERTIFICATES, &["certificatesigningrequests/selfnodeserver"], CREATE)],
        ),
    ]
}

/// What nodes have beside upstream's `system:node`. Names begin with `pintle:`.
fn joining_roles() -> Vec<ClusterRole> {
    vec![
        // Whether a name is taken.
        role("pintle:get-nodes", vec![resources(CORE, &["nodes"], GET)]),
        // The service proxy, cluster DNS and routes are parts of the node, not users of their own.
        role(
            "pintle:node-network",
            vec![
                resources(CORE, &["namespaces", "nodes", "services"], LIST),
                resources(DISCOVERY, &["endpointslices"], LIST),
            ],
        ),
        // A pod anywhere may be the peer of a policy: its labels and addresses are asked for.
        role(
            "pintle:node-policies",
            vec![resources(CORE, &["pods"], LIST), resources(NETWORKING, &["networkpolicies"], LIST)],
        ),
    ]
}

/// What the parts of a cluster have.
fn component_roles() -> Vec<ClusterRole> {
    vec![
        role("system:kube-aggregator", vec![resources(CORE, &["endpoints", "services"], READ)]),
        role("system:kube-controller-manager", controller_manager_rules()),
        role("system:kube-dns", vec![resources(CORE, &["endpoints", "services"], LIST)]),
        role("system:kube-scheduler", scheduler_rules()),
        role("system:node", node_rules()),
        role(
            "system:node-bootstrapper",
            vec![resources(CERTIFICATES, &["certificatesigningrequests"], &["create", "get", "list", "watch"])],
        ),
        role(
            "system:node-proxier",
            vec![
                resources(CORE, &["endpoints", "services"], LIST),
                resources(CORE, &["nodes"], READ),
                events(),
                resources(NETWORKING, &["servicecidrs"], LIST),
                resources(DISCOVERY, &["endpointslices"], LIST),
            ],
        ),
        role(
            "system:volume-scheduler",
            vec![
                resources(CORE, &["persistentvolumes"], &["get", "list", "patch", "update", "watch"]),
                resources(STORAGE, &["storageclasses"], READ),
                resources(CORE, &["persistentvolumeclaims"], &["get", "list", "patch", "update", "watch"]),
            ],
        ),
    ]
}

fn controller_manager_rules() -> Vec<PolicyRule> {
    vec![
        events(),
        resources(COORDINATION, &["leases"], CREATE),
        named(resources(COORDINATION, &["leases"], &["get", "update"]), &["kube-controller-manager"]),
        resources(CORE, &["secrets", "serviceaccounts"], CREATE),
        resources(CORE, &["secrets"], &["delete"]),
        resources(CORE, &["configmaps", "namespaces", "secrets", "serviceaccounts"], GET),
        resources(CORE, &["secrets", "serviceaccounts"], &["update"]),
        token_reviews(),
        access_reviews(),
        resources(&["*"], &["*"], LIST),
        resources(CORE, &["serviceaccounts/token"], CREATE),
    ]
}

fn scheduler_rules() -> Vec<PolicyRule> {
    vec![
        events(),
        resources(COORDINATION, &["leases"], CREATE),
        named(resources(COORDINATION, &["leases"], &["get", "list", "update", "watch"]), &["kube-scheduler"]),
        resources(COORDINATION, &["leasecandidates"], READ_WRITE),
        resources(CORE, &["nodes"], READ),
        resources(CORE, &["pods"], &["delete", "get", "list", "watch"]),
        resources(CORE, &["bindings", "pods/binding"], CREATE),
        resources(CORE, &["pods/status"], &["patch", "update"]),
        resources(CORE, &["replicationcontrollers", "services"], READ),
        resources(&["apps", "extensions"], &["replicasets"], READ),
        resources(APPS, &["statefulsets"], READ),
        resources(POLICY, &["poddisruptionbudgets"], READ),
        resources(CORE, &["persistentvolumeclaims", "persistentvolumes"], READ),
        token_reviews(),
        access_reviews(),
        resources(STORAGE, &["csinodes"], READ),
        resources(STORAGE, &["volumeattachments"], READ),
        resources(CORE, &["namespaces"], READ),
        resources(STORAGE, &["csidrivers"], READ),
        resources(STORAGE, &["csistoragecapacities"], READ),
        resources(RESOURCE, &["deviceclasses"], READ),
        resources(RESOURCE, &["resourceclaims"], &["get", "list", "patch", "update", "watch"]),
        resources(RESOURCE, &["resourceclaims/status"], &["get", "list", "patch", "update", "watch"]),
        resources(RESOURCE, &["resourceclaims/binding"], &["patch", "update"]),
        resources(CORE, &["pods/finalizers"], &["get", "list", "patch", "update", "watch"]),
        resources(RESOURCE, &["resourceslices"], READ),
        // Claims for extended resources are the scheduler's own.
        resources(RESOURCE, &["resourceclaims"], &["create", "delete"]),
        resources(RESOURCE, &["devicetaintrules"], READ),
    ]
}

/// What every node may do, apart from what the Node authorizer decides object by object.
pub fn node_rules() -> Vec<PolicyRule> {
    vec![
        token_reviews(),
        resources(AUTHORIZATION, &["localsubjectaccessreviews", "subjectaccessreviews"], CREATE),
        resources(CORE, &["services"], READ),
        resources(CORE, &["nodes"], &["create", "get", "list", "watch"]),
        resources(CORE, &["nodes/status"], &["patch", "update"]),
        resources(CORE, &["nodes"], &["patch", "update"]),
        resources(CORE, &["events"], &["create", "patch", "update"]),
        resources(CORE, &["pods"], READ),
        resources(CORE, &["pods"], &["create", "delete"]),
        resources(CORE, &["pods/status"], &["patch", "update"]),
        resources(CORE, &["pods/eviction"], CREATE),
        resources(CORE, &["configmaps", "secrets"], READ),
        resources(CORE, &["persistentvolumeclaims", "persistentvolumes"], GET),
        resources(CORE, &["endpoints"], GET),
        resources(CERTIFICATES, &["certificatesigningrequests"], &["create", "get", "list", "watch"]),
        resources(COORDINATION, &["leases"], &["create", "delete", "get", "patch", "update"]),
        resources(STORAGE, &["volumeattachments"], GET),
        resources(CORE, &["serviceaccounts/token"], CREATE),
        resources(CORE, &["persistentvolumeclaims/status"], &["get", "patch", "update"]),
        resources(STORAGE, &["csidrivers"], READ),
        resources(STORAGE, &["csinodes"], &["create", "delete", "get", "patch", "update"]),
        resources(NODE, &["runtimeclasses"], READ),
        resources(RESOURCE, &["resourceclaims"], GET),
        resources(RESOURCE, &["resourceslices"], &["deletecollection"]),
        resources(CERTIFICATES, &["clustertrustbundles"], READ),
        resources(CORE, &["serviceaccounts"], GET),
        resources(CERTIFICATES, &["podcertificaterequests"], &["create", "get", "list", "watch"]),
    ]
}

/// A subject of kind `User` or `Group`.
fn who(kind: &str, name: &str) -> Subject {
    Subject { api_group: Some(GROUP.to_owned()), kind: kind.to_owned(), name: name.to_owned(), namespace: None }
}

fn user(name: &str) -> Subject {
    who("User", name)
}

fn group(name: &str) -> Subject {
    who("Group", name)
}

fn service_account(namespace: &str, name: &str) -> Subject {
    Subject {
        api_group: None,
        kind: "ServiceAccount".to_owned(),
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
    }
}

fn reference(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some(GROUP.to_owned()), kind: kind.to_owned(), name: name.to_owned() }
}

fn bind_as(name: &str, role: &str, subjects: Vec<Subject>) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: metadata("", name),
        role_ref: reference("ClusterRole", role),
        subjects: (!subjects.is_empty()).then_some(subjects),
    }
}

fn bind(role: &str, subjects: Vec<Subject>) -> ClusterRoleBinding {
    bind_as(role, role, subjects)
}

/// Every default ClusterRoleBinding. Those named `pintle:` are for nodes that join with a bootstrap token: what kubeadm
/// adds for them, what their network reads, and that their serving certificates need nobody's approval.
pub fn cluster_role_bindings() -> Vec<ClusterRoleBinding> {
    const CSRS: &str = "system:certificates.k8s.io:certificatesigningrequests:";
    let everyone = || group("system:authenticated");
    vec![
        bind("cluster-admin", vec![group("system:masters")]),
        bind("system:monitoring", vec![group("system:monitoring")]),
        bind("system:discovery", vec![everyone()]),
        bind("system:basic-user", vec![everyone()]),
        bind("system:public-info-viewer", vec![everyone(), group("system:unauthenticated")]),
        bind("system:cluster-trust-bundle-discovery", vec![group("system:serviceaccounts")]),
        bind("system:node", Vec::new()),
        bind("system:node-proxier", vec![user("system:kube-proxy")]),
        bind("system:kube-controller-manager", vec![user("system:kube-controller-manager")]),
        bind("system:kube-dns", vec![service_account("kube-system", "kube-dns")]),
        bind("system:kube-scheduler", vec![user("system:kube-scheduler")]),
        bind("system:volume-scheduler", vec![user("system:kube-scheduler")]),
        bind("system:service-account-issuer-discovery", vec![group("system:serviceaccounts")]),
        bind_as("pintle:node-bootstrapper", "system:node-bootstrapper", vec![group(pki::bootstrap::GROUP)]),
        bind_as("pintle:node-autoapprove-bootstrap", &format!("{CSRS}nodeclient"), vec![group(pki::bootstrap::GROUP)]),
        bind("pintle:get-nodes", vec![group(pki::bootstrap::GROUP)]),
        bind("pintle:node-network", vec![group("system:nodes")]),
        bind("pintle:node-policies", vec![group("system:nodes")]),
        bind_as(
            "pintle:node-autoapprove-serving",
            "pintle:certificatesigningrequests:selfnodeserver",
            vec![group("system:nodes")],
        ),
        bind_as(
            "pintle:kubelet-serving-approver",
            "system:certificates.k8s.io:kubelet-serving-approver",
            vec![service_account("kube-system", "certificate-controller")],
        ),
        bind_as(
            "pintle:node-autoapprove-certificate-rotation",
            &format!("{CSRS}selfnodeclient"),
            vec![group("system:nodes")],
        ),
    ]
}

/// Every default Role.
pub fn roles() -> Vec<Role> {
    let role = |namespace: &str, name: &str, rules| Role { metadata: metadata(namespace, name), rules: Some(rules) };
    let lock = |component: &str| {
        let verbs = &["create", "get", "list", "update", "watch"];
        let rules = ["leases", "leasecandidates"].map(|kind| resources(COORDINATION, &[kind], verbs)).to_vec();
        role("kube-system", &format!("system::leader-locking-{component}"), rules)
    };
    let authentication = named(resources(CORE, &["configmaps"], READ), &["extension-apiserver-authentication"]);
    let node_settings = named(resources(CORE, &["configmaps"], GET), &[super::objects::NODE_SETTINGS]);
    let cluster_info = named(resources(CORE, &["configmaps"], &["update"]), &["cluster-info"]);
    vec![
        role("kube-system", "extension-apiserver-authentication-reader", vec![authentication]),
        role("kube-system", "pintle:node-settings", vec![node_settings]),
        role("kube-system", "system:controller:bootstrap-signer", vec![resources(CORE, &["secrets"], READ)]),
        role(
            "kube-system",
            "system:controller:cloud-provider",
            vec![resources(CORE, &["configmaps"], &["create", "get", "list", "watch"])],
        ),
        role(
            "kube-system",
            "system:controller:token-cleaner",
            vec![resources(CORE, &["secrets"], &["delete", "get", "list", "watch"]), events()],
        ),
        lock("kube-controller-manager"),
        lock("kube-scheduler"),
        role(
            "kube-public",
            "system:controller:bootstrap-signer",
            vec![resources(CORE, &["configmaps"], READ), cluster_info, events()],
        ),
    ]
}

/// Every default RoleBinding.
pub fn role_bindings() -> Vec<RoleBinding> {
    let bind = |namespace: &str, name: &str, role: &str, subjects| RoleBinding {
        metadata: metadata(namespace, name),
        role_ref: reference("Role", role),
        subjects: Some(subjects),
    };
    let controller = |namespace: &str, name: &str| {
        let full = format!("system:controller:{name}");
        bind(namespace, &full, &full, vec![service_account("kube-system", name)])
    };
    let lock = |component: &str| {
        let name = format!("system::leader-locking-{component}");
        let subjects = vec![user(&format!("system:{component}")), service_account("kube-system", component)];
        bind("kube-system", &name, &name, subjects)
    };
    let mut managers = lock("kube-controller-manager");
    managers.subjects.get_or_insert_default().push(service_account("kube-system", "leader-election-controller"));
    vec![
        bind(
            "kube-system",
            "system::extension-apiserver-authentication-reader",
            "extension-apiserver-authentication-reader",
            vec![user("system:kube-controller-manager"), user("system:kube-scheduler")],
        ),
        managers,
        lock("kube-scheduler"),
        bind("kube-system", "pintle:node-settings", "pintle:node-settings", vec![group("system:nodes")]),
        controller("kube-system", "bootstrap-signer"),
        controller("kube-system", "cloud-provider"),
        controller("kube-system", "token-cleaner"),
        controller("kube-public", "bootstrap-signer"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use api::Object;

    use super::*;
    use crate::authz::rule;

    #[test]
    fn names_are_unique_and_bindings_lead_somewhere() {
        let roles = cluster_roles();
        let names: BTreeSet<&str> = roles.iter().map(|role| role.name()).collect();
        assert_eq!(names.len(), roles.len());
        for binding in cluster_role_bindings() {
            assert!(names.contains(binding.role_ref.name.as_str()), "{}", binding.name());
        }
        let local: BTreeSet<String> = self::roles().iter().map(Object::key).collect();
        for binding in role_bindings() {
            assert!(local.contains(&format!("{}/{}", binding.namespace(), binding.role_ref.name)), "{}", binding.key());
        }
    }

    #[test]
    fn admin_holds_edit_and_edit_holds_view() {
        let roles = cluster_roles();
        let rules = |name: &str| roles.iter().find(|role| role.name() == name).unwrap().rules.clone().unwrap();
        assert!(rule::uncovered(&rules("admin"), &rules("edit")).is_empty());
        assert!(rule::uncovered(&rules("edit"), &rules("view")).is_empty());
        assert!(!rule::uncovered(&rules("view"), &rules("edit")).is_empty());
        assert!(!rule::uncovered(&rules("edit"), &rules("admin")).is_empty());
    }

    #[test]
    fn nobody_may_read_secrets_by_viewing() {
        let view = cluster_roles().into_iter().find(|role| role.name() == "view").unwrap().rules.unwrap();
        assert!(!rule::uncovered(&view, &[resources(CORE, &["secrets"], GET)]).is_empty());
    }
}
