//! The grammar of CEL by recursive descent, bounded in depth and length.

use crate::ast::{Expr, ExprKind, Literal};
use crate::escape::RESERVED;
use crate::lex::{Token, Word, words};
use crate::macros;

/// In characters; longer expressions are refused.
pub const EXPRESSION_LEN_MAX: usize = 100_000;
/// How deep expressions may nest, and how long a chain of operators or selections may be.
pub const DEPTH_MAX: usize = 250;

type Problem = (usize, String);
type Parsed<T> = Result<T, Problem>;

const STARTS: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

pub(crate) fn parse(text: &str) -> Result<Expr, Vec<Problem>> {
    let len = text.chars().count();
    if len > EXPRESSION_LEN_MAX {
        let message = format!("expression code point size exceeds limit: size: {len}, limit {EXPRESSION_LEN_MAX}");
        return Err(vec![(0, message)]);
    }
    let mut parser = Parser { text, words: words(text)?, next: 0, depth: 0 };
    let expr = parser.expr().map_err(|problem| vec![problem])?;
    let word = parser.word();
    if word.token != Token::End {
        let shown = &text[word.at..word.end];
        return Err(vec![(word.at, format!("Syntax error: extraneous input '{shown}' expecting <EOF>"))]);
    }
    Ok(expr)
}

struct Parser<'t> {
    text: &'t str,
    words: Vec<Word>,
    next: usize,
    depth: usize,
}

/// Each operator, its function, and how tightly it binds.
const OPERATORS: &[(&str, &str, u8)] = &[
    ("||", "_||_", OR),
    ("&&", "_&&_", AND),
    ("<=", "_<=_", 2),
    (">=", "_>=_", 2),
    ("<", "_<_", 2),
    (">", "_>_", 2),
    ("==", "_==_", 2),
    ("!=", "_!=_", 2),
    ("in", "@in", 2),
    ("+", "_+_", 3),
    ("-", "_-_", 3),
    ("*", "_*_", 4),
    ("/", "_/_", 4),
    ("%", "_%_", 4),
];
const OR: u8 = 0;
const AND: u8 = 1;

