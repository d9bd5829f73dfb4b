//! The ways of sealing a value, in the forms of upstream's providers: aesgcm, aescbc, secretbox, identity; kms is a
//! file of its own.
//!
//! AES is aws-lc's. Secretbox is NaCl's composition of XSalsa20 and Poly1305, each from a crate of its own.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use bytes::Bytes;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit, StreamCipher};

use super::kms::{self, Kms};
use super::{PREFIX, Unopened};

const CBC_IV_LEN: usize = 16;
const BOX_NONCE_LEN: usize = 24;
const BOX_TAG_LEN: usize = 16;
const BOX_KEY_LEN: usize = 32;

/// A way with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    AesGcm,
    AesCbc,
    Secretbox,
}

impl Way {
    const fn prefix(self) -> &'static str {
        match self {
            Self::AesGcm => "k8s:enc:aesgcm:v1:",
            Self::AesCbc => "k8s:enc:aescbc:v1:",
            Self::Secretbox => "k8s:enc:secretbox:v1:",
        }
    }

    /// As a configuration names it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AesGcm => "aesgcm",
            Self::AesCbc => "aescbc",
            Self::Secretbox => "secretbox",
        }
    }

    /// How long a key may be, in bytes.
    pub const fn key_lens(self) -> &'static [usize] {
        match self {
            Self::AesGcm | Self::AesCbc => &[16, 24, 32],
            Self::Secretbox => &[BOX_KEY_LEN],
        }
    }

    const fn no_key(self) -> &'static str {
        match self {
            Self::AesGcm | Self::AesCbc => "no matching key was found for the provided AES transformer",
            Self::Secretbox => "no matching key was found for the provided Secretbox transformer",
        }
    }
}

/// One provider.
pub enum Provider {
    /// As it is.
    Identity,
    /// Sealed with the first of the keys.
    Keys(Way, Vec<Key>),
    /// A plugin that is yet to be reached ([`super::Rules::begin`]): seals and opens nothing.
    Planned(kms::Settings),
    /// Sealed with the help of a plugin.
    Kms(std::sync::Arc<Kms>),
}

/// A key with its name.
pub struct Key {
    /// What values sealed with it begin with.
    prefix: String,
    material: Material,
}

enum Material {
    Gcm(LessSafeKey),
    Cbc(Box<PaddedBlockEncryptingKey>, Box<PaddedBlockDecryptingKey>),
    Secretbox([u8; BOX_KEY_LEN]),
}

impl Key {
    /// `None` if the bytes are too few or too many.
    pub fn new(way: Way, name: &str, bytes: &[u8]) -> Option<Self> {
        let material = match way {
            Way::AesGcm => {
                let algorithm = match bytes.len() {
                    16 => &AES_128_GCM,
                    24 => &AES_192_GCM,
                    _ => &AES_256_GCM,
                };
                Material::Gcm(LessSafeKey::new(UnboundKey::new(algorithm, bytes).ok()?))
            }
            Way::AesCbc => {
                let algorithm = match bytes.len() {
                    16 => &AES_128,
                    24 => &AES_192,
                    _ => &AES_256,
                };
                let key = || UnboundCipherKey::new(algorithm, bytes).ok();
                Material::Cbc(
                    Box::new(PaddedBlockEncryptingKey::cbc_pkcs7(key()?).ok()?),
                    Box::new(PaddedBlockDecryptingKey::cbc_pkcs7(key()?).ok()?),
                )
            }
            Way::Secretbox => Material::Secretbox(bytes.try_into().ok()?),
        };
        Some(Self { prefix: format!("{}{name}:", way.prefix()), material })
    }

    fn seal(&self, key: &str, json: &[u8]) -> Result<Bytes, String> {
        let failed = |_| "the value cannot be encrypted".to_owned();
        let mut out = Vec::with_capacity(self.prefix.len() + json.len() + 64);
        out.extend_from_slice(self.prefix.as_bytes());
        match &self.material {
            Material::Gcm(own) => {
                let nonce: [u8; NONCE_LEN] = random()?;
                out.extend_from_slice(&nonce);
                let start = out.len();
                out.extend_from_slice(json);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = own
                    .seal_in_place_separate_tag(nonce, Aad::from(key.as_bytes()), &mut out[start..])
                    .map_err(failed)?;
                out.extend_from_slice(tag.as_ref());
            }
            Material::Cbc(own, _) => {
                let mut text = json.to_vec();
                let context = own.encrypt(&mut text).map_err(failed)?;
                let iv: &[u8] = (&context).try_into().map_err(failed)?;
                out.extend_from_slice(iv);
                out.extend_from_slice(&text);
            }
            Material::Secretbox(own) => {
                let nonce: [u8; BOX_NONCE_LEN] = random()?;
                out.extend_from_slice(&nonce);
                secretbox_seal(own, &nonce, json, &mut out);
            }
        }
        Ok(out.into())
    }

    fn open(&self, key: &str, sealed: &[u8]) -> Option<Bytes> {
        match &self.material {
            Material::Gcm(own) => {
                let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
                let mut text = sealed.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let len = own.open_in_place(nonce, Aad::from(key.as_bytes()), &mut text).ok()?.len();
                text.truncate(len);
                Some(text.into())
            }
            Material::Cbc(_, own) => {
                let (iv, sealed) = sealed.split_first_chunk::<CBC_IV_LEN>()?;
                let mut text = sealed.to_vec();
                let context = DecryptionContext::Iv128(FixedLength::from(*iv));
                let len = own.decrypt(&mut text, context).ok()?.len();
                text.truncate(len);
                Some(text.into())
            }
            Material::Secretbox(own) => {
                let (nonce, sealed) = sealed.split_first_chunk::<BOX_NONCE_LEN>()?;
                secretbox_open(own, nonce, sealed).map(Bytes::from)
            }
        }
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "no randomness for a nonce")?;
    Ok(bytes)
}

