//! Validation errors: a path, what is wrong, the bad value. Wording as upstream's
//! `apimachinery/pkg/util/validation/field`.

use std::fmt;

use serde_json::Value;

use crate::meta::v1::StatusCause;

/// Where in an object, `spec.containers[0].name`. Built from the root downwards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field below this one; below the empty path it is a top-level field.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An item of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The value of this map at a key.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The text of the path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    Required,
    Invalid(Value),
    /// Invalid as a whole: the value is not shown.
    InvalidHere,
    NotSupported {
        value: Value,
        supported: Vec<String>,
    },
    Duplicate(Value),
    Forbidden,
    NotFound(Value),
    TooLong {
        max_bytes: usize,
    },
    TooMany {
        actual: usize,
        max: usize,
    },
    TypeInvalid(Value),
    Internal,
}

impl Problem {
    /// The cause's machine-readable reason (`field.ErrorType`).
    const fn cause(&self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid(_) | Self::InvalidHere => "FieldValueInvalid",
            Self::NotSupported { .. } => "FieldValueNotSupported",
            Self::Duplicate(_) => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotFound(_) => "FieldValueNotFound",
            Self::TooLong { .. } => "FieldValueTooLong",
            Self::TooMany { .. } => "FieldValueTooMany",
            Self::TypeInvalid(_) => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }
}

/// One field error.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    pub path: Path,
    pub problem: Problem,
    pub detail: String,
}

/// A bad value as upstream prints it: strings quoted, scalars plain, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

impl FieldError {
    /// The error without its path.
    pub fn body(&self) -> String {
        let head = match &self.problem {
            Problem::Required => "Required value".to_owned(),
            Problem::Forbidden => "Forbidden".to_owned(),
            Problem::Internal => "Internal error".to_owned(),
            Problem::InvalidHere => "Invalid value".to_owned(),
            Problem::Invalid(value) | Problem::TypeInvalid(value) => format!("Invalid value: {}", shown(value)),
            Problem::Duplicate(value) => format!("Duplicate value: {}", shown(value)),
            Problem::NotFound(value) => format!("Not found: {}", shown(value)),
            Problem::NotSupported { value, supported } => {
                let supported: Vec<String> = supported.iter().map(|text| format!("{text:?}")).collect();
                return format!("Unsupported value: {}: supported values: {}", shown(value), supported.join(", "));
            }
            Problem::TooLong { max_bytes } => return format!("Too long: may not be more than {max_bytes} bytes"),
            Problem::TooMany { actual, max } => return format!("Too many: {actual}: must have at most {max} items"),
        };
        if self.detail.is_empty() { head } else { format!("{head}: {}", self.detail) }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// All that is wrong with an object, in the order it was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// No errors yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, path: &Path, problem: Problem, detail: impl Into<String>) {
        self.0.push(FieldError { path: path.clone(), problem, detail: detail.into() });
    }

    /// Takes over another's errors.
    pub fn extend(&mut self, other: FieldErrors) {
        self.0.extend(other.0);
    }

    pub fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Problem::Required, detail);
    }

    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, Problem::Invalid(value.into()), detail);
    }

    /// As [`FieldErrors::invalid`] for what is too large to be shown, or shows nothing.
    pub fn invalid_without_value(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Problem::InvalidHere, detail);
    }

    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        let supported = supported.iter().map(|text| (*text).to_owned()).collect();
        self.push(path, Problem::NotSupported { value: value.into(), supported }, "");
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, Problem::Duplicate(value.into()), "");
    }

    pub fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Problem::Forbidden, detail);
    }

    pub fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, Problem::NotFound(value.into()), "");
    }

    pub fn too_long(&mut self, path: &Path, max_bytes: usize) {
        self.push(path, Problem::TooLong { max_bytes }, "");
    }

    pub fn too_many(&mut self, path: &Path, actual: usize, max: usize) {
        self.push(path, Problem::TooMany { actual, max }, "");
    }

    /// The causes of a 422 Status, one per error.
    pub fn causes(&self) -> Vec<StatusCause> {
        let cause = |error: &FieldError| StatusCause {
            field: Some(error.path.to_string()),
            message: Some(error.body()),
            reason: Some(error.problem.cause().to_owned()),
        };
        self.0.iter().map(cause).collect()
    }
}

impl fmt::Display for FieldErrors {
    /// One error plainly, several as `[a, b]`, repeated texts once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::with_capacity(self.0.len());
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match texts.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}
