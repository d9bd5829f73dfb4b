//! Becoming a member of a cluster: with what the node has from before, or with a token.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use api::core::v1::Node;
use base::{Backoff, Timestamp};
use client::Client;
use client::https::Https;
use node::certificate::{self, Purpose};
use pki::Identity;
use pki::bootstrap::{JoinToken, Token};
use pki::file;
use pki::tls::{Alpn, Reloadable, Trust};

use super::discovery::{self, Known, Problem};
use super::home::{self, Home};
use crate::cli::agent::AgentArgs;

/// Between tries to reach the server.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// With what to join, as the flags say. Not needed by a node that has joined.
#[derive(Debug, Clone)]
pub struct Wish {
    pub token: Option<Token>,
    /// The file of `--token-file`, which is not there: a node that has joined does not need it.
    absent: Option<PathBuf>,
    known: Option<Known>,
}

impl Wish {
    /// # Errors
    /// Names the flag, never the token.
    pub fn of(arguments: &AgentArgs) -> Result<Self> {
        let mut absent = None;
        let (flag, text) = match (&arguments.token, &arguments.token_file) {
            (Some(token), _) => ("--token", Some(token.clone())),
            (None, Some(path)) => match fs::read_to_string(path) {
                Ok(text) => ("--token-file", Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    absent = Some(path.clone());
                    ("--token-file", None)
                }
                Err(error) => return Err(error).with_context(|| format!("--token-file: {}", path.display())),
            },
            (None, None) => ("--token", None),
        };
        let join = text.map(|text| text.trim().parse::<JoinToken>()).transpose().with_context(|| flag.to_owned())?;
        let known = match (&arguments.ca_pin, &arguments.ca_file) {
            (Some(pin), _) => {
                pki::tls::pinned_client_config(pin, Alpn::Http2, base::Clock::system()).context("--ca-pin")?;
                Some(Known::Pin(pin.to_ascii_lowercase()))
            }
            (None, Some(path)) => {
                let pem = fs::read_to_string(path).with_context(|| format!("--ca-file: {}", path.display()))?;
                Trust::new(&pem).with_context(|| format!("--ca-file: {}", path.display()))?;
                Some(Known::Ca(pki::certificate_chain(&pem)?))
            }
            (None, None) => join.as_ref().and_then(|join| join.ca_hash.clone()).map(Known::Pin),
        };
        Ok(Self { token: join.map(|join| join.token), absent, known })
    }
}

/// A node that is known to its cluster.
pub struct Member {
    pub identity: Arc<Reloadable>,
    /// The CAs the server is known by; they also vouch for the API server as the node's client.
    pub trust: Trust,
    pub https: Arc<Https>,
    /// Acts as the node.
    pub client: Client,
}

impl Member {
    fn new(home: &Home, identity: Identity, trust: Trust) -> Self {
        let identity = Reloadable::new(identity);
        let tls = pki::tls::client_config_trusting(&trust, Some(identity.clone()), Alpn::Http2, home.clock);
        let https = Arc::new(Https::new(&home.server.to_string(), tls, None));
        Self { identity, trust, client: Client::new(https.clone()), https }
    }
}

