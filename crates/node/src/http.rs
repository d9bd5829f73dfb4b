//! A small HTTP client for probes and lifecycle hooks: one request on one connection, to a pod's own address.
//!
//! Certificates are not checked, as upstream has it: the question is whether the container answers.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How much of an answer is read.
const BODY_BYTES_MAX: usize = 10 * 1024;
/// How many redirects to the same host are followed.
const REDIRECTS_MAX: usize = 10;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// With its query, beginning with `/`.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub user_agent: &'static str,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: String,
    /// A redirect that leads to another host is not followed; where it led.
    pub foreign_redirect: Option<String>,
}

impl Request {
    /// The host in brackets where it has to be, with the port.
    pub fn authority(&self) -> String {
        let bare = self.host.trim_matches(['[', ']']);
        if bare.contains(':') { format!("[{bare}]:{}", self.port) } else { format!("{bare}:{}", self.port) }
    }

    /// As upstream writes it in messages.
    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// Asks, and follows redirects on the same host. The error's text is like Go's.
pub async fn get(request: &Request) -> Result<Response, String> {
    let mut request = request.clone();
    for _ in 0..=REDIRECTS_MAX {
        let (response, location) = once(&request).await.map_err(|error| format!("Get {:?}: {error}", request.url()))?;
        let Some(location) = location.filter(|_| (300..400).contains(&response.status)) else { return Ok(response) };
        match redirected(&request, &location) {
            Some(next) => request = next,
            None => return Ok(Response { foreign_redirect: Some(location), ..response }),
        }
    }
    Err(format!("Get {:?}: stopped after {REDIRECTS_MAX} redirects", request.url()))
}

/// The request a redirect leads to, if that is on the same host.
fn redirected(request: &Request, location: &str) -> Option<Request> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(Request { path: location.to_owned(), ..request.clone() });
    }
    let uri: http::Uri = location.parse().ok()?;
    let tls = uri.scheme_str()? == "https";
    let host = uri.host()?.to_owned();
    if host.trim_matches(['[', ']']) != request.host.trim_matches(['[', ']']) {
        return None;
    }
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    Some(Request { tls, host, port, path, ..request.clone() })
}

/// A connection refused or timed out, in Go's words.
pub fn dial_error(address: &str, error: &std::io::Error) -> String {
    let text = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {text}")
}

async fn once(request: &Request) -> Result<(Response, Option<String>), String> {
    let address = request.authority();
    let stream = TcpStream::connect(&address).await.map_err(|error| dial_error(&address, &error))?;
    let _ = stream.set_nodelay(true);
    if !request.tls {
        return exchange(request, TokioIo::new(stream)).await;
    }
    let name = ServerName::try_from(request.host.trim_matches(['[', ']']).to_owned()).map_err(|e| e.to_string())?;
    let stream = TlsConnector::from(TLS.clone()).connect(name, stream).await.map_err(|e| e.to_string())?;
    exchange(request, TokioIo::new(stream)).await
}

async fn exchange<S>(request: &Request, stream: S) -> Result<(Response, Option<String>), String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(stream).await.map_err(|e| e.to_string())?;
    let mut builder = http::Request::builder().method("GET").uri(request.path.as_str());
    let named = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !named("host") {
        builder = builder.header("Host", request.authority());
    }
    if !named("user-agent") {
        builder = builder.header("User-Agent", request.user_agent);
    }
    if !named("accept") {
        builder = builder.header("Accept", "*/*");
    }
    for (name, value) in &request.headers {
        // An empty value of these two means "leave it out".
        let left_out =
            value.is_empty() && (name.eq_ignore_ascii_case("user-agent") || name.eq_ignore_ascii_case("accept"));
        if !left_out {
            builder = builder.header(name, value);
        }
    }
    let message = builder.header("Connection", "close").body(Empty::new()).map_err(|e| e.to_string())?;
    // The connection makes progress only while it is polled, and ends with this request.
    let talk = async {
        let answer = sender.send_request(message).await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let location = answer.headers().get("location").and_then(|v| v.to_str().ok()).map(str::to_owned);
        // A longer body is not an error: it is cut.
        let body = match Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(_) => String::new(),
        };
        Ok((Response { status, body, foreign_redirect: None }, location))
    };
    tokio::pin!(connection);
    tokio::pin!(talk);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut talk => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Arc::new(config)
});

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_host() {
        let request = Request {
            tls: false,
            host: "10.0.0.1".into(),
            port: 80,
            path: "/".into(),
            headers: Vec::new(),
            user_agent: "x",
        };
        assert_eq!(redirected(&request, "/next").unwrap().url(), "http://10.0.0.1:80/next");
        assert_eq!(redirected(&request, "https://10.0.0.1/a?b").unwrap().url(), "https://10.0.0.1:443/a?b");
        assert_eq!(redirected(&request, "http://elsewhere/"), None);
    }
}
