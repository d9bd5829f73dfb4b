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
            extra: controllers::ALL.iter().map(|controller| role_of(*controller)).collect(),
        };
        bootstrap::run(&server, &own).await.context("the cluster's own objects")?;
        let client = in_process::client(&server, caller("system:kube-controller-manager", &[]));
        let reflectors = Reflectors::new(client, self.random.clone(), self.tasks.clone());
        if options.controllers {
            self.start_controllers(&server, &reflectors, ca.cert_pem());
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
        Ok(apiserver::Options {
            clock: self.clock,
            random: self.random.clone(),
            authenticator: authn::standard(verifier, None, self.clock),
            authorizer: Arc::new(authz::Chain::standard(self.clock, self.random.clone())),
            enablement: Enablement::parse(&options.runtime_config, resources::ALL).map_err(anyhow::Error::msg)?,
            admission: admission::Chain::with(&options.admission, &[]).map_err(anyhow::Error::msg)?,
            tokens: Some(Arc::new(pki::token::Signer::new(ISSUER, key))),
            token_audiences: audiences,
            ..apiserver::Options::default()
        })
    }

    fn start_controllers(&self, server: &Arc<Server>, reflectors: &Reflectors, root_ca_pem: &str) {
        let server = server.clone();
        let context = controllers::Context {
            reflectors: reflectors.clone(),
            client_for: Arc::new(move |name| {
                in_process::client(&server, caller(&format!("system:serviceaccount:kube-system:{name}"), &[]))
            }),
            facts: Arc::new(controllers::Facts {
                root_ca_pem: root_ca_pem.to_owned(),
                cluster_cidrs: vec![CLUSTER_CIDR.to_owned()],
            }),
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

/// A controller's role, made from what it declares, and its binding to the controller's service account.
fn role_of(controller: &dyn controllers::AnyController) -> (ClusterRole, ClusterRoleBinding) {
    let role = controllers::harness::role(controller);
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
    (role, binding)
}
