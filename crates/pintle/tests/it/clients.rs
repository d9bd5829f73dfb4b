//! The programs in `tests/clients/`, on clients nobody here wrote, against a control plane.

use std::process::Command;

use crate::cluster::Cluster;
use crate::tools::{installed, run, source};

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
