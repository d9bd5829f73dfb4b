//! A server of somebody else's over TLS on loopback: a webhook or an issuer of tokens.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, TaskGroup};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const VALID: Duration = Duration::from_secs(3600);

type Respond = dyn Fn(&str, &Value) -> (u16, Value) + Send + Sync;

/// Answers by a function of path and body, and remembers what it was asked.
pub struct Peer {
    pub url: String,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    bearers: Arc<Mutex<Vec<(String, String)>>>,
}

impl Peer {
    pub async fn start(
        ca: &pki::Ca,
        tasks: &TaskGroup,
        respond: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let clock = Clock::system();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let identity = pki::Request {
            common_name: "peer".to_owned(),
            organizations: Vec::new(),
            dns_names: Vec::new(),
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
            usage: pki::Usage::Server,
            valid: VALID,
        };
        let identity = pki::tls::Reloadable::new(ca.issue(&identity, clock.now()).unwrap());
        let tls = pki::tls::server_config(identity, None, clock).unwrap();
        let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let bearers: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let (kept, tokens) = (seen.clone(), bearers.clone());
        let respond: Arc<Respond> = Arc::new(respond);
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let group = tasks.clone();
        tasks.spawn("peer", async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, kept, respond) = (acceptor.clone(), kept.clone(), respond.clone());
                let tokens = tokens.clone();
                group.spawn("peer connection", async move {
                    let Ok(tls) = acceptor.accept(socket).await else { return };
                    let serve = |request: Request<Incoming>| {
                        let (kept, respond) = (kept.clone(), respond.clone());
                        let path = request.uri().path().to_owned();
                        let token = request.headers().get("authorization").map(|own| own.to_str().unwrap().to_owned());
                        tokens.lock().push((path, token.unwrap_or_default()));
                        async move { Ok::<_, std::convert::Infallible>(answer(request, &kept, &*respond).await) }
                    };
                    let service = hyper::service::service_fn(serve);
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(TokioIo::new(tls), service).await);
                });
            }
        });
        Self { url, seen, bearers }
    }

    /// What was asked so far: path and body.
    pub fn seen(&self) -> Vec<(String, Value)> {
        self.seen.lock().clone()
    }

    /// What was shown so far: path and `Authorization`.
    pub fn bearers(&self) -> Vec<(String, String)> {
        self.bearers.lock().clone()
    }

    /// A kubeconfig for it in `folder`.
    pub fn kubeconfig(&self, ca: &pki::Ca, folder: &std::path::Path) -> std::path::PathBuf {
        let path = folder.join(format!("{}.kubeconfig", self.url.rsplit(':').next().unwrap()));
        let kubeconfig = pki::kubeconfig::Kubeconfig::new(&format!("{}/ask", self.url), ca.cert_pem(), "peer", "me");
        kubeconfig.save(&path).unwrap();
        path
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<(String, Value)>>,
    respond: &Respond,
) -> Response<Full<Bytes>> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or(json!(null));
    let (code, answer) = respond(&path, &body);
    seen.lock().push((path, body));
    Response::builder().status(code).body(Full::new(Bytes::from(answer.to_string()))).unwrap()
}
