//! `'%s of %d'.format([...])`.

use super::conversions::double_text;
use super::time::duration_text;
use crate::value::{List, Value};

/// Digits behind the point at most.
const PRECISION_MAX: usize = 1000;

pub(super) fn format(template: &str, args: &List<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(template.len() + 16);
    let mut chars = template.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let parsed =
                digits.parse::<usize>().map_err(|_| "error while parsing precision: no digits found".to_owned())?;
            if parsed > PRECISION_MAX {
                return Err(format!("precision {parsed} exceeds maximum allowed {PRECISION_MAX}"));
            }
            precision = Some(parsed);
        }
        let kind = chars.next().ok_or("unexpected end of string")?;
        let arg = args.get(next).ok_or_else(|| format!("index {next} out of range"))?;
        next += 1;
        out.push_str(&clause(kind, precision, &arg)?);
    }
    Ok(out)
}

fn clause(kind: char, precision: Option<usize>, arg: &Value<'_>) -> Result<String, String> {
    let wrong = |what: &str| format!("error during formatting: {what}, was given {}", arg.type_name());
    match kind {
        's' => plain(arg).ok_or_else(|| wrong("string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps")),
        'd' => match arg {
            Value::Int(value) => Ok(value.to_string()),
            Value::Uint(value) => Ok(value.to_string()),
            Value::Double(value) if !value.is_finite() => Ok(infinite(*value)),
            _ => Err(wrong("decimal clause can only be used on integers")),
        },
        'f' | 'e' => {
            let value = match arg {
                Value::Double(value) => *value,
                Value::Int(value) => *value as f64,
                Value::Uint(value) => *value as f64,
                Value::String(text) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => {
                    return Ok(text.as_str().to_owned());
                }
                _ => return Err(wrong(if kind == 'f' { "fixed-point clause can only be used on doubles" } else { "scientific clause can only be used on doubles" })),
            };
            Ok(float(kind, precision.unwrap_or(6), value))
        }
        'b' => match arg {
            Value::Int(value) => Ok(signed(*value, |value| format!("{value:b}"))),
            Value::Uint(value) => Ok(format!("{value:b}")),
            Value::Bool(value) => Ok(u8::from(*value).to_string()),
            _ => Err(wrong("binary clause can only be used on integers and bools")),
        },
        'o' => match arg {
            Value::Int(value) => Ok(signed(*value, |value| format!("{value:o}"))),
            Value::Uint(value) => Ok(format!("{value:o}")),
            _ => Err(wrong("octal clause can only be used on integers")),
        },
        'x' | 'X' => {
            let text = match arg {
                Value::Int(value) => signed(*value, |value| format!("{value:x}")),
                Value::Uint(value) => format!("{value:x}"),
                Value::String(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
                Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => return Err(wrong("only integers, byte buffers, and strings can be formatted as hex")),
            };
            Ok(if kind == 'X' { text.to_uppercase() } else { text })
        }
        other => Err(format!("could not parse formatting clause: unrecognized formatting clause \"{other}\"")),
    }
}

fn signed(value: i64, text: fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, text(value.unsigned_abs()))
}

fn infinite(value: f64) -> String {
    if value.is_nan() { "NaN".into() } else { format!("{}Infinity", if value < 0.0 { "-" } else { "" }) }
}

fn float(kind: char, precision: usize, value: f64) -> String {
    if !value.is_finite() {
        return infinite(value);
    }
    if kind == 'f' {
        return format!("{value:.precision$}");
    }
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn plain(arg: &Value<'_>) -> Option<String> {
    Some(match arg {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) if value.is_finite() => double_text(*value),
        Value::Double(value) => infinite(*value),
        Value::String(text) => text.as_str().to_owned(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Duration(nanos) => duration_text(*nanos),
        Value::Timestamp(at) => at.to_string(),
        Value::Type(name) => name.to_string(),
        Value::List(list) => {
            let items = list.iter().map(|item| plain(&item)).collect::<Option<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.len());
            for (key, value) in map.entries() {
                entries.push(format!("{}: {}", plain(&key)?, plain(&value)?));
            }
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Optional(_) | Value::Opaque(_) => return None,
    })
}