/// The node as a member: at once if it has a certificate that is valid, else with the token.
pub async fn member(home: &Home, wish: &Wish) -> Result<Member> {
    let files = home.client_files();
    let place = files.current();
    let kept = match files.load() {
        Ok(kept) => kept,
        // A token can mend that; without one it is better not guessed at.
        Err(error) if wish.token.is_some() => {
            tracing::warn!(%error, "{} cannot be read: the node joins anew", place.display());
            None
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", place.display())),
    };
    if let Some(kept) = &kept {
        let user = &kept.certificate().common_name;
        if *user != certificate::user(&home.name) {
            bail!(
                "--node-name: the certificate in {} is of {user}, not of node {}: give the name it has, or another \
                 --data-dir",
                place.display(),
                home.name
            );
        }
    }
    let ca = match file::read(&home.layout.server_ca()) {
        Ok(pem) => Some(pem),
        Err(error) if error.is_missing_file() => None,
        Err(error) => return Err(error.into()),
    };
    let ended = match kept {
        Some(kept) if home.clock.now() < kept.not_after() => {
            let pem = match (ca, &wish.known) {
                (Some(pem), _) => pem,
                (None, Some(known)) => known_ca(home, known).await?,
                (None, None) => bail!("{} is missing: give --ca-pin or --ca-file", home.layout.server_ca().display()),
            };
            let member = Member::new(home, kept, Trust::new(&pem)?);
            home::write_ca(&home.layout, &pem)?;
            home::write_kubeconfig(home)?;
            return Ok(member);
        }
        Some(kept) => Some(kept.not_after()),
        None => None,
    };
    let Some(token) = &wish.token else { return Err(without_token(home, wish, ended)) };
    let known = wish.known.clone().or(ca.map(Known::Ca)).context(
        "--ca-pin or --ca-file: by what is the server to be known? `pintle token create` prints the pin. A token is \
         shown to nobody who may be somebody else",
    )?;
    let pem = known_ca(home, &known).await?;
    let trust = Trust::new(&pem)?;
    let identity = introduce(home, &home.bearer(&trust, token), ended.is_some()).await?;
    home::write_ca(&home.layout, &pem)?;
    home::write_kubeconfig(home)?;
    tracing::info!(until = %identity.not_after(), "the node {} has a certificate", home.name);
    Ok(Member::new(home, identity, trust))
}

/// A token is needed, and there is none.
fn without_token(home: &Home, wish: &Wish, ended: Option<Timestamp>) -> anyhow::Error {
    let flag = match &wish.absent {
        Some(path) => format!("--token-file: {} is not there, and", path.display()),
        None => "--token:".to_owned(),
    };
    let place = home.client_files().current();
    let (name, place) = (&home.name, place.display());
    match ended {
        Some(end) => anyhow!(
            "{flag} the certificate of node {name} in {place} ended at {end}: make a token on the server with `pintle \
             token create`, and start the agent with it"
        ),
        None => anyhow!(
            "{flag} this node has not joined yet: make a token on the server with `pintle token create`; it prints the \
             command to start here"
        ),
    }
}

/// The server's CA, once the server is there.
async fn known_ca(home: &Home, known: &Known) -> Result<String> {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    loop {
        match discovery::ca(&home.server, known, home.clock).await {
            Ok(pem) => return Ok(pem),
            Err(Problem::Wrong(why)) => bail!(why),
            Err(Problem::Unreachable(why)) => pause(home, &mut backoff, &why).await,
        }
    }
}

async fn pause(home: &Home, backoff: &mut Backoff, why: &str) {
    let pause = backoff.next_jittered(&home.random);
    tracing::warn!(why, ?pause, "the server cannot be asked yet");
    home.clock.sleep(pause).await;
}

/// Gets the first certificate as the bearer of a token. `again`: the node has been here before.
async fn introduce(home: &Home, bearer: &Client, again: bool) -> Result<Identity> {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    let node = loop {
        match bearer.find::<Node>("", &home.name).await {
            Ok(node) => break node,
            // Where tokens may not look, the server is left to decide.
            Err(error) if error.is_forbidden() => break None,
            Err(error) if error.is_retryable() => pause(home, &mut backoff, &error.to_string()).await,
            Err(error) => return Err(refused(&error)),
        }
    };
    let live = node.filter(|node| is_ready(node));
    if let Some(node) = live.filter(|_| !again) {
        bail!(
            "--node-name: a node {} is in the cluster and Ready{}: give another name; if it is this host under its old \
             name, wait until the node is not Ready, or remove it with `kubectl delete node {0}`",
            home.name,
            address(&node).map(|address| format!(", at {address}")).unwrap_or_default()
        );
    }
    let (files, purpose) = (home.client_files(), Purpose::Client);
    loop {
        let (clock, random, tasks) = (home.clock, &home.random, &home.tasks);
        let asked = certificate::obtain(bearer, &files, &purpose, &home.name, clock, random, tasks).await;
        match asked {
            Ok(identity) => return Ok(identity),
            Err(certificate::Error::Api(error)) if !error.is_retryable() => return Err(refused(&error)),
            Err(
                error @ (certificate::Error::Api(_)
                | certificate::Error::Waiting { .. }
                | certificate::Error::Late { .. }),
            ) => pause(home, &mut backoff, &error.to_string()).await,
            Err(error) => return Err(anyhow!(error).context("the node gets no certificate")),
        }
    }
}

/// What the server has against a token.
fn refused(error: &client::Error) -> anyhow::Error {
    let words = match error {
        client::Error::Status(status) if status.code() == 401 => {
            "--token: the server does not accept the token: it is wrong, was deleted, or its time is over; make \
             another on the server with `pintle token create`"
        }
        _ => "--token: its bearer may not ask for a node's certificate",
    };
    anyhow!(error.clone()).context(words)
}

fn is_ready(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn address(node: &Node) -> Option<&str> {
    let mut addresses = node.status.as_ref()?.addresses.iter().flatten();
    addresses.find(|address| address.type_ == "InternalIP").map(|address| address.address.as_str())
}
