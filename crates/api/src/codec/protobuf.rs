//! Kubernetes' protobuf form to value trees, for requests of typed Go clients (`kubectl create namespace`). Answers are
//! JSON, which these clients take as well.
//!
//! In Go a field by value is always sent, a field by pointer only if it is set. What is sent by value and zero is left
//! out here, as Go's JSON leaves it out; what is sent by pointer stays.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::DecodeError;
use crate::Timestamp;
use crate::schema::{self, Definition, Property, Type};

const MAGIC: &[u8] = b"k8s\0";
/// Deeper messages are refused.
const DEPTH_MAX: usize = 100;

/// Integers that Go holds by value and leaves out of JSON when zero.
const ZERO_IS_ABSENT: &[&str] = &[
    "active",
    "availableReplicas",
    "code",
    "count",
    "currentReplicas",
    "deprecatedCount",
    "failed",
    "failureThreshold",
    "fullyLabeledReplicas",
    "generation",
    "handSize",
    "healthCheckNodePort",
    "hostPort",
    "initialDelaySeconds",
    "matchingPrecedence",
    "minReadySeconds",
    "nodePort",
    "number",
    "numberAvailable",
    "numberUnavailable",
    "observedGeneration",
    "periodSeconds",
    "queueLengthLimit",
    "queues",
    "readyReplicas",
    "retryAfterSeconds",
    "signal",
    "sizeBytes",
    "succeeded",
    "successThreshold",
    "unavailableReplicas",
    "updatedNumberScheduled",
    "updatedReplicas",
];
/// The same for booleans.
const FALSE_IS_ABSENT: &[&str] = &[
    "authenticated",
    "chapAuthDiscovery",
    "chapAuthSession",
    "clusterScope",
    "denied",
    "deprecated",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "globalDefault",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "insecureSkipTLSVerify",
    "nullable",
    "paused",
    "preserveUnknownFields",
    "publishNotReadyAddresses",
    "readOnly",
    "sslEnabled",
    "stdin",
    "stdinOnce",
    "tty",
    "uniqueItems",
    "unschedulable",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
];
/// Texts that Go holds by pointer and for which empty is not the same as absent.
const EMPTY_IS_KEPT: &[&str] = &["storageClassName", "volumeAttributesClassName"];

fn malformed(why: &str) -> DecodeError {
    DecodeError::Protobuf(format!("proto: {why}"))
}

/// One field of a message.
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(malformed("wrong wireType")),
        }
    }

    fn text(&self) -> Result<String, DecodeError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| malformed("invalid UTF-8"))
    }

    fn number(&self) -> Result<i64, DecodeError> {
        match self {
            Self::Varint(number) => Ok(*number as i64),
            _ => Err(malformed("wrong wireType")),
        }
    }
}

