//! `/livez`, `/readyz`, `/healthz`: named checks, one line each when asked for details.

use http::Response;

use super::payload::Payload;
use super::query::Query;
use super::write::respond;
use crate::Server;

const TEXT: &str = "text/plain; charset=utf-8";

/// One check: its name and what is wrong, if anything.
type Check = (String, Option<String>);

/// The plugins of encryption at rest.
const KMS: &str = "kms-providers";

/// How far the watch cache may be behind the store before the server is not ready.
const BEHIND_MAX: u64 = 100_000;

/// `wanted`: whether the outcome of a check is asked for at all; those that may take long are then left out.
async fn checks(server: &Server, endpoint: &str, wanted: impl Fn(&str) -> bool) -> Vec<Check> {
    let store = &server.caches().store;
    let mut checks = vec![("ping".to_owned(), None)];
    checks.push(("etcd".to_owned(), store.get("/registry/health").await.err().map(|error| error.to_string())));
    let sealing = &server.caches().sealing;
    if sealing.has_plugins() {
        checks.push((KMS.to_owned(), if wanted(KMS) { sealing.check_plugins().await } else { None }));
    }
    if endpoint == "livez" {
        return checks;
    }
    let behind = store.revision().0.saturating_sub(server.caches().progress());
    let stalled = (behind > BEHIND_MAX).then(|| format!("the watch cache is {behind} revisions behind"));
    checks.push(("informer-sync".to_owned(), stalled));
    for (name, check) in &server.options.ready_checks {
        checks.push((name.clone(), check()));
    }
    if endpoint == "readyz" {
        let ending = server.drain.has_begun() || server.tasks().cancelled().is_cancelled();
        checks.push(("shutdown".to_owned(), ending.then(|| "process is shutting down".to_owned())));
    }
    checks
}

/// The answer to a health path, or `None` if it is none (or names no check).
pub async fn answer(server: &Server, path: &str, query: &Query<'_>) -> Option<Response<Payload>> {
    let (endpoint, single) = match path.trim_start_matches('/').split_once('/') {
        Some((endpoint, check)) => (endpoint, Some(check)),
        None => (path.trim_start_matches('/'), None),
    };
    if !matches!(endpoint, "livez" | "readyz" | "healthz") {
        return None;
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let wanted = |name: &str| single.map_or_else(|| !excluded.contains(&name), |single| single == name);
    let checks = checks(server, endpoint, wanted).await;
    if let Some(single) = single {
        let (name, problem) = checks.iter().find(|(name, _)| name == single)?;
        return Some(match problem {
            None => respond(200, TEXT, Payload::Bytes("ok".into())),
            Some(why) => respond(500, TEXT, format!("internal server error: {name}: {why}\n").into_bytes().into()),
        });
    }
    let mut lines = String::new();
    let mut failed = Vec::new();
    for (name, problem) in &checks {
        if excluded.contains(&name.as_str()) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if problem.is_some() {
            lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            failed.push(name.as_str());
        } else {
            lines.push_str(&format!("[+]{name} ok\n"));
        }
    }
    for unknown in excluded.iter().filter(|name| checks.iter().all(|(own, _)| own != *name)) {
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {unknown:?}\n"));
    }
    if !failed.is_empty() {
        tracing::warn!(endpoint, ?failed, "health checks failed");
        return Some(respond(500, TEXT, format!("{lines}{endpoint} check failed\n").into_bytes().into()));
    }
    if query.has("verbose") {
        return Some(respond(200, TEXT, format!("{lines}{endpoint} check passed\n").into_bytes().into()));
    }
    Some(respond(200, TEXT, Payload::Bytes("ok".into())))
}
