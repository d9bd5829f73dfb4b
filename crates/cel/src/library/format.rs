//! Named formats of strings (`format.dns1123Label()`), each telling what is wrong.

use base64::Engine;

use super::text;
use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::library::{time, url};
use crate::value::{Thing, Value};

#[derive(Debug)]
pub struct Named {
    pub name: &'static str,
    validate: fn(&str) -> Vec<String>,
    /// What its check is charged as: a pattern of that many characters.
    pub(crate) pattern_len: u64,
}

const FORMATS: &[Named] = &[
    Named { name: "dns1123Label", validate: |text| api::name::dns1123_label(text, false), pattern_len: 30 },
    Named { name: "dns1123Subdomain", validate: |text| api::name::dns1123_subdomain(text, false), pattern_len: 60 },
    Named { name: "dns1035Label", validate: |text| api::name::dns1035_label(text, false), pattern_len: 30 },
    Named { name: "qualifiedName", validate: api::name::qualified, pattern_len: 60 },
    Named { name: "dns1123LabelPrefix", validate: |text| api::name::dns1123_label(text, true), pattern_len: 30 },
    Named {
        name: "dns1123SubdomainPrefix",
        validate: |text| api::name::dns1123_subdomain(text, true),
        pattern_len: 60,
    },
    Named { name: "dns1035LabelPrefix", validate: |text| api::name::dns1035_label(text, true), pattern_len: 30 },
    Named { name: "labelValue", validate: api::name::label_value, pattern_len: 40 },
    Named { name: "uri", validate: |text| url::Url::parse(text).err().into_iter().collect(), pattern_len: 1000 },
    Named { name: "uuid", validate: |text| unless(is_uuid(text), "does not match the UUID format"), pattern_len: 90 },
    Named { name: "byte", validate: |text| unless(is_base64(text), "invalid base64"), pattern_len: 100 },
    Named { name: "date", validate: |text| unless(is_date(text), "invalid date"), pattern_len: 70 },
    Named { name: "datetime", validate: |text| unless(is_datetime(text), "invalid datetime"), pattern_len: 70 },
];

fn unless(fits: bool, problem: &str) -> Vec<String> {
    if fits { Vec::new() } else { vec![problem.to_owned()] }
}

fn is_uuid(text: &str) -> bool {
    let mut digits = text.bytes().peekable();
    for (index, len) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            digits.next_if_eq(&b'-');
        }
        if !(0..len).all(|_| digits.next().is_some_and(|byte| byte.is_ascii_hexdigit())) {
            return false;
        }
    }
    digits.next().is_none()
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && time::parse_date_or_timestamp(text).is_some()
}

fn is_datetime(text: &str) -> bool {
    time::parse_timestamp(&text.to_ascii_uppercase()).is_some()
}

fn named<'a>(name: &str) -> Option<Value<'a>> {
    FORMATS.iter().find(|format| format.name == name).map(|format| Value::thing(Thing::Format(format)))
}

/// The format that a declaration below names.
fn known<'a>(name: &str) -> Outcome<'a> {
    named(name).ok_or_else(EvalError::no_overload)
}

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("format.named format-named (string) optional(NamedFormat)", |args| {
        Ok(named(text(args, 0)?).map_or(Value::Optional(None), Value::some))
    }),
    ("validate format-validate NamedFormat.(string) optional(list(string))", validate),
    ("format.dns1123Label format.dns1123Label () NamedFormat", |_| known("dns1123Label")),
    ("format.dns1123Subdomain format.dns1123Subdomain () NamedFormat", |_| known("dns1123Subdomain")),
    ("format.dns1035Label format.dns1035Label () NamedFormat", |_| known("dns1035Label")),
    ("format.qualifiedName format.qualifiedName () NamedFormat", |_| known("qualifiedName")),
    ("format.dns1123LabelPrefix format.dns1123LabelPrefix () NamedFormat", |_| known("dns1123LabelPrefix")),
    ("format.dns1123SubdomainPrefix format.dns1123SubdomainPrefix () NamedFormat", |_| known("dns1123SubdomainPrefix")),
    ("format.dns1035LabelPrefix format.dns1035LabelPrefix () NamedFormat", |_| known("dns1035LabelPrefix")),
    ("format.labelValue format.labelValue () NamedFormat", |_| known("labelValue")),
    ("format.uri format.uri () NamedFormat", |_| known("uri")),
    ("format.uuid format.uuid () NamedFormat", |_| known("uuid")),
    ("format.byte format.byte () NamedFormat", |_| known("byte")),
    ("format.date format.date () NamedFormat", |_| known("date")),
    ("format.datetime format.datetime () NamedFormat", |_| known("datetime")),
];

fn validate<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Some(Value::Opaque(thing)) = args.first() else { return Err(EvalError::no_overload()) };
    let Thing::Format(format) = &**thing else { return Err(EvalError::no_overload()) };
    let problems = (format.validate)(text(args, 1)?);
    if problems.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(problems.into_iter().map(Value::string).collect())))
}
