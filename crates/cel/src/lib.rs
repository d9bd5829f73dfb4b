//! CEL as Kubernetes speaks it: compiling expressions against declared types, their worst-case costs, and evaluating
//! them on JSON under a budget.
//!
//! Pure: no I/O, no clock; authorization checks go through a trait that the caller brings.

mod ast;
mod lex;
mod macros;
mod parse;

pub mod types;
mod unify;

mod check;
pub mod environment;
mod functions;
mod node;
mod walk;

mod cost;
mod evaluate;
mod operators;
mod runtime_cost;
pub mod value;

pub mod library;
pub mod pattern;

pub mod error;
pub mod escape;

pub use cost::CostEstimate;
pub use environment::{Environment, Program, Resolve};
pub use error::{CompileError, EvalError, Issue};
pub use library::authorizer::{Authorizer, Request};
pub use parse::EXPRESSION_LEN_MAX;
pub use types::{Field, ListKind, ObjectType, Opaque, Size, Type};
pub use value::{List, Map, Text, Value};

/// What one evaluation may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all rules may cost while one request is served.
pub const PER_REQUEST_LIMIT: u64 = 10_000_000;
