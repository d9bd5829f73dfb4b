//! JSON paths of printer columns, scales and selectable fields: `.spec.a['b']`, and for columns indices, slices,
//! wildcards, descent and filters.

use serde_json::Value;

/// The longest path and the most values that one selects.
const LEN_MAX: usize = 4096;
const SELECTED_MAX: usize = 10_000;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    steps: Box<[Step]>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(Box<str>),
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    All,
    /// A field of this name at any depth.
    Descent(Box<str>),
    Filter(Box<Filter>),
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    right: Option<(Comparison, Operand)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Path {
    /// Parses a path; `{...}` around it and `$` or `@` before it may be left out.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LEN_MAX {
            return Err(format!("must be no more than {LEN_MAX} bytes"));
        }
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let text = text.strip_prefix(['$', '@']).unwrap_or(text);
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            rest = if let Some(inner) = rest.strip_prefix("..") {
                let (name, after) = name(inner);
                steps.push(Step::Descent(name.into()));
                after
            } else if let Some(inner) = rest.strip_prefix('.') {
                let (name, after) = name(inner);
                match name.as_str() {
                    "*" => steps.push(Step::All),
                    "" if after.is_empty() || after.starts_with('[') => {}
                    "" => return Err(format!("unrecognized character in {text:?}")),
                    _ => steps.push(Step::Field(name.into())),
                }
                after
            } else if let Some(inner) = rest.strip_prefix('[') {
                let end = closing(inner).ok_or("unterminated array")?;
                steps.push(bracket(&inner[..end])?);
                &inner[end + 1..]
            } else if steps.is_empty() {
                let (name, after) = name(rest);
                if name.is_empty() {
                    return Err(format!("unrecognized character in {text:?}"));
                }
                steps.push(Step::Field(name.into()));
                after
            } else {
                return Err(format!("unrecognized character in {text:?}"));
            };
        }
        Ok(Self { steps: steps.into() })
    }

    /// The names of its fields, if it has no other steps.
    pub fn fields(&self) -> Option<Vec<&str>> {
        let name = |step: &'_ Step| matches!(step, Step::Field(_));
        if !self.steps.iter().all(name) {
            return None;
        }
        let names = self.steps.iter().filter_map(|step| match step {
            Step::Field(name) => Some(&**name),
            _ => None,
        });
        Some(names.collect())
    }

    /// The values at the path, in order.
    pub fn select<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.apply(value, &mut next);
                next.truncate(SELECTED_MAX);
            }
            found = next;
        }
        found
    }

    /// The first value at the path.
    pub fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.select(root).first().copied()
    }
}

/// A name up to the next step; a backslash takes the next character as it is.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' | ' ' | '=' | '!' | '<' | '>' | ')' | '(' | ']' => return (name, &text[at..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket closes that is open before the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (_, '\\') => drop(chars.next()),
            (Some(open), c) => quote = (c != open).then_some(open),
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace("\\'", "'").replace("\\\"", "\"").replace("\\\\", "\\"))
}

fn bracket(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return Ok(Step::Filter(Box::new(filter(inner)?)));
    }
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = unquote(text) {
        return Ok(Step::Field(name.into()));
    }
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        text => text.parse::<i64>().map(Some).map_err(|_| format!("invalid array index {text}")),
    };
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [index] => number(index)?.map(Step::Index).ok_or_else(|| "invalid array index".to_owned()),
        [from, to] => Ok(Step::Slice(number(from)?, number(to)?, 1)),
        [from, to, by] => match number(by)?.unwrap_or(1) {
            by if by > 0 => Ok(Step::Slice(number(from)?, number(to)?, by)),
            _ => Err("step must be > 0".to_owned()),
        },
        _ => Err(format!("invalid array index {text}")),
    }
}

fn filter(text: &str) -> Result<Filter, String> {
    const OPERATORS: [(&str, Comparison); 6] = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) => quote = (c != open).then_some(open),
            (None, '\'' | '"') => quote = Some(c),
            (None, _) => {
                let Some((operator, comparison)) = OPERATORS.iter().find(|(name, _)| text[at..].starts_with(name))
                else {
                    continue;
                };
                let (left, right) = (operand(&text[..at])?, operand(&text[at + operator.len()..])?);
                return Ok(Filter { left, right: Some((*comparison, right)) });
            }
        }
    }
    Ok(Filter { left: operand(text)?, right: None })
}

