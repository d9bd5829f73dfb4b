//! The webhook backend: events in batches (`EventList`) to an address that a kubeconfig file names, with upstream's
//! buffer, throttle and retries. What is not delivered in the end is counted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Random, TaskGroup};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use super::Truncate;
use super::event::Encoded;
use super::figures::Figures;
use super::queue::{Receiver, Sender, batches, queue};
use crate::outbound::trust::{self, Alpn, Trusted};

/// How often a batch is sent before it is lost (upstream's `DefaultRetryBackoffWithInitialDelay`).
const TRIES_MAX: u32 = 5;
/// How much longer each wait is than the one before, and how much of it is left to chance.
const RETRY_FACTOR: f64 = 1.5;
const RETRY_JITTER: f64 = 0.2;
/// How long one try has.
const TRY_MAX: Duration = Duration::from_secs(30);
/// Batches on their way at once: further ones wait in the queue.
const SENDING_LEN_MAX: usize = 16;
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long the last batches have when the server ends.
const ENDING_MAX: Duration = Duration::from_secs(10);

/// How batches are made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events that wait before further ones are lost.
    pub buffer_len_max: usize,
    /// Events in one batch.
    pub batch_len_max: usize,
    /// How long an event waits for others.
    pub batch_wait_max: Duration,
    /// Batches a second, and how many at once after a pause; `None`: as fast as they come.
    pub throttle: Option<(f64, u32)>,
    /// How long before a batch is sent for the second time.
    pub initial_backoff: Duration,
    /// What is too large for it; `None`: nothing.
    pub truncate: Option<Truncate>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            buffer_len_max: 10_000,
            batch_len_max: 400,
            batch_wait_max: Duration::from_secs(30),
            throttle: Some((10.0, 15)),
            initial_backoff: Duration::from_secs(10),
            truncate: None,
        }
    }
}

impl Options {
    /// # Errors
    /// What is wrong with them, in upstream's words.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |what: &str, value: String| {
            Err(format!("invalid audit batch webhook {what} {value}, must be a positive number"))
        };
        if self.buffer_len_max == 0 {
            return wrong("buffer size", "0".to_owned());
        }
        if self.batch_len_max == 0 {
            return wrong("max batch size", "0".to_owned());
        }
        match self.throttle {
            Some((rate, _)) if rate.is_nan() || rate <= 0.0 => wrong("throttle QPS", rate.to_string()),
            Some((_, 0)) => wrong("throttle burst", "0".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Where batches go.
struct Destination {
    uri: Uri,
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: Arc<rustls::ClientConfig>,
    token: Option<pki::kubeconfig::Token>,
}

/// Starts sending to what a kubeconfig file names, until `tasks` ends.
///
/// # Errors
/// If the file or the options cannot be used.
pub fn start(
    file: &Path,
    options: Options,
    clock: Clock,
    tasks: &TaskGroup,
    figures: &Figures,
) -> Result<Sender, String> {
    options.check()?;
    let destination = destination(file).map_err(|why| format!("initializing audit webhook: {why}"))?;
    let (sender, receiver) = queue("webhook", options.buffer_len_max, options.truncate, figures);
    let backend = Arc::new(Backend {
        destination,
        figures: figures.clone(),
        clock,
        random: Random::system(),
        initial_backoff: options.initial_backoff,
        ending: tasks.cancelled(),
    });
    tasks.spawn_graceful("audit webhook", collect(backend, options, receiver, tasks.clone()));
    Ok(sender)
}

fn destination(file: &Path) -> Result<Destination, String> {
    let config = pki::kubeconfig::Kubeconfig::load(file, None).map_err(|error| error.to_string())?;
    let uri: Uri = config.server.parse().map_err(|error| format!("{}: {error}", config.server))?;
    let host = uri.host().ok_or_else(|| format!("{}: no host", config.server))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if uri.scheme_str() != Some("https") {
        return Err(format!("{}: only https is spoken to an audit webhook", config.server));
    }
    let name = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
    let ca = config.ca_pem.as_deref().map(str::as_bytes);
    let identity = config.identity.clone().map(pki::tls::Reloadable::new);
    Ok(Destination {
        port: uri.port_u16().unwrap_or(443),
        name: ServerName::try_from(name).map_err(|error| error.to_string())?,
        tls: trust::client(&ca.map_or(Trusted::System, Trusted::Bundle), identity, Alpn::Http1)?,
        token: config.token,
        host,
        uri,
    })
}

struct Backend {
    destination: Destination,
    figures: Figures,
    clock: Clock,
    random: Random,
    initial_backoff: Duration,
    ending: tokio_util::sync::CancellationToken,
}

/// A bucket of tokens: so many at once, so many a second.
struct Throttle {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: tokio::time::Instant,
}

impl Throttle {
    fn new((rate, burst): (f64, u32), now: tokio::time::Instant) -> Self {
        Self { rate, burst: f64::from(burst), tokens: f64::from(burst), at: now }
    }

    /// Takes a token; how long to wait for it.
    fn take(&mut self, now: tokio::time::Instant) -> Duration {
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * self.rate).min(self.burst) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.tokens / self.rate).max(0.0))
    }
}

