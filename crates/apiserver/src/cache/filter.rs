//! Which objects of a resource a request asks for: namespace, name, label and field selectors, parsed once.

use api::selector::FieldOperator;
use api::{FieldSelector, LabelSelector, Status};
use resources::AnyStrategy;

use super::{Cache, Entry};

/// A compiled selection. Matching looks only at what an [`Entry`] holds ready.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    namespace: Option<String>,
    name: Option<String>,
    labels: Option<LabelSelector>,
    fields: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    field: Field,
    equals: bool,
    value: String,
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Name,
    Namespace,
    Selectable(usize),
}

impl Filter {
    /// From a request's parameters. `strategy` is the stored form's: it says which fields may be named, `stored_path`
    /// what they are called there; `served`: the version that is asked, if that is not the same.
    ///
    /// # Errors
    /// 400 for selectors that do not parse and fields that cannot be selected by.
    pub fn parse(
        strategy: &dyn AnyStrategy,
        namespace: Option<&str>,
        name: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
        stored_path: Option<fn(&str) -> String>,
        served: Option<&dyn AnyStrategy>,
    ) -> Result<Self, Status> {
        let mut filter = Self {
            namespace: namespace.filter(|namespace| !namespace.is_empty()).map(str::to_owned),
            name: name.map(str::to_owned),
            ..Self::default()
        };
        if let Some(text) = labels.filter(|text| !text.is_empty()) {
            let selector = LabelSelector::parse(text).map_err(|why| unparsable("label", text, &why))?;
            filter.labels = (!selector.is_everything()).then_some(selector);
        }
        if let Some(text) = fields.filter(|text| !text.is_empty()) {
            let selector = FieldSelector::parse(text).map_err(|why| unparsable("field", text, &why))?;
            for term in selector.terms() {
                let field = match stored_path {
                    Some(stored_path) => find(strategy, &stored_path(&term.path)),
                    None => find(strategy, &term.path),
                };
                // A version defined at run time offers its own fields only; the cache has those of every version.
                let offered = served.is_none_or(|served| find(served, &term.path).is_ok());
                let field = field.ok().filter(|_| offered).ok_or_else(|| not_selectable(strategy, &term.path))?;
                let equals = term.operator == FieldOperator::Equals;
                filter.fields.push(Term { field, equals, value: term.value.clone() });
            }
        }
        Ok(filter)
    }

    /// Whether anything beyond the namespace narrows the selection.
    pub fn selects(&self) -> bool {
        self.labels.is_some() || !self.fields.is_empty() || self.name.is_some()
    }

    /// The one name the selection can match, if it is narrowed to one.
    fn single(&self) -> Option<&str> {
        let named = |term: &&Term| matches!(term.field, Field::Name) && term.equals;
        self.name.as_deref().or_else(|| self.fields.iter().find(named).map(|term| term.value.as_str()))
    }

    /// The namespace the selection is narrowed to, by the path or by a field selector.
    fn one_namespace(&self) -> Option<&str> {
        let named = |term: &&Term| matches!(term.field, Field::Namespace) && term.equals;
        self.namespace.as_deref().or_else(|| self.fields.iter().find(named).map(|term| term.value.as_str()))
    }

    /// The prefix of the path's own collection: what continue tokens are relative to.
    pub fn collection(&self, cache: &Cache) -> String {
        self.namespace.as_ref().map_or_else(|| cache.prefix.clone(), |ns| format!("{}{ns}/", cache.prefix))
    }

    /// The store keys that can match.
    pub fn range(&self, cache: &Cache) -> store::Range {
        let namespaced = cache.strategy.scope() == resources::Scope::Namespaced;
        match (namespaced, self.one_namespace(), self.single()) {
            (true, Some(namespace), Some(name)) => store::Range::key(&cache.key(namespace, name)),
            (true, Some(namespace), None) => store::Range::prefix(&format!("{}{namespace}/", cache.prefix)),
            (false, _, Some(name)) => store::Range::key(&cache.key("", name)),
            _ => store::Range::prefix(&cache.prefix),
        }
    }

    /// Whether this object is asked for.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| entry.namespace() == namespace)
            && self.name.as_deref().is_none_or(|name| entry.name() == name)
            && self.labels.as_ref().is_none_or(|labels| labels.matches_with(|key| entry.label(key)))
            && self.fields.iter().all(|term| {
                let value = match term.field {
                    Field::Name => entry.name(),
                    Field::Namespace => entry.namespace(),
                    Field::Selectable(at) => entry.fields().get(at).map_or("", |value| value),
                };
                (value == term.value) == term.equals
            })
    }
}

fn unparsable(which: &str, text: &str, why: &str) -> Status {
    tracing::debug!(which, text, why, "a selector does not parse");
    Status::bad_request(why)
}

fn find(strategy: &dyn AnyStrategy, path: &str) -> Result<Field, ()> {
    match path {
        "metadata.name" => Ok(Field::Name),
        "metadata.namespace" => Ok(Field::Namespace),
        _ => strategy.selectable_paths().iter().position(|own| *own == path).map(Field::Selectable).ok_or(()),
    }
}

fn not_selectable(strategy: &dyn AnyStrategy, path: &str) -> Status {
    Status::bad_request(if strategy.selectable_paths().is_empty() && !strategy.kind().is_custom() {
        format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {path}")
    })
}
