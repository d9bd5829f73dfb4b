//! Image names: how a short name reads in full. Pure.
//!
//! Reference: github.com/distribution/reference, and what `docker pull` and CRI runtimes make of a name.

/// The registry of names without one.
const DEFAULT_DOMAIN: &str = "docker.io";

/// The full form of an image name: registry, repository, and tag or digest. `busybox` is
/// `docker.io/library/busybox:latest`. What already names an image by its id (`sha256:...`) stays as it is.
pub fn normalize(name: &str) -> String {
    if name.starts_with("sha256:") || (name.len() == 64 && name.bytes().all(|c| c.is_ascii_hexdigit())) {
        return name.to_owned();
    }
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
        Some(_) => (DEFAULT_DOMAIN, name.to_owned()),
        None => (DEFAULT_DOMAIN, format!("library/{name}")),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    match digest {
        Some(digest) => format!("{domain}/{path}@{digest}"),
        None if path.rsplit('/').next().is_some_and(|last| last.contains(':')) => format!("{domain}/{path}"),
        None => format!("{domain}/{path}:latest"),
    }
}

/// The repository of a full name: without tag and digest.
pub fn repository(full: &str) -> &str {
    let name = full.split('@').next().unwrap_or(full);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_read_in_full() {
        for (name, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost/me/app:1", "localhost/me/app:1"),
            ("reg:5000/app", "reg:5000/app:latest"),
            ("reg.local/a/b@sha256:00", "reg.local/a/b@sha256:00"),
            ("app:1@sha256:00", "docker.io/library/app:1@sha256:00"),
            ("sha256:00", "sha256:00"),
        ] {
            assert_eq!(normalize(name), full);
        }
    }

    #[test]
    fn repositories() {
        assert_eq!(repository("reg:5000/app:1"), "reg:5000/app");
        assert_eq!(repository("reg:5000/app@sha256:00"), "reg:5000/app");
        assert_eq!(repository("reg:5000/app"), "reg:5000/app");
    }
}
