//! What the fake runtime remembers. No behaviour beyond finding things.

use super::*;

/// Everything the fake runtime knows.
#[derive(Default)]
pub(super) struct State {
    pub sandboxes: BTreeMap<String, v1::PodSandboxStatus>,
    /// Where the sandboxes' containers write their logs.
    pub log_directories: BTreeMap<String, PathBuf>,
    pub containers: BTreeMap<String, Container>,
    /// The images on the node, by full name.
    pub images: BTreeSet<String>,
    /// The images that can be pulled, by full name.
    pub registry: BTreeSet<String>,
    pub registry_has_all: bool,
    pub programs: BTreeMap<String, Program>,
    pub execs: BTreeMap<Vec<String>, v1::ExecSyncResponse>,
    pub failures: BTreeMap<&'static str, VecDeque<Error>>,
    pub unavailable: bool,
    pub outage: Arc<Notify>,
    pub network_not_ready: bool,
    /// Sandboxes that start get no address.
    pub addressless: bool,
    /// The network's first address and how many were given out.
    pub pod_cidr: Option<std::net::Ipv4Addr>,
    pub addresses: u32,
    /// Counts container starts.
    pub runs: u64,
}

/// A container and what it will do.
pub(super) struct Container {
    pub sandbox_id: String,
    pub status: v1::ContainerStatus,
    pub program: Program,
    /// Which start this is.
    pub run: u64,
    /// Told when it ends.
    pub ended: Arc<Notify>,
    /// CPU in billionths of a core, memory in bytes.
    pub usage: (u64, u64),
}

/// The network of sandboxes before the node is told its own.
const DEFAULT_NETWORK: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 88, 0, 0);

impl State {
    /// The next address of the pod network; the first is the gateway's.
    pub fn next_address(&mut self) -> String {
        self.addresses += 1;
        let first = u32::from(self.pod_cidr.unwrap_or(DEFAULT_NETWORK));
        std::net::Ipv4Addr::from(first.wrapping_add(1 + self.addresses)).to_string()
    }

    /// The full name under which `image` (a name, or an id as [`image_id`] makes it) is on the node.
    pub fn find_image(&self, image: &str) -> Option<String> {
        let name = reference::normalize(image);
        if self.images.contains(&name) {
            return Some(name);
        }
        self.images.iter().find(|name| image_id(name) == image).cloned()
    }
}

/// The id of an image: made from its name.
pub(super) fn image_id(name: &str) -> String {
    use sha2::Digest;
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(name)))
}

/// An image as the runtime tells of it.
pub(super) fn image(name: &str) -> v1::Image {
    let id = image_id(name);
    let digest = format!("{}@{id}", reference::repository(name));
    let tags = if name.contains('@') { Vec::new() } else { vec![name.to_owned()] };
    v1::Image { id, repo_tags: tags, repo_digests: vec![digest], size: 1_000_000, ..Default::default() }
}
