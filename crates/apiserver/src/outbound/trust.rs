//! Whom a webhook's or another API server's certificate must be signed by: the configuration's CA bundle, or the
//! machine's authorities.
//!
//! Nothing is left unverified unless the configuration says so in as many words.

use std::sync::{Arc, LazyLock};

use pki::tls::Reloadable;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

pub use pki::tls::Alpn;

/// Where distributions keep the authorities that the machine trusts.
const SYSTEM_BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Whom a server's certificate must be signed by.
pub enum Trusted<'a> {
    /// One of these, PEM.
    Bundle(&'a [u8]),
    /// One that the machine trusts.
    System,
    /// Anybody: the user said that it does not matter (`insecureSkipTLSVerify`).
    Anyone,
}

/// A TLS configuration that shows `identity`, if there is one.
///
/// # Errors
/// If there are no certificates to trust.
pub fn client(
    trusted: &Trusted<'_>,
    identity: Option<Arc<Reloadable>>,
    alpn: Alpn,
) -> Result<Arc<ClientConfig>, String> {
    let verifier: Arc<dyn ServerCertVerifier> = match trusted {
        Trusted::Bundle(pem) => verifier(parse(pem)?)?,
        Trusted::System => verifier(system()?)?,
        Trusted::Anyone => Arc::new(Unverified),
    };
    let builder = ClientConfig::builder_with_provider(pki::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous() // rustls' word for any verifier built by hand
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match alpn {
        Alpn::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Alpn::Http1 => vec![b"http/1.1".to_vec()],
        Alpn::Http2 => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}

fn verifier(certificates: Vec<CertificateDer<'static>>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if added == 0 {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".to_owned());
    }
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), pki::tls::provider());
    let webpki = webpki.build().map_err(|error| error.to_string())?;
    Ok(Arc::new(Verifier { webpki, certificates }))
}

/// Takes any certificate; that its key was used is checked all the same.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
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

    pki::signature_checks!();
}

fn parse(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("unable to load root certificates: {error}"))
}

fn system() -> Result<Vec<CertificateDer<'static>>, String> {
    static SYSTEM: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
        let read = SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
        read.and_then(|pem| parse(&pem).ok()).unwrap_or_default()
    });
    if SYSTEM.is_empty() {
        return Err("x509: certificate signed by unknown authority: the machine has no authorities".to_owned());
    }
    Ok(SYSTEM.clone())
}

/// WebPKI's rules, and one more that upstream has: a certificate that is itself in the bundle is trusted (a webhook
/// that signs its own), as long as it is valid and bears the name.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refusal = match self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Ok(verified) => return Ok(verified),
            Err(refusal) => refusal,
        };
        if !self.certificates.iter().any(|own| own == end_entity) {
            return Err(refusal);
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_name(&parsed, server_name)?;
        let bad = |_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let read = pki::Certificate::from_der(end_entity).map_err(bad)?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds < read.not_before.as_second() || seconds > read.not_after.as_second() {
            return Err(refusal);
        }
        Ok(ServerCertVerified::assertion())
    }

    pki::signature_checks!();
}

/// A failed handshake in the words of Go's TLS.
pub fn words(error: &std::io::Error, name: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match inner {
        Some(rustls::Error::InvalidCertificate(why)) => why,
        Some(rustls::Error::InvalidMessage(_)) => {
            return "http: server gave HTTP response to HTTPS client".to_owned();
        }
        Some(other) => return format!("tls: {other}"),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => return "EOF".to_owned(),
        None => return error.to_string(),
    };
    let why = match why {
        CertificateError::UnknownIssuer => "x509: certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "x509: certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("x509: certificate is not valid for {name}")
        }
        other => format!("x509: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}
