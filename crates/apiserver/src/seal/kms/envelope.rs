//! The form of a value that a KMS helped to seal, and the local keys. Pure but for the operating system's randomness.
//!
//! Upstream: apiserver/pkg/storage/value/encrypt/{envelope/kmsv2,aes}.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::v2::{EncryptedDekSourceType, EncryptedObject};
use crate::seal::provider::random;

/// How long the name of a key may be, in bytes.
pub const KEY_ID_BYTES_MAX: usize = 1024;
/// How long an encrypted key or seed may be, in bytes.
const SOURCE_BYTES_MAX: usize = 1024;
/// How long names and values of annotations may be together, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 32 * 1024;
/// A seed, and the bytes that tell the keys made of it apart.
pub const SEED_LEN: usize = 32;
const INFO_LEN: usize = 32;

/// What makes the key of a value: a seed for a key of its own, or (as upstream did before v1.29) one key for all.
pub enum Source {
    Seed(Box<hmac::Key>),
    Key(LessSafeKey),
}

/// Never shows the key.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Seed(_) => "Seed",
            Self::Key(_) => "Key",
        })
    }
}

impl Source {
    /// Of what the plugin decrypted.
    ///
    /// # Errors
    /// When it has not the length of one.
    pub fn new(kind: EncryptedDekSourceType, bytes: &[u8]) -> Result<Self, String> {
        match kind {
            EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed if bytes.len() < SEED_LEN => {
                Err(format!("invalid seed length {} used for key generation", bytes.len()))
            }
            EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed => {
                Ok(Self::Seed(Box::new(hmac::Key::new(hmac::HMAC_SHA256, bytes))))
            }
            EncryptedDekSourceType::AesGcmKey => gcm(bytes).map(Self::Key),
        }
    }

    /// Appends what is stored of `text` at `key`.
    ///
    /// # Errors
    /// When it cannot be encrypted.
    pub fn seal(&self, key: &str, text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Seed(seed) => {
                let info: [u8; INFO_LEN] = random()?;
                out.extend_from_slice(&info);
                seal(&derived(seed, &info)?, key, text, out)
            }
            Self::Key(own) => seal(own, key, text, out),
        }
    }

    /// # Errors
    /// When it was changed, moved or sealed by another.
    pub fn open(&self, key: &str, sealed: &[u8]) -> Result<Bytes, String> {
        match self {
            Self::Seed(seed) => {
                let (info, sealed) = sealed
                    .split_first_chunk::<INFO_LEN>()
                    .ok_or("the stored data was shorter than the required size")?;
                open(&derived(seed, info)?, key, sealed)
            }
            Self::Key(own) => open(own, key, sealed),
        }
    }
}

fn gcm(bytes: &[u8]) -> Result<LessSafeKey, String> {
    let algorithm = match bytes.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        other => return Err(format!("invalid key size {other}")),
    };
    UnboundKey::new(algorithm, bytes).map(LessSafeKey::new).map_err(|_| "the key cannot be used".to_owned())
}

/// HKDF's second half (RFC 5869, 2.3) for one block: the seed is random already.
fn derived(seed: &hmac::Key, info: &[u8; INFO_LEN]) -> Result<LessSafeKey, String> {
    let mut context = hmac::Context::with_key(seed);
    context.update(info);
    context.update(&[1]);
    gcm(context.sign().as_ref())
}

fn seal(own: &LessSafeKey, key: &str, text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let nonce: [u8; NONCE_LEN] = random()?;
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(text);
    let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(key.as_bytes()));
    let tag = own
        .seal_in_place_separate_tag(nonce, aad, &mut out[start..])
        .map_err(|_| "the value cannot be encrypted".to_owned())?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

fn open(own: &LessSafeKey, key: &str, sealed: &[u8]) -> Result<Bytes, String> {
    let (nonce, sealed) =
        sealed.split_first_chunk::<NONCE_LEN>().ok_or("the stored data was shorter than the required size")?;
    let mut text = sealed.to_vec();
    let (nonce, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(key.as_bytes()));
    let opened = own.open_in_place(nonce, aad, &mut text);
    let len = opened.map_err(|_| "the key does not open the value, or it was changed".to_owned())?.len();
    text.truncate(len);
    Ok(text.into())
}

