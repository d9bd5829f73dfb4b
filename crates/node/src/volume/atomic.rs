//! Writes a volume's files so that a reader sees the old set or the new set, never a mixture (upstream
//! `volume/util/atomic_writer.go`).
//!
//! The files live in a directory `..<time>.<random>`; `..data` is a symbolic link to it that is replaced by rename;
//! every visible name is a link through `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::payload::{File, Payload};

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes `dir` show exactly `payload`. `stamp` names the new generation and must not repeat; `group` gets to read
/// the files. Returns whether anything was changed. Blocking.
pub fn write(dir: &Path, payload: &Payload, stamp: &str, group: Option<u32>) -> io::Result<bool> {
    check_paths(payload)?;
    let data = dir.join(DATA);
    let current = fs::read_link(&data).ok().map(|target| dir.join(target));
    if let Some(current) = &current
        && same(current, payload, group)?
    {
        show(dir, payload)?;
        return Ok(false);
    }
    let name = format!("..{stamp}");
    let next = dir.join(&name);
    fs::create_dir(&next)?;
    fs::set_permissions(&next, Permissions::from_mode(0o755))?;
    own(&next, None, group)?;
    for (path, file) in payload {
        put(&next, path, file, group)?;
    }
    let link = dir.join(DATA_NEXT);
    let _ = fs::remove_file(&link);
    symlink(&name, &link)?;
    fs::rename(&link, &data)?;
    show(dir, payload)?;
    hide_stale(dir, payload)?;
    if let Some(old) = current {
        fs::remove_dir_all(old)?;
    }
    Ok(true)
}

fn check_paths(payload: &Payload) -> io::Result<()> {
    for path in payload.keys() {
        let bad =
            path.is_empty() || path.starts_with('/') || path.starts_with("..") || path.split('/').any(|p| p == "..");
        if bad {
            let message = format!("invalid path: must not be absolute, empty or contain \"..\": {path}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
    }
    Ok(())
}

fn own(path: &Path, uid: Option<u32>, group: Option<u32>) -> io::Result<()> {
    if uid.is_some() || group.is_some() { chown(path, uid, group) } else { Ok(()) }
}

/// The permission bits a file gets: its group may read it when the volume has one.
fn bits(file: &File, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | 0o440 } else { file.mode }
}

fn put(root: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let target = root.join(path);
    if let Some(parent) = Path::new(path).parent() {
        let mut at = root.to_owned();
        for part in parent {
            at.push(part);
            if !at.exists() {
                fs::create_dir(&at)?;
                fs::set_permissions(&at, Permissions::from_mode(0o755))?;
                own(&at, None, group)?;
            }
        }
    }
    fs::write(&target, &file.data)?;
    own(&target, file.uid, group)?;
    fs::set_permissions(&target, Permissions::from_mode(bits(file, group)))
}

/// Whether the generation at `current` is `payload` already.
fn same(current: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    if walk(current, current, &mut found).is_err() {
        return Ok(false);
    }
    if found.len() != payload.len() || payload.keys().any(|path| !found.contains(path)) {
        return Ok(false);
    }
    for (path, file) in payload {
        let target = current.join(path);
        if fs::metadata(&target)?.permissions().mode() & 0o7777 != bits(file, group) || fs::read(&target)? != file.data
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn walk(root: &Path, at: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(at)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, found)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// The visible names: the first part of each path.
fn visible(payload: &Payload) -> BTreeMap<&str, PathBuf> {
    payload
        .keys()
        .map(|path| {
            let name = path.split('/').next().unwrap_or(path);
            (name, Path::new(DATA).join(name))
        })
        .collect()
}

fn show(dir: &Path, payload: &Payload) -> io::Result<()> {
    for (name, target) in visible(payload) {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(target, link)?;
        }
    }
    Ok(())
}

fn hide_stale(dir: &Path, payload: &Payload) -> io::Result<()> {
    let keep = visible(payload);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !keep.contains_key(name.as_ref()) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { data: text.as_bytes().to_vec(), mode: 0o644, uid: None }
    }

    #[test]
    fn a_new_set_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let first = Payload::from([("a".to_owned(), file("1")), ("d/b".to_owned(), file("2"))]);
        assert!(write(at, &first, "g1", None).unwrap());
        assert!(!write(at, &first, "g2", None).unwrap());
        assert_eq!(fs::read_to_string(at.join("d/b")).unwrap(), "2");
        assert_eq!(fs::read_link(at.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read_link(at.join("..data")).unwrap(), Path::new("..g1"));
        let second = Payload::from([("c".to_owned(), file("3"))]);
        assert!(write(at, &second, "g3", None).unwrap());
        assert_eq!(fs::read_to_string(at.join("c")).unwrap(), "3");
        assert!(fs::symlink_metadata(at.join("a")).is_err() && !at.join("..g1").exists());
        let changed = Payload::from([("c".to_owned(), File { mode: 0o600, ..file("3") })]);
        assert!(write(at, &changed, "g4", None).unwrap(), "a mode is a change");
        let bad = Payload::from([("../x".to_owned(), file("1"))]);
        assert!(write(at, &bad, "g5", None).is_err());
    }
}
