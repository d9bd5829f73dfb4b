//! The APIServices of what this server serves itself: made, kept and removed. Those of built-in versions are looked
//! after once, at the start; those of custom resources always. Without the label an APIService is its owner's affair.
//!
//! Upstream: kube-aggregator/pkg/controllers/autoregister, pkg/controlplane/controller/crdregistration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::apiregistration::v1::{APIService, APIServiceSpec};
use api::meta::v1::{DeleteOptions, ObjectMeta};
use api::{Body, Call, Object, Options, Status, Target, Typed, Verb};
use futures_util::future::join_all;

use super::priority::{self, Priority};
use crate::{Caller, Server};

/// Says that an APIService is looked after, and when.
pub const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
const MANAGER: &str = "kube-apiserver";

/// When an APIService is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    OnStart,
    Always,
}

impl Keep {
    const fn label(self) -> &'static str {
        match self {
            Self::OnStart => "onstart",
            Self::Always => "true",
        }
    }
}

/// A version that is served here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub group: String,
    pub version: String,
    pub priority: Priority,
    pub keep: Keep,
}

impl Wanted {
    fn spec(&self) -> APIServiceSpec {
        APIServiceSpec {
            group: (!self.group.is_empty()).then(|| self.group.clone()),
            version: Some(self.version.clone()),
            group_priority_minimum: self.priority.group,
            version_priority: self.priority.version,
            ..APIServiceSpec::default()
        }
    }

    fn object(&self) -> APIService {
        let labels = BTreeMap::from([(LABEL.to_owned(), self.keep.label().to_owned())]);
        let name = name_of(&self.group, &self.version);
        let metadata = ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() };
        APIService { metadata, spec: Some(self.spec()), status: None }
    }
}