/// The stream of a nonce, and the key of its tag: the stream's first 32 bytes.
fn secretbox_stream(key: &[u8; BOX_KEY_LEN], nonce: &[u8; BOX_NONCE_LEN]) -> (XSalsa20, Poly1305) {
    let mut stream = XSalsa20::new(key.into(), nonce.into());
    let mut tag_key = [0; BOX_KEY_LEN];
    stream.apply_keystream(&mut tag_key);
    let tag = Poly1305::new((&tag_key).into());
    (stream, tag)
}

/// Appends tag and text.
fn secretbox_seal(key: &[u8; BOX_KEY_LEN], nonce: &[u8; BOX_NONCE_LEN], text: &[u8], out: &mut Vec<u8>) {
    let (mut stream, tag) = secretbox_stream(key, nonce);
    let mut sealed = text.to_vec();
    stream.apply_keystream(&mut sealed);
    out.extend_from_slice(&tag.compute_unpadded(&sealed));
    out.extend_from_slice(&sealed);
}

fn secretbox_open(key: &[u8; BOX_KEY_LEN], nonce: &[u8; BOX_NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
    let (given, sealed) = sealed.split_first_chunk::<BOX_TAG_LEN>()?;
    let (mut stream, tag) = secretbox_stream(key, nonce);
    let tag = tag.compute_unpadded(sealed);
    aws_lc_rs::constant_time::verify_slices_are_equal(&tag, given).ok()?;
    let mut text = sealed.to_vec();
    stream.apply_keystream(&mut text);
    Some(text)
}

fn unreached(settings: &kms::Settings) -> String {
    format!("the KMS plugin {} was not asked yet", settings.name)
}

impl Provider {
    /// As a configuration names it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Keys(way, _) => way.word(),
            Self::Planned(_) | Self::Kms(_) => "kms",
        }
    }

    pub fn seal(&self, key: &str, json: &Bytes) -> Result<Bytes, String> {
        match self {
            Self::Identity => Ok(json.clone()),
            Self::Keys(_, keys) => keys.first().ok_or("there is no encryption key")?.seal(key, json),
            Self::Planned(settings) => Err(unreached(settings)),
            Self::Kms(kms) => kms.seal(key, json),
        }
    }

    /// `None`: it is not of this provider; else the value and whether the first key sealed it.
    pub async fn open(&self, key: &str, stored: &Bytes) -> Option<Result<(Bytes, bool), Unopened>> {
        match self {
            Self::Identity if stored.starts_with(PREFIX) => {
                Some(Err(Unopened::Sealed("identity transformer tried to read encrypted data".to_owned())))
            }
            Self::Identity => Some(Ok((stored.clone(), true))),
            Self::Keys(way, keys) => stored.starts_with(way.prefix().as_bytes()).then(|| {
                let named = keys.iter().enumerate().filter_map(|(at, own)| {
                    let sealed = stored.strip_prefix(own.prefix.as_bytes())?;
                    Some((at, own, sealed))
                });
                let mut why = way.no_key();
                for (at, own, sealed) in named {
                    if let Some(text) = own.open(key, sealed) {
                        return Ok((text, at == 0));
                    }
                    why = "the key of that name does not open the value, or it was changed";
                }
                Err(Unopened::Sealed(why.to_owned()))
            }),
            Self::Planned(settings) => stored
                .starts_with(kms::prefix(&settings.name).as_bytes())
                .then(|| Err(Unopened::Plugin(unreached(settings)))),
            Self::Kms(kms) => match kms.body(stored) {
                // A call is large; whoever reads what no plugin sealed does not carry it along.
                Some(body) => Some(Box::pin(kms.open(key, body)).await),
                None => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of NaCl's own tests (`tests/secretbox.c`).
    #[test]
    fn secretbox_is_nacls() {
        let hex = |text: &str| hex::decode(text).unwrap();
        let key: [u8; 32] = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389").try_into().unwrap();
        let nonce: [u8; 24] = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").try_into().unwrap();
        let text = hex(concat!(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01",
            "233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd",
            "4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
        ));
        let sealed = hex(concat!(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c",
            "98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfea",
            "bd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
        ));
        let mut out = Vec::new();
        secretbox_seal(&key, &nonce, &text, &mut out);
        assert_eq!(out, sealed);
        assert_eq!(secretbox_open(&key, &nonce, &sealed), Some(text));
        let mut changed = sealed;
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(secretbox_open(&key, &nonce, &changed), None);
    }

    /// NIST SP 800-38A F.2.5 (CBC-AES256) with its first block, and PKCS#7's own block after it cut off.
    #[test]
    fn cbc_is_read_as_others_write_it() {
        let key = hex::decode("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").unwrap();
        let key = Key::new(Way::AesCbc, "k", &key).unwrap();
        for text in [&b"{}"[..], b"0123456789abcdef", &[b'x'; 1000]] {
            let sealed = key.seal("/registry/secrets/a/b", text).unwrap();
            let body = sealed.strip_prefix(b"k8s:enc:aescbc:v1:k:").unwrap();
            assert_eq!((body.len() - CBC_IV_LEN) % 16, 0);
            assert_eq!(
                key.open("elsewhere", body).unwrap(),
                text,
                "nothing but the text is authenticated, not even that"
            );
        }
        assert!(key.open("", &[0; 15]).is_none() && key.open("", &[0; 33]).is_none());
    }
}
