//! What the checks decide on, and how it is found out. Nothing here judges.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingWebhookConfiguration,
};
use api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use api::flowcontrol::v1::FlowSchema;
use api::networking::v1::NetworkPolicy;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use api::{Timestamp, Typed};
use base::Clock;
use client::{Client, ListOptions};
use serde_json::Value;

use super::audit_log::{self, User};
use super::authority::{self, Defaults};
use super::doors::{self, Doors};
use crate::layout::Layout;

/// What is known, or why it is not.
pub type Known<T> = Result<T, String>;

/// Files and folders looked at below the data dir.
const FILES_LEN_MAX: usize = 200_000;
/// The media type of the server's own words.
const FLAGZ: &str = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz";

/// A file or folder as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    pub folder: bool,
    /// The lower twelve bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Objects of the API.
pub struct Objects {
    pub cluster_roles: Known<Vec<Arc<ClusterRole>>>,
    pub cluster_role_bindings: Known<Vec<Arc<ClusterRoleBinding>>>,
    pub roles: Known<Vec<Arc<Role>>>,
    pub role_bindings: Known<Vec<Arc<RoleBinding>>>,
    pub namespaces: Known<Vec<Arc<Namespace>>>,
    pub service_accounts: Known<Vec<Arc<ServiceAccount>>>,
    pub pods: Known<Vec<Arc<Pod>>>,
    pub services: Known<Vec<Arc<Service>>>,
    pub network_policies: Known<Vec<Arc<NetworkPolicy>>>,
    pub nodes: Known<Vec<Arc<Node>>>,
    pub secrets: Known<Vec<SecretHead>>,
    pub root_cas: Known<Vec<Arc<ConfigMap>>>,
    pub flow_schemas: Known<usize>,
    /// Names of what acts on pods at admission beyond the built-in plugins.
    pub pod_admission: Known<Vec<String>>,
}

/// A Secret without its values; of a bootstrap token, what it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretHead {
    pub namespace: String,
    pub name: String,
    pub type_: String,
    /// Bootstrap tokens: may be used to authenticate.
    pub authenticates: bool,
    /// Bootstrap tokens: when it ends.
    pub expiration: Option<String>,
    /// Bootstrap tokens: groups beyond everybody's.
    pub extra_groups: Vec<String>,
}

/// All that is known of a cluster.
pub struct Facts {
    pub now: Timestamp,
    pub data_dir: PathBuf,
    /// Whose the files may be: root, and who asks.
    pub owners: [u32; 2],
    pub files: Known<Vec<File>>,
    /// The `--config` file of the server, if there is one.
    pub config_file: Option<Known<File>>,
    pub flags: Known<BTreeMap<String, String>>,
    pub doors: Doors,
    pub objects: Objects,
    pub defaults: Defaults,
    pub ca_pem: Known<String>,
    /// Who used the API lately.
    pub users: Known<Vec<User>>,
    /// How many processes all pods together may have, and the file that says so.
    pub process_limit: Known<(PathBuf, String)>,
}

impl Facts {
    /// A flag as the server says it holds.
    pub fn flag(&self, name: &str) -> Known<&str> {
        let flags = self.flags.as_ref().map_err(Clone::clone)?;
        let value = flags.get(name).map(String::as_str);
        value.ok_or_else(|| format!("the server does not say what {name} is"))
    }

    /// A flag that is a list.
    pub fn list(&self, name: &str) -> Known<Vec<&str>> {
        let text = self.flag(name)?;
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        Ok(inner.split(',').filter(|item| !item.is_empty()).collect())
    }

    /// The command that starts the server with a flag, in place of the same one if there is.
    pub fn server_with(&self, flag: &str) -> String {
        format!("pintle server --data-dir {} {flag}", self.data_dir.display())
    }

    /// The command that starts the server without a plugin's name in a flag.
    pub fn server_without(&self, flag: &str, plugin: &str) -> String {
        format!("pintle server --data-dir {} # without {plugin} in {flag}", self.data_dir.display())
    }

    /// Files at or below a path of the data dir.
    pub fn below(&self, path: &Path) -> Known<Vec<&File>> {
        let files = self.files.as_ref().map_err(Clone::clone)?;
        Ok(files.iter().filter(|file| file.path.starts_with(path)).collect())
    }

