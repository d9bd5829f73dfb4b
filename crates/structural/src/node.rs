//! The compiled form of a schema: a tree of small nodes, the rarely used parts behind boxes.

use std::sync::OnceLock;

use api::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, JSONSchemaPropsOrStringArray,
};
use api::field::{FieldErrors, Path};
use regex::Regex;
use serde_json::Value;

/// What `type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    pub(crate) const NAMES: [(&'static str, Self); 6] = [
        ("object", Self::Object),
        ("array", Self::Array),
        ("string", Self::String),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
    ];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// How a list merges and what its items must not share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListType {
    Atomic,
    Set,
    Map(Box<[Box<str>]>),
}

/// `additionalProperties`.
#[derive(Debug)]
pub(crate) enum Additional {
    Allowed(bool),
    Of(Node),
}

/// A regular expression, compiled on its first use.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) text: Box<str>,
    compiled: OnceLock<Option<Box<Regex>>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    /// Whether it is found in the text; an expression that is none finds nothing.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&self.text).ok().map(Box::new));
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// The value validations of one node.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) format: Option<Box<str>>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) choices: Option<Box<[Value]>>,
    pub(crate) minimum: Option<(f64, bool)>,
    pub(crate) maximum: Option<(f64, bool)>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) length: (Option<i64>, Option<i64>),
    pub(crate) items: (Option<i64>, Option<i64>),
    pub(crate) properties: (Option<i64>, Option<i64>),
    pub(crate) unique_items: bool,
    pub(crate) required: Box<[Box<str>]>,
    pub(crate) all_of: Box<[Node]>,
    pub(crate) any_of: Box<[Node]>,
    pub(crate) one_of: Box<[Node]>,
    pub(crate) not: Option<Box<Node>>,
}

/// One schema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) kind: Option<Kind>,
    pub(crate) nullable: bool,
    pub(crate) preserve: bool,
    pub(crate) embedded: bool,
    pub(crate) int_or_string: bool,
    /// `x-kubernetes-map-type: atomic`.
    pub(crate) map_atomic: bool,
    pub(crate) list: Option<ListType>,
    /// Sorted by name.
    pub(crate) properties: Box<[(Box<str>, Node)]>,
    pub(crate) additional: Option<Box<Additional>>,
    pub(crate) items: Option<Box<Node>>,
    pub(crate) default: Option<Box<Value>>,
    pub(crate) checks: Option<Box<Checks>>,
    /// What `x-kubernetes-validations` says.
    pub(crate) rules: Option<Box<crate::rules::Rules>>,
    /// Whether it or anything below has rules.
    pub(crate) has_rules: bool,
    /// Whether anything below has a default.
    pub(crate) has_defaults: bool,
}

