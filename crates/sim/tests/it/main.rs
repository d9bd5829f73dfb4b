//! Each file below `spec/` as a test of its own. `UPDATE_EXPECT=1` writes console blocks anew.

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    own_mounts();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec");
    let rewrite = std::env::var("UPDATE_EXPECT").is_ok_and(|value| value == "1");
    let found = sim::spec::find(&root).expect("the folder of specs");
    assert!(!found.is_empty(), "there are no specs in {}", root.display());
    let run = |(name, path): (String, std::path::PathBuf)| {
        Trial::test(name, move || sim::spec::run(&path, rewrite).map_err(|error| Failed::from(format!("{error:#}"))))
    };
    libtest_mimic::run(&arguments, found.into_iter().map(run).collect()).exit();
}

/// Pods' tokens lie in file systems of memory. They are mounted where nobody else sees them, and go with the process.
fn own_mounts() {
    use nix::sched::{CloneFlags, unshare};
    let mut flags = CloneFlags::CLONE_NEWNS;
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    if !user.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).expect("a mount namespace of its own, as root or in a user namespace");
    if !user.is_root() {
        let write = |file: &str, text: String| std::fs::write(format!("/proc/self/{file}"), text);
        write("setgroups", "deny".to_owned()).expect("a user namespace is set up by its maker");
        write("uid_map", format!("0 {user} 1")).expect("a user namespace is set up by its maker");
        write("gid_map", format!("0 {group} 1")).expect("a user namespace is set up by its maker");
    }
    let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
    let nothing: Option<&str> = None;
    nix::mount::mount(nothing, "/", nothing, private, nothing).expect("mounts can be kept from spreading");
}
