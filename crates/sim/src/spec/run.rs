//! Does the blocks of one file, in order, in one cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::{Call, Verb};
use serde_json::{Value, json};

use super::answer::Got;
use super::block::{Block, Does, Settings};
use super::console::{self, Rewrite};
use super::submit::{self, Submitter, caller_of};
use super::{compare, request};
use crate::catalogue::{self, Found};
use crate::{Cluster, Options, cluster, kubectl};

/// How many objects of a kind a failure names.
const NAMED_MAX: usize = 12;
/// How many warning events a failure shows.
const EVENTS_SHOWN_MAX: usize = 12;

struct Runner<'a> {
    cluster: &'a Cluster,
    submitter: Submitter,
    answer: Got,
    rewrite: bool,
    rewrites: Vec<Rewrite>,
}

/// Does all blocks. Returns the console blocks to be written anew.
///
/// # Errors
/// The first thing that did not hold.
pub async fn all(options: Options, blocks: &[Block], path: &Path, rewrite: bool) -> Result<Vec<Rewrite>> {
    let cluster = Cluster::start(options).await.context("starting the cluster")?;
    let mut runner = Runner {
        cluster: &cluster,
        submitter: Submitter::default(),
        answer: Got::default(),
        rewrite,
        rewrites: Vec::new(),
    };
    let mut result = Ok(());
    for (index, block) in blocks.iter().enumerate() {
        let answered = matches!(blocks.get(index + 1).map(|next| &next.does), Some(Does::Answer(_)));
        result = match runner.block(block, answered).await {
            Ok(()) if block.settings.unmet => Err(anyhow::anyhow!("this holds now: take `unmet` away")),
            Err(_) if block.settings.unmet => Ok(()),
            result => result,
        };
        if let Err(error) = result {
            let events = runner.warnings().await;
            let place = format!("{}:{}: {}", path.display(), block.line, block.section);
            result = Err(anyhow::anyhow!("{place}\n{error:#}{events}"));
            break;
        }
    }
    let rewrites = std::mem::take(&mut runner.rewrites);
    drop(runner);
    let stopped = cluster.stop().await;
    result?;
    stopped.with_context(|| path.display().to_string())?;
    Ok(rewrites)
}

