//! One object at one version: the bytes that go on the wire, what selectors ask for, and the typed form, decoded at
//! most once and only if somebody asks.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use api::{Kind, Object, Status};
use bytes::Bytes;
use resources::AnyStrategy;

/// A version of an object. Its bytes are those in the store; `resourceVersion` is put in where they are written out.
pub struct Entry {
    /// The store's key.
    pub key: Arc<str>,
    /// The `resourceVersion`.
    pub revision: u64,
    kind: &'static Kind,
    stored: Bytes,
    splice: Splice,
    name_at: usize,
    namespaced: bool,
    labels: Box<[(Box<str>, Box<str>)]>,
    fields: Box<[Box<str>]>,
    /// The lean form: whoever needs more decodes it.
    typed: OnceLock<Arc<dyn Object>>,
    /// How long the object is in protobuf, 0 if nobody asked yet.
    protobuf_len: AtomicU32,
}

/// How long `{"apiVersion":"","kind":"","metadata":{` is: what comes before a built-in kind's metadata as we encode it.
const TYPES_LEN: usize = r#"{"apiVersion":"","kind":"","metadata":{"#.len();

/// Where `resourceVersion` belongs in the stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Splice {
    at: usize,
    /// Whether other members follow.
    comma: bool,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} @{})", self.key, self.revision)
    }
}

impl Entry {
    /// From an object at hand. `stored` is its encoding without `resourceVersion`; the lean form is kept if `keep`.
    pub fn from_object(
        strategy: &dyn AnyStrategy,
        key: Arc<str>,
        revision: u64,
        stored: Bytes,
        object: Box<dyn Object>,
        keep: bool,
    ) -> Result<Self, Status> {
        let splice = find_metadata(&stored).ok_or_else(|| Status::internal(format!("no metadata in {key}")))?;
        let metadata = object.metadata();
        let labels = metadata.labels.iter().flatten().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
        let fields = strategy.selectable_values(&*object).into_iter().map(String::into_boxed_str).collect();
        let name_at = key.rfind('/').map_or(0, |slash| slash + 1);
        let kind = object.kind();
        let typed = OnceLock::new();
        if keep {
            let _ = typed.set(shared(lean(object), revision));
        }
        Ok(Self {
            name_at,
            namespaced: strategy.scope() == resources::Scope::Namespaced,
            kind,
            key,
            revision,
            stored,
            splice,
            labels,
            fields,
            typed,
            protobuf_len: AtomicU32::new(0),
        })
    }

    /// From bytes of the store.
    ///
    /// # Errors
    /// 500 if they are not an object of the strategy's kind.
    pub fn from_stored(
        strategy: &dyn AnyStrategy,
        key: Arc<str>,
        revision: u64,
        stored: Bytes,
        keep: bool,
    ) -> Result<Self, Status> {
        let (object, rewritten) = strategy.decode_stored(&stored).map_err(|error| undecodable(&key, &error))?;
        let stored = rewritten.map_or(stored, |bytes| Bytes::from(bytes.into_boxed_slice()));
        Self::from_object(strategy, key, revision, stored, object, keep)
    }

    /// The same object under another revision: what a DELETED event shows.
    pub fn at_revision(&self, revision: u64) -> Self {
        Self {
            key: self.key.clone(),
            revision,
            kind: self.kind,
            stored: self.stored.clone(),
            splice: self.splice,
            name_at: self.name_at,
            namespaced: self.namespaced,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            typed: OnceLock::new(),
            protobuf_len: AtomicU32::new(0),
        }
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.key[self.name_at..]
    }

