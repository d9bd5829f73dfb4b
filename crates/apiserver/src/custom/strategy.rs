//! A version's hooks: what the registry asks of every resource, answered by a schema.

use api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use api::call::FieldValidation;
use api::codec::{DecodeError, Parsed};
use api::meta::v1::{DeleteOptions, ObjectMeta};
use api::table::ColumnDefinition;
use api::{Custom, FieldErrors, Kind, Object, Timestamp};
use resources::{AnyStrategy, Names, Scope, Storage, StoredAs, StoredObject, Subresource};
use serde_json::{Map, Value};

use super::Version;

fn custom(object: &dyn Object) -> &Custom {
    object.as_any().downcast_ref().expect("the registry hands a strategy objects of its own kind")
}

fn custom_mut(object: &mut dyn Object) -> &mut Custom {
    object.as_any_mut().downcast_mut().expect("the registry hands a strategy objects of its own kind")
}

/// Lets a schema work on an object's fields as on the whole.
fn on_fields(object: &mut Custom, work: impl FnOnce(&mut Value)) {
    let mut value = Value::Object(std::mem::take(&mut object.fields));
    work(&mut value);
    if let Value::Object(mut fields) = value {
        for name in ["apiVersion", "kind", "metadata"] {
            fields.shift_remove(name);
        }
        object.fields = fields;
    }
}

/// What a body turned out to be, and what strict validation says of it.
pub(crate) struct Read {
    pub object: Custom,
    pub problems: Vec<String>,
}

impl Version {
    /// An object from a body's value tree: fields that the schema does not know are left out.
    ///
    /// # Errors
    /// The text for the user, if metadata is not of its shape, or under strict validation.
    pub fn read(&self, mut parsed: Parsed, validation: FieldValidation) -> Result<Read, String> {
        let unknown = self.schema.prune(&mut parsed.value);
        let mut problems: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
        problems.extend(parsed.strict_problems());
        match validation {
            FieldValidation::Ignore => problems.clear(),
            FieldValidation::Strict if !problems.is_empty() => {
                return Err(format!("strict decoding error: {}", problems.join(", ")));
            }
            FieldValidation::Strict | FieldValidation::Warn => {}
        }
        let object = Custom::from_value(self.kind, parsed.value).map_err(|error| error.to_string())?;
        Ok(Read { object, problems })
    }
}

/// Everything but metadata and, where it is apart, the status.
fn content(object: &Custom, without_status: bool) -> Map<String, Value> {
    let mut fields = object.fields.clone();
    if without_status {
        fields.shift_remove("status");
    }
    fields
}

fn at<'a>(object: &'a Custom, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.fields.get(first)?, |value, name| value.get(name))
}

fn cell(value: Option<&Value>, type_: &str, now: Timestamp) -> Value {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Value::Null };
    match (type_, value) {
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(at) => resources::column::age(Some(at), now).into(),
            Err(_) => "<invalid>".into(),
        },
        ("integer", Value::Number(number)) => {
            number.as_i64().or_else(|| whole(number.as_f64())).map_or(Value::Null, Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) | ("string", Value::String(_)) => value.clone(),
        ("string", other) => other.to_string().into(),
        _ => Value::Null,
    }
}

#[allow(clippy::cast_possible_truncation)]
fn whole(number: Option<f64>) -> Option<i64> {
    number.filter(|number| number.is_finite()).map(|number| number as i64)
}

