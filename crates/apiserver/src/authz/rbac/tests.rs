//! Tests of `rbac`.

use std::time::Duration;

use api::core::v1::Namespace;
use base::Clock;

use super::*;
use crate::authz::rule::resources;
use crate::cache::Caches;
use crate::catalog::Catalog;

/// A view of nothing: these tests fill the index by hand.
fn index() -> Index {
    Index::default()
}

fn subject(kind: &str, name: &str) -> Subject {
    Subject { kind: kind.into(), name: name.into(), ..Subject::default() }
}

fn binding(namespace: &str, name: &str, role: (&str, &str), subjects: Vec<Subject>) -> Binding {
    let role_ref = RoleRef { kind: role.0.into(), name: role.1.into(), ..RoleRef::default() };
    if namespace.is_empty() {
        let mut binding = ClusterRoleBinding { role_ref, subjects: Some(subjects), ..Default::default() };
        binding.metadata.name = Some(name.into());
        return Binding::of_cluster(&binding);
    }
    let mut binding = RoleBinding { role_ref, subjects: Some(subjects), ..Default::default() };
    binding.metadata.name = Some(name.into());
    binding.metadata.namespace = Some(namespace.into());
    Binding::of_namespace(&binding)
}

fn pods<'a>(caller: &'a Caller, verb: &'a str, namespace: &'a str) -> Attributes<'a> {
    let what = What::Resource {
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        namespace,
        name: "",
        field_selector: None,
        label_selector: None,
    };
    Attributes { caller, verb, what }
}

fn allowed(why: &str) -> Decision {
    Decision::Allow(why.to_owned())
}

#[test]
fn reasons_name_binding_role_and_subject() {
    let mut index = index();
    index.cluster_roles.insert("reader".into(), [resources(&[""], &["pods"], &["get"])].into());
    index.roles.insert(("ns".into(), "writer".into()), [resources(&[""], &["pods"], &["create"])].into());
    index.cluster_bindings.add(binding("", "readers", ("ClusterRole", "reader"), vec![subject("User", "jane")]));
    let robot = subject("ServiceAccount", "robot");
    let subjects = vec![robot, subject("Group", "dev")];
    index.bindings.entry("ns".into()).or_default().add(binding("ns", "writers", ("Role", "writer"), subjects));

    let jane = Caller::new("jane", &["dev"]);
    assert_eq!(
        index.authorize(&pods(&jane, "get", "")),
        allowed("RBAC: allowed by ClusterRoleBinding \"readers\" of ClusterRole \"reader\" to User \"jane\"")
    );
    assert_eq!(
        index.authorize(&pods(&jane, "create", "ns")),
        allowed("RBAC: allowed by RoleBinding \"writers/ns\" of Role \"writer\" to Group \"dev\"")
    );
    assert_eq!(index.authorize(&pods(&jane, "create", "other")), Decision::NoOpinion(String::new()));
    let robot = Caller::new("system:serviceaccount:ns:robot", &[]);
    assert_eq!(
        index.authorize(&pods(&robot, "create", "ns")),
        allowed("RBAC: allowed by RoleBinding \"writers/ns\" of Role \"writer\" to ServiceAccount \"robot/ns\"")
    );
    let stranger = Caller::new("system:serviceaccount:other:robot", &[]);
    assert_eq!(index.authorize(&pods(&stranger, "create", "ns")), Decision::NoOpinion(String::new()));
}

#[test]
fn missing_roles_are_told_once() {
    let mut index = index();
    let jane = || vec![subject("User", "jane")];
    index.cluster_bindings.add(binding("", "a", ("ClusterRole", "gone"), jane()));
    let caller = Caller::new("jane", &[]);
    let one = "RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found";
    assert_eq!(index.authorize(&pods(&caller, "get", "ns")), Decision::NoOpinion(one.to_owned()));
    index.cluster_bindings.add(binding("", "b", ("ClusterRole", "gone"), jane()));
    index.bindings.entry("ns".into()).or_default().add(binding("ns", "c", ("Role", "too"), jane()));
    let two = "RBAC: [clusterrole.rbac.authorization.k8s.io \"gone\" not found, \
               role.rbac.authorization.k8s.io \"too\" not found]";
    assert_eq!(index.authorize(&pods(&caller, "get", "ns")), Decision::NoOpinion(two.to_owned()));
}

