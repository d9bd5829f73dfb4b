//! One CA over the years: the one that signs, the one that will sign next, and the one that signed before and is
//! trusted until its last certificate has ended. All of them bear the same name.
//!
//! A CA is replaced in three steps, each of which harms nobody who has seen the one before: the next one is made and
//! trusted (`introduce`); it signs (`switch`); the old one is trusted no more (`retire`). Each step is on the disk
//! before it takes effect, and what a crash left half done is finished when the files are read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::ca::{Ca, Issuer};
use crate::certificate::Certificate;
use crate::error::{Error, Result};
use crate::file;
use crate::key::PrivateKey;
use crate::tls::Trust;

/// Stands before the time until which an old CA is trusted, in its file.
const UNTIL: &str = "# Signs no more. Trusted until: ";

/// How far the replacement of a CA has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There is one CA.
    Settled,
    /// The next CA is trusted, and signs nothing yet.
    Introduced,
    /// The next CA has become the one that signs; the old one is trusted until that time.
    Switched {
        /// When the last certificate that the old one signed has ended.
        until: Timestamp,
    },
}

/// A CA with its successor or predecessor.
#[derive(Debug)]
pub struct Lineage {
    directory: PathBuf,
    /// The name of its files: `<name>.crt`, `<name>-next.crt`, `<name>-old.crt`.
    name: &'static str,
    issuer: Arc<Issuer>,
    trust: Trust,
    others: Mutex<Others>,
}

#[derive(Debug, Default)]
struct Others {
    next: Option<Ca>,
    old: Option<Old>,
}

#[derive(Debug)]
struct Old {
    cert_pem: String,
    certificate: Certificate,
    until: Timestamp,
}

impl Lineage {
    /// Reads the files, and makes the CA when there is none. One that exists is never replaced by another: when its
    /// certificate nears its end it is signed again with the same key.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Malformed`] or [`Error::Refused`] when a file is there but cannot be used.
    pub fn open(
        directory: &Path,
        name: &'static str,
        common_name: &str,
        now: Timestamp,
        valid: Duration,
    ) -> Result<Self> {
        let path = |suffix: &str, extension: &str| directory.join(format!("{name}{suffix}.{extension}"));
        finish_switch(&path)?;
        let ca = open_ca(&path("", "crt"), &path("", "key"), common_name, now, valid)?;
        let next = match (path("-next", "crt").exists(), path("-next", "key").exists()) {
            (true, _) => Some(Ca::load(&path("-next", "crt"), &path("-next", "key"))?),
            // Its making was cut short: nobody has seen it.
            (false, _) => None,
        };
        let old = match file::read(&path("-old", "crt")) {
            // A switch that was cut short: the CA that still signs is not old yet.
            Ok(_) if next.is_some() => None,
            Ok(text) => Some(Old::parse(&text)?),
            Err(e) if e.is_missing_file() => None,
            Err(e) => return Err(e),
        };
        let others = Others { next, old };
        let trust = Trust::new(&bundle(&ca, &others))?;
        let issuer = Issuer::new(ca);
        Ok(Self { directory: directory.to_owned(), name, issuer, trust, others: Mutex::new(others) })
    }

    fn path(&self, suffix: &str, extension: &str) -> PathBuf {
        self.directory.join(format!("{}{suffix}.{extension}", self.name))
    }

    /// The CA that signs.
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// All CAs of the lineage that are trusted.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// How far the replacement of the CA has come.
    pub fn stage(&self) -> Stage {
        let others = self.others.lock();
        match (&others.next, &others.old) {
            (Some(_), _) => Stage::Introduced,
            (None, Some(old)) => Stage::Switched { until: old.until },
            (None, None) => Stage::Settled,
        }
    }

    /// The certificates of all CAs that are trusted, by the name of their files.
    pub fn certificates(&self) -> Vec<(String, Certificate)> {
        let others = self.others.lock();
        let next = others.next.as_ref().map(|ca| ("-next", ca.certificate().clone()));
        let old = others.old.as_ref().map(|old| ("-old", old.certificate.clone()));
        let all = std::iter::once(("", self.issuer.ca().certificate().clone())).chain(next).chain(old);
        all.map(|(suffix, certificate)| (format!("{}{suffix}.crt", self.name), certificate)).collect()
    }

    /// Makes the next CA and trusts it beside the one that signs.
    ///
    /// # Errors
    /// [`Error::Refused`] when a replacement is under way; [`Error::File`], [`Error::Crypto`].
    pub fn introduce(&self, now: Timestamp, valid: Duration) -> Result<()> {
        let mut others = self.others.lock();
        if others.next.is_some() || others.old.is_some() {
            return Err(Error::Refused(format!("the CA {} is being replaced already", self.name)));
        }
        let next = self.issuer.ca().successor(now, valid)?;
        next.save(&self.path("-next", "crt"), &self.path("-next", "key"))?;
        others.next = Some(next);
        self.trust.replace(&bundle(&self.issuer.ca(), &others))
    }

