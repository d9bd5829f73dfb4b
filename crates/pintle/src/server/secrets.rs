//! Where the keys of encryption at rest come from: the key file of the data dir, or an `EncryptionConfiguration`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use apiserver::Server;
use apiserver::seal::{KeyFile, Rotation, Rules};
use base::{FileWatch, TaskGroup};

use crate::layout::Layout;

/// The rules to begin with, and what changes them.
pub struct Keys {
    pub rules: Rules,
    pub rotation: Arc<dyn Rotation>,
}

/// From a configuration if one is given, else the key file, which is made at the first start. A store without its key
/// is not touched: a new key would make what is in it unreadable for good.
pub fn open(layout: &Layout, configuration: Option<&Path>) -> Result<Keys> {
    if let Some(path) = configuration {
        let file = Configuration { path: path.to_owned(), standard: layout.secrets_key() };
        let rules = file.read().map_err(|why| anyhow::anyhow!("--encryption-provider-config: {why}"))?;
        return Ok(Keys { rules, rotation: Arc::new(file) });
    }
    let path = layout.secrets_key();
    if !path.exists() {
        if layout.store().exists() {
            bail!("{} is missing, and the secrets in the store are sealed with it: put it back", path.display());
        }
        pki::file::write_atomic(&path, KeyFile::generate()?.text().as_bytes(), 0o600)?;
    }
    let file = File { path, retired: layout.retired_secrets_keys() };
    let keys = file.read().map_err(|why| anyhow::anyhow!(why))?;
    Ok(Keys { rules: keys.rules(), rotation: Arc::new(file) })
}

/// The key file.
struct File {
    path: PathBuf,
    /// Keys that nothing in the store is sealed with any more; backups may be.
    retired: PathBuf,
}

impl File {
    fn read(&self) -> Result<KeyFile, String> {
        let text = pki::file::read(&self.path).map_err(|error| error.to_string())?;
        KeyFile::parse(&text).map_err(|error| format!("the key in {}: {error}", self.path.display()))
    }

    fn write(path: &Path, text: &str) -> Result<(), String> {
        pki::file::write_atomic(path, text.as_bytes(), 0o600).map_err(|error| error.to_string())
    }
}

impl Rotation for File {
    fn begin(&self) -> Result<Rules, String> {
        let keys = self.read()?.with_new_key().map_err(|error| error.to_string())?;
        Self::write(&self.path, &keys.text())?;
        Ok(keys.rules())
    }

    fn end(&self) -> Result<(Option<Rules>, String), String> {
        let (newest, older) = self.read()?.split_newest();
        let before = if self.retired.exists() {
            pki::file::read(&self.retired).map_err(|error| error.to_string())?
        } else {
            String::new()
        };
        Self::write(&self.retired, &format!("{}{before}", older.text()))?;
        Self::write(&self.path, &newest.text())?;
        let words = format!(
            "{} in {} seals from now on; the keys before it are in {}, and are needed for older backups only",
            newest.newest(),
            self.path.display(),
            self.retired.display()
        );
        Ok((Some(newest.rules()), words))
    }
}

/// An `EncryptionConfiguration`; its keys are its owner's.
struct Configuration {
    path: PathBuf,
    /// The key file that held before there was a configuration.
    standard: PathBuf,
}

impl Configuration {
    fn read(&self) -> Result<Rules, String> {
        let path = self.path.display();
        let text = std::fs::read_to_string(&self.path).map_err(|error| {
            format!("error while parsing file: error opening encryption provider configuration file {path:?}: {error}")
        })?;
        if text.trim().is_empty() {
            return Err(format!("error while parsing file: encryption provider configuration file {path:?} is empty"));
        }
        let rules = Rules::parse(&text).map_err(|why| {
            format!("error while parsing file: error decoding encryption provider configuration file {path:?}: {why}")
        })?;
        // What was sealed before there was a configuration is still read.
        if !self.standard.exists() {
            return Ok(rules);
        }
        let before = pki::file::read(&self.standard).map_err(|error| error.to_string())?;
        let before = KeyFile::parse(&before).map_err(|error| format!("{}: {error}", self.standard.display()))?;
        Ok(rules.also_reading(before.rules()))
    }
}

impl Rotation for Configuration {
    fn begin(&self) -> Result<Rules, String> {
        self.read()
    }

    fn end(&self) -> Result<(Option<Rules>, String), String> {
        Ok((None, format!("the keys are those of {}, read anew", self.path.display())))
    }
}

/// Takes a changed configuration while serving (`--encryption-provider-config-automatic-reload`).
pub fn follow(server: &Arc<Server>, path: PathBuf, standard: PathBuf, tasks: &TaskGroup) -> Result<()> {
    let mut watch = FileWatch::new(&path).with_context(|| format!("watching {}", path.display()))?;
    let server = server.clone();
    let mut taken = std::fs::read(&path).ok();
    let file = Configuration { path, standard };
    tasks.spawn("encryption configuration", async move {
        while watch.changed().await.is_ok() {
            let now = std::fs::read(&file.path).ok();
            if now == taken || now.is_none() {
                continue;
            }
            match file.read() {
                Err(why) => tracing::error!(why, "the changed encryption configuration is not taken"),
                Ok(rules) => match server.seal_by(rules).await {
                    Ok(done) => {
                        tracing::info!(checked = done.checked, resealed = ?done.resealed, "encryption configuration taken");
                        taken = now;
                    }
                    Err(status) => {
                        tracing::error!(why = status.message(), "the changed encryption configuration is not taken");
                    }
                },
            }
        }
    });
    Ok(())
}
