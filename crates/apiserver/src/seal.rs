//! Encryption at rest: AES-256-GCM with the object's key as associated data, in the form of upstream's `aesgcm`
//! provider (`k8s:enc:aesgcm:v1:<key name>:` + nonce + ciphertext), so that an `EncryptionConfiguration` with the same
//! keys reads what is written here and the other way round.
//!
//! The first key seals, all of them open. What was never sealed is read as it is, and sealed when it is next written.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::Transform;

/// What every sealed value begins with.
const PREFIX: &[u8] = b"k8s:enc:";
const KIND: &str = "k8s:enc:aesgcm:v1:";
const KEY_LEN: usize = 32;

/// Why the keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A line of the key file is no `name:base64`, or the key has not 32 bytes.
    #[error("line {0} of the encryption keys is not a name, a colon and 32 bytes in base64")]
    Malformed(usize),
    /// There is no key at all.
    #[error("there is no encryption key")]
    None,
    /// The operating system gave no randomness.
    #[error("no randomness for a new encryption key")]
    Randomness,
}

struct Key {
    name: String,
    key: LessSafeKey,
}

/// Seals with the first of its keys.
pub struct AesGcm(Vec<Key>);

impl AesGcm {
    /// The text of a key file with one new key.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate(name: &str) -> Result<String, Error> {
        let mut key = [0; KEY_LEN];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::Randomness)?;
        Ok(format!("{name}:{}\n", STANDARD.encode(key)))
    }

    /// From the text of a key file: `name:base64` a line, the newest first.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::None`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let keys = lines.map(|(index, line)| parse(line).ok_or(Error::Malformed(index + 1)));
        let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(Error::None) } else { Ok(Self(keys)) }
    }
}

fn parse(line: &str) -> Option<Key> {
    let (name, text) = line.trim().split_once(':')?;
    let bytes = STANDARD.decode(text).ok()?;
    if name.is_empty() || bytes.len() != KEY_LEN {
        return None;
    }
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?);
    Some(Key { name: name.to_owned(), key })
}

impl Transform for AesGcm {
    fn seal(&self, key: &str, json: &[u8]) -> Result<Vec<u8>, String> {
        let own = self.0.first().ok_or("there is no encryption key")?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| "no randomness for a nonce")?;
        let mut sealed = json.to_vec();
        let aad = Aad::from(key.as_bytes());
        own.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .map_err(|_| "the value cannot be encrypted")?;
        let mut out = Vec::with_capacity(KIND.len() + own.name.len() + 1 + NONCE_LEN + sealed.len());
        out.extend_from_slice(KIND.as_bytes());
        out.extend_from_slice(own.name.as_bytes());
        out.push(b':');
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    fn open(&self, key: &str, stored: &Bytes) -> Result<Bytes, String> {
        if !stored.starts_with(PREFIX) {
            return Ok(stored.clone());
        }
        let rest = stored.strip_prefix(KIND.as_bytes()).ok_or("the value was sealed in another way")?;
        for own in &self.0 {
            let Some(body) = rest.strip_prefix(own.name.as_bytes()).and_then(|rest| rest.strip_prefix(b":")) else {
                continue;
            };
            let Some((nonce, sealed)) = body.split_first_chunk::<NONCE_LEN>() else { continue };
            let mut opened = sealed.to_vec();
            let aad = Aad::from(key.as_bytes());
            if let Ok(json) = own.key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut opened) {
                let len = json.len();
                opened.truncate(len);
                return Ok(opened.into());
            }
        }
        Err("no key opens the value, or it was changed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_its_key_at_its_place_only() {
        let old = AesGcm::generate("old").unwrap();
        let new = AesGcm::generate("new").unwrap();
        let (first, both) = (AesGcm::parse(&old).unwrap(), AesGcm::parse(&format!("{new}{old}")).unwrap());
        let sealed = Bytes::from(first.seal("/registry/secrets/a/b", b"{\"x\":1}").unwrap());
        assert!(sealed.starts_with(b"k8s:enc:aesgcm:v1:old:") && !sealed.ends_with(b"}"));
        assert_eq!(both.open("/registry/secrets/a/b", &sealed).unwrap(), &b"{\"x\":1}"[..]);
        assert!(both.open("/registry/secrets/a/c", &sealed).is_err(), "moved to another object");
        let mut changed = sealed.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        assert!(both.open("/registry/secrets/a/b", &changed.into()).is_err());
        let newer = Bytes::from(both.seal("k", b"{}").unwrap());
        assert!(newer.starts_with(b"k8s:enc:aesgcm:v1:new:") && first.open("k", &newer).is_err());
        let plain = Bytes::from_static(b"{\"kind\":\"Secret\"}");
        assert_eq!(both.open("k", &plain).unwrap(), plain);
    }

    #[test]
    fn bad_key_files_are_refused() {
        assert_eq!(AesGcm::parse("").err(), Some(Error::None));
        assert_eq!(AesGcm::parse("a:AAAA\n").err(), Some(Error::Malformed(1)));
        assert_eq!(AesGcm::parse("\nno colon").err(), Some(Error::Malformed(2)));
    }
}
