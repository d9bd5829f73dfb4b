//! A reader of JSON text that hands out values one by one and keeps nothing.

use super::super::{DEPTH_MAX, Error, error};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Object,
    Array,
    String,
    Boolean,
    Null,
    Number,
}

/// JSON text and how far it was read.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    json: &'a [u8],
    at: usize,
    /// The last bracket was an opening one: no comma is due.
    fresh: bool,
}

impl<'a> Scan<'a> {
    pub fn new(json: &'a [u8]) -> Self {
        Self { json, at: 0, fresh: false }
    }

    fn peek(&mut self) -> Result<u8, Error> {
        while let Some(byte) = self.json.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        error("unexpected end of JSON input")
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        let found = self.peek()?;
        if found != byte {
            return error(format!("{:?} where {:?} was expected", char::from(found), char::from(byte)));
        }
        self.at += 1;
        Ok(())
    }

    pub fn token(&mut self) -> Result<Token, Error> {
        Ok(match self.peek()? {
            b'{' => Token::Object,
            b'[' => Token::Array,
            b'"' => Token::String,
            b't' | b'f' => Token::Boolean,
            b'n' => Token::Null,
            b'-' | b'0'..=b'9' => Token::Number,
            other => return error(format!("invalid character {:?}", char::from(other))),
        })
    }

    /// Enters an object or a list.
    pub fn begin(&mut self, bracket: u8) -> Result<(), Error> {
        self.expect(bracket)?;
        self.fresh = true;
        Ok(())
    }

    /// Whether another member follows; if none, the closing bracket is read.
    fn more(&mut self, closing: u8) -> Result<bool, Error> {
        let next = self.peek()?;
        let fresh = std::mem::take(&mut self.fresh);
        if next == closing {
            self.at += 1;
            return Ok(false);
        }
        if !fresh {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// Goes to the next item of a list.
    pub fn item(&mut self) -> Result<bool, Error> {
        self.more(b']')
    }

    /// The next member's name; its value follows.
    pub fn key<'b>(&mut self, text: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>, Error>
    where
        'a: 'b,
    {
        if !self.more(b'}')? {
            return Ok(None);
        }
        let key = self.string(text)?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// Reads a null, if there is one.
    pub fn null(&mut self) -> Result<bool, Error> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        self.word(b"null")?;
        Ok(true)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Error> {
        if !self.json[self.at..].starts_with(word) {
            return error("an invalid literal");
        }
        self.at += word.len();
        Ok(())
    }

    pub fn boolean(&mut self) -> Result<bool, Error> {
        let value = self.peek()? == b't';
        self.word(if value { b"true" } else { b"false" })?;
        Ok(value)
    }

    fn number(&mut self) -> Result<&'a str, Error> {
        self.peek()?;
        let start = self.at;
        while matches!(self.json.get(self.at), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        std::str::from_utf8(&self.json[start..self.at]).map_err(|_| Error("not a number".into()))
    }

    pub fn integer(&mut self) -> Result<i64, Error> {
        let text = self.number()?;
        text.parse().map_err(|_| Error(format!("{text:?} is no integer")))
    }

    pub fn double(&mut self) -> Result<f64, Error> {
        let text = self.number()?;
        text.parse().map_err(|_| Error(format!("{text:?} is no number")))
    }

    /// A text; one with escapes is put into `text`.
    pub fn string<'b>(&mut self, text: &'b mut Vec<u8>) -> Result<&'b [u8], Error>
    where
        'a: 'b,
    {
        self.expect(b'"')?;
        let start = self.at;
        if self.next_quote()? == b'"' {
            self.at += 1;
            return Ok(&self.json[start..self.at - 1]);
        }
        text.clear();
        text.extend_from_slice(&self.json[start..self.at]);
        loop {
            let from = self.at;
            let found = self.next_quote()?;
            text.extend_from_slice(&self.json[from..self.at]);
            self.at += 1;
            match found {
                b'"' => return Ok(text),
                _ => self.escape(text)?,
            }
        }
    }

    /// Goes to the next quote or backslash of a text, and says which it is.
    fn next_quote(&mut self) -> Result<u8, Error> {
        let rest = self.json.get(self.at..).unwrap_or_default();
        let Some(len) = memchr::memchr2(b'"', b'\\', rest) else { return error("unexpected end of JSON input") };
        self.at += len;
        Ok(rest[len])
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), Error> {
        let Some(byte) = self.json.get(self.at) else { return error("unexpected end of JSON input") };
        self.at += 1;
        text.push(match byte {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let c = self.unicode()?;
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            other => *other,
        });
        Ok(())
    }

    /// A character by its number; half a pair alone becomes the replacement character.
    fn unicode(&mut self) -> Result<char, Error> {
        let high = self.four()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if !self.json[self.at..].starts_with(b"\\u") {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        self.at += 2;
        let low = self.four()?;
        let pair = 0x1_0000 + ((high - 0xd800) << 10) + low.wrapping_sub(0xdc00);
        let valid = (0xdc00..0xe000).contains(&low);
        Ok(char::from_u32(pair).filter(|_| valid).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four(&mut self) -> Result<u32, Error> {
        let digits = self.json.get(self.at..self.at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(number) = number else { return error("an invalid escape") };
        self.at += 4;
        Ok(number)
    }

    /// Passes over a value.
    pub fn skip(&mut self) -> Result<(), Error> {
        self.raw().map(drop)
    }

    /// A value's text as it stands.
    pub fn raw(&mut self) -> Result<&'a [u8], Error> {
        self.peek()?;
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.json.get(self.at) {
                None if depth == 0 && self.at > start => break,
                None => return error("unexpected end of JSON input"),
                Some(b'"') => {
                    self.pass_string()?;
                    if depth == 0 {
                        break;
                    }
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                    if depth > DEPTH_MAX * 16 {
                        return error("objects lie too deep in one another");
                    }
                }
                Some(b'}' | b']') => {
                    if depth == 0 {
                        break;
                    }
                    depth -= 1;
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
                Some(b',' | b' ' | b'\t' | b'\n' | b'\r') if depth == 0 => break,
                Some(_) => self.at += 1,
            }
        }
        if self.at == start { error("a value is missing") } else { Ok(&self.json[start..self.at]) }
    }

    fn pass_string(&mut self) -> Result<(), Error> {
        self.at += 1;
        while self.next_quote()? == b'\\' {
            self.at += 2;
        }
        self.at += 1;
        Ok(())
    }
}
