//! What may be wrong with an expression: when it is compiled, and when it is evaluated.

use std::fmt;
use std::sync::Arc;

/// One problem, at a place of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// From 1.
    pub line: usize,
    /// In characters, from 0.
    pub column: usize,
    pub message: String,
}

/// Everything that keeps an expression from being compiled; shown with the source and a caret below each place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    pub issues: Vec<Issue>,
    pub(crate) source: String,
}

impl CompileError {
    pub(crate) fn new(source: &str, places: Vec<(usize, String)>) -> Self {
        let mut issues: Vec<Issue> = places.into_iter().map(|(at, message)| issue(source, at, message)).collect();
        issues.sort_by_key(|issue| (issue.line, issue.column));
        CompileError { issues, source: source.to_owned() }
    }
}

fn issue(source: &str, at: usize, message: String) -> Issue {
    let before = source.get(..at.min(source.len())).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count();
    Issue { line, column, message }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Issue { line, column, message }) in self.issues.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "ERROR: <input>:{line}:{}: {message}", column + 1)?;
            let text = self.source.split('\n').nth(line - 1).unwrap_or("").replace('\t', " ");
            write!(f, "\n | {text}\n | {}^", ".".repeat(*column))?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}

/// Why an evaluation has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression fails for these values; an operand of `&&` or `||` may still absorb it.
    #[error("{0}")]
    Runtime(Arc<str>),
    /// It took more than it was allowed to.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
}

impl EvalError {
    pub fn runtime(message: impl Into<Arc<str>>) -> Self {
        EvalError::Runtime(message.into())
    }

    pub(crate) fn no_overload() -> Self {
        Self::runtime("no such overload")
    }

    pub(crate) fn no_key(key: impl fmt::Display) -> Self {
        Self::runtime(format!("no such key: {key}"))
    }
}
