//! `docs/security.md` names a proof for each default; each proof must exist.

use std::path::Path;

#[test]
fn every_proof_exists() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    assert!(rows.len() >= 20, "{} rows", rows.len());
    for row in rows {
        let proof = row.trim_end_matches(" |").rsplit("| ").next().unwrap().trim_matches('`');
        let (file, name) = proof.split_once('#').unwrap_or((proof, ""));
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}: {row}"));
        assert!(name.is_empty() || text.contains(&format!("fn {name}(")), "{proof} is no test: {row}");
    }
}
