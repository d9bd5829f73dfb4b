//! Starts that cannot go well end at once, with one line that says what to do, and leave everything as it was.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::cluster::Cluster;
use crate::tools::{Output, free_port, run};

fn pintle(words: &[&str]) -> Output {
    run(Command::new(env!("CARGO_BIN_EXE_pintle")).args(words), b"", 20)
}

/// A server without a node, on a port of its own.
pub fn server(data_dir: &Path, words: &[&str]) -> Output {
    let bind = format!("127.0.0.1:{}", free_port());
    let data_dir = data_dir.to_string_lossy().into_owned();
    let mut all = vec!["server", "--no-agent", "--log-level", "error", "--data-dir", &data_dir, "--bind", &bind];
    all.extend(words);
    pintle(&all)
}

/// The one line of complaint.
#[track_caller]
pub fn one_line(output: Output, code: i32) -> String {
    assert_eq!(output.code, code, "{output:#?}");
    assert_eq!((output.stderr.lines().count(), output.stdout.as_str()), (1, ""), "{output:#?}");
    assert!(output.stderr.starts_with("pintle"), "{output:#?}");
    output.stderr
}

#[test]
fn a_port_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = one_line(server(folder.path(), &["--bind", &address]), 1);
    assert!(line.contains("--bind") && line.contains(&address) && line.contains("in use"), "{line}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written before the port is ours");
}

#[test]
fn a_data_dir_of_a_newer_version() {
    let mut cluster = Cluster::control_plane();
    cluster.stop_server();
    let format = cluster.data_dir().join("store/format");
    let ours = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, "pintle store 99\n").unwrap();
    let line = one_line(server(&cluster.data_dir(), &[]), 1);
    assert!(line.contains("format 99") && line.contains(&*cluster.data_dir().to_string_lossy()), "{line}");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "pintle store 99\n");
    // Nothing was touched: with the version put right it goes on.
    std::fs::write(&format, ours).unwrap();
    cluster.launch();
    cluster.wait_api();
    cluster.finish();
}

#[test]
fn a_second_server_on_one_data_dir() {
    let mut cluster = Cluster::control_plane();
    let line = one_line(server(&cluster.data_dir(), &[]), 1);
    assert!(line.contains("is in use by") && line.contains("store"), "{line}");
    // The first goes on.
    cluster.wait_api();
    cluster.kubectl(&["create", "configmap", "still", "--from-literal=here=yes"]).run(20).ok();
    cluster.finish();
}

#[test]
fn flags_that_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32, &str); 10] = [
        (&["--nonsense"], 2, "unexpected argument '--nonsense'"),
        (&["--bind", "nowhere"], 2, "invalid value 'nowhere' for '--bind"),
        (&["--kubelet-port", "70000"], 2, "70000 is not in 0..=65535"),
        (&["--service-cidr", "10.43.0.0/99"], 1, "--service-cidr"),
        (&["--feature-gates", "Nothing=true"], 1, "--feature-gates"),
        (&["--runtime-config", "batch/v1=yes"], 1, "--runtime-config: invalid value of batch/v1: yes"),
        (&["--runtime-config", "example.com/v1"], 1, "--runtime-config: unknown api groups example.com"),
        (&["--token", "x"], 1, "--token"),
        (&["--config", "/no/such/file"], 1, "/no/such/file"),
        (&["--store", "paper"], 2, "invalid value 'paper' for '--store"),
    ];
    for (words, code, what) in cases {
        let output = server(folder.path(), words);
        assert!(output.code == code && output.stderr.contains(what), "{output:#?}");
        assert!(!folder.path().join("store").exists(), "{words:?}: nothing is touched");
    }
}

#[test]
fn what_is_not_built_yet_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let line = one_line(server(folder.path(), &["--store-endpoints", "https://127.0.0.1:2379"]), 1);
    assert!(line.contains("--store-endpoints") && line.contains("not built yet"), "{line}");
    let commands: [&[&str]; 2] = [&["backup", "save", "file"], &["sim", "--nodes", "10"]];
    for words in commands {
        let line = one_line(pintle(words), 2);
        assert!(line.starts_with(&format!("pintle {}: not built yet: ", words[0])), "{line}");
    }
}

#[test]
fn what_is_asked_of_a_data_dir_that_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_string_lossy().into_owned();
    for words in [&["status"][..], &["kubeconfig"], &["certs"], &["image", "list"], &["token", "list"]] {
        let line = one_line(pintle(&[words, &["--data-dir", &data_dir]].concat()), 1);
        assert!(line.contains(&data_dir), "{line}");
    }
    let down = pintle(&["down", "--data-dir", &data_dir, "--instance", "nobody"]);
    assert_eq!(down.code, 0, "{down:#?}");
}
