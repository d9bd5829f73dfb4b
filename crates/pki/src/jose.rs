//! JSON web tokens that others sign: key sets (RFC 7517) and signatures (RFC 7515) by RSA and ECDSA.
//!
//! Only asymmetric algorithms are known: there is no way here to accept `none` or a shared secret.

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The algorithms a token may be signed with, as upstream has them.
pub const ALGORITHMS: &[&str] = &["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];
/// Longer tokens are not looked at.
const TOKEN_LEN_MAX: usize = 64 * 1024;
/// Keys of a set beyond these are not looked at.
const KEYS_LEN_MAX: usize = 256;

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("oidc: malformed jwt: {0}")]
    Malformed(&'static str),
    #[error("oidc: id token signed with unsupported algorithm, expected {expected:?} got {got:?}")]
    Algorithm { expected: Vec<String>, got: String },
    /// No key of the set signed it; a newer set may.
    #[error("failed to verify signature: failed to verify id token signature")]
    Signature,
}

/// A token taken apart; nothing of it is proven.
#[derive(Debug)]
pub struct Token<'a> {
    signed: &'a str,
    header: Header,
    /// The claims' JSON.
    pub payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct Header {
    #[serde(default)]
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crit: serde_json::Value,
}

impl<'a> Token<'a> {
    /// Takes a compact token apart.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        if text.len() > TOKEN_LEN_MAX {
            return Err(Error::Malformed("it is too long"));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [header, payload, signature] = parts.as_slice() else {
            return Err(Error::Malformed("compact JWS format must have three parts"));
        };
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed("it is not base64url"));
        let parsed = serde_json::from_slice(&decode(header)?);
        Ok(Self {
            signed: &text[..header.len() + 1 + payload.len()],
            header: parsed.map_err(|_| Error::Malformed("the header is not a JSON object"))?,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}

#[derive(Debug)]
enum Key {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point, and the algorithm of its curve.
    Ec {
        point: Vec<u8>,
        algorithm: &'static str,
    },
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet(Vec<(String, Key)>);

#[derive(Deserialize)]
struct WireSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct WireKey {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default, rename = "use")]
    usage: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl KeySet {
    /// Reads a key set; keys of kinds that are not known here are passed over.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is none.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let set: WireSet = serde_json::from_slice(json).map_err(|_| Error::Malformed("it is no key set"))?;
        let keys = set.keys.into_iter().take(KEYS_LEN_MAX);
        Ok(Self(keys.filter_map(|key| read(serde_json::from_value(key).ok()?)).collect()))
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the keys signed the token, with one of `algorithms`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn verify(&self, token: &Token<'_>, algorithms: &[String]) -> Result<(), Error> {
        let Header { alg, kid, crit } = &token.header;
        if !algorithms.contains(alg) {
            return Err(Error::Algorithm { expected: algorithms.to_vec(), got: alg.clone() });
        }
        if !crit.is_null() {
            return Err(Error::Malformed("critical header parameters are not supported"));
        }
        let mut fitting = self.0.iter().filter(|(id, _)| kid.is_empty() || id == kid);
        let signed = fitting.any(|(_, key)| key.verifies(alg, token.signed.as_bytes(), &token.signature));
        if signed { Ok(()) } else { Err(Error::Signature) }
    }
}

fn read(wire: WireKey) -> Option<(String, Key)> {
    if !matches!(wire.usage.as_str(), "" | "sig") {
        return None;
    }
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| !bytes.is_empty());
    let key = match (wire.kty.as_str(), wire.crv.as_str()) {
        ("RSA", _) => Key::Rsa { n: decode(&wire.n)?, e: decode(&wire.e)? },
        ("EC", curve) => {
            let (algorithm, len) = match curve {
                "P-256" => ("ES256", 32),
                "P-384" => ("ES384", 48),
                "P-521" => ("ES512", 66),
                _ => return None,
            };
            let (x, y) = (decode(&wire.x)?, decode(&wire.y)?);
            if x.len() != len || y.len() != len {
                return None;
            }
            Key::Ec { point: [&[4], x.as_slice(), &y].concat(), algorithm }
        }
        _ => return None,
    };
    Some((wire.kid, key))
}

