//! Validation of `podCertificate` sources.

use std::collections::BTreeSet;

use api::core::v1::PodCertificateProjection;
use api::field::{FieldErrors, Path};

use super::CONFLICT;
use crate::certificates::{pod_certificate_request, signer};
use crate::checks;

const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

/// A signer, a kind of key, and somewhere to write to; `paths` are those of the volume.
pub fn validate<'a>(
    errors: &mut FieldErrors,
    volume: &Path,
    path: &Path,
    source: &'a PodCertificateProjection,
    paths: &mut BTreeSet<&'a str>,
) {
    signer::validate(errors, &path.child("signerName"), &source.signer_name);
    checks::one_of_listed(errors, &path.child("keyType"), &source.key_type, &KEY_TYPES);
    if let Some(seconds) = source.max_expiration_seconds {
        let path = path.child("maxExpirationSeconds");
        pod_certificate_request::validate_seconds(errors, &path, &source.signer_name, seconds);
    }
    let wanted = [
        ("credentialBundlePath", &source.credential_bundle_path),
        ("keyPath", &source.key_path),
        ("certificateChainPath", &source.certificate_chain_path),
    ];
    let mut count = 0;
    for (field, wanted) in wanted {
        let Some(wanted) = wanted.as_deref().filter(|wanted| !wanted.is_empty()) else { continue };
        count += 1;
        checks::relative_unreserved_path(errors, &path.child(field), wanted);
        if !paths.insert(wanted) {
            errors.invalid(volume, wanted, CONFLICT);
        }
    }
    if count == 0 {
        errors.required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
    }
    pod_certificate_request::validate_annotations(
        errors,
        &path.child("userAnnotations"),
        source.user_annotations.as_ref(),
    );
}
