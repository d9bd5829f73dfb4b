//! `pintle agent`: a node whose API server is elsewhere. It joins with a token, and from then on is known by a
//! certificate that it renews by itself.

mod discovery;
mod home;
mod join;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::certificates::v1::ClusterTrustBundle;
use api::core::v1::ConfigMap;
use apiserver::bootstrap::objects::NODE_SETTINGS;
use base::{Backoff, Clock, Random, TaskGroup};
use client::{Client, ListOptions, Reflector, Reflectors};
use node::certificate::{Files, Keeper, Purpose};
use pki::tls::{Reloadable, Trust};

use crate::cli::agent::AgentArgs;
use crate::layout::Layout;
use crate::node_wiring::{self, Parts, Running};
use crate::server::{SHUTDOWN_MAX, log, private_folder, wait_for_end};
use crate::settings::Settings;

use discovery::Address;
use home::Home;
use join::Member;

/// How long a start waits for the server's settings when it has those of last time.
const SETTINGS_MAX: Duration = Duration::from_secs(10);
/// Between tries of what needs the server.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Whose bundle says which CAs the API server may be known by.
const SERVER_BUNDLES: &str = "spec.signerName=kubernetes.io/kube-apiserver-serving";

/// Runs until SIGTERM or SIGINT.
pub fn run(arguments: AgentArgs) -> Result<ExitCode> {
    let wish = join::Wish::of(&arguments)?;
    log(&arguments.node.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("pintle").build()?;
    runtime.block_on(serve(arguments, wish))
}

async fn serve(arguments: AgentArgs, wish: join::Wish) -> Result<ExitCode> {
    let layout = Layout::new(&arguments.place.data_dir);
    private_folder(layout.root())?;
    if layout.pki().join("ca.key").exists() {
        bail!(
            "--data-dir: {} is a server's, which has a node of its own; give the agent another folder",
            layout.root().display()
        );
    }
    let _lock = lock(&layout)?;
    let home = Arc::new(Home {
        name: node_wiring::name(&arguments.node)?,
        server: home::server(&arguments, &layout)?,
        layout,
        clock: Clock::system(),
        random: Random::system(),
        tasks: TaskGroup::new(),
    });
    // One wait from the beginning: a signal between two would be lost.
    let mut end = pin!(wait_for_end());
    let ended = tokio::select! {
        started = start(&home, &arguments, &wish) => {
            started?;
            None
        }
        ended = &mut end => Some(ended),
    };
    match ended {
        Some(ended) => ended?,
        None => end.await?,
    }
    tracing::info!("ending; pods keep running");
    if !home.tasks.shutdown(SHUTDOWN_MAX).await {
        tracing::warn!("some parts did not end in time");
    }
    Ok(ExitCode::SUCCESS)
}

/// Held as long as the file is open.
///
/// # Errors
/// If an agent is running with this data dir.
pub fn lock(layout: &Layout) -> Result<File> {
    let path = layout.agent_lock();
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("--data-dir: an agent is running with {}: end it first", layout.root().display())
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// Joins if need be, and starts the node; what goes on for ever does so in the home's tasks.
async fn start(home: &Arc<Home>, arguments: &AgentArgs, wish: &join::Wish) -> Result<()> {
    let member = join::member(home, wish).await?;
    follow_trust(home, &member);
    keep_client_certificate(home, &member, wish);
    let settings = settings(home, &member.client).await?;
    let node_ip = match arguments.node_ip {
        Some(ip) => ip,
        None => route_to(&home.server).await?,
    };
    tracing::info!(node = home.name, server = %home.server, %node_ip, "the node is a member of the cluster");
    let parts = Arc::new(Parts {
        name: home.name.clone(),
        ips: vec![node_ip],
        instance: arguments.place.instance.clone(),
        layout: home.layout.clone(),
        arguments: arguments.node.clone(),
        settings,
        client: member.client.clone(),
        shared: Reflectors::new(member.client.clone(), home.random.clone(), home.tasks.clone()),
        clock: home.clock,
        random: home.random.clone(),
        tasks: home.tasks.clone(),
    });
    let running = node_wiring::start(&parts).await?;
    home.tasks.spawn("serving certificate", serve_kubelet(home.clone(), member, parts, running));
    Ok(())
}

/// The address by which this host reaches the server.
async fn route_to(server: &Address) -> Result<IpAddr> {
    let mut found = tokio::net::lookup_host((server.host.as_str(), server.port))
        .await
        .with_context(|| format!("--server: looking up {}", server.host))?;
    let peer = found.next().with_context(|| format!("--server: {} has no address", server.host))?;
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Connecting a datagram socket asks the kernel for a route and sends nothing.
    let local = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(peer)?;
        socket.local_addr()
    });
    let local = local.with_context(|| format!("--node-ip: there is no route to {peer}; give the node's address"))?;
    if local.ip().is_loopback() {
        bail!("--node-ip: the server is reached at {peer}, where nobody else is: give the address of this node");
    }
    Ok(local.ip())
}