fn operand(text: &str) -> Result<Operand, String> {
    let text = text.trim();
    if text.starts_with(['@', '$', '.']) {
        return Path::parse(text).map(Operand::Path);
    }
    if let Some(text) = unquote(text) {
        return Ok(Operand::Literal(text.into()));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_number() || value.is_boolean() => Ok(Operand::Literal(value)),
        _ => Err(format!("unrecognized filter operand {text:?}")),
    }
}

impl Operand {
    fn value<'a>(&'a self, item: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Path(path) => path.first(item),
            Self::Literal(value) => Some(value),
        }
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let Some(left) = self.left.value(item) else { return false };
        let Some((comparison, right)) = &self.right else { return true };
        let Some(right) = right.value(item) else { return false };
        let order = match (left, right) {
            (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (left, right) => (left == right).then_some(std::cmp::Ordering::Equal),
        };
        match comparison {
            Comparison::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
            Comparison::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
            Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}

/// An index from the start, negative ones counted from the end.
fn at(index: i64, len: usize) -> i64 {
    if index < 0 { index.saturating_add(i64::try_from(len).unwrap_or(i64::MAX)) } else { index }
}

fn descend<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key == name || name == "*" {
                    found.push(value);
                }
                descend(value, name, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| descend(item, name, found)),
        _ => {}
    }
}

impl Step {
    fn apply<'a>(&self, value: &'a Value, found: &mut Vec<&'a Value>) {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => found.extend(map.get(&**name)),
            (Self::Index(index), Value::Array(items)) => {
                found.extend(usize::try_from(at(*index, items.len())).ok().and_then(|index| items.get(index)));
            }
            (Self::Slice(from, to, by), Value::Array(items)) => {
                let bound = |index: i64| usize::try_from(at(index, items.len())).unwrap_or(0).min(items.len());
                let (from, to) = (from.map_or(0, bound), to.map_or(items.len(), bound));
                let by = usize::try_from(*by).unwrap_or(1).max(1);
                found.extend(items.get(from..to).into_iter().flatten().step_by(by));
            }
            (Self::All, Value::Array(items)) => found.extend(items),
            (Self::All, Value::Object(map)) => found.extend(map.values()),
            (Self::Filter(filter), Value::Array(items)) => {
                found.extend(items.iter().filter(|item| filter.holds(item)));
            }
            (Self::Descent(name), value) => descend(value, name, found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Path;
    use serde_json::{Value, json};

    #[test]
    fn paths_select_what_kubectl_selects() {
        let object = json!({
            "spec": {"a": {"b.c": 1, "x y": 2}, "list": [1, 2, 3]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1},
                {"type": "Other", "status": "False", "n": 2},
            ]},
        });
        let cases = [
            (".spec.a['b.c']", json!([1])),
            (r".spec.a.b\.c", json!([1])),
            (".spec.a[\"x y\"]", json!([2])),
            (".spec.list[0]", json!([1])),
            (".spec.list[-1]", json!([3])),
            (".spec.list[9]", json!([])),
            (".spec.list[1:]", json!([2, 3])),
            (".spec.list[:-1]", json!([1, 2])),
            (".spec.list[*]", json!([1, 2, 3])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type!='Ready')].status", json!(["False"])),
            (".status.conditions[?(@.n>=2)].type", json!(["Other"])),
            (".status.conditions[?(@.missing)].type", json!([])),
            ("{..type}", json!(["Ready", "Other"])),
            (".spec.none.x", json!([])),
        ];
        for (path, expected) in cases {
            let found: Vec<Value> = Path::parse(path).unwrap().select(&object).into_iter().cloned().collect();
            assert_eq!(Value::from(found), expected, "{path}");
        }
        assert_eq!(Path::parse(".spec.a['b']").unwrap().fields(), Some(vec!["spec", "a", "b"]));
        assert_eq!(Path::parse(".spec.list[0]").unwrap().fields(), None);
        for bad in [".a[", ".a[x]", ".a]b", ".a..[?(@.x==)]", ".a[?(y==1)]", ".a b"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }
}
