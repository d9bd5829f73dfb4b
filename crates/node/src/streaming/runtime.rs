//! The connection to the runtime's streaming server.

use std::time::Duration;

use base::TaskGroup;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{PROTOCOL_HEADER, SPDY};

/// How long the runtime may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The longest refusal that is passed on.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime gave an address that cannot be used.
    #[error("the container runtime's streaming address {0:?} is not supported")]
    Address(String),
    /// It does not answer there.
    #[error("error dialing backend: {0}")]
    Unreachable(String),
    /// It answered, but not with an upgrade.
    #[error("the container runtime refused the stream: {code}: {message}")]
    Refused { code: StatusCode, message: String },
}

/// An upgraded connection.
pub struct Connection {
    /// What it carries.
    pub io: TokioIo<Upgraded>,
    /// The headers of the answer.
    pub headers: HeaderMap,
}

/// Opens `url`, which the runtime gave for one stream, and upgrades to SPDY with one of `protocols`.
///
/// # Errors
/// See [`Error`].
pub async fn dial(url: &str, protocols: &[&str], tasks: &TaskGroup) -> Result<Connection, Error> {
    let unusable = || Error::Address(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| unusable())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(unusable()) };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(80);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());

    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| unusable())?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(|_| unusable())?);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    for protocol in protocols {
        if let Ok(value) = HeaderValue::from_str(protocol) {
            headers.append(PROTOCOL_HEADER, value);
        }
    }
    match tokio::time::timeout(ANSWER_LIMIT, exchange(host, port, request, tasks)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Unreachable(format!("no answer from {authority}"))),
    }
}

async fn exchange(
    host: &str,
    port: u16,
    request: Request<Empty<Bytes>>,
    tasks: &TaskGroup,
) -> Result<Connection, Error> {
    let unreachable = |error: &dyn std::fmt::Display| Error::Unreachable(error.to_string());
    let tcp = TcpStream::connect((host, port)).await.map_err(|error| unreachable(&error))?;
    let _ = tcp.set_nodelay(true); // keystrokes; without it they are only later
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await;
    let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
    tasks.spawn("connection to the runtime's streaming server", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "the connection to the runtime's streaming server broke");
        }
    });
    let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(answer).await);
    }
    let headers = answer.headers().clone();
    let io = hyper::upgrade::on(answer).await.map_err(|error| unreachable(&error))?;
    Ok(Connection { io: TokioIo::new(io), headers })
}

async fn refusal(answer: Response<hyper::body::Incoming>) -> Error {
    let code = answer.status();
    let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let message = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    Error::Refused { code, message }
}
