//! Knocking at the server's doors as others would: without credentials, with old TLS, with a stranger's certificate.
//! Only to see who is let in; nothing is asked that changes anything.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use pki::{Certificate, Identity, Kubeconfig};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::facts::Known;
use crate::layout::Layout;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Of an answer, so much is read: its first line is all that counts.
const ANSWER_BYTES_MAX: usize = 4096;
/// Where upstream's kubelet serves without asking who it is, when it does.
const READ_ONLY_PORT: u16 = 10255;

/// What was seen at a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// An answer with this code.
    Answered(u16),
    /// The handshake was refused.
    Refused,
}

/// What TLS agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    pub version: String,
    pub cipher: String,
}

/// The node's doors.
pub struct NodeDoors {
    pub anonymous: Known<Seen>,
    /// Somebody the cluster knows, but who has no business with a node.
    pub other_user: Known<Seen>,
    /// A certificate of somebody else's CA.
    pub stranger: Known<Seen>,
    pub old_tls: Known<Seen>,
    pub agreed: Known<Agreed>,
    pub certificate: Known<Certificate>,
    /// Somebody listens where a kubelet serves without authentication.
    pub read_only: bool,
}

/// The doors of the server, and of the node within it.
pub struct Doors {
    /// A resource, without credentials.
    pub anonymous: Known<Seen>,
    /// A profiler, as admin.
    pub profiler: Known<Seen>,
    pub old_tls: Known<Seen>,
    pub agreed: Known<Agreed>,
    pub certificate: Known<Certificate>,
    /// `None`: there is no node here.
    pub node: Option<NodeDoors>,
}

/// One who knocks.
struct Visit {
    address: SocketAddr,
    name: ServerName<'static>,
}

struct Entered {
    seen: Seen,
    agreed: Option<Agreed>,
    certificate: Option<Certificate>,
}

/// A refusal by the other side's TLS, as opposed to a connection that came to nothing.
fn is_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

impl Visit {
    async fn enter(&self, config: Known<Arc<ClientConfig>>, path: &str) -> Known<Entered> {
        let config = config?;
        let visit = async {
            let tcp = TcpStream::connect(self.address).await?;
            let refused = Entered { seen: Seen::Refused, agreed: None, certificate: None };
            let mut tls = match TlsConnector::from(config).connect(self.name.clone(), tcp).await {
                Ok(tls) => tls,
                Err(error) if is_alert(&error) => return Ok(refused),
                Err(error) => return Err(error),
            };
            let session = tls.get_ref().1;
            let agreed = session.protocol_version().zip(session.negotiated_cipher_suite()).map(|(version, suite)| {
                Agreed { version: format!("{version:?}"), cipher: format!("{:?}", suite.suite()) }
            });
            let certificate = session.peer_certificates().and_then(|chain| Certificate::from_der(chain.first()?).ok());
            let request = format!("GET {path} HTTP/1.1\r\nHost: pintle\r\nConnection: close\r\n\r\n");
            tls.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            match (&mut tls).take(ANSWER_BYTES_MAX as u64).read_to_end(&mut answer).await {
                // With TLS 1.3 a client hears of its certificate's refusal after its own handshake.
                Err(error) if is_alert(&error) => return Ok(refused),
                Err(error) if answer.is_empty() => return Err(error),
                _ => {}
            }
            let code = code(&answer).ok_or_else(|| io::Error::other("the answer is no HTTP"))?;
            Ok(Entered { seen: Seen::Answered(code), agreed, certificate })
        };
        let visited = tokio::time::timeout(TIMEOUT, visit).await;
        let failed = |error: io::Error| format!("{}: {error}", self.address);
        visited.map_err(|_| format!("{}: no answer within {} s", self.address, TIMEOUT.as_secs()))?.map_err(failed)
    }

    async fn seen(&self, config: Known<Arc<ClientConfig>>, path: &str) -> Known<Seen> {
        self.enter(config, path).await.map(|entered| entered.seen)
    }
}

