//! Service-account tokens: JSON web tokens signed with ES256, with upstream's claims.
//!
//! This file proves who signed a token and what it says. Whether the service account, pod, node or secret that it is
//! bound to still exists is for the caller to look up. Upstream: pkg/serviceaccount/{jwt,claims,legacy}.go.

use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};

use crate::key::{PrivateKey, PublicKey};

/// The issuer of tokens kept in secrets of type `kubernetes.io/service-account-token`.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// The prefix of a service account's user name.
pub const USERNAME_PREFIX: &str = "system:serviceaccount:";
/// An issuer and a verifier may disagree on the time by this much.
const LEEWAY_SECONDS: i64 = 60;
/// Longer tokens are not looked at.
const TOKEN_LEN_MAX: usize = 64 * 1024;

/// Why a token is not accepted. The messages of `WrongAudience`, `Expired` and `NotYetValid` are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no JSON web token: another authenticator may know it.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Somebody else issued it: another authenticator may know it.
    #[error("token issuer {0:?} is invalid")]
    WrongIssuer(String),
    /// It claims to be ours and is not signed by one of our keys, or not with ES256.
    #[error("{0}")]
    BadSignature(&'static str),
    /// It is meant for others.
    #[error("token audiences {token:?} is invalid for the target audiences {wanted:?}")]
    WrongAudience {
        /// Whom it is meant for.
        token: Vec<String>,
        /// Whom it was shown to.
        wanted: Vec<String>,
    },
    /// It was valid once.
    #[error("service account token has expired")]
    Expired,
    /// It is not valid yet, or was issued in the future.
    #[error("service account token is not valid yet")]
    NotYetValid,
}

impl Error {
    /// Whether the token is none of ours, so that other authenticators should be asked.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::WrongIssuer(_))
    }
}

/// An object that a token names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ref {
    /// `metadata.name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `metadata.uid`; empty when it could not be looked up.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Ref {
    /// A name and a UID.
    pub fn new(name: impl Into<String>, uid: impl Into<String>) -> Self {
        Self { name: name.into(), uid: uid.into() }
    }
}

/// The claim `kubernetes.io`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    /// The service account's namespace.
    #[serde(default)]
    pub namespace: String,
    /// The node the token is bound to, or the one its pod runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Ref>,
    /// The pod the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Ref>,
    /// The secret the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ref>,
    /// Whose token it is.
    #[serde(rename = "serviceaccount", default)]
    pub service_account: Ref,
    /// Use after this time (Unix seconds) is worth a warning: the client does not refresh its token.
    #[serde(rename = "warnafter", skip_serializing_if = "Option::is_none")]
    pub warn_after: Option<i64>,
}

/// A token's claims. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it is meant for.
    #[serde(rename = "aud", default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// When it expires; only legacy tokens never do.
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// When it was issued.
    #[serde(rename = "iat", skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<i64>,
    /// Who issued it.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// Its own id, a UUID: the user's extra `authentication.kubernetes.io/credential-id` is `JTI=<id>`.
    #[serde(rename = "jti", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whose it is and what it is bound to.
    #[serde(rename = "kubernetes.io", default)]
    pub kubernetes: Kubernetes,
    /// From when on it is valid.
    #[serde(rename = "nbf", skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    /// `system:serviceaccount:<namespace>:<name>`.
    #[serde(rename = "sub", default)]
    pub subject: String,
}

/// The claims of a token in a secret, as they are on the wire.
#[derive(Serialize, Deserialize)]
struct LegacyClaims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", default)]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", default)]
    secret_name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", default)]
    service_account_name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", default)]
    service_account_uid: String,
    #[serde(default)]
    sub: String,
}

/// What a token is bound to: when that goes, so does the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// Nothing but its time.
    Nothing,
    /// A pod, and for information the node it runs on.
    Pod {
        /// The pod.
        pod: Ref,
        /// Its node; the UID is empty when the node is not known.
        node: Option<Ref>,
    },
    /// A secret.
    Secret(Ref),
    /// A node.
    Node(Ref),
}

/// What a new token shall say.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: Ref,
    /// What it is bound to.
    pub bound: Bound,
    /// Whom it is meant for.
    pub audiences: Vec<String>,
    /// How long from now it is valid.
    pub expiration_seconds: i64,
    /// Warn from this long after now.
    pub warn_after_seconds: Option<i64>,
    /// A fresh UUID ([`base::Random::uid`]).
    pub id: String,
}

