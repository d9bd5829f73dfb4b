//! What the machine is and how full it is: read from `/proc`, `/sys` and `/etc`. Blocking.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use api::Quantity;
use api::core::v1::NodeSystemInfo;
use api::quantity::{Amount, Format};

/// Memory that has to be left for the node to be well, bytes (upstream's `memory.available<100Mi`).
const MEMORY_AVAILABLE_BYTES_MIN: u64 = 100 << 20;
/// The part of the disk that has to be left, percent. Upstream's 10 is for large disks.
const DISK_AVAILABLE_PERCENT_MIN: u64 = 5;
/// The part of the process ids that has to be left, percent.
const PID_AVAILABLE_PERCENT_MIN: u64 = 10;

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pid: bool,
}

/// A line of `/proc/meminfo`, bytes.
fn memory_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// What there is too little of now. What cannot be read is taken to be enough.
pub fn pressure(data_dir: &Path) -> Pressure {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory_field(&meminfo, "MemAvailable").is_some_and(|bytes| bytes < MEMORY_AVAILABLE_BYTES_MIN);
    let disk = rustix::fs::statvfs(data_dir)
        .is_ok_and(|s| s.f_blocks > 0 && s.f_bavail * 100 / s.f_blocks < DISK_AVAILABLE_PERCENT_MIN);
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let tasks = fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split_whitespace().nth(3)?.split_once('/')?.1.parse::<u64>().ok());
    let pid = match (number("/proc/sys/kernel/pid_max"), tasks) {
        (Some(max), Some(tasks)) if max > 0 => max.saturating_sub(tasks) * 100 / max < PID_AVAILABLE_PERCENT_MIN,
        _ => false,
    };
    Pressure { memory, disk, pid }
}

/// What the node has, and what of that pods may use.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    pub capacity: BTreeMap<String, Quantity>,
    pub allocatable: BTreeMap<String, Quantity>,
    pub memory_bytes: i64,
}

fn binary(bytes: u64) -> Quantity {
    Amount::new(i64::try_from(bytes).unwrap_or(i64::MAX), Format::BinarySi).to_quantity()
}

fn decimal(units: u64) -> Quantity {
    Amount::new(i64::try_from(units).unwrap_or(i64::MAX), Format::DecimalSi).to_quantity()
}

/// Reads the node's resources.
pub fn resources(data_dir: &Path, pods_max: u32) -> Resources {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory_field(&meminfo, "MemTotal").unwrap_or(0);
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let disk = rustix::fs::statvfs(data_dir).map_or(0, |s| s.f_blocks * s.f_frsize);
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), decimal(cpus)),
        ("memory".to_owned(), binary(memory)),
        ("pods".to_owned(), decimal(u64::from(pods_max))),
        ("ephemeral-storage".to_owned(), binary(disk)),
    ]);
    let mut reserved = 0;
    for (size, name) in hugepage_sizes() {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages", size / 1024);
        let pages: u64 = fs::read_to_string(path).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        reserved += pages * size;
        capacity.insert(name, binary(pages * size));
    }
    let mut allocatable = capacity.clone();
    let usable = memory.saturating_sub(MEMORY_AVAILABLE_BYTES_MIN).saturating_sub(reserved);
    allocatable.insert("memory".to_owned(), binary(usable));
    allocatable.insert("ephemeral-storage".to_owned(), decimal(disk / 100 * (100 - DISK_AVAILABLE_PERCENT_MIN)));
    Resources { capacity, allocatable, memory_bytes: i64::try_from(memory).unwrap_or(i64::MAX) }
}

/// Sizes of huge pages in bytes, with the resource's name.
fn hugepage_sizes() -> Vec<(u64, String)> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let kilobytes: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            Some((kilobytes * 1024, format!("hugepages-{}", binary(kilobytes * 1024).0)))
        })
        .collect()
}

/// Go's name of this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// `PRETTY_NAME` of an `os-release`.
fn os_image(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or("Linux", |value| value.trim().trim_matches('"')).to_owned()
}

/// What kind of system this is.
pub fn system_info(kubelet_version: &str, runtime: &str) -> NodeSystemInfo {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let machine_id = Some(read("/etc/machine-id")).filter(|id| !id.is_empty());
    let uuid = Some(read("/sys/class/dmi/id/product_uuid")).filter(|id| !id.is_empty());
    let machine_id = machine_id.unwrap_or_else(|| uuid.clone().unwrap_or_default());
    NodeSystemInfo {
        architecture: architecture().into(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime.to_owned(),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: kubelet_version.to_owned(),
        system_uuid: uuid.unwrap_or_else(|| machine_id.clone()),
        machine_id,
        operating_system: "linux".into(),
        os_image: os_image(&read("/etc/os-release")),
        ..Default::default()
    }
}

/// Whether AppArmor is enabled in the kernel.
pub fn has_apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_files() {
        let text = "MemTotal:       16000 kB\nMemFree: 1 kB\nMemAvailable:    8000 kB\n";
        assert_eq!(memory_field(text, "MemAvailable"), Some(8000 * 1024));
        assert_eq!(memory_field(text, "Mem"), None);
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
    }

    #[test]
    fn less_is_allocatable_than_there_is() {
        let resources = resources(Path::new("/"), 110);
        assert!(resources.memory_bytes > 0);
        assert_eq!(resources.capacity["pods"].0, "110");
        assert_ne!(resources.capacity["memory"], resources.allocatable["memory"]);
    }
}