/// The name of a version's APIService.
pub fn name_of(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// What brings an APIService nearer to what is wanted.
#[derive(Debug)]
pub enum Step {
    Create(Box<APIService>),
    Update(Box<APIService>),
    Delete,
}

/// Whether two specs are the same but for how absent values are written.
fn same_spec(own: &APIServiceSpec, wanted: &APIServiceSpec) -> bool {
    let bundle = own.ca_bundle.as_ref().is_none_or(|bundle| bundle.0.is_empty());
    own.service.is_none()
        && bundle
        && own.insecure_skip_tls_verify != Some(true)
        && own.group.as_deref().unwrap_or_default() == wanted.group.as_deref().unwrap_or_default()
        && own.version == wanted.version
        && own.group_priority_minimum == wanted.group_priority_minimum
        && own.version_priority == wanted.version_priority
}

/// What is to be done about one APIService; `starting`: the server has just begun.
pub fn plan(existing: Option<&APIService>, wanted: Option<&Wanted>, starting: bool) -> Option<Step> {
    if !starting && wanted.is_some_and(|wanted| wanted.keep == Keep::OnStart) {
        return None;
    }
    let Some(existing) = existing else {
        return wanted.map(|wanted| Step::Create(Box::new(wanted.object())));
    };
    let due = match existing.label(LABEL) {
        Some("true") => true,
        Some("onstart") => starting,
        _ => false,
    };
    if !due {
        return None;
    }
    let Some(wanted) = wanted else { return Some(Step::Delete) };
    let spec = wanted.spec();
    if existing.spec.as_ref().is_some_and(|own| same_spec(own, &spec)) {
        return None;
    }
    let mut next = existing.clone();
    next.spec = Some(spec);
    Some(Step::Update(Box::new(next)))
}

/// Does a step. That somebody else was faster is no error: the event comes.
///
/// # Errors
/// Why the write was refused.
pub async fn act(server: &Server, caller: &Arc<Caller>, name: &str, step: Step) -> Result<(), Status> {
    let named = || Target::kind(APIService::KIND).named(name);
    let (verb, target, body) = match step {
        Step::Create(object) => (Verb::Create, Target::kind(APIService::KIND), Body::Object(Arc::new(*object))),
        Step::Update(object) => (Verb::Update, named(), Body::Object(Arc::new(*object))),
        Step::Delete => (Verb::Delete, named(), Body::Delete(Box::<DeleteOptions>::default())),
    };
    let options = Options { field_manager: Some(MANAGER.to_owned()), ..Options::default() };
    match server.call(caller, Call { verb, target, options, body }).await {
        Ok(_) => Ok(()),
        Err(status) if matches!(status.code(), 404 | 409) => Ok(()),
        Err(status) => Err(status),
    }
}

/// Looks, once, after the APIServices of built-in versions.
///
/// # Errors
/// The first write that was refused.
pub async fn at_start(server: &Server, caller: &Arc<Caller>) -> Result<(), Status> {
    let lookup = server.lookup();
    if lookup.catalog().of_kind(APIService::KIND).is_none() {
        return Ok(());
    }
    let options = server.options();
    let strategies = options.enablement.strategies(options.strategies);
    let kinds = strategies.iter().map(|one| one.kind());
    let shown = &options.enablement;
    let served: BTreeSet<_> = kinds
        .filter(|own| shown.serves(own.group, own.version, own.plural))
        .map(|own| (own.group, own.version))
        .collect();
    let wanted = served.into_iter().filter_map(|(group, version)| {
        let priority = priority::built_in(group, version)?;
        let wanted = Wanted { group: group.to_owned(), version: version.to_owned(), priority, keep: Keep::OnStart };
        Some((name_of(group, version), wanted))
    });
    let wanted: BTreeMap<String, Wanted> = wanted.collect();
    let existing = lookup.list::<APIService>(None);
    // What custom resources want is not known yet: those stay as they are.
    let onstart = existing.iter().filter(|one| one.label(LABEL) == Some("onstart")).map(|one| one.name().to_owned());
    let names: BTreeSet<String> = wanted.keys().cloned().chain(onstart).collect();
    let steps = names.into_iter().filter_map(|name| {
        let own = existing.iter().find(|one| one.name() == name);
        let step = plan(own.map(|own| &**own), wanted.get(&name), true)?;
        Some((name, step))
    });
    let done = join_all(steps.map(|(name, step)| async move { act(server, caller, &name, step).await })).await;
    done.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(keep: Keep) -> Wanted {
        Wanted { group: "example.com".into(), version: "v1".into(), priority: priority::CUSTOM, keep }
    }

    fn existing(label: Option<&str>, group_priority: i32) -> APIService {
        let mut object = wanted(Keep::Always).object();
        object.metadata.labels = label.map(|label| BTreeMap::from([(LABEL.to_owned(), label.to_owned())]));
        object.spec.as_mut().unwrap().group_priority_minimum = group_priority;
        object
    }

    fn word(step: Option<Step>) -> &'static str {
        match step {
            None => "-",
            Some(Step::Create(_)) => "create",
            Some(Step::Update(_)) => "update",
            Some(Step::Delete) => "delete",
        }
    }

    #[test]
    fn the_table_of_upstream() {
        // Label of what is there (`""`: none, `none`: nothing there), then for nothing, onstart, always wanted: at the
        // start and later.
        let table = [
            ("none", ["-", "create", "create"], ["-", "-", "create"]),
            ("", ["-", "-", "-"], ["-", "-", "-"]),
            ("onstart", ["delete", "update", "update"], ["-", "-", "-"]),
            ("true", ["delete", "update", "update"], ["delete", "-", "update"]),
        ];
        for (label, starting, later) in table {
            let own = (label != "none").then(|| existing((!label.is_empty()).then_some(label), 1));
            for (starting, expected) in [(true, starting), (false, later)] {
                let each = [None, Some(wanted(Keep::OnStart)), Some(wanted(Keep::Always))];
                let planned = each.map(|wanted| word(plan(own.as_ref(), wanted.as_ref(), starting)));
                assert_eq!(planned, expected, "{label} {starting}");
            }
        }
    }

    #[test]
    fn what_is_right_is_left_alone() {
        assert_eq!(word(plan(Some(&existing(Some("true"), 1000)), Some(&wanted(Keep::Always)), true)), "-");
    }
}
