//! `docs/access.md` names a proof of what is let by and one of what is refused, for each admission plugin and each
//! authenticator: no plugin may be missing, and each proof must be one.

use std::collections::BTreeSet;
use std::path::Path;

use apiserver::admission::{ALL, Chain};

/// A row's cells.
fn rows(page: &str, title: &str) -> Vec<Vec<String>> {
    let section = page.split("\n## ").find(|section| section.starts_with(title)).unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    lines.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A section of a spec, up to the next heading.
fn section<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let start = text.lines().find(|line| line.starts_with('#') && line.trim_start_matches('#').trim() == heading)?;
    let after = &text[text.find(start)? + start.len()..];
    Some(after.find("\n#").map_or(after, |end| &after[..end]))
}

fn is_refusal(block: &str) -> bool {
    let code = block.strip_prefix("yaml answer ").and_then(|code| code.trim().parse::<u16>().ok());
    block.starts_with("yaml rejects") || code.is_some_and(|code| code >= 400)
}

/// What a section is to show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    Passing,
    Refusal,
    Anything,
}

/// What is wrong with a proof: it is not there, or does not show what it is to show.
fn wrong(proof: &str, shows: Shows) -> Option<String> {
    let Some((file, name)) = proof.trim_matches('`').split_once('#') else {
        return Some(format!("{proof} names no test and no section"));
    };
    let Ok(text) = std::fs::read_to_string(root().join(file)) else { return Some(format!("{file} is not there")) };
    if file.ends_with(".rs") {
        return (!text.contains(&format!("fn {name}("))).then(|| format!("{file} has no test {name}"));
    }
    let Some(section) = section(&text, name) else { return Some(format!("{file} has no section {name:?}")) };
    let blocks: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("```")).collect();
    let blocks: Vec<&str> = blocks.into_iter().filter(|info| !info.is_empty() && !info.starts_with("text")).collect();
    let proven = match shows {
        Shows::Passing => blocks.iter().any(|info| !is_refusal(info)),
        Shows::Refusal => blocks.iter().any(|info| is_refusal(info)),
        Shows::Anything => !blocks.is_empty(),
    };
    (!proven).then(|| format!("{proof} shows nothing of the kind: {blocks:?}"))
}

#[test]
fn every_plugin_has_its_proofs() {
    let page = std::fs::read_to_string(root().join("docs/access.md")).unwrap();
    let rows = rows(&page, "Admission plugins");
    let named: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    let all: Vec<&str> = ALL.iter().map(|plugin| plugin.name()).collect();
    assert_eq!(named, all, "a row for each plugin, in their order");
    let standard = Chain::default();
    let on: BTreeSet<&str> = standard.0.iter().map(|plugin| plugin.name()).collect();
    for row in &rows {
        assert_eq!(row[1] == "on", on.contains(row[0].as_str()), "{}", row[0]);
        assert!(matches!(row[2].as_str(), "decides" | "changes"), "{row:?}");
        assert_eq!(wrong(&row[3], Shows::Passing), None, "{}", row[0]);
        let refusal = if row[2] == "decides" { Shows::Refusal } else { Shows::Anything };
        assert_eq!(wrong(&row[4], refusal), None, "{}", row[0]);
    }
}

#[test]
fn every_authenticator_has_its_proofs() {
    let page = std::fs::read_to_string(root().join("docs/access.md")).unwrap();
    let rows = rows(&page, "Authenticators");
    let named: BTreeSet<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    let all = [
        "OpenID Connect",
        "anonymous",
        "bootstrap tokens",
        "client certificates",
        "front proxy",
        "impersonation",
        "service account tokens",
        "token webhook",
    ];
    assert_eq!(named.into_iter().collect::<Vec<_>>(), all);
    for row in &rows {
        let shown = row.len();
        assert_eq!(wrong(&row[shown - 2], Shows::Passing), None, "{row:?}");
        assert_eq!(wrong(&row[shown - 1], Shows::Refusal), None, "{row:?}");
    }
}
