//! A kubectl command line. Pure.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use apiserver::Caller;

use crate::cluster;

/// The words of a command, and what its flags say.
#[derive(Debug, Default)]
pub struct Arguments {
    pub words: Vec<String>,
    pub namespace: String,
    pub all_namespaces: bool,
    pub selector: Option<String>,
    pub field_selector: Option<String>,
    pub output: Option<String>,
    pub show_labels: bool,
    pub replicas: Option<i32>,
    pub subresource: Option<String>,
    user: Option<String>,
    groups: Vec<String>,
}

impl Arguments {
    /// Reads a line; words may be in quotes.
    ///
    /// # Errors
    /// If a flag is unknown or lacks its value.
    pub fn parse(line: &str) -> Result<Self> {
        let mut arguments = Self { namespace: "default".to_owned(), ..Self::default() };
        let mut words = words(line).into_iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                arguments.words.push(word);
                continue;
            }
            match word.as_str() {
                "-A" | "--all-namespaces" => arguments.all_namespaces = true,
                "--show-labels" => arguments.show_labels = true,
                _ => {
                    let (flag, value) = match word.split_once('=') {
                        Some((flag, value)) => (flag.to_owned(), value.to_owned()),
                        None => (word.clone(), words.next().with_context(|| format!("{word} lacks its value"))?),
                    };
                    arguments.set(&flag, value)?;
                }
            }
        }
        Ok(arguments)
    }

    fn set(&mut self, flag: &str, value: String) -> Result<()> {
        match flag {
            "-n" | "--namespace" => self.namespace = value,
            "-l" | "--selector" => self.selector = Some(value),
            "--field-selector" => self.field_selector = Some(value),
            "-o" | "--output" => self.output = Some(value),
            "--replicas" => self.replicas = Some(value.parse().context("--replicas")?),
            "--subresource" => self.subresource = Some(value),
            "--as" => self.user = Some(value),
            "--as-group" => self.groups.push(value),
            _ => bail!("unknown flag {flag}"),
        }
        Ok(())
    }

    /// Who runs the command.
    pub fn caller(&self) -> Arc<Caller> {
        let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        self.user.as_deref().map_or_else(super::default_caller, |user| cluster::caller(user, &groups))
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_words() {
        let arguments = Arguments::parse("kubectl get pods -n kube-system -l 'a in (b, c)' -o=wide").unwrap();
        assert_eq!(arguments.words, ["kubectl", "get", "pods"]);
        assert_eq!(arguments.namespace, "kube-system");
        assert_eq!(arguments.selector.as_deref(), Some("a in (b, c)"));
        assert_eq!(arguments.output.as_deref(), Some("wide"));
        assert!(Arguments::parse("kubectl get pods --watch-me x").is_err());
    }
}
