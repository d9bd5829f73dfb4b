//! The checked expression: typed, with names resolved to places; what costs are estimated of and what is evaluated.

use std::sync::Arc;

use crate::ast::FoldKind;
use crate::functions::Overload;
use crate::types::Type;
use crate::value::Value;

#[derive(Debug)]
pub(crate) struct Node {
    pub at: usize,
    pub ty: Type,
    pub kind: NodeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Plain,
    /// `has()`.
    Test,
    Optional,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Const(Value<'static>),
    /// One of the program's variables; a dotted name counts as selections.
    Variable {
        index: usize,
        dots: u64,
    },
    /// What a macro binds.
    Local(usize),
    Select {
        operand: Box<Node>,
        name: Arc<str>,
        plain: Arc<str>,
        access: Access,
    },
    Index {
        operand: Box<Node>,
        index: Box<Node>,
        optional: bool,
    },
    Operator {
        operator: Operator,
        args: Vec<Node>,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
    Conditional(Box<[Node; 3]>),
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Struct {
        name: Arc<str>,
        fields: Vec<(Arc<str>, Node, bool)>,
    },
    Call {
        overloads: Vec<&'static Overload>,
        args: Vec<Node>,
        pattern: Option<Box<regex::Regex>>,
    },
    /// `a.or(b)`, `a.orValue(b)`: the second is looked at only when it is needed.
    Else {
        optional: Box<Node>,
        other: Box<Node>,
        value: bool,
    },
    Fold(Box<FoldNode>),
}

#[derive(Debug)]
pub(crate) struct FoldNode {
    pub kind: FoldKind,
    pub range: Node,
    pub first: usize,
    pub second: Option<usize>,
    pub filter: Option<Node>,
    pub body: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Negate,
    Not,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

impl Operator {
    pub fn of(function: &str) -> Option<Self> {
        Some(match function {
            "_+_" => Operator::Add,
            "_-_" => Operator::Subtract,
            "_*_" => Operator::Multiply,
            "_/_" => Operator::Divide,
            "_%_" => Operator::Modulo,
            "-_" => Operator::Negate,
            "!_" => Operator::Not,
            "_==_" => Operator::Equal,
            "_!=_" => Operator::NotEqual,
            "_<_" => Operator::Less,
            "_<=_" => Operator::LessEqual,
            "_>_" => Operator::Greater,
            "_>=_" => Operator::GreaterEqual,
            "@in" => Operator::In,
            _ => return None,
        })
    }
}
