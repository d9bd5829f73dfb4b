//! Kubernetes' protobuf encoding (`application/vnd.kubernetes.protobuf`). Bodies are read into the same value trees
//! that JSON becomes; answers are made from JSON text ([`Encoder`]). Go clients with generated types speak it.
//!
//! The field numbers are a checked-in table (`numbers.tsv`); types come from [`crate::schema`]. A field that has no
//! number there is left out of answers and dropped from bodies.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine;
use serde_json::{Map, Value};

use crate::schema::{self, Definition, Type};

mod encode;
mod plan;

pub use encode::{Encoder, List, PARTIAL, has_form, watch_event};

/// What every body starts with, before the envelope (`runtime.Unknown`).
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may lie in one another.
const DEPTH_MAX: usize = 64;

/// Why bytes are no object; the text is for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

fn error<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error(why.into()))
}

/// Numeric fields where 0 says something else than silence (pointers in Go). Everywhere else a 0 on the wire is a field
/// that was not set.
const ZERO_COUNTS: &[&str] = &[
    "activeDeadlineSeconds",
    "allocatable",
    "allocatedDevices",
    "availableDevices",
    "backoffLimit",
    "completions",
    "defaultMode",
    "defaultUser",
    "deletionGracePeriodSeconds",
    "expirationSeconds",
    "failedJobsHistoryLimit",
    "fsGroup",
    "fullyAvailableDevices",
    "gracePeriodSeconds",
    "mode",
    "parallelism",
    "partiallyAvailableDevices",
    "poolCount",
    "priority",
    "progressDeadlineSeconds",
    "replicas",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsUser",
    "successfulJobsHistoryLimit",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
    "tolerationSeconds",
    "total",
    "totalDevices",
    "ttlSecondsAfterFinished",
    "unavailableDevices",
    "user",
];

/// Booleans that Go holds by value and leaves out of JSON when false.
const FALSE_IS_SILENCE: &[&str] = &[
    "chapAuthDiscovery",
    "chapAuthSession",
    "denied",
    "deprecated",
    "globalDefault",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "insecureSkipTLSVerify",
    "paused",
    "publishNotReadyAddresses",
    "readOnly",
    "stdin",
    "stdinOnce",
    "tty",
    "unschedulable",
];
/// Texts that Go holds by pointer and for which empty is not the same as absent.
const EMPTY_COUNTS: &[&str] = &["storageClassName", "volumeAttributesClassName"];

/// Fields of a message: what JSON calls it, or a message whose fields JSON has in the enclosing object.
enum Field {
    Named(&'static str),
    Inlined(&'static str),
}

static NUMBERS: LazyLock<HashMap<&'static str, HashMap<u32, Field>>> = LazyLock::new(|| {
    let mut messages: HashMap<&str, HashMap<u32, Field>> = HashMap::new();
    let mut current = "";
    for line in include_str!("protobuf/numbers.tsv").lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('\t') {
            None => {
                current = line;
                messages.entry(current).or_default();
            }
            Some(row) => {
                let Some((name, number)) = row.split_once('\t') else { continue };
                let Ok(number) = number.parse() else { continue };
                let field = name.strip_prefix('>').map_or(Field::Named(name), Field::Inlined);
                messages.entry(current).or_default().insert(number, field);
            }
        }
    }
    messages
});

/// The object in a body, with its `apiVersion` and `kind`.
///
/// # Errors
/// Bytes that are cut short or malformed, kinds that are not built in.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let Some(envelope) = bytes.strip_prefix(MAGIC) else {
        return error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
    };
    if envelope.is_empty() {
        return error("empty body");
    }
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let Some(definition) = definition_of(&api_version, &kind) else {
        return error(format!("no kind \"{kind}\" is registered for version \"{api_version}\""));
    };
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    message(raw, definition.name, definition, &mut object, 0)?;
    Ok(Value::Object(object))
}

