//! Knowing the server before trusting it: a TLS handshake, in which it must show a CA with the hash that was given, or
//! a certificate of the CA that was given. Nothing is sent, no token least of all, to a server that does not.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use base::Clock;
use pki::tls::{Alpn, Trust};
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long the handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some(rest) = text.strip_prefix("https://") else { bail!("{text} must be https://HOST:PORT") };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.map_or(Ok(443), str::parse);
        match port {
            Ok(port) if ServerName::try_from(host).is_ok() => Ok(Self { host: host.to_owned(), port }),
            _ => bail!("{text} must be https://HOST:PORT"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

/// By what the server is known.
#[derive(Debug, Clone)]
pub enum Known {
    /// By the hash of its CA's public key.
    Pin(String),
    /// By its CA, PEM.
    Ca(String),
}

/// Why the server is not known.
#[derive(Debug)]
pub enum Problem {
    /// Nobody answered; it may come.
    Unreachable(String),
    /// Somebody answered who is not known, or cannot be.
    Wrong(String),
}

/// Shakes hands with the server; answers its CA, PEM.
pub async fn ca(server: &Address, known: &Known, clock: Clock) -> Result<String, Problem> {
    let wrong = |error: pki::Error| Problem::Wrong(error.to_string());
    let config = match known {
        Known::Pin(pin) => pki::tls::pinned_client_config(pin, Alpn::Http2, clock).map_err(wrong)?,
        Known::Ca(pem) => pki::tls::client_config_trusting(&Trust::new(pem).map_err(wrong)?, None, Alpn::Http2, clock),
    };
    let chain = tokio::time::timeout(HANDSHAKE_MAX, chain(server, config)).await;
    let chain =
        chain.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| why(server, known, &error))?;
    match known {
        Known::Ca(pem) => Ok(pem.clone()),
        // The handshake has seen that it is there.
        Known::Pin(pin) => pki::tls::pinned_ca(&chain, pin)
            .ok_or_else(|| Problem::Wrong(format!("the server at {server} did not send its CA"))),
    }
}

/// The certificates the server shows, its own first, once they are verified.
async fn chain(server: &Address, config: Arc<ClientConfig>) -> io::Result<Vec<CertificateDer<'static>>> {
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
    let tls = TlsConnector::from(config).connect(name, tcp).await?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(chain.iter().map(|der| der.clone().into_owned()).collect())
}

fn why(server: &Address, known: &Known, error: &io::Error) -> Problem {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else { return Problem::Unreachable(format!("{server}: {error}")) };
    Problem::Wrong(match inner {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            match known {
                Known::Pin(pin) => format!(
                    "the server at {server} has no CA with the hash {pin}: compare --ca-pin with what `pintle token \
                     create` prints; if it is right, somebody else answers there"
                ),
                Known::Ca(_) => format!(
                    "the certificate of the server at {server} is not of the CA that was given: compare --ca-file with \
                     pki/ca.crt in the server's data dir; if it is right, somebody else answers there"
                ),
            }
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "the certificate of the server at {server} is not for that name: start the server with --tls-san {}",
            server.host
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => format!(
            "the certificate of the server at {server} is not valid now: compare the clocks of this host and of the \
             server ({inner})"
        ),
        other => format!("the server at {server} cannot be talked to over TLS: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_https_url() {
        let read =
            |text: &str| text.parse::<Address>().map(|address| (address.to_string(), address.host, address.port));
        let known = |url: &str, host: &str, port| (url.to_owned(), host.to_owned(), port);
        assert_eq!(read("https://a.example:6443/").unwrap(), known("https://a.example:6443", "a.example", 6443));
        assert_eq!(read("https://192.0.2.1").unwrap(), known("https://192.0.2.1:443", "192.0.2.1", 443));
        assert_eq!(read("https://[fd00::1]:6443").unwrap(), known("https://[fd00::1]:6443", "fd00::1", 6443));
        assert_eq!(read("https://[fd00::1]").unwrap(), known("https://[fd00::1]:443", "fd00::1", 443));
        for wrong in ["a.example:6443", "http://a:1", "https://", "https://a:b", "https://a/b", "https://a b:1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
