//! Whether a caller may act in the name of a signer: what three plugins for certificates ask.

use crate::admission::Request;
use crate::authz::{Attributes, Decision, What};

/// The group of certificates and of the made-up resource `signers`.
pub const GROUP: &str = "certificates.k8s.io";

/// Whether the caller may do that in the name of this signer, or of all signers of its domain.
pub fn may(request: &Request<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    let all = format!("{domain}/*");
    [signer, all.as_str()].iter().any(|name| {
        let what = What::Resource {
            group: GROUP,
            version: "*",
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            field_selector: None,
            label_selector: None,
        };
        let attributes = Attributes { caller: request.caller, verb, what };
        let authorizer = &request.server.options().authorizer;
        matches!(authorizer.authorize(&attributes, request.lookup()), Decision::Allow(_))
    })
}