async fn collect(backend: Arc<Backend>, options: Options, mut queue: Receiver, tasks: TaskGroup) {
    let clock = backend.clock;
    let mut throttle = options.throttle.map(|own| Throttle::new(own, clock.monotonic()));
    let sending = Arc::new(Semaphore::new(SENDING_LEN_MAX));
    let mut closed = false;
    loop {
        let mut batch = Vec::new();
        let mut due = None;
        while batch.len() < options.batch_len_max {
            let left = options.batch_len_max - batch.len();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let count = tokio::select! {
                biased;
                count = queue.take(&mut batch, left) => count,
                () = wait => break,
                () = backend.ending.cancelled(), if !closed => {
                    closed = true;
                    queue.close();
                    continue;
                }
            };
            if count == 0 {
                closed = true;
                break;
            }
            due.get_or_insert_with(|| clock.monotonic() + options.batch_wait_max);
        }
        if batch.is_empty() {
            break;
        }
        if let Some(throttle) = &mut throttle {
            clock.sleep(throttle.take(clock.monotonic())).await;
        }
        let Ok(permit) = sending.clone().acquire_owned().await else { break };
        let backend = backend.clone();
        tasks.spawn_graceful("audit batch", async move {
            for part in batches(&batch, options.truncate) {
                backend.deliver(part).await;
            }
            drop(permit);
        });
    }
}

impl Backend {
    /// Sends a batch until it is taken, or for the last time.
    async fn deliver(&self, batch: &[Arc<Encoded>]) {
        let body = list(batch);
        let mut wait = self.initial_backoff;
        let mut why = String::new();
        for again in 0..TRIES_MAX {
            if again > 0 {
                let spread = 1.0 + RETRY_JITTER * self.random.fraction();
                tokio::select! {
                    () = self.clock.sleep(wait.mul_f64(spread)) => {}
                    () = self.ending.cancelled() => break,
                }
                wait = wait.mul_f64(RETRY_FACTOR);
            }
            let limit = if self.ending.is_cancelled() { ENDING_MAX } else { TRY_MAX };
            let sent = tokio::time::timeout(limit, self.post(body.clone())).await;
            match sent.unwrap_or_else(|_| Err("context deadline exceeded".to_owned())) {
                Ok(()) => return,
                Err(error) => why = error,
            }
        }
        self.figures.lost("webhook", "webhook", "not delivered", batch.len());
        tracing::error!(
            events = batch.len(),
            why,
            "Error in audit plugin 'webhook' affecting {} audit events: {why}",
            batch.len()
        );
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let to = &self.destination;
        let socket = TcpStream::connect((to.host.as_str(), to.port)).await.map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(to.tls.clone()).connect(to.name.clone(), socket).await;
        let stream = stream.map_err(|error| trust::words(&error, &to.host))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        let path = to.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        *request.uri_mut() = path.parse().map_err(|_| "the path is none".to_owned())?;
        let headers = request.headers_mut();
        let host = to.uri.authority().map_or(to.host.as_str(), http::uri::Authority::as_str);
        headers.insert(HOST, HeaderValue::from_str(host).map_err(|error| error.to_string())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = self.token().await? {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let code = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let text = body.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
            drop(sender);
            let said = String::from_utf8_lossy(&text).trim().chars().take(200).collect::<String>();
            if code.is_success() { Ok(()) } else { Err(format!("{code}: {said}")) }
        };
        let (result, ended) = tokio::join!(exchange, connection);
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the audit webhook ended");
        }
        result
    }

    async fn token(&self) -> Result<Option<String>, String> {
        match &self.destination.token {
            None => Ok(None),
            Some(pki::kubeconfig::Token::Inline(token)) => Ok(Some(token.clone())),
            Some(pki::kubeconfig::Token::File(path)) => {
                let text = tokio::fs::read_to_string(path).await;
                text.map(|text| Some(text.trim().to_owned())).map_err(|error| format!("{}: {error}", path.display()))
            }
        }
    }
}

/// `EventList`.
fn list(batch: &[Arc<Encoded>]) -> Bytes {
    let mut out = Vec::with_capacity(batch.iter().map(|event| event.len() + 2).sum::<usize>() + 80);
    out.extend_from_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (at, event) in batch.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        event.write_item(&mut out);
    }
    out.extend_from_slice(b"]}");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_throttle_lets_a_burst_pass_and_then_a_rate() {
        let start = tokio::time::Instant::now();
        let mut throttle = Throttle::new((10.0, 2), start);
        let wait =
            |throttle: &mut Throttle, after: u64| throttle.take(start + Duration::from_millis(after)).as_millis();
        assert_eq!((wait(&mut throttle, 0), wait(&mut throttle, 0), wait(&mut throttle, 0)), (0, 0, 100));
        assert_eq!(wait(&mut throttle, 1000), 0, "the pause filled it again");
    }

    #[test]
    fn wrong_numbers_are_refused_in_upstreams_words() {
        let say = |options: Options| options.check().unwrap_err();
        assert_eq!(
            say(Options { buffer_len_max: 0, ..Options::default() }),
            "invalid audit batch webhook buffer size 0, must be a positive number"
        );
        assert_eq!(
            say(Options { batch_len_max: 0, ..Options::default() }),
            "invalid audit batch webhook max batch size 0, must be a positive number"
        );
        assert_eq!(
            say(Options { throttle: Some((-1.0, 1)), ..Options::default() }),
            "invalid audit batch webhook throttle QPS -1, must be a positive number"
        );
        assert_eq!(
            say(Options { throttle: Some((1.0, 0)), ..Options::default() }),
            "invalid audit batch webhook throttle burst 0, must be a positive number"
        );
    }

    #[test]
    fn a_batch_is_a_list() {
        let event = Arc::new(super::super::event::tests::some());
        let value: serde_json::Value = serde_json::from_slice(&list(&[event.clone(), event])).unwrap();
        assert_eq!((&value["kind"], value["items"].as_array().unwrap().len()), (&"EventList".into(), 2));
        assert_eq!(value["items"][1]["verb"], "create");
    }
}
