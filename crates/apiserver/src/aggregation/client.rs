//! Connections to one other API server: TLS with the front proxy's certificate, found through its Service.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client as Pooled};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::backend::Reach;
use super::identity;
use crate::outbound::Destination;
use crate::outbound::connect::{Connector, Failed};
use crate::outbound::trust::{self, Alpn, Trusted};
use crate::{Caller, Server};

/// How long a connection that nobody uses stays open.
const IDLE: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS_LEN_MAX: usize = 25;

/// A request's body: a client's, passed on, or the server's own.
pub type Body = Either<Incoming, Full<Bytes>>;
type Pool = Pooled<Connector, Body>;

/// Why a request was not answered. The texts are what upstream's client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// There is no address to connect to.
    Unresolved(String),
    /// It was not reached, or hung up.
    Unreachable(String),
}

impl Failure {
    pub fn text(&self) -> &str {
        match self {
            Self::Unresolved(why) | Self::Unreachable(why) => why,
        }
    }
}

/// What came back to the server's own question.
pub struct Fetched {
    pub code: StatusCode,
    pub content_type: String,
    pub etag: String,
    pub body: Bytes,
}

/// The server's own question.
pub struct Question<'a> {
    pub path: &'a str,
    pub accept: &'a str,
    /// Of what was answered last; empty if nothing was.
    pub etag: &'a str,
    pub caller: &'a Caller,
    pub bytes_max: usize,
}

/// One other API server.
pub struct Client {
    pool: Pool,
    /// HTTP/1.1 alone: connections that become something else.
    upgrades: Pool,
    authority: String,
}

impl Client {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// If the certificates cannot be read.
    pub fn new(server: &Server, reach: &Reach) -> Result<Self, String> {
        let trusted = match (reach.insecure, reach.ca_bundle.is_empty()) {
            (true, _) => Trusted::Anyone,
            (false, true) => Trusted::System,
            (false, false) => Trusted::Bundle(&reach.ca_bundle),
        };
        let service = &reach.service;
        let pool = |alpn| {
            let tls = trust::client(&trusted, server.options().front_proxy.clone(), alpn)?;
            let destination = Destination::Service {
                namespace: service.namespace.clone(),
                name: service.name.clone(),
                port: service.port,
                path: String::new(),
            };
            let connector = Connector::with(destination, tls, server.lookup().clone());
            let mut builder = Pooled::builder(TokioExecutor::new());
            builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
            Ok::<_, String>(builder.pool_max_idle_per_host(IDLE_CONNECTIONS_LEN_MAX).build(connector))
        };
        let authority = format!("{}.{}.svc:{}", service.name, service.namespace, service.port);
        Ok(Self { pool: pool(Alpn::Http2OrHttp1)?, upgrades: pool(Alpn::Http1)?, authority })
    }

    /// Where a path is on that server.
    ///
    /// # Errors
    /// If it is no path.
    pub fn uri(&self, path_and_query: &str) -> Result<Uri, String> {
        let uri = Uri::builder().scheme("https").authority(self.authority.as_str()).path_and_query(path_and_query);
        uri.build().map_err(|error| error.to_string())
    }

    /// Sends a request and returns the answer's head. `upgrade`: the connection is to become something else.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn send(&self, request: Request<Body>, upgrade: bool) -> Result<Response<Incoming>, Failure> {
        let pool = if upgrade { &self.upgrades } else { &self.pool };
        pool.request(request).await.map_err(|error| failure(&error))
    }

    /// Asks something on the server's own behalf.
    ///
    /// # Errors
    /// Why there is no whole answer.
    pub async fn fetch(&self, question: Question<'_>, within: Duration) -> Result<Fetched, String> {
        let mut request = Request::new(Either::Right(Full::default()));
        *request.uri_mut() = self.uri(question.path)?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver"));
        headers.insert(ACCEPT, HeaderValue::from_str(question.accept).map_err(|error| error.to_string())?);
        if let Ok(etag) = HeaderValue::from_str(question.etag)
            && !question.etag.is_empty()
        {
            headers.insert(IF_NONE_MATCH, etag);
        }
        identity::set(headers, question.caller)?;
        let whole = async {
            let (head, body) =
                self.send(request, false).await.map_err(|failure| failure.text().to_owned())?.into_parts();
            let body = Limited::new(body, question.bytes_max).collect().await.map_err(|error| error.to_string())?;
            let text =
                |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            let (content_type, etag) = (text(CONTENT_TYPE), text(ETAG));
            Ok(Fetched { code: head.status, content_type, etag, body: body.to_bytes() })
        };
        let timed_out = || Err("request timed out".to_owned());
        tokio::time::timeout(within, whole).await.unwrap_or_else(|_| timed_out())
    }
}

/// What the error that caused the others says.
fn failure(error: &legacy::Error) -> Failure {
    let mut cause: Option<&dyn std::error::Error> = error.source();
    while let Some(inner) = cause {
        if let Some(failed) = inner.downcast_ref::<Failed>() {
            let text = failed.to_string();
            return if failed.is_unresolved() { Failure::Unresolved(text) } else { Failure::Unreachable(text) };
        }
        cause = inner.source();
    }
    Failure::Unreachable(crate::outbound::innermost(error))
}

/// Whom the server is when it asks on its own behalf: `name` of the group that may do everything.
pub fn own(name: &str) -> Arc<Caller> {
    Arc::new(Caller::new(name, &[crate::authn::MASTERS]))
}