fn definition_of(api_version: &str, kind: &str) -> Option<&'static Definition> {
    // the options of a delete are registered in every group
    if kind == "DeleteOptions" {
        return schema::definition("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let is = |definition: &&Definition| definition.kinds.contains(&(group, version, kind));
    schema::all().iter().find(is)
}

/// Reads the fields of message `name` into `object`, whose JSON form is `definition`.
fn message(
    bytes: &[u8],
    name: &str,
    definition: &'static Definition,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return error("messages lie too deep in one another");
    }
    let Some(numbers) = NUMBERS.get(name) else { return error(format!("no protobuf form of {name} is known")) };
    for field in Fields(bytes) {
        let (number, wire) = field?;
        match (numbers.get(&number), wire) {
            // A field of a version newer than ours: dropped, as protobuf has it.
            (None, _) => {}
            (Some(Field::Inlined(inner)), Wire::Bytes(bytes)) => message(bytes, inner, definition, object, depth + 1)?,
            (Some(Field::Inlined(_)), _) => return error(format!("{name}: field {number} is no message")),
            (Some(Field::Named(field)), wire) => {
                let Some(property) = definition.property(field) else { continue };
                if definition.name == plan::JSON_SCHEMA && put_schema(object, field, definition, wire, depth)? {
                    continue;
                }
                put(object, field, &property.type_, property.reference, wire, depth)?;
            }
        }
    }
    Ok(())
}