/// The user name of a service account.
pub fn username(namespace: &str, name: &str) -> String {
    format!("{USERNAME_PREFIX}{namespace}:{name}")
}

/// Issues tokens.
#[derive(Debug, Clone)]
pub struct Signer {
    issuer: String,
    key: PrivateKey,
    header: String,
}

impl Signer {
    /// Signs as `issuer` with `key`.
    pub fn new(issuer: impl Into<String>, key: PrivateKey) -> Self {
        let header = serde_json::json!({"alg": "ES256", "kid": key.public_key().key_id()});
        Self { issuer: issuer.into(), key, header: URL_SAFE_NO_PAD.encode(header.to_string()) }
    }

    /// A bound token.
    ///
    /// # Errors
    /// [`crate::Error::Crypto`].
    pub fn sign(&self, grant: &Grant, now: Timestamp) -> crate::Result<String> {
        let now_seconds = now.as_second();
        let mut kubernetes = Kubernetes {
            namespace: grant.namespace.clone(),
            service_account: grant.service_account.clone(),
            warn_after: grant.warn_after_seconds.map(|after| now_seconds.saturating_add(after)),
            ..Kubernetes::default()
        };
        match &grant.bound {
            Bound::Nothing => {}
            Bound::Pod { pod, node } => (kubernetes.pod, kubernetes.node) = (Some(pod.clone()), node.clone()),
            Bound::Secret(secret) => kubernetes.secret = Some(secret.clone()),
            Bound::Node(node) => kubernetes.node = Some(node.clone()),
        }
        self.encode(&Claims {
            audiences: grant.audiences.clone(),
            expires_at: Some(now_seconds.saturating_add(grant.expiration_seconds)),
            issued_at: Some(now_seconds),
            issuer: self.issuer.clone(),
            id: Some(grant.id.clone()),
            kubernetes,
            not_before: Some(now_seconds),
            subject: username(&grant.namespace, &grant.service_account.name),
        })
    }

    /// A token for a secret of type `kubernetes.io/service-account-token`: it does not expire, and is gone when the
    /// secret is.
    ///
    /// # Errors
    /// [`crate::Error::Crypto`].
    pub fn sign_legacy(&self, namespace: &str, service_account: &Ref, secret_name: &str) -> crate::Result<String> {
        self.encode(&LegacyClaims {
            iss: LEGACY_ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret_name: secret_name.to_owned(),
            service_account_name: service_account.name.clone(),
            service_account_uid: service_account.uid.clone(),
            sub: username(namespace, &service_account.name),
        })
    }

