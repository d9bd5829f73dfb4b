//! ClusterTrustBundle: The roots that a signer's certificates are checked against.

use api::certificates::v1::ClusterTrustBundle;

use super::signer;
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ClusterTrustBundle;

    const NAMES: Names = Names::new("clustertrustbundles", "clustertrustbundle");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "clustertrustbundles" };
    const UNCONDITIONAL_UPDATE: bool = false;
    const SELECTABLE: &'static [Selectable<ClusterTrustBundle>] =
        &[Selectable { path: "spec.signerName", value: |bundle| signer_name(bundle).to_owned() }];
    const COLUMNS: &'static [Column<ClusterTrustBundle>] = &[
        Column::name(),
        Column::new("SignerName", "string", |bundle: &ClusterTrustBundle, _| {
            Value::from(match signer_name(bundle) {
                "" => "<none>",
                name => name,
            })
        })
        .describe("Whose certificates they check."),
    ];

    fn validate(bundle: &ClusterTrustBundle) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (name, signer) = (bundle.name(), signer_name(bundle));
        if !name.is_empty() {
            let problems = name_problems(name, signer);
            checks::problems(&mut errors, &Path::new("metadata").child("name"), name, problems);
        }
        if !signer.is_empty() {
            signer::validate(&mut errors, &Path::new("spec").child("signerName"), signer);
        }
        errors
    }

    fn validate_update(new: &ClusterTrustBundle, old: &ClusterTrustBundle) -> FieldErrors {
        let mut errors = Self::validate(new);
        let path = Path::new("spec").child("signerName");
        checks::immutable(&mut errors, &path, &signer_name(new), &signer_name(old));
        errors
    }

    /// The rule of names needs the signer: [`Strategy::validate`] knows it.
    fn validate_name(_name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }
}

fn signer_name(bundle: &ClusterTrustBundle) -> &str {
    bundle.spec.signer_name.as_deref().unwrap_or_default()
}

/// A signer's bundle has the signer in its name, and no other has a colon.
fn name_problems(name: &str, signer: &str) -> Vec<String> {
    let prefix = if signer.is_empty() { String::new() } else { format!("{}:", signer.replace('/', ":")) };
    match name.strip_prefix(&prefix) {
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")],
        Some(name) if signer.is_empty() && name.contains(':') => {
            vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()]
        }
        Some(rest) => api::name::dns1123_subdomain(rest, false),
    }
}