impl Runner<'_> {
    async fn block(&mut self, block: &Block, answered: bool) -> Result<()> {
        // What was written before has been seen by all who follow it.
        self.cluster.settle().await;
        match &block.does {
            Does::Cluster(_) => {}
            Does::Write(write) => {
                let got = self.submitter.submit(self.cluster, write, &block.documents()?, &block.settings).await?;
                if !got.succeeded() && !answered {
                    bail!("refused with {}: {}", got.code, got.message());
                }
                self.answer = got;
            }
            Does::Rejects(write) => {
                let (documents, expected) = with_last(block)?;
                let got = self.submitter.submit(self.cluster, write, &documents, &block.settings).await?;
                if got.succeeded() {
                    bail!("was to be refused, and is not");
                }
                hold(&expected, &got.body, "the Status")?;
            }
            Does::Warns(write) => {
                let (documents, expected) = with_last(block)?;
                let got = self.submitter.submit(self.cluster, write, &documents, &block.settings).await?;
                if !got.succeeded() {
                    bail!("refused with {}: {}", got.code, got.message());
                }
                if expected != json!(got.warnings) {
                    bail!("the warnings are {:#}", json!(got.warnings));
                }
            }
            Does::Now | Does::Eventually | Does::Never | Does::Gone => self.expectations(block).await?,
            Does::Advance(duration) => self.cluster.advance(*duration).await,
            Does::Forget => self.cluster.forget_history().await?,
            Does::StopNode(node) => {
                if !self.cluster.stop_node(node) {
                    bail!("there is no {node}");
                }
            }
            Does::Request => {
                self.answer = match request::parse(&block.text, &self.answer.body)? {
                    Ok(call) => self.request(call, &block.settings).await?,
                    Err(status) => Got::refused(&status),
                };
                if !answered && !self.answer.succeeded() {
                    bail!("refused with {}: {}", self.answer.code, self.answer.message());
                }
            }
            Does::Answer(code) => {
                let got = &self.answer;
                if code.unwrap_or(200).max(got.code) >= 300 && *code != Some(got.code) {
                    bail!("the answer is {}: {}", got.code, got.message());
                }
                for expected in block.documents()? {
                    hold(&expected, &got.body, "the answer")?;
                }
                let len = ["items", "events"].iter().find_map(|list| got.body[list].as_array()).map_or(0, Vec::len);
                if let Some(count) = block.settings.count.filter(|count| *count != len) {
                    bail!("the answer has {len} items, not {count}: {}", shown(&got.body));
                }
            }
            Does::Console => {
                if let Some(found) = console::check(self.cluster, block, self.rewrite).await? {
                    self.rewrites.push(found);
                }
            }
        }
        Ok(())
    }

    async fn request(&self, call: Call, settings: &Settings) -> Result<Got> {
        let caller = caller_of(settings);
        if call.verb != Verb::Watch {
            return Got::new(self.cluster.call(&caller, call).await);
        }
        // A watch is what it says until nothing more happens at this instant.
        let mut stream = match self.cluster.watch(&caller, call).await {
            Ok(stream) => stream,
            Err(status) => return Ok(Got::refused(&status)),
        };
        let mut events = Vec::new();
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_micros(10), stream.next()).await {
            events.push(match event {
                api::WatchEvent::Added(object) => json!({"type": "ADDED", "object": object.to_value()}),
                api::WatchEvent::Modified(object) => json!({"type": "MODIFIED", "object": object.to_value()}),
                api::WatchEvent::Deleted(object) => json!({"type": "DELETED", "object": object.to_value()}),
                api::WatchEvent::Bookmark { resource_version, initial_events_end } => json!({
                    "type": "BOOKMARK",
                    "object": {"metadata": {"resourceVersion": resource_version}},
                    "initialEventsEnd": initial_events_end,
                }),
                api::WatchEvent::Error(status) => json!({"type": "ERROR", "object": Got::refused(&status).body}),
            });
        }
        Ok(Got { code: 200, body: json!({"events": events}), warnings: Vec::new() })
    }

    /// Every document of the block is waited for, one after another.
    async fn expectations(&self, block: &Block) -> Result<()> {
        let documents = block.documents()?;
        if documents.is_empty() {
            bail!("there is no document");
        }
        for expected in &documents {
            let found = submit::found(self.cluster, expected).await?;
            let wait = block.settings.duration.unwrap_or_default();
            match block.does {
                Does::Now => {
                    let objects = self.objects(found, expected, &block.settings).await?;
                    matching(&objects, expected, block.settings.count).map_err(|why| self.told(why, &objects))?;
                }
                Does::Never => {
                    let seen = self.wait(found, expected, &block.settings, wait, |all| any(all, expected)).await?;
                    if seen.is_some() {
                        bail!("was never to be, and is after {}:\n{}", self.elapsed(), shown(expected));
                    }
                }
                Does::Gone => {
                    let gone = self.wait(found, expected, &block.settings, wait, |all| !any(all, expected)).await?;
                    if gone.is_none() {
                        bail!("still there after {wait:?}:\n{}", shown(expected));
                    }
                }
                _ => {
                    let count = block.settings.count;
                    let holds = |all: &[Value]| matching(all, expected, count).is_ok();
                    if self.wait(found, expected, &block.settings, wait, holds).await?.is_none() {
                        let objects = self.objects(found, expected, &block.settings).await?;
                        let why = matching(&objects, expected, count).err().unwrap_or_default();
                        return Err(self.told(format!("not within {wait:?}: {why}"), &objects));
                    }
                }
            }
        }
        Ok(())
    }

    fn elapsed(&self) -> String {
        self.cluster.clock().now().to_string()
    }

    /// Looks after every change of the kind until `holds`, or for that long. `None`: it never did.
    async fn wait(
        &self,
        found: Found,
        expected: &Value,
        settings: &Settings,
        wait: Duration,
        holds: impl Fn(&[Value]) -> bool,
    ) -> Result<Option<()>> {
        let watch = Call::new(Verb::Watch, collection(found, expected, settings));
        let mut changes = self.cluster.watch(&cluster::admin(), watch).await?;
        let deadline = self.cluster.clock().monotonic() + wait;
        loop {
            if holds(&self.objects(found, expected, settings).await?) {
                return Ok(Some(()));
            }
            match tokio::time::timeout_at(deadline, changes.next()).await {
                Err(_) => return Ok(None),
                Ok(Some(api::WatchEvent::Error(status))) => bail!("the watch ended: {status}"),
                Ok(Some(_)) => {}
                Ok(None) => {
                    let watch = Call::new(Verb::Watch, collection(found, expected, settings));
                    changes = self.cluster.watch(&cluster::admin(), watch).await?;
                }
            }
        }
    }

    async fn objects(&self, found: Found, expected: &Value, settings: &Settings) -> Result<Vec<Value>> {
        let call = Call::new(Verb::List, collection(found, expected, settings));
        let mut got = Got::new(self.cluster.call(&cluster::admin(), call).await)?;
        match got.body["items"].take() {
            Value::Array(items) => Ok(items),
            _ => bail!("no list: {}", got.message()),
        }
    }

    fn told(&self, why: String, objects: &[Value]) -> anyhow::Error {
        let names: Vec<&str> = objects.iter().filter_map(|o| o["metadata"]["name"].as_str()).take(NAMED_MAX).collect();
        anyhow::anyhow!("at {}: {why}\nobjects of the kind: {}: {}", self.elapsed(), objects.len(), names.join(", "))
    }

    /// The latest events that tell of trouble.
    async fn warnings(&self) -> String {
        let Ok(found) = catalogue::of_kind("v1", "Event") else { return String::new() };
        let call = Call::new(Verb::List, found.target(None));
        let Ok(answer) = self.cluster.call(&cluster::admin(), call).await else { return String::new() };
        let Ok(got) = Got::new(Ok(answer)) else { return String::new() };
        let events = got.body["items"].as_array().cloned().unwrap_or_default();
        let mut text = String::new();
        let warnings: Vec<&Value> = events.iter().filter(|event| event["type"] == "Warning").collect();
        for event in warnings.iter().rev().take(EVENTS_SHOWN_MAX) {
            let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let about = of(&event["involvedObject"]["name"]);
            text.push_str(&format!("\n  event of {about}: {}: {}", of(&event["reason"]), of(&event["message"])));
        }
        text
    }
}

