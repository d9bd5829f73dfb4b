//! The type checker: resolves names and overloads, infers types, and makes of the parsed expression the checked one.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Expr, ExprKind, Fold, FoldKind, Literal};
use crate::environment::Environment;
use crate::functions::{Overload, overloads};
use crate::node::{Access, FoldNode, Node, NodeKind, Operator};
use crate::parse::type_name;
use crate::types::{Opaque, Type};
use crate::unify::Unifier;
use crate::value::Value;

pub(crate) struct Checker<'e> {
    environment: &'e Environment,
    unifier: Unifier,
    problems: Vec<(usize, String)>,
    /// Names that macros bind, innermost last, with their types.
    locals: Vec<(String, Type)>,
    pub slots: usize,
    /// Variables in the order of their first use.
    pub variables: Vec<String>,
    positions: HashMap<String, usize>,
}

/// The checked expression, or every problem of it.
pub(crate) fn check<'e>(
    environment: &'e Environment,
    expr: &Expr,
) -> Result<(Node, Checker<'e>), Vec<(usize, String)>> {
    let mut checker = Checker {
        environment,
        unifier: Unifier::default(),
        problems: Vec::new(),
        locals: Vec::new(),
        slots: 0,
        variables: Vec::new(),
        positions: HashMap::new(),
    };
    let mut node = checker.expr(expr);
    checker.finish(&mut node);
    if checker.problems.is_empty() { Ok((node, checker)) } else { Err(checker.problems) }
}

fn node(at: usize, ty: Type, kind: NodeKind) -> Node {
    Node { at, ty, kind }
}

fn constant(literal: &Literal) -> (Type, Value<'static>) {
    match literal {
        Literal::Null => (Type::Null, Value::Null),
        Literal::Bool(value) => (Type::Bool, Value::Bool(*value)),
        Literal::Int(value) => (Type::Int, Value::Int(*value)),
        Literal::Uint(value) => (Type::Uint, Value::Uint(*value)),
        Literal::Double(value) => (Type::Double, Value::Double(*value)),
        Literal::String(text) => (Type::STRING, Value::string(text.as_str())),
        Literal::Bytes(bytes) => (Type::BYTES, Value::Bytes(bytes.as_slice().into())),
    }
}

