//! The node's cgroups: a tree of its own with one cgroup per pod, on cgroup v1 and v2.
//!
//! `/<instance>/pod<uid>` for guaranteed pods, `/<instance>/burstable/pod<uid>` and `/<instance>/besteffort/pod<uid>`
//! for the others; the runtime puts the pod's containers below. What the kernel does not offer is left out and said
//! once in the log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use api::Object;
use api::core::v1::Pod;

use crate::config::linux::{PERIOD_MICROS, PodLimits, SHARES_MIN, pod_limits};
use crate::pod::{self, QosClass};

/// Which interface the kernel's cgroups have here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchy {
    /// One tree at this mount point.
    Unified(PathBuf),
    /// A tree per controller (or group of them): controller names and mount point.
    Legacy(Vec<(Vec<String>, PathBuf)>),
}

/// The node's part of the cgroup tree.
#[derive(Debug, Clone)]
pub struct Cgroups {
    hierarchy: Hierarchy,
    /// Every mounted hierarchy, also those without controllers: runtimes put processes into all of them.
    roots: Vec<PathBuf>,
    instance: String,
    /// Processes and threads that one pod may have; `None`: as many as all pods together.
    pod_pids_max: Option<u32>,
}

/// Controllers in which pods get limits.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "cpuset"];

impl Cgroups {
    /// Finds the hierarchies in a mount table (`/proc/self/mounts`). The tree is named after `instance`.
    pub fn find(mounts: &str, instance: &str) -> Option<Self> {
        let mut legacy = Vec::new();
        let mut unified = None;
        let mut roots = Vec::new();
        for line in mounts.lines() {
            let mut words = line.split_whitespace();
            let (_, Some(point), Some(kind), Some(options)) = (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            if matches!(kind, "cgroup" | "cgroup2") {
                roots.push(PathBuf::from(point));
            }
            match kind {
                "cgroup2" if unified.is_none() => unified = Some(PathBuf::from(point)),
                "cgroup" => {
                    let own = options.split(',').filter(|o| !matches!(*o, "rw" | "ro" | "xattr")).map(str::to_owned);
                    let names: Vec<String> = own.filter(|o| !o.contains('=')).collect();
                    if names.iter().any(|n| !matches!(n.as_str(), "nosuid" | "nodev" | "noexec" | "relatime")) {
                        legacy.push((names, PathBuf::from(point)));
                    }
                }
                _ => {}
            }
        }
        let has_memory = legacy.iter().any(|(names, _)| names.iter().any(|n| n == "memory" || n == "cpu"));
        let hierarchy = match (has_memory, unified) {
            (true, _) => Hierarchy::Legacy(legacy),
            (false, Some(point)) => Hierarchy::Unified(point),
            (false, None) => return None,
        };
        Some(Self { hierarchy, roots, instance: instance.to_owned(), pod_pids_max: None })
    }

    /// The same tree, in which a pod may have so many processes and threads (upstream: `podPidsLimit`).
    pub fn with_pod_pids_max(self, pod_pids_max: Option<u32>) -> Self {
        Self { pod_pids_max, ..self }
    }

    /// The cgroup of a quality-of-service class, from the root.
    fn class_path(&self, class: QosClass) -> String {
        match class {
            QosClass::Guaranteed => format!("/{}", self.instance),
            QosClass::Burstable => format!("/{}/burstable", self.instance),
            QosClass::BestEffort => format!("/{}/besteffort", self.instance),
        }
    }

    /// The pod's cgroup, from the root: what the runtime is given as the sandbox's parent.
    pub fn pod_path(&self, p: &Pod) -> String {
        format!("{}/pod{}", self.class_path(pod::qos_class(p)), p.uid())
    }

    /// Makes the tree's upper part. Blocking.
    pub fn prepare(&self) {
        self.make(&self.class_path(QosClass::Guaranteed));
        for class in [QosClass::Burstable, QosClass::BestEffort] {
            self.make(&self.class_path(class));
        }
        self.write(&self.class_path(QosClass::BestEffort), "cpu", &cpu_weight(&self.hierarchy, SHARES_MIN));
        if let Some(limit) = processes_max() {
            self.write(&self.class_path(QosClass::Guaranteed), "pids", &[("pids.max", limit.to_string())]);
        }
    }

    /// Makes a pod's cgroup with its limits. Blocking; failures are logged, the pod runs without them.
    pub fn create_pod(&self, p: &Pod) {
        self.make(&self.pod_path(p));
        self.limit_pod(p);
    }

    /// Sets a pod's limits. Blocking; failures are logged.
    pub fn limit_pod(&self, p: &Pod) {
        let path = self.pod_path(p);
        let PodLimits { cpu_shares, cpu_quota_micros, memory_bytes } = pod_limits(p);
        self.write(&path, "cpu", &cpu_weight(&self.hierarchy, cpu_shares));
        let pids_max = self.pod_pids_max.map_or_else(|| "max".to_owned(), |max| max.to_string());
        self.write(&path, "pids", &[("pids.max", pids_max)]);
        match &self.hierarchy {
            Hierarchy::Unified(_) => {
                if cpu_quota_micros > 0 {
                    self.write(&path, "cpu", &[("cpu.max", format!("{cpu_quota_micros} {PERIOD_MICROS}"))]);
                }
                if memory_bytes > 0 {
                    self.write(&path, "memory", &[("memory.max", memory_bytes.to_string())]);
                }
            }
            Hierarchy::Legacy(_) => {
                if cpu_quota_micros > 0 {
                    let values = [
                        ("cpu.cfs_period_us", PERIOD_MICROS.to_string()),
                        ("cpu.cfs_quota_us", cpu_quota_micros.to_string()),
                    ];
                    self.write(&path, "cpu", &values);
                }
                if memory_bytes > 0 {
                    self.write(&path, "memory", &[("memory.limit_in_bytes", memory_bytes.to_string())]);
                }
            }
        }
    }

    /// Whether the pod's cgroup has less room than its limits say. Blocking.
    pub fn is_below(&self, p: &Pod) -> bool {
        let path = self.pod_path(p);
        let limits = pod_limits(p);
        let (root, cpu, memory) = match &self.hierarchy {
            Hierarchy::Unified(root) => ((root, root), "cpu.max", "memory.max"),
            Hierarchy::Legacy(all) => {
                let of = |name: &str| all.iter().find(|(names, _)| names.iter().any(|n| n == name)).map(|(_, r)| r);
                let (Some(cpu), Some(memory)) = (of("cpu"), of("memory")) else { return false };
                ((cpu, memory), "cpu.cfs_quota_us", "memory.limit_in_bytes")
            }
        };
        let read = |root: &Path, file: &str| {
            let text = std::fs::read_to_string(join(root, &path).join(file)).unwrap_or_default();
            text.split_whitespace().next().and_then(|word| word.parse::<i64>().ok()).filter(|value| *value >= 0)
        };
        let less = |now: Option<i64>, wanted: i64| now.is_some_and(|now| wanted == 0 || now < wanted);
        less(read(root.0, cpu), limits.cpu_quota_micros) || less(read(root.1, memory), limits.memory_bytes)
    }

    /// Removes a pod's cgroups, whatever class it was in. Blocking.
    pub fn remove_pod(&self, uid: &str) {
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let path = format!("{}/pod{uid}", self.class_path(class));
            for root in &self.roots {
                remove_tree(&join(root, &path));
            }
        }
    }

