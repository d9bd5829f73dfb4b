//! Registry credentials out of image pull secrets (`kubernetes.io/dockerconfigjson`, `kubernetes.io/dockercfg`).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cri::v1;
use serde::Deserialize;

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

/// The registry host of an image name.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// The credentials to try one after another; `None` (no credentials) when no secret has any for the image.
pub fn for_image(image: &str, secrets: &[Arc<Secret>]) -> Vec<Option<v1::AuthConfig>> {
    let mut found: Vec<(usize, v1::AuthConfig)> = Vec::new();
    for secret in secrets {
        for (server, entry) in entries(secret) {
            if let Some(specific) = matches(&server, image) {
                found.push((specific, auth(&server, &entry)));
            }
        }
    }
    // The longest path is the most specific one.
    found.sort_by_key(|(specific, _)| std::cmp::Reverse(*specific));
    if found.is_empty() { vec![None] } else { found.into_iter().map(|(_, auth)| Some(auth)).collect() }
}

fn entries(secret: &Secret) -> BTreeMap<String, Entry> {
    let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key));
    if let Some(bytes) = data(".dockerconfigjson") {
        return serde_json::from_slice::<DockerConfig>(&bytes.0).map(|c| c.auths).unwrap_or_default();
    }
    data(".dockercfg").and_then(|bytes| serde_json::from_slice(&bytes.0).ok()).unwrap_or_default()
}

/// How specifically `server` names the image's repository; `None` when it does not.
fn matches(server: &str, image: &str) -> Option<usize> {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let hub = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    let own = registry(image);
    let same = host == own || (hub(host) && hub(own)) || host.strip_prefix("*.").is_some_and(|s| own.ends_with(s));
    // `v1` and `v2` are the registry's own paths.
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    let repository = image.strip_prefix(own).map_or(image, |rest| rest.trim_start_matches('/'));
    (same && repository.starts_with(path)).then_some(path.len())
}

fn auth(server: &str, entry: &Entry) -> v1::AuthConfig {
    let mut username = entry.username.clone();
    let mut password = entry.password.clone();
    if username.is_empty()
        && let Ok(plain) = STANDARD.decode(entry.auth.trim())
        && let Some((user, pass)) = String::from_utf8_lossy(&plain).split_once(':')
    {
        username = user.to_owned();
        password = pass.to_owned();
    }
    v1::AuthConfig {
        username,
        password,
        server_address: server.to_owned(),
        identity_token: entry.identitytoken.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn the_right_registry_and_the_longest_path() {
        let json = r#"{"auths":{"https://reg.example:5000":{"auth":"dTpw"},"reg.example:5000/team":{"username":"t","password":"q"},
            "https://index.docker.io/v1/":{"username":"hub"}}}"#;
        let secret = serde_json::json!({"metadata":{"name":"s"},"data":{".dockerconfigjson": STANDARD.encode(json)}});
        let secrets = [Arc::new(Secret::from_value(secret).unwrap())];
        let users = |image: &str| -> Vec<Option<String>> {
            for_image(image, &secrets).into_iter().map(|a| a.map(|a| a.username)).collect()
        };
        assert_eq!(users("reg.example:5000/team/x:1"), [Some("t".into()), Some("u".into())]);
        assert_eq!(users("reg.example:5000/other"), [Some("u".into())]);
        assert_eq!(users("nginx"), [Some("hub".into())]);
        assert_eq!(users("else.example/x"), [None]);
    }
}
