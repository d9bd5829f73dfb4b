//! Console blocks: commands behind `$ `, each with the output it must have.

use anyhow::{Result, bail};
use regex::Regex;

use super::block::Block;
use super::run::command;
use crate::Cluster;

/// A block to be written anew.
#[derive(Debug)]
pub struct Rewrite {
    /// The line of its opening fence, from 1.
    line: usize,
    text: String,
}

/// Runs a block's commands. An expected output with a `*` is a pattern: `*` stands for anything within a word, and
/// columns may be of any width.
///
/// # Errors
/// If an output differs and is not to be rewritten.
pub async fn check(cluster: &Cluster, block: &Block, rewrite: bool) -> Result<Option<Rewrite>> {
    let (mut text, mut differs) = (String::new(), false);
    for (line, expected) in commands(&block.text)? {
        let output = command(cluster, line).await?;
        text.push_str(&format!("$ {line}\n"));
        if holds(&expected, &output) {
            text.push_str(&expected);
            continue;
        }
        if !rewrite {
            bail!("$ {line}\nexpected:\n{expected}is:\n{output}");
        }
        differs = true;
        text.push_str(&output);
    }
    Ok(differs.then_some(Rewrite { line: block.line, text }))
}

fn commands(text: &str) -> Result<Vec<(&str, String)>> {
    let mut commands: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.trim(), String::new())),
            (None, Some((_, expected))) => {
                expected.push_str(line.trim_end());
                expected.push('\n');
            }
            (None, None) => bail!("a console block begins with `$ `"),
        }
    }
    if commands.is_empty() {
        bail!("a console block has a command");
    }
    Ok(commands)
}

fn holds(expected: &str, output: &str) -> bool {
    if !expected.contains('*') {
        return expected == output;
    }
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, output): (Vec<_>, Vec<_>) = (expected.lines().collect(), output.lines().collect());
    expected.len() == output.len()
        && expected.iter().zip(&output).all(|(expected, own)| {
            let pattern = regex::escape(&words(expected)).replace(r"\*", r"\S*");
            Regex::new(&format!("^{pattern}$")).is_ok_and(|pattern| pattern.is_match(&words(own)))
        })
}

/// A spec's text with those blocks' contents replaced.
pub fn rewritten(text: &str, rewrites: &[Rewrite]) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for (index, line) in text.lines().enumerate() {
        if skipping && line.trim_end() == "```" {
            skipping = false;
        }
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
        if let Some(rewrite) = rewrites.iter().find(|rewrite| rewrite.line == index + 1) {
            out.push_str(&rewrite.text);
            skipping = true;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_compared() {
        assert!(holds("NAME   AGE\na      1s\n", "NAME   AGE\na      1s\n"));
        assert!(!holds("NAME AGE\na 1s\n", "NAME   AGE\na      1s\n"));
        assert!(holds("NAME AGE\na-* 1s\n", "NAME      AGE\na-12345   1s\n"));
        assert!(!holds("NAME AGE\na-* 1s\n", "NAME      AGE\nb-12345   1s\n"));
    }

    #[test]
    fn blocks_are_rewritten_in_place() {
        let text = "a\n```console\n$ x\nold\n```\nb\n";
        let rewrites = [Rewrite { line: 2, text: "$ x\nnew\n".into() }];
        assert_eq!(rewritten(text, &rewrites), "a\n```console\n$ x\nnew\n```\nb\n");
    }
}
