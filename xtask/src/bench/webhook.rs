//! A webhook that allows everything, as quickly as it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use base::Clock;
use base64::Engine;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pki::authority::{Authority, Leaf, Options};
use pki::tls::Alpn;
use serde_json::{Value, json};

use super::connection::Connection;

/// A review as a server sends it.
pub const EXAMPLE: &[u8] = br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u"}}"#;

pub struct Hook {
    authority: Authority,
    address: String,
    calls: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
}

impl Hook {
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ph").tempdir_in("/tmp")?;
        let loopback = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let options = Options::new("cluster.local", &[], "localhost", &[loopback], &[]);
        let authority = Authority::open_or_create(&folder.path().join("pki"), options, Clock::system().now())?;
        let tls = pki::tls::server_config(authority.identity(Leaf::Server), None, Clock::system())?;
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = format!("127.0.0.1:{}", listener.local_addr()?.port());
        let calls = Arc::new(AtomicU64::new(0));
        let counter = calls.clone();
        #[allow(clippy::disallowed_methods)] // ends with the hook
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, calls) = (acceptor.clone(), counter.clone());
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| allow(request, calls.clone()));
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { authority, address, calls, _folder: folder, serving })
    }

    pub fn url(&self) -> String {
        format!("https://{}/", self.address)
    }

    pub fn ca_base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.authority.cluster().issuer().ca().cert_pem())
    }

    /// How often it was asked.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// A connection to it, past any server.
    pub async fn client(&self) -> Result<Connection> {
        let tls = pki::tls::client_config(
            self.authority.cluster().issuer().ca().cert_pem(),
            None,
            Alpn::Http1,
            Clock::system(),
        )?;
        Connection::open(tls, &self.address).await
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn allow(request: Request<Incoming>, calls: Arc<AtomicU64>) -> Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body)?;
    let uid = review.pointer("/request/uid").context("no uid")?;
    calls.fetch_add(1, Ordering::Relaxed);
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": uid, "allowed": true},
    });
    Ok(Response::builder()
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(answer.to_string())))?)
}
