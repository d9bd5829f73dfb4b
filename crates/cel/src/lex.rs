//! The text of an expression as words.

use crate::ast::Literal;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    /// In back quotes: a field of a name that no identifier has.
    Quoted(String),
    Literal(Literal),
    /// A number without its sign: 2^63 is allowed after a minus only.
    Big(String),
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub at: usize,
    pub end: usize,
    pub token: Token,
}

const SYMBOLS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

type Problem = (usize, String);

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    words: Vec<Word>,
    problems: Vec<Problem>,
}

/// All words, the last of which is the end.
pub(crate) fn words(text: &str) -> Result<Vec<Word>, Vec<Problem>> {
    let mut lexer = Lexer { text, at: 0, words: Vec::new(), problems: Vec::new() };
    while lexer.next_word() {}
    if lexer.problems.is_empty() { Ok(lexer.words) } else { Err(lexer.problems) }
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest().trim_start_matches([' ', '\t', '\r', '\n', '\u{c}']);
            self.at = self.text.len() - rest.len();
            if !rest.starts_with("//") {
                return;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn push(&mut self, len: usize, token: Token) {
        self.words.push(Word { at: self.at, end: self.at + len, token });
        self.at += len;
    }

    fn next_word(&mut self) -> bool {
        self.skip_blank();
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            self.push(0, Token::End);
            return false;
        };
        if let Some((raw, bytes, open)) = string_start(rest) {
            self.string(raw, bytes, open);
        } else if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            self.number();
        } else if first.is_ascii_alphabetic() || first == '_' {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let token = match &rest[..len] {
                "true" => Token::Literal(Literal::Bool(true)),
                "false" => Token::Literal(Literal::Bool(false)),
                "null" => Token::Literal(Literal::Null),
                "in" => Token::Symbol("in"),
                name => Token::Ident(name.to_owned()),
            };
            self.push(len, token);
        } else if first == '`' {
            let inner = rest[1..].find('`').map(|end| &rest[1..=end]).unwrap_or("");
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ');
            if inner.is_empty() || !inner.chars().all(fits) {
                self.unknown(first);
            } else {
                self.push(inner.len() + 2, Token::Quoted(inner.to_owned()));
            }
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            self.push(symbol.len(), Token::Symbol(symbol));
        } else {
            self.unknown(first);
        }
        true
    }

    fn unknown(&mut self, what: char) {
        self.problems.push((self.at, format!("Syntax error: token recognition error at: '{what}'")));
        self.at += what.len_utf8();
    }

    fn number(&mut self) {
        let rest = self.rest();
        let digits = |from: usize| from + rest[from..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - from);
        if rest.starts_with("0x") && rest[2..].starts_with(|c: char| c.is_ascii_hexdigit()) {
            let end = 2 + rest[2..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len() - 2);
            return self.whole(end, 16, 2);
        }
        let whole_end = digits(0);
        let mut end = whole_end;
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            end = digits(end + 1);
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            if rest[end + 1 + sign..].starts_with(|c: char| c.is_ascii_digit()) {
                end = digits(end + 1 + sign);
            }
        }
        if end == whole_end {
            return self.whole(end, 10, 0);
        }
        match rest[..end].parse::<f64>() {
            Ok(value) if value.is_finite() => self.push(end, Token::Literal(Literal::Double(value))),
            _ => {
                self.problems.push((self.at, "invalid double literal".into()));
                self.at += end;
            }
        }
    }

    fn whole(&mut self, end: usize, radix: u32, skip: usize) {
        let digits = &self.rest()[skip..end];
        if self.rest()[end..].starts_with(['u', 'U']) {
            match u64::from_str_radix(digits, radix) {
                Ok(value) => self.push(end + 1, Token::Literal(Literal::Uint(value))),
                Err(_) => {
                    self.problems.push((self.at, "invalid uint literal".into()));
                    self.at += end + 1;
                }
            }
            return;
        }
        match u64::from_str_radix(digits, radix) {
            Ok(value) if value <= i64::MAX as u64 => self.push(end, Token::Literal(Literal::Int(value as i64))),
            Ok(value) if value == 1 << 63 => self.push(end, Token::Big(digits.to_owned())),
            _ => {
                self.problems.push((self.at, "invalid int literal".into()));
                self.at += end;
            }
        }
    }

    fn string(&mut self, raw: bool, bytes: bool, prefix: usize) {
        let start = self.at;
        let body = &self.rest()[prefix..];
        let quote = &body[..1];
        let triple = quote.repeat(3);
        let fence = if body.starts_with(&triple) { triple.as_str() } else { quote };
        let inner = &body[fence.len()..];
        let mut len = None;
        let mut chars = inner.char_indices();
        while let Some((at, c)) = chars.next() {
            if inner[at..].starts_with(fence) {
                len = Some(at);
                break;
            }
            match c {
                '\\' if !raw => drop(chars.next()),
                '\n' | '\r' if fence.len() == 1 => break,
                _ => {}
            }
        }
        let Some(len) = len else {
            let shown = inner.split('\n').next().unwrap_or("");
            let opened = &self.rest()[..prefix + fence.len()];
            self.problems.push((start, format!("Syntax error: token recognition error at: '{opened}{shown}'")));
            self.at = self.text.len();
            return;
        };
        let whole = prefix + 2 * fence.len() + len;
        let literal = match (raw, bytes) {
            (true, false) => Some(Literal::String(inner[..len].to_owned())),
            (true, true) => Some(Literal::Bytes(inner.as_bytes()[..len].to_vec())),
            (false, false) => {
                unescape(&inner[..len], false).and_then(|bytes| String::from_utf8(bytes).ok()).map(Literal::String)
            }
            (false, true) => unescape(&inner[..len], true).map(Literal::Bytes),
        };
        match literal {
            Some(literal) => self.push(whole, Token::Literal(literal)),
            None => {
                let kind = if bytes { "bytes" } else { "string" };
                self.problems.push((start, format!("invalid {kind} literal: unable to unescape string")));
                self.at += whole;
            }
        }
    }
}

/// Whether a string begins here: raw, bytes, and how long the prefix is.
fn string_start(rest: &str) -> Option<(bool, bool, usize)> {
    let bytes = rest.as_bytes();
    let (mut raw, mut is_bytes, mut at) = (false, false, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'r' | b'R' if !raw => raw = true,
            b'b' | b'B' if !is_bytes => is_bytes = true,
            b'"' | b'\'' => return Some((raw, is_bytes, at)),
            _ => return None,
        }
        at += 1;
    }
    None
}

fn unescape(text: &str, bytes: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let kind = rest[at + 1..].chars().next()?;
        rest = &rest[at + 1 + kind.len_utf8()..];
        let simple = match kind {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '\'' | '"' | '`' | '?' => Some(kind as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            out.push(byte);
            continue;
        }
        let (len, radix, skip) = match kind {
            'x' | 'X' => (2, 16, 0),
            'u' if !bytes => (4, 16, 0),
            'U' if !bytes => (8, 16, 0),
            '0'..='3' => (3, 8, 1),
            _ => return None,
        };
        let code = if skip == 1 {
            let digits = format!("{kind}{}", rest.get(..2)?);
            rest = &rest[2..];
            u32::from_str_radix(&digits, radix).ok()?
        } else {
            let digits = rest.get(..len).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
            rest = &rest[len..];
            u32::from_str_radix(digits, radix).ok()?
        };
        if bytes {
            out.push(u8::try_from(code).ok()?);
        } else {
            let mut buffer = [0; 4];
            out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}
