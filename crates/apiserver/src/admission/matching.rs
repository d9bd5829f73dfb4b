//! Which requests a webhook or a policy is asked about: rules, selectors, and equivalent forms of a resource.
//! Compiled once for each version of a configuration.

use std::sync::Arc;

use api::admissionregistration::v1::{NamedRuleWithOperations, RuleWithOperations};
use api::core::v1::Namespace;
use api::meta::v1;
use api::{LabelSelector, Status};

use super::{Operation, Request};
use crate::catalog::Resource;

/// One rule of either kind.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    namespaced: Option<bool>,
    names: Vec<String>,
}

fn split(resource: &str) -> (String, String) {
    let (main, sub) = resource.split_once('/').unwrap_or((resource, ""));
    (main.to_owned(), sub.to_owned())
}

fn scope(text: Option<&str>) -> Option<bool> {
    match text {
        Some("Namespaced") => Some(true),
        Some("Cluster") => Some(false),
        _ => None,
    }
}

impl From<&RuleWithOperations> for Rule {
    fn from(rule: &RuleWithOperations) -> Self {
        Self {
            operations: rule.operations.clone().unwrap_or_default(),
            groups: rule.api_groups.clone().unwrap_or_default(),
            versions: rule.api_versions.clone().unwrap_or_default(),
            resources: rule.resources.iter().flatten().map(|name| split(name)).collect(),
            namespaced: scope(rule.scope.as_deref()),
            names: Vec::new(),
        }
    }
}

impl From<&NamedRuleWithOperations> for Rule {
    fn from(rule: &NamedRuleWithOperations) -> Self {
        Self {
            operations: rule.operations.clone().unwrap_or_default(),
            groups: rule.api_groups.clone().unwrap_or_default(),
            versions: rule.api_versions.clone().unwrap_or_default(),
            resources: rule.resources.iter().flatten().map(|name| split(name)).collect(),
            namespaced: scope(rule.scope.as_deref()),
            names: rule.resource_names.clone().unwrap_or_default(),
        }
    }
}

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

impl Rule {
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        let sub = |(main, sub): &(String, String)| {
            (main == "*" || main == asked.resource) && (sub == "*" || sub == asked.subresource)
        };
        // A namespace is no namespaced object, though it is within itself.
        let own = asked.group.is_empty() && asked.resource == "namespaces";
        let namespaced = !asked.namespace.is_empty() && !own;
        has(&self.operations, asked.operation.as_str())
            && has(&self.groups, asked.group)
            && has(&self.versions, asked.version)
            && self.resources.iter().any(sub)
            && self.namespaced.is_none_or(|wanted| wanted == namespaced)
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }
}

/// The form in which a webhook or policy is asked: the request's own, or an equivalent one.
#[derive(Clone)]
pub struct Form {
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    /// `None`: as it came.
    pub converted: Option<Arc<Resource>>,
}

/// Rules and selectors of a webhook, policy or binding.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    pub rules: Vec<Rule>,
    pub excluded: Vec<Rule>,
    pub equivalent: bool,
    pub namespaces: Selector,
    pub objects: Selector,
    /// Without rules it is about everything.
    pub open: bool,
}

/// A label selector, or why it is none.
#[derive(Debug, Clone)]
pub struct Selector(Result<LabelSelector, String>);

impl Default for Selector {
    fn default() -> Self {
        Self(Ok(LabelSelector::everything()))
    }
}

impl From<Option<&v1::LabelSelector>> for Selector {
    fn from(selector: Option<&v1::LabelSelector>) -> Self {
        selector.map_or_else(Self::default, |selector| Self(LabelSelector::from_api(Some(selector))))
    }
}

impl Selector {
    fn get(&self) -> Result<&LabelSelector, Status> {
        self.0.as_ref().map_err(Status::internal)
    }
}

impl Matcher {
    /// Matches every request.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// The form in which it is to be asked about the request, if at all.
    ///
    /// # Errors
    /// 404 if the request's namespace is not there; 500 if a selector cannot be read.
    pub async fn matches(&self, request: &Request<'_>) -> Result<Option<Form>, Status> {
        let Some(form) = self.form(request) else { return Ok(None) };
        Ok((self.selects_namespace(request).await? && self.selects_object(request)?).then_some(form))
    }

