//! CertificateSigningRequest: A wish for a certificate, to be approved by one and signed by another.

use std::collections::BTreeSet;

use api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};

use super::signer;
use crate::column::human_duration;
use crate::prelude::*;

/// Decisions: once made they stay, and they are only ever made, never unmade.
const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];
/// The decisions that only `/approval` makes.
const APPROVALS: [&str; 2] = ["Approved", "Denied"];
const EXPIRATION_SECONDS_MIN: i32 = 600;
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = CertificateSigningRequest;

    const NAMES: Names = Names::new("certificatesigningrequests", "certificatesigningrequest").short(&["csr"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "certificatesigningrequests" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Approval, Subresource::Status];
    const SELECTABLE: &'static [Selectable<CertificateSigningRequest>] =
        &[Selectable { path: "spec.signerName", value: |request| request.spec.signer_name.clone() }];
    const COLUMNS: &'static [Column<CertificateSigningRequest>] = &[
        Column::name(),
        Column::age(),
        Column::new("SignerName", "string", |request: &CertificateSigningRequest, _| {
            Value::from(match request.spec.signer_name.as_str() {
                "" => "<none>",
                name => name,
            })
        })
        .describe("Who is to sign."),
        Column::new("Requestor", "string", |request: &CertificateSigningRequest, _| {
            Value::from(request.spec.username.as_deref().unwrap_or_default())
        })
        .describe("Who asks."),
        Column::new("RequestedDuration", "string", |request: &CertificateSigningRequest, _| {
            let seconds = request.spec.expiration_seconds;
            Value::from(seconds.map_or_else(|| "<none>".to_owned(), |seconds| human_duration(i64::from(seconds))))
        })
        .describe("How long the certificate is to hold."),
        Column::new("Condition", "string", |request: &CertificateSigningRequest, _| Value::from(state(request)))
            .describe("What was decided."),
    ];

    /// Who asks is written by the server.
    fn prepare_create(request: &mut CertificateSigningRequest) {
        request.status = Some(CertificateSigningRequestStatus::default());
    }

    fn prepare_update(new: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }

    /// Decisions on approval stay as they are; where that cannot be, validation says so.
    fn prepare_status_update(new: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
        new.spec.clone_from(&old.spec);
        for type_ in APPROVALS {
            if of_type(new, type_).len() != of_type(old, type_).len() {
                continue;
            }
            let mut before = of_type(old, type_).into_iter();
            let now = new.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
            for condition in now.filter(|condition| condition.type_ == type_) {
                if let Some(before) = before.next() {
                    condition.clone_from(before);
                }
            }
        }
    }

    fn prepare_subresource_update(
        subresource: Subresource,
        new: &mut CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) {
        if subresource != Subresource::Approval {
            Self::prepare_status_update(new, old);
        } else {
            new.spec.clone_from(&old.spec);
            let conditions = new.status.take().and_then(|status| status.conditions);
            let certificate = old.status.as_ref().and_then(|status| status.certificate.clone());
            new.status = Some(CertificateSigningRequestStatus { conditions, certificate });
        }
    }

    fn validate(request: &CertificateSigningRequest) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (path, spec) = (Path::new("spec"), &request.spec);
        let usages = spec.usages.as_deref().unwrap_or_default();
        let usages_path = path.child("usages");
        if usages.is_empty() {
            errors.required(&usages_path, "");
        }
        for (index, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(&usage.as_str())) {
            errors.not_supported(&usages_path.index(index), usage.as_str(), &USAGES);
        }
        let mut seen = BTreeSet::new();
        for (index, usage) in usages.iter().enumerate().filter(|(_, usage)| !seen.insert(usage.as_str())) {
            errors.duplicate(&usages_path.index(index), usage.as_str());
        }
        let signer_path = path.child("signerName");
        if spec.signer_name == LEGACY_SIGNER {
            let why = "the legacy signerName is not allowed via this API version";
            errors.invalid(&signer_path, LEGACY_SIGNER, why);
        } else {
            signer::validate(&mut errors, &signer_path, &spec.signer_name);
        }
        if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < EXPIRATION_SECONDS_MIN) {
            let why = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.invalid(&path.child("expirationSeconds"), seconds, why);
        }
        validate_conditions(&mut errors, conditions(request));
        errors
    }

    fn validate_update(new: &CertificateSigningRequest, old: &CertificateSigningRequest) -> FieldErrors {
        validate_change(new, old, Allowed { approval: false, certificate: false })
    }

    fn validate_status_update(new: &CertificateSigningRequest, old: &CertificateSigningRequest) -> FieldErrors {
        validate_change(new, old, Allowed { approval: false, certificate: true })
    }

    fn validate_subresource_update(
        subresource: Subresource,
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
    ) -> FieldErrors {
        let approval = subresource == Subresource::Approval;
        validate_change(new, old, Allowed { approval, certificate: !approval })
    }

    fn validate_name(_name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }
}

