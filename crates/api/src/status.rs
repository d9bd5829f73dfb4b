//! The one error of the wire: `Status`, with upstream's reasons, codes and wording
//! (apimachinery `pkg/api/errors`).

use std::fmt;

use crate::field::FieldErrors;
use crate::meta::v1;

/// An answer that is no object. As an error it is what every request handler returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Status(pub Box<v1::Status>, Vec<String>);

/// Why a request failed, in the words clients test for (`metav1.StatusReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    Invalid,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
    RequestEntityTooLarge,
    Timeout,
    ServerTimeout,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
    StoreReadError,
}

impl Reason {
    /// The reason's text and its HTTP code.
    pub const fn parts(self) -> (&'static str, i32) {
        match self {
            Self::Unauthorized => ("Unauthorized", 401),
            Self::Forbidden => ("Forbidden", 403),
            Self::NotFound => ("NotFound", 404),
            Self::AlreadyExists => ("AlreadyExists", 409),
            Self::Conflict => ("Conflict", 409),
            Self::Gone => ("Gone", 410),
            Self::Expired => ("Expired", 410),
            Self::Invalid => ("Invalid", 422),
            Self::BadRequest => ("BadRequest", 400),
            Self::MethodNotAllowed => ("MethodNotAllowed", 405),
            Self::NotAcceptable => ("NotAcceptable", 406),
            Self::UnsupportedMediaType => ("UnsupportedMediaType", 415),
            Self::RequestEntityTooLarge => ("RequestEntityTooLarge", 413),
            Self::Timeout => ("Timeout", 504),
            Self::ServerTimeout => ("ServerTimeout", 500),
            Self::TooManyRequests => ("TooManyRequests", 429),
            Self::InternalError => ("InternalError", 500),
            Self::ServiceUnavailable => ("ServiceUnavailable", 503),
            Self::StoreReadError => ("StorageReadError", 500),
        }
    }
}

