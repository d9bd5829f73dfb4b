//! OpenAPI v2 as protobuf, in the form of `gnostic`'s `OpenAPIv2.proto`, which Go clients ask for. Made from the JSON
//! form of each path and definition.

use serde_json::Value;

/// A message being written. Absent and default values leave nothing behind.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.number(field << 3 | 2);
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A message, even if it is empty.
    fn message(&mut self, field: u64, message: Self) {
        self.bytes(field, &message.0);
    }

    fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn text_of(&mut self, field: u64, object: &Value, name: &str) {
        self.text(field, object.get(name).and_then(Value::as_str).unwrap_or_default());
    }

    fn texts_of(&mut self, field: u64, object: &Value, name: &str) {
        for text in object.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag_of(&mut self, field: u64, object: &Value, name: &str) {
        if object.get(name) == Some(&Value::Bool(true)) {
            self.number(field << 3);
            self.number(1);
        }
    }

    /// The members whose names begin with `x-`, as repeated `NamedAny`.
    fn extensions(&mut self, field: u64, object: &Value) {
        for (name, value) in object.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Self::default();
            // Any holds YAML, of which JSON is a form
            any.text(2, &value.to_string());
            self.message(field, named(name, any));
        }
    }
}

/// `{name = 1, value = 2}`, as all of gnostic's maps are made of.
fn named(name: &str, value: Message) -> Message {
    let mut message = Message::default();
    message.text(1, name);
    message.message(2, value);
    message
}

/// `Document`: swagger, info. The parts of a document may be written one after another.
pub(super) fn head(title: &str, version: &str) -> Vec<u8> {
    let mut info = Message::default();
    info.text(1, title);
    info.text(2, version);
    let mut document = Message::default();
    document.text(1, "2.0");
    document.message(2, info);
    document.0
}

/// `Document`: paths.
pub(super) fn paths(paths: impl Iterator<Item = (String, Value)>) -> Vec<u8> {
    let mut all = Message::default();
    for (path, item) in paths {
        all.message(2, named(&path, path_item(&item)));
    }
    let mut document = Message::default();
    document.message(8, all);
    document.0
}

/// `Document`: definitions.
pub(super) fn definitions(definitions: impl Iterator<Item = (String, Value)>) -> Vec<u8> {
    let mut all = Message::default();
    for (name, value) in definitions {
        all.message(1, named(&name, schema(&value)));
    }
    let mut document = Message::default();
    document.message(9, all);
    document.0
}

fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = item.get(method) {
            message.message(field, operation(found));
        }
    }
    parameters(&mut message, 9, item);
    message
}

fn operation(value: &Value) -> Message {
    let mut message = Message::default();
    message.texts_of(1, value, "tags");
    message.text_of(3, value, "description");
    message.text_of(5, value, "operationId");
    message.texts_of(6, value, "produces");
    message.texts_of(7, value, "consumes");
    parameters(&mut message, 8, value);
    let mut responses = Message::default();
    for (code, response) in value.get("responses").and_then(Value::as_object).into_iter().flatten() {
        let mut answer = Message::default();
        answer.text_of(1, response, "description");
        if let Some(found) = response.get("schema") {
            let mut item = Message::default();
            item.message(1, schema(found));
            answer.message(2, item);
        }
        let mut either = Message::default();
        either.message(1, answer);
        responses.message(1, named(code, either));
    }
    message.message(9, responses);
    message.texts_of(10, value, "schemes");
    message.extensions(13, value);
    message
}

fn parameters(message: &mut Message, field: u64, holder: &Value) {
    for value in holder.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let mut parameter = Message::default();
        match value.get("in").and_then(Value::as_str) {
            Some("body") => {
                let mut body = Message::default();
                body.text_of(1, value, "description");
                body.text_of(2, value, "name");
                body.text(3, "body");
                body.flag_of(4, value, "required");
                body.message(5, value.get("schema").map(schema).unwrap_or_default());
                parameter.message(1, body);
            }
            place => {
                let in_path = place == Some("path");
                let mut own = Message::default();
                own.flag_of(1, value, "required");
                own.text_of(2, value, "in");
                own.text_of(3, value, "description");
                own.text_of(4, value, "name");
                // parameters of queries have `allow_empty_value` before the type
                own.text_of(if in_path { 5 } else { 6 }, value, "type");
                own.flag_of(if in_path { 19 } else { 20 }, value, "uniqueItems");
                let mut other = Message::default();
                other.message(if in_path { 4 } else { 3 }, own);
                parameter.message(2, other);
            }
        }
        let mut item = Message::default();
        item.message(1, parameter);
        message.message(field, item);
    }
}

fn schema(value: &Value) -> Message {
    let mut message = Message::default();
    message.text_of(1, value, "$ref");
    message.text_of(2, value, "format");
    message.text_of(4, value, "description");
    message.texts_of(19, value, "required");
    if let Some(found) = value.get("additionalProperties") {
        let mut item = Message::default();
        item.message(1, schema(found));
        message.message(21, item);
    }
    if let Some(type_) = value.get("type").and_then(Value::as_str) {
        let mut item = Message::default();
        item.text(1, type_);
        message.message(22, item);
    }
    if let Some(found) = value.get("items") {
        let mut item = Message::default();
        item.message(1, schema(found));
        message.message(23, item);
    }
    if let Some(found) = value.get("properties").and_then(Value::as_object) {
        let mut properties = Message::default();
        for (name, value) in found {
            properties.message(1, named(name, schema(value)));
        }
        message.message(25, properties);
    }
    message.extensions(31, value);
    message
}
