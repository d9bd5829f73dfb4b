//! What is said of an answer that is no success, in the words of upstream's client (`NewGenericServerResponse`).

use api::{Reason, Status};
use http::StatusCode;

/// Longest text of an answer that is repeated.
const TEXT_LEN_MAX: usize = 2048;

/// The error for an answer with that code and body.
pub fn failure(code: StatusCode, body: &[u8]) -> Status {
    if let Some(status) = Status::decode(body)
        && status.0.status.as_deref() == Some("Failure")
    {
        return status;
    }
    let text = std::str::from_utf8(body).map_or("unknown", str::trim);
    let text: String = text.chars().take(TEXT_LEN_MAX).collect();
    let (reason, message) = match code.as_u16() {
        400 => (Reason::BadRequest, "the server rejected our request for an unknown reason".to_owned()),
        401 => (Reason::Unauthorized, "the server has asked for the client to provide credentials".to_owned()),
        403 => (Reason::Forbidden, text),
        404 => (Reason::NotFound, "the server could not find the requested resource".to_owned()),
        405 => (Reason::MethodNotAllowed, "the server does not allow this method on the requested resource".to_owned()),
        406 => (Reason::NotAcceptable, text),
        409 => (Reason::AlreadyExists, "the server reported a conflict".to_owned()),
        415 => (Reason::UnsupportedMediaType, text),
        422 => (Reason::Invalid, "the server rejected our request due to an error in our request".to_owned()),
        429 => (
            Reason::TooManyRequests,
            "the server has received too many requests and has asked us to try again later".to_owned(),
        ),
        503 => (Reason::ServiceUnavailable, "the server is currently unable to handle the request".to_owned()),
        504 => (
            Reason::Timeout,
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned(),
        ),
        code if code >= 500 => (
            Reason::InternalError,
            format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        ),
        code => (
            Reason::InternalError,
            format!("the server responded with the status code {code} but did not return more information"),
        ),
    };
    let mut status = Status::failure(reason, message);
    status.0.code = Some(i32::from(code.as_u16()));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let say = |code: u16, body: &str| failure(StatusCode::from_u16(code).unwrap(), body.as_bytes()).0.message;
        assert_eq!(
            say(500, "oh no\n").as_deref(),
            Some("an error on the server (\"oh no\") has prevented the request from succeeding")
        );
        assert_eq!(
            say(302, "").as_deref(),
            Some("the server responded with the status code 302 but did not return more information")
        );
        let own = Status::forbidden("", "pods", "a", "no").encode();
        assert_eq!(say(403, &String::from_utf8(own).unwrap()).as_deref(), Some("pods \"a\" is forbidden: no"));
    }
}