/// The fields of a message, one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or_else(|| malformed("unexpected EOF"))?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(malformed("integer overflow"))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| malformed("unexpected EOF"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Wire<'a>), DecodeError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| malformed("illegal tag"))?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Wire::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| malformed("unexpected EOF"))?))
            }
            2 => {
                let len = self.varint()?;
                Wire::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(malformed("illegal wireType")),
        };
        Ok((number, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), DecodeError>;

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

/// The definition of a kind. Options of writes may be in any group.
fn definition_of(api_version: &str, kind: &str) -> Option<&'static Definition> {
    if matches!(kind, "DeleteOptions" | "Status" | "Table" | "PartialObjectMetadata") {
        return schema::definition(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schema::all().iter().find(|definition| definition.kinds.contains(&(group, version, kind)))
}

/// An object in its envelope.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, DecodeError> {
    let Some(unknown) = bytes.strip_prefix(MAGIC) else {
        return Err(DecodeError::Protobuf(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".to_owned(),
        ));
    };
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(unknown) {
        match field? {
            (1, wire) => {
                for field in Fields(wire.bytes()?) {
                    match field? {
                        (1, wire) => api_version = wire.text()?,
                        (2, wire) => kind = wire.text()?,
                        _ => {}
                    }
                }
            }
            (2, wire) => raw = wire.bytes()?,
            _ => {}
        }
    }
    let definition = definition_of(&api_version, &kind)
        .ok_or_else(|| DecodeError::Protobuf(format!("no kind {kind:?} is registered for version {api_version:?}")))?;
    let mut map = Map::new();
    map.insert("apiVersion".into(), api_version.into());
    map.insert("kind".into(), kind.into());
    message(raw, definition, &mut Vec::new(), &mut map, DEPTH_MAX)?;
    Ok(Value::Object(map))
}

/// Reads a message into `map`. `before` holds the numbers of the embedded messages around it.
fn message(
    bytes: &[u8],
    definition: &'static Definition,
    before: &mut Vec<u32>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), DecodeError> {
    let depth = depth.checked_sub(1).ok_or_else(|| malformed("exceeded max depth"))?;
    for field in Fields(bytes) {
        let (number, wire) = field?;
        before.push(number);
        let exact = definition.properties.iter().find(|property| property.numbers == *before);
        let embeds = || definition.properties.iter().any(|property| property.numbers.starts_with(before));
        if let Some(property) = exact {
            put(property, &wire, map, depth)?;
        } else if let (true, Wire::Bytes(bytes)) = (embeds(), &wire) {
            message(bytes, definition, before, map, depth)?;
        }
        before.pop();
    }
    Ok(())
}

fn put(
    property: &'static Property,
    wire: &Wire<'_>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), DecodeError> {
    match &property.type_ {
        Type::List(item) => {
            let items = map.entry(property.name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = items else { return Ok(()) };
            match (&**item, wire) {
                // packed
                (Type::Int32 | Type::Int64, Wire::Bytes(bytes)) => {
                    let mut numbers = Fields(bytes);
                    while !numbers.0.is_empty() {
                        items.push((numbers.varint()? as i64).into());
                    }
                }
                _ => items.extend(value(item, property, wire, depth)?),
            }
        }
        Type::Map(of) => {
            let entries = map.entry(property.name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(entries) = entries else { return Ok(()) };
            let (mut key, mut found) = (String::new(), None);
            for field in Fields(wire.bytes()?) {
                match field? {
                    (1, wire) => key = wire.text()?,
                    (2, wire) => found = value(of, property, &wire, depth)?,
                    _ => {}
                }
            }
            entries.insert(key, found.unwrap_or_else(|| zero(of)));
        }
        type_ => {
            if let Some(found) = value(type_, property, wire, depth)?
                && !is_absent(property, &found)
            {
                map.insert(property.name.to_owned(), found);
            }
        }
    }
    Ok(())
}

fn is_absent(property: &Property, value: &Value) -> bool {
    match (&property.type_, value) {
        (Type::String, Value::String(text)) => text.is_empty() && !EMPTY_IS_KEPT.contains(&property.name),
        (Type::Int32 | Type::Int64, Value::Number(number)) => {
            number.as_i64() == Some(0) && ZERO_IS_ABSENT.contains(&property.name)
        }
        (Type::Boolean, Value::Bool(false)) => FALSE_IS_ABSENT.contains(&property.name),
        // a port's target is held by value
        (Type::IntOrString, Value::Number(number)) => number.as_i64() == Some(0) && property.name == "targetPort",
        _ => false,
    }
}

/// What a map's entry holds if its value was left out.
fn zero(type_: &Type) -> Value {
    match type_ {
        Type::List(_) => Value::Array(Vec::new()),
        Type::Struct(_) | Type::Map(_) | Type::Object => Value::Object(Map::new()),
        Type::Quantity => "0".into(),
        Type::Any => Value::Null,
        _ => "".into(),
    }
}

/// One value; `None` for what is absent in JSON (a time that is not set).
fn value(
    type_: &'static Type,
    property: &Property,
    wire: &Wire<'_>,
    depth: usize,
) -> Result<Option<Value>, DecodeError> {
    let depth = depth.checked_sub(1).ok_or_else(|| malformed("exceeded max depth"))?;
    Ok(Some(match type_ {
        Type::String => wire.text()?.into(),
        Type::Bytes => STANDARD.encode(wire.bytes()?).into(),
        Type::Boolean => (wire.number()? != 0).into(),
        Type::Int32 => (wire.number()? as i32).into(),
        Type::Int64 => wire.number()?.into(),
        Type::Double => match wire {
            Wire::Fixed64(bits) => Number::from_f64(f64::from_bits(*bits)).map_or(Value::Null, Value::Number),
            _ => return Err(malformed("wrong wireType")),
        },
        Type::Quantity => first_text(wire)?.unwrap_or_else(|| "0".to_owned()).into(),
        Type::Time => return time(wire.bytes()?, property),
        Type::IntOrString => int_or_string(wire.bytes()?)?,
        // `RawExtension` and `FieldsV1` hold JSON
        Type::Object => raw_json(wire.bytes()?)?,
        Type::Any => return any(property, wire.bytes()?, depth),
        Type::Struct(_) => {
            let mut map = Map::new();
            if let Some(definition) = type_.definition() {
                message(wire.bytes()?, definition, &mut Vec::new(), &mut map, depth)?;
            }
            Value::Object(map)
        }
        // a list in a map is a message with the items (`ExtraValue`)
        Type::List(item) => {
            let mut items = Vec::new();
            for field in Fields(wire.bytes()?) {
                let (_, wire) = field?;
                items.extend(value(item, property, &wire, depth)?);
            }
            Value::Array(items)
        }
        Type::Map(_) => return Err(malformed("a map within a map")),
    }))
}

fn first_text(wire: &Wire<'_>) -> Result<Option<String>, DecodeError> {
    match Fields(wire.bytes()?).next() {
        Some(field) => field?.1.text().map(Some),
        None => Ok(None),
    }
}

/// Seconds and nanoseconds since 1970; nothing at all is no time.
fn time(bytes: &[u8], property: &Property) -> Result<Option<Value>, DecodeError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, wire) => seconds = wire.number()?,
            (2, wire) => nanos = wire.number()?,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let nanos = i32::try_from(nanos).map_err(|_| malformed("time out of range"))?;
    let time = Timestamp::new(seconds, nanos).map_err(|_| malformed("time out of range"))?;
    let micro = property.reference.is_some_and(|name| name.ends_with("MicroTime"));
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(time.strftime(format).to_string().into()))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, DecodeError> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, wire) => is_text = wire.number()? == 1,
            (2, wire) => number = wire.number()? as i32,
            (3, wire) => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// The JSON text in a message's first field.
