//! Calls that the API server makes to others over HTTPS: webhooks for admission, conversion, tokens and authorization.
//! (Other API servers are called by [`crate::aggregation`], over connections made here.)
//!
//! Every configuration has a pool of connections of its own, kept while it is in use and dropped when it was not used
//! for long. Redirects are never followed, bodies are bounded, and every call has a deadline.

pub(crate) mod connect;
mod remote;
mod response;
pub(crate) mod service;
pub(crate) mod trust;
mod users;

use std::error::Error as _;
use std::time::Duration;

use api::Status;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;

use crate::Lookup;
use connect::Connector;
pub use remote::{Again, Credentials, Remote};
pub use users::{Shown, Users};

/// Longest body of an answer.
pub const RESPONSE_BYTES_MAX: usize = 3 << 20;
/// How many configurations keep their connections; the one unused longest goes first.
const POOLS_LEN_MAX: usize = 200;
/// How long a connection that nobody uses stays open.
const IDLE: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS_LEN_MAX: usize = 25;

/// Who is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// `https://host:port/path`.
    Url(String),
    /// A Service of the cluster, which must show a certificate for `NAME.NAMESPACE.svc`.
    Service { namespace: String, name: String, port: u16, path: String },
}

/// Who is called, and by whom its certificate must be signed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientConfig {
    pub destination: Destination,
    /// PEM; `None`: the machine's own authorities.
    pub ca_bundle: Option<Bytes>,
    /// Who the server is to it; `None`: nobody in particular.
    pub shown: Option<Shown>,
}

impl ClientConfig {
    /// From the fields that all webhook configurations have. `service` is namespace, name, port and path.
    ///
    /// # Errors
    /// [`Error::Configuration`] unless exactly one of URL and service is given.
    pub fn new(
        url: Option<&str>,
        service: Option<(&str, &str, Option<i32>, Option<&str>)>,
        ca_bundle: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let destination = match (url, service) {
            (Some(url), None) => Destination::Url(url.to_owned()),
            (None, Some((namespace, name, port, path))) => Destination::Service {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
                path: path.unwrap_or_default().to_owned(),
            },
            _ => return Err(Error::Configuration("webhook must define either a URL or a service".to_owned())),
        };
        let ca_bundle = ca_bundle.filter(|pem| !pem.is_empty()).map(Bytes::copy_from_slice);
        Ok(Self { destination, ca_bundle, shown: None })
    }

    /// The same, shown the user that is meant for its host.
    pub fn known_as(&self, users: &Users) -> Self {
        let (host, port) = match &self.destination {
            Destination::Service { namespace, name, port, .. } => (format!("{name}.{namespace}.svc"), *port),
            Destination::Url(url) => {
                let uri: Option<Uri> = url.parse().ok();
                let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default().to_owned();
                (host, uri.and_then(|uri| uri.port_u16()).unwrap_or(443))
            }
        };
        Self { shown: users.to(&host, port).cloned(), ..self.clone() }
    }

    /// Where it is, as errors show it.
    fn url(&self) -> String {
        match &self.destination {
            Destination::Url(url) => url.clone(),
            Destination::Service { namespace, name, port, path } => {
                let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
                format!("https://{name}.{namespace}.svc:{port}{slash}{path}")
            }
        }
    }
}

impl TryFrom<&api::admissionregistration::v1::WebhookClientConfig> for ClientConfig {
    type Error = Error;

    fn try_from(config: &api::admissionregistration::v1::WebhookClientConfig) -> Result<Self, Error> {
        let service = config.service.as_ref();
        let service = service.map(|to| (&*to.namespace, &*to.name, to.port, to.path.as_deref()));
        Self::new(config.url.as_deref(), service, config.ca_bundle.as_ref().map(|pem| &*pem.0))
    }
}

impl TryFrom<&api::apiextensions::v1::WebhookClientConfig> for ClientConfig {
    type Error = Error;

    fn try_from(config: &api::apiextensions::v1::WebhookClientConfig) -> Result<Self, Error> {
        let service = config.service.as_ref();
        let service = service.map(|to| (&*to.namespace, &*to.name, to.port, to.path.as_deref()));
        Self::new(config.url.as_deref(), service, config.ca_bundle.as_ref().map(|pem| &*pem.0))
    }
}

