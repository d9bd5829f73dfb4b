//! Objects that are questions: access and token reviews. They are answered at once and kept nowhere.

use std::sync::Arc;

use api::authentication::v1::{SelfSubjectReview, SelfSubjectReviewStatus, UserInfo};
use api::{Object, Status, Target};

use crate::{Caller, Server};

/// The object with its status filled in.
///
/// # Errors
/// 405 for reviews that nobody answers.
pub async fn answer(
    _server: &Server,
    caller: &Arc<Caller>,
    target: &Target,
    mut object: Box<dyn Object>,
) -> Result<Box<dyn Object>, Status> {
    if let Some(review) = object.as_any_mut().downcast_mut::<SelfSubjectReview>() {
        review.status = Some(SelfSubjectReviewStatus { user_info: Some(user_info(caller)) });
        return Ok(object);
    }
    Err(Status::method_not_allowed(&target.group, &target.resource, "create"))
}

/// The caller in the words of the authentication API.
pub fn user_info(caller: &Caller) -> UserInfo {
    UserInfo {
        username: Some(caller.name.clone()),
        uid: (!caller.uid.is_empty()).then(|| caller.uid.clone()),
        groups: Some(caller.groups.clone()),
        extra: (!caller.extra.is_empty()).then(|| caller.extra.clone()),
    }
}