impl Parser<'_> {
    fn word(&self) -> &Word {
        &self.words[self.next]
    }

    fn at(&self) -> usize {
        self.word().at
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.word().token, Token::Symbol(found) if found == symbol)
    }

    fn advance(&mut self) -> Word {
        let word = self.words[self.next].clone();
        self.next = (self.next + 1).min(self.words.len() - 1);
        word
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<usize> {
        if self.is(symbol) { Ok(self.advance().at) } else { Err(self.mismatch(&format!("'{symbol}'"))) }
    }

    fn mismatch(&self, expected: &str) -> Problem {
        let word = self.word();
        let shown = if word.token == Token::End { "<EOF>" } else { &self.text[word.at..word.end] };
        (word.at, format!("Syntax error: mismatched input '{shown}' expecting {expected}"))
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(too_deep());
        }
        Ok(())
    }

    // What recurses is cut into small functions: each keeps only what it needs on the stack.

    fn expr(&mut self) -> Parsed<Expr> {
        self.deeper()?;
        let mut found = self.binary(OR);
        if self.is("?") && found.is_ok() {
            found = self.conditional(found?);
        }
        self.depth -= 1;
        found.and_then(bounded)
    }

    fn conditional(&mut self, condition: Expr) -> Parsed<Expr> {
        let at = self.advance().at;
        let yes = self.binary(OR)?;
        self.expect(":")?;
        let no = self.expr()?;
        Ok(Expr::new(at, ExprKind::Conditional(Box::new([condition, yes, no]))))
    }

    /// Operators that bind at least as tightly as asked, from the left.
    fn binary(&mut self, least: u8) -> Parsed<Expr> {
        let depth = self.depth;
        let mut left = self.unary();
        while left.is_ok()
            && let Some(operator) = self.operator(least)
        {
            left = self.applied(left?, operator).and_then(bounded);
        }
        self.depth = depth;
        left
    }

    fn applied(&mut self, left: Expr, (symbol, function, level): (&str, &str, u8)) -> Parsed<Expr> {
        let at = self.advance().at;
        if level > AND {
            self.deeper()?;
            let right = self.binary(level + 1)?;
            return Ok(call(at, function, vec![left, right]));
        }
        let mut terms = vec![left, self.binary(level + 1)?];
        while self.take(symbol) {
            terms.push(self.binary(level + 1)?);
        }
        Ok(Expr::new(at, if level == AND { ExprKind::And(terms) } else { ExprKind::Or(terms) }))
    }

    fn operator(&self, least: u8) -> Option<(&'static str, &'static str, u8)> {
        let Token::Symbol(found) = self.word().token else { return None };
        OPERATORS.iter().find(|(symbol, _, level)| *symbol == found && *level >= least).copied()
    }

    fn unary(&mut self) -> Parsed<Expr> {
        if self.is("!") {
            return self.prefixed("!", "!_");
        }
        if self.is("-") {
            return self.prefixed("-", "-_");
        }
        self.member()
    }

    fn prefixed(&mut self, symbol: &str, function: &str) -> Parsed<Expr> {
        let at = self.at();
        let mut odd = false;
        while self.take(symbol) {
            odd = !odd;
        }
        if symbol == "-"
            && odd
            && let Some(literal) = self.negative()
        {
            return self.signed(at, literal);
        }
        let operand = self.member()?;
        Ok(if odd { call(at, function, vec![operand]) } else { operand })
    }

    /// The number that stands next, with the sign right before it.
    fn negative(&self) -> Option<Literal> {
        match self.word().token {
            Token::Literal(Literal::Int(value)) => Some(Literal::Int(-value)),
            Token::Literal(Literal::Double(value)) => Some(Literal::Double(-value)),
            Token::Big(_) => Some(Literal::Int(i64::MIN)),
            _ => None,
        }
    }

    fn signed(&mut self, at: usize, literal: Literal) -> Parsed<Expr> {
        self.advance();
        self.members(Expr::new(at, ExprKind::Literal(literal)))
    }

    fn member(&mut self) -> Parsed<Expr> {
        let primary = self.primary();
        if primary.is_ok() && (self.is(".") || self.is("[") || self.is("{")) {
            return self.members(primary?);
        }
        primary
    }

    fn members(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let depth = self.depth;
        while let Token::Symbol(symbol) = self.word().token {
            expr = match symbol {
                "." => bounded(self.dot(expr)?)?,
                "[" => bounded(self.bracket(expr)?)?,
                "{" => match type_name(&expr) {
                    Some(name) => self.construct(name)?,
                    None => break,
                },
                _ => break,
            };
        }
        self.depth = depth;
        Ok(expr)
    }

    fn dot(&mut self, operand: Expr) -> Parsed<Expr> {
        self.deeper()?;
        let at = self.advance().at;
        let optional = self.take("?");
        let quoted = matches!(self.word().token, Token::Quoted(_));
        let field = self.name(true)?;
        if self.is("(") && !quoted && !optional {
            let at = self.advance().at;
            let args = self.list_until(")")?;
            return macros::member(at, operand, field, args);
        }
        Ok(Expr::new(at, ExprKind::Select { operand: Box::new(operand), field, test: false, optional }))
    }

    fn bracket(&mut self, operand: Expr) -> Parsed<Expr> {
        self.deeper()?;
        let at = self.advance().at;
        let optional = self.take("?");
        let index = Box::new(self.expr()?);
        self.expect("]")?;
        Ok(Expr::new(at, ExprKind::Index { operand: Box::new(operand), index, optional }))
    }

    fn name(&mut self, field: bool) -> Parsed<String> {
        match self.word().token.clone() {
            Token::Ident(name) if !field && RESERVED.contains(&name.as_str()) => {
                Err((self.at(), format!("reserved identifier: {name}")))
            }
            Token::Ident(name) => {
                self.advance();
                Ok(name)
            }
            Token::Quoted(name) if field => {
                self.advance();
                Ok(name)
            }
            _ => Err(self.mismatch("IDENTIFIER")),
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match self.word().token {
            Token::Symbol("(") => self.grouped(),
            Token::Symbol("[") => self.list(),
            Token::Symbol("{") => self.map(),
            Token::Symbol(".") | Token::Ident(_) => self.named(),
            _ => self.literal(),
        }
    }

    fn grouped(&mut self) -> Parsed<Expr> {
        self.advance();
        let inner = self.expr();
        if inner.is_ok() {
            self.expect(")")?;
        }
        inner
    }

    fn named(&mut self) -> Parsed<Expr> {
        // a leading dot starts at the root, which is where every name is looked up anyway
        self.take(".");
        let at = self.at();
        let name = self.name(false)?;
        if self.is("(") {
            return self.called(name);
        }
        Ok(Expr::new(at, ExprKind::Ident(name)))
    }

    fn called(&mut self, name: String) -> Parsed<Expr> {
        let at = self.advance().at;
        let args = self.list_until(")")?;
        macros::global(at, name, args)
    }

    fn literal(&mut self) -> Parsed<Expr> {
        let at = self.at();
        match self.word().token.clone() {
            Token::Literal(literal) => {
                self.advance();
                Ok(Expr::new(at, ExprKind::Literal(literal)))
            }
            Token::Big(_) => Err((at, "invalid int literal".into())),
            _ => Err(self.mismatch(STARTS)),
        }
    }

    fn list_until(&mut self, close: &str) -> Parsed<Vec<Expr>> {
        let mut items = Vec::new();
        if self.take(close) {
            return Ok(items);
        }
        loop {
            items.push(self.expr()?);
            if !self.take(",") {
                self.expect(close)?;
                return Ok(items);
            }
        }
    }

    fn list(&mut self) -> Parsed<Expr> {
        let at = self.advance().at;
        let mut items = Vec::new();
        while !self.is("]") {
            let optional = self.take("?");
            items.push((self.expr()?, optional));
            if !self.take(",") {
                break;
            }
        }
        self.expect("]")?;
        Ok(Expr::new(at, ExprKind::List(items)))
    }

    fn map(&mut self) -> Parsed<Expr> {
        let at = self.advance().at;
        let mut entries = Vec::new();
        while !self.is("}") {
            let optional = self.take("?");
            let key = self.expr()?;
            self.expect(":")?;
            entries.push((key, self.expr()?, optional));
            if !self.take(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(Expr::new(at, ExprKind::Map(entries)))
    }

    fn construct(&mut self, name: String) -> Parsed<Expr> {
        let at = self.advance().at;
        let mut fields = Vec::new();
        while !self.is("}") {
            let optional = self.take("?");
            let field = self.name(true)?;
            self.expect(":")?;
            fields.push((field, self.expr()?, optional));
            if !self.take(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(Expr::new(at, ExprKind::Struct { name, fields }))
    }
}

fn too_deep() -> Problem {
    (0, format!("expression recursion limit exceeded: {DEPTH_MAX}"))
}

/// Chains grow to the left without any recursion here, but what walks through them recurses.
fn bounded(expr: Expr) -> Parsed<Expr> {
    if expr.height > DEPTH_MAX { Err(too_deep()) } else { Ok(expr) }
}

fn call(at: usize, function: &str, args: Vec<Expr>) -> Expr {
    Expr::new(at, ExprKind::Call { function: function.to_owned(), target: None, args })
}

/// `a.b.c` where the text could name a type.
pub(crate) fn type_name(expr: &Expr) -> Option<String> {
    let mut parts = Vec::new();
    let mut expr = expr;
    loop {
        match &expr.kind {
            ExprKind::Ident(name) => {
                parts.push(name.as_str());
                parts.reverse();
                return Some(parts.join("."));
            }
            ExprKind::Select { operand, field, test: false, optional: false } => {
                parts.push(field);
                expr = operand;
            }
            _ => return None,
        }
    }
}
