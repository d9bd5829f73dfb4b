//! What a Pintle has put on this machine: to see that nothing of it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::run;

/// A process by its id and the time it started at, in ticks since boot: ids come again, these pairs do not.
pub type Processes = BTreeMap<(u32, u64), String>;

/// The processes in containers of an instance: those in its cgroups.
pub fn in_containers(instance: &str) -> Processes {
    processes(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines().any(|line| line.rsplit(':').next().is_some_and(|path| is_of(path, instance)))
    })
}

/// Whether a cgroup's path is an instance's: `/NAME/...`.
fn is_of(cgroup: &str, instance: &str) -> bool {
    cgroup.split('/').nth(1) == Some(instance)
}

/// The processes whose command line names the folder: the server, its containerd, the containers' shims.
pub fn naming(folder: &Path) -> Processes {
    let folder = format!("{}/", folder.display());
    processes(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&words).replace('\0', "/ ");
        text.contains(&folder)
    })
}

fn processes(which: impl Fn(u32) -> bool) -> Processes {
    let mut found = Processes::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() || !which(pid) {
            continue;
        }
        // Gone meanwhile, or a zombie nobody has waited for yet: not there.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = tail.split(' ').collect();
        if fields[0] == "Z" || fields[0] == "X" {
            continue;
        }
        let name = head.split_once('(').map_or("", |(_, name)| name);
        found.insert((pid, fields[19].parse().unwrap()), name.to_owned());
    }
    found
}

/// The named network namespaces that an instance's containers are in.
pub fn network_namespaces(instance: &str) -> Vec<PathBuf> {
    let inodes: BTreeSet<u64> = in_containers(instance)
        .keys()
        .filter_map(|(pid, _)| fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|found| found.ino()))
        .collect();
    let named = fs::read_dir("/run/netns").into_iter().flatten().flatten().map(|entry| entry.path());
    named.filter(|path| fs::metadata(path).is_ok_and(|found| inodes.contains(&found.ino()))).collect()
}

/// Everything of an instance and its folder that is still there, one line each.
pub fn all(instance: &str, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, processes) in [("container's process", in_containers(instance)), ("process", naming(folder))] {
        found.extend(processes.iter().map(|((pid, _), name)| format!("{kind} {pid} ({name})")));
    }
    let inside = format!(" {}/", folder.display());
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&inside)).map(|line| format!("mount {line}")));
    for name in fs::read_dir("/sys/class/net").unwrap().flatten() {
        let name = name.file_name().to_string_lossy().into_owned();
        if name.starts_with(instance) {
            found.push(format!("interface {name}"));
        }
    }
    let tables = run(Command::new("nft").args(["list", "tables"]), b"", 20).ok();
    let carries = |line: &&str| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == instance);
    found.extend(tables.lines().filter(carries).map(|line| format!("nftables {line}")));
    let mut cgroups = Vec::new();
    folders_named(Path::new("/sys/fs/cgroup"), instance, 3, &mut cgroups);
    found.extend(cgroups.iter().map(|path| format!("cgroup {}", path.display())));
    let routes = run(Command::new("ip").args(["route", "show", "table", "all"]), b"", 20).ok();
    found.extend(routes.lines().filter(|line| line.contains(&format!("dev {instance}"))).map(|l| format!("route {l}")));
    found
}

fn folders_named(root: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth > 0 {
            folders_named(&entry.path(), name, depth - 1, found);
        }
    }
}
