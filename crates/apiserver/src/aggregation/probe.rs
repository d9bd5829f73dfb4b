//! Asks another API server what it must be able to say. Whether its certificate is right does not matter here: who
//! owns the network and forges a status has gained nothing.

use std::time::Duration;

use base::Random;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Request;
use http_body_util::{Either, Full};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::rt::TokioExecutor;

use super::backend::Backend;
use super::client::{self, Body};
use super::identity;
use crate::outbound::connect::Connector;
use crate::outbound::trust::{self, Alpn, Trusted};
use crate::outbound::{Destination, innermost, service};
use crate::{Caller, Server};

/// So many are asked at once, each at an address of its own choice; one that answers is enough.
const TRIES: usize = 5;
const WITHIN: Duration = Duration::from_secs(5);

/// Asks for the version's resources.
///
/// # Errors
/// Why none of the tries was answered with success.
pub async fn probe(server: &Server, backend: &Backend) -> Result<(), String> {
    let caller = client::own("system:kube-aggregator");
    let mut tries: FuturesUnordered<_> = (0..TRIES).map(|_| once(server, backend, &caller)).collect();
    let mut last = Ok(());
    while let Some(done) = tries.next().await {
        if done.is_ok() {
            return Ok(());
        }
        last = done;
    }
    last
}

async fn once(server: &Server, backend: &Backend, caller: &Caller) -> Result<(), String> {
    let at = &backend.reach.service;
    let random: &Random = &server.options().random;
    let (host, port) = service::resolve(server.lookup(), random, &at.namespace, &at.name, at.port)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let url = format!("https://{host}:{port}{}", backend.path());
    let answered = tokio::time::timeout(WITHIN, get(server, &url, caller)).await;
    let timed_out = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    let failed = |why: String| Err(format!("failing or missing response from {url}: {why}"));
    match answered.unwrap_or_else(|_| Err(timed_out.to_owned())) {
        Ok(code) if code.is_success() => Ok(()),
        Ok(code) => failed(format!("bad status from {url}: {}", code.as_u16())),
        Err(why) => failed(format!("Get \"{url}\": {why}")),
    }
}

async fn get(server: &Server, url: &str, caller: &Caller) -> Result<http::StatusCode, String> {
    let tls = trust::client(&Trusted::Anyone, server.options().front_proxy.clone(), Alpn::Http1)?;
    let connector = Connector::with(Destination::Url(url.to_owned()), tls, server.lookup().clone());
    let pool: Pooled<Connector, Body> =
        Pooled::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let mut request: Request<Body> = Request::new(Either::Right(Full::<Bytes>::default()));
    *request.uri_mut() = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    identity::set(request.headers_mut(), caller)?;
    let answer = pool.request(request).await.map_err(|error| innermost(&error))?;
    Ok(answer.status())
}
