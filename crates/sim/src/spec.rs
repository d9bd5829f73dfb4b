//! Runs literate tests: Markdown files whose fenced blocks are done one after another in a fresh cluster.
//!
//! The blocks are described in `spec/README.md`. Everything else in a file is for people.

mod answer;
mod block;
mod compare;
mod console;
pub mod coverage;
mod request;
mod run;
mod submit;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use block::Does;

/// All specs below a folder, with their names: the path without `.md`.
///
/// # Errors
/// If a folder cannot be read.
pub fn find(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") && !path.ends_with("README.md") {
                let name = path.strip_prefix(root).unwrap_or(&path).with_extension("");
                found.push((name.to_string_lossy().into_owned(), path));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Runs one file. With `rewrite`, console blocks that differ are written anew instead of failing.
///
/// # Errors
/// What did not hold, with file and line.
pub fn run(path: &Path, rewrite: bool) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let blocks = block::parse(&text).with_context(|| path.display().to_string())?;
    let options = blocks.iter().find_map(|block| match &block.does {
        Does::Cluster(options) => Some(options.clone()),
        _ => None,
    });
    let rewrites = crate::block_on(run::all(options.unwrap_or_default(), &blocks, path, rewrite))?;
    if !rewrites.is_empty() {
        std::fs::write(path, console::rewritten(&text, &rewrites)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
