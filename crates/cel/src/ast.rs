//! What the parser makes of the text: expressions with the place where each stands, macros already recognized.

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(crate) struct Expr {
    /// Where it stands, in bytes from the start.
    pub at: usize,
    pub kind: ExprKind,
}

#[derive(Debug, Clone)]
pub(crate) enum ExprKind {
    Literal(Literal),
    Ident(String),
    Select {
        operand: Box<Expr>,
        field: String,
        /// `has(a.b)`.
        test: bool,
        /// `a.?b`.
        optional: bool,
    },
    Index {
        operand: Box<Expr>,
        index: Box<Expr>,
        /// `a[?b]`.
        optional: bool,
    },
    /// Functions and operators, these by CEL's own names for them (`_+_`).
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Conditional(Box<[Expr; 3]>),
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    Struct {
        name: String,
        fields: Vec<(String, Expr, bool)>,
    },
    Fold(Box<Fold>),
}

/// `all`, `exists`, `map` and their kin over a list or a map.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    pub kind: FoldKind,
    pub range: Expr,
    pub first: String,
    /// Of the macros with two variables.
    pub second: Option<String>,
    pub filter: Option<Expr>,
    pub body: Expr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// A list of the bodies.
    Map,
    /// The items for which the body holds.
    Filter,
    TransformMap,
    TransformMapEntry,
    /// Of an optional: `optMap`, `optFlatMap`.
    OptMap,
    OptFlatMap,
}
