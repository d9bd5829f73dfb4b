//! Calls that are not functions: `has`, `all`, `map` and the like bind names or look at the shape of their arguments.

use crate::ast::{Expr, ExprKind, Fold, FoldKind};

type Parsed<T> = Result<T, (usize, String)>;

pub(crate) fn global(at: usize, function: String, mut args: Vec<Expr>) -> Parsed<Expr> {
    if function == "has" && args.len() == 1 {
        let argument = args.remove(0);
        return match argument.kind {
            ExprKind::Select { operand, field, optional: false, .. } => {
                Ok(Expr::new(at, ExprKind::Select { operand, field, test: true, optional: false }))
            }
            _ => Err((argument.at, "invalid argument to has() macro".into())),
        };
    }
    Ok(Expr::new(at, ExprKind::Call { function, target: None, args }))
}

pub(crate) fn member(at: usize, target: Expr, function: String, args: Vec<Expr>) -> Parsed<Expr> {
    use FoldKind::*;
    let (kind, names, filtered) = match (function.as_str(), args.len()) {
        ("all", 2) => (All, 1, false),
        ("exists", 2) => (Exists, 1, false),
        ("exists_one" | "existsOne", 2) => (ExistsOne, 1, false),
        ("map", 2) => (Map, 1, false),
        ("map", 3) => (Map, 1, true),
        ("filter", 2) => (Filter, 1, false),
        ("all", 3) => (All, 2, false),
        ("exists", 3) => (Exists, 2, false),
        ("existsOne" | "exists_one", 3) => (ExistsOne, 2, false),
        ("transformList", 3) => (Map, 2, false),
        ("transformList", 4) => (Map, 2, true),
        ("transformMap", 3) => (TransformMap, 2, false),
        ("transformMap", 4) => (TransformMap, 2, true),
        ("transformMapEntry", 3) => (TransformMapEntry, 2, false),
        ("transformMapEntry", 4) => (TransformMapEntry, 2, true),
        ("optMap", 2) => (OptMap, 1, false),
        ("optFlatMap", 2) => (OptFlatMap, 1, false),
        _ => return Ok(Expr::new(at, ExprKind::Call { function, target: Some(Box::new(target)), args })),
    };
    let mut args = args.into_iter();
    let mut name = || -> Parsed<String> {
        let Some(arg) = args.next() else { return Err((at, "argument must be a simple name".into())) };
        match arg.kind {
            ExprKind::Ident(name) if name == "__result__" || name == "@result" => {
                Err((arg.at, "iteration variable overwrites accumulator variable".into()))
            }
            ExprKind::Ident(name) => Ok(name),
            _ if matches!(kind, OptMap | OptFlatMap) => {
                Err((arg.at, format!("{function}() variable name must be a simple identifier")))
            }
            _ => Err((arg.at, "argument must be a simple name".into())),
        }
    };
    let first = name()?;
    let second = if names == 2 { Some(name()?) } else { None };
    if second.as_ref() == Some(&first) {
        return Err((at, format!("duplicate variable name: {first}")));
    }
    let filter = if filtered { args.next() } else { None };
    let Some(body) = args.next() else { return Err((at, "argument must be a simple name".into())) };
    Ok(Expr::new(at, ExprKind::Fold(Box::new(Fold { kind, range: target, first, second, filter, body }))))
}
