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
    /// How many expressions lie within each other at most, this one included.
    pub height: usize,
    pub kind: ExprKind,
}

impl Expr {
    pub fn new(at: usize, kind: ExprKind) -> Self {
        let most = |parts: &mut dyn Iterator<Item = &Expr>| parts.map(|part| part.height).max().unwrap_or(0);
        let inner = match &kind {
            ExprKind::Literal(_) | ExprKind::Ident(_) => 0,
            ExprKind::Select { operand, .. } => operand.height,
            ExprKind::Index { operand, index, .. } => operand.height.max(index.height),
            ExprKind::Call { target, args, .. } => most(&mut target.iter().map(Box::as_ref).chain(args)),
            ExprKind::And(terms) | ExprKind::Or(terms) => most(&mut terms.iter()),
            ExprKind::Conditional(parts) => most(&mut parts.iter()),
            ExprKind::List(items) => most(&mut items.iter().map(|(item, _)| item)),
            ExprKind::Map(entries) => most(&mut entries.iter().flat_map(|(key, value, _)| [key, value])),
            ExprKind::Struct { fields, .. } => most(&mut fields.iter().map(|(_, value, _)| value)),
            ExprKind::Fold(fold) => most(&mut [&fold.range, &fold.body].into_iter().chain(&fold.filter)),
        };
        Expr { at, height: inner + 1, kind }
    }
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
