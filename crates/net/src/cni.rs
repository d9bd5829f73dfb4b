//! The pod network of one node: a bridge, addresses from the node's range, and the configuration with which a container
//! runtime hangs pods on it through the standard CNI plugins.
//!
//! Masquerading and host ports are not here: the service proxy's table does them, so iptables is not needed.

pub mod plugins;

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::links::{self, Bridge, Bridged};
use crate::{Cidr, Error, Family, Result, names};

/// Where Debian's package `containernetworking-plugins` puts them, and where upstream's archives are unpacked.
pub const BIN_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// The plugins a pod's network is made with.
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// Settings of the node's pod network.
#[derive(Debug, Clone)]
pub struct Options {
    /// The instance's name: names the bridge and the file.
    pub instance: String,
    /// The node's part of the cluster's pod addresses, one range per family.
    pub pod_cidrs: Vec<Cidr>,
    /// The addresses of all pods of the cluster.
    pub cluster_cidrs: Vec<Cidr>,
    /// The runtime's CNI configuration directory, e.g. `/etc/cni/net.d`.
    pub conf_dir: PathBuf,
    /// Where the plugins are looked for, in order.
    pub bin_dirs: Vec<PathBuf>,
    /// Where address leases are kept; survives a restart of Pintle.
    pub lease_dir: PathBuf,
    /// The largest packet on the pod network, bytes; `None`: the kernel's default.
    pub mtu_bytes: Option<u32>,
}

/// The CNI network configuration list (CNI specification 1.0.0). Pure.
pub fn conflist(options: &Options) -> Value {
    let ranges: Vec<Value> = options.pod_cidrs.iter().map(|cidr| json!([{"subnet": cidr.to_string()}])).collect();
    let has = |family| options.pod_cidrs.iter().any(|cidr| cidr.family() == family);
    let mut routes = Vec::new();
    if has(Family::V4) {
        routes.push(json!({"dst": "0.0.0.0/0"}));
    }
    if has(Family::V6) {
        routes.push(json!({"dst": "::/0"}));
    }
    let mut bridge = json!({
        "type": "bridge",
        "bridge": names::bridge(&options.instance),
        "isGateway": true,
        "hairpinMode": true,
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "ranges": ranges,
            "routes": routes,
            "dataDir": options.lease_dir,
        },
    });
    if let Some(mtu) = options.mtu_bytes {
        bridge["mtu"] = mtu.into();
    }
    json!({"cniVersion": "1.0.0", "name": names::network(&options.instance), "plugins": [bridge]})
}

/// Makes the node ready for pods: checks the plugins, sets the kernel's switches, makes the bridge, and last writes the
/// configuration, whose presence tells the runtime that the network is ready. Says whether netfilter sees what pods of
/// the node send each other. May be called again at any time.
pub async fn setup(options: &Options) -> Result<Bridged> {
    check_plugins(&options.bin_dirs)?;
    if options.pod_cidrs.is_empty() {
        return Err(Error::Invalid("the node has no pod CIDR yet".into()));
    }
    set_kernel_switches(&options.pod_cidrs)?;
    let mut gateways = Vec::new();
    for cidr in &options.pod_cidrs {
        let gateway = cidr.nth(1).filter(|_| cidr.nth(2).is_some());
        let gateway = gateway.ok_or_else(|| Error::Invalid(format!("the pod CIDR {cidr} has no room for pods")))?;
        gateways.push((gateway, cidr.prefix_len()));
    }
    let name = names::bridge(&options.instance);
    let bridge = Bridge { name: &name, addresses: &gateways, mtu_bytes: options.mtu_bytes };
    let bridged = links::ensure_bridge(&bridge).await?;
    links::ensure_unreachable(&options.cluster_cidrs, names::route_metric(&options.instance)).await?;
    write_conflist(options)?;
    Ok(bridged)
}

