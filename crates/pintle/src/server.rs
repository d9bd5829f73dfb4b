//! `pintle server`: the control plane's components, put together, and the node's if one is wanted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::meta::v1::ObjectMeta;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleRef, Subject};
use apiserver::enablement::Enablement;
use apiserver::{Caller, Server, audit, authn, bootstrap, drain, http};
use base::{Clock, Random, TaskGroup};
use client::{Client, Reflectors, Served};
use pki::authority::Leaf;
use store::Store;

mod certificates;
mod node;
mod secrets;

use crate::cli::ServerArgs;
use crate::layout::Layout;
use crate::settings::Settings;
use crate::{in_process, node_wiring};

pub use certificates::Certificates;

/// Certificates that live shorter could end before a busy machine has renewed them.
const VALID_MIN: Duration = Duration::from_secs(10);
/// How long the parts of a process have to end.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(20);
/// Client connections at once.
const CONNECTIONS_LEN_MAX: usize = 20_000;

/// What every part of the server is handed.
pub struct Common {
    pub arguments: ServerArgs,
    pub layout: Layout,
    pub clock: Clock,
    pub random: Random,
    pub tasks: TaskGroup,
    /// What serves clients: it ends before all else.
    pub serving: TaskGroup,
    pub advertise_address: IpAddr,
    pub port: u16,
    /// The API server's own address in the service network.
    pub service_ip: IpAddr,
    /// What all nodes are told alike.
    pub settings: Settings,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(arguments: ServerArgs) -> Result<ExitCode> {
    check(&arguments)?;
    log(&arguments.node.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("pintle").build()?;
    runtime.block_on(serve(arguments))
}

/// Refuses what is not built, before anything is touched.
fn check(arguments: &ServerArgs) -> Result<()> {
    if !arguments.store_endpoints.is_empty() {
        bail!("--store-endpoints: etcd as the store is not built yet; leave it out to use the embedded store");
    }
    if arguments.token.is_some() {
        bail!("--token: a token is not given at the start; `pintle token create` makes one while the server runs");
    }
    if arguments.max_requests_inflight.saturating_add(arguments.max_mutating_requests_inflight) == 0 {
        bail!("--max-requests-inflight and --max-mutating-requests-inflight: at least one must be above 0");
    }
    arguments.audit.options(Path::new("audit.log"))?;
    lives(arguments)?;
    admission_settings(arguments, Clock::system(), &Random::system())?;
    enablement(arguments)?;
    if let Some(gate) = arguments.feature_gates.first() {
        bail!("--feature-gates: no feature can be switched yet, so {gate} is unknown");
    }
    Ok(())
}

/// How long certificates live.
fn lives(arguments: &ServerArgs) -> Result<()> {
    let (own, ca) = (arguments.certificate_validity_period, arguments.ca_certificate_validity_period);
    if own < VALID_MIN {
        bail!("--certificate-validity-period {own:?}: must be {VALID_MIN:?} at least");
    }
    if ca < 2 * own {
        bail!("--ca-certificate-validity-period {ca:?}: must be twice --certificate-validity-period at least");
    }
    if arguments.cluster_signing_duration.is_zero() {
        bail!("--cluster-signing-duration: must be more than nothing");
    }
    Ok(())
}

/// What of the API clients are shown.
fn enablement(arguments: &ServerArgs) -> Result<Enablement> {
    Enablement::parse(&arguments.runtime_config, resources::ALL)
        .map_err(|why| anyhow::anyhow!("--runtime-config: {why}"))
}

/// Logs to the standard error from now on.
pub fn log(level: &str) -> Result<()> {
    use std::io::IsTerminal;
    // The database tells of its own inner life at `info`.
    let filter = tracing_subscriber::EnvFilter::try_new(format!("fjall=warn,lsm_tree=warn,{level}"))
        .with_context(|| format!("--log-level {level}"))?;
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).init();
    Ok(())
}

async fn serve(arguments: ServerArgs) -> Result<ExitCode> {
    let clock = Clock::system();
    let started = clock.monotonic();
    let layout = Layout::new(&arguments.place.data_dir);
    private_folder(layout.root())?;
    // The port first: two servers on one port must not both touch the data dir.
    let listener = http::Listener::bind(arguments.bind).await.context("--bind")?;
    let advertise_address = advertised(&arguments, listener.address());
    let settings = Settings::of(&arguments)?;
    let common = Common {
        service_ip: settings.service_cidr.nth(1).context("--service-cidr: it has no addresses")?,
        settings,
        port: listener.address().port(),
        advertise_address,
        layout,
        clock,
        random: Random::system(),
        tasks: TaskGroup::new(),
        serving: TaskGroup::new(),
        arguments,
    };
    let certificates = Certificates::open(&common)?;
    let server = start_api(&common, &certificates, listener).await?;
    tracing::info!(took = ?started.elapsed(), address = %common.arguments.bind, "the API is ready");
    start_controllers(&common, &certificates, &server);
    if !common.arguments.no_agent {
        node::start(&common, &certificates.authority, &server).await?;
    }
    certificates.keep(&common, &server);
    wait_for_end().await?;
    tracing::info!("ending; pods keep running");
    let ending = drain::Options {
        delay: common.arguments.shutdown_delay_duration,
        watch_grace: common.arguments.shutdown_watch_termination_grace_period,
        ..drain::Options::default()
    };
    tokio::select! {
        ended = server.drain(&common.serving, &ending) => {
            if !ended {
                tracing::warn!("some requests did not end in time");
            }
        }
        again = wait_for_end() => {
            again?;
            tracing::warn!("asked again to end: requests under way are given up");
        }
    }
    if !common.tasks.shutdown(SHUTDOWN_MAX).await {
        tracing::warn!("some parts did not end in time");
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the data dir, or a folder in it, for its owner alone.
pub fn private_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("--data-dir: creating {}", folder.display()))
}

/// The address others reach this host at: as told, or as bound, or the default route's own.
fn advertised(arguments: &ServerArgs, bound: SocketAddr) -> IpAddr {
    if let Some(address) = arguments.advertise_address {
        return address;
    }
    if bound.ip().is_loopback() {
        tracing::warn!("--bind {bound}: pods cannot reach the API there; bind to an address of this host for that");
    } else if !bound.ip().is_unspecified() {
        return bound.ip();
    }
    // Connecting a datagram socket asks the kernel for a route and sends nothing.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9))?;
        socket.local_addr()
    });
    routed.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// Opens the store, starts the API server on it, and serves once the cluster's own objects are there.
