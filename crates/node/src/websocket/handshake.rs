//! The HTTP exchange that turns a connection into a WebSocket (RFC 6455, section 4). Pure.

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Whether the client asks to upgrade to `protocol`.
pub fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case(protocol))
}

/// The subprotocols the client offers, best first.
pub fn offered(headers: &HeaderMap) -> Vec<&str> {
    tokens(headers, &SEC_WEBSOCKET_PROTOCOL).collect()
}

/// The comma-separated words of a header.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The answer that accepts the upgrade; `None` when the request is no proper WebSocket handshake.
pub fn accept<B: Default>(headers: &HeaderMap, subprotocol: &str) -> Option<Response<B>> {
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    if headers.get("sec-websocket-version")?.as_bytes() != b"13" {
        return None;
    }
    let mut answer = Response::new(B::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?);
    if !subprotocol.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(subprotocol).ok()?);
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn the_handshake_of_the_rfc() {
        let request = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat, superchat"),
        ]);
        assert!(asks_for(&request, "WebSocket"));
        assert!(!asks_for(&request, "SPDY/3.1"));
        assert_eq!(offered(&request), ["chat", "superchat"]);
        let answer: Response<()> = accept(&request, "chat").unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    }

    #[test]
    fn what_is_no_handshake() {
        assert!(!asks_for(&headers(&[("upgrade", "websocket")]), "websocket"));
        assert!(accept::<()>(&headers(&[("sec-websocket-version", "13")]), "").is_none());
        let old = headers(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-version", "8")]);
        assert!(accept::<()>(&old, "").is_none());
    }
}