/// Why `key_id` is none: upstream's code for it, and in words.
pub fn check_key_id(key_id: &str) -> Result<(), (&'static str, String)> {
    match key_id.len() {
        0 => Err(("empty", "keyID is empty".to_owned())),
        len if len > KEY_ID_BYTES_MAX => {
            Err(("too_long", format!("keyID is {len} bytes, which exceeds the max size of {KEY_ID_BYTES_MAX}")))
        }
        _ => Ok(()),
    }
}

/// Whether an object may be written, or was written by one who follows the rules.
///
/// # Errors
/// Which of them it breaks, in upstream's words.
pub fn check(object: &EncryptedObject) -> Result<EncryptedDekSourceType, String> {
    let kind = check_source(object)?;
    if object.encrypted_data.is_empty() {
        return Err("encrypted data is empty".to_owned());
    }
    Ok(kind)
}

/// As [`check`] for what has no data yet.
///
/// # Errors
/// As [`check`].
pub fn check_source(object: &EncryptedObject) -> Result<EncryptedDekSourceType, String> {
    let number = object.encrypted_dek_source_type;
    let kind =
        EncryptedDekSourceType::try_from(number).map_err(|_| format!("unknown encryptedDEKSourceType: {number}"))?;
    let dek = |why: String| format!("failed to validate encrypted DEK source: {why}");
    match object.encrypted_dek_source.len() {
        0 => return Err(dek("encrypted DEK source is empty".to_owned())),
        len if len > SOURCE_BYTES_MAX => {
            let why = format!("encrypted DEK source is {len} bytes, which exceeds the max size of {SOURCE_BYTES_MAX}");
            return Err(dek(why));
        }
        _ => {}
    }
    check_key_id(&object.key_id).map_err(|(_, why)| format!("failed to validate key id: {why}"))?;
    check_annotations(&object.annotations).map_err(|why| format!("failed to validate annotations: {why}"))?;
    Ok(kind)
}

fn check_annotations(annotations: &BTreeMap<String, Bytes>) -> Result<(), String> {
    let mut errors = api::FieldErrors::new();
    let path = api::Path::new("annotations");
    for name in annotations.keys() {
        let domain = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let problems = api::name::dns1123_subdomain(domain, false);
        if problems.is_empty() && domain.split('.').count() < 2 {
            errors.invalid(&path, name.as_str(), "should be a domain with at least two segments separated by dots");
        }
        for why in problems {
            errors.invalid(&path, name.as_str(), why);
        }
    }
    if !errors.is_empty() {
        return Err(errors.to_string());
    }
    let total: usize = annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > ANNOTATIONS_BYTES_MAX {
        return Err(format!(
            "total size of annotations is {total}, which exceeds the max size of {ANNOTATIONS_BYTES_MAX}"
        ));
    }
    Ok(())
}

