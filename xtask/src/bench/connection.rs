//! One HTTP/1.1 connection over TLS, with nothing on top: the client's own work stays small beside the server's.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub struct Connection(http1::SendRequest<Full<Bytes>>);

/// One HTTP/2 connection: many requests at once.
pub struct Streams(http2::SendRequest<Full<Bytes>>);

type Tls = Arc<tokio_rustls::rustls::ClientConfig>;

/// TLS to `HOST:PORT`.
async fn secured(tls: Tls, address: &str) -> Result<TokioIo<TlsStream<TcpStream>>> {
    let tcp = TcpStream::connect(address).await.with_context(|| address.to_owned())?;
    tcp.set_nodelay(true)?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = rustls_pki_types::ServerName::try_from(host.to_owned())?;
    Ok(TokioIo::new(tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await?))
}

impl Streams {
    pub async fn open(tls: Tls, address: &str) -> Result<Self> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), secured(tls, address).await?).await?;
        #[allow(clippy::disallowed_methods)] // ends with the connection
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    pub async fn send(&mut self, method: Method, path: &str) -> Result<Response<Incoming>> {
        let request =
            Request::builder().method(method).uri(format!("https://localhost{path}")).body(Full::new(Bytes::new()))?;
        self.0.ready().await?;
        self.0.send_request(request).await.context("sending a request")
    }
}

impl Connection {
    pub async fn open(tls: Tls, address: &str) -> Result<Self> {
        let (sender, connection) = http1::handshake(secured(tls, address).await?).await?;
        #[allow(clippy::disallowed_methods)] // ends with the connection
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection broke: {error:?}");
            }
        });
        Ok(Self(sender))
    }

    pub async fn send(&mut self, method: Method, path: &str, body: Bytes, media: &str) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(http::header::HOST, "localhost")
            .header(http::header::CONTENT_TYPE, media)
            .header(http::header::ACCEPT, if method == Method::GET { media } else { "application/json" })
            .body(Full::new(body))?;
        self.0.ready().await?;
        self.0.send_request(request).await.context("sending a request")
    }

    /// The status and the body's length.
    pub async fn get(&mut self, path: &str) -> Result<(u16, usize)> {
        self.get_as(path, "application/json").await
    }

    /// As [`Connection::get`], in another encoding.
    pub async fn get_as(&mut self, path: &str, media: &str) -> Result<(u16, usize)> {
        let response = self.send(Method::GET, path, Bytes::new(), media).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut len = 0;
        while let Some(frame) = body.frame().await {
            len += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok((status, len))
    }

    /// The object at a path.
    pub async fn json(&mut self, path: &str) -> Result<serde_json::Value> {
        let response = self.send(Method::GET, path, Bytes::new(), "application/json").await?;
        Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
    }

    /// Creates an object.
    pub async fn post(&mut self, path: &str, body: Bytes) -> Result<()> {
        self.write(Method::POST, path, body, "application/json").await
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&mut self, path: &str, body: Bytes) -> Result<()> {
        self.write(Method::PATCH, path, body, "application/merge-patch+json").await
    }

    pub async fn delete(&mut self, path: &str) -> Result<()> {
        self.write(Method::DELETE, path, Bytes::new(), "application/json").await
    }

    async fn write(&mut self, method: Method, path: &str, body: Bytes, media: &str) -> Result<()> {
        let response = self.send(method, path, body, media).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&body[..body.len().min(300)]));
        }
        Ok(())
    }
}