    /// Removes the whole tree of the instance, in every hierarchy.
    pub fn remove(&self) {
        for root in &self.roots {
            remove_tree(&root.join(&self.instance));
        }
    }

    /// The uids of pods that have a cgroup. Blocking.
    pub fn pods(&self) -> BTreeSet<String> {
        let mut uids = BTreeSet::new();
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            for root in &self.roots {
                let Ok(entries) = std::fs::read_dir(join(root, &self.class_path(class))) else { continue };
                for entry in entries.flatten() {
                    let name = entry.file_name();
                    uids.extend(name.to_string_lossy().strip_prefix("pod").map(str::to_owned));
                }
            }
        }
        uids
    }

    fn make(&self, path: &str) {
        match &self.hierarchy {
            Hierarchy::Unified(root) => {
                // Controllers are handed down one level at a time.
                let mut at = root.clone();
                let offered = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
                for part in path.trim_start_matches('/').split('/') {
                    for controller in CONTROLLERS.iter().filter(|c| offered.split_whitespace().any(|o| o == **c)) {
                        if let Err(error) = std::fs::write(at.join("cgroup.subtree_control"), format!("+{controller}"))
                        {
                            tracing::debug!(%error, controller, at = %at.display(), "a controller is not handed down");
                        }
                    }
                    at.push(part);
                    if let Err(error) = std::fs::create_dir_all(&at) {
                        tracing::warn!(%error, path = %at.display(), "a cgroup cannot be made");
                        return;
                    }
                }
            }
            Hierarchy::Legacy(all) => {
                for (names, root) in all {
                    if !names.iter().any(|n| matches!(n.as_str(), "cpu" | "memory" | "pids")) {
                        continue;
                    }
                    if let Err(error) = std::fs::create_dir_all(join(root, path)) {
                        tracing::warn!(%error, root = %root.display(), path, "a cgroup cannot be made");
                    }
                }
            }
        }
    }

    fn write(&self, path: &str, controller: &str, values: &[(&str, String)]) {
        let root = match &self.hierarchy {
            Hierarchy::Unified(root) => root,
            Hierarchy::Legacy(all) => match all.iter().find(|(names, _)| names.iter().any(|n| n == controller)) {
                Some((_, root)) => root,
                None => {
                    tracing::warn!(controller, "the kernel has no such controller: pods run without its limits");
                    return;
                }
            },
        };
        for (file, value) in values {
            let file = join(root, path).join(file);
            if let Err(error) = std::fs::write(&file, value) {
                tracing::warn!(%error, file = %file.display(), value, "a limit cannot be set");
            }
        }
    }
}