async fn start_api(common: &Common, certificates: &Arc<Certificates>, listener: http::Listener) -> Result<Arc<Server>> {
    let authority = &certificates.authority;
    let (clock, tasks) = (common.clock, &common.tasks);
    let configuration = common.arguments.encryption_provider_config.as_deref();
    let keys = secrets::open(&common.layout, configuration)?;
    let audit = audit_options(common)?;
    let store = Store::open(store::Options::new(common.layout.store()), clock, tasks.clone())
        .await
        .with_context(|| format!("the store in {}", common.layout.store().display()))?;
    let tls = pki::tls::server_config_trusting(authority.identity(Leaf::Server), Some(authority.clients()), clock);
    let mut options = server_options(common, certificates)?;
    options.flags = crate::flags::of_server(common, &tls);
    (options.sealing, options.rotation) = (keys.rules, Some(keys.rotation));
    let audit = audit::Audit::open(audit, clock, tasks).await;
    options.audit = Some(audit.map_err(|why| anyhow::anyhow!("the audit log: {why}"))?);
    let server = Server::start(store, options, tasks.clone()).await.context("reading the store")?;
    bootstrap::run(&server, &bootstrap_options(common, certificates)).await.context("the cluster's own objects")?;
    if let Some(path) = configuration.filter(|_| common.arguments.encryption_provider_config_automatic_reload) {
        secrets::follow(&server, path.to_owned(), common.layout.secrets_key(), tasks)?;
    }
    certificates.write_kubeconfigs()?;
    listener.serve(server.clone(), tls, CONNECTIONS_LEN_MAX, &common.serving);
    Ok(server)
}