/// What all nodes are told: asked of the server, or as it was told last.
async fn settings(home: &Home, client: &Client) -> Result<Settings> {
    let path = home.layout.node_settings();
    let last = home::read_settings(&path);
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    loop {
        let asked = client.get::<ConfigMap>("kube-system", NODE_SETTINGS);
        let answer = tokio::time::timeout(SETTINGS_MAX, asked).await;
        let why = match answer {
            Ok(Ok(map)) => {
                let data = map.data.clone().unwrap_or_default();
                let settings =
                    Settings::from_data(&data).with_context(|| format!("the ConfigMap kube-system/{NODE_SETTINGS}"))?;
                home::write_settings(&path, &data)?;
                return Ok(settings);
            }
            Ok(Err(error)) => {
                if !error.is_retryable() && last.is_none() {
                    return Err(error).with_context(|| {
                        format!(
                            "the server at {} does not let this node read kube-system/{NODE_SETTINGS}; if it is of \
                             another cluster than before, remove {} and join anew with --token",
                            home.server,
                            home.layout.pki().display()
                        )
                    });
                }
                error.to_string()
            }
            Err(_) => format!("no answer within {SETTINGS_MAX:?}"),
        };
        if let Some(last) = last {
            tracing::warn!(why, "the server is not reached: the node starts with what it was told last");
            return Ok(last);
        }
        let pause = backoff.next_jittered(&home.random);
        tracing::warn!(why, ?pause, "the cluster's settings are not known yet");
        home.clock.sleep(pause).await;
    }
}

/// The server tells which CAs it may be known by: they may be replaced.
fn follow_trust(home: &Arc<Home>, member: &Member) {
    let options = ListOptions { field_selector: Some(SERVER_BUNDLES.to_owned()), ..ListOptions::default() };
    let (home, trust) = (home.clone(), member.trust.clone());
    let bundles: Reflector<ClusterTrustBundle> =
        Reflector::start(member.client.clone(), options, home.random.clone(), &home.tasks);
    home.tasks.clone().spawn("the server's CAs", async move {
        let mut changes = bundles.subscribe();
        loop {
            changes.next().await;
            let all = bundles.snapshot();
            let told = pki::merge_bundles(all.values().map(|bundle| bundle.spec.trust_bundle.as_str()));
            match told.map_err(anyhow::Error::from).and_then(|pem| trust_also(&home, &trust, &pem)) {
                Ok(false) => {}
                Ok(true) => tracing::info!("the server may be known by other CAs from now on"),
                Err(error) => tracing::error!("the server's CAs are not taken over: {error:#}"),
            }
        }
    });
}

/// Trusts these CAs, if they are others than before.
fn trust_also(home: &Home, trust: &Trust, pem: &str) -> Result<bool> {
    if pem.is_empty() || pki::merge_bundles([trust.pem().as_str()])? == pem {
        return Ok(false);
    }
    home::write_ca(&home.layout, pem)?;
    trust.replace(pem)?;
    Ok(true)
}

fn keep_client_certificate(home: &Arc<Home>, member: &Member, wish: &join::Wish) {
    let (own, trust, token) = (member.client.clone(), member.trust.clone(), wish.token.clone());
    let (here, https) = (home.clone(), member.https.clone());
    let keeper = Keeper {
        purpose: Purpose::Client,
        node_name: home.name.clone(),
        files: home.client_files(),
        client: Arc::new(move |ended| match &token {
            // What has ended proves nothing: the token has to.
            Some(token) if ended => here.bearer(&trust, token),
            _ => own.clone(),
        }),
        renewed: Arc::new(move || https.reconnect()),
        clock: home.clock,
        random: home.random.clone(),
        tasks: home.tasks.clone(),
    };
    let identity = member.identity.clone();
    home.tasks.spawn("client certificate", async move { keeper.keep(identity).await });
}

/// Gets the serving certificate, serves the node's own API with it, and renews it.
async fn serve_kubelet(home: Arc<Home>, member: Member, parts: Arc<Parts>, running: Running) {
    let client = member.client.clone();
    let keeper = Keeper {
        purpose: Purpose::Serving { addresses: parts.ips.clone() },
        node_name: home.name.clone(),
        files: Files::new(&home.layout.pki(), "kubelet-server"),
        client: Arc::new(move |_| client.clone()),
        renewed: Arc::new(|| ()),
        clock: home.clock,
        random: home.random.clone(),
        tasks: home.tasks.clone(),
    };
    let kept =
        keeper.files.load().ok().flatten().filter(|kept| {
            keeper.purpose.is_met_by(kept.certificate(), &home.name) && home.clock.now() < kept.not_after()
        });
    let identity = match kept {
        Some(kept) => kept,
        None => keeper.first().await,
    };
    let identity = Reloadable::new(identity);
    let any: IpAddr = if parts.ips[0].is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    while let Err(error) = node_wiring::serve(&parts, &running, any, identity.clone(), &member.trust).await {
        let pause = backoff.next();
        tracing::error!(?pause, "the node's API (logs, exec) is not served: {error:#}");
        home.clock.sleep(pause).await;
    }
    keeper.keep(identity).await;
}
