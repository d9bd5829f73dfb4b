//! The programs in `tests/clients/`, on clients nobody here wrote, against a control plane.

use std::process::Command;

use crate::cluster::Cluster;
use crate::tools::{BOTH, installed, run, source};

#[test]
fn the_python_client_works() {
    let cluster = Cluster::control_plane();
    for program in ["built_in.py", "custom.py"] {
        python(&cluster, program);
    }
    cluster.finish();
}

/// Also with a kind that was defined at run time.
#[test]
fn every_openapi_document_is_valid() {
    let cluster = Cluster::control_plane();
    cluster.apply(&std::fs::read_to_string(source("examples/charts/tenant/crds/rooms.yaml")).unwrap());
    cluster
        .kubectl(&["wait", "--for=condition=Established", "crd/rooms.tenant.example.com", "--timeout=20s"])
        .run(30)
        .ok();
    let seen = python(&cluster, "openapi.py");
    assert!(seen.contains("apis/tenant.example.com/v1"), "{seen}");
    cluster.finish();
}

/// `kubectl explain --recursive` of every kind, by both kubectls.
#[test]
fn every_kind_is_explained() {
    let cluster = Cluster::control_plane();
    for version in BOTH {
        let names = cluster.kubectl_of(version, &["api-resources", "-o", "name", "--cached=false"]).run(20).ok();
        assert!(names.lines().count() > 60, "{names}");
        for name in names.lines() {
            // kubectl takes what follows `events` for a path of fields.
            let (name, of) = if name == "events.events.k8s.io" { ("events", "events.k8s.io/v1") } else { (name, "") };
            let text = cluster.kubectl_of(version, &["explain", name, "--recursive", "--api-version", of]).run(20).ok();
            assert!(text.contains("FIELDS:") && text.contains("metadata"), "{version:?} {name}: {text}");
        }
    }
    cluster.finish();
}

fn python(cluster: &Cluster, program: &str) -> String {
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(source(&format!("crates/pintle/tests/clients/python/{program}")));
    command.env("KUBECONFIG", cluster.data_dir().join("admin.kubeconfig"));
    run(&mut command, b"", 120).ok()
}

#[test]
fn the_javascript_client_works() {
    let cluster = Cluster::control_plane();
    // A module finds its packages beside itself.
    let folder = cluster.scratch();
    let program = folder.join("client.mjs");
    std::fs::copy(source("crates/pintle/tests/clients/javascript/client.mjs"), &program).unwrap();
    std::os::unix::fs::symlink(installed("javascript/node_modules"), folder.join("node_modules")).unwrap();
    let mut command = Command::new("node");
    command.arg(program).env("KUBECONFIG", cluster.data_dir().join("admin.kubeconfig"));
    let said = run(&mut command, b"", 120).ok();
    assert_eq!(said, "done\n");
    cluster.finish();
}
