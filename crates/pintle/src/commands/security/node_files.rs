//! 4.1: files of a node.

use super::control_plane_files::{foreign, loose};
use super::facts::Facts;
use super::{Check, Decided, Group, fail_on, not_applicable};

fn no_service(_: &Facts) -> Decided {
    not_applicable("the node agent is part of the server's process: there is no service file of its own")
}

fn no_proxy(_: &Facts) -> Decided {
    not_applicable("the service proxy is part of the server's process and has no credentials in a file")
}

fn no_kubeconfig(_: &Facts) -> Decided {
    not_applicable("the node agent is part of the server's process and has no credentials in a file")
}

pub static GROUP: Group = Group {
    id: "4.1",
    title: "Node files",
    checks: &[
        Check { id: "4.1.1", title: "Mode of the kubelet's service file", decide: no_service },
        Check { id: "4.1.2", title: "Owner of the kubelet's service file", decide: no_service },
        Check { id: "4.1.3", title: "Mode of the service proxy's kubeconfig", decide: no_proxy },
        Check { id: "4.1.4", title: "Owner of the service proxy's kubeconfig", decide: no_proxy },
        Check { id: "4.1.5", title: "Mode of the kubelet's kubeconfig", decide: no_kubeconfig },
        Check { id: "4.1.6", title: "Owner of the kubelet's kubeconfig", decide: no_kubeconfig },
        Check { id: "4.1.7", title: "Only its owner may change the CA that clients are checked by", decide: ca_mode },
        Check { id: "4.1.8", title: "The CA that clients are checked by is root's", decide: ca_owner },
        Check { id: "4.1.9", title: "The configuration file is its owner's alone", decide: config_mode },
        Check { id: "4.1.10", title: "The configuration file is root's", decide: config_owner },
    ],
};

fn ca_mode(facts: &Facts) -> Decided {
    let found = facts.below(&facts.data_dir.join("pki/ca.crt"))?;
    fail_on(found.into_iter().filter_map(|file| loose(file, 0o644)).collect(), "644 at most")
}

fn ca_owner(facts: &Facts) -> Decided {
    let found = facts.below(&facts.data_dir.join("pki/ca.crt"))?;
    fail_on(found.into_iter().filter_map(|file| foreign(facts, file)).collect(), "nobody else's")
}

const NO_CONFIG: &str = "the server was started without --config";

fn config_mode(facts: &Facts) -> Decided {
    // Without the server's flags nobody knows whether there is one.
    facts.flag("config")?;
    let Some(file) = &facts.config_file else { return not_applicable(NO_CONFIG) };
    let file = file.as_ref().map_err(Clone::clone)?;
    fail_on(loose(file, 0o600).into_iter().collect(), "600")
}

fn config_owner(facts: &Facts) -> Decided {
    facts.flag("config")?;
    let Some(file) = &facts.config_file else { return not_applicable(NO_CONFIG) };
    let file = file.as_ref().map_err(Clone::clone)?;
    fail_on(foreign(facts, file).into_iter().collect(), "nobody else's")
}
