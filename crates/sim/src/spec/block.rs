//! A spec's text to its blocks. Pure.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use api::codec::parse_yaml_documents;
use serde_json::Value;

use crate::Options;

/// How long `eventually` and `gone` wait if they do not say.
const WITHIN: Duration = Duration::from_secs(120);
/// How long `never` looks if it does not say.
const DURING: Duration = Duration::from_secs(30);

/// One fenced block.
#[derive(Debug)]
pub struct Block {
    /// The line of its opening fence, from 1.
    pub line: usize,
    /// The nearest heading above.
    pub section: String,
    pub text: String,
    pub does: Does,
    pub settings: Settings,
}

/// What is said behind the words of a block, as `key=value`.
#[derive(Debug, Default, Clone)]
pub struct Settings {
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub namespace: Option<String>,
    pub duration: Option<Duration>,
    pub count: Option<usize>,
    pub validation: Option<String>,
    pub manager: Option<String>,
    pub dry_run: bool,
    pub force: bool,
    /// Upstream's behaviour that is not ours yet: the block must fail, and says so once it does not.
    pub unmet: bool,
}

/// A write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Apply,
    Create,
    Replace,
    /// What is patched, how, and through which subresource.
    Patch {
        subject: Option<Subject>,
        kind: Patch,
        subresource: Option<String>,
    },
    Delete(Option<Subject>),
}

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    Merge,
    Strategic,
    Json,
    ServerSide,
}

/// `KIND/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub kind: String,
    pub name: String,
}

/// What a block asks for.
#[derive(Debug)]
pub enum Does {
    Cluster(Options),
    Write(Write),
    /// The write is refused with that Status: the last document.
    Rejects(Write),
    /// The write is taken, with those warnings: the last document.
    Warns(Write),
    Now,
    Eventually,
    Never,
    Gone,
    Advance(Duration),
    /// The store remembers nothing but the present.
    Forget,
    StopNode(String),
    Request,
    Answer(Option<u16>),
    Console,
}

impl Block {
    /// The documents of a YAML block.
    ///
    /// # Errors
    /// If it is no YAML.
    pub fn documents(&self) -> Result<Vec<Value>> {
        let documents = parse_yaml_documents(self.text.as_bytes()).map_err(|error| anyhow!("{error}"))?;
        Ok(documents.into_iter().map(|document| document.value).collect())
    }
}

/// All blocks in order.
///
/// # Errors
/// If a block is not understood; blocks that are only to be read are written ```` ```text ````.
pub fn parse(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut section = String::new();
    let mut open: Option<(usize, &str, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some("")) => {
                if let Some((line, info, text)) = open.take() {
                    let block = block(line, &section, info, text).with_context(|| format!("line {line}: ```{info}"))?;
                    blocks.extend(block);
                }
            }
            (Some((_, _, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, Some(info)) => open = Some((number, info.trim(), String::new())),
            (None, None) => {
                if let Some(heading) = line.strip_prefix('#') {
                    section = heading.trim_start_matches('#').trim().to_owned();
                }
            }
        }
    }
    match open {
        Some((line, ..)) => bail!("line {line}: the block has no end"),
        None => Ok(blocks),
    }
}

fn block(line: usize, section: &str, info: &str, text: String) -> Result<Option<Block>> {
    let mut settings = Settings::default();
    let mut words = Vec::new();
    for word in info.split_whitespace() {
        match word.split_once('=') {
            Some((key, value)) => settings.set(key, value)?,
            None => match word {
                "dry-run" => settings.dry_run = true,
                "force" => settings.force = true,
                "unmet" => settings.unmet = true,
                _ => words.push(word),
            },
        }
    }
    let does = match words.as_slice() {
        ["text", ..] | [] => return Ok(None),
        ["yaml", "cluster"] => Does::Cluster(cluster(&text)?),
        ["yaml", "rejects"] => Does::Rejects(Write::Apply),
        ["yaml", "rejects", write @ ..] => Does::Rejects(write_of(write)?),
        ["yaml", "warns"] => Does::Warns(Write::Apply),
        ["yaml", "warns", write @ ..] => Does::Warns(write_of(write)?),
        ["yaml", "now"] => Does::Now,
        ["yaml", "eventually"] => Does::Eventually,
        ["yaml", "never"] => Does::Never,
        ["yaml", "gone" | "absent"] => Does::Gone,
        ["yaml", "answer"] => Does::Answer(None),
        ["yaml", "answer", code] => Does::Answer(Some(code.parse().context("an HTTP code")?)),
        ["yaml", write @ ..] => Does::Write(write_of(write)?),
        ["time"] => time(&text)?,
        ["history"] if text.trim() == "forget" => Does::Forget,
        ["history"] => bail!("a history block is `forget`"),
        ["http"] => Does::Request,
        ["console"] => Does::Console,
        _ => bail!("not a block of a spec; write ```text for what is only to be read"),
    };
    settings.duration = settings.duration.or(match does {
        Does::Never => Some(DURING),
        _ => Some(WITHIN),
    });
    Ok(Some(Block { line, section: section.to_owned(), text, does, settings }))
}