    /// Whether the server runs a node.
    pub fn has_node(&self) -> Known<bool> {
        Ok(self.flag("no-agent")? != "true")
    }
}

/// A borrowed view of what is known.
pub fn known<T>(what: &Known<T>) -> Known<&T> {
    what.as_ref().map_err(Clone::clone)
}

fn file(path: &Path) -> std::io::Result<File> {
    let metadata = std::fs::symlink_metadata(path)?;
    let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    Ok(File { path: path.to_owned(), folder: metadata.is_dir(), mode, uid, gid })
}

/// Everything below a folder but other file systems (volumes) and links.
fn files(root: &Path) -> Known<Vec<File>> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let device = std::fs::metadata(root).map_err(|error| failed(root, error))?.dev();
    let mut all = vec![file(root).map_err(|error| failed(root, error))?];
    let mut at = 0;
    while let Some(next) = all.get(at) {
        at += 1;
        if !next.folder {
            continue;
        }
        let folder = next.path.clone();
        for entry in std::fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
            let path = entry.map_err(|error| failed(&folder, error))?.path();
            // The store and the audit log make and remove files while one looks.
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            if metadata.dev() != device || metadata.is_symlink() {
                continue;
            }
            if let Ok(found) = file(&path) {
                all.push(found);
            }
            if all.len() > FILES_LEN_MAX {
                return Err(format!("more than {FILES_LEN_MAX} files in {}", root.display()));
            }
        }
    }
    Ok(all)
}

async fn listed<T: Typed>(client: &Client) -> Known<Vec<Arc<T>>> {
    let listed = client.list::<T>(&ListOptions::default()).await;
    listed.map(|listed| listed.items).map_err(|error| format!("listing {}: {error}", T::KIND.plural))
}

fn head(secret: &Secret) -> SecretHead {
    let text = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key))?;
        String::from_utf8(value.0.clone()).ok()
    };
    let mut head = SecretHead {
        namespace: secret.metadata.namespace.clone().unwrap_or_default(),
        name: secret.metadata.name.clone().unwrap_or_default(),
        type_: secret.type_.clone().unwrap_or_default(),
        ..SecretHead::default()
    };
    if head.type_ == "bootstrap.kubernetes.io/token" {
        head.authenticates = text("usage-bootstrap-authentication").as_deref() == Some("true");
        head.expiration = text("expiration");
        let groups = text("auth-extra-groups").unwrap_or_default();
        head.extra_groups = groups.split(',').filter(|group| !group.is_empty()).map(str::to_owned).collect();
    }
    head
}

/// What acts on pods beyond the built-in plugins.
async fn pod_admission(client: &Client) -> Known<Vec<String>> {
    let validating = listed::<ValidatingWebhookConfiguration>(client).await?;
    let mutating = listed::<MutatingWebhookConfiguration>(client).await?;
    let policies = listed::<ValidatingAdmissionPolicy>(client).await?;
    let bindings = listed::<ValidatingAdmissionPolicyBinding>(client).await?;
    let on_pods = |resources: Option<&[String]>| {
        resources.unwrap_or_default().iter().any(|one| matches!(one.as_str(), "pods" | "*" | "*/*"))
    };
    let mut names = Vec::new();
    for one in &validating {
        let mut rules = one.webhooks.iter().flatten().flat_map(|webhook| webhook.rules.iter().flatten());
        if rules.any(|rule| on_pods(rule.resources.as_deref())) {
            names.push(format!("ValidatingWebhookConfiguration {}", one.metadata.name.clone().unwrap_or_default()));
        }
    }
    for one in &mutating {
        let mut rules = one.webhooks.iter().flatten().flat_map(|webhook| webhook.rules.iter().flatten());
        if rules.any(|rule| on_pods(rule.resources.as_deref())) {
            names.push(format!("MutatingWebhookConfiguration {}", one.metadata.name.clone().unwrap_or_default()));
        }
    }
    for one in &policies {
        let name = one.metadata.name.clone().unwrap_or_default();
        let bound = bindings.iter().any(|binding| binding.spec.policy_name == name);
        let constraints = one.spec.as_ref().and_then(|spec| spec.match_constraints.as_ref());
        let rules = constraints.and_then(|constraints| constraints.resource_rules.as_deref()).unwrap_or_default();
        if bound && rules.iter().any(|rule| on_pods(rule.resources.as_deref())) {
            names.push(format!("ValidatingAdmissionPolicy {name}"));
        }
    }
    Ok(names)
}

