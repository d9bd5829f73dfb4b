//! What a namespace that is going away says of it.
//!
//! Upstream: pkg/controller/namespace/deletion/status_condition_utils.go.

use std::collections::BTreeMap;

use api::Timestamp;
use api::core::v1::{Namespace, NamespaceCondition};
use api::meta::v1::Time;
use client::{Client, Error};

use super::Remaining;

/// How one round of emptying went.
#[derive(Default)]
pub(super) struct Outcome {
    /// Why discovery is not complete.
    pub discovery: Option<String>,
    /// Which versions could not be parsed.
    pub parsing: Option<String>,
    /// Why objects could not be deleted, one for each resource.
    pub content: Vec<String>,
    pub remaining: Vec<Remaining>,
}

impl Outcome {
    /// Takes in how it went with one resource.
    pub fn take(&mut self, result: Result<Option<Remaining>, String>) {
        match result {
            Ok(remaining) => self.remaining.extend(remaining),
            Err(why) => self.content.push(why),
        }
    }

    /// Whether something may be left that is not known of.
    pub fn has_failed(&self) -> bool {
        self.discovery.is_some() || self.parsing.is_some() || !self.content.is_empty()
    }

    fn conditions(&self) -> [(&'static str, bool, &'static str, String); 5] {
        let mut content = self.content.clone();
        content.sort();
        let failed = (!content.is_empty()).then(|| {
            format!("Failed to delete all resource types, {} remaining: {}", content.len(), content.join(", "))
        });
        // With its dot even where the group is empty, as upstream has it.
        let left = |left: &Remaining| {
            format!("{}.{} has {} resource instances", left.kind.plural, left.kind.group, left.count)
        };
        let mut remaining: Vec<String> = self.remaining.iter().map(left).collect();
        remaining.sort();
        let remaining =
            (!remaining.is_empty()).then(|| format!("Some resources are remaining: {}", remaining.join(", ")));
        let mut by_finalizer: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, count) in self.remaining.iter().flat_map(|left| &left.finalizers) {
            *by_finalizer.entry(name).or_default() += count;
        }
        let held: Vec<String> =
            by_finalizer.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
        let held = (!held.is_empty())
            .then(|| format!("Some content in the namespace has finalizers remaining: {}", held.join(", ")));
        let condition = |type_, problem: Option<String>, bad, good, well: &str| match problem {
            Some(problem) => (type_, true, bad, problem),
            None => (type_, false, good, well.to_owned()),
        };
        [
            condition(
                "NamespaceDeletionDiscoveryFailure",
                self.discovery.clone(),
                "DiscoveryFailed",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            condition(
                "NamespaceDeletionGroupVersionParsingFailure",
                self.parsing.clone(),
                "GroupVersionParsingFailed",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            condition(
                "NamespaceDeletionContentFailure",
                failed,
                "ContentDeletionFailed",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            condition(
                "NamespaceContentRemaining",
                remaining,
                "SomeResourcesRemain",
                "ContentRemoved",
                "All content successfully removed",
            ),
            condition(
                "NamespaceFinalizersRemaining",
                held,
                "SomeFinalizersRemain",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ]
    }

    /// Sets the conditions; a condition's time changes with its status only.
    fn set(&self, conditions: &mut Vec<NamespaceCondition>, now: Timestamp) {
        for (type_, holds, reason, message) in self.conditions() {
            let status = if holds { "True" } else { "False" };
            let old = conditions.iter_mut().find(|condition| condition.type_ == type_);
            let since =
                old.as_ref().filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
            let new = NamespaceCondition {
                type_: type_.into(),
                status: status.into(),
                reason: Some(reason.into()),
                message: Some(message),
                last_transition_time: Some(since.unwrap_or(Time(now))),
            };
            match old {
                Some(old) => *old = new,
                None => conditions.push(new),
            }
        }
    }
}

/// Writes the conditions, if they tell anything.
pub(super) async fn report(
    namespace: &Namespace,
    outcome: &Outcome,
    now: Timestamp,
    client: &Client,
) -> Result<(), Error> {
    let mut status = namespace.status.clone().unwrap_or_default();
    outcome.set(status.conditions.get_or_insert_default(), now);
    let quiet = !outcome.has_failed() && outcome.remaining.is_empty();
    if Some(&status) == namespace.status.as_ref()
        || (quiet && namespace.status.as_ref().is_none_or(|s| s.conditions.is_none()))
    {
        // Nothing to tell, or nobody who will read it before the namespace is gone.
        return Ok(());
    }
    let mut new = namespace.clone();
    new.status = Some(status);
    match client.update_status(new).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(outcome: &Outcome) -> Vec<String> {
        let mut conditions = Vec::new();
        outcome.set(&mut conditions, Timestamp::UNIX_EPOCH);
        let one = |c: &NamespaceCondition| {
            format!("{} {} {}: {}", c.type_, c.status, c.reason.as_deref().unwrap(), c.message.as_deref().unwrap())
        };
        conditions.iter().map(one).collect()
    }

    #[test]
    fn failures_are_told_in_upstreams_words() {
        let kind = api::Kind::custom("example.com", "v1", "Cat", "cats");
        let finalizers = BTreeMap::from([("a.b/c".to_owned(), 2)]);
        let mut outcome = Outcome {
            discovery: Some("Discovery failed for some groups, 1 failing: it is away".into()),
            parsing: Some("unexpected GroupVersion string: a/b/c".into()),
            ..Outcome::default()
        };
        outcome.take(Ok(Some(Remaining { kind, count: 3, finalizers })));
        outcome.take(Err("z".into()));
        outcome.take(Err("a".into()));
        assert_eq!(
            shown(&outcome),
            [
                "NamespaceDeletionDiscoveryFailure True DiscoveryFailed: Discovery failed for some groups, 1 failing: \
                 it is away",
                "NamespaceDeletionGroupVersionParsingFailure True GroupVersionParsingFailed: unexpected GroupVersion \
                 string: a/b/c",
                "NamespaceDeletionContentFailure True ContentDeletionFailed: Failed to delete all resource types, 2 \
                 remaining: a, z",
                "NamespaceContentRemaining True SomeResourcesRemain: Some resources are remaining: cats.example.com \
                 has 3 resource instances",
                "NamespaceFinalizersRemaining True SomeFinalizersRemain: Some content in the namespace has finalizers \
                 remaining: a.b/c in 2 resource instances",
            ]
        );
        assert!(outcome.has_failed());
    }

    #[test]
    fn a_conditions_time_changes_with_its_status() {
        let later = Timestamp::from_second(60).unwrap();
        let mut conditions = Vec::new();
        Outcome::default().set(&mut conditions, Timestamp::UNIX_EPOCH);
        let broken = Outcome { discovery: Some("x".into()), ..Outcome::default() };
        broken.set(&mut conditions, later);
        assert_eq!(conditions[0].last_transition_time, Some(Time(later)));
        assert_eq!(conditions[1].last_transition_time, Some(Time(Timestamp::UNIX_EPOCH)));
    }
}
