//! The server's certificates while it runs: issued again in time, replaced when somebody asks, and told to whoever must
//! know them. Connections that are open go on; those that begin afterwards see the new ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::{Reason, Status, Timestamp};
use apiserver::certificates::{Rotated, Step};
use apiserver::{Server, bootstrap};
use base::Clock;
use futures_util::future::BoxFuture;
use pki::authority::{Authority, Changes, Leaf};
use tokio::sync::{Mutex, Notify, watch};

use super::Common;
use crate::node_wiring;

/// Looks at what is due are this far apart at least.
const PAUSE: Duration = Duration::from_secs(1);
/// After this long, what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The certificates, and who is told of them.
pub struct Certificates {
    pub authority: Arc<Authority>,
    clock: Clock,
    /// The API server's address in the admin's kubeconfigs, and where these are.
    url: String,
    kubeconfigs: Vec<PathBuf>,
    root_ca: watch::Sender<String>,
    /// Held by whoever changes something: one step at a time, and told before the next.
    changing: Mutex<()>,
    changed: Notify,
}

impl Certificates {
    /// Loads them, and makes what is missing.
    pub fn open(common: &Common) -> Result<Arc<Self>> {
        let arguments = &common.arguments;
        let mut options = pki::authority::Options::new(
            &arguments.cluster_domain,
            &[common.service_ip],
            &node_wiring::default_name()?,
            &[common.advertise_address],
            &arguments.tls_san,
        );
        options.valid = arguments.certificate_validity_period;
        options.ca_valid = arguments.ca_certificate_validity_period;
        options.signed_valid = arguments.cluster_signing_duration;
        let authority = Authority::open_or_create(&common.layout.pki(), options, common.clock.now())
            .with_context(|| format!("the certificates in {}", common.layout.pki().display()))?;
        let host = match arguments.bind.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        let further = arguments.write_kubeconfig.clone();
        Ok(Arc::new(Self {
            root_ca: watch::Sender::new(authority.cluster().trust().pem()),
            authority: Arc::new(authority),
            clock: common.clock,
            url: format!("https://{}", SocketAddr::new(host, common.port)),
            kubeconfigs: std::iter::once(common.layout.admin_kubeconfig()).chain(further).collect(),
            changing: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// The CAs that pods check the API server with, PEM.
    pub fn root_ca(&self) -> watch::Receiver<String> {
        self.root_ca.subscribe()
    }

    /// The names and addresses that the API server's certificate is for.
    pub fn names(&self) -> Vec<String> {
        let identity = self.authority.identity(Leaf::Server).identity();
        let certificate = identity.certificate();
        let addresses = certificate.ip_addresses.iter().map(IpAddr::to_string);
        certificate.dns_names.iter().cloned().chain(addresses).collect()
    }

    /// Writes the admin's kubeconfigs.
    pub fn write_kubeconfigs(&self) -> Result<()> {
        let kubeconfig = self.authority.admin_kubeconfig(&self.url, "pintle");
        for path in &self.kubeconfigs {
            kubeconfig.save(path).with_context(|| format!("writing the kubeconfig {}", path.display()))?;
        }
        Ok(())
    }

    /// Does something with the files, away from the threads that serve, and tells of it.
    async fn change(
        &self,
        server: &Arc<Server>,
        what: impl FnOnce(&Authority, Timestamp) -> pki::Result<Changes> + Send + 'static,
    ) -> Result<Changes, Status> {
        let (authority, now) = (self.authority.clone(), self.clock.now());
        let changes = tokio::task::spawn_blocking(move || what(&authority, now)).await.map_err(Status::internal)?;
        let changes = changes.map_err(|error| match error {
            pki::Error::Refused(why) => Status::failure(Reason::Conflict, why),
            error => Status::internal(error),
        })?;
        self.tell(server, &changes).await?;
        Ok(changes)
    }

    async fn tell(&self, server: &Arc<Server>, changes: &Changes) -> Result<(), Status> {
        let admin = Leaf::Admin.file_name();
        if changes.trust || changes.issued.iter().any(|(name, _)| name == admin) {
            self.write_kubeconfigs().map_err(|error| Status::internal(format!("{error:#}")))?;
        }
        if changes.trust {
            let (cluster, front_proxy) =
                (self.authority.cluster().trust().pem(), self.authority.front_proxy().trust().pem());
            self.root_ca.send_replace(cluster.clone());
            bootstrap::publish_cas(server, &cluster, &front_proxy).await?;
        }
        Ok(())
    }

    /// Renews certificates when they are due, for as long as the server runs.
    pub fn keep(self: &Arc<Self>, common: &Common, server: &Arc<Server>) {
        let (own, server) = (self.clone(), server.clone());
        common.tasks.spawn("certificates", async move {
            loop {
                let next = own.authority.next_time().max(own.clock.now() + PAUSE);
                tokio::select! {
                    () = own.clock.sleep_until(next) => {}
                    // Somebody replaced them meanwhile: other times hold.
                    () = own.changed.notified() => continue,
                }
                let _alone = own.changing.lock().await;
                match own.change(&server, Authority::keep).await {
                    Ok(changes) if changes.is_empty() => {}
                    Ok(changes) => {
                        tracing::info!(issued = ?changes.issued, other_cas = changes.trust, "certificates renewed");
                    }
                    Err(status) => {
                        tracing::error!(why = status.message(), "certificates were not renewed");
                        own.clock.sleep(RETRY).await;
                    }
                }
            }
        });
    }

    async fn take(&self, server: &Arc<Server>, step: Step) -> Result<Rotated, Status> {
        let _alone = self.changing.lock().await;
        let changes = match step {
            Step::Leaves => self.change(server, Authority::rotate).await?,
            Step::Introduce => self.change(server, Authority::introduce_cas).await?,
            Step::Switch => self.change(server, Authority::switch_cas).await?,
            Step::Retire => self.change(server, |authority, _| authority.retire_cas()).await?,
        };
        self.changed.notify_one();
        tracing::info!(?step, issued = ?changes.issued, "certificates replaced");
        let issued = changes.issued.into_iter().map(|(name, _)| name).collect();
        Ok(Rotated { issued, words: self.words(step) })
    }

    /// How things stand after a step, and what comes next.
    fn words(&self, step: Step) -> String {
        let kubeconfigs: Vec<String> = self.kubeconfigs.iter().map(|path| path.display().to_string()).collect();
        let kubeconfigs = kubeconfigs.join(" and ");
        match step {
            Step::Leaves => format!("connections that are open go on; {kubeconfigs} is written anew"),
            Step::Introduce => format!(
                "new CAs are trusted beside those that sign: by the server, in {kubeconfigs}, in \
                 kube-system/extension-apiserver-authentication, and in a moment in every ConfigMap kube-root-ca.crt\n\
                 next: give kubeconfigs with both CAs to whoever has one, restart pods that read their CA only at \
                 their start, then run `pintle certs rotate --ca switch`"
            ),
            Step::Switch => match self.authority.stage() {
                pki::Stage::Switched { until } => format!(
                    "the new CAs sign from now on; what the old ones signed is accepted until {until}\n\
                     to end that earlier, when everybody has a new certificate: `pintle certs rotate --ca retire`"
                ),
                pki::Stage::Settled | pki::Stage::Introduced => "the new CAs sign from now on".to_owned(),
            },
            Step::Retire => "the old CAs, and everything that they signed, are trusted no more".to_owned(),
        }
    }
}

impl apiserver::certificates::Certificates for Certificates {
    fn rotate<'a>(&'a self, server: &'a Arc<Server>, step: Step) -> BoxFuture<'a, Result<Rotated, Status>> {
        Box::pin(self.take(server, step))
    }

    fn ends(&self) -> Vec<(String, Timestamp)> {
        let all = self.authority.certificates().into_iter();
        all.map(|(name, certificate)| (name, certificate.not_after)).collect()
    }
}