/// How many processes all pods together may have: what the kernel can number, less a tenth, so that a pod that does
/// nothing but fork leaves the host's own programs some.
fn processes_max() -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?.trim().parse().ok();
    let all: u64 = ["pid_max", "threads-max"].into_iter().filter_map(read).min()?;
    Some(all - all / 10)
}

fn join(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Cpu shares as this hierarchy spells them.
fn cpu_weight(hierarchy: &Hierarchy, shares: i64) -> Vec<(&'static str, String)> {
    match hierarchy {
        Hierarchy::Legacy(_) => vec![("cpu.shares", shares.to_string())],
        // The range 2..262144 onto 1..10000, as runtimes do.
        Hierarchy::Unified(_) => vec![("cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string())],
    }
}

/// Removes a cgroup and those below it, the deepest first.
fn remove_tree(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    if let Err(error) = std::fs::remove_dir(path) {
        tracing::debug!(%error, path = %path.display(), "a cgroup cannot be removed yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    const HYBRID: &str = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
        cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n\
        cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
        cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n";

    #[test]
    fn hybrid_is_legacy_and_paths_follow_quality() {
        let cgroups = Cgroups::find(HYBRID, "pintle").unwrap();
        let Hierarchy::Legacy(all) = &cgroups.hierarchy else { panic!("{cgroups:?}") };
        assert_eq!((all.len(), cgroups.roots.len()), (2, 4));
        let p = Pod::decode(br#"{"metadata":{"uid":"u"},"spec":{"containers":[{"name":"a"}]}}"#).unwrap();
        assert_eq!(cgroups.pod_path(&p), "/pintle/besteffort/podu");
        let v2 = Cgroups::find("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "x").unwrap();
        assert_eq!(v2.hierarchy, Hierarchy::Unified("/sys/fs/cgroup".into()));
        assert!(Cgroups::find("", "x").is_none());
    }

    #[test]
    fn all_pods_together_leave_the_host_some_processes() {
        let dir = tempfile::tempdir().unwrap();
        let mounts =
            format!("cgroup {0}/cpu cgroup rw,cpu 0 0\ncgroup {0}/pids cgroup rw,pids 0 0\n", dir.path().display());
        Cgroups::find(&mounts, "pintle").unwrap().prepare();
        let limit: u64 = std::fs::read_to_string(dir.path().join("pids/pintle/pids.max")).unwrap().parse().unwrap();
        let all: u64 = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
        assert!(limit > 0 && limit <= all - all / 10, "{limit} of {all}");
    }

    #[test]
    fn a_pod_gets_its_limits_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = ["cpu", "memory", "pids"]
            .map(|name| format!("cgroup {0}/{name} cgroup rw,{name} 0 0\n", dir.path().display()))
            .concat();
        let cgroups = Cgroups::find(&mounts, "pintle").unwrap();
        let p = Pod::decode(
            br#"{"metadata":{"uid":"u"},"spec":{"containers":[{"name":"a","resources":
                {"requests":{"cpu":"1"},"limits":{"memory":"1Mi"}}}]}}"#,
        )
        .unwrap();
        cgroups.create_pod(&p);
        let at = dir.path().join("memory/pintle/burstable/podu");
        assert_eq!(std::fs::read_to_string(at.join("memory.limit_in_bytes")).unwrap(), "1048576");
        let pids = dir.path().join("pids/pintle/burstable/podu/pids.max");
        assert_eq!(std::fs::read_to_string(&pids).unwrap(), "max");
        cgroups.clone().with_pod_pids_max(Some(64)).limit_pod(&p);
        assert_eq!(std::fs::read_to_string(&pids).unwrap(), "64");
        assert_eq!(cgroups.pods(), BTreeSet::from(["u".to_owned()]));
        // On a plain file system the knobs are files and stay in the way.
        std::fs::remove_file(at.join("memory.limit_in_bytes")).unwrap();
        std::fs::remove_file(&pids).unwrap();
        cgroups.remove_pod("u");
        assert!(!at.exists());
    }
}
