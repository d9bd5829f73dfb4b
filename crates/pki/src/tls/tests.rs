//! Real handshakes, both sides in memory, at a time of our choosing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::ca::{Ca, Request};
use crate::certificate::peer_identity;
use crate::usage::Usage;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn clock(after: Duration) -> Clock {
    Clock::simulated(start() + after)
}

fn ca() -> Ca {
    Ca::generate("kubernetes", start(), 100 * DAY).unwrap()
}

fn server_identity(ca: &Ca, name: &str) -> Identity {
    let request = Request {
        dns_names: vec![name.to_owned()],
        ip_addresses: vec!["127.0.0.1".parse().unwrap()],
        usage: Usage::Server,
        ..Request::client("kube-apiserver", &[], 10 * DAY)
    };
    ca.issue(&request, start()).unwrap().with_chain(ca.cert_pem()).unwrap()
}

fn client_identity(ca: &Ca, groups: &[&str]) -> Arc<Reloadable> {
    Reloadable::new(ca.issue(&Request::client("jane", groups, 10 * DAY), start()).unwrap())
}

type Streams = (server::TlsStream<DuplexStream>, client::TlsStream<DuplexStream>);

/// Both ends after a handshake and a byte each way, or what the client and the server said.
async fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<Streams, (Option<std::io::Error>, Option<std::io::Error>)> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let serve = async {
        let mut stream = TlsAcceptor::from(server.clone()).accept(far).await?;
        stream.write_all(b"!").await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        Ok::<_, std::io::Error>(stream)
    };
    let connect = async {
        let mut stream = TlsConnector::from(client.clone()).connect(name, near).await?;
        stream.write_all(b"?").await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        Ok::<_, std::io::Error>(stream)
    };
    match tokio::join!(serve, connect) {
        (Ok(server), Ok(client)) => Ok((server, client)),
        (server, client) => Err((server.err(), client.err())),
    }
}

fn errors(result: Result<Streams, (Option<std::io::Error>, Option<std::io::Error>)>) -> String {
    let (server, client) = result.map(|_| ()).expect_err("the handshake must fail");
    format!("server: {server:?}, client: {client:?}")
}

