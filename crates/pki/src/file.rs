//! Files that hold secrets: written whole or not at all, readable by their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::key::random_bytes;

/// The mode of files that hold a secret.
pub const SECRET: u32 = 0o600;
/// The mode of files that everyone may read, such as certificates.
pub const PUBLIC: u32 = 0o644;

/// Replaces `path` by `contents`. A reader sees the old file or the new one, also after a crash at any moment: the
/// bytes and the name are durable when this returns.
///
/// # Errors
/// [`Error::File`] when the directory is missing or not writable, or the disk is full.
pub fn write_atomic(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let directory = directory_of(path);
    let name = path.file_name().ok_or_else(|| Error::file("write", path, io::ErrorKind::InvalidInput.into()))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", hex::encode(random_bytes::<6>()?)));
    let temporary = directory.join(temporary);
    let written = write_new(&temporary, contents, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        let _ = fs::remove_file(&temporary);
        return Err(Error::file("write", path, source));
    }
    sync_directory(path)
}

fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Moves a file within its directory; durable when this returns.
///
/// # Errors
/// [`Error::File`].
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::file("move", from, e))?;
    sync_directory(to)
}

/// Removes a file; durable when this returns.
///
/// # Errors
/// [`Error::File`].
pub fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|e| Error::file("remove", path, e))?;
    sync_directory(path)
}

/// Makes the names in a file's directory durable.
fn sync_directory(path: &Path) -> Result<()> {
    let directory = directory_of(path);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|e| Error::file("sync", directory, e))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a directory (and its parents) that only its owner may enter; an existing one is left as it is.
///
/// # Errors
/// [`Error::File`].
pub fn create_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| Error::file("create", path, e))
}

/// Reads a text file.
///
/// # Errors
/// [`Error::File`]; [`Error::is_missing_file`] tells when there is none.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::file("read", path, e))
}

/// Reads the secret of `len` random bytes in `path`, and makes it (hex, mode 0600) when there is none. For keys that
/// must outlive the process, such as the one that encrypts secrets at rest.
///
/// # Errors
/// [`Error::File`]; [`Error::Malformed`] when the file is not `2 * len` hex digits.
pub fn secret<const LEN: usize>(path: &Path) -> Result<Zeroizing<[u8; LEN]>> {
    match read(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            let mut bytes = Zeroizing::new([0; LEN]);
            hex::decode_to_slice(text.trim(), &mut *bytes)
                .map_err(|e| Error::malformed("secret", format!("{}: {e}", path.display())))?;
            Ok(bytes)
        }
        Err(e) if e.is_missing_file() => {
            let bytes = Zeroizing::new(random_bytes::<LEN>()?);
            write_atomic(path, Zeroizing::new(hex::encode(bytes.as_slice())).as_bytes(), SECRET)?;
            Ok(bytes)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "old").unwrap();
        write_atomic(&path, b"new", SECRET).unwrap();
        assert_eq!(read(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(read(&dir.path().join("absent")).unwrap_err().is_missing_file());
        assert!(write_atomic(&dir.path().join("absent/key"), b"", SECRET).unwrap_err().is_missing_file());
    }

    #[test]
    fn a_secret_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("encryption.key");
        let made = secret::<32>(&path).unwrap();
        assert_eq!(*secret::<32>(&path).unwrap(), *made);
        assert_ne!(*made, [0; 32]);
        assert!(matches!(secret::<16>(&path), Err(Error::Malformed { .. })));
    }
}