/// Removes the configuration, the bridge with everything on it, and the routes. Fine if there is nothing.
pub async fn cleanup(instance: &str, conf_dir: &Path) -> Result<()> {
    let file = conf_dir.join(names::conflist_file(instance));
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io(format!("removing {}", file.display()))(error));
        }
        _ => {}
    }
    links::remove_with_ports(&names::bridge(instance)).await?;
    links::remove_routes(names::route_metric(instance)).await
}

/// Finds every plugin in one of `dirs`; the first missing one is an error that says what to install.
pub fn check_plugins(dirs: &[PathBuf]) -> Result<()> {
    for plugin in PLUGINS {
        find_plugin(dirs, plugin)?;
    }
    Ok(())
}

fn find_plugin(dirs: &[PathBuf], plugin: &str) -> Result<PathBuf> {
    dirs.iter().map(|dir| dir.join(plugin)).find(|path| path.is_file()).ok_or_else(|| Error::Missing {
        what: format!("the CNI plugin {plugin:?}"),
        path: dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", "),
        hint: "install the package containernetworking-plugins".into(),
    })
}

fn set_kernel_switches(pod_cidrs: &[Cidr]) -> Result<()> {
    let has = |family| pod_cidrs.iter().any(|cidr| cidr.family() == family);
    if has(Family::V4) {
        links::sysctl("net/ipv4/ip_forward", "1")?;
    }
    if has(Family::V6) {
        links::sysctl("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

fn write_conflist(options: &Options) -> Result<()> {
    let dir = &options.conf_dir;
    let file = dir.join(names::conflist_file(&options.instance));
    let text = format!("{:#}\n", conflist(options));
    if std::fs::read_to_string(&file).is_ok_and(|known| known == text) {
        return Ok(());
    }
    // A runtime reads the directory at any moment: the file appears whole or not at all. Its name must not end like
    // a configuration's.
    let partial = dir.join(format!(".{}.partial", names::conflist_file(&options.instance)));
    let write = || {
        // The runtime runs as root, and nobody else has business with it.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        std::fs::create_dir_all(&options.lease_dir)?;
        let mut out = std::fs::OpenOptions::new();
        let mut out = out.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        out.write_all(text.as_bytes())?;
        drop(out);
        std::fs::rename(&partial, &file)
    };
    write().map_err(Error::io(format!("writing {}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pod_cidrs: &[&str]) -> Options {
        Options {
            instance: "pintle".into(),
            pod_cidrs: pod_cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
            conf_dir: "/nowhere".into(),
            bin_dirs: vec!["/nowhere".into()],
            lease_dir: "/var/lib/pintle/cni".into(),
            mtu_bytes: None,
        }
    }

    #[test]
    fn the_configuration_names_bridge_range_and_route() {
        assert_eq!(
            conflist(&options(&["10.42.3.0/24"])),
            json!({"cniVersion": "1.0.0", "name": "pintle", "plugins": [{
                "type": "bridge", "bridge": "pintle0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.42.3.0/24"}]],
                         "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/var/lib/pintle/cni"}}]})
        );
        let mut dual = options(&["10.42.3.0/24", "fd42:0:0:3::/64"]);
        dual.mtu_bytes = Some(1400);
        let dual = conflist(&dual);
        assert_eq!(dual["plugins"][0]["ipam"]["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
        assert_eq!(dual["plugins"][0]["mtu"], 1400);
    }

    #[test]
    fn a_missing_plugin_is_named_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bridge"), "").unwrap();
        let error = check_plugins(&[dir.path().into()]).unwrap_err().to_string();
        assert!(error.starts_with("the CNI plugin \"host-local\" not found at "), "{error}");
        assert!(error.ends_with("install the package containernetworking-plugins"), "{error}");
    }

    #[tokio::test]
    async fn a_node_without_a_range_is_not_set_up() {
        let dir = tempfile::tempdir().unwrap();
        for plugin in PLUGINS {
            std::fs::write(dir.path().join(plugin), "").unwrap();
        }
        let mut options = options(&[]);
        options.bin_dirs = vec![dir.path().into()];
        assert!(matches!(setup(&options).await, Err(Error::Invalid(_))));
    }
}
