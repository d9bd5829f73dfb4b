//! Functions on strings; places and lengths are counted in characters.

use super::{int, text};
use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("contains contains_string string.(string) bool", |args| Ok(Value::Bool(text(args, 0)?.contains(text(args, 1)?)))),
    ("startsWith starts_with_string string.(string) bool", |args| {
        Ok(Value::Bool(text(args, 0)?.starts_with(text(args, 1)?)))
    }),
    ("endsWith ends_with_string string.(string) bool", |args| {
        Ok(Value::Bool(text(args, 0)?.ends_with(text(args, 1)?)))
    }),
    ("charAt string_char_at_int string.(int) string", char_at),
    ("indexOf string_index_of_string string.(string) int", index_of),
    ("indexOf string_index_of_string_int string.(string,int) int", index_of),
    ("lastIndexOf string_last_index_of_string string.(string) int", last_index_of),
    ("lastIndexOf string_last_index_of_string_int string.(string,int) int", last_index_of),
    ("lowerAscii string_lower_ascii string.() string", |args| Ok(Value::string(text(args, 0)?.to_ascii_lowercase()))),
    ("upperAscii string_upper_ascii string.() string", |args| Ok(Value::string(text(args, 0)?.to_ascii_uppercase()))),
    ("replace string_replace_string_string string.(string,string) string", |args| replace(args, -1)),
    ("replace string_replace_string_string_int string.(string,string,int) string", |args| replace(args, int(args, 3)?)),
    ("split string_split_string string.(string) list(string)", |args| split(args, -1)),
    ("split string_split_string_int string.(string,int) list(string)", |args| split(args, int(args, 2)?)),
    ("substring string_substring_int string.(int) string", substring),
    ("substring string_substring_int_int string.(int,int) string", substring),
    ("trim string_trim string.() string", |args| Ok(Value::string(text(args, 0)?.trim()))),
    ("join list_join list(string).() string", |args| join(args, "")),
    ("join list_join_string list(string).(string) string", |args| join(args, text(args, 1)?)),
    ("reverse string_reverse string.() string", |args| {
        Ok(Value::string(text(args, 0)?.chars().rev().collect::<String>()))
    }),
    ("strings.quote strings_quote (string) string", |args| Ok(Value::string(quoted(text(args, 0)?)))),
    ("format string_format string.(list(dyn)) string", |args| match args {
        [Value::String(template), Value::List(list)] => {
            super::format_text::format(template, list).map(Value::string).map_err(EvalError::runtime)
        }
        _ => Err(EvalError::no_overload()),
    }),
];

/// What a result may grow to, in bytes; a budget is charged only afterwards.
const RESULT_LEN_MAX: usize = 32 << 20;

fn out_of_range(at: i64) -> EvalError {
    EvalError::runtime(format!("index out of range: {at}"))
}

/// The place in bytes of a place in characters, which may be the end.
fn byte_at(text: &str, at: i64) -> Result<usize, EvalError> {
    let wanted = usize::try_from(at).map_err(|_| out_of_range(at))?;
    let mut places = text.char_indices().map(|(place, _)| place).chain([text.len()]);
    places.nth(wanted).ok_or_else(|| out_of_range(at))
}

fn char_at<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let text = text(args, 0)?;
    let at = byte_at(text, int(args, 1)?)?;
    Ok(Value::string(text[at..].chars().next().map_or(String::new(), String::from)))
}

fn in_chars<'a>(text: &str, found: Option<usize>) -> Outcome<'a> {
    Ok(Value::Int(found.map_or(-1, |at| text[..at].chars().count() as i64)))
}

fn index_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, wanted) = (text(args, 0)?, text(args, 1)?);
    let start = if args.len() > 2 { byte_at(text, int(args, 2)?)? } else { 0 };
    in_chars(text, text[start..].find(wanted).map(|at| at + start))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, wanted) = (text(args, 0)?, text(args, 1)?);
    if args.len() < 3 {
        return in_chars(text, text.rfind(wanted));
    }
    // what is found may begin at the place at the latest
    let last = byte_at(text, int(args, 2)?)?;
    let end = (last + wanted.len()).min(text.len());
    let found = (0..=end.saturating_sub(wanted.len()))
        .rev()
        .find(|at| *at <= last && text.is_char_boundary(*at) && text[*at..].starts_with(wanted));
    in_chars(text, found)
}

fn bounded<'a>(len: usize, text: impl FnOnce() -> String) -> Outcome<'a> {
    if len > RESULT_LEN_MAX { Err(EvalError::CostExceeded) } else { Ok(Value::string(text())) }
}

fn replace<'a>(args: &[Value<'a>], most: i64) -> Outcome<'a> {
    let (text, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = text.matches(old).take(most).count();
    bounded(text.len().saturating_add(count.saturating_mul(new.len())), || text.replacen(old, new, most))
}

fn split<'a>(args: &[Value<'a>], most: i64) -> Outcome<'a> {
    let (text, separator) = (text(args, 0)?, text(args, 1)?);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match (most, separator) {
        (0, _) => Vec::new(),
        (1, _) => vec![text],
        (most, "") => {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).take(most).collect();
            let end = |index: usize| places.get(index + 1).copied().unwrap_or(text.len());
            places.iter().enumerate().map(|(index, at)| &text[*at..end(index)]).collect()
        }
        (usize::MAX, separator) => text.split(separator).collect(),
        (most, separator) => text.splitn(most, separator).collect(),
    };
    Ok(Value::list(parts.into_iter().map(Value::string).collect()))
}

fn substring<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let text = text(args, 0)?;
    let start = int(args, 1)?;
    let from = byte_at(text, start)?;
    if args.len() < 3 {
        return Ok(Value::string(&text[from..]));
    }
    let end = int(args, 2)?;
    let to = byte_at(text, end)?;
    if from > to {
        return Err(EvalError::runtime(format!("invalid substring range. start: {start}, end: {end}")));
    }
    Ok(Value::string(&text[from..to]))
}

fn join<'a>(args: &[Value<'a>], separator: &str) -> Outcome<'a> {
    let Value::List(list) = &args[0] else { return Err(EvalError::no_overload()) };
    let mut out = String::new();
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(item.as_str().ok_or_else(EvalError::no_overload)?);
        if out.len() > RESULT_LEN_MAX {
            return Err(EvalError::CostExceeded);
        }
    }
    Ok(Value::string(out))
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