impl AnyStrategy for Version {
    fn kind(&self) -> &'static Kind {
        self.kind
    }
    fn names(&self) -> &Names {
        &self.names
    }
    fn scope(&self) -> Scope {
        self.scope
    }
    fn storage(&self) -> Storage {
        Storage::Stored { segment: self.kind.plural }
    }
    fn subresources(&self) -> &'static [Subresource] {
        self.subresources
    }
    fn verbs(&self) -> &'static [&'static str] {
        super::describe::VERBS
    }
    fn create_on_update(&self) -> bool {
        false
    }
    fn unconditional_update(&self) -> bool {
        false
    }
    fn ttl_seconds(&self) -> Option<u64> {
        None
    }
    fn stored_as(&self) -> Option<&'static StoredAs> {
        None
    }
    fn default(&self, object: &mut dyn Object) {
        on_fields(custom_mut(object), |value| self.schema.default(value));
    }
    fn prepare_create(&self, object: &mut dyn Object) {
        let has_status = self.has_status();
        let object = custom_mut(object);
        if has_status {
            object.fields.shift_remove("status");
        }
        object.metadata.generation = Some(1);
    }
    fn prepare_update(&self, new: &mut dyn Object, old: &dyn Object) {
        let (new, old) = (custom_mut(new), custom(old));
        let has_status = self.has_status();
        if has_status {
            match old.fields.get("status") {
                Some(status) => drop(new.fields.insert("status".to_owned(), status.clone())),
                None => drop(new.fields.shift_remove("status")),
            }
        }
        if content(new, has_status) != content(old, has_status) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }
    fn prepare_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        let (new, old) = (custom_mut(new), custom(old));
        let status = new.fields.shift_remove("status");
        new.fields = content(old, true);
        if let Some(status) = status {
            new.fields.insert("status".to_owned(), status);
        }
        let managed_fields = new.metadata.managed_fields.take();
        new.metadata = ObjectMeta { managed_fields, ..old.metadata.clone() };
    }
    fn validate(&self, object: &dyn Object) -> FieldErrors {
        self.schema.validate(&object.to_value())
    }
    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        self.schema.validate_update(&new.to_value(), &old.to_value())
    }
    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        self.validate_update(new, old)
    }
    fn prepare_subresource_update(&self, _: Subresource, new: &mut dyn Object, old: &dyn Object) {
        self.prepare_status_update(new, old);
    }
    fn validate_subresource_update(&self, _: Subresource, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        self.validate_update(new, old)
    }
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        api::name::dns1123_subdomain(name, prefix)
    }
    fn warnings(&self, _: &dyn Object) -> Vec<String> {
        Vec::new()
    }
    fn delete_grace_seconds(&self, _: &dyn Object, _: &DeleteOptions) -> Option<i64> {
        None
    }
    fn columns(&self) -> Vec<ColumnDefinition> {
        let name = ColumnDefinition {
            name: "Name".to_owned(),
            type_: "string".to_owned(),
            format: "name".to_owned(),
            description: "The name, unique within the namespace.".to_owned(),
            priority: 0,
        };
        std::iter::once(name).chain(self.columns.iter().map(|column| column.definition.clone())).collect()
    }
    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        let value = object.to_value();
        let own = self.columns.iter().map(|column| {
            let found = column.path.select(&value);
            cell(found.first().copied(), &column.definition.type_, now)
        });
        std::iter::once(Value::from(object.name())).chain(own).collect()
    }
    fn decode_stored(&self, bytes: &[u8]) -> Result<StoredObject, DecodeError> {
        let mut value: Value = serde_json::from_slice(bytes)?;
        let version = value["apiVersion"].as_str().and_then(|text| text.rsplit('/').next()).unwrap_or_default();
        let (kind, schema) =
            self.siblings.get(version).map_or((self.kind, &self.schema), |own| (own.kind, &own.schema));
        let before = value.clone();
        schema.prune(&mut value);
        schema.default(&mut value);
        let rewritten = value != before;
        let object = Custom::from_value(kind, value)?;
        let bytes = rewritten.then(|| object.encode());
        Ok((Box::new(object), bytes))
    }
    fn selectable_paths(&self) -> Vec<&str> {
        self.selectable.iter().map(|(path, _)| path.as_str()).collect()
    }
    fn selectable_values(&self, object: &dyn Object) -> Vec<String> {
        if self.selectable.is_empty() {
            return Vec::new();
        }
        let value = object.to_value();
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        self.selectable
            .iter()
            .map(|(_, path)| path.select(&value).first().map_or_else(String::new, |v| text(v)))
            .collect()
    }
    fn scale(&self, object: &dyn Object) -> Option<Scale> {
        let (paths, object) = (self.scale.as_ref()?, custom(object));
        let number = |path: &[String]| at(object, path).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
        let metadata = &object.metadata;
        let selector = paths.selector.as_deref().and_then(|path| at(object, path)).and_then(Value::as_str);
        Some(Scale {
            metadata: ObjectMeta {
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                uid: metadata.uid.clone(),
                resource_version: metadata.resource_version.clone(),
                creation_timestamp: metadata.creation_timestamp.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(ScaleSpec { replicas: number(&paths.spec_replicas) }),
            status: Some(ScaleStatus {
                replicas: number(&paths.status_replicas).unwrap_or_default(),
                selector: selector.map(str::to_owned),
            }),
        })
    }
    fn set_scale(&self, object: &mut dyn Object, replicas: i32) {
        let Some(paths) = &self.scale else { return };
        let Some((last, before)) = paths.spec_replicas.split_last() else { return };
        let mut map = &mut custom_mut(object).fields;
        for name in before {
            let below = map.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(below) = below else { return };
            map = below;
        }
        map.insert(last.clone(), replicas.into());
    }
}