impl Settings {
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "as" => self.user = Some(value.to_owned()),
            "groups" => self.groups = value.split(',').map(str::to_owned).collect(),
            "namespace" => self.namespace = Some(value.to_owned()),
            "within" | "during" => self.duration = Some(duration(value)?),
            "count" => self.count = Some(value.parse().context("count")?),
            "validation" => self.validation = Some(value.to_owned()),
            "manager" => self.manager = Some(value.to_owned()),
            _ => bail!("unknown setting {key:?}"),
        }
        Ok(())
    }
}

fn write_of(words: &[&str]) -> Result<Write> {
    Ok(match words {
        ["apply"] => Write::Apply,
        ["create"] => Write::Create,
        ["replace"] => Write::Replace,
        ["delete"] => Write::Delete(None),
        ["delete", of] => Write::Delete(Some(subject(of)?)),
        ["server-side-apply"] => Write::Patch { subject: None, kind: Patch::ServerSide, subresource: None },
        [kind @ ("patch" | "strategic-patch" | "json-patch"), rest @ ..] => {
            let kind = match *kind {
                "patch" => Patch::Merge,
                "strategic-patch" => Patch::Strategic,
                _ => Patch::Json,
            };
            let (subresource, of) = match rest {
                [of] => (None, of),
                [subresource, of] => (Some((*subresource).to_owned()), of),
                _ => bail!("a patch names what it is for: KIND/NAME"),
            };
            Write::Patch { subject: Some(subject(of)?), kind, subresource }
        }
        _ => bail!("unknown words {:?}", words.join(" ")),
    })
}

/// `KIND/NAME`.
///
/// # Errors
/// If it is not.
pub fn subject(text: &str) -> Result<Subject> {
    let (kind, name) = text.split_once('/').with_context(|| format!("{text:?} is not KIND/NAME"))?;
    Ok(Subject { kind: kind.to_owned(), name: name.to_owned() })
}

fn cluster(text: &str) -> Result<Options> {
    let mut options = Options::default();
    let documents = parse_yaml_documents(text.as_bytes()).map_err(|error| anyhow!("{error}"))?;
    for (key, value) in documents.iter().filter_map(|document| document.value.as_object()).flatten() {
        let number = || value.as_u64().with_context(|| format!("{key} is a number"));
        let flag = || value.as_bool().with_context(|| format!("{key} is true or false"));
        match key.as_str() {
            "seed" => options.seed = number()?,
            "nodes" => options.nodes = usize::try_from(number()?)?,
            "controllers" => options.controllers = flag()?,
            "scheduler" => options.scheduler = flag()?,
            "admission" => options.admission = names(key, value)?,
            "admission-configuration" => options.admission_configuration = Some(value.to_string()),
            "admission-off" => options.admission_off = names(key, value)?,
            "signer" => options.signer = Some(value.as_str().context("signer is a name")?.to_owned()),
            "runtimeConfig" => options.runtime_config = names(key, value)?,
            _ => bail!("a cluster has no {key}"),
        }
    }
    Ok(options)
}

fn names(key: &str, value: &Value) -> Result<Vec<String>> {
    let names = value.as_array().with_context(|| format!("{key} is a list"))?;
    names.iter().map(|name| name.as_str().map(str::to_owned).with_context(|| format!("{key} holds names"))).collect()
}

fn time(text: &str) -> Result<Does> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["advance", span] => Ok(Does::Advance(duration(span)?)),
        ["stop", node] => Ok(Does::StopNode((*node).to_owned())),
        _ => bail!("a time block is `advance 10m` or `stop node-1`"),
    }
}

/// `1h30m`, `10s`, `500ms`.
fn duration(text: &str) -> Result<Duration> {
    let span: jiff::SignedDuration = text.parse().with_context(|| format!("{text:?} is no duration"))?;
    Duration::try_from(span).context("a duration is not negative")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_read() {
        let text = "# Title\n\n```yaml patch status pod/web as=jane within=1m30s\nstatus: {}\n```\n\n## Two\n\n\
                    ```time\nadvance 10m\n```\n```text\nno block\n```\n";
        let blocks = parse(text).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].line, &*blocks[0].section), (3, "Title"));
        let patched = Write::Patch {
            subject: Some(Subject { kind: "pod".into(), name: "web".into() }),
            kind: Patch::Merge,
            subresource: Some("status".into()),
        };
        assert!(matches!(&blocks[0].does, Does::Write(write) if *write == patched));
        assert_eq!(blocks[0].settings.user.as_deref(), Some("jane"));
        assert_eq!(blocks[0].settings.duration, Some(Duration::from_secs(90)));
        assert!(matches!(blocks[1].does, Does::Advance(span) if span == Duration::from_secs(600)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in ["```yaml\n```\n", "```yaml aply\n```\n", "```yaml apply x=1\n```\n", "```time\n", "```sh\n```\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
