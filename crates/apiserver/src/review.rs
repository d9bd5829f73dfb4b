//! Objects that are questions: access and token reviews. They are answered at once and kept nowhere.

use std::sync::Arc;

use api::authentication::v1::{SelfSubjectReview, TokenReview};
use api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use api::{Object, Status, Target};

use crate::{Caller, Server, authn, authz};

/// The object with its status filled in.
///
/// # Errors
/// 405 for reviews that nobody answers.
pub async fn answer(
    server: &Server,
    caller: &Arc<Caller>,
    target: &Target,
    mut object: Box<dyn Object>,
) -> Result<Box<dyn Object>, Status> {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let any = object.as_any_mut();
    if let Some(review) = any.downcast_mut::<SelfSubjectReview>() {
        authn::review::own(caller, review);
    } else if let Some(review) = any.downcast_mut::<TokenReview>() {
        // The shared borrow of `dyn Any` must not live across the await.
        let mut own = review.clone();
        authn::review::token(server, &mut own).await?;
        return Ok(Box::new(own));
    } else if let Some(review) = any.downcast_mut::<SubjectAccessReview>() {
        let mut own = review.clone();
        authz::review::subject(server, &mut own).await?;
        return Ok(Box::new(own));
    } else if let Some(review) = any.downcast_mut::<LocalSubjectAccessReview>() {
        let mut own = review.clone();
        authz::review::local(server, namespace, &mut own).await?;
        return Ok(Box::new(own));
    } else if let Some(review) = any.downcast_mut::<SelfSubjectAccessReview>() {
        let mut own = review.clone();
        authz::review::own(server, caller, &mut own).await?;
        return Ok(Box::new(own));
    } else if let Some(review) = any.downcast_mut::<SelfSubjectRulesReview>() {
        authz::review::own_rules(server, caller, review)?;
    } else {
        return Err(Status::method_not_allowed(&target.group, &target.resource, "create"));
    }
    Ok(object)
}