    fn encode(&self, claims: &impl Serialize) -> crate::Result<String> {
        let payload = serde_json::to_vec(claims).map_err(|e| crate::Error::malformed("claims", e))?;
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign_fixed(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

/// A token that was signed by us, is in its time, and meant for the audience it was shown to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it says. A legacy token's secret is in `kubernetes.secret`, without a UID.
    pub claims: Claims,
    /// The audiences it has in common with those asked for.
    pub audiences: Vec<String>,
    /// Whether it came from a secret.
    pub legacy: bool,
}

/// Checks tokens.
#[derive(Debug, Clone)]
pub struct Verifier {
    issuers: Vec<String>,
    keys: Vec<(String, PublicKey)>,
    api_audiences: Vec<String>,
}

impl Verifier {
    /// Accepts tokens of `issuers` (and legacy ones) signed by one of `keys`. `api_audiences` are the API server's
    /// own: asked for when nothing else is, and assumed of tokens that name none.
    pub fn new(issuers: Vec<String>, keys: Vec<PublicKey>, api_audiences: Vec<String>) -> Self {
        let keys = keys.into_iter().map(|key| (key.key_id(), key)).collect();
        Self { issuers, keys, api_audiences }
    }

    /// Checks a token shown to `audiences` (none: the API server).
    ///
    /// # Errors
    /// Every variant of [`Error`]; [`Error::is_foreign`] tells whether others should be asked.
    pub fn verify(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Verified, Error> {
        let (signed, header, payload, signature) = split(token)?;
        let issuer = serde_json::from_slice::<IssuerOnly>(&payload)
            .map_err(|_| Error::Malformed("the payload is not a JSON object with an issuer"))?
            .iss;
        let legacy = issuer == LEGACY_ISSUER;
        if !legacy && !self.issuers.contains(&issuer) {
            return Err(Error::WrongIssuer(issuer));
        }
        self.verify_signature(&header, signed, &signature)?;
        let claims = if legacy { legacy_claims(&payload)? } else { claims(&payload)? };
        let audiences = self.verify_audience(&claims.audiences, audiences)?;
        verify_time(&claims, now)?;
        Ok(Verified { claims, audiences, legacy })
    }

    fn verify_signature(&self, header: &Header, signed: &str, signature: &[u8]) -> Result<(), Error> {
        if header.alg != "ES256" {
            return Err(Error::BadSignature("invalid signature, the algorithm must be ES256"));
        }
        if !header.crit.is_null() {
            return Err(Error::BadSignature("invalid signature, critical header parameters are not supported"));
        }
        let mut keys = self.keys.iter().filter(|(id, _)| header.kid.is_empty() || *id == header.kid).peekable();
        if keys.peek().is_none() {
            return Err(Error::BadSignature("invalid signature, no keys found"));
        }
        if !keys.any(|(_, key)| key.verify_fixed(signed.as_bytes(), signature)) {
            return Err(Error::BadSignature("invalid signature"));
        }
        Ok(())
    }

    fn verify_audience(&self, token: &[String], wanted: &[String]) -> Result<Vec<String>, Error> {
        let token = if token.is_empty() { &self.api_audiences } else { token };
        let wanted = if wanted.is_empty() { &self.api_audiences } else { wanted };
        let common: Vec<String> = token.iter().filter(|audience| wanted.contains(audience)).cloned().collect();
        if common.is_empty() {
            return Err(Error::WrongAudience { token: token.to_vec(), wanted: wanted.to_vec() });
        }
        Ok(common)
    }
}

#[derive(Deserialize)]
struct IssuerOnly {
    iss: String,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crit: serde_json::Value,
}

type Parts<'a> = (&'a str, Header, Vec<u8>, Vec<u8>);

/// What was signed, the header, the payload, the signature.
fn split(token: &str) -> Result<Parts<'_>, Error> {
    if token.len() > TOKEN_LEN_MAX {
        return Err(Error::Malformed("it is too long"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Error::Malformed("it has no signature"))?;
    let (header, payload) = signed.split_once('.').ok_or(Error::Malformed("it has no payload"))?;
    let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed("it is not base64url"));
    let header =
        serde_json::from_slice(&decode(header)?).map_err(|_| Error::Malformed("the header is not a JSON object"))?;
    Ok((signed, header, decode(payload)?, decode(signature)?))
}

fn claims(payload: &[u8]) -> Result<Claims, Error> {
    serde_json::from_slice(payload).map_err(|_| Error::Malformed("the claims have the wrong types"))
}

fn legacy_claims(payload: &[u8]) -> Result<Claims, Error> {
    let legacy: LegacyClaims =
        serde_json::from_slice(payload).map_err(|_| Error::Malformed("the claims have the wrong types"))?;
    Ok(Claims {
        audiences: Vec::new(),
        expires_at: None,
        issued_at: None,
        issuer: legacy.iss,
        id: None,
        kubernetes: Kubernetes {
            namespace: legacy.namespace,
            secret: Some(Ref::new(legacy.secret_name, "")),
            service_account: Ref::new(legacy.service_account_name, legacy.service_account_uid),
            ..Kubernetes::default()
        },
        not_before: None,
        subject: legacy.sub,
    })
}

fn verify_time(claims: &Claims, now: Timestamp) -> Result<(), Error> {
    let now_seconds = now.as_second();
    let starts = [claims.not_before, claims.issued_at];
    if starts.into_iter().flatten().any(|start| now_seconds.saturating_add(LEEWAY_SECONDS) < start) {
        return Err(Error::NotYetValid);
    }
    if claims.expires_at.is_some_and(|end| now_seconds.saturating_sub(LEEWAY_SECONDS) > end) {
        return Err(Error::Expired);
    }
    Ok(())
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(audience) => vec![audience],
        OneOrMany::Many(audiences) => audiences,
    })
}

#[cfg(test)]
mod tests;
