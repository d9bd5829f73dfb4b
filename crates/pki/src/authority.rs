//! The keys and certificates of one server's data directory: made at the first start, loaded at the next, and issued
//! again when they no longer fit or a third of their life is left.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use zeroize::Zeroizing;

use crate::ca::{Ca, Request};
use crate::certificate::Certificate;
use crate::error::{Error, Result};
use crate::file;
use crate::identity::Identity;
use crate::key::{PrivateKey, PublicKey};
use crate::kubeconfig::Kubeconfig;
use crate::tls::Reloadable;
use crate::usage::Usage;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The life of a CA's certificate.
pub const CA_VALID: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// The life of every other certificate.
pub const VALID: Duration = Duration::from_secs(365 * DAY.as_secs());

/// The names that the API server answers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// DNS names.
    pub dns_names: Vec<String>,
    /// Addresses.
    pub ip_addresses: Vec<IpAddr>,
}

impl Options {
    /// The names every API server has: the service `kubernetes` in its namespace and `cluster_domain`, its
    /// `service_ip`, this host, the addresses it is reached at, and those of `--tls-san` (names or addresses).
    pub fn new(
        cluster_domain: &str,
        service_ips: &[IpAddr],
        host_name: &str,
        advertised: &[IpAddr],
        extra: &[String],
    ) -> Self {
        let mut options = Self::default();
        for name in ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", host_name] {
            options.add(name);
        }
        options.add(&format!("kubernetes.default.svc.{cluster_domain}"));
        for address in ["127.0.0.1", "::1"] {
            options.add(address);
        }
        for address in service_ips.iter().chain(advertised) {
            options.add(&address.to_string());
        }
        for name in extra {
            options.add(name);
        }
        options
    }

    fn add(&mut self, name: &str) {
        match name.parse() {
            Ok(address) if !self.ip_addresses.contains(&address) => self.ip_addresses.push(address),
            Err(_) if !name.is_empty() && !self.dns_names.iter().any(|known| known == name) => {
                self.dns_names.push(name.to_owned());
            }
            _ => {}
        }
    }
}

/// The certificates of the directory, besides the CAs'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// The API server's serving certificate, with the CA in its chain.
    Server,
    /// The API server as the kubelets' client.
    KubeletClient,
    /// The API server as the client of aggregated API servers.
    FrontProxyClient,
    /// The administrator.
    Admin,
}

impl Leaf {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Server, Self::KubeletClient, Self::FrontProxyClient, Self::Admin];

    /// The name of its files, without extension.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::KubeletClient => "kubelet-client",
            Self::FrontProxyClient => "front-proxy-client",
            Self::Admin => "admin",
        }
    }

    fn request(self, options: &Options) -> Request {
        match self {
            Self::Server => Request {
                common_name: "kube-apiserver".to_owned(),
                organizations: Vec::new(),
                dns_names: options.dns_names.clone(),
                ip_addresses: options.ip_addresses.clone(),
                usage: Usage::Server,
                valid: VALID,
            },
            Self::KubeletClient => Request::client("kube-apiserver-kubelet-client", &["system:masters"], VALID),
            Self::FrontProxyClient => Request::client("front-proxy-client", &[], VALID),
            Self::Admin => Request::client("kubernetes-admin", &["system:masters"], VALID),
        }
    }
}

/// Why a certificate is issued (again).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is none, or what is there cannot be read or does not fit its key.
    Missing,
    /// It says something else than it should.
    NamesChanged,
    /// Another CA signed it.
    OtherAuthority,
    /// Less than a third of its life is left.
    Expiring,
}

/// Whether `current` must be replaced to be what `wanted` asks of `ca`. Pure.
pub fn reissue(current: Option<&Certificate>, wanted: &Request, ca: &Ca, now: Timestamp) -> Option<Reason> {
    let Some(current) = current else { return Some(Reason::Missing) };
    let same_names = current.common_name == wanted.common_name
        && same_set(&current.organizations, &wanted.organizations)
        && same_set(&current.dns_names, &wanted.dns_names)
        && same_set(&current.ip_addresses, &wanted.ip_addresses);
    if !same_names {
        Some(Reason::NamesChanged)
    } else if !current.names_as_issuer(ca.certificate()) {
        Some(Reason::OtherAuthority)
    } else if current.renewal_due(now) {
        Some(Reason::Expiring)
    } else {
        None
    }
}

fn same_set<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    a.iter().all(|item| b.contains(item)) && b.iter().all(|item| a.contains(item))
}

