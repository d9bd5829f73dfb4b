//! Objects of kinds that are defined at run time: typed metadata, and the rest as it came.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::codec::DecodeError;
use crate::meta::v1::ObjectMeta;
use crate::object::{Codec, Kind, Object};

/// Api version, kind, plural.
type Identity = (String, String, String);

/// Kinds made so far.
static KINDS: LazyLock<Mutex<BTreeMap<Identity, &'static Kind>>> = LazyLock::new(Mutex::default);

impl Kind {
    /// The identity of a kind that is defined at run time. The same names give the same identity, which is kept for
    /// ever: about 200 bytes for each that was ever defined.
    pub fn custom(group: &str, version: &str, kind: &str, plural: &str) -> &'static Self {
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let mut kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (api_version, kind.to_owned(), plural.to_owned());
        if let Some(known) = kinds.get(&key) {
            return known;
        }
        let kept = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let made: &'static Self = Box::leak(Box::new(Self {
            group: kept(group),
            version: kept(version),
            kind: kept(kind),
            api_version: kept(&key.0),
            plural: kept(plural),
            definition: "",
            codec: Codec::Custom,
        }));
        kinds.insert(key, made);
        made
    }

    /// Whether the kind is defined at run time.
    pub fn is_custom(&self) -> bool {
        matches!(self.codec, Codec::Custom)
    }
}

/// An object of a kind that is defined at run time.
#[derive(Debug, Clone, PartialEq)]
pub struct Custom {
    kind: &'static Kind,
    pub metadata: ObjectMeta,
    /// Every other top-level field.
    pub fields: Map<String, Value>,
}

impl Custom {
    /// From a value tree; `apiVersion` and `kind` are not looked at.
    pub fn from_value(kind: &'static Kind, value: Value) -> Result<Self, DecodeError> {
        let Value::Object(mut fields) = value else {
            return Err(DecodeError::Json(
                "json: cannot unmarshal into Go value of type map[string]interface {}".into(),
            ));
        };
        fields.shift_remove("apiVersion");
        fields.shift_remove("kind");
        let metadata = match fields.shift_remove("metadata") {
            None | Some(Value::Null) => ObjectMeta::default(),
            Some(metadata) => serde_json::from_value(metadata)?,
        };
        Ok(Self { kind, metadata, fields })
    }

    /// An object of any kind, built in or not, of which only the metadata is known.
    pub fn bare(kind: &'static Kind, metadata: ObjectMeta) -> Self {
        Self { kind, metadata, fields: Map::new() }
    }

    /// The same object said to be of another version.
    #[must_use]
    pub fn of(mut self, kind: &'static Kind) -> Self {
        self.kind = kind;
        self
    }
}

impl Object for Custom {
    fn kind(&self) -> &'static Kind {
        self.kind
    }
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn boxed_clone(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }
    fn encode(&self) -> Vec<u8> {
        let names = self.kind;
        let mut out = format!(
            r#"{{"apiVersion":{},"kind":{},"metadata":"#,
            Value::from(names.api_version),
            Value::from(names.kind)
        )
        .into_bytes();
        serde_json::to_writer(&mut out, &self.metadata).expect("string keys and finite numbers always encode");
        for (name, value) in &self.fields {
            out.push(b',');
            serde_json::to_writer(&mut out, name).expect("text always encodes");
            out.push(b':');
            serde_json::to_writer(&mut out, value).expect("a value tree always encodes");
        }
        out.push(b'}');
        out
    }
    fn to_value(&self) -> Value {
        let mut value = Map::new();
        value.insert("apiVersion".to_owned(), self.kind.api_version.into());
        value.insert("kind".to_owned(), self.kind.kind.into());
        let metadata = serde_json::to_value(&self.metadata).expect("string keys and finite numbers always encode");
        value.insert("metadata".to_owned(), metadata);
        value.extend(self.fields.iter().map(|(name, field)| (name.clone(), field.clone())));
        Value::Object(value)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn into_any_arc(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
    fn into_any_box(self: Box<Self>) -> Box<dyn Any> {
        self
    }
    fn assign(&mut self, other: Box<dyn Object>) {
        *self = *other.into_any_box().downcast().expect("an object of a kind that is defined at run time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_comes_back_as_it_was() {
        let kind = Kind::custom("example.com", "v1", "Cat", "cats");
        assert!(std::ptr::eq(kind, Kind::custom("example.com", "v1", "Cat", "cats")));
        let value = json!({
            "apiVersion": "example.com/v1", "kind": "Cat", "metadata": {"name": "tom"}, "spec": {"lives": 9}, "x": [null],
        });
        let object = kind.decode(value.to_string().as_bytes()).unwrap();
        assert_eq!(object.name(), "tom");
        assert_eq!(serde_json::from_slice::<Value>(&object.encode()).unwrap(), value);
        assert_eq!(object.to_value(), value);
        assert!(object.encode().starts_with(br#"{"apiVersion":"example.com/v1","kind":"Cat","metadata":{"#));
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        let kind = Kind::custom("example.com", "v1", "Cat", "cats");
        for bad in ["[]", "1", "{\"metadata\": 1}", "{\"metadata\": {\"name\": 1}}"] {
            assert!(kind.decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