/// What tells sources apart: all that is given to the plugin to decrypt one, each part with its length.
pub fn source_id(object: &EncryptedObject) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(object.encrypted_dek_source_type.to_be_bytes());
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(&object.encrypted_dek_source);
    part(object.key_id.as_bytes());
    for (name, value) in &object.annotations {
        part(name.as_bytes());
        part(value);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: EncryptedDekSourceType = EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed;

    fn object() -> EncryptedObject {
        EncryptedObject {
            encrypted_data: Bytes::from_static(b"x"),
            key_id: "1".to_owned(),
            encrypted_dek_source: Bytes::from_static(b"dek"),
            annotations: BTreeMap::new(),
            encrypted_dek_source_type: SEED.into(),
        }
    }

    /// RFC 5869, A.1: the block of OKM's first 32 bytes depends on a shorter info there, so the expansion is checked
    /// against HKDF of another make.
    #[test]
    fn keys_are_derived_by_hkdf() {
        struct Len;
        impl aws_lc_rs::hkdf::KeyType for Len {
            fn len(&self) -> usize {
                32
            }
        }
        let (seed, info) = ([7; SEED_LEN], [9; INFO_LEN]);
        let mut wanted = [0; 32];
        let prk = aws_lc_rs::hkdf::Prk::new_less_safe(aws_lc_rs::hkdf::HKDF_SHA256, &seed);
        prk.expand(&[&info], Len).unwrap().fill(&mut wanted).unwrap();
        let mut sealed = info.to_vec();
        seal(&gcm(&wanted).unwrap(), "/registry/a", b"text", &mut sealed).unwrap();
        let source = Source::new(SEED, &seed).unwrap();
        assert_eq!(source.open("/registry/a", &sealed).unwrap(), &b"text"[..]);
    }

    #[test]
    fn sources_open_what_they_sealed_at_its_place() {
        let sources = [(SEED, 32), (SEED, 48), (EncryptedDekSourceType::AesGcmKey, 16)];
        for (kind, len) in sources {
            let own = Source::new(kind, &vec![3; len]).unwrap();
            let mut sealed = Vec::new();
            own.seal("/registry/a", b"text", &mut sealed).unwrap();
            assert_eq!(own.open("/registry/a", &sealed).unwrap(), &b"text"[..]);
            assert!(own.open("/registry/b", &sealed).is_err(), "moved");
            assert!(Source::new(kind, &vec![4; len]).unwrap().open("/registry/a", &sealed).is_err(), "another key");
            *sealed.last_mut().unwrap() ^= 1;
            assert!(own.open("/registry/a", &sealed).is_err(), "changed");
            assert!(own.open("/registry/a", &sealed[..8]).is_err(), "cut off");
            let mut again = Vec::new();
            own.seal("/registry/a", b"text", &mut again).unwrap();
            assert_ne!(sealed, again);
        }
        assert_eq!(Source::new(SEED, &[0; 31]).unwrap_err(), "invalid seed length 31 used for key generation");
        assert_eq!(Source::new(EncryptedDekSourceType::AesGcmKey, &[0; 31]).unwrap_err(), "invalid key size 31");
    }

    #[test]
    fn limits_are_upstreams() {
        assert_eq!(check(&object()), Ok(SEED));
        let say = |change: &dyn Fn(&mut EncryptedObject)| {
            let mut object = object();
            change(&mut object);
            check(&object).unwrap_err()
        };
        assert_eq!(say(&|one| one.encrypted_dek_source_type = 7), "unknown encryptedDEKSourceType: 7");
        assert_eq!(say(&|one| one.encrypted_data.clear()), "encrypted data is empty");
        assert_eq!(
            say(&|one| one.encrypted_dek_source.clear()),
            "failed to validate encrypted DEK source: encrypted DEK source is empty"
        );
        assert_eq!(
            say(&|one| one.encrypted_dek_source = vec![0; 1025].into()),
            "failed to validate encrypted DEK source: encrypted DEK source is 1025 bytes, which exceeds the max size \
             of 1024"
        );
        assert_eq!(say(&|one| one.key_id.clear()), "failed to validate key id: keyID is empty");
        assert_eq!(
            say(&|one| one.key_id = "k".repeat(1025)),
            "failed to validate key id: keyID is 1025 bytes, which exceeds the max size of 1024"
        );
        let annotated = |name: &str, len: usize| {
            let (name, value) = (name.to_owned(), Bytes::from(vec![0; len]));
            say(&move |one| drop(one.annotations.insert(name.clone(), value.clone())))
        };
        assert!(annotated("single", 1).ends_with("should be a domain with at least two segments separated by dots"));
        assert!(annotated("Bad.example.com", 1).contains("a lowercase RFC 1123 subdomain must consist of"));
        assert_eq!(
            annotated("a.b", 32 * 1024),
            "failed to validate annotations: total size of annotations is 32771, which exceeds the max size of 32768"
        );
    }

    #[test]
    fn sources_are_told_apart_by_all_that_is_decrypted() {
        let one = source_id(&object());
        let other = |change: &dyn Fn(&mut EncryptedObject)| {
            let mut object = object();
            change(&mut object);
            source_id(&object)
        };
        assert_eq!(one, other(&|object| object.encrypted_data = Bytes::from_static(b"y")));
        assert_ne!(one, other(&|object| object.key_id = "2".to_owned()));
        assert_ne!(one, other(&|object| object.encrypted_dek_source_type = 0));
        assert_ne!(one, other(&|object| object.encrypted_dek_source = Bytes::from_static(b"dek1")));
        assert_ne!(one, other(&|object| drop(object.annotations.insert("a.b".to_owned(), Bytes::new()))));
    }
}