/// `deployments.apps`, or `pods` for the core group.
pub fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    /// With that body.
    pub fn of(status: v1::Status) -> Self {
        Self(Box::new(status), Vec::new())
    }

    /// With what the client is to be warned of besides; not part of the body.
    #[must_use]
    pub fn warn(mut self, warnings: Vec<String>) -> Self {
        self.1.extend(warnings);
        self
    }

    /// What the client is to be warned of besides.
    pub fn warnings(&self) -> &[String] {
        &self.1
    }

    /// A failure with that reason and message.
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        let (text, code) = reason.parts();
        Self::of(v1::Status {
            status: Some("Failure".into()),
            message: Some(message.into()),
            reason: Some(text.into()),
            code: Some(code),
            ..Default::default()
        })
    }

    /// What a delete answers when the object is gone at once.
    pub fn deleted(group: &str, resource: &str, name: &str, uid: &str) -> Self {
        Self::of(v1::Status {
            status: Some("Success".into()),
            details: Some(v1::StatusDetails {
                name: Some(name.to_owned()),
                group: (!group.is_empty()).then(|| group.to_owned()),
                kind: Some(resource.to_owned()),
                uid: (!uid.is_empty()).then(|| uid.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    /// A plain success.
    pub fn success() -> Self {
        Self::of(v1::Status { status: Some("Success".into()), code: Some(200), ..Default::default() })
    }

    fn about(mut self, group: &str, kind_or_resource: &str, name: &str) -> Self {
        let details = self.0.details.get_or_insert_with(Default::default);
        details.name = (!name.is_empty()).then(|| name.to_owned());
        details.group = (!group.is_empty()).then(|| group.to_owned());
        details.kind = (!kind_or_resource.is_empty()).then(|| kind_or_resource.to_owned());
        self
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::failure(Reason::NotFound, format!("{} \"{name}\" not found", qualified(resource, group)))
            .about(group, resource, name)
    }

    /// 404 for a path, group or resource that is not served.
    pub fn unknown_resource() -> Self {
        let mut status = Self::failure(Reason::NotFound, "the server could not find the requested resource");
        status.0.details = Some(v1::StatusDetails::default());
        status
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::failure(Reason::AlreadyExists, format!("{} \"{name}\" already exists", qualified(resource, group)))
            .about(group, resource, name)
    }

    /// 409; `why` is, for a stale resourceVersion, [`MODIFIED`].
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(resource, group);
        Self::failure(Reason::Conflict, format!("Operation cannot be fulfilled on {what} \"{name}\": {why}"))
            .about(group, resource, name)
    }

    /// 422 with a cause per field error; `kind` is the object's kind, not its resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &FieldErrors) -> Self {
        let message = format!("{} \"{name}\" is invalid: {errors}", qualified(kind, group));
        let mut status = Self::failure(Reason::Invalid, message).about(group, kind, name);
        status.0.details.get_or_insert_with(Default::default).causes = Some(errors.causes());
        status
    }

    /// 403; `name` may be empty.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(resource, group);
        let message = match (what.as_str(), name) {
            ("", _) => format!("forbidden: {why}"),
            (what, "") => format!("{what} is forbidden: {why}"),
            (what, name) => format!("{what} \"{name}\" is forbidden: {why}"),
        };
        Self::failure(Reason::Forbidden, message).about(group, resource, name)
    }

    pub fn unauthorized() -> Self {
        Self::failure(Reason::Unauthorized, "Unauthorized")
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(Reason::BadRequest, message)
    }

    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        let what = qualified(resource, group);
        Self::failure(Reason::MethodNotAllowed, format!("{verb} is not supported on resources of kind \"{what}\""))
            .about(group, resource, "")
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let accepted = accepted.join(", ");
        Self::failure(Reason::NotAcceptable, format!("only the following media types are accepted: {accepted}"))
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(Reason::UnsupportedMediaType, message)
    }

    pub fn too_large(limit_bytes: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit_bytes}");
        Self::failure(Reason::RequestEntityTooLarge, message)
    }

    /// 410: a watch or continue token that is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(Reason::Expired, message)
    }

    pub fn internal(why: impl fmt::Display) -> Self {
        let mut status = Self::failure(Reason::InternalError, format!("Internal error occurred: {why}"));
        let cause = v1::StatusCause { message: Some(why.to_string()), ..Default::default() };
        status.0.details = Some(v1::StatusDetails { causes: Some(vec![cause]), ..Default::default() });
        status
    }

    /// 500 without a reason: what upstream answers where an error of its own is no Status.
    pub fn unexplained(message: impl Into<String>) -> Self {
        let mut status = Self::failure(Reason::InternalError, message);
        status.0.reason = None;
        status
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(Reason::ServiceUnavailable, message)
    }

    /// 504 with `Retry-After`.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self::failure(Reason::Timeout, format!("Timeout: {}", message.into())).retry_after(retry_after_seconds)
    }

    /// 429 with `Retry-After`.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self::failure(Reason::TooManyRequests, message).retry_after(retry_after_seconds)
    }

    fn retry_after(mut self, seconds: i32) -> Self {
        self.0.details.get_or_insert_with(Default::default).retry_after_seconds = (seconds > 0).then_some(seconds);
        self
    }

    /// The HTTP code; 200 for a success without one.
    pub fn code(&self) -> u16 {
        self.0.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(200)
    }

    /// The reason's text, or `""`.
    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or_default()
    }

    /// Whether the reason is this one.
    pub fn is(&self, reason: Reason) -> bool {
        self.reason() == reason.parts().0
    }

    /// The message, or `""`.
    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or_default()
    }

    /// JSON, as it goes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("a Status always encodes")
    }

    /// From JSON; `None` if it is not a `v1` `Status`.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let status: v1::Status = serde_json::from_slice(bytes).ok()?;
        status.status.is_some().then(|| Self::of(status))
    }
}

/// Why a write with a stale resourceVersion is refused.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Status {}
