//! JSON text to protobuf in one pass, without decoding it: fields are written as they come and put into the order of
//! their numbers where they are not.
//!
//! What JSON does not say is not written. Go's encoder writes the zero of fields that it holds by value; for a decoder
//! that is the same.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::plan::{JSON_SCHEMA, Message, PLAN, Path, Shape};
use super::{DEPTH_MAX, Error, MAGIC, error};
use crate::meta::v1::Status;
use crate::object::Kind;

mod scan;

use scan::{Scan, Token};

/// Whether objects of that kind have a protobuf form.
pub fn has_form(kind: &Kind) -> bool {
    !kind.is_custom() && PLAN.find(kind.definition).is_some()
}

/// The definition of `PartialObjectMetadata`.
pub const PARTIAL: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

/// Writes messages; holds the memory that this takes.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Where the fields of the messages under way are in the output.
    spans: Vec<Span>,
    /// Where the entries of the maps under way are in the output.
    entries: Vec<Entry>,
    scratch: Vec<u8>,
    text: Vec<u8>,
}

/// An entry of a map: all of it, and its key within.
#[derive(Debug, Clone)]
struct Entry {
    whole: Range<usize>,
    key: Range<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    path: Path,
    start: usize,
    end: usize,
}

impl Encoder {
    /// Appends the message of an object: `json` is of the definition's type; its `apiVersion` and `kind` are not part
    /// of the message.
    ///
    /// # Errors
    /// Text that is no JSON or not of that type, definitions without a protobuf form.
    pub fn message(&mut self, definition: &str, json: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let Some(message) = PLAN.find(definition) else { return error(format!("{definition} has no protobuf form")) };
        self.spans.clear();
        self.entries.clear();
        let mut scan = Scan::new(json);
        self.object(message, &mut scan, out, 0)
    }

    /// Appends the `PartialObjectMetadata` message with that metadata.
    ///
    /// # Errors
    /// As [`Encoder::message`].
    pub fn partial(&mut self, metadata: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        nested(1, out, |out| self.message(OBJECT_META, metadata, out))
    }

    /// Appends a whole document: the object in its envelope.
    ///
    /// # Errors
    /// As [`Encoder::message`].
    pub fn document(
        &mut self,
        api_version: &str,
        kind: &str,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Self, &mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        envelope(api_version, kind, out);
        nested(2, out, |out| write(self, out))?;
        out.extend_from_slice(TAIL);
        Ok(())
    }

    /// Appends a `Status`.
    ///
    /// # Errors
    /// As [`Encoder::message`]; never for a status of ours.
    pub fn status(&mut self, status: &Status, out: &mut Vec<u8>) -> Result<(), Error> {
        let json = serde_json::to_vec(status).map_err(|why| Error(why.to_string()))?;
        self.document("v1", "Status", out, |own, out| own.message(STATUS, &json, out))
    }