#[test]
fn a_binding_counts_once_and_is_gone_when_removed() {
    let mut index = index();
    let subjects = vec![subject("User", "jane"), subject("Group", "dev"), subject("Group", "ops")];
    let one = || binding("", "b", ("ClusterRole", "reader"), subjects.clone());
    index.cluster_bindings.add(one());
    index.cluster_bindings.add(binding("", "a", ("ClusterRole", "other"), vec![subject("Group", "ops")]));
    let caller = Caller::new("jane", &["dev", "ops"]);
    let names = |index: &Index| -> Vec<String> {
        index.matching(&caller, "").iter().map(|binding| binding.shown.clone()).collect()
    };
    assert_eq!(names(&index), ["a", "b"]);
    index.cluster_bindings.remove(&one());
    assert_eq!(names(&index), ["a"]);
    assert!(index.cluster_bindings.users.is_empty());
}

#[tokio::test]
async fn the_index_follows_the_caches() {
    let (few, many) = (bound(100).await, bound(5000).await);
    assert!(few.get::<Namespace>("", "default").is_none());
    let caller = Caller::new("user-77", &["nobody"]);
    let (of_few, of_many) = (Rbac::default(), Rbac::default());
    let decide = |rbac: &Rbac, lookup: &Lookup, verb| rbac.authorize(&pods(&caller, verb, "ns"), lookup);
    for (rbac, lookup) in [(&of_few, &few), (&of_many, &many)] {
        assert!(matches!(decide(rbac, lookup, "get"), Decision::Allow(why) if why.contains("\"binding-00077\"")));
        assert_eq!(decide(rbac, lookup, "delete"), Decision::NoOpinion(String::new()));
    }
    // In turns, and the best of several rounds: what else runs on the machine makes the others longer. How long it
    // takes by itself is measured on a release build (`examples/authorize.rs`); here, that it does not grow with the
    // bindings.
    let clock = Clock::system();
    let round = |rbac: &Rbac, lookup: &Lookup| {
        let start = clock.monotonic();
        for _ in 0..1000 {
            assert!(matches!(decide(rbac, lookup, "get"), Decision::Allow(_)));
        }
        clock.monotonic() - start
    };
    let rounds: Vec<_> = (0..10).map(|_| (round(&of_few, &few), round(&of_many, &many))).collect();
    let least = |of: fn(&(Duration, Duration)) -> Duration| rounds.iter().map(of).min().unwrap();
    let (few, many) = (least(|both| both.0), least(|both| both.1));
    assert!(many < few * 5, "1,000 decisions take {few:?} with 100 bindings and {many:?} with 5,000");
}

/// That many bindings, each of a user and of one of 50 groups, to a role that may get pods.
async fn bound(bindings: usize) -> Lookup {
    let store = store::Store::memory();
    let caches = Arc::new(Caches::new(store.clone(), Clock::system(), Default::default()));
    let catalog = Arc::new(Catalog::new(resources::ALL, &caches));
    for n in 0..bindings {
        let mut role = ClusterRoleBinding {
            role_ref: RoleRef { kind: "ClusterRole".into(), name: "reader".into(), ..RoleRef::default() },
            subjects: Some(vec![subject("User", &format!("user-{n}")), subject("Group", &format!("group-{}", n % 50))]),
            ..Default::default()
        };
        role.metadata.name = Some(format!("binding-{n:05}"));
        let key = format!("/registry/clusterrolebindings/binding-{n:05}");
        store.create(&key, role.encode().into(), None).await.unwrap();
    }
    let mut role = ClusterRole { rules: Some(vec![resources(&[""], &["pods"], &["get"])]), ..Default::default() };
    role.metadata.name = Some("reader".into());
    store.create("/registry/clusterroles/reader", role.encode().into(), None).await.unwrap();
    caches.fill().await.unwrap();
    Lookup { caches, catalog }
}