fn put(
    object: &mut Map<String, Value>,
    field: &str,
    type_: &Type,
    reference: Option<&'static str>,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), Error> {
    match type_ {
        Type::List(item) => {
            let list = object.entry(field).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return error(format!("{field} is there twice")) };
            // Numbers may come packed into one field.
            if let (Type::Boolean | Type::Int32 | Type::Int64, Wire::Bytes(mut packed)) = (&**item, wire) {
                while !packed.is_empty() {
                    let value = Wire::Varint(varint(&mut packed)?);
                    list.push(scalar(field, item, reference, value, depth)?);
                }
                return Ok(());
            }
            list.push(scalar(field, item, reference, wire, depth)?);
        }
        Type::Map(item) => {
            let Wire::Bytes(entry) = wire else { return error(format!("{field} is no map")) };
            let map = object.entry(field).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(map) = map else { return error(format!("{field} is there twice")) };
            let (mut key, mut value) = (String::new(), None);
            for part in Fields(entry) {
                match part? {
                    (1, Wire::Bytes(text)) => key = utf8(text)?,
                    (2, wire) => value = Some(map_value(field, item, reference, wire, depth)?),
                    _ => {}
                }
            }
            map.insert(key, value.unwrap_or_else(|| Value::String(String::new())));
        }
        _ => {
            let value = scalar(field, type_, reference, wire, depth)?;
            if !is_silence(field, &value) {
                object.insert(field.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Reads the fields of a JSON schema that are a schema or something else; false if `field` is none of them.
fn put_schema(
    object: &mut Map<String, Value>,
    field: &str,
    definition: &'static Definition,
    wire: Wire<'_>,
    depth: usize,
) -> Result<bool, Error> {
    let read = |bytes: &[u8]| -> Result<Option<Value>, Error> {
        let (mut allows, mut found, mut list) = (None, None, Vec::new());
        for part in Fields(bytes) {
            match (part?, field) {
                ((1, Wire::Varint(value)), _) => allows = Some(Value::Bool(value != 0)),
                ((2, Wire::Bytes(text)), "dependencies") => list.push(Value::String(utf8(text)?)),
                ((number, Wire::Bytes(bytes)), _) => {
                    let mut schema = Map::new();
                    message(bytes, definition.name, definition, &mut schema, depth + 1)?;
                    match (number, field) {
                        (2, "items") => list.push(Value::Object(schema)),
                        _ => found = Some(Value::Object(schema)),
                    }
                }
                _ => {}
            }
        }
        let list = (!list.is_empty()).then_some(Value::Array(list));
        // Of the forms that are not set, Go writes the false one.
        Ok(found.or(list).or(allows))
    };
    match (field, wire) {
        ("additionalItems" | "additionalProperties" | "items", Wire::Bytes(bytes)) => {
            if let Some(value) = read(bytes)? {
                object.insert(field.to_owned(), value);
            }
        }
        ("dependencies", Wire::Bytes(entry)) => {
            let map = object.entry(field).or_insert_with(|| Value::Object(Map::new()));
            let (mut key, mut value) = (String::new(), None);
            for part in Fields(entry) {
                match part? {
                    (1, Wire::Bytes(text)) => key = utf8(text)?,
                    (2, Wire::Bytes(bytes)) => value = read(bytes)?,
                    _ => {}
                }
            }
            if let (Value::Object(map), Some(value)) = (map, value) {
                map.insert(key, value);
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Whether Go writes this for a field that was not set.
fn is_silence(field: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !EMPTY_COUNTS.contains(&field),
        Value::Bool(value) => !value && FALSE_IS_SILENCE.contains(&field),
        Value::Number(number) => number.as_i64() == Some(0) && !ZERO_COUNTS.contains(&field),
        _ => false,
    }
}

fn map_value(
    field: &str,
    item: &Type,
    reference: Option<&'static str>,
    wire: Wire<'_>,
    depth: usize,
) -> Result<Value, Error> {
    // A list in a map is a message of its own with one repeated field.
    if let (Type::List(item), Wire::Bytes(bytes)) = (item, wire) {
        let mut list = Vec::new();
        for part in Fields(bytes) {
            list.push(scalar(field, item, reference, part?.1, depth)?);
        }
        return Ok(Value::Array(list));
    }
    scalar(field, item, reference, wire, depth)
}

fn scalar(
    field: &str,
    type_: &Type,
    reference: Option<&'static str>,
    wire: Wire<'_>,
    depth: usize,
) -> Result<Value, Error> {
    match (type_, wire) {
        (Type::String, Wire::Bytes(text)) => Ok(utf8(text)?.into()),
        (Type::Bytes, Wire::Bytes(bytes)) => Ok(base64::engine::general_purpose::STANDARD.encode(bytes).into()),
        (Type::Boolean, Wire::Varint(value)) => Ok((value != 0).into()),
        (Type::Int32 | Type::Int64, Wire::Varint(value)) => Ok(value.cast_signed().into()),
        (Type::Double, Wire::Fixed64(bits)) => Ok(f64::from_bits(bits).into()),
        (Type::Quantity, Wire::Bytes(bytes)) => Ok(first_text(bytes)?.into()),
        (Type::Time, Wire::Bytes(bytes)) => time(bytes, reference.is_some_and(|name| name.ends_with("MicroTime"))),
        (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes),
        (Type::Object | Type::Any, Wire::Bytes(bytes)) => raw_json(field, bytes),
        (Type::Struct(_), Wire::Bytes(bytes)) => {
            let Some(definition) = type_.definition() else { return error(format!("{field} has no known type")) };
            let mut object = Map::new();
            message(bytes, definition.name, definition, &mut object, depth + 1)?;
            Ok(Value::Object(object))
        }
        _ => error(format!("{field}: the wire type does not fit")),
    }
}

fn first_text(bytes: &[u8]) -> Result<String, Error> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(text)) = field? {
            return utf8(text);
        }
    }
    Ok(String::new())
}

/// Seconds and nanoseconds since 1970; an empty message is no time.
fn time(bytes: &[u8], micro: bool) -> Result<Value, Error> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(value)) => seconds = Some(value.cast_signed()),
            (2, Wire::Varint(value)) => nanos = i32::try_from(value.cast_signed()).unwrap_or(0),
            _ => {}
        }
    }
    // Go's zero time lies in the year 1: it, too, is no time.
    let Some(seconds) = seconds.filter(|seconds| *seconds > -62_135_596_800) else { return Ok(Value::Null) };
    let Ok(time) = jiff::Timestamp::new(seconds, nanos) else { return error("a time out of range") };
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(jiff::fmt::strtime::format(format, time).map_err(|why| Error(why.to_string()))?.into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(value)) => is_text = value == 1,
            (2, Wire::Varint(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => text = utf8(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// `RawExtension`, `FieldsV1` and `JSON` carry JSON text in their only field.
fn raw_json(field: &str, bytes: &[u8]) -> Result<Value, Error> {
    for part in Fields(bytes) {
        if let (1, Wire::Bytes(json)) = part? {
            return serde_json::from_slice(json).map_err(|why| Error(format!("{field}: {why}")));
        }
    }
    Ok(Value::Null)
}

fn utf8(bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error("a text is not UTF-8".into()))
}

/// A field's value as it lies on the wire.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Wire<'a>), Error> {
        let key = varint(&mut self.0)?;
        let Ok(number) = u32::try_from(key >> 3) else { return error("a field number out of range") };
        let wire = match key & 7 {
            0 => Wire::Varint(varint(&mut self.0)?),
            1 => {
                let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| Error("cut short".into()))?;
                Wire::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let Ok(len) = usize::try_from(varint(&mut self.0)?) else { return error("a length out of range") };
                Wire::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => return error(format!("unknown wire type {other}")),
        };
        Ok((number, wire))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        if len > self.0.len() {
            return error("unexpected EOF");
        }
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(taken)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else { return error("unexpected EOF") };
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    error("a number of more than ten bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &type_meta), field(2, raw)].concat()
    }

    #[test]
    fn a_deployment_as_go_writes_it() {
        let label = field(11, &[field(1, b"app"), field(2, b"web")].concat());
        let metadata = [field(1, b"web"), field(2, b""), field(8, b""), label].concat();
        // spec: replicas 0 (a pointer), minReadySeconds 0 (not set), a port by name, a volume with its source inlined.
        let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
        let template = field(3, &field(2, &field(1, &volume)));
        let spec = [vec![8, 0], template, vec![5 << 3, 0]].concat();
        let raw = [field(1, &metadata), field(2, &spec)].concat();
        let value = decode(&body("apps/v1", "Deployment", &raw)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "labels": {"app": "web"}},
                "spec": {"replicas": 0, "template": {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}},
            })
        );
    }

    #[test]
    fn options_are_known_in_every_group() {
        let value = decode(&body("apps/v1", "DeleteOptions", &[8, 0])).unwrap();
        assert_eq!(value["gracePeriodSeconds"], 0);
    }

    #[test]
    fn false_by_value_is_silence() {
        // spec: hostNetwork false (by value), automountServiceAccountToken false (by pointer)
        let spec = field(2, &[vec![11 << 3, 0], vec![0xa8, 1, 0]].concat());
        let value = decode(&body("v1", "Pod", &spec)).unwrap();
        assert_eq!(value["spec"], serde_json::json!({"automountServiceAccountToken": false}));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let _ = decode(&[MAGIC, &bytes].concat());
            for (api_version, kind) in [("v1", "Pod"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")] {
                let _ = decode(&body_of(api_version, kind, &bytes));
            }
        }

        #[test]
        fn a_body_changed_in_one_byte_is_read_or_refused(at in 0_usize..400, byte: u8) {
            let json = r#"{"metadata":{"name":"p","labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i",
                "ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}},
                "livenessProbe":{"httpGet":{"port":"x"}}}],
                "volumes":[{"name":"v","emptyDir":{}}]}}"#;
            let mut out = Vec::new();
            Encoder::default()
                .document("v1", "Pod", &mut out, |own, out| own.message("io.k8s.api.core.v1.Pod", json.as_bytes(), out))
                .unwrap();
            if let Some(own) = out.get_mut(at) {
                *own = byte;
            }
            let _ = decode(&out);
        }
    }

    fn body_of(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let write = |_: &mut Encoder, out: &mut Vec<u8>| {
            out.extend_from_slice(raw);
            Ok(())
        };
        Encoder::default().document(api_version, kind, &mut out, write).unwrap();
        out
    }

    #[test]
    fn what_lies_too_deep_is_refused() {
        // A JSON schema in the `not` of another, and so on: the deepest form that a body can have.
        let crd = |levels: usize| {
            let mut schema = Vec::new();
            let mut out = Vec::new();
            for _ in 0..levels {
                out.clear();
                // `not` is field 28.
                out.extend_from_slice(&[0xe2, 1]);
                let mut len = schema.len();
                while len >= 0x80 {
                    out.push(len as u8 | 0x80);
                    len >>= 7;
                }
                out.push(len as u8);
                out.extend_from_slice(&schema);
                std::mem::swap(&mut schema, &mut out);
            }
            schema
        };
        let schema = crate::schema::definition(plan::JSON_SCHEMA).unwrap();
        let read = |levels| message(&crd(levels), schema.name, schema, &mut Map::new(), 0);
        assert_eq!(read(DEPTH_MAX), Ok(()));
        assert_eq!(read(DEPTH_MAX + 1).unwrap_err().0, "messages lie too deep in one another");
        assert_eq!(read(2_000).unwrap_err().0, "messages lie too deep in one another");
    }

    #[test]
    fn lengths_beyond_the_body_take_no_memory() {
        let mut raw = vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f];
        raw.extend_from_slice(b"short");
        assert_eq!(decode(&body_of("v1", "Pod", &raw)).unwrap_err().0, "unexpected EOF");
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let raw = field(1, &field(1, b"web"));
        let whole = body("v1", "ConfigMap", &raw);
        assert!(decode(&whole).is_ok());
        for len in 0..whole.len() {
            // Cut between fields it is a smaller message, which is well formed.
            let _ = decode(&whole[..len]);
        }
        assert_eq!(
            decode(b"{}").unwrap_err().0,
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        );
        assert!(decode(&whole[..whole.len() - 1]).is_err());
        assert!(decode(&body("v1", "Nothing", &raw)).is_err());
    }
}
