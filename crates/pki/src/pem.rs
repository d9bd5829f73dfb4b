//! PEM (RFC 7468) around DER, as upstream writes it: 64 columns, LF.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::{Error, Result};

pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";
pub(crate) const PUBLIC_KEY: &str = "PUBLIC KEY";

/// `der` as a PEM block.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let body = zeroize::Zeroizing::new(STANDARD.encode(der));
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    pem.push_str("-----BEGIN ");
    pem.push_str(label);
    pem.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

/// Every certificate of several PEM texts once, in an order that depends on the certificates alone, and nothing of what
/// stands around them. Nothing if there is none.
///
/// # Errors
/// [`Error::Malformed`] when a block cannot be read.
pub fn merge_bundles<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let mut all = std::collections::BTreeSet::new();
    for text in texts {
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            all.insert(certificate.map_err(|e| Error::malformed("certificate", e))?.to_vec());
        }
    }
    Ok(all.iter().map(|der| encode(CERTIFICATE, der)).collect())
}

/// The certificates of a PEM text in their order, and nothing of what stands around them or at their head.
///
/// # Errors
/// [`Error::Malformed`] when a block cannot be read, or there is no certificate.
pub fn certificate_chain(text: &str) -> Result<String> {
    Ok(certificates(text)?.iter().map(|der| encode(CERTIFICATE, der)).collect())
}

/// Every certificate of a PEM bundle, in order; other blocks are skipped, at least one certificate is wanted.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::malformed("certificate", e))?;
    if certificates.is_empty() {
        return Err(Error::malformed("certificate", "no certificate in the PEM data"));
    }
    Ok(certificates)
}