    /// `metadata.namespace`, or `""`.
    pub fn namespace(&self) -> &str {
        if !self.namespaced || self.name_at == 0 {
            return "";
        }
        let before = &self.key[..self.name_at - 1];
        before.rfind('/').map_or("", |slash| &before[slash + 1..])
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The values of the strategy's selectable paths, in their order.
    pub fn fields(&self) -> &[Box<str>] {
        &self.fields
    }

    /// The kind the bytes are of.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The bytes as in the store: without `resourceVersion`.
    pub fn stored(&self) -> &Bytes {
        &self.stored
    }

    fn decode(&self) -> Result<Box<dyn Object>, Status> {
        self.kind.decode(&self.stored).map_err(|error| undecodable(&self.key, &error))
    }

    /// The typed form without `managedFields`: those are large, and nobody in the process reads them. It is shared, and
    /// kept, unless it is larger than the lean form.
    ///
    /// # Errors
    /// 500 if the bytes are not of their kind (they were checked when the entry was made).
    pub fn object(&self) -> Result<Arc<dyn Object>, Status> {
        match api::lean::form(self.kind) {
            None => self.lean_object(),
            Some(_) => Ok(shared(self.decode()?, self.revision)),
        }
    }

    /// The typed form, shared, lean if the kind has a lean form ([`api::lean`]), without `managedFields`.
    ///
    /// # Errors
    /// As [`Entry::object`].
    pub fn lean_object(&self) -> Result<Arc<dyn Object>, Status> {
        if let Some(object) = self.typed.get() {
            return Ok(object.clone());
        }
        let object = match api::lean::form(self.kind) {
            Some(lean) => (lean.decode)(&self.stored).map_err(|error| undecodable(&self.key, &error))?,
            None => self.decode()?,
        };
        let object = shared(object, self.revision);
        Ok(self.typed.get_or_init(|| object).clone())
    }

    /// As [`Entry::object`], but what had to be decoded is not kept: for looking at many objects once.
    ///
    /// # Errors
    /// As [`Entry::object`].
    pub fn object_to_look_at(&self) -> Result<Arc<dyn Object>, Status> {
        match self.typed.get() {
            Some(object) if api::lean::form(self.kind).is_none() => Ok(object.clone()),
            _ => Ok(shared(self.decode()?, self.revision)),
        }
    }

    /// The metadata alone, said to be of `kind`; nothing is converted.
    ///
    /// # Errors
    /// As [`Entry::object`].
    pub fn metadata_only(&self, kind: &'static Kind) -> Result<Arc<dyn Object>, Status> {
        let mut json = Vec::new();
        self.write_metadata_unmanaged(&mut json);
        let metadata = serde_json::from_slice(&json)
            .map_err(|error| undecodable(&self.key, &api::codec::DecodeError::from(error)))?;
        Ok(shared(Box::new(api::Custom::bare(kind, metadata)), self.revision))
    }

    /// The whole typed form, to change and write back.
    ///
    /// # Errors
    /// As [`Entry::object`].
    pub fn object_to_change(&self) -> Result<Box<dyn Object>, Status> {
        let mut object = self.decode()?;
        object.metadata_mut().resource_version = Some(self.revision.to_string());
        Ok(object)
    }

    /// How long the object is in protobuf, if that was found out before.
    pub fn protobuf_len(&self) -> Option<usize> {
        let len = self.protobuf_len.load(Ordering::Relaxed);
        usize::try_from(len).ok().filter(|len| *len > 0)
    }

    /// Remembers how long the object is in protobuf.
    pub fn keep_protobuf_len(&self, len: usize) {
        if let Ok(len) = u32::try_from(len) {
            self.protobuf_len.store(len, Ordering::Relaxed);
        }
    }

    /// How many bytes [`Entry::write`] appends at most.
    pub fn wire_len_max(&self) -> usize {
        self.stored.len() + 48
    }

    /// Appends the JSON that goes on the wire.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stored[..self.splice.at]);
        self.write_from_revision(out);
    }

    /// Appends the JSON as an item of a list: without `apiVersion` and `kind`, which the list says for all.
    pub fn write_item(&self, out: &mut Vec<u8>) {
        const METADATA: &[u8] = b"{\"metadata\":{";
        let types = self.kind.api_version.len() + self.kind.kind.len() + TYPES_LEN;
        if self.splice.at != types || self.kind.is_custom() {
            return self.write(out);
        }
        out.extend_from_slice(METADATA);
        self.write_from_revision(out);
    }

    /// Appends the JSON of the metadata alone.
    pub fn write_metadata(&self, out: &mut Vec<u8>) {
        let mut scan = Scan { json: &self.stored, at: self.splice.at - 1 };
        let end = scan.value().map_or(self.stored.len(), |()| scan.at);
        out.push(b'{');
        self.write_revision(out);
        out.extend_from_slice(&self.stored[self.splice.at..end]);
    }

    /// As [`Entry::write_metadata`] without `managedFields`: most of it, and read by nobody in the process.
    fn write_metadata_unmanaged(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_revision(out);
        let mut scan = Scan { json: &self.stored, at: self.splice.at };
        let mut begun = self.splice.at;
        let end = loop {
            let member = scan.at;
            let Some(key) = scan.string() else { break member };
            if scan.expect(b':').and_then(|()| scan.value()).is_none() {
                break self.stored.len();
            }
            let last = scan.expect(b',').is_none();
            if key == b"managedFields" {
                out.extend_from_slice(&self.stored[begun..member]);
                begun = scan.at;
            }
            if last {
                break scan.at;
            }
        };
        out.extend_from_slice(&self.stored[begun..end]);
        while out.last().is_some_and(|byte| *byte == b',' || byte.is_ascii_whitespace()) {
            out.pop();
        }
        out.push(b'}');
    }

    fn write_revision(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"resourceVersion\":\"");
        push_number(out, self.revision);
        out.extend_from_slice(if self.splice.comma { b"\"," } else { b"\"" });
    }

    fn write_from_revision(&self, out: &mut Vec<u8>) {
        self.write_revision(out);
        out.extend_from_slice(&self.stored[self.splice.at..]);
    }

    /// The JSON that goes on the wire.
    pub fn wire(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.wire_len_max());
        self.write(&mut out);
        out
    }
}

