//! The keys and certificates of one server's data directory: made at the first start, loaded at the next, and issued
//! again when they no longer fit or a third of their life is left. CAs are replaced in steps ([`crate::lineage`]).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::ca::{Ca, Request};
use crate::certificate::Certificate;
use crate::error::{Error, Result};
use crate::file;
use crate::identity::Identity;
use crate::key::{PrivateKey, PublicKey};
use crate::kubeconfig::Kubeconfig;
use crate::lineage::{Lineage, Stage};
use crate::tls::{Reloadable, Trust};
use crate::usage::Usage;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The life of a CA's certificate.
pub const CA_VALID: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// The life of every other certificate.
pub const VALID: Duration = Duration::from_secs(365 * DAY.as_secs());

/// The names that the API server answers to, and how long certificates live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// DNS names.
    pub dns_names: Vec<String>,
    /// Addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// The life of new certificates.
    pub valid: Duration,
    /// The life of a new CA's certificate.
    pub ca_valid: Duration,
    /// The longest life of what a CA signs for others: so long it is trusted after it was replaced.
    pub signed_valid: Duration,
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
        let mut options = Self {
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            valid: VALID,
            ca_valid: CA_VALID,
            signed_valid: VALID,
        };
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
        let valid = options.valid;
        match self {
            Self::Server => Request {
                common_name: "kube-apiserver".to_owned(),
                organizations: Vec::new(),
                dns_names: options.dns_names.clone(),
                ip_addresses: options.ip_addresses.clone(),
                usage: Usage::Server,
                valid,
            },
            Self::KubeletClient => Request::client("kube-apiserver-kubelet-client", &["system:masters"], valid),
            Self::FrontProxyClient => Request::client("front-proxy-client", &[], valid),
            Self::Admin => Request::client("kubernetes-admin", &["system:masters"], valid),
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
    /// It would live longer than certificates are to live now.
    TooLong,
    /// Somebody asked for it.
    Asked,
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
    } else if now.checked_add(wanted.valid).is_ok_and(|end| current.not_after > end) {
        Some(Reason::TooLong)
    } else {
        None
    }
}

fn same_set<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    a.iter().all(|item| b.contains(item)) && b.iter().all(|item| a.contains(item))
}

/// A certificate that is kept: what it says, who signs it, and the identity that is replaced in place.
#[derive(Debug)]
struct Kept {
    /// The name of its files, without extension.
    name: String,
    request: Request,
    front_proxy: bool,
    identity: Arc<Reloadable>,
}

/// What [`Authority::keep`] and [`Authority::rotate`] changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Certificates issued again, by the name of their files (without extension), and why.
    pub issued: Vec<(String, Reason)>,
    /// Whether other CAs are trusted than before.
    pub trust: bool,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.issued.is_empty() && !self.trust
    }
}

/// The directory's contents, loaded. Identities and CAs are replaced in place; open connections go on.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    options: Options,
    cluster: Lineage,
    front_proxy: Lineage,
    /// All CAs of both.
    clients: Trust,
    service_account_key: PrivateKey,
    service_account_keys: Vec<PublicKey>,
    /// Held by whoever issues, so that files and identities are the same.
    kept: Mutex<Vec<Kept>>,
}

impl Authority {
    /// Loads `directory` (`<data-dir>/pki`), and makes what is missing or no longer fits.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Malformed`] or [`Error::Refused`] when a CA or the service-account key is there but
    /// cannot be used: those must not be guessed at.
    pub fn open_or_create(directory: &Path, options: Options, now: Timestamp) -> Result<Self> {
        file::create_directory(directory)?;
        let valid = options.ca_valid;
        let cluster = Lineage::open(directory, "ca", "kubernetes", now, valid)?;
        let front_proxy = Lineage::open(directory, "front-proxy-ca", "front-proxy-ca", now, valid)?;
        let (service_account_key, service_account_keys) = open_service_account_keys(directory)?;
        let clients = Trust::new(&(cluster.trust().pem() + &front_proxy.trust().pem()))?;
        let authority = Self {
            directory: directory.to_owned(),
            options,
            cluster,
            front_proxy,
            clients,
            service_account_key,
            service_account_keys,
            kept: Mutex::default(),
        };
        for leaf in Leaf::ALL {
            let front_proxy = *leaf == Leaf::FrontProxyClient;
            authority.add(leaf.file_name(), leaf.request(&authority.options), front_proxy, now)?;
        }
        Ok(authority)
    }