/// The directory's contents, loaded. Its identities are replaced in place by [`Authority::renew`].
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    options: Options,
    ca: Ca,
    front_proxy_ca: Ca,
    service_account_key: PrivateKey,
    service_account_keys: Vec<PublicKey>,
    leaves: Vec<(Leaf, Arc<Reloadable>)>,
}

impl Authority {
    /// Loads `directory` (`<data-dir>/pki`), and makes what is missing or no longer fits. A CA that exists is never
    /// replaced by another: when its certificate nears its end it is signed again with the same key.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Malformed`] or [`Error::Refused`] when a CA or the service-account key is there but
    /// cannot be used: those must not be guessed at.
    pub fn open_or_create(directory: &Path, options: Options, now: Timestamp) -> Result<Self> {
        file::create_directory(directory)?;
        let ca = open_ca(directory, "ca", "kubernetes", now)?;
        let front_proxy_ca = open_ca(directory, "front-proxy-ca", "front-proxy-ca", now)?;
        let (service_account_key, service_account_keys) = open_service_account_keys(directory)?;
        let mut authority = Self {
            directory: directory.to_owned(),
            options,
            ca,
            front_proxy_ca,
            service_account_key,
            service_account_keys,
            leaves: Vec::new(),
        };
        for leaf in Leaf::ALL {
            let identity = match authority.load(*leaf, now)? {
                Ok(identity) => identity,
                Err(_) => authority.issue_leaf(*leaf, now)?,
            };
            authority.leaves.push((*leaf, Reloadable::new(identity)));
        }
        Ok(authority)
    }

    /// The identity on disk, or why it will not do.
    fn load(&self, leaf: Leaf, now: Timestamp) -> Result<Result<Identity, Reason>> {
        let loaded = match Identity::load(&self.path(leaf, "crt"), &self.path(leaf, "key")) {
            Ok(identity) => Some(identity),
            Err(e @ Error::File { .. }) if !e.is_missing_file() => return Err(e),
            Err(_) => None,
        };
        let reason =
            reissue(loaded.as_ref().map(Identity::certificate), &leaf.request(&self.options), self.issuer(leaf), now);
        Ok(match (loaded, reason) {
            (Some(identity), None) => Ok(identity),
            (_, reason) => Err(reason.unwrap_or(Reason::Missing)),
        })
    }

    fn issue_leaf(&self, leaf: Leaf, now: Timestamp) -> Result<Identity> {
        let issuer = self.issuer(leaf);
        let mut identity = issuer.issue(&leaf.request(&self.options), now)?;
        if leaf == Leaf::Server {
            identity = identity.with_chain(issuer.cert_pem())?;
        }
        identity.save(&self.path(leaf, "crt"), &self.path(leaf, "key"))?;
        Ok(identity)
    }

    fn issuer(&self, leaf: Leaf) -> &Ca {
        if leaf == Leaf::FrontProxyClient { &self.front_proxy_ca } else { &self.ca }
    }

    fn path(&self, leaf: Leaf, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", leaf.file_name()))
    }

    /// Issues again, on disk and in place, whatever is due at `now`; open connections go on. Returns what was due.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Crypto`]; [`Error::Refused`] when the CA has expired.
    pub fn renew(&self, now: Timestamp) -> Result<Vec<(Leaf, Reason)>> {
        let mut renewed = Vec::new();
        for (leaf, current) in &self.leaves {
            let request = leaf.request(&self.options);
            if let Some(reason) = reissue(Some(current.identity().certificate()), &request, self.issuer(*leaf), now) {
                current.replace(self.issue_leaf(*leaf, now)?);
                renewed.push((*leaf, reason));
            }
        }
        Ok(renewed)
    }

    /// Issues every certificate again, due or not.
    ///
    /// # Errors
    /// As [`Authority::renew`].
    pub fn rotate(&self, now: Timestamp) -> Result<()> {
        for (leaf, current) in &self.leaves {
            current.replace(self.issue_leaf(*leaf, now)?);
        }
        Ok(())
    }

    /// When [`Authority::renew`] has something to do next.
    pub fn renewal_time(&self) -> Timestamp {
        let times = self.leaves.iter().map(|(_, current)| current.identity().certificate().renewal_time());
        times.min().expect("there is at least one certificate")
    }

    /// Every certificate by the name of its file, for people to look at.
    pub fn certificates(&self) -> Vec<(String, Certificate)> {
        let cas = [("ca", &self.ca), ("front-proxy-ca", &self.front_proxy_ca)];
        let cas = cas.into_iter().map(|(name, ca)| (format!("{name}.crt"), ca.certificate().clone()));
        let leaves = self
            .leaves
            .iter()
            .map(|(leaf, current)| (format!("{}.crt", leaf.file_name()), current.identity().certificate().clone()));
        cas.chain(leaves).collect()
    }

