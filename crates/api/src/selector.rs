//! Label and field selectors: the text of a request, `meta/v1` `LabelSelector`, and matching
//! (`apimachinery/pkg/labels`, `pkg/fields`).

use std::collections::BTreeMap;
use std::fmt;

use crate::meta::v1;
use crate::name;

mod text;

/// How a label's value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `key=value` or `key==value`; the flag remembers the doubled sign.
    Equals {
        doubled: bool,
    },
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition of a label selector. Its values are sorted and occur once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// Joins several errors as upstream's aggregate does.
fn aggregate(errors: Vec<String>) -> Result<(), String> {
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// A key that is no label key, as a field error at `path`.
fn key_error(key: &str, path: &str) -> Option<String> {
    let problems = name::label_key(key);
    (!problems.is_empty()).then(|| format!("{path}: Invalid value: {key:?}: {}", problems.join("; ")))
}

impl Requirement {
    /// A checked requirement; the error is upstream's text.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, String> {
        let mut errors: Vec<String> = key_error(key, "key").into_iter().collect();
        let mut refuse = |why: &str, values: &[String]| {
            errors.push(format!("values: Invalid value: {}: {why}", serde_json::Value::from(values.to_vec())));
        };
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                refuse("for 'in', 'notin' operators, values set can't be empty", &values);
            }
            Operator::Equals { .. } | Operator::NotEquals if values.len() != 1 => {
                refuse("exact-match compatibility requires one single value", &values);
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                refuse("values set must be empty for exists and does not exist", &values);
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    refuse("for 'Gt', 'Lt' operators, exactly one value is required", &values);
                }
                for (index, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                    errors.push(format!(
                        "values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                    ));
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let problems = name::label_value(value);
            if !problems.is_empty() {
                errors.push(format!("values[{index}][{key}]: Invalid value: {value:?}: {}", problems.join("; ")));
            }
        }
        aggregate(errors)?;
        values.sort();
        values.dedup();
        Ok(Self { key: key.to_owned(), operator, values })
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|listed| listed == value);
        match self.operator {
            Operator::In | Operator::Equals { .. } => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let (Some(value), [bound]) = (value, self.values.as_slice()) else { return false };
                let (Ok(value), Ok(bound)) = (value.parse::<i64>(), bound.parse::<i64>()) else { return false };
                if self.operator == Operator::GreaterThan { value > bound } else { value < bound }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals { doubled: false } => write!(f, "{key}={values}"),
            Operator::Equals { doubled: true } => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// Conditions on labels, all of which must hold; or the selector of nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    /// `None` selects nothing. Sorted by key.
    requirements: Option<Vec<Requirement>>,
}

impl Default for LabelSelector {
    fn default() -> Self {
        Self::everything()
    }
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    /// From checked requirements.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements: Some(requirements) }
    }

    /// From the text of a `labelSelector` parameter (`a=b,c in (d,e),!f`); the empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, String> {
        text::parse(text).map(Self::new)
    }

    /// From an API object's selector: absent selects nothing, empty selects everything.
    pub fn from_api(selector: Option<&v1::LabelSelector>) -> Result<Self, String> {
        let Some(selector) = selector else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals { doubled: false }, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid pod selector operator")),
            };
            requirements.push(Requirement::new(
                &expression.key,
                operator,
                expression.values.clone().unwrap_or_default(),
            )?);
        }
        Ok(Self::new(requirements))
    }

    /// From a plain map (a Service's or ReplicationController's selector), unchecked; the empty map selects everything.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals { doubled: false },
            values: vec![value.clone()],
        };
        Self { requirements: Some(labels.iter().map(requirement).collect()) }
    }

    /// Whether these labels are selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// As [`Self::matches`] for labels that may be absent (`metadata.labels`).
    pub fn matches_labels(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches_with(|key| labels?.get(key).map(String::as_str))
    }

    /// As [`Self::matches`], looking labels up by a function.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.as_ref().is_some_and(|all| all.iter().all(|one| one.holds(label(&one.key))))
    }

    /// Whether it selects every object whatever its labels.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it selects no object by construction.
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    /// The conditions, sorted by key; empty for both everything and nothing.
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for LabelSelector {
    /// The canonical text, which parses back to an equal selector (but for nothing, which has no text).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.requirements().iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldOperator {
    Equals,
    NotEquals,
}

