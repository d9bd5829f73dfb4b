//! Which flow schema a request belongs to: the first by precedence of which a rule is about the caller and about what
//! is asked for.
//!
//! Pure.

use api::flowcontrol::v1::{FlowSchema, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject};

use crate::authz::{Attributes, What};

/// What tells the flows of a schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distinguisher {
    None,
    User,
    Namespace,
}

impl Distinguisher {
    /// The flow that a request is of.
    pub fn of<'a>(self, request: &Attributes<'a>) -> &'a str {
        match (self, request.what) {
            (Self::User, _) => &request.caller.name,
            (Self::Namespace, What::Resource { namespace, .. }) => namespace,
            (Self::None, _) | (Self::Namespace, What::Path(_)) => "",
        }
    }
}

/// A set of words, or all.
#[derive(Debug)]
enum Words {
    All,
    Some(Box<[Box<str>]>),
}

impl Words {
    fn new(words: &[String]) -> Self {
        if words.iter().any(|word| word == "*") {
            return Self::All;
        }
        Self::Some(words.iter().map(|word| word.clone().into_boxed_str()).collect())
    }

    fn has(&self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(words) => words.iter().any(|own| **own == *word),
        }
    }
}

#[derive(Debug)]
enum Who {
    AnyUser,
    User(Box<str>),
    AnyGroup,
    Group(Box<str>),
    /// All service accounts of a namespace: what their user names begin with.
    Accounts(Box<str>),
    Nobody,
}

impl Who {
    fn new(subject: &Subject) -> Self {
        match subject.kind.as_str() {
            "User" => match subject.user.as_ref().map(|user| user.name.as_str()) {
                Some("*") => Self::AnyUser,
                Some(name) => Self::User(name.into()),
                None => Self::Nobody,
            },
            "Group" => match subject.group.as_ref().map(|group| group.name.as_str()) {
                Some("*") => Self::AnyGroup,
                Some(name) => Self::Group(name.into()),
                None => Self::Nobody,
            },
            "ServiceAccount" => match &subject.service_account {
                Some(account) if account.name == "*" => {
                    Self::Accounts(pki::token::username(&account.namespace, "").into())
                }
                Some(account) => Self::User(pki::token::username(&account.namespace, &account.name).into()),
                None => Self::Nobody,
            },
            _ => Self::Nobody,
        }
    }

    fn is(&self, caller: &crate::Caller) -> bool {
        match self {
            Self::AnyUser => true,
            Self::User(name) => **name == *caller.name,
            Self::AnyGroup => !caller.groups.is_empty(),
            Self::Group(name) => caller.is_in(name),
            Self::Accounts(prefix) => caller.name.starts_with(&**prefix),
            Self::Nobody => false,
        }
    }
}

#[derive(Debug)]
struct OfResources {
    verbs: Words,
    groups: Words,
    resources: Words,
    namespaces: Words,
    cluster_scope: bool,
}

impl OfResources {
    fn new(rule: &ResourcePolicyRule) -> Self {
        Self {
            verbs: Words::new(&rule.verbs),
            groups: Words::new(&rule.api_groups),
            resources: Words::new(&rule.resources),
            namespaces: Words::new(rule.namespaces.as_deref().unwrap_or_default()),
            cluster_scope: rule.cluster_scope == Some(true),
        }
    }

    fn names(&self, resource: &str, subresource: &str) -> bool {
        match &self.resources {
            Words::All => true,
            Words::Some(own) if subresource.is_empty() => own.iter().any(|own| **own == *resource),
            Words::Some(own) => own.iter().any(|own| own.split_once('/') == Some((resource, subresource))),
        }
    }
}

#[derive(Debug)]
struct OfPaths {
    verbs: Words,
    paths: Words,
}

impl OfPaths {
    fn new(rule: &NonResourcePolicyRule) -> Self {
        Self { verbs: Words::new(&rule.verbs), paths: Words::new(&rule.non_resource_urls) }
    }

    fn is_about(&self, path: &str) -> bool {
        let one = |own: &str| match own.strip_suffix("/*") {
            // `/apis/*` is about all below, not about `/apis`.
            Some(_) => path.starts_with(&own[..own.len() - 1]),
            None => own == path,
        };
        match &self.paths {
            Words::All => true,
            Words::Some(own) => own.iter().any(|own| one(own)),
        }
    }
}

#[derive(Debug)]
struct Rule {
    who: Box<[Who]>,
    resources: Box<[OfResources]>,
    paths: Box<[OfPaths]>,
}

impl Rule {
    fn new(rule: &PolicyRulesWithSubjects) -> Self {
        Self {
            who: rule.subjects.iter().map(Who::new).collect(),
            resources: rule.resource_rules.iter().flatten().map(OfResources::new).collect(),
            paths: rule.non_resource_rules.iter().flatten().map(OfPaths::new).collect(),
        }
    }

    fn matches(&self, request: &Attributes<'_>) -> bool {
        if !self.who.iter().any(|who| who.is(request.caller)) {
            return false;
        }
        match request.what {
            What::Resource { group, resource, subresource, namespace, .. } => self.resources.iter().any(|rule| {
                let placed = if namespace.is_empty() { rule.cluster_scope } else { rule.namespaces.has(namespace) };
                placed && rule.verbs.has(request.verb) && rule.groups.has(group) && rule.names(resource, subresource)
            }),
            What::Path(path) => self.paths.iter().any(|rule| rule.verbs.has(request.verb) && rule.is_about(path)),
        }
    }
}

/// A flow schema, ready to be asked.
#[derive(Debug)]
pub struct Matcher {
    pub precedence: i32,
    pub distinguisher: Distinguisher,
    rules: Box<[Rule]>,
}

impl Matcher {
    pub fn new(schema: &FlowSchema) -> Self {
        let spec = &schema.spec;
        let distinguisher = match spec.distinguisher_method.as_ref().map(|method| method.type_.as_str()) {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::None,
        };
        Self {
            precedence: spec.matching_precedence.unwrap_or_default(),
            distinguisher,
            rules: spec.rules.iter().flatten().map(Rule::new).collect(),
        }
    }

    pub fn matches(&self, request: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(request))
    }
}

#[cfg(test)]
mod tests;
