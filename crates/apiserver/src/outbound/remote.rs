//! One server outside the cluster that is called again and again: an authorizer, a token reviewer, an issuer of tokens.

use std::time::Duration;

use base::{Clock, Random};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pki::kubeconfig::{Kubeconfig, Token};
use zeroize::Zeroizing;

use super::connect::Connector;
use super::{Error, IDLE, IDLE_CONNECTIONS_LEN_MAX, Pool, exchange, response, with_timeout};

/// Whom to trust and who to be.
#[derive(Debug, Default, Clone)]
pub struct Credentials {
    /// PEM; `None`: the machine's own authorities.
    pub ca_pem: Option<String>,
    /// The name the other's certificate must bear, if not the URL's.
    pub server_name: Option<String>,
    pub identity: Option<pki::Identity>,
    pub token: Option<Token>,
}

/// A call is tried so often if the server says it is not well, each time after a longer pause.
const TRIES: u32 = 5;
const PAUSE_FACTOR: f64 = 1.5;
const PAUSE_JITTER: f64 = 0.2;

/// How a server that is not well is asked again.
#[derive(Clone)]
pub struct Again {
    /// The pause before the second try.
    pub first: Duration,
    pub clock: Clock,
    pub random: Random,
}

/// A server, and the connections to it.
pub struct Remote {
    url: String,
    pool: Pool,
    token: Option<Token>,
}

impl Remote {
    /// At that URL, which must be https.
    ///
    /// # Errors
    /// What is wrong with URL or credentials.
    pub fn new(url: &str, credentials: &Credentials) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("parse {url:?}: {error}"))?;
        if uri.scheme_str() != Some("https") || uri.host().is_none() {
            return Err(format!("{url:?} is not an https URL with a host"));
        }
        let connector = Connector::remote(url, credentials)?;
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let pool = builder.pool_max_idle_per_host(IDLE_CONNECTIONS_LEN_MAX).build(connector);
        Ok(Self { url: url.to_owned(), pool, token: credentials.token.clone() })
    }

    /// The server of a kubeconfig file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn of_kubeconfig(path: &std::path::Path) -> Result<Self, String> {
        let read = Kubeconfig::load(path, None).map_err(|error| format!("{}: {error}", path.display()))?;
        let credentials = Credentials {
            ca_pem: read.ca_pem.clone(),
            server_name: read.tls_server_name.clone(),
            identity: read.identity.clone(),
            token: read.token.clone(),
        };
        Self::new(&read.server, &credentials).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// Sends JSON, and returns the JSON of a successful answer.
    ///
    /// # Errors
    /// [`Error`]; a call that takes longer than `timeout` is [`Error::Unreachable`].
    pub async fn post_json(&self, body: Bytes, timeout: Duration) -> Result<Bytes, Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.send(with_timeout(&self.url, timeout), request, timeout).await
    }

    /// As [`Remote::post_json`], again after a while if the server says that it is not well just now. `tried` is told
    /// of each try: how long it took, and its error if there was one.
    ///
    /// # Errors
    /// That of the last try.
    pub async fn post_json_again(
        &self,
        body: Bytes,
        timeout: Duration,
        again: &Again,
        tried: impl Fn(Duration, Option<&Error>),
    ) -> Result<Bytes, Error> {
        let mut pause = again.first;
        let mut tries = 1;
        loop {
            let began = again.clock.monotonic();
            let answer = self.post_json(body.clone(), timeout).await;
            tried(again.clock.monotonic() - began, answer.as_ref().err());
            match answer {
                Err(error) if tries < TRIES && is_passing(&error) => {}
                other => return other,
            }
            again.clock.sleep(pause.mul_f64(1.0 + PAUSE_JITTER * again.random.fraction())).await;
            pause = pause.mul_f64(PAUSE_FACTOR);
            tries += 1;
        }
    }

    /// Reads a document at `url`, which may be another path of the server.
    ///
    /// # Errors
    /// As [`Remote::post_json`].
    pub async fn get(&self, url: &str, timeout: Duration) -> Result<Bytes, Error> {
        self.send(url.to_owned(), Request::new(Full::default()), timeout).await
    }

    async fn send(&self, url: String, mut request: Request<Full<Bytes>>, timeout: Duration) -> Result<Bytes, Error> {
        let uri: Uri = url.parse().map_err(|error| Error::Configuration(format!("parse {url:?}: {error}")))?;
        if uri.scheme_str() != Some("https") {
            return Err(Error::Configuration(format!("{url:?} is not an https URL")));
        }
        let verb = if request.method() == Method::POST { "Post" } else { "Get" };
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver"));
        if let Some(token) = bearer(self.token.as_ref())? {
            headers.insert(AUTHORIZATION, token);
        }
        let failed = |why: String| Error::Unreachable(format!("{verb} \"{url}\": {why}"));
        match tokio::time::timeout(timeout, exchange(&self.pool, request)).await {
            Ok(Ok((StatusCode::OK | StatusCode::CREATED, body))) => Ok(body),
            Ok(Ok((code, body))) => Err(Error::Answered(response::failure(code, &body))),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
        }
    }
}

/// Whether a server said that it is not well just now.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Answered(status) => matches!(status.code(), 429 | 500 | 504),
        Error::Unreachable(why) => why.contains("connection reset"),
        Error::Configuration(_) => false,
    }
}

/// The header that shows a token, read anew where somebody renews it.
pub(super) fn bearer(token: Option<&Token>) -> Result<Option<HeaderValue>, Error> {
    let token = match token {
        None => return Ok(None),
        Some(Token::Inline(token)) => Zeroizing::new(token.clone()),
        Some(Token::File(path)) => Zeroizing::new(
            std::fs::read_to_string(path)
                .map_err(|error| Error::Configuration(format!("open {}: {error}", path.display())))?,
        ),
    };
    let header = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut header = HeaderValue::from_str(&header)
        .map_err(|_| Error::Configuration("the bearer token is not one line of text".to_owned()))?;
    header.set_sensitive(true);
    Ok(Some(header))
}