impl Checker<'_> {
    fn failed(&mut self, at: usize, message: String) -> Node {
        self.problems.push((at, message));
        node(at, Type::Error, NodeKind::Const(Value::Null))
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Node {
        self.failed(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn expr(&mut self, expr: &Expr) -> Node {
        let at = expr.at;
        match &expr.kind {
            ExprKind::Literal(literal) => {
                let (ty, value) = constant(literal);
                node(at, ty, NodeKind::Const(value))
            }
            ExprKind::Ident(name) => match self.name(at, name) {
                Some(found) => found,
                None => self.undeclared(at, name),
            },
            ExprKind::Select { operand, field, test, optional } => self.select(expr, operand, field, *test, *optional),
            ExprKind::Index { operand, index, optional } => self.index(at, operand, index, *optional),
            ExprKind::Call { function, target, args } => self.call(at, function, target.as_deref(), args),
            ExprKind::And(terms) => self.logic(at, "_&&_", terms, NodeKind::And),
            ExprKind::Or(terms) => self.logic(at, "_||_", terms, NodeKind::Or),
            ExprKind::Conditional(parts) => self.conditional(at, parts),
            ExprKind::List(items) => self.list(at, items),
            ExprKind::Map(entries) => self.map(at, entries),
            ExprKind::Struct { name, fields } => self.construct(at, name, fields),
            ExprKind::Fold(fold) => self.fold(at, fold),
        }
    }

    fn conditional(&mut self, at: usize, parts: &[Expr; 3]) -> Node {
        let [condition, yes, no] = parts;
        let parts = Box::new([self.expr(condition), self.expr(yes), self.expr(no)]);
        let fits =
            self.unifier.assignable(&Type::Bool, &parts[0].ty) && self.unifier.assignable(&parts[1].ty, &parts[2].ty);
        if !fits {
            return self.no_overload(at, "_?_:_", false, &[&parts[0].ty, &parts[1].ty, &parts[2].ty]);
        }
        let ty = self.unifier.wider(&parts[1].ty, &parts[2].ty);
        node(at, ty, NodeKind::Conditional(parts))
    }

    /// A variable, what a macro binds, or a type.
    fn name(&mut self, at: usize, name: &str) -> Option<Node> {
        if let Some(slot) = self.locals.iter().rposition(|(local, _)| local == name) {
            return Some(node(at, self.locals[slot].1.clone(), NodeKind::Local(slot)));
        }
        if let Some(ty) = self.environment.declared(name) {
            let ty = ty.clone();
            let next = self.variables.len();
            let index = *self.positions.entry(name.to_owned()).or_insert(next);
            if index == next {
                self.variables.push(name.to_owned());
            }
            return Some(node(at, ty, NodeKind::Variable { index, dots: name.matches('.').count() as u64 }));
        }
        let ty = named_type(name)?;
        let value = Value::Type(Arc::from(ty.runtime_name()));
        Some(node(at, Type::Type(Arc::new(ty)), NodeKind::Const(value)))
    }

    fn is_local(&self, name: &str) -> bool {
        self.locals.iter().any(|(local, _)| local == name)
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool, optional: bool) -> Node {
        if !test
            && !optional
            && let Some(name) = type_name(expr)
            && !self.is_local(name.split('.').next().unwrap_or_default())
            && let Some(found) = self.name(expr.at, &name)
        {
            return found;
        }
        let operand = self.expr(operand);
        let mut ty = self.unifier.resolved(&operand.ty);
        let mut wrapped = optional;
        if let Type::Optional(inner) = &ty {
            wrapped = true;
            ty = self.unifier.resolved(inner);
        }
        let found = match &ty {
            Type::Dyn(_) | Type::Error | Type::Param(_) => Type::DYN,
            Type::Map(map) => map.value.clone(),
            Type::Object(object) => match object.fields.get(field) {
                Some(found) => found.ty.clone(),
                None if object.open => Type::DYN,
                None => return self.failed(expr.at, format!("undefined field '{field}'")),
            },
            other => return self.failed(expr.at, format!("type '{other}' does not support field selection")),
        };
        let ty = match (test, wrapped) {
            (true, _) => Type::Bool,
            (false, true) if !matches!(found, Type::Optional(_)) || optional => Type::optional(found),
            (false, _) => found,
        };
        let access = match (test, optional) {
            (true, _) => Access::Test,
            (false, true) => Access::Optional,
            (false, false) => Access::Plain,
        };
        let plain = crate::escape::unescape(field).unwrap_or_else(|| field.to_owned());
        let kind = NodeKind::Select { operand: Box::new(operand), name: field.into(), plain: plain.into(), access };
        node(expr.at, ty, kind)
    }

    fn index(&mut self, at: usize, operand: &Expr, index: &Expr, optional: bool) -> Node {
        let (operand, index) = (self.expr(operand), self.expr(index));
        let mut ty = self.unifier.resolved(&operand.ty);
        let mut wrapped = optional;
        if let Type::Optional(inner) = &ty {
            wrapped = true;
            ty = self.unifier.resolved(inner);
        }
        let (fits, found) = match &ty {
            Type::Dyn(_) | Type::Error | Type::Param(_) => (true, Type::DYN),
            Type::List(list) => (self.unifier.assignable(&Type::Int, &index.ty), list.elem.clone()),
            Type::Map(map) => (self.unifier.assignable(&map.key, &index.ty), map.value.clone()),
            _ => (false, Type::Error),
        };
        if !fits {
            let function = if optional { "_[?_]" } else { "_[_]" };
            return self.no_overload(at, function, false, &[&operand.ty, &index.ty]);
        }
        let ty = if wrapped { Type::optional(found) } else { found };
        node(at, ty, NodeKind::Index { operand: Box::new(operand), index: Box::new(index), optional })
    }

    fn logic(&mut self, at: usize, function: &str, terms: &[Expr], make: fn(Vec<Node>) -> NodeKind) -> Node {
        let nodes: Vec<Node> = terms.iter().map(|term| self.expr(term)).collect();
        for (index, term) in nodes.iter().enumerate() {
            if self.unifier.assignable(&Type::Bool, &term.ty) {
                continue;
            }
            // told of the pair in which it stands
            let pair = if index == 0 {
                [term.ty.clone(), nodes.get(1).map_or(Type::Bool, |next| next.ty.clone())]
            } else {
                [Type::Bool, term.ty.clone()]
            };
            return self.no_overload(at, function, false, &[&pair[0], &pair[1]]);
        }
        node(at, Type::Bool, make(nodes))
    }

    fn no_overload(&mut self, at: usize, function: &str, member: bool, args: &[&Type]) -> Node {
        let args: Vec<Type> = args.iter().map(|ty| self.unifier.finished(ty)).collect();
        if args.contains(&Type::Error) {
            return node(at, Type::Error, NodeKind::Const(Value::Null));
        }
        let texts = |args: &[Type]| args.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
        let shown = match (member, args.split_first()) {
            (true, Some((target, args))) => format!("{target}.({})", texts(args)),
            _ => format!("({})", texts(&args)),
        };
        self.failed(at, format!("found no matching overload for '{function}' applied to '{shown}'"))
    }

    fn call(&mut self, at: usize, function: &str, target: Option<&Expr>, args: &[Expr]) -> Node {
        let mut function = function.to_owned();
        let mut target = target;
        // `sets.contains(...)` is a function of a dotted name, unless `sets` is a variable
        if let Some(space) = target.and_then(type_name) {
            let dotted = format!("{space}.{function}");
            let root = space.split('.').next().unwrap_or_default();
            if overloads(&dotted).is_some() && !self.is_local(root) && self.environment.declared(root).is_none() {
                (function, target) = (dotted, None);
            }
        }
        let member = target.is_some();
        let nodes: Vec<Node> = target.into_iter().chain(args).map(|arg| self.expr(arg)).collect();
        if nodes.iter().any(|arg| arg.ty == Type::Error) {
            return node(at, Type::Error, NodeKind::Const(Value::Null));
        }
        let Some(candidates) = overloads(&function) else { return self.undeclared(at, &function) };
        let (found, ty) = self.resolve(candidates, member, &nodes);
        let Some(ty) = ty else {
            let types: Vec<Type> = nodes.iter().map(|arg| arg.ty.clone()).collect();
            return self.no_overload(at, &function, member, &types.iter().collect::<Vec<_>>());
        };
        if let Some(problem) = literal_problem(&function, &found, &nodes) {
            return self.failed(nodes.last().map_or(at, |last| last.at), problem);
        }
        let kind = self.called(&function, found, nodes);
        node(at, ty, kind)
    }

    fn called(&self, function: &str, found: Vec<&'static Overload>, mut args: Vec<Node>) -> NodeKind {
        if let Some(operator) = Operator::of(function) {
            return NodeKind::Operator { operator, args };
        }
        if matches!(function, "or" | "orValue") && args.len() == 2 {
            let other = Box::new(args.remove(1));
            return NodeKind::Else { optional: Box::new(args.remove(0)), other, value: function == "orValue" };
        }
        let pattern = match (function, args.get(1).map(|arg| &arg.kind)) {
            ("matches" | "find" | "findAll", Some(NodeKind::Const(Value::String(text)))) => {
                crate::pattern::compile(text).ok().map(Box::new)
            }
            _ => None,
        };
        NodeKind::Call { overloads: found, args, pattern }
    }

    /// The overloads that may be meant, and the type of what they give.
    fn resolve(
        &mut self,
        candidates: &'static [Overload],
        member: bool,
        args: &[Node],
    ) -> (Vec<&'static Overload>, Option<Type>) {
        let (mut found, mut result) = (Vec::new(), None::<Type>);
        for overload in candidates.iter().filter(|o| o.member == member && o.params.len() == args.len()) {
            let fresh = self.unifier.fresh(2);
            let saved = self.unifier.save();
            let fits = overload.params.iter().zip(args).all(|(param, arg)| {
                let param = fresh.instance(param);
                self.unifier.assignable(&param, &arg.ty)
            });
            if !fits {
                self.unifier.restore(saved);
                continue;
            }
            found.push(overload);
            let ty = self.unifier.resolved_deep(&fresh.instance(&overload.result));
            result = Some(match result {
                None => ty,
                Some(before) if before == ty || before.is_dyn() => before,
                Some(_) => Type::DYN,
            });
        }
        (found, result)
    }

    /// The type of items that stand beside each other; they must agree.
    fn joined(&mut self, joined: Option<Type>, item: &Type, at: usize) -> Option<Type> {
        let Some(before) = joined else { return Some(item.clone()) };
        if self.unifier.assignable(&before, item) {
            return Some(self.unifier.wider(&before, item));
        }
        let (expected, found) = (self.unifier.finished(&before), self.unifier.finished(item));
        self.problems.push((at, format!("expected type '{expected}' but found '{found}'")));
        Some(Type::Error)
    }

    fn unwrapped(&mut self, node: &Node, optional: bool) -> Type {
        if !optional {
            return node.ty.clone();
        }
        match self.unifier.resolved(&node.ty) {
            Type::Optional(inner) => (*inner).clone(),
            ty if ty.is_dyn() => Type::DYN,
            ty => {
                self.problems.push((node.at, format!("expected type 'optional_type({ty})' but found '{ty}'")));
                Type::Error
            }
        }
    }

    fn list(&mut self, at: usize, items: &[(Expr, bool)]) -> Node {
        let mut elem = None;
        let mut nodes = Vec::with_capacity(items.len());
        for (item, optional) in items {
            let item = self.expr(item);
            let ty = self.unwrapped(&item, *optional);
            elem = self.joined(elem, &ty, item.at);
            nodes.push((item, *optional));
        }
        let elem = elem.unwrap_or_else(|| self.unifier.fresh(1).instance(&Type::Param(0)));
        node(at, Type::list(elem), NodeKind::List(nodes))
    }

    fn map(&mut self, at: usize, entries: &[(Expr, Expr, bool)]) -> Node {
        let (mut keys, mut values) = (None, None);
        let mut nodes = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let (key, value) = (self.expr(key), self.expr(value));
            keys = self.joined(keys, &key.ty, key.at);
            let ty = self.unwrapped(&value, *optional);
            values = self.joined(values, &ty, value.at);
            nodes.push((key, value, *optional));
        }
        let key = keys.unwrap_or_else(|| self.unifier.fresh(1).instance(&Type::Param(0)));
        let value = values.unwrap_or_else(|| self.unifier.fresh(1).instance(&Type::Param(0)));
        node(at, Type::map(key, value), NodeKind::Map(nodes))
    }

    fn construct(&mut self, at: usize, name: &str, fields: &[(String, Expr, bool)]) -> Node {
        let Some(object) = self.environment.constructible(name) else { return self.undeclared(at, name) };
        let mut nodes = Vec::with_capacity(fields.len());
        for (field, value, optional) in fields {
            let value = self.expr(value);
            let Some(ty) = object.fields.get(field).map(|field| field.ty.clone()).or(object.open.then_some(Type::DYN))
            else {
                self.problems.push((value.at, format!("undefined field '{field}'")));
                continue;
            };
            let found = self.unwrapped(&value, *optional);
            if !self.unifier.assignable(&ty, &found) {
                let found = self.unifier.finished(&found);
                let message = format!("expected type of field '{field}' is '{ty}' but provided type is '{found}'");
                self.problems.push((value.at, message));
            }
            let json = object.fields.get(field).map_or(field.as_str(), |field| &field.json);
            let json = if object.open { crate::escape::unescape(json).unwrap_or(json.into()) } else { json.into() };
            nodes.push((Arc::from(json), value, *optional));
        }
        let kind = NodeKind::Struct { name: Arc::from(name), fields: nodes };
        node(at, Type::object(object), kind)
    }

    fn fold(&mut self, at: usize, fold: &Fold) -> Node {
        let range = self.expr(&fold.range);
        let two = fold.second.is_some();
        let ty = self.unifier.resolved(&range.ty);
        let optional = matches!(fold.kind, FoldKind::OptMap | FoldKind::OptFlatMap);
        let (first, second) = match &ty {
            Type::Optional(inner) if optional => ((**inner).clone(), Type::DYN),
            Type::Dyn(_) | Type::Error | Type::Param(_) => (Type::DYN, Type::DYN),
            Type::List(list) if !optional && two => (Type::Int, list.elem.clone()),
            Type::List(list) if !optional => (list.elem.clone(), Type::DYN),
            Type::Map(map) if !optional => (map.key.clone(), map.value.clone()),
            _ if optional => return self.no_overload(at, "hasValue", true, &[&ty]),
            other => {
                let shown = self.unifier.finished(other);
                let message = format!(
                    "expression of type '{shown}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                return self.failed(range.at, message);
            }
        };
        let base = self.locals.len();
        self.locals.push((fold.first.clone(), first.clone()));
        self.locals.extend(fold.second.clone().map(|name| (name, second)));
        self.slots = self.slots.max(self.locals.len());
        let filter = fold.filter.as_ref().map(|filter| self.expr(filter));
        let body = self.expr(&fold.body);
        self.locals.truncate(base);
        let result = self.fold_type(at, fold.kind, &ty, &first, filter.as_ref(), &body);
        let Some(result) = result else { return node(at, Type::Error, NodeKind::Const(Value::Null)) };
        let fold = FoldNode { kind: fold.kind, range, first: base, second: two.then_some(base + 1), filter, body };
        node(at, result, NodeKind::Fold(Box::new(fold)))
    }

    fn fold_type(
        &mut self,
        at: usize,
        kind: FoldKind,
        range: &Type,
        first: &Type,
        filter: Option<&Node>,
        body: &Node,
    ) -> Option<Type> {
        let tested = match kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne | FoldKind::Filter => Some(body),
            _ => filter,
        };
        if let Some(test) = tested
            && !self.unifier.assignable(&Type::Bool, &test.ty)
        {
            let accumulated = if kind == FoldKind::ExistsOne { Type::Int } else { Type::list(first.clone()) };
            let _ = match kind {
                FoldKind::All => self.no_overload(at, "_&&_", false, &[&Type::Bool, &test.ty]),
                FoldKind::Exists => self.no_overload(at, "_||_", false, &[&Type::Bool, &test.ty]),
                _ => self.no_overload(at, "_?_:_", false, &[&test.ty, &accumulated, &accumulated]),
            };
            return None;
        }
        let key = || match range {
            Type::Map(map) => map.key.clone(),
            Type::List(_) => Type::Int,
            _ => Type::DYN,
        };
        Some(match kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Type::Bool,
            FoldKind::Map => Type::list(body.ty.clone()),
            FoldKind::Filter => Type::list(first.clone()),
            FoldKind::TransformMap => Type::map(key(), body.ty.clone()),
            FoldKind::TransformMapEntry => match self.unifier.resolved(&body.ty) {
                map @ Type::Map(_) => map,
                ty if ty.is_dyn() => Type::map(Type::DYN, Type::DYN),
                ty => {
                    let _ = self.no_overload(at, "cel.@mapInsert", false, &[&Type::map(Type::DYN, Type::DYN), &ty]);
                    return None;
                }
            },
            FoldKind::OptMap => Type::optional(body.ty.clone()),
            FoldKind::OptFlatMap => match self.unifier.resolved(&body.ty) {
                optional @ Type::Optional(_) => optional,
                ty if ty.is_dyn() => Type::DYN,
                ty => {
                    let none = Type::optional(Type::DYN);
                    let _ = self.no_overload(at, "_?_:_", false, &[&Type::Bool, &ty, &none]);
                    return None;
                }
            },
        })
    }

    /// Puts what was found out about types into every node.
    fn finish(&self, node: &mut Node) {
        node.ty = self.unifier.finished(&node.ty);
        crate::walk::children_mut(node, &mut |child| self.finish(child));
    }
}

/// What is wrong with a literal that a function would only ever refuse.
fn literal_problem(function: &str, found: &[&'static Overload], args: &[Node]) -> Option<String> {
    let NodeKind::Const(Value::String(text)) = &args.last()?.kind else { return None };
    let fits = match (function, found.first()?.id) {
        ("duration", "string_to_duration") => crate::library::time::parse_duration(text).is_some(),
        ("timestamp", "string_to_timestamp") => crate::library::time::parse_timestamp(text).is_some(),
        ("matches", _) => crate::pattern::compile(text).is_ok(),
        _ => true,
    };
    (!fits).then(|| format!("invalid {function} argument"))
}

fn named_type(name: &str) -> Option<Type> {
    let dynamic = || Type::DYN;
    Some(match name {
        "null_type" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::STRING,
        "bytes" => Type::BYTES,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "dyn" => Type::DYN,
        "list" => Type::list(dynamic()),
        "map" => Type::map(dynamic(), dynamic()),
        "optional_type" => Type::optional(dynamic()),
        "type" => Type::Type(Arc::new(dynamic())),
        _ => Type::Opaque(*Opaque::ALL.iter().find(|opaque| opaque.name() == name)?),
    })
}