impl Key {
    fn verifies(&self, algorithm: &str, message: &[u8], signed: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                let parameters: &RsaParameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signed).is_ok()
            }
            Self::Ec { point, algorithm: own } if *own == algorithm => {
                let parameters = match *own {
                    "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
                    "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
                    _ => &signature::ECDSA_P521_SHA512_FIXED,
                };
                UnparsedPublicKey::new(parameters, point).verify(message, signed).is_ok()
            }
            Self::Ec { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaKeyPair,
    };
    use serde_json::json;

    use super::*;

    fn encode(header: &serde_json::Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let text = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(header), text(&json!({"iss": "me"})));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())))
    }

    fn verify(set: &KeySet, token: &str) -> Result<(), Error> {
        let all: Vec<String> = ALGORITHMS.iter().map(|name| (*name).to_owned()).collect();
        set.verify(&Token::parse(token)?, &all)
    }

    #[test]
    fn rsa_and_ecdsa_are_verified_and_nothing_else() {
        let rsa = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let public = rsa.public_key();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) = (
            part(public.modulus().big_endian_without_leading_zero()),
            part(public.exponent().big_endian_without_leading_zero()),
        );
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        let (x, y) = ec.public_key().as_ref()[1..].split_at(48);
        let set = json!({"keys": [
            {"kty": "oct", "k": "c2VjcmV0"},
            {"kty": "RSA", "kid": "r", "use": "sig", "n": n, "e": e},
            {"kty": "EC", "kid": "e", "crv": "P-384", "x": part(x), "y": part(y)},
        ]});
        let set = KeySet::parse(set.to_string().as_bytes()).unwrap();
        let by_rsa = |padding: &'static dyn signature::RsaEncoding, message: &[u8]| {
            let mut signed = vec![0; rsa.public_modulus_len()];
            rsa.sign(padding, &SystemRandom::new(), message, &mut signed).unwrap();
            signed
        };
        let by_ec = |message: &[u8]| ec.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        assert_eq!(
            verify(&set, &encode(&json!({"alg": "RS256", "kid": "r"}), |m| by_rsa(&RSA_PKCS1_SHA256, m))),
            Ok(())
        );
        assert_eq!(verify(&set, &encode(&json!({"alg": "PS512"}), |m| by_rsa(&RSA_PSS_SHA512, m))), Ok(()));
        assert_eq!(verify(&set, &encode(&json!({"alg": "ES384", "kid": "e"}), by_ec)), Ok(()));
        // Another key's id, another algorithm than the one that signed, another key.
        for (alg, kid) in [("ES384", "r"), ("RS256", "e"), ("ES256", "e"), ("PS256", "e")] {
            let token = encode(&json!({"alg": alg, "kid": kid}), by_ec);
            assert_eq!(verify(&set, &token), Err(Error::Signature), "{alg} {kid}");
        }
        for alg in ["none", "HS256", "", "EdDSA"] {
            let refused = verify(&set, &encode(&json!({"alg": alg}), |_| b"secret".to_vec()));
            assert!(matches!(refused, Err(Error::Algorithm { got, .. }) if got == alg), "{alg}");
        }
        let token = encode(&json!({"alg": "ES384", "crit": ["b64"]}), by_ec);
        assert!(matches!(verify(&set, &token), Err(Error::Malformed(_))));
        let token = encode(&json!({"alg": "ES384", "kid": "e"}), by_ec);
        for cut in [1, token.len() / 2, token.len() - 1, token.len() - 40] {
            assert!(verify(&set, &token[..cut]).is_err(), "{cut}");
        }
    }
}
