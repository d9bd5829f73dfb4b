//! 1.1: files of the control plane: who may read and change them.

use std::path::Path;

use super::facts::{Facts, File};
use super::{Check, Decided, Group, Offender, fail_on, not_applicable};

const NO_POD: &str = "the control plane is one process and no pods: there is no such file";
const NO_KUBECONFIG: &str = "this component runs within the server and has no credentials in a file";

fn no_pod(_: &Facts) -> Decided {
    not_applicable(NO_POD)
}

fn no_kubeconfig(_: &Facts) -> Decided {
    not_applicable(NO_KUBECONFIG)
}

pub static GROUP: Group = Group {
    id: "1.1",
    title: "Control plane files",
    checks: &[
        Check { id: "1.1.1", title: "Mode of the API server's pod manifest", decide: no_pod },
        Check { id: "1.1.2", title: "Owner of the API server's pod manifest", decide: no_pod },
        Check { id: "1.1.3", title: "Mode of the controller manager's pod manifest", decide: no_pod },
        Check { id: "1.1.4", title: "Owner of the controller manager's pod manifest", decide: no_pod },
        Check { id: "1.1.5", title: "Mode of the scheduler's pod manifest", decide: no_pod },
        Check { id: "1.1.6", title: "Owner of the scheduler's pod manifest", decide: no_pod },
        Check { id: "1.1.7", title: "Mode of the store's pod manifest", decide: no_pod },
        Check { id: "1.1.8", title: "Owner of the store's pod manifest", decide: no_pod },
        Check { id: "1.1.9", title: "Files of the pod network are their owner's alone", decide: cni_modes },
        Check { id: "1.1.10", title: "Files of the pod network are root's", decide: cni_owners },
        Check { id: "1.1.11", title: "The store's folder is its owner's alone", decide: store_modes },
        Check { id: "1.1.12", title: "The store's folder is root's", decide: store_owners },
        Check { id: "1.1.13", title: "The admin's kubeconfig is its owner's alone", decide: admin_mode },
        Check { id: "1.1.14", title: "The admin's kubeconfig is root's", decide: admin_owner },
        Check { id: "1.1.15", title: "Mode of the scheduler's kubeconfig", decide: no_kubeconfig },
        Check { id: "1.1.16", title: "Owner of the scheduler's kubeconfig", decide: no_kubeconfig },
        Check { id: "1.1.17", title: "Mode of the controller manager's kubeconfig", decide: no_kubeconfig },
        Check { id: "1.1.18", title: "Owner of the controller manager's kubeconfig", decide: no_kubeconfig },
        Check { id: "1.1.19", title: "Keys and certificates are root's", decide: pki_owners },
        Check { id: "1.1.20", title: "Only their owner may change certificates", decide: certificate_modes },
        Check { id: "1.1.21", title: "Keys are their owner's alone", decide: key_modes },
    ],
};

/// A file or folder that more may do with than `most` allows (folders: than 700).
pub fn loose(file: &File, most: u32) -> Option<Offender> {
    let most = if file.folder { 0o700 } else { most };
    (file.mode & !most & 0o777 != 0).then(|| {
        let path = file.path.display();
        (format!("{path} has mode {:03o}", file.mode & 0o777), format!("chmod {most:03o} {path}"))
    })
}

/// A file or folder that is somebody else's.
pub fn foreign(facts: &Facts, file: &File) -> Option<Offender> {
    let own = facts.owners[1];
    let group_is_own = file.gid == 0 || own != 0;
    (!facts.owners.contains(&file.uid) || !group_is_own).then(|| {
        let path = file.path.display();
        (format!("{path} belongs to {}:{}", file.uid, file.gid), format!("chown {own}:{own} {path}"))
    })
}

fn modes(facts: &Facts, path: &Path, most: u32, seen: &str) -> Decided {
    let found = facts.below(path)?;
    fail_on(found.into_iter().filter_map(|file| loose(file, most)).collect(), seen)
}

fn owners(facts: &Facts, path: &Path) -> Decided {
    let found = facts.below(path)?;
    fail_on(found.into_iter().filter_map(|file| foreign(facts, file)).collect(), "nobody else's")
}

fn cni_modes(facts: &Facts) -> Decided {
    let path = facts.data_dir.join("cni/net.d");
    if facts.below(&path)?.is_empty() {
        return not_applicable("no node runs here, so there is no pod network");
    }
    modes(facts, &path, 0o600, "600, folders 700")
}

fn cni_owners(facts: &Facts) -> Decided {
    let path = facts.data_dir.join("cni/net.d");
    if facts.below(&path)?.is_empty() {
        return not_applicable("no node runs here, so there is no pod network");
    }
    owners(facts, &path)
}

/// The folder alone: nobody else gets at what is in it.
fn store_modes(facts: &Facts) -> Decided {
    let path = facts.data_dir.join("store");
    let found = facts.below(&path)?;
    fail_on(found.into_iter().filter(|file| file.path == path).filter_map(|file| loose(file, 0o700)).collect(), "700")
}

fn store_owners(facts: &Facts) -> Decided {
    owners(facts, &facts.data_dir.join("store"))
}

fn admin_mode(facts: &Facts) -> Decided {
    modes(facts, &facts.data_dir.join("admin.kubeconfig"), 0o600, "600")
}

fn admin_owner(facts: &Facts) -> Decided {
    owners(facts, &facts.data_dir.join("admin.kubeconfig"))
}

fn pki_owners(facts: &Facts) -> Decided {
    owners(facts, &facts.data_dir.join("pki"))
}

/// Files with that ending in `pki`, and their modes.
fn pki_modes(facts: &Facts, wanted: impl Fn(&str) -> bool, most: u32, seen: &str) -> Decided {
    let found = facts.below(&facts.data_dir.join("pki"))?;
    let ending = |file: &File| file.path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_owned();
    let offenders = found.into_iter().filter(|file| file.folder || wanted(&ending(file)));
    fail_on(offenders.filter_map(|file| loose(file, most)).collect(), seen)
}

fn certificate_modes(facts: &Facts) -> Decided {
    pki_modes(facts, |ending| ending == "crt", 0o644, "644 at most")
}

/// Whatever is no certificate and no public key may be a secret.
fn key_modes(facts: &Facts) -> Decided {
    pki_modes(facts, |ending| !matches!(ending, "crt" | "pub"), 0o600, "600")
}
