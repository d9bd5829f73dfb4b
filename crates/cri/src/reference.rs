//! Image names: how a short name reads in full. Pure.
//!
//! Reference: github.com/distribution/reference, and what `docker pull` and CRI runtimes make of a name.

/// The registry of names without one.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The longest name, registry included, without tag and digest.
const NAME_LEN_MAX: usize = 255;

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
        Some((first, rest)) if is_domain(first) => (first, rest.to_owned()),
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

/// Whether the first part of a name is a registry's: no part of a repository has a dot, a colon or a capital.
fn is_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.contains(char::is_uppercase)
}

/// Checks that a name, as a pod has it, can be an image's at all.
///
/// # Errors
/// Why not, in the words that Kubernetes' users know.
pub fn check(name: &str) -> Result<(), String> {
    const INVALID: &str = "invalid reference format";
    if name.len() == 64 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(format!("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings"));
    }
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    let (domain, rest) = match rest.split_once('/') {
        Some((first, rest)) if is_domain(first) => (Some(first), rest.to_owned()),
        Some(_) => (None, rest.to_owned()),
        None => (None, format!("library/{rest}")),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (&*rest, None),
    };
    if path.contains(char::is_uppercase) {
        return Err(format!("{INVALID}: repository name ({path}) must be lowercase"));
    }
    let fits = domain.is_none_or(fits_domain)
        && path.split('/').all(fits_component)
        && tag.is_none_or(fits_tag)
        && digest.is_none_or(fits_digest);
    if !fits {
        return Err(INVALID.to_owned());
    }
    if domain.unwrap_or(DEFAULT_DOMAIN).len() + 1 + path.len() > NAME_LEN_MAX {
        return Err(format!("repository name must not be more than {NAME_LEN_MAX} characters"));
    }
    Ok(())
}

fn fits_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let name = |part: &str| {
        let edges = !part.starts_with('-') && !part.ends_with('-');
        !part.is_empty() && edges && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let address = |text: &str| text.bytes().all(|c| c.is_ascii_hexdigit() || c == b':') && text.contains(':');
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => address(inner),
        None => host.split('.').all(name),
    };
    host_fits && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()))
}

/// Runs of small letters and digits, between them one `.`, one or two `_`, or any number of `-`.
fn fits_component(component: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let edges = component.starts_with(letter) && component.ends_with(letter);
    let mut between = component.split(letter).filter(|between| !between.is_empty());
    edges && between.all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|c| c == b'-'))
}

fn fits_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn fits_digest(digest: &str) -> bool {
    let Some((algorithm, hash)) = digest.split_once(':') else { return false };
    let mut parts = algorithm.split(['-', '_', '+', '.']);
    let named = parts.all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|c| c.is_ascii_alphanumeric())
    });
    named && hash.len() >= 32 && hash.bytes().all(|c| c.is_ascii_hexdigit())
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
            ("REG/app", "REG/app:latest"),
        ] {
            assert_eq!(normalize(name), full);
        }
    }

    #[test]
    fn names_are_checked() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for name in [
            "busybox",
            "a/b__c/d.e-f--g:V1.x_2",
            "reg.example:5000/app",
            "localhost/me/app:1",
            "REG/app",
            "[fd00::1]:80/a",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
            assert_eq!(check(&format!("{name}@{digest}")), Ok(()), "{name}");
        }
        let long = "a".repeat(256);
        for (name, why) in [
            ("", "invalid reference format"),
            ("web:", "invalid reference format"),
            ("web: 1", "invalid reference format"),
            ("web@sha256:00", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a_-b", "invalid reference format"),
            ("-reg.example/a", "invalid reference format"),
            ("reg.example:x/a", "invalid reference format"),
            ("$(IMAGE)", "invalid reference format: repository name (library/$(IMAGE)) must be lowercase"),
            ("Web:1", "invalid reference format: repository name (library/Web) must be lowercase"),
            ("web/Case", "invalid reference format: repository name (web/Case) must be lowercase"),
            (
                &"0f".repeat(32),
                &format!("invalid repository name ({}), cannot specify 64-byte hexadecimal strings", "0f".repeat(32)),
            ),
            (&long, "repository name must not be more than 255 characters"),
        ] {
            assert_eq!(check(name).unwrap_err(), why, "{name}");
        }
    }

    #[test]
    fn repositories() {
        assert_eq!(repository("reg:5000/app:1"), "reg:5000/app");
        assert_eq!(repository("reg:5000/app@sha256:00"), "reg:5000/app");
        assert_eq!(repository("reg:5000/app"), "reg:5000/app");
    }
}
