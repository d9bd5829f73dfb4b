//! The key file that holds without an `EncryptionConfiguration`: Secrets are sealed with AES-GCM by its first key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::provider::{Key, Provider, Way};
use super::{Pattern, Rules};

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

/// The text of a key file: `name:base64` a line, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile(Vec<(String, String)>);

impl KeyFile {
    /// One new key.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate() -> Result<Self, Error> {
        Self(Vec::new()).with_new_key()
    }

    /// # Errors
    /// [`Error::Malformed`], [`Error::None`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let keys = lines.map(|(at, line)| {
            let (name, key) = line.trim().split_once(':').ok_or(Error::Malformed(at + 1))?;
            let bytes = STANDARD.decode(key).map_err(|_| Error::Malformed(at + 1))?;
            let good = !name.is_empty() && bytes.len() == KEY_LEN;
            good.then(|| (name.to_owned(), key.to_owned())).ok_or(Error::Malformed(at + 1))
        });
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(Error::None) } else { Ok(Self(keys)) }
    }

    /// With one more key, which is the newest.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn with_new_key(mut self) -> Result<Self, Error> {
        let mut bytes = [0; KEY_LEN];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Randomness)?;
        let number = |name: &String| name.strip_prefix("key")?.parse::<u64>().ok();
        let next = self.0.iter().filter_map(|(name, _)| number(name)).max().unwrap_or(0) + 1;
        self.0.insert(0, (format!("key{next}"), STANDARD.encode(bytes)));
        Ok(self)
    }

    /// The newest key alone, and the others.
    pub fn split_newest(mut self) -> (Self, Self) {
        let older = self.0.split_off(self.0.len().min(1));
        (self, Self(older))
    }

    /// The name of the newest key.
    pub fn newest(&self) -> &str {
        self.0.first().map_or("", |(name, _)| name)
    }

    /// As it is written.
    pub fn text(&self) -> String {
        self.0.iter().map(|(name, key)| format!("{name}:{key}\n")).collect()
    }

    /// Secrets are sealed, and read when they are not; nothing else is sealed.
    pub fn rules(&self) -> Rules {
        let keys = self.0.iter().filter_map(|(name, key)| Key::new(Way::AesGcm, name, &STANDARD.decode(key).ok()?));
        let providers = vec![Provider::Keys(Way::AesGcm, keys.collect()), Provider::Identity];
        Rules(vec![(vec![Pattern::parse("secrets")], providers)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_key_files_are_refused() {
        assert_eq!(KeyFile::parse("").err(), Some(Error::None));
        assert_eq!(KeyFile::parse("a:AAAA\n").err(), Some(Error::Malformed(1)));
        assert_eq!(KeyFile::parse("\nno colon").err(), Some(Error::Malformed(2)));
    }

    #[test]
    fn new_keys_have_names_of_their_own() {
        let file = KeyFile::generate().unwrap().with_new_key().unwrap();
        let names = |file: &KeyFile| file.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&file), ["key2", "key1"]);
        assert_eq!(KeyFile::parse(&file.text()).unwrap(), file);
        let (newest, older) = file.split_newest();
        assert_eq!((names(&newest), names(&older)), (vec!["key2".to_owned()], vec!["key1".to_owned()]));
    }
}
