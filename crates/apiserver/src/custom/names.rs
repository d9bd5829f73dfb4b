//! Which names a definition gets, and what its conditions say: the first to ask for a name in a group has it.
//!
//! Upstream: apiextensions-apiserver/pkg/controller/status.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::Timestamp;
use api::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition, CustomResourceDefinitionNames,
    CustomResourceDefinitionStatus,
};
use api::meta::v1::Time;

pub(super) const TERMINATING: &str = "Terminating";

/// Whether a condition is true.
pub(super) fn is_true(crd: &CustomResourceDefinition, type_: &str) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Sets a condition; its time changes with its status only.
pub(super) fn set(
    status: &mut CustomResourceDefinitionStatus,
    type_: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter_mut().find(|condition| condition.type_ == type_);
    let since = old.as_ref().filter(|old| old.status == value).and_then(|old| old.last_transition_time.clone());
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let new = CustomResourceDefinitionCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..Default::default()
    };
    match old {
        Some(old) => {
            let observed = old.observed_generation;
            *old = new;
            old.observed_generation = observed;
        }
        None => conditions.push(new),
    }
}

/// The names that a definition has been given; they are empty while it has none.
#[derive(Default, Clone)]
pub(super) struct Given {
    pub names: CustomResourceDefinitionNames,
    /// Whether those are all that it asks for.
    pub accepted: bool,
}

impl From<&CustomResourceDefinitionStatus> for Given {
    fn from(status: &CustomResourceDefinitionStatus) -> Self {
        let accepted =
            status.conditions.iter().flatten().any(|one| one.type_ == "NamesAccepted" && one.status == "True");
        Self { names: status.accepted_names.clone().unwrap_or_default(), accepted }
    }
}

/// The names that are given, group by group and definition by definition: definitions are many and large, and all of
/// them are asked for whenever one comes or changes.
#[derive(Default)]
pub(super) struct Book(HashMap<String, BTreeMap<String, Given>>);

impl Book {
    pub fn set(&mut self, group: &str, definition: &str, given: Given) {
        match self.0.get_mut(group) {
            Some(all) => drop(all.insert(definition.to_owned(), given)),
            None => drop(self.0.insert(group.to_owned(), BTreeMap::from([(definition.to_owned(), given)]))),
        }
    }

    pub fn remove(&mut self, group: &str, definition: &str) {
        let Some(all) = self.0.get_mut(group) else { return };
        all.remove(definition);
        if all.is_empty() {
            self.0.remove(group);
        }
    }

    /// What the others of its group have.
    pub fn others<'a>(
        &'a self,
        group: &str,
        definition: &'a str,
    ) -> impl Iterator<Item = &'a CustomResourceDefinitionNames> {
        let all = self.0.get(group).into_iter().flatten().filter(move |(own, _)| *own != definition);
        all.map(|(_, given)| &given.names)
    }

    /// The definitions of a group that wait for a name.
    pub fn waiting(&self, group: &str) -> Vec<String> {
        let all = self.0.get(group).into_iter().flatten();
        all.filter(|(_, given)| !given.accepted).map(|(own, _)| own.clone()).collect()
    }
}

/// The names that others of the group have.
#[derive(Default)]
struct Taken<'a> {
    resources: BTreeSet<&'a str>,
    kinds: BTreeSet<&'a str>,
}

impl<'a> Taken<'a> {
    fn by(others: impl Iterator<Item = &'a CustomResourceDefinitionNames>) -> Self {
        let mut taken = Self::default();
        for names in others {
            taken.resources.insert(&names.plural);
            taken.resources.extend(names.singular.as_deref());
            taken.resources.extend(names.short_names.iter().flatten().map(String::as_str));
            taken.kinds.insert(&names.kind);
            taken.kinds.extend(names.list_kind.as_deref());
        }
        taken
    }
}

fn conflict(wanted: &str, own: &str, taken: &BTreeSet<&str>) -> Option<String> {
    (wanted != own && !wanted.is_empty() && taken.contains(wanted)).then(|| format!("{wanted:?} is already in use"))
}

