//! Where a certificate is kept: `<name>-<time>.pem` holds it and its key, `<name>-current.pem` points to the newest.
//! A key that has no certificate yet is beside them, so that a request is taken up again after a restart.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use base::Timestamp;
use pki::{Error, Identity, PrivateKey, Result, file};
use zeroize::Zeroizing;

/// The files of one certificate.
#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
    name: &'static str,
}

impl Files {
    /// `name` is `kubelet-client` or `kubelet-server`.
    pub fn new(directory: &Path, name: &'static str) -> Self {
        Self { directory: directory.to_owned(), name }
    }

    /// What to show as where the certificate is.
    pub fn current(&self) -> PathBuf {
        self.directory.join(format!("{}-current.pem", self.name))
    }

    /// The certificate there is, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(&self) -> Result<Option<Identity>> {
        let text = match file::read(&self.current()) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.is_missing_file() => return Ok(None),
            Err(error) => return Err(error),
        };
        Identity::from_pem(&pki::certificate_chain(&text)?, &text).map(Some)
    }

    /// Makes `identity` the current one: whole or not at all. The one before it stays, older ones go.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, identity: &Identity, now: Timestamp) -> Result<()> {
        file::create_directory(&self.directory)?;
        let before = fs::read_link(self.current()).ok();
        let stamp = now.strftime("%Y-%m-%d-%H-%M-%S");
        let mut dated = format!("{}-{stamp}.pem", self.name);
        if before.as_deref() == Some(Path::new(&dated)) {
            dated = format!("{}-{stamp}-{}.pem", self.name, identity.certificate().serial);
        }
        let both = Zeroizing::new(format!("{}{}", identity.cert_pem(), identity.key_pem()));
        file::write_atomic(&self.directory.join(&dated), both.as_bytes(), file::SECRET)?;
        let next = self.directory.join(format!("{}-next.pem", self.name));
        let failed = |source| Error::File { action: "write", path: next.clone(), source };
        match fs::remove_file(&next) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        symlink(&dated, &next).map_err(failed)?;
        file::rename(&next, &self.current())?;
        self.clear(&[Some(Path::new(&dated)), before.as_deref()]);
        self.forget_key()
    }

    /// Removes dated files but these. What cannot be removed does no harm.
    fn clear(&self, kept: &[Option<&Path>]) {
        let prefix = format!("{}-2", self.name);
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let dated = name.to_string_lossy().starts_with(&prefix) && name.to_string_lossy().ends_with(".pem");
            if dated && !kept.contains(&Some(Path::new(&name))) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn key(&self) -> PathBuf {
        self.directory.join(format!("{}.key.tmp", self.name))
    }

    /// The key of the request under way, or a new one for the next.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Crypto`].
    pub fn pending_key(&self) -> Result<PrivateKey> {
        let path = self.key();
        if let Ok(text) = file::read(&path)
            && let Ok(key) = PrivateKey::from_pem(&Zeroizing::new(text))
        {
            return Ok(key);
        }
        let key = PrivateKey::generate()?;
        file::create_directory(&self.directory)?;
        file::write_atomic(&path, key.to_pem().as_bytes(), file::SECRET)?;
        Ok(key)
    }

    /// The request under way came to its end: the next one has another key.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn forget_key(&self) -> Result<()> {
        match file::remove(&self.key()) {
            Err(error) if !error.is_missing_file() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    #[test]
    fn certificates_are_kept_as_upstream_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("pki");
        let files = Files::new(&directory, "kubelet-client");
        assert!(files.load().unwrap().is_none());
        let key = files.pending_key().unwrap();
        assert_eq!(files.pending_key().unwrap().public_key(), key.public_key(), "a restart takes up the same key");
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ca = pki::Ca::generate("ca", now, Duration::from_secs(86_400)).unwrap();
        let mut last = String::new();
        for second in [0, 0, 1, 2] {
            now = now.checked_add(Duration::from_secs(second)).unwrap();
            let request = pki::Request::client("system:node:a", &["system:nodes"], Duration::from_secs(3600));
            let identity = ca.issue(&request, now).unwrap();
            files.save(&identity, now).unwrap();
            let loaded = files.load().unwrap().unwrap();
            assert_eq!(loaded.certificate(), identity.certificate());
            assert!(!loaded.cert_pem().contains("PRIVATE"));
            assert_ne!(loaded.certificate().serial, last);
            last.clone_from(&loaded.certificate().serial);
        }
        assert_ne!(files.pending_key().unwrap().public_key(), key.public_key());
        files.forget_key().unwrap();
        files.forget_key().unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let wanted = ["2026-01-01-00-00-01.pem", "2026-01-01-00-00-03.pem", "current.pem"];
        assert_eq!(names, wanted.map(|name| format!("kubelet-client-{name}")));
        for name in names {
            assert_eq!(fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