/// The code of an HTTP/1.1 answer.
fn code(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

/// What was agreed, and the other side's certificate.
fn parts(entered: Known<Entered>) -> (Known<Agreed>, Known<Certificate>) {
    match entered {
        Err(why) => (Err(why.clone()), Err(why)),
        Ok(entered) => (
            entered.agreed.ok_or_else(|| "there was no TLS session".to_owned()),
            entered.certificate.ok_or_else(|| "there was no certificate".to_owned()),
        ),
    }
}

/// The TLS configurations of those who knock.
struct Visitors<'a> {
    ca_pem: &'a str,
    clock: Clock,
}

impl Visitors<'_> {
    fn with(&self, identity: Option<Identity>) -> Known<Arc<ClientConfig>> {
        let identity = identity.map(pki::tls::Reloadable::new);
        pki::tls::client_config(self.ca_pem, identity, pki::tls::Alpn::Http1, self.clock)
            .map_err(|error| error.to_string())
    }

    fn old(&self) -> Known<Arc<ClientConfig>> {
        pki::tls::old_client_config(self.ca_pem, self.clock).map_err(|error| error.to_string())
    }

    /// Somebody of whom the cluster's CA knows nothing.
    fn stranger(&self) -> Known<Arc<ClientConfig>> {
        let (now, valid) = (self.clock.now(), Duration::from_secs(3600));
        let issued = pki::Ca::generate("stranger", now, valid).and_then(|ca| {
            ca.issue(&pki::Request::client("kube-apiserver-kubelet-client", &["system:masters"], valid), now)
        });
        self.with(Some(issued.map_err(|error| error.to_string())?))
    }
}

/// Knocks at all doors. `kubelet`: where the node's API is, and the name it goes by.
pub async fn knock(layout: &Layout, ca_pem: &str, kubelet: Option<(SocketAddr, String)>, clock: Clock) -> Doors {
    let visitors = Visitors { ca_pem, clock };
    let (api, admin) = match server(layout) {
        Ok(found) => found,
        Err(why) => {
            let none = || Err(why.clone());
            return Doors {
                anonymous: none(),
                profiler: none(),
                old_tls: none(),
                agreed: Err(why.clone()),
                certificate: Err(why.clone()),
                node: None,
            };
        }
    };
    let (agreed, certificate) = parts(api.enter(visitors.with(admin.clone()), "/livez").await);
    Doors {
        anonymous: api.seen(visitors.with(None), "/api/v1/namespaces").await,
        profiler: api.seen(visitors.with(admin.clone()), "/debug/pprof/").await,
        old_tls: api.seen(visitors.old(), "/livez").await,
        agreed,
        certificate,
        node: match kubelet {
            Some((address, name)) => Some(node(&visitors, address, &name, admin).await),
            None => None,
        },
    }
}

/// The server's address and who its admin is, out of the admin's kubeconfig.
fn server(layout: &Layout) -> Known<(Visit, Option<Identity>)> {
    let kubeconfig = Kubeconfig::load(&layout.admin_kubeconfig(), None).map_err(|error| error.to_string())?;
    let host = kubeconfig.server.trim_start_matches("https://").trim_end_matches('/');
    let address: SocketAddr = host.parse().map_err(|_| format!("{host} is no address and port"))?;
    let name = ServerName::from(address.ip());
    Ok((Visit { address, name }, kubeconfig.identity))
}

async fn node(visitors: &Visitors<'_>, address: SocketAddr, name: &str, admin: Option<Identity>) -> NodeDoors {
    let visit = match ServerName::try_from(name.to_owned()) {
        Ok(name) => Visit { address, name },
        Err(_) => Visit { address, name: ServerName::from(address.ip()) },
    };
    let (agreed, certificate) = parts(visit.enter(visitors.with(None), "/healthz").await);
    let read_only = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), READ_ONLY_PORT);
    NodeDoors {
        anonymous: visit.seen(visitors.with(None), "/pods").await,
        other_user: visit.seen(visitors.with(admin), "/pods").await,
        stranger: visit.seen(visitors.stranger(), "/pods").await,
        old_tls: visit.seen(visitors.old(), "/healthz").await,
        agreed,
        certificate,
        read_only: tokio::time::timeout(TIMEOUT, TcpStream::connect(read_only)).await.is_ok_and(|tcp| tcp.is_ok()),
    }
}
