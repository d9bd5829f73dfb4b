//! Whether a caller may act in the name of a signer: what three plugins for certificates ask, and the registry of
//! pods' requests.

use crate::admission::Request;
use crate::authz::{Attributes, Decision, What};
use crate::{Caller, Server};

/// The group of certificates and of the made-up resource `signers`.
pub const GROUP: &str = "certificates.k8s.io";

/// Whether the caller may do that in the name of this signer, or of all signers of its domain.
pub fn may(request: &Request<'_>, verb: &str, signer: &str) -> bool {
    caller_may(request.server, request.caller, verb, signer)
}

/// The same of any caller.
pub fn caller_may(server: &Server, caller: &Caller, verb: &str, signer: &str) -> bool {
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
        let attributes = Attributes { caller, verb, what };
        let authorizer = &server.options().authorizer;
        matches!(authorizer.authorize(&attributes, server.lookup()), Decision::Allow(_))
    })
}