/// What the subresource may change.
#[derive(Clone, Copy)]
struct Allowed {
    approval: bool,
    certificate: bool,
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    request.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn of_type<'a>(request: &'a CertificateSigningRequest, type_: &str) -> Vec<&'a CertificateSigningRequestCondition> {
    conditions(request).iter().filter(|condition| condition.type_ == type_).collect()
}

fn certificate(request: &CertificateSigningRequest) -> &[u8] {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.map_or(&[], |certificate| certificate.0.as_slice())
}

fn state(request: &CertificateSigningRequest) -> String {
    let has = |type_: &str| !of_type(request, type_).is_empty();
    let mut text = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !certificate(request).is_empty() {
        text.push_str(",Issued");
    }
    text
}

fn validate_conditions(errors: &mut FieldErrors, conditions: &[CertificateSigningRequestCondition]) {
    let path = Path::new("status").child("conditions");
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let (path, type_) = (path.index(index), condition.type_.as_str());
        if type_.is_empty() {
            errors.required(&path.child("type"), "");
        }
        let supported: &[&str] = if DECISIONS.contains(&type_) { &["True"] } else { &["False", "True", "Unknown"] };
        crate::checks::one_of(errors, &path.child("status"), Some(&condition.status), supported);
        let excluded = match type_ {
            "Approved" => Some("Denied"),
            "Denied" => Some("Approved"),
            _ => None,
        };
        if excluded.is_some_and(|excluded| seen.contains(excluded)) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&path.child("type"), type_, why);
        }
        crate::checks::unique(errors, &path.child("type"), &mut seen, type_);
    }
}

fn validate_change(new: &CertificateSigningRequest, old: &CertificateSigningRequest, allowed: Allowed) -> FieldErrors {
    let mut errors = <Strategy as crate::Strategy>::validate(new);
    let path = Path::new("status");
    let conditions_path = path.child("conditions");
    for type_ in DECISIONS {
        let (now, before) = (of_type(new, type_), of_type(old, type_));
        if now.len() < before.len() {
            let why = format!("updates may not remove a condition of type {type_:?}");
            errors.forbidden(&conditions_path, why);
        }
    }
    for type_ in APPROVALS.iter().filter(|_| !allowed.approval) {
        let (now, before) = (of_type(new, type_), of_type(old, type_));
        if now.len() > before.len() {
            errors.forbidden(&conditions_path, format!("updates may not add a condition of type {type_:?}"));
        } else if now.len() == before.len() && now != before {
            errors.forbidden(&conditions_path, format!("updates may not modify a condition of type {type_:?}"));
        }
    }
    if certificate(new) != certificate(old) {
        let path = path.child("certificate");
        if !allowed.certificate {
            errors.forbidden(&path, "updates may not set certificate content");
        } else if !certificate(old).is_empty() {
            errors.forbidden(&path, "updates may not modify existing certificate content");
        }
    }
    errors
}
