//! hostPath volumes: is the path of the type that was asked for? (upstream `volume/hostpath`)

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Checks a path, or makes it where the type says so. The error is upstream's text. Blocking.
pub fn check(path: &Path, type_: &str) -> Result<(), String> {
    let failed = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    let found = fs::metadata(path).ok();
    match (type_, found) {
        ("DirectoryOrCreate", None) => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| format!("mkdir {}: {error}", path.display())),
        ("FileOrCreate", None) => fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)
            .map(drop)
            .map_err(|error| format!("open {}: {error}", path.display())),
        ("Directory" | "DirectoryOrCreate", Some(m)) if m.is_dir() => Ok(()),
        ("Directory" | "DirectoryOrCreate", _) => failed("a directory"),
        ("File" | "FileOrCreate", Some(m)) if m.is_file() => Ok(()),
        ("File" | "FileOrCreate", _) => failed("a file"),
        ("Socket", Some(m)) if m.file_type().is_socket() => Ok(()),
        ("Socket", _) => failed("a socket file"),
        ("CharDevice", Some(m)) if m.file_type().is_char_device() => Ok(()),
        ("CharDevice", _) => failed("a character device"),
        ("BlockDevice", Some(m)) if m.file_type().is_block_device() => Ok(()),
        ("BlockDevice", _) => failed("a block device"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(check(&at("none"), "").is_ok());
        let error = check(&at("none"), "Directory").unwrap_err();
        assert_eq!(error, format!("hostPath type check failed: {} is not a directory", at("none").display()));
        check(&at("d/e"), "DirectoryOrCreate").unwrap();
        check(&at("f"), "FileOrCreate").unwrap();
        assert!(check(&at("f"), "Socket").is_err());
        assert!(check(Path::new("/dev/null"), "CharDevice").is_ok());
    }
}
