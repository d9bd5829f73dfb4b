//! 3.2: what is recorded of requests, and who the record says used the API.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use super::facts::{Facts, Known};
use super::{Check, Decided, Group, fail, not_applicable, pass, warn};

/// Of the audit log, so much is read, from its end.
const READ_BYTES_MAX: u64 = 8 << 20;
/// Different users remembered.
const USERS_LEN_MAX: usize = 10_000;

pub static GROUP: Group = Group {
    id: "3.2",
    title: "Logging",
    checks: &[
        Check { id: "3.2.1", title: "Requests are recorded", decide: recorded },
        Check { id: "3.2.2", title: "What matters is recorded, and no secret with it", decide: levels },
    ],
};

/// Somebody who used the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    pub name: String,
    /// In `system:masters`.
    pub master: bool,
    /// Came with a client certificate.
    pub certificate: bool,
}

/// The users in a record's last part. None if no log is kept.
pub fn users(path: Option<&Path>) -> Known<Vec<User>> {
    let Some(path) = path else { return Err("no audit log is kept that would say who uses the API".into()) };
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(READ_BYTES_MAX);
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.take(READ_BYTES_MAX).read_to_end(&mut text)?;
        Ok(text)
    };
    Ok(users_of(&read().map_err(|error| format!("{}: {error}", path.display()))?))
}

fn users_of(text: &[u8]) -> Vec<User> {
    let mut users = BTreeSet::new();
    for line in text.split(|byte| *byte == b'\n') {
        // The first line may be half a line, and the last one not yet whole.
        let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
        let user = &event["user"];
        let Some(name) = user["username"].as_str() else { continue };
        let master = user["groups"].as_array().is_some_and(|groups| groups.iter().any(|one| one == "system:masters"));
        let credential = &user["extra"]["authentication.kubernetes.io/credential-id"][0];
        let certificate = credential.as_str().is_some_and(|id| id.starts_with("X509SHA256="));
        users.insert(User { name: name.to_owned(), master, certificate });
        if users.len() >= USERS_LEN_MAX {
            break;
        }
    }
    users.into_iter().collect()
}

fn recorded(facts: &Facts) -> Decided {
    let levels = facts.list("effective-audit-levels")?;
    if levels.is_empty() {
        let log = facts.data_dir.join("audit/audit.log");
        return fail("no audit backend is on", facts.server_with(&format!("--audit-log-path={}", log.display())));
    }
    if levels.iter().all(|level| level.ends_with("=None")) {
        return fail(
            "the audit policy records nothing of what matters",
            facts.server_with("--audit-policy-file=POLICY.yaml"),
        );
    }
    pass("requests are recorded by a policy")
}

/// What the benchmark names: these are to be recorded at all, and of the first three nothing but metadata.
fn levels(facts: &Facts) -> Decided {
    let levels = facts.list("effective-audit-levels")?;
    if levels.is_empty() {
        return not_applicable("nothing is recorded: see 3.2.1");
    }
    let pairs = || levels.iter().filter_map(|level| level.split_once('='));
    let missing: Vec<&str> = pairs().filter(|(_, level)| *level == "None").map(|(what, _)| what).collect();
    let sensitive = |what: &str| matches!(what, "secrets" | "configmaps" | "tokenreviews");
    let leaking: Vec<&str> =
        pairs().filter(|(what, level)| sensitive(what) && level.starts_with("Request")).map(|(what, _)| what).collect();
    let mend = facts.server_with("--audit-policy-file=POLICY.yaml");
    match (leaking.is_empty(), missing.is_empty()) {
        (false, _) => fail(format!("bodies of {} are recorded: secrets get into the log", leaking.join(", ")), mend),
        (true, false) => warn(format!("nothing is recorded of {}", missing.join(", ")), mend),
        (true, true) => pass("all of it is recorded, of secrets the metadata alone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_out_of_whole_lines() {
        let extra = r#"{"authentication.kubernetes.io/credential-id":["X509SHA256=00"]}"#;
        let admin = format!(r#"{{"username":"kubernetes-admin","groups":["system:masters"],"extra":{extra}}}"#);
        let text = format!("alf a line\"}}\n{{\"user\":{admin}}}\n");
        let rest = r#"
{"user":{"username":"system:serviceaccount:a:b","groups":[]}}
{"user":{"username":"system:serviceaccount:a:b","groups":[]}}
{"user":{"username":"#;
        let users = users_of(format!("{text}{rest}").as_bytes());
        assert_eq!(users.len(), 2);
        assert!(users[0].master && users[0].certificate && !users[1].master && !users[1].certificate);
    }
}