/// One condition of a field selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    /// For example `spec.nodeName`.
    pub path: String,
    pub operator: FieldOperator,
    pub value: String,
}

/// Conditions on fields, all of which must hold. Which fields may be named is the resource's affair.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// From the text of a `fieldSelector` parameter (`metadata.name=a,status.phase!=Failed`).
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<&str> = text.split(',').filter(|part| !part.is_empty()).collect();
        parts.sort_unstable();
        let mut terms = Vec::with_capacity(parts.len());
        for part in parts {
            let split = |sign: &str| match part.split(sign).collect::<Vec<_>>().as_slice() {
                [path, value] => Some(((*path).to_owned(), (*value).to_owned())),
                _ => None,
            };
            let found = split("!=")
                .map(|halves| (FieldOperator::NotEquals, halves))
                .or_else(|| split("==").or_else(|| split("=")).map(|halves| (FieldOperator::Equals, halves)));
            let Some((operator, (path, value))) = found else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            terms.push(FieldTerm { path, operator, value });
        }
        Ok(Self { terms })
    }

    /// The conditions.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether an object with these field values is selected; a field without a value is `""`.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<std::borrow::Cow<'a, str>>) -> bool {
        self.terms.iter().all(|term| {
            let value = field(&term.path).unwrap_or_default();
            (value == term.value.as_str()) == (term.operator == FieldOperator::Equals)
        })
    }

    /// The value that this field must have, if the selector asks for one.
    pub fn exact(&self, path: &str) -> Option<&str> {
        let equals = |term: &&FieldTerm| term.path == path && term.operator == FieldOperator::Equals;
        self.terms.iter().find(equals).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let sign = if term.operator == FieldOperator::Equals { "=" } else { "!=" };
            write!(f, "{}{}{sign}{}", if index > 0 { "," } else { "" }, term.path, term.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn canonical_text() {
        for (text, canonical) in [
            ("", ""),
            ("a=b", "a=b"),
            ("a == b", "a==b"),
            ("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z notin ()"),
            ("!b , a", "a,!b"),
            ("in in (in,notin)", "in in (in,notin)"),
            ("a!=", "a!="),
            ("a>5,b<6", "a>5,b<6"),
            ("a in (,)", "a in ()"),
        ] {
            let selector = LabelSelector::parse(text).expect(text);
            assert_eq!(selector.to_string(), canonical);
            assert_eq!(LabelSelector::parse(canonical), Ok(selector));
        }
    }

    #[test]
    fn errors() {
        for (text, error) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must \
                 be an integer",
            ),
        ] {
            assert_eq!(LabelSelector::parse(text), Err(error.to_owned()), "{text}");
        }
        let error = LabelSelector::parse("a_=b").expect_err("bad key");
        assert!(
            error.starts_with("unable to parse requirement: <nil>: Invalid value: \"a_\": name part must"),
            "{error}"
        );
    }

    #[test]
    fn matching() {
        let set = labels(&[("a", "1"), ("b", "two")]);
        for (text, expected) in [
            ("", true),
            ("a", true),
            ("!a", false),
            ("a=1,b=two", true),
            ("a!=1", false),
            ("c!=1", true),
            ("c notin (x)", true),
            ("c in (x)", false),
            ("a>0", true),
            ("a<1", false),
            ("b>0", false),
        ] {
            assert_eq!(LabelSelector::parse(text).expect(text).matches(&set), expected, "{text}");
        }
    }

    #[test]
    fn absent_is_nothing_and_empty_is_everything() {
        let set = labels(&[("a", "1")]);
        assert!(!LabelSelector::from_api(None).expect("nothing").matches(&set));
        let empty = v1::LabelSelector::default();
        assert!(LabelSelector::from_api(Some(&empty)).expect("everything").matches(&set));
    }

    #[test]
    fn fields() {
        let selector = FieldSelector::parse("status.phase!=Failed,metadata.name=a").expect("valid");
        assert_eq!(selector.to_string(), "metadata.name=a,status.phase!=Failed");
        assert_eq!(selector.exact("metadata.name"), Some("a"));
        assert_eq!(selector.exact("status.phase"), None);
        assert!(selector.matches(|path| (path == "metadata.name").then(|| "a".into())));
        assert!(!selector.matches(|_| Some("Failed".into())));
        assert_eq!(FieldSelector::parse("a"), Err("invalid selector: 'a'; can't understand 'a'".to_owned()));
    }
}
