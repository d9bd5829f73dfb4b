//! API server, controllers and scheduler, put together as the binary does it, without sockets and leader election.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::meta::v1::ObjectMeta;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleRef, Subject};
use apiserver::enablement::Enablement;
use apiserver::{Server, admission, authn, authz, bootstrap};
use base::{Clock, Random, TaskGroup};
use client::{Reflectors, Served};
use store::Store;

use super::{Options, caller, in_process};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const CLUSTER_CIDR: &str = "10.42.0.0/16";
const SERVICE_IP: &str = "10.43.0.1";
const ADVERTISE_ADDRESS: &str = "192.0.2.100";
const PORT: u16 = 6443;
/// As upstream's `--cluster-signing-duration`.
const SIGNED_VALID: Duration = Duration::from_secs(8760 * 3600);
const CA_VALID: Duration = Duration::from_secs(3650 * 86_400);

/// What all parts share.
pub struct Plane {
    pub clock: Clock,
    pub random: Random,
    pub tasks: TaskGroup,
}

impl Plane {
    pub async fn start(&self, options: &Options) -> Result<Arc<Server>> {
        let ca = pki::Ca::generate("pintle-ca", self.clock.now(), CA_VALID).context("the cluster's CA")?;
        let server = Server::start(Store::memory(), self.server_options(options)?, self.tasks.clone()).await?;
        let own = bootstrap::Options {
            advertise_address: ADVERTISE_ADDRESS.parse()?,
            port: PORT,
            service_ip: SERVICE_IP.parse()?,
            client_ca_pem: ca.cert_pem().to_owned(),
            front_proxy_ca_pem: String::new(),
            node_settings: Default::default(),
            extra: controllers::ALL.iter().filter_map(|controller| role_of(*controller)).collect(),
        };
        bootstrap::run(&server, &own).await.context("the cluster's own objects")?;
        let client = in_process::client(&server, caller("system:kube-controller-manager", &[]));
        let reflectors = Reflectors::new(client, self.random.clone(), self.tasks.clone());
        if options.controllers {
            self.start_controllers(&server, &reflectors, ca);
        }
        if options.scheduler {
            scheduler::run(scheduler::Options {
                name: "default-scheduler".into(),
                client: in_process::client(&server, caller("system:kube-scheduler", &[])),
                reflectors,
                clock: self.clock,
                random: self.random.clone(),
                tasks: self.tasks.clone(),
            });
        }
        Ok(server)
    }

    fn server_options(&self, options: &Options) -> Result<apiserver::Options> {
        let key = pki::PrivateKey::generate().context("the key of service account tokens")?;
        let audiences = vec![ISSUER.to_owned()];
        let verifier =
            pki::token::Verifier::new(vec![ISSUER.to_owned()], vec![key.public_key().clone()], audiences.clone());
        let plugins = admission::Chain::with(&options.admission, &options.admission_off).map_err(anyhow::Error::msg)?;
        let settings = self.admission_settings(options, &plugins)?;
        Ok(apiserver::Options {
            clock: self.clock,
            random: self.random.clone(),
            authenticator: authn::standard(verifier, None, self.clock),
            authorizer: Arc::new(authz::Chain::standard(self.clock, self.random.clone())),
            enablement: Enablement::parse(&options.runtime_config, resources::ALL).map_err(anyhow::Error::msg)?,
            admission: plugins,
            admission_settings: settings,
            tokens: Some(Arc::new(pki::token::Signer::new(ISSUER, key))),
            token_audiences: audiences,
            ..apiserver::Options::default()
        })
    }

    fn admission_settings(&self, options: &Options, on: &admission::Chain) -> Result<admission::Settings> {
        let file = match &options.admission_configuration {
            None => None,
            Some(text) => {
                let mut file = tempfile::NamedTempFile::new()?;
                std::io::Write::write_all(&mut file, text.as_bytes())?;
                Some(file)
            }
        };
        let path = file.as_ref().map(tempfile::NamedTempFile::path);
        admission::Settings::load(path, on, self.clock, &self.random).map_err(anyhow::Error::msg)
    }

    fn start_controllers(&self, server: &Arc<Server>, reflectors: &Reflectors, ca: pki::Ca) {
        let server = server.clone();
        let context = controllers::Context {
            reflectors: reflectors.clone(),
            client_for: Arc::new(move |name| {
                in_process::client(&server, caller(&format!("system:serviceaccount:kube-system:{name}"), &[]))
            }),
            facts: Arc::new(controllers::Facts {
                root_ca: tokio::sync::watch::channel(ca.cert_pem().to_owned()).1,
                cluster_cidrs: vec![CLUSTER_CIDR.to_owned()],
                api_server_names: vec!["kubernetes".to_owned(), ADVERTISE_ADDRESS.to_owned()],
            }),
            signing: Some(Arc::new(controllers::Signing { issuer: pki::Issuer::new(ca), valid_max: SIGNED_VALID })),
            served: Served::start(reflectors.client(), &self.random, &self.tasks),
            clock: self.clock,
            random: self.random.clone(),
            tasks: self.tasks.clone(),
        };
        for controller in controllers::ALL {
            controller.start(context.clone());
        }
    }
}

/// A controller's role, made from what it declares, and its binding to the controller's service account; `None` for
/// one that has no ClusterRole.
fn role_of(controller: &dyn controllers::AnyController) -> Option<(ClusterRole, ClusterRoleBinding)> {
    let role = controllers::harness::role(controller)?;
    let binding = ClusterRoleBinding {
        metadata: ObjectMeta { name: role.metadata.name.clone(), ..Default::default() },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "ClusterRole".into(),
            name: role.metadata.name.clone().unwrap_or_default(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: controller.name().to_owned(),
            namespace: Some("kube-system".into()),
            ..Default::default()
        }]),
    };
    Some((role, binding))
}