fn lean(object: Box<dyn Object>) -> Box<dyn Object> {
    match api::lean::form(object.kind()) {
        Some(lean) => (lean.of)(object),
        None => object,
    }
}

fn shared(mut object: Box<dyn Object>, revision: u64) -> Arc<dyn Object> {
    let metadata = object.metadata_mut();
    metadata.resource_version = Some(revision.to_string());
    metadata.managed_fields = None;
    Arc::from(object)
}

fn undecodable(key: &str, error: &api::codec::DecodeError) -> Status {
    Status::internal(format!("unable to decode the stored object {key}: {error}"))
}

/// Appends a decimal number.
pub fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Finds the top-level member `metadata`, and in it the place after its opening brace.
fn find_metadata(json: &[u8]) -> Option<Splice> {
    let mut scan = Scan { json, at: 0 };
    scan.expect(b'{')?;
    loop {
        let key = scan.string()?;
        scan.expect(b':')?;
        if key == b"metadata" {
            scan.expect(b'{')?;
            let at = scan.at;
            scan.space();
            return Some(Splice { at, comma: *json.get(scan.at)? != b'}' });
        }
        scan.value()?;
        scan.expect(b',')?;
    }
}

/// A reader of JSON text known to be well-formed.
struct Scan<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn space(&mut self) {
        while self.json.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.space();
        (*self.json.get(self.at)? == byte).then(|| self.at += 1)
    }

    /// A string without its quotes, escapes as they are.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.json.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(&self.json[start..self.at - 1])
    }

    /// Skips any value.
    fn value(&mut self) -> Option<()> {
        self.space();
        let mut depth = 0usize;
        loop {
            match self.json.get(self.at)? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b'}' | b']' if depth == 0 => return Some(()),
                _ => self.at += 1,
            }
            if depth == 0 && matches!(self.json.get(self.at)?, b',' | b'}' | b']') {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(json: &str) -> Option<String> {
        let Splice { at, comma } = find_metadata(json.as_bytes())?;
        let comma = if comma { "," } else { "" };
        Some(format!("{}\"rv\":1{comma}{}", &json[..at], &json[at..]))
    }

    #[test]
    fn the_revision_goes_into_the_top_level_metadata() {
        let cases = [
            (r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#, r#"{"rv":1,"name":"a"}"#),
            (r#"{"metadata":{}}"#, r#"{"rv":1}"#),
            (r#"{"spec":{"metadata":{"x":[1,{"a":"}"}]}},"metadata":{"name":"b"}}"#, r#"{"rv":1,"name":"b"}"#),
            (r#"{"a":"\"metadata\":{","b":[],"c":{},"d":12,"metadata": { "n":1}}"#, r#"{"rv":1, "n":1}"#),
        ];
        for (json, metadata) in cases {
            let out = spliced(json).unwrap_or_default();
            assert!(out.ends_with(&format!("{metadata}}}")), "{json} -> {out}");
            serde_json::from_str::<serde_json::Value>(&out).unwrap();
        }
        assert_eq!(spliced(r#"{"a":1}"#), None);
        assert_eq!(spliced("[1]"), None);
    }

    fn entry(json: &'static str) -> Entry {
        Entry {
            key: "/registry/configmaps/default/a".into(),
            revision: 7,
            kind: <api::core::v1::ConfigMap as api::Typed>::KIND,
            stored: Bytes::from_static(json.as_bytes()),
            splice: find_metadata(json.as_bytes()).unwrap(),
            name_at: 0,
            namespaced: true,
            labels: Box::default(),
            fields: Box::default(),
            typed: OnceLock::new(),
            protobuf_len: AtomicU32::new(0),
        }
    }

    #[test]
    fn metadata_alone_comes_without_managed_fields() {
        let cases = [
            (r#"{"metadata":{},"data":{}}"#, r#"{"resourceVersion":"7"}"#),
            (r#"{"metadata":{"managedFields":[{"a":"}"}]}}"#, r#"{"resourceVersion":"7"}"#),
            (r#"{"metadata":{"name":"a","managedFields":[]},"x":1}"#, r#"{"resourceVersion":"7","name":"a"}"#),
            (r#"{"metadata":{"managedFields":[],"name":"a"}}"#, r#"{"resourceVersion":"7","name":"a"}"#),
            (
                r#"{"metadata":{"labels":{"managedFields":"x"},"managedFields":[[]],"uid":"u"}}"#,
                r#"{"resourceVersion":"7","labels":{"managedFields":"x"},"uid":"u"}"#,
            ),
        ];
        for (json, metadata) in cases {
            let mut out = Vec::new();
            entry(json).write_metadata_unmanaged(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), metadata, "{json}");
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