impl Node {
    pub(crate) fn property(&self, name: &str) -> Option<&Node> {
        let index = self.properties.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.properties[index].1)
    }

    /// The schema of a map's values.
    pub(crate) fn values(&self) -> Option<&Node> {
        match self.additional.as_deref() {
            Some(Additional::Of(node)) => Some(node),
            _ => None,
        }
    }

    /// The schema of the field `name`, declared or a map's.
    pub(crate) fn field(&self, name: &str) -> Option<&Node> {
        self.property(name).or_else(|| self.values())
    }

    pub(crate) fn compile(props: &JSONSchemaProps, path: &Path, errors: &mut FieldErrors) -> Self {
        let kind = props.type_.as_deref().filter(|name| !name.is_empty()).and_then(|name| {
            let kind = Kind::parse(name);
            if kind.is_none() {
                let mut names = Kind::NAMES.map(|(name, _)| name);
                names.sort_unstable();
                errors.not_supported(&path.child("type"), name, &names);
            }
            kind
        });
        let properties: Box<[(Box<str>, Node)]> = props
            .properties
            .iter()
            .flatten()
            .map(|(name, props)| {
                (name.as_str().into(), Self::compile(props, &path.child("properties").key(name), errors))
            })
            .collect();
        let additional = props.additional_properties.as_ref().map(|additional| match additional {
            JSONSchemaPropsOrBool::Bool(allowed) => Additional::Allowed(*allowed),
            JSONSchemaPropsOrBool::Schema(props) => {
                Additional::Of(Self::compile(props, &path.child("additionalProperties"), errors))
            }
        });
        let items = match &props.items {
            Some(JSONSchemaPropsOrArray::Schema(props)) => Some(Self::compile(props, &path.child("items"), errors)),
            Some(JSONSchemaPropsOrArray::Schemas(_)) => {
                errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
                None
            }
            None => None,
        };
        if let Some(JSONSchemaPropsOrStringArray::Schema(_)) = props.dependencies.iter().flatten().next().map(|x| x.1) {
            errors.forbidden(&path.child("dependencies"), "dependencies is not supported");
        }
        let list = props.x_kubernetes_list_type.as_deref().map(|list| match list {
            "set" => ListType::Set,
            "map" => {
                let keys = props.x_kubernetes_list_map_keys.iter().flatten();
                ListType::Map(keys.map(|key| key.as_str().into()).collect())
            }
            _ => ListType::Atomic,
        });
        let mut node = Self {
            kind,
            nullable: props.nullable == Some(true),
            preserve: props.x_kubernetes_preserve_unknown_fields == Some(true),
            embedded: props.x_kubernetes_embedded_resource == Some(true),
            int_or_string: props.x_kubernetes_int_or_string == Some(true),
            map_atomic: props.x_kubernetes_map_type.as_deref() == Some("atomic"),
            list,
            properties,
            additional: additional.map(Box::new),
            items: items.map(Box::new),
            default: props.default.as_ref().filter(|json| !json.0.is_null()).map(|json| Box::new(json.0.clone())),
            checks: Checks::compile(props, path, errors).map(Box::new),
            rules: None,
            has_rules: false,
            has_defaults: false,
        };
        let has = |node: &Node| node.default.is_some() || node.has_defaults;
        node.has_defaults = node.properties.iter().any(|(_, node)| has(node))
            || node.values().is_some_and(has)
            || node.items.as_deref().is_some_and(has);
        node
    }
}

impl Checks {
    /// `None` if the schema has no value validation.
    fn compile(props: &JSONSchemaProps, path: &Path, errors: &mut FieldErrors) -> Option<Self> {
        let mut many = |list: &Option<Vec<JSONSchemaProps>>, name: &str| -> Box<[Node]> {
            let list = list.iter().flatten().enumerate();
            list.map(|(index, props)| Node::compile(props, &path.child(name).index(index), errors)).collect()
        };
        let all_of = many(&props.all_of, "allOf");
        let any_of = many(&props.any_of, "anyOf");
        let one_of = many(&props.one_of, "oneOf");
        let not = props.not.as_ref().map(|props| Box::new(Node::compile(props, &path.child("not"), errors)));
        let checks = Self {
            format: props.format.as_deref().filter(|format| crate::format::is_supported(format)).map(Into::into),
            pattern: props.pattern.as_deref().filter(|pattern| !pattern.is_empty()).map(Pattern::new),
            choices: props.enum_.as_ref().map(|list| list.iter().map(|json| json.0.clone()).collect()),
            minimum: props.minimum.map(|bound| (bound, props.exclusive_minimum == Some(true))),
            maximum: props.maximum.map(|bound| (bound, props.exclusive_maximum == Some(true))),
            multiple_of: props.multiple_of,
            length: (props.min_length, props.max_length),
            items: (props.min_items, props.max_items),
            properties: (props.min_properties, props.max_properties),
            unique_items: props.unique_items == Some(true),
            required: props.required.iter().flatten().map(|name| name.as_str().into()).collect(),
            all_of,
            any_of,
            one_of,
            not,
        };
        let none = (None, None);
        let is_plain = checks.format.is_none() && checks.pattern.is_none() && checks.choices.is_none();
        let is_free = checks.minimum.is_none() && checks.maximum.is_none() && checks.multiple_of.is_none();
        let is_any_size = checks.length == none && checks.items == none && checks.properties == none;
        let is_alone = checks.all_of.is_empty() && checks.any_of.is_empty() && checks.one_of.is_empty();
        let is_lax = checks.required.is_empty() && checks.not.is_none() && !checks.unique_items;
        (!(is_plain && is_free && is_any_size && is_alone && is_lax)).then_some(checks)
    }
}