fn audit_options(common: &Common) -> Result<audit::Options> {
    let standard = common.layout.audit_log();
    let options = common.arguments.audit.options(&standard)?;
    if options.log.as_ref().is_some_and(|log| log.path == standard) {
        private_folder(standard.parent().unwrap_or(common.layout.root()))?;
    }
    Ok(options)
}

/// The admission plugins that are on.
fn plugins(arguments: &ServerArgs) -> Result<apiserver::admission::Chain> {
    let (enabled, disabled) = (&arguments.enable_admission_plugins, &arguments.disable_admission_plugins);
    apiserver::admission::Chain::with(enabled, disabled).map_err(|why| anyhow::anyhow!(why))
}

/// What they are configured with.
fn admission_settings(arguments: &ServerArgs, clock: Clock, random: &Random) -> Result<apiserver::admission::Settings> {
    let file = arguments.admission_control_config_file.as_deref();
    apiserver::admission::Settings::load(file, &plugins(arguments)?, clock, random).map_err(|why| anyhow::anyhow!(why))
}

fn server_options(common: &Common, certificates: &Arc<Certificates>) -> Result<apiserver::Options> {
    let authority = &certificates.authority;
    let issuer = format!("https://kubernetes.default.svc.{}", common.arguments.cluster_domain);
    let audiences = vec![issuer.clone()];
    let signer = pki::token::Signer::new(issuer.clone(), authority.service_account_key().clone());
    let keys = crate::identity::service_account_keys(common, authority.service_account_keys())?;
    let verifier = pki::token::Verifier::new(vec![issuer.clone()], keys.clone(), audiences.clone());
    let others = crate::identity::authenticators(common, &audiences, std::slice::from_ref(&issuer))?;
    let (users, kubelet_client) = (authority.cluster().trust().clone(), authority.identity(Leaf::KubeletClient));
    let kubelet = pki::tls::client_config_trusting(&users, Some(kubelet_client), pki::tls::Alpn::Http1, common.clock);
    let proxies = authority.front_proxy().trust().clone();
    let front_proxy = authn::FrontProxy::trusting(proxies, &[authn::FRONT_PROXY], common.clock);
    let shown = authn::Certificates::new(Some(front_proxy), Some((users, common.clock)));
    let jwks_uri = format!("https://{}:{}{}", common.advertise_address, common.port, pki::openid::JWKS_PATH);
    Ok(apiserver::Options {
        clock: common.clock,
        random: common.random.clone(),
        id: crate::identity::server_id(),
        enablement: enablement(&common.arguments)?,
        authenticator: authn::standard_and(verifier, shown, common.clock, others),
        authorizer: crate::identity::authorizer(common)?,
        admission: plugins(&common.arguments)?,
        admission_settings: admission_settings(&common.arguments, common.clock, &common.random)?,
        certificates: Some(certificates.clone()),
        tokens: Some(Arc::new(signer)),
        token_audiences: audiences,
        kubelet: Some(kubelet),
        front_proxy: Some(authority.identity(Leaf::FrontProxyClient)),
        service_ranges: resources::core::service::allocate::Ranges {
            services: vec![common.arguments.service_cidr.parse().context("--service-cidr")?],
            pools: None,
            node_ports: resources::core::service::allocate::NODE_PORTS,
        },
        openid: Some((pki::openid::configuration(&issuer, &jwks_uri)?, pki::openid::jwks(&keys))),
        reads_len_max: common.arguments.max_requests_inflight,
        writes_len_max: common.arguments.max_mutating_requests_inflight,
        ..apiserver::Options::default()
    })
}

