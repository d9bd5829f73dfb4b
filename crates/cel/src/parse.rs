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

const RELATIONS: &[(&str, &str)] =
    &[("<=", "_<=_"), (">=", "_>=_"), ("<", "_<_"), (">", "_>_"), ("==", "_==_"), ("!=", "_!=_"), ("in", "@in")];
const SUMS: &[(&str, &str)] = &[("+", "_+_"), ("-", "_-_")];
const PRODUCTS: &[(&str, &str)] = &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")];

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
            return Err((0, format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        Ok(())
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.deeper()?;
        let condition = self.or()?;
        if !self.is("?") {
            self.depth -= 1;
            return Ok(condition);
        }
        let at = self.advance().at;
        let yes = self.or()?;
        self.expect(":")?;
        let no = self.expr()?;
        self.depth -= 1;
        Ok(Expr { at, kind: ExprKind::Conditional(Box::new([condition, yes, no])) })
    }

    fn or(&mut self) -> Parsed<Expr> {
        let first = self.and()?;
        if !self.is("||") {
            return Ok(first);
        }
        let (at, mut terms) = (self.at(), vec![first]);
        while self.take("||") {
            terms.push(self.and()?);
        }
        Ok(Expr { at, kind: ExprKind::Or(terms) })
    }

    fn and(&mut self) -> Parsed<Expr> {
        let first = self.chain(0)?;
        if !self.is("&&") {
            return Ok(first);
        }
        let (at, mut terms) = (self.at(), vec![first]);
        while self.take("&&") {
            terms.push(self.chain(0)?);
        }
        Ok(Expr { at, kind: ExprKind::And(terms) })
    }

    /// Operators that bind from the left, the loosest first.
    fn chain(&mut self, level: usize) -> Parsed<Expr> {
        let Some(operators) = [RELATIONS, SUMS, PRODUCTS].get(level) else { return self.unary() };
        let mut left = self.chain(level + 1)?;
        let depth = self.depth;
        while let Some((_, function)) = operators.iter().find(|(symbol, _)| self.is(symbol)) {
            self.deeper()?;
            let at = self.advance().at;
            let right = self.chain(level + 1)?;
            left = call(at, function, vec![left, right]);
        }
        self.depth = depth;
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let at = self.at();
        for (symbol, function) in [("!", "!_"), ("-", "-_")] {
            if !self.is(symbol) {
                continue;
            }
            let mut count = 0;
            while self.take(symbol) {
                count += 1;
            }
            if symbol == "-" && count % 2 == 1 {
                // a sign right before a number is part of it
                match self.word().token.clone() {
                    Token::Literal(Literal::Int(value)) => return self.signed(at, Literal::Int(-value)),
                    Token::Literal(Literal::Double(value)) => return self.signed(at, Literal::Double(-value)),
                    Token::Big(_) => return self.signed(at, Literal::Int(i64::MIN)),
                    _ => {}
                }
            }
            let operand = self.member()?;
            return Ok(if count % 2 == 1 { call(at, function, vec![operand]) } else { operand });
        }
        self.member()
    }

    fn signed(&mut self, at: usize, literal: Literal) -> Parsed<Expr> {
        self.advance();
        self.members(Expr { at, kind: ExprKind::Literal(literal) })
    }

    fn member(&mut self) -> Parsed<Expr> {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let depth = self.depth;
        loop {
            if self.is(".") {
                self.deeper()?;
                let at = self.advance().at;
                let optional = self.take("?");
                let quoted = matches!(self.word().token, Token::Quoted(_));
                let field = self.name(true)?;
                if self.is("(") && !quoted && !optional {
                    let at = self.advance().at;
                    let args = self.list_until(")")?;
                    expr = macros::member(at, expr, field, args)?;
                } else {
                    expr =
                        Expr { at, kind: ExprKind::Select { operand: Box::new(expr), field, test: false, optional } };
                }
            } else if self.is("[") {
                self.deeper()?;
                let at = self.advance().at;
                let optional = self.take("?");
                let index = self.expr()?;
                self.expect("]")?;
                expr = Expr { at, kind: ExprKind::Index { operand: Box::new(expr), index: Box::new(index), optional } };
            } else if self.is("{") && type_name(&expr).is_some() {
                let name = type_name(&expr).unwrap_or_default();
                expr = self.construct(name)?;
            } else {
                self.depth = depth;
                return Ok(expr);
            }
        }
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
        let word = self.word().clone();
        let at = word.at;
        match word.token {
            Token::Literal(literal) => {
                self.advance();
                Ok(Expr { at, kind: ExprKind::Literal(literal) })
            }
            Token::Big(_) => Err((at, "invalid int literal".into())),
            Token::Symbol("(") => {
                self.advance();
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Symbol("[") => self.list(),
            Token::Symbol("{") => self.map(),
            Token::Symbol(".") | Token::Ident(_) => {
                // a leading dot starts at the root, which is where every name is looked up anyway
                self.take(".");
                let name_at = self.at();
                let name = self.name(false)?;
                if self.is("(") {
                    let at = self.advance().at;
                    let args = self.list_until(")")?;
                    return macros::global(at, name, args);
                }
                Ok(Expr { at: name_at, kind: ExprKind::Ident(name) })
            }
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
        Ok(Expr { at, kind: ExprKind::List(items) })
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
        Ok(Expr { at, kind: ExprKind::Map(entries) })
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
        Ok(Expr { at, kind: ExprKind::Struct { name, fields } })
    }
}

fn call(at: usize, function: &str, args: Vec<Expr>) -> Expr {
    Expr { at, kind: ExprKind::Call { function: function.to_owned(), target: None, args } }
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
