//! Answers and failures: upstream's kubelet says what is wrong in plain text.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

/// The error of a body that breaks off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;
/// An answer.
pub type Reply = Response<Body>;

/// A request that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: StatusCode,
    message: String,
}

impl Failure {
    pub fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl From<cri::Error> for Failure {
    /// As upstream's streaming server answers for a runtime.
    fn from(error: cri::Error) -> Self {
        let code = if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
        Self::new(code, error.to_string())
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let mut reply = with_type("text/plain; charset=utf-8", failure.message);
        *reply.status_mut() = failure.code;
        if failure.code == StatusCode::TOO_MANY_REQUESTS {
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        reply
    }
}

/// Text.
pub fn text(text: impl Into<Bytes>) -> Reply {
    with_type("text/plain; charset=utf-8", text)
}

/// JSON.
pub fn json(json: impl Into<Bytes>) -> Reply {
    with_type("application/json", json)
}

/// Something of another type.
pub fn with_type(content_type: &'static str, content: impl Into<Bytes>) -> Reply {
    let body = Full::new(content.into()).map_err(|never| match never {}).boxed_unsync();
    typed(content_type, body)
}

/// An answer whose body comes bit by bit.
pub fn typed(content_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// No body at all: for an upgrade.
#[derive(Debug, Default)]
pub struct Nothing;

/// Gives an answer without a body the type of all others.
pub fn bodyless(reply: Response<Nothing>) -> Reply {
    reply.map(|Nothing| http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync())
}
