//! Names of signers: `example.com/name`.

use api::field::{FieldErrors, Path};

const DOMAIN_BYTES_MAX: usize = 253;
/// A domain, a slash, and what can name an object in a namespace.
const NAME_BYTES_MAX: usize = DOMAIN_BYTES_MAX + 1 + 253 + 63 + 1;

/// All problems of a signer's name.
pub fn validate(errors: &mut FieldErrors, path: &Path, name: &str) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let parts = name.split_once('/').filter(|(_, rest)| !rest.contains('/'));
    let Some((domain, rest)) = parts else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(path, name, why);
    };
    if domain.len() > DOMAIN_BYTES_MAX {
        errors.too_long(path, DOMAIN_BYTES_MAX);
    }
    validate_labels(errors, path, domain, |label| api::name::dns1123_label(label, false));
    if !domain.contains('.') {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    validate_labels(errors, path, rest, |label| api::name::dns1123_subdomain(label, false));
    if name.len() > NAME_BYTES_MAX {
        errors.too_long(path, NAME_BYTES_MAX);
    }
}

/// The problems of the first label that has any.
fn validate_labels(errors: &mut FieldErrors, path: &Path, labels: &str, rule: impl Fn(&str) -> Vec<String>) {
    let bad = labels.split('.').map(|label| (label, rule(label))).find(|(_, problems)| !problems.is_empty());
    for (label, problem) in bad.into_iter().flat_map(|(label, all)| all.into_iter().map(move |one| (label, one))) {
        errors.invalid(path, labels, format!("validating label {label:?}: {problem}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signers_have_a_domain_and_a_name() {
        let check = |name: &str| {
            let mut errors = FieldErrors::new();
            validate(&mut errors, &Path::new("s"), name);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in ["kubernetes.io/kube-apiserver-client", "example.com/ns.name"] {
            assert_eq!(check(good), Vec::<String>::new());
        }
        assert_eq!(check(""), ["s: Required value"]);
        assert_eq!(
            check("a/b/c"),
            ["s: Invalid value: \"a/b/c\": must be a fully qualified domain and path of the form \
             'example.com/signer-name'"]
        );
        assert_eq!(
            check("local/x"),
            ["s: Invalid value: \"local\": should be a domain with at least two segments separated by dots"]
        );
        assert!(check("a.b/X")[0].starts_with("s: Invalid value: \"X\": validating label \"X\": a lowercase RFC 1123"));
    }
}