    /// The cluster's CA: signs servers, nodes and users.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The CA of proxies that vouch for users in request headers.
    pub fn front_proxy_ca(&self) -> &Ca {
        &self.front_proxy_ca
    }

    /// Both CAs: whose client certificates the API server accepts in a handshake.
    pub fn client_ca_bundle(&self) -> String {
        format!("{}{}", self.ca.cert_pem(), self.front_proxy_ca.cert_pem())
    }

    /// One of the identities, to be given to a TLS configuration.
    pub fn identity(&self, leaf: Leaf) -> Arc<Reloadable> {
        let found = self.leaves.iter().find(|(name, _)| *name == leaf);
        found.map(|(_, identity)| identity.clone()).expect("every leaf was loaded when the directory was opened")
    }

    /// The key that signs service-account tokens.
    pub fn service_account_key(&self) -> &PrivateKey {
        &self.service_account_key
    }

    /// The keys that service-account tokens may be signed with: the current one and those kept in `sa.pub`.
    pub fn service_account_keys(&self) -> &[PublicKey] {
        &self.service_account_keys
    }

    /// The administrator's kubeconfig.
    pub fn admin_kubeconfig(&self, server: &str, cluster: &str) -> Kubeconfig {
        let admin = self.identity(Leaf::Admin).identity();
        Kubeconfig::new(server, self.ca.cert_pem(), cluster, &admin.certificate().common_name)
            .with_identity((*admin).clone())
    }

    /// A kubeconfig with a new certificate for a user and its groups.
    ///
    /// # Errors
    /// As [`Ca::issue`].
    pub fn user_kubeconfig(
        &self,
        server: &str,
        cluster: &str,
        user: &str,
        groups: &[&str],
        now: Timestamp,
    ) -> Result<Kubeconfig> {
        let identity = self.ca.issue(&Request::client(user, groups, VALID), now)?;
        Ok(Kubeconfig::new(server, self.ca.cert_pem(), cluster, user).with_identity(identity))
    }
}

/// Loads a CA, makes it when neither file exists, and signs its certificate again when it is missing or nears its end.
fn open_ca(directory: &Path, name: &str, common_name: &str, now: Timestamp) -> Result<Ca> {
    let (cert_path, key_path) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
    let ca = match (cert_path.exists(), key_path.exists()) {
        (true, true) => {
            let ca = Ca::load(&cert_path, &key_path)?;
            let self_signed = ca.certificate().names_as_issuer(ca.certificate());
            if !self_signed || !ca.certificate().renewal_due(now) {
                return Ok(ca);
            }
            ca.renewed(now, CA_VALID)?
        }
        (false, true) => {
            let key = PrivateKey::from_pem(&Zeroizing::new(file::read(&key_path)?))?;
            Ca::self_sign(key, common_name, now, CA_VALID)?
        }
        (false, false) => Ca::generate(common_name, now, CA_VALID)?,
        (true, false) => {
            return Err(Error::Refused(format!("{} has no key beside it ({name}.key)", cert_path.display())));
        }
    };
    ca.save(&cert_path, &key_path)?;
    Ok(ca)
}

fn open_service_account_keys(directory: &Path) -> Result<(PrivateKey, Vec<PublicKey>)> {
    let (key_path, public_path) = (directory.join("sa.key"), directory.join("sa.pub"));
    let key = match file::read(&key_path) {
        Ok(pem) => PrivateKey::from_pem(&Zeroizing::new(pem))?,
        Err(e) if e.is_missing_file() => {
            let key = PrivateKey::generate()?;
            file::write_atomic(&key_path, key.to_pem().as_bytes(), file::SECRET)?;
            key
        }
        Err(e) => return Err(e),
    };
    let mut keys = match file::read(&public_path) {
        Ok(pem) => PublicKey::all_from_pem(&pem)?,
        Err(e) if e.is_missing_file() => Vec::new(),
        Err(e) => return Err(e),
    };
    if !keys.contains(key.public_key()) {
        keys.insert(0, key.public_key().clone());
        let pem: String = keys.iter().map(PublicKey::to_pem).collect();
        file::write_atomic(&public_path, pem.as_bytes(), file::PUBLIC)?;
    }
    Ok((key, keys))
}

#[cfg(test)]
mod tests;
