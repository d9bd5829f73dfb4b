//! The two documents by which others check our service-account tokens: OpenID discovery and the key set.
//!
//! Upstream: pkg/serviceaccount/openidmetadata.go. Both are served with `Cache-Control: public, max-age=3600`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::error::{Error, Result};
use crate::key::PublicKey;

/// Where the discovery document is served.
pub const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
/// Where the key set is served, with content type `application/jwk-set+json`.
pub const JWKS_PATH: &str = "/openid/v1/jwks";

/// The discovery document of `issuer`, whose keys are at `jwks_uri`.
///
/// # Errors
/// [`Error::Malformed`] when either is no https URL, or the issuer has a query or a fragment.
pub fn configuration(issuer: &str, jwks_uri: &str) -> Result<String> {
    if !issuer.starts_with("https://") {
        return Err(Error::malformed("issuer", format!("issuer URL must use https scheme, got: {issuer}")));
    }
    if issuer.contains('?') {
        return Err(Error::malformed("issuer", format!("issuer URL may not include a query, got: {issuer}")));
    }
    if issuer.contains('#') {
        return Err(Error::malformed("issuer", format!("issuer URL may not include a fragment, got: {issuer}")));
    }
    if !jwks_uri.starts_with("https://") {
        return Err(Error::malformed("jwks_uri", format!("jwksURI requires https scheme, parsed as: {jwks_uri}")));
    }
    Ok(json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
    .to_string())
}

/// The JSON web key set (RFC 7517) of `keys`.
pub fn jwks(keys: &[PublicKey]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            let (x, y) = key.coordinates();
            json!({
                "use": "sig",
                "kty": "EC",
                "kid": key.key_id(),
                "crv": "P-256",
                "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(x),
                "y": URL_SAFE_NO_PAD.encode(y),
            })
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_is_as_upstream() {
        let issuer = "https://kubernetes.default.svc.cluster.local";
        assert_eq!(
            configuration(issuer, "https://10.0.0.1:6443/openid/v1/jwks").unwrap(),
            concat!(
                r#"{"issuer":"https://kubernetes.default.svc.cluster.local","#,
                r#""jwks_uri":"https://10.0.0.1:6443/openid/v1/jwks","response_types_supported":["id_token"],"#,
                r#""subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}"#
            )
        );
        for (issuer, jwks) in [("http://a", "https://a"), ("https://a?b", "https://a"), ("https://a", "a")] {
            assert!(configuration(issuer, jwks).is_err());
        }
    }

    #[test]
    fn the_key_set_has_the_published_example() {
        // RFC 7517, appendix A.1, as SubjectPublicKeyInfo.
        let point = [
            URL_SAFE_NO_PAD.decode("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4").unwrap(),
            URL_SAFE_NO_PAD.decode("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM").unwrap(),
        ]
        .concat();
        let mut spki = hex::decode("3059301306072a8648ce3d020106082a8648ce3d03010703420004").unwrap();
        spki.extend(point);
        let key = PublicKey::from_der(&spki).unwrap();
        let set: serde_json::Value = serde_json::from_str(&jwks(&[key])).unwrap();
        assert_eq!(set["keys"][0]["x"], "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4");
        assert_eq!(set["keys"][0]["y"], "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
        assert_eq!(set["keys"][0]["kid"].as_str().unwrap().len(), 43);
    }
}