    /// The next CA signs from now on; the one before is trusted until `until` and its key is gone.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no next CA; [`Error::File`].
    pub fn switch(&self, until: Timestamp) -> Result<()> {
        let mut others = self.others.lock();
        let Some(next) = others.next.clone() else {
            return Err(Error::Refused(format!("the CA {} has no successor yet", self.name)));
        };
        let before = self.issuer.ca();
        let certificate = before.certificate().clone();
        let until = until.min(certificate.not_after);
        let old = Old { cert_pem: before.cert_pem().to_owned(), certificate, until };
        file::write_atomic(&self.path("-old", "crt"), old.text().as_bytes(), file::PUBLIC)?;
        file::rename(&self.path("-next", "key"), &self.path("", "key"))?;
        file::rename(&self.path("-next", "crt"), &self.path("", "crt"))?;
        *others = Others { next: None, old: Some(old) };
        self.issuer.replace(next);
        self.trust.replace(&bundle(&self.issuer.ca(), &others))
    }

    /// The old CA is trusted no more.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no old CA; [`Error::File`].
    pub fn retire(&self) -> Result<()> {
        let mut others = self.others.lock();
        if others.old.is_none() {
            return Err(Error::Refused(format!("there is no old CA {}", self.name)));
        }
        file::remove(&self.path("-old", "crt"))?;
        others.old = None;
        self.trust.replace(&bundle(&self.issuer.ca(), &others))
    }

    /// Does what is due at `now`: signs the CA's certificate again (with its key) when it nears its end, and retires
    /// an old CA whose last certificate has ended. Whether something changed.
    ///
    /// # Errors
    /// As [`Lineage::retire`].
    pub fn keep(&self, now: Timestamp, valid: Duration) -> Result<bool> {
        let mut changed = false;
        if let Stage::Switched { until } = self.stage()
            && now >= until
        {
            self.retire()?;
            changed = true;
        }
        let ca = self.issuer.ca();
        if is_own(&ca) && ca.certificate().renewal_due(now) {
            let renewed = ca.renewed(now, valid)?;
            renewed.save(&self.path("", "crt"), &self.path("", "key"))?;
            let others = self.others.lock();
            self.issuer.replace(renewed);
            self.trust.replace(&bundle(&self.issuer.ca(), &others))?;
            changed = true;
        }
        Ok(changed)
    }

    /// When [`Lineage::keep`] has something to do next.
    pub fn next_time(&self) -> Timestamp {
        let ca = self.issuer.ca();
        let renewal = if is_own(&ca) { ca.certificate().renewal_time() } else { ca.certificate().not_after };
        match self.stage() {
            Stage::Switched { until } => renewal.min(until),
            Stage::Settled | Stage::Introduced => renewal,
        }
    }
}

/// Whether a CA is one of its own, and not signed by another: those are renewed by whoever made them.
fn is_own(ca: &Ca) -> bool {
    ca.certificate().names_as_issuer(ca.certificate())
}

/// Every CA that is trusted, the one that signs first.
fn bundle(ca: &Ca, others: &Others) -> String {
    let next = others.next.as_ref().map(Ca::cert_pem);
    let old = others.old.as_ref().map(|old| old.cert_pem.as_str());
    std::iter::once(ca.cert_pem()).chain(next).chain(old).collect()
}

impl Old {
    fn text(&self) -> String {
        format!("{UNTIL}{}\n{}", self.until, self.cert_pem)
    }

    fn parse(text: &str) -> Result<Self> {
        let certificate = Certificate::from_pem(text)?;
        let (head, cert_pem) = text.split_once('\n').unwrap_or(("", text));
        let until = head.strip_prefix(UNTIL).and_then(|until| until.trim().parse().ok());
        match until {
            Some(until) => Ok(Self { cert_pem: cert_pem.to_owned(), until, certificate }),
            // Somebody put it there by hand.
            None => Ok(Self { cert_pem: text.to_owned(), until: certificate.not_after, certificate }),
        }
    }
}

/// A crash between the two renames of [`Lineage::switch`]: the key is in its place and the certificate is not.
fn finish_switch(path: &impl Fn(&str, &str) -> PathBuf) -> Result<()> {
    if path("-next", "crt").exists() && !path("-next", "key").exists() {
        file::rename(&path("-next", "crt"), &path("", "crt"))?;
    }
    Ok(())
}

/// Loads a CA, makes it when neither file exists, and signs its certificate again when it is missing or nears its end.
fn open_ca(cert_path: &Path, key_path: &Path, common_name: &str, now: Timestamp, valid: Duration) -> Result<Ca> {
    let ca = match (cert_path.exists(), key_path.exists()) {
        (true, true) => {
            let ca = Ca::load(cert_path, key_path)?;
            if !is_own(&ca) || !ca.certificate().renewal_due(now) {
                return Ok(ca);
            }
            ca.renewed(now, valid)?
        }
        (false, true) => {
            let key = PrivateKey::from_pem(&Zeroizing::new(file::read(key_path)?))?;
            Ca::self_sign(key, common_name, now, valid)?
        }
        (false, false) => Ca::generate(common_name, now, valid)?,
        (true, false) => {
            return Err(Error::Refused(format!(
                "{} has no key beside it ({})",
                cert_path.display(),
                key_path.file_name().unwrap_or_default().to_string_lossy()
            )));
        }
    };
    ca.save(cert_path, key_path)?;
    Ok(ca)
}