/// The status that the definition is to have; `others`: the names of the other definitions of its group.
pub(super) fn plan<'a>(
    crd: &CustomResourceDefinition,
    others: impl Iterator<Item = &'a CustomResourceDefinitionNames>,
    now: Timestamp,
) -> CustomResourceDefinitionStatus {
    let taken = Taken::by(others);
    let mut status = crd.status.clone().unwrap_or_default();
    let wanted = &crd.spec.names;
    let own = status.accepted_names.clone().unwrap_or_default();
    let mut accepted = own.clone();
    let mut problem: Option<(&str, String)> = None;
    match conflict(&wanted.plural, &own.plural, &taken.resources) {
        Some(why) => problem = Some(("PluralConflict", why)),
        None => accepted.plural.clone_from(&wanted.plural),
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match conflict(&text(&wanted.singular), &text(&own.singular), &taken.resources) {
        Some(why) => problem = Some(("SingularConflict", why)),
        None => accepted.singular.clone_from(&wanted.singular),
    }
    let had: BTreeSet<&str> = own.short_names.iter().flatten().map(String::as_str).collect();
    let short = wanted.short_names.as_deref().unwrap_or_default();
    let clash: Vec<String> = short
        .iter()
        .filter(|name| !had.contains(name.as_str()) && taken.resources.contains(name.as_str()))
        .map(|name| format!("{name:?} is already in use"))
        .collect();
    match clash.as_slice() {
        [] => accepted.short_names.clone_from(&wanted.short_names),
        [one] => problem = Some(("ShortNamesConflict", one.clone())),
        many => problem = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    match conflict(&wanted.kind, &own.kind, &taken.kinds) {
        Some(why) => problem = Some(("KindConflict", why)),
        None => accepted.kind.clone_from(&wanted.kind),
    }
    match conflict(&text(&wanted.list_kind), &text(&own.list_kind), &taken.kinds) {
        Some(why) => problem = Some(("ListKindConflict", why)),
        None => accepted.list_kind.clone_from(&wanted.list_kind),
    }
    accepted.categories.clone_from(&wanted.categories);
    conclude(crd, &mut status, accepted, problem, now);
    status
}

fn conclude(
    crd: &CustomResourceDefinition,
    status: &mut CustomResourceDefinitionStatus,
    accepted: CustomResourceDefinitionNames,
    problem: Option<(&str, String)>,
    now: Timestamp,
) {
    status.accepted_names = Some(accepted);
    match &problem {
        None => set(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
        Some((reason, why)) => set(status, "NamesAccepted", "False", reason, why, now),
    }
    if !is_true(crd, "Established") {
        if problem.is_none() {
            let why = "the initial names have been accepted";
            set(status, "Established", "True", "InitialNamesAccepted", why, now);
        } else {
            set(status, "Established", "False", "NotAccepted", "not all names are accepted", now);
        }
    }
    let stored = crd.spec.versions.iter().find(|version| version.storage).map(|version| version.name.clone());
    let versions = status.stored_versions.get_or_insert_default();
    versions.extend(stored.filter(|name| !versions.contains(name)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn crd(plural: &str, short: &[&str], kind: &str) -> CustomResourceDefinition {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.to_lowercase(), "shortNames": short, "kind": kind,
                    "listKind": format!("{kind}List")},
                "versions": [{"name": "v1", "served": true, "storage": true}],
            },
        }))
        .unwrap()
    }

    fn names_of(crd: &CustomResourceDefinition) -> impl Iterator<Item = &CustomResourceDefinitionNames> {
        crd.status.as_ref().and_then(|status| status.accepted_names.as_ref()).into_iter()
    }

    fn condition(status: &CustomResourceDefinitionStatus, type_: &str) -> String {
        let found = status.conditions.iter().flatten().find(|condition| condition.type_ == type_).unwrap();
        format!("{} {}: {}", found.status, found.reason.as_deref().unwrap(), found.message.as_deref().unwrap())
    }

    #[test]
    fn the_first_to_ask_has_the_name() {
        let now = Timestamp::UNIX_EPOCH;
        let mut first = crd("cats", &["c"], "Cat");
        first.status = Some(plan(&first, std::iter::empty(), now));
        let status = first.status.clone().unwrap();
        assert_eq!(condition(&status, "NamesAccepted"), "True NoConflicts: no conflicts found");
        assert_eq!(
            condition(&status, "Established"),
            "True InitialNamesAccepted: the initial names have been accepted"
        );
        assert_eq!(status.stored_versions, Some(vec!["v1".to_owned()]));
        assert_eq!(plan(&first, std::iter::empty(), now), status, "nothing more to do");
        let second = crd("cows", &["c"], "Cow");
        let status = plan(&second, names_of(&first), now);
        assert_eq!(condition(&status, "NamesAccepted"), "False ShortNamesConflict: \"c\" is already in use");
        assert_eq!(condition(&status, "Established"), "False NotAccepted: not all names are accepted");
        let status = plan(&crd("kittens", &[], "Cat"), names_of(&first), now);
        assert_eq!(condition(&status, "NamesAccepted"), "False ListKindConflict: \"CatList\" is already in use");
    }

    #[test]
    fn a_book_knows_who_has_which_names_and_who_waits() {
        let given = |plural: &str| Given {
            names: CustomResourceDefinitionNames { plural: plural.to_owned(), ..Default::default() },
            accepted: !plural.is_empty(),
        };
        let mut book = Book::default();
        book.set("a.io", "cats.a.io", given("cats"));
        book.set("a.io", "cows.a.io", given(""));
        book.set("b.io", "cats.b.io", given("cats"));
        let plurals = |book: &Book, group: &str, but: &str| {
            book.others(group, but).map(|names| names.plural.clone()).collect::<Vec<_>>()
        };
        assert_eq!(plurals(&book, "a.io", "cows.a.io"), ["cats"]);
        assert_eq!(plurals(&book, "a.io", "cats.a.io"), [""]);
        assert_eq!((book.waiting("a.io"), book.waiting("b.io")), (vec!["cows.a.io".to_owned()], Vec::new()));
        book.set("a.io", "cows.a.io", given("cows"));
        book.remove("b.io", "cats.b.io");
        assert!(book.waiting("a.io").is_empty() && plurals(&book, "b.io", "").is_empty());
    }

    #[test]
    fn what_is_established_stays_so() {
        let now = Timestamp::UNIX_EPOCH;
        let mut first = crd("cats", &["c"], "Cat");
        first.status = Some(plan(&first, std::iter::empty(), now));
        let mut second = crd("cows", &[], "Cow");
        second.status = Some(plan(&second, names_of(&first), now));
        second.spec.names.short_names = Some(vec!["c".to_owned()]);
        let status = plan(&second, names_of(&first), now);
        assert_eq!(condition(&status, "NamesAccepted"), "False ShortNamesConflict: \"c\" is already in use");
        assert!(condition(&status, "Established").starts_with("True"));
        assert_eq!(status.accepted_names.unwrap().short_names.unwrap_or_default(), Vec::<String>::new());
    }
}