#[tokio::test]
async fn both_sides_know_each_other() {
    let ca = ca();
    let server = server_config(Reloadable::new(server_identity(&ca, "api")), Some(ca.cert_pem()), clock(DAY)).unwrap();
    let identity = client_identity(&ca, &["system:masters", "developers"]);
    let client = client_config(ca.cert_pem(), Some(identity), Alpn::Http2OrHttp1, clock(DAY)).unwrap();
    for name in ["api", "127.0.0.1"] {
        let (served, connected) = handshake(&server, &client, name).await.unwrap();
        let (_, session) = served.get_ref();
        let peer = peer_identity(&session.peer_certificates().unwrap()[0]).unwrap();
        assert_eq!(peer.common_name, "jane");
        assert_eq!(peer.organizations, ["system:masters", "developers"]);
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(connected.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    let refused = errors(handshake(&server, &client, "other").await);
    assert!(refused.contains("NotValidForName"), "{refused}");
}

#[tokio::test]
async fn every_handshake_is_a_full_one_and_shows_the_certificate() {
    let ca = ca();
    let server = server_config(Reloadable::new(server_identity(&ca, "api")), Some(ca.cert_pem()), clock(DAY)).unwrap();
    let identity = client_identity(&ca, &["a"]);
    let client = client_config(ca.cert_pem(), Some(identity), Alpn::Http1, clock(DAY)).unwrap();
    for _ in 0..3 {
        let (served, _) = handshake(&server, &client, "api").await.unwrap();
        let (_, session) = served.get_ref();
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert!(session.peer_certificates().is_some());
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
}

#[tokio::test]
async fn a_client_may_stay_anonymous_but_not_pretend() {
    let (ca, other) = (ca(), ca());
    let server = server_config(Reloadable::new(server_identity(&ca, "api")), Some(ca.cert_pem()), clock(DAY)).unwrap();
    let anonymous = client_config(ca.cert_pem(), None, Alpn::Http2, clock(DAY)).unwrap();
    let (served, _) = handshake(&server, &anonymous, "api").await.unwrap();
    assert!(served.get_ref().1.peer_certificates().is_none());

    let pretender = client_identity(&other, &["system:masters"]);
    let client = client_config(ca.cert_pem(), Some(pretender), Alpn::Http2, clock(DAY)).unwrap();
    let refused = errors(handshake(&server, &client, "api").await);
    assert!(refused.contains("server: Some") && refused.contains("InvalidCertificate"), "{refused}");

    // A certificate for servers does not authenticate a client.
    let wrong_usage = Reloadable::new(server_identity(&ca, "api"));
    let client = client_config(ca.cert_pem(), Some(wrong_usage), Alpn::Http2, clock(DAY)).unwrap();
    let refused = errors(handshake(&server, &client, "api").await);
    assert!(refused.contains("server: Some") && refused.contains("InvalidPurpose"), "{refused}");
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let (ca, other) = (ca(), ca());
    let server = server_config(Reloadable::new(server_identity(&other, "api")), None, clock(DAY)).unwrap();
    let client = client_config(ca.cert_pem(), None, Alpn::Http2, clock(DAY)).unwrap();
    let refused = errors(handshake(&server, &client, "api").await);
    assert!(refused.contains("client: Some") && refused.contains("InvalidCertificate"), "{refused}");
    // Both CAs in one bundle: the second one fits.
    let bundle = format!("{}{}", ca.cert_pem(), other.cert_pem());
    let client = client_config(&bundle, None, Alpn::Http2, clock(DAY)).unwrap();
    assert!(handshake(&server, &client, "api").await.is_ok());
}

#[tokio::test]
async fn expired_and_future_certificates_are_refused_on_both_sides() {
    let ca = ca();
    for (server_clock, client_clock, who) in [
        (clock(DAY), clock(11 * DAY), "client: Some(Custom { kind: InvalidData, error: InvalidCertificate(Expired"),
        (clock(11 * DAY), clock(DAY), "server: Some(Custom { kind: InvalidData, error: InvalidCertificate(Expired"),
    ] {
        let identity = Reloadable::new(server_identity(&ca, "api"));
        let server = server_config(identity, Some(ca.cert_pem()), server_clock).unwrap();
        let identity = client_identity(&ca, &[]);
        let client = client_config(ca.cert_pem(), Some(identity), Alpn::Http2, client_clock).unwrap();
        let refused = errors(handshake(&server, &client, "api").await);
        assert!(refused.contains(who), "{refused}");
    }
    let server = server_config(Reloadable::new(server_identity(&ca, "api")), None, clock(DAY)).unwrap();
    let early = Clock::simulated(start() - DAY);
    let client = client_config(ca.cert_pem(), None, Alpn::Http2, early).unwrap();
    assert!(errors(handshake(&server, &client, "api").await).contains("NotValidYet"));
}

#[tokio::test]
async fn a_replaced_certificate_is_used_from_the_next_handshake() {
    let ca = ca();
    let served = Reloadable::new(server_identity(&ca, "old"));
    let server = server_config(served.clone(), Some(ca.cert_pem()), clock(DAY)).unwrap();
    let shown = client_identity(&ca, &["old"]);
    let client = client_config(ca.cert_pem(), Some(shown.clone()), Alpn::Http2, clock(DAY)).unwrap();
    let (mut open_far, mut open_near) = handshake(&server, &client, "old").await.unwrap();

    served.replace(server_identity(&ca, "new"));
    shown.replace((*client_identity(&ca, &["new"]).identity()).clone());
    let (far, _near) = handshake(&server, &client, "new").await.unwrap();
    assert_eq!(peer_identity(&far.get_ref().1.peer_certificates().unwrap()[0]).unwrap().organizations, ["new"]);
    assert!(handshake(&server, &client, "old").await.is_err());

    open_near.write_all(b"still open").await.unwrap();
    let mut bytes = [0; 10];
    open_far.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"still open");
}

#[tokio::test]
async fn a_ca_known_by_its_hash_is_learnt_from_the_handshake() {
    let (ca, other) = (ca(), ca());
    let server = server_config(Reloadable::new(server_identity(&ca, "api")), Some(ca.cert_pem()), clock(DAY)).unwrap();
    let client = pinned_client_config(&ca.spki_hash(), Alpn::Http1, clock(DAY)).unwrap();
    let (_, near) = handshake(&server, &client, "api").await.unwrap();
    let chain = near.get_ref().1.peer_certificates().unwrap();
    assert_eq!(pinned_ca(chain, &ca.spki_hash()).as_deref(), Some(ca.cert_pem()));
    assert_eq!(pinned_ca(chain, &other.spki_hash()), None);

    assert!(errors(handshake(&server, &client, "other").await).contains("NotValidForName"));
    let client = pinned_client_config(&other.spki_hash(), Alpn::Http1, clock(DAY)).unwrap();
    assert!(errors(handshake(&server, &client, "api").await).contains("UnknownIssuer"));

    // An impostor sends the true CA along with a certificate it signed itself.
    let impostor = server_identity(&other, "api");
    let leaf_only = impostor.cert_pem().split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    let impostor = Identity::from_pem(&format!("{leaf_only}{}", ca.cert_pem()), impostor.key_pem()).unwrap();
    let server = server_config(Reloadable::new(impostor), None, clock(DAY)).unwrap();
    let client = pinned_client_config(&ca.spki_hash(), Alpn::Http1, clock(DAY)).unwrap();
    assert!(errors(handshake(&server, &client, "api").await).contains("InvalidCertificate"));

    for bad in ["", "sha256:", "sha256:zz", "md5:00"] {
        assert!(pinned_client_config(bad, Alpn::Http1, clock(DAY)).is_err());
    }
}