    /// Keeps one more certificate of the cluster's CA, such as the node's: loaded from the files `<name>.crt` and
    /// `<name>.key` if it fits, else issued. It lives as long as all others.
    ///
    /// # Errors
    /// As [`Authority::open_or_create`].
    pub fn also(&self, name: &str, mut request: Request, now: Timestamp) -> Result<Arc<Reloadable>> {
        request.valid = self.options.valid;
        self.add(name, request, false, now)
    }

    fn add(&self, name: &str, request: Request, front_proxy: bool, now: Timestamp) -> Result<Arc<Reloadable>> {
        let mut kept = self.kept.lock();
        let loaded = match Identity::load(&self.path(name, "crt"), &self.path(name, "key")) {
            Ok(identity) => Some(identity),
            Err(e @ Error::File { .. }) if !e.is_missing_file() => return Err(e),
            Err(_) => None,
        };
        let ca = self.lineage(front_proxy).issuer().ca();
        let fits = reissue(loaded.as_ref().map(Identity::certificate), &request, &ca, now).is_none();
        let identity = match loaded.filter(|_| fits) {
            Some(identity) => identity,
            None => self.issue(name, &request, &ca, now)?,
        };
        let identity = Reloadable::new(identity);
        kept.push(Kept { name: name.to_owned(), request, front_proxy, identity: identity.clone() });
        Ok(identity)
    }

    fn issue(&self, name: &str, request: &Request, ca: &Ca, now: Timestamp) -> Result<Identity> {
        let mut identity = ca.issue(request, now)?;
        if name == Leaf::Server.file_name() {
            identity = identity.with_chain(ca.cert_pem())?;
        }
        identity.save(&self.path(name, "crt"), &self.path(name, "key"))?;
        Ok(identity)
    }

    fn lineage(&self, front_proxy: bool) -> &Lineage {
        if front_proxy { &self.front_proxy } else { &self.cluster }
    }

    fn lineages(&self) -> [&Lineage; 2] {
        [&self.cluster, &self.front_proxy]
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.directory.join(format!("{name}.{extension}"))
    }

    /// Issues again those certificates for which `why` has a reason.
    fn issue_for(
        &self,
        now: Timestamp,
        why: impl Fn(Option<&Certificate>, &Request, &Ca) -> Option<Reason>,
    ) -> Result<Vec<(String, Reason)>> {
        let mut issued = Vec::new();
        for kept in &*self.kept.lock() {
            let ca = self.lineage(kept.front_proxy).issuer().ca();
            let current = kept.identity.identity();
            if let Some(reason) = why(Some(current.certificate()), &kept.request, &ca) {
                kept.identity.replace(self.issue(&kept.name, &kept.request, &ca, now)?);
                issued.push((kept.name.clone(), reason));
            }
        }
        Ok(issued)
    }

    /// Does what is due at `now`, on disk and in place: certificates are issued again, CAs near their end are signed
    /// again, and old CAs go whose last certificate has ended.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Crypto`]; [`Error::Refused`] when the CA has expired.
    pub fn keep(&self, now: Timestamp) -> Result<Changes> {
        let mut trust = false;
        for lineage in self.lineages() {
            trust |= lineage.keep(now, self.options.ca_valid)?;
        }
        if trust {
            self.follow_lineages()?;
        }
        let issued = self.issue_for(now, |current, request, ca| reissue(current, request, ca, now))?;
        Ok(Changes { issued, trust })
    }

    /// When [`Authority::keep`] has something to do next.
    pub fn next_time(&self) -> Timestamp {
        let kept = self.kept.lock();
        let leaves = kept.iter().map(|kept| kept.identity.identity().certificate().renewal_time());
        let all = leaves.chain(self.lineages().map(Lineage::next_time));
        all.min().expect("there is at least one certificate")
    }

    /// Issues every certificate again, due or not.
    ///
    /// # Errors
    /// As [`Authority::keep`].
    pub fn rotate(&self, now: Timestamp) -> Result<Changes> {
        let issued = self.issue_for(now, |_, _, _| Some(Reason::Asked))?;
        Ok(Changes { issued, trust: false })
    }