    /// Appends the fields of an object that lies at `scan`.
    fn object(&mut self, message: &Message, scan: &mut Scan<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return error("objects lie too deep in one another");
        }
        let (first, start) = (self.spans.len(), out.len());
        let mut sorted = true;
        scan.begin(b'{')?;
        while let Some(name) = scan.key(&mut self.text)? {
            let Some(field) = message.field(name) else {
                scan.skip()?;
                continue;
            };
            let begin = out.len();
            let number = field.path.iter().rev().copied().find(|number| *number != 0).unwrap_or_default();
            self.field(number, &field.shape, scan, out, depth)?;
            if out.len() > begin {
                sorted &= self.spans.len() == first || self.spans[self.spans.len() - 1].path < field.path;
                self.spans.push(Span { path: field.path, start: begin, end: out.len() });
            }
        }
        if !sorted || message.inlines {
            self.arrange(first, start, out);
        }
        self.spans.truncate(first);
        Ok(())
    }

    /// Puts the fields from `start` on into order, and those of inlined messages into their messages.
    fn arrange(&mut self, first: usize, start: usize, out: &mut Vec<u8>) {
        let spans = &mut self.spans[first..];
        spans.sort_by_key(|span| span.path);
        self.scratch.clear();
        gather(spans, 0, out, &mut self.scratch);
        out.truncate(start);
        out.extend_from_slice(&self.scratch);
    }

    fn field(
        &mut self,
        number: u32,
        shape: &Shape,
        scan: &mut Scan<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Error> {
        match shape {
            Shape::List(item) => {
                if scan.null()? {
                    return Ok(());
                }
                scan.begin(b'[')?;
                while scan.item()? {
                    self.item(number, item, scan, out, depth)?;
                }
                Ok(())
            }
            Shape::Map(value) => self.map(number, value, scan, out, depth),
            _ if scan.null()? => Ok(()),
            _ => self.single(number, shape, scan, out, depth),
        }
    }

    /// An item of a list; null is the zero of its type.
    fn item(
        &mut self,
        number: u32,
        shape: &Shape,
        scan: &mut Scan<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Error> {
        if !scan.null()? {
            return self.single(number, shape, scan, out, depth);
        }
        let wire = if matches!(shape, Shape::Bool | Shape::Integer) { 0 } else { 2 };
        varint(u64::from(number) << 3 | wire, out);
        out.push(0);
        Ok(())
    }

    fn map(
        &mut self,
        number: u32,
        value: &Shape,
        scan: &mut Scan<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Error> {
        if scan.null()? {
            return Ok(());
        }
        let (first, start) = (self.entries.len(), out.len());
        let mut sorted = true;
        scan.begin(b'{')?;
        while let Some(key) = scan.key(&mut self.text)? {
            let begin = out.len();
            let opened = open(number, out);
            bytes(1, key, out);
            let key_len = key.len();
            let key_at = out.len() - key_len;
            match value {
                // A list in a map is a message of its own with one repeated field.
                Shape::List(_) => nested(2, out, |out| self.field(1, value, scan, out, depth + 1))?,
                _ => self.item(2, value, scan, out, depth + 1)?,
            }
            let key_at = key_at + close(opened, out);
            let key = key_at..key_at + key_len;
            sorted &= self.entries[first..].last().is_none_or(|last| out[last.key.clone()] < out[key.clone()]);
            self.entries.push(Entry { whole: begin..out.len(), key });
        }
        if !sorted {
            self.entries[first..].sort_by(|a, b| out[a.key.clone()].cmp(&out[b.key.clone()]));
            self.scratch.clear();
            for entry in &self.entries[first..] {
                self.scratch.extend_from_slice(&out[entry.whole.clone()]);
            }
            out.truncate(start);
            out.extend_from_slice(&self.scratch);
        }
        self.entries.truncate(first);
        Ok(())
    }

    /// One value that is there.
    fn single(
        &mut self,
        number: u32,
        shape: &Shape,
        scan: &mut Scan<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Error> {
        match shape {
            Shape::Text => bytes(number, scan.string(&mut self.text)?, out),
            Shape::Bytes => {
                let text = scan.string(&mut self.text)?;
                nested(number, out, |out| {
                    let decoded = STANDARD.decode_vec(text, out);
                    decoded.map_err(|why| Error(format!("not base64: {why}")))
                })?;
            }
            Shape::Bool => integer(number, u64::from(scan.boolean()?), out),
            Shape::Integer => integer(number, scan.integer()?.cast_unsigned(), out),
            Shape::Double => {
                varint(u64::from(number) << 3 | 1, out);
                out.extend_from_slice(&scan.double()?.to_bits().to_le_bytes());
            }
            Shape::Quantity => {
                let text = match scan.token()? {
                    Token::String => scan.string(&mut self.text)?,
                    _ => scan.raw()?,
                };
                nested(number, out, |out| {
                    bytes(1, text, out);
                    Ok(())
                })?;
            }
            Shape::Time { micro } => self.time(number, *micro, scan, out)?,
            Shape::IntOrString => {
                let (kind, integral, text): (u64, i64, &[u8]) = match scan.token()? {
                    Token::String => (1, 0, scan.string(&mut self.text)?),
                    _ => (0, scan.integer()?, b""),
                };
                nested(number, out, |out| {
                    integer(1, kind, out);
                    integer(2, integral.cast_unsigned(), out);
                    bytes(3, text, out);
                    Ok(())
                })?;
            }
            Shape::Raw => {
                let json = scan.raw()?;
                nested(number, out, |out| {
                    bytes(1, json, out);
                    Ok(())
                })?;
            }
            Shape::OrBool(_) | Shape::OrArray(_) | Shape::OrTexts(_) => {
                return nested(number, out, |out| self.either(shape, scan, out, depth));
            }
            Shape::Message(at) => {
                let Some(message) = PLAN.at(*at) else { return error("no such message") };
                return nested(number, out, |out| self.object(message, scan, out, depth + 1));
            }
            Shape::List(_) | Shape::Map(_) => return error("a list in a list has no protobuf form"),
        }
        Ok(())
    }

    /// A JSON schema, or something else in its place.
    fn either(&mut self, shape: &Shape, scan: &mut Scan<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Error> {
        let (Shape::OrBool(at) | Shape::OrArray(at) | Shape::OrTexts(at)) = shape else { return Ok(()) };
        let schema = if matches!(shape, Shape::OrBool(_)) { 2 } else { 1 };
        match (scan.token()?, shape) {
            (Token::Boolean, Shape::OrBool(_)) => {
                integer(1, u64::from(scan.boolean()?), out);
                Ok(())
            }
            (Token::Array, Shape::OrArray(_)) => {
                self.field(2, &Shape::List(Box::new(Shape::Message(*at))), scan, out, depth + 1)
            }
            (Token::Array, Shape::OrTexts(_)) => {
                self.field(2, &Shape::List(Box::new(Shape::Text)), scan, out, depth + 1)
            }
            (Token::Object, _) => {
                if let Shape::OrBool(_) = shape {
                    integer(1, 1, out);
                }
                self.single(schema, &Shape::Message(*at), scan, out, depth + 1)
            }
            _ => error(format!("no value of {JSON_SCHEMA}")),
        }
    }

    fn time(&mut self, number: u32, micro: bool, scan: &mut Scan<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let text = scan.string(&mut self.text)?;
        if let Some(seconds) = whole_seconds(text) {
            return nested(number, out, |out| {
                integer(1, seconds.cast_unsigned(), out);
                integer(2, 0, out);
                Ok(())
            });
        }
        let time = std::str::from_utf8(text).ok().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let Some(time) = time else { return error("not a time") };
        let nanos = time.subsec_nanosecond();
        // A time before 1970 has a negative fraction here, and none on the wire.
        let (seconds, nanos) =
            if nanos < 0 { (time.as_second() - 1, nanos + 1_000_000_000) } else { (time.as_second(), nanos) };
        let nanos = if micro { nanos / 1000 * 1000 } else { 0 };
        nested(number, out, |out| {
            integer(1, seconds.cast_unsigned(), out);
            integer(2, i64::from(nanos).cast_unsigned(), out);
            Ok(())
        })
    }
}

/// Seconds since 1970 of a time as it is nearly always written, `2026-01-02T03:04:05Z`; `None` for any other, and where
/// it takes a calendar to say whether there is such a day.
fn whole_seconds(text: &[u8]) -> Option<i64> {
    let [year @ .., b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'Z'] = text else {
        return None;
    };
    let number = |digits: &[u8]| {
        let digit = |number: i64, digit: &u8| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'));
        digits.iter().try_fold(0, digit)
    };
    let year = number(<&[u8; 4]>::try_from(year).ok()?)?;
    let (month, day) = (number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*n1, *n2])?, number(&[*s1, *s2])?);
    let usual = year > 0 && (1..=12).contains(&month) && (1..=28).contains(&day);
    if !usual || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years that begin in March, so that the day that may be missing comes last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Copies fields in order; those whose path goes on at `depth` are wrapped into its message.
fn gather(spans: &[Span], depth: usize, from: &[u8], into: &mut Vec<u8>) {
    let mut rest = spans;
    while let Some(span) = rest.first() {
        if span.path.get(depth + 1).copied().unwrap_or_default() == 0 {
            into.extend_from_slice(&from[span.start..span.end]);
            rest = &rest[1..];
            continue;
        }
        let number = span.path[depth];
        let len = rest.iter().take_while(|span| span.path[depth] == number).count();
        let (inner, after) = rest.split_at(len);
        let done = nested(number, into, |into| {
            gather(inner, depth + 1, from, into);
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = done;
        rest = after;
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes a varint takes.
fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn integer(number: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3, out);
    varint(value, out);
}

fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Appends a field with what `write` appends as its length-delimited value.
fn nested<E>(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let opened = open(number, out);
    write(out)?;
    close(opened, out);
    Ok(())
}

/// Begins a length-delimited field, of which everything is appended until [`close`].
fn open(number: u32, out: &mut Vec<u8>) -> usize {
    varint(u64::from(number) << 3 | 2, out);
    out.push(0);
    out.len()
}

/// Puts the length before what was appended since [`open`]; answers by how many bytes that was moved.
fn close(opened: usize, out: &mut Vec<u8>) -> usize {
    let len = out.len() - opened;
    let moved = varint_len(len as u64) - 1;
    if moved > 0 {
        out.resize(out.len() + moved, 0);
        out.copy_within(opened..opened + len, opened + moved);
    }
    let mut rest = len;
    let place = &mut out[opened - 1..opened + moved];
    for byte in &mut *place {
        *byte = (rest & 0x7f) as u8 | 0x80;
        rest >>= 7;
    }
    place[moved] &= 0x7f;
    moved
}

/// The envelope's last fields, which Go writes although they are empty: content encoding and type.
const TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

fn envelope(api_version: &str, kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    let mut type_meta = Vec::with_capacity(64);
    bytes(1, api_version.as_bytes(), &mut type_meta);
    bytes(2, kind.as_bytes(), &mut type_meta);
    bytes(1, &type_meta, out);
}

/// A list whose items are written one after another. The lengths of all items must be known before the first.
#[derive(Debug)]
pub struct List {
    head: Vec<u8>,
}

impl List {
    /// `metadata` is the list's, as JSON.
    ///
    /// # Errors
    /// As [`Encoder::message`].
    pub fn new(metadata: &[u8]) -> Result<Self, Error> {
        let mut head = Vec::new();
        nested(1, &mut head, |out| Encoder::default().message(LIST_META, metadata, out))?;
        Ok(Self { head })
    }

    /// How many bytes an item of `len` bytes takes in the list.
    pub fn item_len(len: usize) -> usize {
        1 + varint_len(len as u64) + len
    }

    /// Appends everything before the items; `items_len` is the sum of [`List::item_len`].
    pub fn begin(&self, api_version: &str, kind: &str, items_len: usize, out: &mut Vec<u8>) {
        envelope(api_version, kind, out);
        varint(2 << 3 | 2, out);
        varint((self.head.len() + items_len) as u64, out);
        out.extend_from_slice(&self.head);
    }

    /// Appends an item.
    pub fn item(out: &mut Vec<u8>, message: &[u8]) {
        bytes(2, message, out);
    }

    /// Appends what comes after the items.
    pub fn end(out: &mut Vec<u8>) {
        out.extend_from_slice(TAIL);
    }
}

/// Appends a watch event in its frame; `document` is the object, in its envelope.
///
/// # Errors
/// An event of more than 4 GiB.
pub fn watch_event(type_: &str, document: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let object = 1 + varint_len(document.len() as u64) + document.len();
    let len = 2 + type_.len() + 1 + varint_len(object as u64) + object;
    let Ok(len) = u32::try_from(len) else { return error("an event too large") };
    out.extend_from_slice(&len.to_be_bytes());
    bytes(1, type_.as_bytes(), out);
    varint(2 << 3 | 2, out);
    varint(object as u64, out);
    bytes(1, document, out);
    Ok(())
}

#[cfg(test)]
mod tests;