fn raw_json(bytes: &[u8]) -> Result<Value, DecodeError> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(text)) = field? {
            return super::json_value(text);
        }
    }
    Ok(Value::Object(Map::new()))
}

/// The types of a CRD's schema that are of several forms.
fn any(property: &Property, bytes: &[u8], depth: usize) -> Result<Option<Value>, DecodeError> {
    let form = match (property.reference.unwrap_or_default().rsplit('.').next(), property.name) {
        (Some(form @ ("JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool")), _) => form,
        (_, "dependencies") => "JSONSchemaPropsOrStringArray",
        _ => return raw_json(bytes).map(Some),
    };
    let schema = |bytes: &[u8]| {
        let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let mut map = Map::new();
        if let Some(definition) = schema::definition(name) {
            message(bytes, definition, &mut Vec::new(), &mut map, depth)?;
        }
        Ok::<_, DecodeError>(Value::Object(map))
    };
    let (mut found, mut items) = (None, Vec::new());
    for field in Fields(bytes) {
        match (form, field?) {
            ("JSONSchemaPropsOrBool", (1, wire)) => found = found.or(Some((wire.number()? != 0).into())),
            ("JSONSchemaPropsOrBool", (2, wire)) => found = Some(schema(wire.bytes()?)?),
            ("JSONSchemaPropsOrStringArray", (2, wire)) => items.push(wire.text()?.into()),
            (_, (1, wire)) => found = Some(schema(wire.bytes()?)?),
            (_, (2, wire)) => items.push(schema(wire.bytes()?)?),
            _ => {}
        }
    }
    Ok(Some(found.unwrap_or(Value::Array(items))))
}
