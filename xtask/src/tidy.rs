//! The rules of ARCHITECTURE.md as a test: who imports whom, what every file starts with, how long files and functions
//! are, which names are banned. Each message says what to do instead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

/// Which of our crates each may import; a name that is missing may import nothing.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("api", &[]),
    ("cel", &["api"]),
    ("structural", &["api", "cel"]),
    ("resources", &["api", "cel", "structural"]),
    ("store", &["base"]),
    ("pki", &["base"]),
    ("cri", &["api", "base"]),
    ("client", &["api", "base", "pki"]),
    ("apiserver", &["resources", "structural", "cel", "store", "api", "pki", "base"]),
    ("controllers", &["client", "api", "base", "pki"]),
    ("scheduler", &["client", "api", "base"]),
    ("node", &["client", "api", "base", "pki", "cri"]),
    ("net", &["client", "api", "base"]),
    ("fuzz", &["api", "cel", "structural", "resources"]),
    (
        "sim",
        &[
            "base",
            "api",
            "cel",
            "structural",
            "resources",
            "store",
            "pki",
            "cri",
            "client",
            "apiserver",
            "controllers",
            "scheduler",
            "node",
            "net",
        ],
    ),
];

/// Crates of others that a crate of ours must not reach, even through its dependencies.
const NEVER: &[(&str, &[&str])] =
    &[("api", &["tokio", "hyper"]), ("cel", &["tokio", "hyper"]), ("resources", &["tokio", "hyper"])];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 100;
const LINE_LEN_MAX: usize = 120;

/// Files that break the limit of lines for now. This list only shrinks.
const LONG_FILES: &[&str] = &[];
/// Functions that break the limit of lines for now, as `file: name`. This list only shrinks.
const LONG_FUNCTIONS: &[&str] = &[];

/// Names that say nothing; say what the thing does instead.
const BANNED_NAMES: &[&str] = &["Manager", "Helper", "Utils", "Common_"];
const BANNED_FILES: &[&str] = &["utils.rs", "util.rs", "common.rs", "helpers.rs", "helper.rs", "mod.rs"];

/// Runs every check; fails with all findings.
pub fn run() -> Result<()> {
    let root = super::root();
    let mut findings = Vec::new();
    layers(&root, &mut findings)?;
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        rust_files(&root.join(folder), &mut files)?;
    }
    files.sort();
    for file in &files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
        if !name.contains("/generated") {
            check_file(&name, &text, &mut findings);
        }
    }
    stale(&root, &mut findings);
    manifests(&root, &mut findings)?;
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    findings.sort();
    bail!("tidy: {} findings\n{}", findings.len(), findings.join("\n"))
}