async fn root_cas(client: &Client) -> Known<Vec<Arc<ConfigMap>>> {
    let field_selector = Some("metadata.name=kube-root-ca.crt".to_owned());
    let listed = client.list::<ConfigMap>(&ListOptions { field_selector, ..ListOptions::default() }).await;
    listed.map(|listed| listed.items).map_err(|error| format!("listing configmaps: {error}"))
}

async fn objects(client: &Client) -> Objects {
    let secrets = listed::<Secret>(client).await.map(|all| all.iter().map(|secret| head(secret)).collect());
    Objects {
        cluster_roles: listed(client).await,
        cluster_role_bindings: listed(client).await,
        roles: listed(client).await,
        role_bindings: listed(client).await,
        namespaces: listed(client).await,
        service_accounts: listed(client).await,
        pods: listed(client).await,
        services: listed(client).await,
        network_policies: listed(client).await,
        nodes: listed(client).await,
        secrets,
        root_cas: root_cas(client).await,
        flow_schemas: listed::<FlowSchema>(client).await.map(|all| all.len()),
        pod_admission: pod_admission(client).await,
    }
}

async fn flags(client: &Client) -> Known<BTreeMap<String, String>> {
    let text = client.document("/flagz", FLAGZ).await.map_err(|error| format!("/flagz: {error}"))?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| format!("/flagz: {error}"))?;
    let flags = value["flags"].as_object().ok_or("/flagz: there are no flags in the answer")?;
    Ok(flags.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect())
}

/// Finds everything out. What cannot be is noted where it belongs.
///
/// # Errors
/// When the server cannot be reached at all: then there is nothing to look at.
pub async fn collect(layout: &Layout, https: client::https::Https) -> Result<Facts> {
    let client = Client::new(Arc::new(https));
    client.document("/livez", "text/plain").await.context("asking the API server")?;
    let clock = Clock::system();
    let flags = flags(&client).await;
    let flag = |name: &str| flags.as_ref().ok().and_then(|flags| flags.get(name)).filter(|value| !value.is_empty());
    let ca_pem = std::fs::read_to_string(layout.pki().join("ca.crt")).map_err(|error| format!("pki/ca.crt: {error}"));
    let config_file = flag("config").map(|path| file(Path::new(path)).map_err(|error| format!("{path}: {error}")));
    let no_node = flag("no-agent").is_none_or(|off| off == "true");
    let kubelet = flag("effective-kubelet-address").filter(|_| !no_node).and_then(|address| address.parse().ok());
    let kubelet = kubelet.zip(flag("hostname-override").cloned());
    let audit_log = flag("audit-log-path").map(PathBuf::from);
    Ok(Facts {
        now: clock.now(),
        data_dir: layout.root().to_owned(),
        owners: [0, rustix::process::geteuid().as_raw()],
        files: files(layout.root()),
        config_file,
        doors: doors::knock(layout, ca_pem.as_deref().unwrap_or_default(), kubelet, clock).await,
        objects: objects(&client).await,
        defaults: authority::defaults(),
        users: audit_log::users(audit_log.as_deref()),
        process_limit: process_limit(flag("instance").map(String::as_str)),
        ca_pem,
        flags,
    })
}

/// Version 2 has one tree of cgroups, version 1 one for each controller.
fn process_limit(instance: Option<&str>) -> Known<(PathBuf, String)> {
    let instance = instance.ok_or("the server does not say what its instance is called")?;
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"].map(|root| Path::new(root).join(instance).join("pids.max"));
    let found = places.into_iter().find(|path| path.exists());
    let path = found.ok_or_else(|| format!("there is no cgroup of {instance} that limits processes"))?;
    let limit = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((path, limit.trim().to_owned()))
}
