//! `pintle status --security`: what a hardening guide asks, looked at as it is now.
//!
//! The numbers are those of the CIS Kubernetes Benchmark v1.12; the words are ours. Facts are collected first (files,
//! the running server's own words, what it does when it is asked, objects of the API), then each check decides on them
//! alone. A check that could not be made says so, and is no pass.

mod api_server;
mod audit_log;
mod authentication;
mod authority;
mod components;
mod control_plane_files;
mod doors;
mod facts;
mod general;
mod grants;
mod kubelet;
mod network;
mod node_files;
mod pod_security;
mod rbac;
mod secrets;
mod store;

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::{block_on, status};
use crate::cli::StatusArgs;
use crate::layout::Layout;
use facts::Facts;

/// Offenders that one check names; what is beyond is found when these are mended.
const OFFENDERS_LEN_MAX: usize = 20;

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be; what was seen.
    Pass(String),
    /// It is not, and this command mends it.
    Fail { why: String, mend: String },
    /// Somebody must look at it, and this command mends it if it is not meant.
    Warn { why: String, mend: String },
    /// There is nothing to look at, and why.
    NotApplicable(String),
}

/// A verdict, or why there is none.
pub type Decided = Result<Verdict, String>;

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Self::Pass(_) => "PASS",
            Self::Fail { .. } => "FAIL",
            Self::Warn { .. } => "WARN",
            Self::NotApplicable(_) => "NOT APPLICABLE",
        }
    }

    fn why(&self) -> &str {
        match self {
            Self::Pass(why) | Self::NotApplicable(why) | Self::Fail { why, .. } | Self::Warn { why, .. } => why,
        }
    }

    fn mend(&self) -> Option<&str> {
        match self {
            Self::Fail { mend, .. } | Self::Warn { mend, .. } => Some(mend),
            Self::Pass(_) | Self::NotApplicable(_) => None,
        }
    }
}

pub fn pass(seen: impl Into<String>) -> Decided {
    Ok(Verdict::Pass(seen.into()))
}

pub fn fail(why: impl Into<String>, mend: impl Into<String>) -> Decided {
    Ok(Verdict::Fail { why: why.into(), mend: mend.into() })
}

pub fn warn(why: impl Into<String>, mend: impl Into<String>) -> Decided {
    Ok(Verdict::Warn { why: why.into(), mend: mend.into() })
}

pub fn not_applicable(why: impl Into<String>) -> Decided {
    Ok(Verdict::NotApplicable(why.into()))
}

/// One offender: what is wrong with it, and what mends it.
pub type Offender = (String, String);

/// What all offenders come to: their faults, and their remedies in one line.
fn joined(offenders: Vec<Offender>) -> Option<(String, String)> {
    let more = offenders.len().saturating_sub(OFFENDERS_LEN_MAX);
    let (mut whys, mut mends) = (Vec::new(), Vec::new());
    for (why, mend) in offenders.into_iter().take(OFFENDERS_LEN_MAX) {
        whys.push(why);
        if !mends.contains(&mend) {
            mends.push(mend);
        }
    }
    if more > 0 {
        whys.push(format!("and {more} more"));
    }
    (!whys.is_empty()).then(|| (whys.join("; "), mends.join(" && ")))
}

/// Fails with what offends; passes with `seen` if nothing does.
pub fn fail_on(offenders: Vec<Offender>, seen: &str) -> Decided {
    joined(offenders).map_or_else(|| pass(seen), |(why, mend)| fail(why, mend))
}

/// Warns of what offends; passes with `seen` if nothing does.
pub fn warn_of(offenders: Vec<Offender>, seen: &str) -> Decided {
    joined(offenders).map_or_else(|| pass(seen), |(why, mend)| warn(why, mend))
}

/// One recommendation.
pub struct Check {
    pub id: &'static str,
    pub title: &'static str,
    /// Pure.
    pub decide: fn(&Facts) -> Decided,
}

/// Recommendations that belong together.
pub struct Group {
    pub id: &'static str,
    pub title: &'static str,
    pub checks: &'static [Check],
}

/// Every group, in the benchmark's order.
static ALL: &[&Group] = &[
    &control_plane_files::GROUP,
    &api_server::GROUP,
    &components::CONTROLLER_MANAGER,
    &components::SCHEDULER,
    &store::GROUP,
    &authentication::GROUP,
    &audit_log::GROUP,
    &node_files::GROUP,
    &kubelet::GROUP,
    &kubelet::PROXY,
    &rbac::GROUP,
    &pod_security::GROUP,
    &network::GROUP,
    &secrets::GROUP,
    &general::ADMISSION,
    &general::GROUP,
];

/// A check with what came of it.
struct Line {
    check: &'static Check,
    verdict: Verdict,
}

fn decide(check: &'static Check, facts: &Facts) -> Line {
    let verdict = (check.decide)(facts).unwrap_or_else(|why| Verdict::Warn {
        why: format!("could not be checked: {why}"),
        mend: format!("sudo pintle status --security --data-dir {}", facts.data_dir.display()),
    });
    Line { check, verdict }
}

/// Every group with its lines.
fn report(facts: &Facts) -> Vec<(&'static Group, Vec<Line>)> {
    ALL.iter().map(|group| (*group, group.checks.iter().map(|check| decide(check, facts)).collect())).collect()
}

fn text(report: &[(&Group, Vec<Line>)]) -> String {
    let mut text = String::new();
    for (group, lines) in report {
        text.push_str(&format!("{} {}\n", group.id, group.title));
        for Line { check, verdict } in lines {
            text.push_str(&format!("  {:<7} {:<14}  {}\n", check.id, verdict.word(), check.title));
            if !matches!(verdict, Verdict::Pass(_)) {
                text.push_str(&format!("{:26}{}\n", "", verdict.why()));
            }
            if let Some(mend) = verdict.mend() {
                text.push_str(&format!("{:26}$ {mend}\n", ""));
            }
        }
    }
    text
}

fn as_json(report: &[(&Group, Vec<Line>)]) -> Value {
    let lines = report.iter().flat_map(|(group, lines)| lines.iter().map(move |line| (group, line)));
    let checks: Vec<Value> = lines
        .map(|(group, Line { check, verdict })| {
            json!({
                "group": group.id,
                "id": check.id,
                "title": check.title,
                "result": verdict.word(),
                "why": verdict.why(),
                "mend": verdict.mend(),
            })
        })
        .collect();
    json!({"benchmark": "CIS Kubernetes Benchmark v1.12", "checks": checks})
}

/// How many of each result there are, in words.
fn counts(report: &[(&Group, Vec<Line>)]) -> ([usize; 4], String) {
    let words = ["PASS", "FAIL", "WARN", "NOT APPLICABLE"];
    let count = |word: &str| report.iter().flat_map(|(_, lines)| lines).filter(|l| l.verdict.word() == word).count();
    let counts = words.map(count);
    let text = words.iter().zip(counts).map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ");
    (counts, text)
}

pub fn run(arguments: &StatusArgs) -> Result<ExitCode> {
    let layout = Layout::new(&arguments.place.data_dir);
    let facts = block_on(async { facts::collect(&layout, status::transport(&layout)?).await })?;
    let report = report(&facts);
    let ([_, failed, warned, _], words) = counts(&report);
    if arguments.output.as_deref() == Some("json") {
        println!("{:#}", as_json(&report));
    } else {
        print!("{}", text(&report));
        println!("{words}");
        println!("`pintle server` names what to change at the next start, in place of the same flag; keep the others.");
    }
    Ok(if failed + warned == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests;