fn collection(found: Found, expected: &Value, settings: &Settings) -> api::Target {
    let mut target = submit::target(found, expected, settings);
    target.name = None;
    target
}

fn with_last(block: &Block) -> Result<(Vec<Value>, Value)> {
    let mut documents = block.documents()?;
    let expected = documents.pop().context("what is expected is missing")?;
    Ok((documents, expected))
}

fn shown(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn hold(expected: &Value, actual: &Value, what: &str) -> Result<()> {
    let differences = compare::differences(expected, actual);
    if differences.is_empty() {
        return Ok(());
    }
    bail!("{what} differs:\n  {}\nit is {}", differences.join("\n  "), shown(actual));
}

fn any(objects: &[Value], expected: &Value) -> bool {
    objects.iter().any(|object| compare::differences(expected, object).is_empty())
}

/// Whether an object (or exactly `count` of them) holds what is expected; if not, why the nearest does not.
fn matching(objects: &[Value], expected: &Value, count: Option<usize>) -> Result<(), String> {
    let found: Vec<Vec<String>> = objects.iter().map(|object| compare::differences(expected, object)).collect();
    let holding = found.iter().filter(|why| why.is_empty()).count();
    match count {
        Some(count) if holding == count => Ok(()),
        Some(count) => Err(format!("{holding} objects hold, not {count}: {}", nearest(objects, &found))),
        None if holding > 0 => Ok(()),
        None => Err(nearest(objects, &found)),
    }
}

fn nearest(objects: &[Value], found: &[Vec<String>]) -> String {
    let candidates = objects.iter().zip(found).filter(|(_, why)| !why.is_empty());
    match candidates.min_by_key(|(_, why)| why.len()) {
        Some((object, why)) => {
            format!("nearest is {}:\n  {}", object["metadata"]["name"], why.join("\n  "))
        }
        None => "there is no such object".to_owned(),
    }
}

/// Runs a console line.
pub async fn command(cluster: &Cluster, line: &str) -> Result<String> {
    kubectl::run(cluster, line).await
}
