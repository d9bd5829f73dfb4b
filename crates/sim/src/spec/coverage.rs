//! What the specs cover, as checks of their own: every rule of the API that `spec/README.md` lists has a proof, and
//! every kind that is kept has enough refusals. Reads the files; starts no cluster.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::block::{self, Block, Does, Write};
use super::request;
use crate::catalogue;

/// How many wrong objects the specs of a kind must show.
pub const REFUSALS_LEN_MIN: usize = 5;
/// Where the list of rules begins in `spec/README.md`.
const RULES: &str = "## The API's rules";

/// Finds the rules without a proof: a section of a spec that expects something and is met, or a test.
///
/// # Errors
/// The rules whose proof is none.
pub fn rules(specs: &Path) -> Result<()> {
    let page = std::fs::read_to_string(specs.join("README.md")).context("spec/README.md")?;
    let (_, list) = page.split_once(RULES).context("spec/README.md has no list of rules")?;
    let rows: Vec<&str> = list.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    let mut wrong = Vec::new();
    for row in &rows {
        let proofs: Vec<&str> =
            row.split('`').skip(1).step_by(2).filter(|text| text.contains(".md#") || text.contains(".rs#")).collect();
        if proofs.is_empty() {
            wrong.push(format!("no proof is named: {row}"));
        }
        wrong.extend(proofs.iter().filter_map(|proof| Some(format!("{proof}: {}", lacking(specs, proof).err()?))));
    }
    if rows.is_empty() || !wrong.is_empty() {
        bail!("{} rules; without proof:\n{}", rows.len(), wrong.join("\n"));
    }
    Ok(())
}

fn lacking(specs: &Path, proof: &str) -> Result<()> {
    let (file, name) = proof.split_once('#').context("no `#`")?;
    if file.ends_with(".rs") {
        let text = std::fs::read_to_string(specs.join("..").join(file)).context("there is no such file")?;
        if !text.contains(&format!("fn {name}(")) {
            bail!("there is no such test");
        }
        return Ok(());
    }
    let text = std::fs::read_to_string(specs.join(file)).context("there is no such spec")?;
    let blocks = block::parse(&text)?;
    let own: Vec<&Block> = blocks.iter().filter(|block| slug(&block.section) == name).collect();
    if own.iter().any(|block| block.settings.unmet) {
        bail!("it is unmet");
    }
    let expects = |block: &&Block| {
        let Block { does, .. } = block;
        matches!(
            does,
            Does::Rejects(_)
                | Does::Warns(_)
                | Does::Now
                | Does::Eventually
                | Does::Never
                | Does::Gone
                | Does::Answer(_)
                | Does::Console
        )
    };
    if !own.iter().any(expects) {
        bail!("there is no such section, or it expects nothing");
    }
    Ok(())
}

/// A heading as an anchor.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Finds the kinds that are kept and have fewer than [`REFUSALS_LEN_MIN`] refusals in the specs.
///
/// # Errors
/// These kinds, with how many there are.
pub fn refusals(specs: &Path) -> Result<()> {
    let kept = |strategy: &&&dyn resources::AnyStrategy| strategy.verbs().contains(&"update");
    let kinds = resources::ALL.iter().filter(kept).map(|strategy| strategy.kind());
    let mut counts: BTreeMap<(&str, &str), usize> = kinds.map(|kind| ((kind.group, kind.kind), 0)).collect();
    for (name, path) in super::find(specs)? {
        let text = std::fs::read_to_string(&path)?;
        let blocks = block::parse(&text).with_context(|| name.clone())?;
        for (at, block) in blocks.iter().enumerate() {
            let following = blocks.get(at + 1);
            let Some((group, kind)) = refused(block, following).with_context(|| name.clone())? else { continue };
            if let Some(count) = counts.get_mut(&(group, kind)) {
                *count += 1;
            }
        }
    }
    let few = counts.into_iter().filter(|(_, count)| *count < REFUSALS_LEN_MIN);
    let few: Vec<String> = few.map(|((group, kind), count)| format!("{kind}.{group}: {count}")).collect();
    if !few.is_empty() {
        bail!("kinds with fewer than {REFUSALS_LEN_MIN} refusals that say what is wrong:\n{}", few.join("\n"));
    }
    Ok(())
}

/// Group and kind of the wrong object that a block shows, if it does: it is invalid, and what is said of it tells why.
fn refused(block: &Block, following: Option<&Block>) -> Result<Option<(&'static str, &'static str)>> {
    if block.settings.unmet {
        return Ok(None);
    }
    let kind = match &block.does {
        Does::Rejects(write) => {
            let mut documents = block.documents()?;
            let Some(expected) = documents.pop() else { return Ok(None) };
            if !explains(&expected) {
                return Ok(None);
            }
            match (write, documents.last()) {
                (Write::Patch { subject: Some(subject), .. } | Write::Delete(Some(subject)), _) => {
                    catalogue::named(&subject.kind).ok()
                }
                (_, Some(object)) => {
                    let text = |key: &str| object[key].as_str().unwrap_or_default();
                    catalogue::of_kind(text("apiVersion"), text("kind")).ok()
                }
                _ => None,
            }
        }
        Does::Request => {
            let Some(Does::Answer(Some(_))) = following.map(|next| &next.does) else { return Ok(None) };
            let expected = following.map(Block::documents).transpose()?.and_then(|all| all.into_iter().next());
            let Some(target) = expected.filter(explains).and_then(|_| request::target_of(&block.text)) else {
                return Ok(None);
            };
            let at = |strategy: &&&dyn resources::AnyStrategy| {
                strategy.kind().group == target.group && strategy.kind().plural == target.resource
            };
            resources::ALL.iter().find(at).map(|strategy| (*strategy).into())
        }
        _ => None,
    };
    Ok(kind.map(|found| (found.kind().group, found.kind().kind)))
}

/// Whether a Status says that an object is invalid, and where.
fn explains(status: &Value) -> bool {
    let causes = status["details"]["causes"].as_array();
    let fields = causes.is_some_and(|all| all.iter().any(|cause| cause["field"].is_string()));
    let said = status["message"].as_str().is_some_and(|text| text.contains(" is invalid: "));
    let code = status.get("code").is_none_or(|code| code == 422);
    code && (fields || said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_counted_by_kind() {
        let text = r#"
```yaml rejects create
{apiVersion: v1, kind: Secret}
---
{code: 422, details: {causes: [{field: a}]}}
```
```yaml rejects patch pod/a
{}
---
{message: 'Pod "a" is invalid: b: Required value'}
```
```yaml rejects create
{apiVersion: v1, kind: Secret}
---
{code: 409, message: there is one}
```
```http
POST /apis/apps/v1/namespaces/default/deployments

{}
```
```yaml answer 422
{details: {causes: [{field: spec.selector}]}}
```
"#;
        let blocks = block::parse(text).unwrap();
        let found: Vec<_> = (0..blocks.len()).map(|at| refused(&blocks[at], blocks.get(at + 1)).unwrap()).collect();
        assert_eq!(found, [Some(("", "Secret")), Some(("", "Pod")), None, Some(("apps", "Deployment")), None]);
    }

    #[test]
    fn headings_have_anchors() {
        assert_eq!(slug("`$patch: delete` takes an item out"), "patch-delete-takes-an-item-out");
        assert_eq!(slug("A list: not older than"), "a-list-not-older-than");
    }
}