    /// The first step of replacing both CAs: new ones are trusted beside those that sign. A step that one of them has
    /// taken before a crash is taken by the other.
    ///
    /// # Errors
    /// [`Error::Refused`] when a replacement is under way; [`Error::File`], [`Error::Crypto`].
    pub fn introduce_cas(&self, now: Timestamp) -> Result<Changes> {
        self.step(|lineage| (lineage.stage() == Stage::Settled).then(|| lineage.introduce(now, self.options.ca_valid)))
            .ok_or_else(|| self.refused("a replacement of the CAs is under way already"))??;
        Ok(Changes { issued: Vec::new(), trust: true })
    }

    /// The second step: the new CAs sign, and everything is issued again. The old ones are trusted until the last
    /// certificate that they may have signed has ended.
    ///
    /// # Errors
    /// [`Error::Refused`] when there are no new CAs; as [`Authority::keep`].
    pub fn switch_cas(&self, now: Timestamp) -> Result<Changes> {
        let longest = self.options.valid.max(self.options.signed_valid).max(VALID);
        let until = now.checked_add(longest).unwrap_or(Timestamp::MAX);
        let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
        self.step(|lineage| (lineage.stage() == Stage::Introduced).then(|| lineage.switch(until)))
            .ok_or_else(|| self.refused("no new CA has been introduced"))??;
        let issued = self.issue_for(now, |current, request, ca| reissue(current, request, ca, now))?;
        Ok(Changes { issued, trust: true })
    }

    /// The third step, for those who do not wait: the old CAs are trusted no more.
    ///
    /// # Errors
    /// [`Error::Refused`] when no CA has been replaced; [`Error::File`].
    pub fn retire_cas(&self) -> Result<Changes> {
        self.step(|lineage| matches!(lineage.stage(), Stage::Switched { .. }).then(|| lineage.retire()))
            .ok_or_else(|| self.refused("there is no old CA to retire"))??;
        Ok(Changes { issued: Vec::new(), trust: true })
    }

    /// Takes a step with each lineage that is ready for it; `None` if none is.
    fn step(&self, take: impl Fn(&Lineage) -> Option<Result<()>>) -> Option<Result<()>> {
        let taken: Vec<Result<()>> = self.lineages().into_iter().filter_map(take).collect();
        let follow = |taken: Vec<Result<()>>| {
            taken.into_iter().collect::<Result<()>>()?;
            self.follow_lineages()
        };
        (!taken.is_empty()).then(|| follow(taken))
    }

    /// Trusts clients of whoever is trusted now.
    fn follow_lineages(&self) -> Result<()> {
        self.clients.replace(&self.lineages().map(|lineage| lineage.trust().pem()).concat())
    }

    fn refused(&self, why: &str) -> Error {
        Error::Refused(match self.stage() {
            Stage::Settled => why.to_owned(),
            Stage::Introduced => format!("{why}: the new CAs are trusted and wait to sign"),
            Stage::Switched { until } => format!("{why}: the new CAs sign, and the old ones are trusted until {until}"),
        })
    }

    /// How far the replacement of the CAs has come.
    pub fn stage(&self) -> Stage {
        self.cluster.stage()
    }

    /// Every certificate by the name of its file, for people to look at.
    pub fn certificates(&self) -> Vec<(String, Certificate)> {
        let mut all: Vec<(String, Certificate)> = self.lineages().into_iter().flat_map(Lineage::certificates).collect();
        let kept = self.kept.lock();
        all.extend(
            kept.iter().map(|kept| (format!("{}.crt", kept.name), kept.identity.identity().certificate().clone())),
        );
        all
    }

    /// The cluster's CA: signs servers, nodes and users.
    pub fn cluster(&self) -> &Lineage {
        &self.cluster
    }

    /// The CA of proxies that vouch for users in request headers.
    pub fn front_proxy(&self) -> &Lineage {
        &self.front_proxy
    }

    /// One of the identities, to be given to a TLS configuration.
    pub fn identity(&self, leaf: Leaf) -> Arc<Reloadable> {
        let kept = self.kept.lock();
        let found = kept.iter().find(|kept| kept.name == leaf.file_name());
        found.map(|kept| kept.identity.clone()).expect("every leaf was loaded when the directory was opened")
    }

    /// Whose client certificates the API server accepts in a handshake: those of both lineages.
    pub fn clients(&self) -> &Trust {
        &self.clients
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
        Kubeconfig::new(server, &self.cluster.trust().pem(), cluster, &admin.certificate().common_name)
            .with_identity((*admin).clone())
    }
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