/// Why there is no answer. The text is what upstream's client says.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It cannot be called at all: retrying is useless until the configuration changes.
    #[error("{0}")]
    Configuration(String),
    /// It was not reached, or not within the time.
    #[error("{0}")]
    Unreachable(String),
    /// It answered, and not with success.
    #[error("{0}")]
    Answered(Status),
}

type Pool = Client<Connector, Full<Bytes>>;

struct Kept {
    config: ClientConfig,
    pool: Pool,
}

/// Calls others. Cheap to share.
pub struct Outbound {
    lookup: Lookup,
    /// The one used last comes last.
    pools: Mutex<Vec<Kept>>,
}

impl Outbound {
    pub fn new(lookup: Lookup) -> Self {
        Self { lookup, pools: Mutex::default() }
    }

    /// Sends JSON, and returns the JSON of a successful answer.
    ///
    /// # Errors
    /// [`Error`]; a call that takes longer than `timeout` is [`Error::Unreachable`].
    pub async fn post_json(&self, config: &ClientConfig, body: Bytes, timeout: Duration) -> Result<Bytes, Error> {
        let url = with_timeout(&config.url(), timeout);
        let uri: Uri = url.parse().map_err(|error| Error::Configuration(format!("parse {url:?}: {error}")))?;
        if uri.scheme_str() != Some("https") || uri.host().is_none() {
            return Err(Error::Configuration(format!("{url:?} is not an https URL with a host")));
        }
        let pool = self.pool(config)?;
        let failed = |why: String| Error::Unreachable(format!("Post \"{url}\": {why}"));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
        if let Some(token) = remote::bearer(config.shown.as_ref().and_then(|shown| shown.0.token.as_ref()))? {
            headers.insert(AUTHORIZATION, token);
        }
        match tokio::time::timeout(timeout, exchange(&pool, request)).await {
            Ok(Ok((code, body))) if code.is_success() => Ok(body),
            Ok(Ok((code, body))) => Err(Error::Answered(response::failure(code, &body))),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
        }
    }

    fn pool(&self, config: &ClientConfig) -> Result<Pool, Error> {
        let mut pools = self.pools.lock();
        if let Some(at) = pools.iter().rposition(|kept| kept.config == *config) {
            let kept = pools.remove(at);
            let pool = kept.pool.clone();
            pools.push(kept);
            return Ok(pool);
        }
        let connector = Connector::new(config, self.lookup.clone()).map_err(Error::Configuration)?;
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let pool = builder.pool_max_idle_per_host(IDLE_CONNECTIONS_LEN_MAX).build(connector);
        if pools.len() == POOLS_LEN_MAX {
            pools.remove(0);
        }
        pools.push(Kept { config: config.clone(), pool: pool.clone() });
        Ok(pool)
    }
}

async fn exchange(pool: &Pool, request: Request<Full<Bytes>>) -> Result<(http::StatusCode, Bytes), String> {
    let answer = pool.request(request).await.map_err(|error| innermost(&error))?;
    let (head, body) = answer.into_parts();
    let body =
        Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(|error| match error
            .downcast_ref::<http_body_util::LengthLimitError>(
        ) {
            Some(_) => format!("the response is longer than {RESPONSE_BYTES_MAX} bytes"),
            None => error.to_string(),
        })?;
    Ok((head.status, body.to_bytes()))
}

/// The text of the error that caused the others.
pub(crate) fn innermost(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = error.source();
    let mut text = error.to_string();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    if text == "connection closed before message completed" { "EOF".to_owned() } else { text }
}

/// Tells the other side how long it has.
fn with_timeout(url: &str, timeout: Duration) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}timeout={}", duration_text(timeout))
}

/// Whole seconds, rounded up, as Go writes durations.
fn duration_text(timeout: Duration) -> String {
    let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_said_in_the_url() {
        for (seconds, text) in [(10, "10s"), (90, "1m30s"), (3600, "1h0m0s")] {
            assert_eq!(duration_text(Duration::from_secs(seconds)), text);
        }
        assert_eq!(duration_text(Duration::from_millis(1500)), "2s");
        assert_eq!(with_timeout("https://a/b?c=d", Duration::from_secs(1)), "https://a/b?c=d&timeout=1s");
    }

    #[test]
    fn services_have_a_name_of_their_own() {
        let config = ClientConfig::new(None, Some(("ns", "hook", None, Some("check"))), None).unwrap();
        assert_eq!(config.url(), "https://hook.ns.svc:443/check");
        assert!(ClientConfig::new(None, None, None).is_err());
    }
}