/// The import table against `cargo metadata`.
fn layers(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let metadata =
        MetadataCommand::new().manifest_path(root.join("Cargo.toml")).other_options(vec!["--offline".into()]).exec()?;
    let short = |name: &str| name.strip_prefix("pintle-").map(str::to_owned);
    let table: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    for package in metadata.workspace_packages() {
        let Some(name) = short(&package.name) else { continue };
        let Some(allowed) = table.get(name.as_str()) else {
            findings
                .push(format!("crates/{name}: not in the table of xtask/src/tidy.rs; add it and ARCHITECTURE.md's"));
            continue;
        };
        for dependency in &package.dependencies {
            let normal = dependency.kind == cargo_metadata::DependencyKind::Normal;
            if let Some(other) = short(&dependency.name).filter(|other| normal && !allowed.contains(&other.as_str())) {
                findings.push(format!("crates/{name}: must not import {other} (the table in ARCHITECTURE.md)"));
            }
        }
    }
    let Some(resolve) = metadata.resolve else { return Ok(()) };
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let names: BTreeMap<_, _> = metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    for (name, banned) in NEVER {
        let package = format!("pintle-{name}");
        let Some(start) = metadata.packages.iter().find(|p| p.name.as_str() == package) else { continue };
        let (mut seen, mut next) = (BTreeSet::new(), vec![&start.id]);
        while let Some(id) = next.pop() {
            if !seen.insert(id) {
                continue;
            }
            let Some(node) = nodes.get(id) else { continue };
            for dependency in &node.deps {
                let normal = dependency.dep_kinds.iter().any(|k| k.kind == cargo_metadata::DependencyKind::Normal);
                if normal {
                    next.push(&dependency.pkg);
                }
            }
        }
        for id in seen {
            if let Some(other) = names.get(id).filter(|other| banned.contains(*other)) {
                findings.push(format!("crates/{name}: reaches {other}, but is to be free of I/O"));
            }
        }
    }
    Ok(())
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                rust_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(name: &str, text: &str, findings: &mut Vec<String>) {
    let base = name.rsplit('/').next().unwrap_or(name);
    if BANNED_FILES.contains(&base) {
        findings.push(format!("{name}: name the file after the thing in it"));
    }
    if !text.starts_with("//!") {
        findings.push(format!("{name}: start with `//!` and what the file is for"));
    }
    let is_test = name.contains("/tests/") || base == "tests.rs" || name.contains("/examples/");
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = code.lines().count();
    if lines > FILE_LINES_MAX && !is_test && !LONG_FILES.contains(&name) {
        findings.push(format!("{name}: {lines} lines; split it by concern (at most {FILE_LINES_MAX} without tests)"));
    }
    for (number, line) in text.lines().enumerate() {
        // Texts are as long as they are.
        let text_line = line.contains('"') || (is_test && !line.contains("//"));
        if line.chars().count() > LINE_LEN_MAX && !text_line {
            findings.push(format!("{name}:{}: more than {LINE_LEN_MAX} columns", number + 1));
        }
    }
    if !is_test {
        banned_names(name, code, findings);
        long_functions(name, code, findings);
    }
}

fn banned_names(name: &str, code: &str, findings: &mut Vec<String>) {
    for (number, line) in code.lines().enumerate() {
        let line = line.trim_start();
        let declares = ["pub struct ", "struct ", "pub enum ", "enum ", "pub trait ", "trait "];
        let Some(declared) = declares.iter().find_map(|word| line.strip_prefix(word)) else { continue };
        let word: String = declared.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if BANNED_NAMES.iter().any(|banned| word.ends_with(banned)) {
            findings.push(format!("{name}:{}: {word} says nothing; name it by what it does", number + 1));
        }
    }
}

/// Functions are found by their indentation: rustfmt sees to it that `}` closes at the column of `fn`.
fn long_functions(name: &str, code: &str, findings: &mut Vec<String>) {
    let lines: Vec<&str> = code.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().take(6).collect();
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        let qualifiers = ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern"];
        if !words[..at].iter().all(|word| qualifiers.contains(word)) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let Some(len) = lines[start..].iter().position(|line| *line == close) else { continue };
        let function = words.get(at + 1).map_or("", |word| word.split(['(', '<']).next().unwrap_or(word));
        let entry = format!("{name}: {function}");
        if len + 1 > FUNCTION_LINES_MAX && !LONG_FUNCTIONS.contains(&entry.as_str()) {
            findings.push(format!(
                "{name}:{}: {function} has {} lines; at most {FUNCTION_LINES_MAX}",
                start + 1,
                len + 1
            ));
        }
    }
}

/// Entries of the allow-lists that are not needed any more.
fn stale(root: &Path, findings: &mut Vec<String>) {
    for file in LONG_FILES {
        let lines = std::fs::read_to_string(root.join(file)).map_or(0, |text| text.lines().count());
        if lines <= FILE_LINES_MAX {
            findings.push(format!("xtask/src/tidy.rs: {file} is short enough now; take it off LONG_FILES"));
        }
    }
}

/// Members declare no features, and every crate takes the workspace's lints.
fn manifests(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(root.join("crates"))? {
        let manifest = entry?.path().join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        let name = manifest.strip_prefix(root).unwrap_or(&manifest).display().to_string();
        if !text.contains("[lints]\nworkspace = true") {
            findings.push(format!("{name}: add `[lints] workspace = true`"));
        }
        for line in
            text.lines().filter(|line| line.contains("features =") && !line.contains("workspace = true, features = []"))
        {
            findings.push(format!("{name}: features are declared in the root manifest only: {line}"));
        }
    }
    Ok(())
}
