//! One connection to a node or pod for one request.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::location::{Location, Scheme};
use crate::Server;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects, sends, and returns the answer's head; the error says why not.
pub async fn send(
    server: &Arc<Server>,
    location: &Location,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, String> {
    let address = location.host();
    let dialed = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((location.hostname.as_str(), location.port)));
    let socket = match dialed.await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(format!("dial tcp {address}: connect: {}", reason(&error))),
        Err(_) => return Err(format!("dial tcp {address}: i/o timeout")),
    };
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    match location.scheme {
        Scheme::Plain => speak(server, socket, request).await,
        Scheme::Kubelet => {
            let tls = server.options().kubelet.clone().ok_or("no client certificate for kubelets is configured")?;
            let name = ServerName::try_from(location.hostname.clone()).map_err(|error| error.to_string())?;
            let handshake = TlsConnector::from(tls).connect(name, socket);
            let tls = tokio::time::timeout(CONNECT_TIMEOUT, handshake).await;
            let tls = tls.map_err(|_| "net/http: TLS handshake timeout".to_owned())?.map_err(|e| e.to_string())?;
            speak(server, tls, request).await
        }
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

async fn speak<S>(server: &Arc<Server>, stream: S, request: Request<Incoming>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
    server.tasks().spawn("backend connection", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a backend connection ended");
        }
    });
    sender.send_request(request).await.map_err(|error| error.to_string())
}
