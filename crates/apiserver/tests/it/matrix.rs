//! Who may do what, whole: every verb on every kind and subresource that is served, and on paths, for six kinds of
//! caller, against the table in `matrix.txt`. `UPDATE_EXPECT=1` writes the table anew; read it before it is kept.

use std::fmt::Write as _;

use apiserver::Caller;
use apiserver::authz::{Attributes, Decision, What};
use resources::Scope;
use serde_json::json;

use crate::auth_flow::cluster;

const EXPECTED: &str = include_str!("matrix.txt");
const VERBS: &[(&str, char)] = &[
    ("get", 'g'),
    ("list", 'l'),
    ("watch", 'w'),
    ("create", 'c'),
    ("update", 'u'),
    ("patch", 'p'),
    ("delete", 'd'),
    ("deletecollection", 'x'),
    ("impersonate", 'i'),
    ("escalate", 'e'),
    ("bind", 'b'),
    ("approve", 'a'),
    ("sign", 's'),
    ("attest", 't'),
];
/// What RBAC knows and no path serves.
const UNSERVED: &[(&str, &str, bool)] = &[
    ("", "users", false),
    ("", "groups", false),
    ("authentication.k8s.io", "uids", false),
    ("authentication.k8s.io", "userextras/scopes", false),
    ("certificates.k8s.io", "signers", false),
    ("example.com", "widgets", true),
    ("example.com", "widgets/status", true),
];
const PATHS: &[&str] = &[
    "/",
    "/api",
    "/api/v1",
    "/apis",
    "/apis/apps/v1",
    "/openapi/v2",
    "/openapi/v3",
    "/version",
    "/healthz",
    "/livez",
    "/livez/ping",
    "/readyz",
    "/metrics",
    "/metrics/slis",
    "/debug/pprof/heap",
    "/debug/api_priority_and_fairness/dump_requests",
    "/logs",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
];

/// The six, each with the column's title.
fn callers() -> Vec<(&'static str, Caller)> {
    let account = &["system:serviceaccounts", "system:serviceaccounts:team"];
    vec![
        ("admin", Caller::new("ann", &[])),
        ("edit", Caller::new("eve", &[])),
        ("view", Caller::new("vic", &[])),
        ("account", Caller::new("system:serviceaccount:team:bare", account)),
        ("node", Caller::new("system:node:other", &["system:nodes"])),
        ("anonymous", Caller::anonymous()),
    ]
}

/// Every resource and subresource that is served, with whether it lives in namespaces.
fn served() -> Vec<(String, String, bool)> {
    let mut all: Vec<(String, String, bool)> = Vec::new();
    for strategy in resources::ALL {
        let kind = strategy.kind();
        let namespaced = strategy.scope() == Scope::Namespaced;
        all.push((kind.group.to_owned(), kind.plural.to_owned(), namespaced));
        let below = strategy.subresources().iter().map(|below| format!("{}/{}", kind.plural, below.name()));
        all.extend(below.map(|path| (kind.group.to_owned(), path, namespaced)));
    }
    all.extend(UNSERVED.iter().map(|(group, path, namespaced)| ((*group).into(), (*path).into(), *namespaced)));
    all.sort();
    all.dedup();
    all
}

fn row(table: &mut String, name: &str, cells: &[String]) {
    let _ = write!(table, "{name:<64}");
    for cell in cells {
        let _ = write!(table, " {:<14}", if cell.is_empty() { "-" } else { cell });
    }
    table.truncate(table.trim_end().len());
    table.push('\n');
}

#[tokio::test]
async fn every_verb_on_every_kind_for_six_callers() {
    let world = cluster().await;
    assert_eq!(world.create("/api/v1/namespaces", r#"{"metadata":{"name":"team"}}"#).await.code, 201);
    for (role, user) in [("admin", "ann"), ("edit", "eve"), ("view", "vic")] {
        let binding = json!({
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/team/rolebindings";
        assert_eq!(world.create(path, &binding.to_string()).await.code, 201);
    }
    world.server.lookup().wait_fresh().await.unwrap();
    let (callers, authorizer) = (callers(), &world.server.options().authorizer);
    let allowed = |caller: &Caller, verb: &str, what: What<'_>| {
        matches!(authorizer.authorize(&Attributes { caller, verb, what }, world.server.lookup()), Decision::Allow(_))
    };
    let cells = |group: &str, path: &str, namespace: &str| -> Vec<String> {
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        let may = |caller: &Caller, verb: &str| {
            let one =
                !matches!(verb, "list" | "watch" | "deletecollection") && (verb != "create" || !subresource.is_empty());
            let name = if one { "thing" } else { "" };
            let (version, field_selector, label_selector) = ("v1", None, None);
            let what = What::Resource {
                group,
                version,
                resource,
                subresource,
                namespace,
                name,
                field_selector,
                label_selector,
            };
            allowed(caller, verb, what)
        };
        let cell = |caller: &Caller| VERBS.iter().filter(|(verb, _)| may(caller, verb)).map(|(_, c)| *c).collect();
        callers.iter().map(|(_, caller)| cell(caller)).collect()
    };
    let mut table = String::from(
        "# g get, l list, w watch, c create, u update, p patch, d delete, x deletecollection, i impersonate,\n\
         # e escalate, b bind, a approve, s sign, t attest. admin, edit and view are bound in the namespace asked about.\n",
    );
    let titles: Vec<String> = callers.iter().map(|(title, _)| (*title).to_owned()).collect();
    for (title, namespace) in [("in their namespace", "team"), ("elsewhere", "other"), ("cluster-wide", "")] {
        let _ = writeln!(table, "\n## {title}");
        row(&mut table, "", &titles);
        for (group, path, namespaced) in served() {
            let cells = cells(&group, &path, namespace);
            // A row of nothing is told where the resource lives, and left out elsewhere.
            let home = if namespaced { "team" } else { "" };
            if namespace == home || cells.iter().any(|cell| !cell.is_empty()) {
                let name = if group.is_empty() { path.clone() } else { format!("{group}/{path}") };
                row(&mut table, &name, &cells);
            }
        }
    }
    table.push_str("\n## paths\n");
    row(&mut table, "", &titles);
    for path in PATHS {
        let methods = [("get", 'g'), ("post", 'c'), ("put", 'u'), ("delete", 'd')];
        let cell = |caller: &Caller| {
            methods.iter().filter(|(verb, _)| allowed(caller, verb, What::Path(path))).map(|(_, c)| *c).collect()
        };
        row(&mut table, path, &callers.iter().map(|(_, caller)| cell(caller)).collect::<Vec<String>>());
    }
    if std::env::var("UPDATE_EXPECT").is_ok_and(|value| value == "1") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/matrix.txt"), &table).unwrap();
        return;
    }
    for (made, expected) in table.lines().zip(EXPECTED.lines()) {
        assert_eq!(made, expected, "UPDATE_EXPECT=1 writes the table anew");
    }
    assert_eq!(table.lines().count(), EXPECTED.lines().count(), "UPDATE_EXPECT=1 writes the table anew");
}