fn bootstrap_options(common: &Common, certificates: &Certificates) -> bootstrap::Options {
    let authority = &certificates.authority;
    bootstrap::Options {
        advertise_address: common.advertise_address,
        port: common.port,
        service_ip: common.service_ip,
        client_ca_pem: authority.cluster().trust().pem(),
        front_proxy_ca_pem: authority.front_proxy().trust().pem(),
        node_settings: common.settings.to_data(),
        extra: declared_roles(),
    }
}

/// The roles of the controllers, and their bindings.
pub fn declared_roles() -> Vec<(ClusterRole, ClusterRoleBinding)> {
    controllers::ALL.iter().filter_map(|controller| role_of(*controller)).collect()
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

/// A component's client in this process.
pub fn client_of(server: &Arc<Server>, user: &str, groups: &[&str]) -> Client {
    in_process::client(server, Caller::new(user, groups))
}

/// The reflectors all components of the process share.
pub fn reflectors(common: &Common, server: &Arc<Server>) -> Reflectors {
    let client = client_of(server, "system:kube-controller-manager", &[]);
    Reflectors::new(client, common.random.clone(), common.tasks.clone())
}

fn start_controllers(common: &Common, certificates: &Certificates, server: &Arc<Server>) {
    let shared = reflectors(common, server);
    let facts = controllers::Facts {
        root_ca: certificates.root_ca(),
        cluster_cidrs: vec![common.arguments.cluster_cidr.clone()],
        api_server_names: certificates.names(),
    };
    let facts = Arc::new(facts);
    let signing = Arc::new(controllers::Signing {
        issuer: certificates.authority.cluster().issuer().clone(),
        valid_max: common.arguments.cluster_signing_duration,
    });
    // The embedded store has one server at a time (its lock sees to that), so a server that comes back takes its own
    // lease up again at once instead of waiting for it to expire.
    let identity = node_wiring::default_name().unwrap_or_default();
    let election = |name: &str| client::leader::Options {
        namespace: "kube-system".into(),
        name: name.to_owned(),
        identity: identity.clone(),
    };

    let (clock, random, controllers_shared) = (common.clock, common.random.clone(), shared.clone());
    let for_controllers = server.clone();
    common.tasks.spawn(
        "controllers",
        client::leader::lead(
            client_of(server, "system:kube-controller-manager", &[]),
            election("kube-controller-manager"),
            clock,
            common.tasks.clone(),
            move |tasks| {
                let server = for_controllers.clone();
                let context = controllers::Context {
                    reflectors: controllers_shared.clone(),
                    client_for: Arc::new(move |name| {
                        let user = format!("system:serviceaccount:kube-system:{name}");
                        client_of(&server, &user, &["system:serviceaccounts", "system:serviceaccounts:kube-system"])
                    }),
                    facts: facts.clone(),
                    signing: Some(signing.clone()),
                    served: Served::start(controllers_shared.client(), &random, &tasks),
                    clock,
                    random: random.clone(),
                    tasks,
                };
                async move {
                    for controller in controllers::ALL {
                        controller.start(context.clone());
                    }
                }
            },
        ),
    );

    let (random, for_scheduler) = (common.random.clone(), client_of(server, "system:kube-scheduler", &[]));
    common.tasks.spawn(
        "scheduler",
        client::leader::lead(
            for_scheduler.clone(),
            election("kube-scheduler"),
            clock,
            common.tasks.clone(),
            move |tasks| {
                let options = scheduler::Options {
                    name: "default-scheduler".into(),
                    client: for_scheduler.clone(),
                    reflectors: shared.clone(),
                    clock,
                    random: random.clone(),
                    tasks,
                };
                async move { scheduler::run(options) }
            },
        ),
    );
}

/// Returns when the process is asked to end.
pub async fn wait_for_end() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
