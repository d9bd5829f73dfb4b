//! PodCertificateRequest: A node's wish for a certificate for one of its pods.

use std::collections::BTreeMap;

use api::certificates::v1::{PodCertificateRequest, PodCertificateRequestStatus};

use super::signer;
use crate::prelude::*;
use crate::{checks, metadata};

const UID_BYTES_MAX: usize = 128;
const EXPIRATION_SECONDS: i32 = 86_400;
const EXPIRATION_SECONDS_MIN: i32 = 3600;
const EXPIRATION_SECONDS_MAX: i32 = 7_862_400;
const STATES: [&str; 3] = ["Denied", "Failed", "Issued"];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = PodCertificateRequest;

    const NAMES: Names = Names::new("podcertificaterequests", "podcertificaterequest");
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "podcertificaterequests" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: bool = false;
    const SELECTABLE: &'static [Selectable<PodCertificateRequest>] = &[
        Selectable { path: "spec.signerName", value: |request| request.spec.signer_name.clone() },
        Selectable { path: "spec.nodeName", value: |request| request.spec.node_name.clone() },
        Selectable { path: "spec.podName", value: |request| request.spec.pod_name.clone() },
    ];
    const COLUMNS: &'static [Column<PodCertificateRequest>] = &[
        Column::name(),
        Column::new("PodName", "string", |request: &PodCertificateRequest, _| {
            Value::from(request.spec.pod_name.as_str())
        })
        .describe("The pod it is for."),
        Column::new("ServiceAccountName", "string", |request: &PodCertificateRequest, _| {
            Value::from(request.spec.service_account_name.as_str())
        })
        .describe("The pod's account."),
        Column::new("NodeName", "string", |request: &PodCertificateRequest, _| {
            Value::from(request.spec.node_name.as_str())
        })
        .describe("The pod's node."),
        Column::new("SignerName", "string", |request: &PodCertificateRequest, _| {
            Value::from(request.spec.signer_name.as_str())
        })
        .describe("Who is to sign."),
        Column::new("State", "string", |request: &PodCertificateRequest, _| Value::from(state(request)))
            .describe("What became of it."),
    ];

    fn default(request: &mut PodCertificateRequest) {
        request.spec.max_expiration_seconds.get_or_insert(EXPIRATION_SECONDS);
    }

    fn prepare_create(request: &mut PodCertificateRequest) {
        request.status = Some(PodCertificateRequestStatus::default());
    }

    fn prepare_update(new: &mut PodCertificateRequest, old: &PodCertificateRequest) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut PodCertificateRequest, old: &PodCertificateRequest) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(request: &PodCertificateRequest) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let (path, spec) = (Path::new("spec"), &request.spec);
        signer::validate(&mut errors, &path.child("signerName"), &spec.signer_name);
        for (name, value, uid_name, uid) in [
            ("podName", &spec.pod_name, "podUID", &spec.pod_uid),
            ("serviceAccountName", &spec.service_account_name, "serviceAccountUID", &spec.service_account_uid),
            ("nodeName", &spec.node_name, "nodeUID", &spec.node_uid),
        ] {
            checks::dns_subdomain(&mut errors, &path.child(name), value);
            if uid.is_empty() {
                errors.required(&path.child(uid_name), "must not be empty");
            }
            if uid.len() > UID_BYTES_MAX {
                errors.too_long(&path.child(uid_name), UID_BYTES_MAX);
            }
        }
        let seconds = spec.max_expiration_seconds.unwrap_or_default();
        validate_seconds(&mut errors, &path.child("maxExpirationSeconds"), &spec.signer_name, seconds);
        let annotations = spec.unverified_user_annotations.as_ref();
        validate_annotations(&mut errors, &path.child("unverifiedUserAnnotations"), annotations);
        errors
    }

    fn validate_update(new: &PodCertificateRequest, old: &PodCertificateRequest) -> FieldErrors {
        let mut errors = FieldErrors::new();
        checks::immutable(&mut errors, &Path::new("spec"), &new.spec, &old.spec);
        errors
    }

    fn validate_status_update(new: &PodCertificateRequest, old: &PodCertificateRequest) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status");
        let conditions = new.status.as_ref().and_then(|status| status.conditions.as_deref());
        let conditions_path = path.child("conditions");
        checks::conditions(&mut errors, &conditions_path, conditions);
        let decided: Vec<_> = conditions.unwrap_or_default().iter().enumerate().collect();
        for (index, condition) in &decided {
            let path = conditions_path.index(*index);
            checks::one_of_listed(&mut errors, &path.child("type"), &condition.type_, &STATES);
            if STATES.contains(&condition.type_.as_str()) {
                checks::one_of_listed(&mut errors, &path.child("status"), &condition.status, &["True"]);
            }
        }
        if decided.iter().filter(|(_, condition)| STATES.contains(&condition.type_.as_str())).count() > 1 {
            let why = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.invalid(&conditions_path, checks::shown(&conditions), why);
        }
        if state(old) != "Pending" {
            checks::immutable(&mut errors, &path, &new.status, &old.status);
        }
        errors
    }
}

/// How long a certificate of this signer may hold at most.
pub fn validate_seconds(errors: &mut FieldErrors, path: &Path, signer_name: &str, seconds: i32) {
    let own = signer_name.starts_with("kubernetes.io/");
    let max = if own { EXPIRATION_SECONDS } else { EXPIRATION_SECONDS_MAX };
    if !(EXPIRATION_SECONDS_MIN..=max).contains(&seconds) {
        errors.invalid(path, seconds, format!("must be in the range [{EXPIRATION_SECONDS_MIN}, {max}]"));
    }
}

/// What pods' authors tell a signer: as annotations of objects, each with a domain.
pub fn validate_annotations(errors: &mut FieldErrors, path: &Path, wishes: Option<&BTreeMap<String, String>>) {
    checks::annotations(errors, path, wishes);
    for key in wishes.into_iter().flatten().map(|(key, _)| key.as_str()).filter(|key| !key.contains('/')) {
        errors.invalid(path, key, "must be a domain-prefixed key (such as \"acme.io/foo\")");
    }
}

fn state(request: &PodCertificateRequest) -> String {
    let mut conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let decided = conditions.find(|condition| STATES.contains(&condition.type_.as_str()));
    decided.map_or_else(|| "Pending".to_owned(), |condition| condition.type_.clone())
}
