//! Answers to TokenReview and SelfSubjectReview.
//!
//! Upstream: pkg/registry/authentication.

use api::Status;
use api::authentication::v1::{SelfSubjectReview, SelfSubjectReviewStatus, TokenReview, TokenReviewStatus, UserInfo};

use crate::{Caller, Server};

/// The caller in the words of the authentication API.
pub fn user_info(caller: &Caller) -> UserInfo {
    UserInfo {
        username: Some(caller.name.clone()),
        uid: (!caller.uid.is_empty()).then(|| caller.uid.clone()),
        groups: (!caller.groups.is_empty()).then(|| caller.groups.clone()),
        extra: (!caller.extra.is_empty()).then(|| caller.extra.clone()),
    }
}

/// Says who the caller is.
pub fn own(caller: &Caller, review: &mut SelfSubjectReview) {
    review.status = Some(SelfSubjectReviewStatus { user_info: Some(user_info(caller)) });
}

/// Says whose token it is.
///
/// # Errors
/// 400 without a token.
pub async fn token(server: &Server, review: &mut TokenReview) -> Result<(), Status> {
    if review.spec.token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = review.spec.audiences.clone().unwrap_or_default();
    let authenticator = &server.options().authenticator;
    let found = authenticator.authenticate_token(&review.spec.token, &audiences, server.lookup()).await;
    review.status = Some(match found {
        Ok(Some(shown)) => TokenReviewStatus {
            authenticated: Some(true),
            user: Some(user_info(&shown.caller)),
            audiences: (!shown.audiences.is_empty()).then_some(shown.audiences),
            error: None,
        },
        Ok(None) => TokenReviewStatus { user: Some(UserInfo::default()), ..TokenReviewStatus::default() },
        Err(bad) => {
            TokenReviewStatus { user: Some(UserInfo::default()), error: Some(bad.0), ..TokenReviewStatus::default() }
        }
    });
    Ok(())
}
