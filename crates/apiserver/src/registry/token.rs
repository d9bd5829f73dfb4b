//! `serviceaccounts/token`: a TokenRequest answered with a signed token, bound to a pod, secret or node if asked.

use std::sync::Arc;

use api::authentication::v1::{TokenRequest, TokenRequestStatus};
use api::core::v1::{Node, Pod, Secret};
use api::meta::v1::Time;
use api::{Body, FieldErrors, Object, Path, Status, Typed};
use pki::token::{Bound, Grant, Ref};

use super::{Context, Phase, metadata};
use crate::admission::Operation;
use crate::answer::{Answer, Payload};
use crate::body;

const EXPIRATION_SECONDS_DEFAULT: i64 = 3600;
const EXPIRATION_SECONDS_MIN: i64 = 600;
const EXPIRATION_SECONDS_MAX: i64 = 1 << 32;

impl Context<'_> {
    pub(super) async fn token(&mut self, body: &Body) -> Result<Answer, Status> {
        let decoded = body::decode(TokenRequest::KIND, body, self.options.field_validation)?
            .ok_or_else(|| Status::bad_request("the request body is empty"))?;
        self.warnings.extend(decoded.warnings);
        let mut object = decoded.object;
        self.record_asked(&*object);
        metadata::match_namespace(self.namespace(), &mut *object)?;
        if !object.name().is_empty() && object.name() != self.name() {
            return Err(Status::bad_request(format!(
                "metadata.name: must match the service account name in the URL: {}",
                self.name()
            )));
        }
        self.admit(Phase::Mutate, Operation::Create, Some(&mut object), None, None).await?;
        let request: &mut TokenRequest = object.as_any_mut().downcast_mut().ok_or_else(Status::unknown_resource)?;
        let spec = request.spec.get_or_insert_default();
        if spec.audiences.as_ref().is_none_or(Vec::is_empty) {
            spec.audiences = Some(self.server.options.token_audiences.clone());
        }
        let seconds = *spec.expiration_seconds.get_or_insert(EXPIRATION_SECONDS_DEFAULT);
        check_seconds(seconds, self.name())?;
        self.admit(Phase::Validate, Operation::Create, Some(&mut object), None, None).await?;

        let account = self.resource.object(&*self.existing().await?)?;
        let request: &mut TokenRequest = object.as_any_mut().downcast_mut().ok_or_else(Status::unknown_resource)?;
        let bound = self.bound(request, account.name()).await?;
        let signer = self.server.options.tokens.as_ref();
        let signer = signer.ok_or_else(|| Status::unavailable("no service account signing key is configured"))?;
        let grant = Grant {
            namespace: account.namespace().to_owned(),
            service_account: Ref::new(account.name(), account.uid()),
            bound,
            audiences: request.spec.as_ref().and_then(|spec| spec.audiences.clone()).unwrap_or_default(),
            expiration_seconds: seconds,
            warn_after_seconds: None,
            id: self.server.options.random.uid(),
        };
        let now = self.server.now();
        let token = signer.sign(&grant, now).map_err(Status::internal)?;
        let ends = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
        request.status = Some(TokenRequestStatus {
            token: Some(token),
            expiration_timestamp: Some(Time(metadata::whole_second(ends))),
        });
        request.metadata.name = account.metadata().name.clone();
        request.metadata.namespace = account.metadata().namespace.clone();
        request.metadata.creation_timestamp = Some(Time(metadata::whole_second(now)));
        Ok(Answer::created(Payload::Object(Arc::from(object))))
    }

    async fn bound(&self, request: &TokenRequest, account: &str) -> Result<Bound, Status> {
        let wanted = request.spec.as_ref().and_then(|spec| spec.bound_object_ref.as_ref());
        let Some(wanted) = wanted else { return Ok(Bound::Nothing) };
        let (api_version, kind) =
            (wanted.api_version.as_deref().unwrap_or_default(), wanted.kind.as_deref().unwrap_or_default());
        let name = wanted.name.as_deref().unwrap_or_default();
        let (lookup, namespace) = (self.server.lookup(), self.namespace());
        let found = match (api_version, kind) {
            ("v1", "Pod") => {
                let pod = lookup.get_live::<Pod>(namespace, name).await?;
                let pod = pod.ok_or_else(|| Status::not_found("", "pods", name))?;
                let spec = pod.spec.as_ref();
                if spec.and_then(|spec| spec.service_account_name.as_deref()) != Some(account) {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount \
                         name."
                    )));
                }
                let node = spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty());
                let node = node.map(|node| {
                    let found = lookup.get::<Node>("", node);
                    Ref::new(node, found.as_ref().map_or("", |node| node.uid()))
                });
                Bound::Pod { pod: Ref::new(name, pod.uid()), node }
            }
            ("v1", "Node") => {
                let node = lookup.get_live::<Node>("", name).await?;
                let node = node.ok_or_else(|| Status::not_found("", "nodes", name))?;
                Bound::Node(Ref::new(name, node.uid()))
            }
            ("v1", "Secret") => {
                let secret = lookup.get_live::<Secret>(namespace, name).await?;
                let secret = secret.ok_or_else(|| Status::not_found("", "secrets", name))?;
                Bound::Secret(Ref::new(name, secret.uid()))
            }
            _ => {
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {api_version}, Kind={kind}"
                )));
            }
        };
        let (Bound::Pod { pod: found_ref, .. } | Bound::Node(found_ref) | Bound::Secret(found_ref)) = &found else {
            return Ok(found);
        };
        if let Some(uid) = wanted.uid.as_deref().filter(|uid| !uid.is_empty() && *uid != found_ref.uid) {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            );
            return Err(self.conflict(&why));
        }
        Ok(found)
    }
}

fn check_seconds(seconds: i64, name: &str) -> Result<(), Status> {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec").child("expirationSeconds");
    if seconds < EXPIRATION_SECONDS_MIN {
        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > EXPIRATION_SECONDS_MAX {
        errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, &errors))
}
