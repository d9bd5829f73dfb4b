//! Bootstrap tokens: how a new node introduces itself, and how it knows the cluster it talks to.
//!
//! Upstream: staging/src/k8s.io/cluster-bootstrap/token.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, Result};
use crate::key::random_bytes;

/// The user name prefix of a bootstrap token's bearer, before the token's id.
pub const USERNAME_PREFIX: &str = "system:bootstrap:";
/// The group of every bootstrap token's bearer.
pub const GROUP: &str = "system:bootstrappers";
/// The prefix of the name of a token's secret in `kube-system`, before the token's id.
pub const SECRET_NAME_PREFIX: &str = "bootstrap-token-";
/// The type of that secret.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

const ID_LEN: usize = 6;
const SECRET_LEN: usize = 16;
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A token `<id>.<secret>`: `[a-z0-9]{6}.[a-z0-9]{16}`. Debug output shows the id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl Token {
    /// A new random token.
    ///
    /// # Errors
    /// [`Error::Crypto`].
    pub fn generate() -> Result<Self> {
        Ok(Self { id: random_text(ID_LEN)?, secret: random_text(SECRET_LEN)? })
    }

    /// The public half: part of user and secret names.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret half.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Whether this token's secret is `secret`, in time that does not depend on where they differ.
    pub fn secret_is(&self, secret: &[u8]) -> bool {
        verify_slices_are_equal(self.secret.as_bytes(), secret).is_ok()
    }

    /// The signature of the `cluster-info` kubeconfig under `jws-kubeconfig-<id>`: a detached JSON web signature,
    /// HS256 with the token's secret.
    pub fn sign_detached(&self, content: &str) -> String {
        let header = serde_json::json!({"alg": "HS256", "kid": self.id}).to_string();
        let header = URL_SAFE_NO_PAD.encode(header);
        let tag = hmac::sign(&self.hmac_key(), signing_input(&header, content).as_bytes());
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// Whether `signature` is this token's over `content`.
    pub fn verify_detached(&self, content: &str, signature: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Header {
            alg: String,
            kid: String,
        }
        let Some((header, tag)) = signature.split_once("..") else { return false };
        let (Ok(json), Ok(tag)) = (URL_SAFE_NO_PAD.decode(header), URL_SAFE_NO_PAD.decode(tag)) else { return false };
        serde_json::from_slice::<Header>(&json).is_ok_and(|header| header.alg == "HS256" && header.kid == self.id)
            && hmac::verify(&self.hmac_key(), signing_input(header, content).as_bytes(), &tag).is_ok()
    }

    fn hmac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes())
    }
}

fn signing_input(header: &str, content: &str) -> String {
    format!("{header}.{}", URL_SAFE_NO_PAD.encode(content))
}

/// `len` characters of the alphabet, every one equally likely.
fn random_text(len: usize) -> Result<String> {
    // 252 is the largest multiple of 36 in a byte: bytes above it would favour some characters.
    let mut text = String::with_capacity(len);
    while text.len() < len {
        let fair = random_bytes::<32>()?.into_iter().filter(|byte| *byte < 252);
        text.extend(fair.take(len - text.len()).map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])));
    }
    Ok(text)
}

fn is_token_text(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('.') {
            Some((id, secret)) if is_token_text(id, ID_LEN) && is_token_text(secret, SECRET_LEN) => {
                Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
            }
            _ => Err(Error::malformed("bootstrap token", r"it must match [a-z0-9]{6}\.[a-z0-9]{16}")),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.***)", self.id)
    }
}

/// All that a node needs to join besides the server's address: `sha256:<hex>::<id>.<secret>`, the CA's hash
/// ([`crate::spki_hash`]) and a token. The hash authenticates the server to the node, the token the node to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The CA's hash. Without it the node must be given the CA itself.
    pub ca_hash: Option<String>,
    /// The token.
    pub token: Token,
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((hash, token)) = text.split_once("::") else {
            return Ok(Self { ca_hash: None, token: text.parse()? });
        };
        let ca_hash = crate::tls::checked_hash(hash)?;
        Ok(Self { ca_hash: Some(ca_hash), token: token.parse()? })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ca_hash {
            Some(hash) => write!(f, "{hash}::{}", self.token),
            None => write!(f, "{}", self.token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_upstreams_format() {
        let token = Token::generate().unwrap();
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        assert_ne!(Token::generate().unwrap(), token);
        assert!(token.secret_is(token.secret().as_bytes()) && !token.secret_is(b"0123456789abcdef"));
        assert!(!format!("{token:?}").contains(token.secret()));
        for bad in ["", "abcdef", "abcdef.0123456789abcde", "abcdef.0123456789abcdeF", "abcde.0123456789abcdef", "a.b"]
        {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_join_token_carries_the_hash() {
        let text = format!("sha256:{}::abcdef.0123456789abcdef", "0a".repeat(32));
        let join: JoinToken = text.parse().unwrap();
        assert_eq!(join.to_string(), text);
        assert_eq!("abcdef.0123456789abcdef".parse::<JoinToken>().unwrap().ca_hash, None);
        assert!("sha256:0a::abcdef.0123456789abcdef".parse::<JoinToken>().is_err());
    }

    #[test]
    fn the_detached_signature_is_upstreams() {
        // Computed with upstream's token/jws for this id, secret and content.
        let content = "Hello from the other side. I must have called a thousand times.";
        let token = Token { id: "joshua".to_owned(), secret: "my voice is my passcode".to_owned() };
        let signature = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8";
        assert_eq!(token.sign_detached(content), signature);
        assert!(token.verify_detached(content, signature));
        assert!(!token.verify_detached("Hello from the other side.", signature));
        let other = Token { id: "joshua".to_owned(), secret: "my voice is my password".to_owned() };
        assert!(!other.verify_detached(content, signature));
        assert!(!token.verify_detached("x", "") && !token.verify_detached("x", "a..b"));
    }
}