    fn form(&self, request: &Request<'_>) -> Option<Form> {
        let own = asked(request, request.group, request.version, request.resource);
        let form = |resource: &Arc<Resource>, converted: bool| Form {
            group: resource.group(),
            version: resource.kind().version,
            resource: resource.plural(),
            converted: converted.then(|| resource.clone()),
        };
        if self.excluded.iter().any(|rule| rule.matches(&own)) {
            return None;
        }
        let catalog = request.lookup().catalog();
        let resource = catalog.find(request.group, request.version, request.resource)?;
        if (self.open && self.rules.is_empty()) || self.rules.iter().any(|rule| rule.matches(&own)) {
            return Some(form(&resource, false));
        }
        if !self.equivalent {
            return None;
        }
        let equivalents = catalog.equivalents(&resource);
        let asked_as = |other: &Arc<Resource>| asked(request, other.group(), other.kind().version, other.plural());
        if equivalents.iter().any(|other| self.excluded.iter().any(|rule| rule.matches(&asked_as(other)))) {
            return None;
        }
        let found = equivalents.iter().find(|other| self.rules.iter().any(|rule| rule.matches(&asked_as(other))));
        found.map(|other| form(other, true))
    }

    async fn selects_namespace(&self, request: &Request<'_>) -> Result<bool, Status> {
        let selector = self.namespaces.get()?;
        let of_itself = request.group.is_empty() && request.resource == "namespaces";
        if selector.is_everything() || (request.namespace.is_empty() && !of_itself) {
            return Ok(true);
        }
        if of_itself && request.subresource.is_empty() && request.operation != Operation::Delete {
            let labels = request.object.as_ref().and_then(|object| object.metadata().labels.as_ref());
            return Ok(selector.matches_labels(labels));
        }
        let name = if of_itself { request.name } else { request.namespace };
        let namespace = namespace(request, name).await?;
        Ok(selector.matches_labels(namespace.metadata.labels.as_ref()))
    }

    fn selects_object(&self, request: &Request<'_>) -> Result<bool, Status> {
        let selector = self.objects.get()?;
        if selector.is_everything() {
            return Ok(true);
        }
        let new = request.object.as_ref().map(|object| object.metadata().labels.as_ref());
        let old = request.old.map(|object| object.metadata().labels.as_ref());
        Ok([new, old].into_iter().flatten().any(|labels| selector.matches_labels(labels)))
    }
}

fn asked<'a>(request: &Request<'a>, group: &'a str, version: &'a str, resource: &'a str) -> Asked<'a> {
    Asked {
        operation: request.operation,
        group,
        version,
        resource,
        subresource: request.subresource,
        namespace: request.namespace,
        name: request.name,
    }
}

/// A namespace, from the store if the cache has none yet.
///
/// # Errors
/// 404.
pub async fn namespace(request: &Request<'_>, name: &str) -> Result<Arc<Namespace>, Status> {
    if let Some(found) = request.lookup().get::<Namespace>("", name) {
        return Ok(found);
    }
    let live = request.lookup().get_live::<Namespace>("", name).await?;
    live.ok_or_else(|| Status::not_found("", "namespaces", name))
}

/// Configurations of admission are beyond admission by webhooks and policies: a bad one must stay removable.
pub fn is_exempt(group: &str, resource: &str) -> bool {
    group == "admissionregistration.k8s.io"
        && matches!(
            resource,
            "validatingwebhookconfigurations"
                | "mutatingwebhookconfigurations"
                | "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
                | "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(operations: &[&str], groups: &[&str], resources: &[&str], scope: Option<&str>) -> Rule {
        let texts = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect());
        Rule::from(&RuleWithOperations {
            operations: texts(operations),
            api_groups: texts(groups),
            api_versions: texts(&["*"]),
            resources: texts(resources),
            scope: scope.map(str::to_owned),
        })
    }

    fn pods(subresource: &str) -> Asked<'_> {
        Asked {
            operation: Operation::Create,
            group: "",
            version: "v1",
            resource: "pods",
            subresource,
            namespace: "default",
            name: "a",
        }
    }

    #[test]
    fn resources_and_their_subresources() {
        for (resource, main, sub) in [
            ("pods", true, false),
            ("*", true, false),
            ("pods/*", true, true),
            ("pods/exec", false, true),
            ("*/exec", false, true),
            ("*/*", true, true),
            ("services", false, false),
        ] {
            let rule = rule(&["CREATE"], &[""], &[resource], None);
            assert_eq!((rule.matches(&pods("")), rule.matches(&pods("exec"))), (main, sub), "{resource}");
        }
    }

    #[test]
    fn operations_groups_and_scope() {
        assert!(!rule(&["UPDATE"], &[""], &["*"], None).matches(&pods("")));
        assert!(rule(&["*"], &["*"], &["*"], Some("Namespaced")).matches(&pods("")));
        assert!(!rule(&["*"], &["*"], &["*"], Some("Cluster")).matches(&pods("")));
        assert!(!rule(&["*"], &["apps"], &["*"], None).matches(&pods("")));
        let namespaces = Asked { resource: "namespaces", namespace: "a", ..pods("") };
        assert!(rule(&["*"], &["*"], &["*"], Some("Cluster")).matches(&namespaces));
    }
}
