//! Who owns which field: `metadata.managedFields`, and server-side apply on top of it
//! (`apimachinery/pkg/util/managedfields`, `sigs.k8s.io/structured-merge-diff`).
//!
//! Everything works on value trees in normal form (see [`crate::schema::normalize`]) and on a definition. Never reads
//! a clock: the time of a write is an argument.

use serde_json::{Map, Value, json};

use crate::Timestamp;
use crate::meta::v1::StatusCause;
use crate::schema;
use crate::status::{Reason, Status};

mod last_applied;
mod set;
mod shape;
mod walk;

use walk::Changes;

pub use set::Set;
pub use shape::{Form, Items, Shape, Types};

/// How many managers with operation Update an object remembers; the oldest are merged beyond that.
pub const UPDATE_MANAGERS_MAX: usize = 10;
/// The manager that the oldest entries are merged into.
const ANCIENT_MANAGER: &str = "ancient-changes";
/// Who owns what an object held before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, through which door, when.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The `fieldManager` parameter, or the user agent up to its first `/`.
    pub manager: &'a str,
    /// For example `status`; `""` for the object itself.
    pub subresource: &'a str,
    /// The version of the request, `apps/v1`.
    pub api_version: &'a str,
    pub now: Timestamp,
    /// Top-level fields that this door does not write (`status` for the object itself, where it has such a
    /// subresource).
    pub ignored: &'a [&'a str],
}

/// The manager's name for a request without a `fieldManager` parameter: its user agent up to the first `/`.
pub fn manager_of(user_agent: &str) -> &str {
    let name = user_agent.split('/').next().unwrap_or_default();
    // upstream allows 128 characters
    name.char_indices().nth(128).map_or(name, |(end, _)| &name[..end])
}

/// One manager's fields.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    applies: bool,
    api_version: String,
    subresource: String,
    time: Option<String>,
    fields: Set,
}

impl Entry {
    fn of(writer: &Writer<'_>, applies: bool) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            applies,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: None,
            fields: Set::default(),
        }
    }

    /// Whether two entries are of the same manager. An applier is the same in every version.
    fn same(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.applies == other.applies
            && self.subresource == other.subresource
            && (self.applies || self.api_version == other.api_version)
    }

    fn decode(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let applies = match value.get("operation").and_then(Value::as_str) {
            Some("Apply") => true,
            Some("Update") => false,
            _ => return None,
        };
        Some(Self {
            manager: text("manager"),
            applies,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: value.get("time").and_then(Value::as_str).map(str::to_owned),
            fields: Set::decode(value.get("fieldsV1")?),
        })
    }

    fn encode(&self) -> Value {
        let mut map = Map::new();
        map.insert("manager".into(), json!(self.manager));
        map.insert("operation".into(), json!(if self.applies { "Apply" } else { "Update" }));
        map.insert("apiVersion".into(), json!(self.api_version));
        if let Some(time) = &self.time {
            map.insert("time".into(), json!(time));
        }
        map.insert("fieldsType".into(), json!("FieldsV1"));
        map.insert("fieldsV1".into(), self.fields.encode());
        if !self.subresource.is_empty() {
            map.insert("subresource".into(), json!(self.subresource));
        }
        Value::Object(map)
    }

    /// As conflicts name it.
    fn shown(&self) -> String {
        let subresource = if self.subresource.is_empty() {
            String::new()
        } else {
            format!(" with subresource {:?}", self.subresource)
        };
        if self.applies {
            format!("{:?}{subresource}", self.manager)
        } else {
            format!("{:?}{subresource} using {}", self.manager, self.api_version)
        }
    }
}

fn entries_of(object: &Value) -> Vec<Entry> {
    let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Entry::decode).collect()
}

/// `[{}]` asks for all entries to be dropped.
fn asks_for_reset(object: &Value) -> bool {
    match object.pointer("/metadata/managedFields").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => only.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

fn store(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    cap(&mut entries);
    let order = |entry: &Entry| {
        let Entry { manager, applies, api_version, subresource, time, .. } = entry;
        (!applies, time.clone(), manager.clone(), api_version.clone(), subresource.clone())
    };
    entries.sort_by_cached_key(order);
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_empty() {
        metadata.shift_remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), entries.iter().map(Entry::encode).collect());
    }
}

/// Merges the oldest updaters of one version until there are few enough.
fn cap(entries: &mut Vec<Entry>) {
    let updaters = entries.iter().filter(|entry| !entry.applies).count();
    let Some(excess) = updaters.checked_sub(UPDATE_MANAGERS_MAX).filter(|excess| *excess > 0) else { return };
    let mut oldest: Vec<usize> = (0..entries.len()).filter(|index| !entries[*index].applies).collect();
    oldest.sort_by(|a, b| entries[*a].time.cmp(&entries[*b].time));
    // one more than the excess, for what they are merged into counts too
    let mut gone: Vec<usize> = oldest.into_iter().take(excess + 1).collect();
    gone.sort_unstable();
    let mut buckets: Vec<Entry> = Vec::new();
    for index in gone.into_iter().rev() {
        let old = entries.remove(index);
        match buckets.iter_mut().find(|bucket| bucket.api_version == old.api_version) {
            Some(bucket) => {
                bucket.fields.extend(&old.fields);
                bucket.time = bucket.time.take().max(old.time);
            }
            None => {
                buckets.push(Entry { manager: ANCIENT_MANAGER.to_owned(), subresource: String::new(), ..old });
            }
        }
    }
    entries.append(&mut buckets);
}

fn time_text(now: Timestamp) -> String {
    // whole seconds, as `meta/v1` `Time`
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// A write as a version shows it in which others wrote before.
#[derive(Debug)]
pub struct Other<'a> {
    pub api_version: &'a str,
    pub types: Types<'a>,
    pub live: Value,
    pub new: Value,
}

/// The other versions in which the fields of an object have owners. A conversion that moves fields has to say what a
/// write is in each of them.
pub fn other_versions(live: Option<&Value>, api_version: &str) -> Vec<String> {
    let mut found: Vec<String> = live.map(entries_of).unwrap_or_default().into_iter().map(|e| e.api_version).collect();
    found.retain(|version| version != api_version);
    found.sort_unstable();
    found.dedup();
    found
}

/// Records a write that is not an apply: create, update, or a patch of the text. Fills `new`'s `managedFields`: what
/// the write changed belongs to the writer and no longer to others; what it removed belongs to nobody.
///
/// Call it with objects as the client sees them, before the server's own changes (status, generation), for those
/// belong to nobody. `live` is `None` on create. `others`: the write in the other versions; `None` if the fields are
/// the same in all.
pub fn update(
    live: Option<&Value>,
    new: &mut Value,
    types: Types<'_>,
    writer: &Writer<'_>,
    others: Option<&[Other<'_>]>,
) {
    let mut entries = match (asks_for_reset(new), live) {
        (true, _) => Vec::new(),
        (false, live) => match entries_of(new) {
            entries if entries.is_empty() => live.map(entries_of).unwrap_or_default(),
            entries => entries,
        },
    };
    record_update(&mut entries, live.unwrap_or(&Value::Null), new, types, writer, others);
    store(new, entries);
}

/// What each owner sees of a write. Owners in versions that are no more lose what they had.
fn each_seen(
    entries: &mut Vec<Entry>,
    own: &Changes,
    writer: &Writer<'_>,
    others: Option<&[Other<'_>]>,
    mut see: impl FnMut(&mut Entry, &Changes),
) {
    let Some(others) = others else {
        entries.iter_mut().for_each(|entry| see(entry, own));
        return;
    };
    let found: Vec<(&str, Changes)> = others
        .iter()
        .map(|other| (other.api_version, walk::compare(&other.live, &other.new, other.types, writer.ignored)))
        .collect();
    entries.retain_mut(|entry| {
        let changes = match found.iter().find(|(version, _)| *version == entry.api_version) {
            Some((_, changes)) => changes,
            None if entry.api_version == writer.api_version => own,
            None => return false,
        };
        see(entry, changes);
        true
    });
}

fn record_update(
    entries: &mut Vec<Entry>,
    live: &Value,
    new: &Value,
    types: Types<'_>,
    writer: &Writer<'_>,
    others: Option<&[Other<'_>]>,
) {
    let changes = walk::compare(live, new, types, writer.ignored);
    let mut own = Entry::of(writer, false);
    let before = entries.iter().position(|entry| entry.same(&own)).map(|index| entries.remove(index));
    each_seen(entries, &changes, writer, others, |entry, changes| {
        entry.fields.subtract(&changes.modified);
        entry.fields.subtract(&changes.added);
        entry.fields.subtract(&changes.removed);
    });
    if let Some(before) = &before {
        own = before.clone();
    }
    own.fields.subtract(&changes.removed);
    own.fields.extend(&changes.modified);
    own.fields.extend(&changes.added);
    if before.as_ref().map(|before| &before.fields) != Some(&own.fields) {
        own.time = Some(time_text(writer.now));
    }
    entries.push(own);
}

/// Why an apply was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration is not one: 400.
    #[error("{0}")]
    Malformed(String),
    /// The configuration does not fit the schema: 500, as upstream answers.
    #[error("{0}")]
    Schema(String),
    /// Others own fields with other values: 409, unless forced.
    #[error("{message}")]
    Conflict { message: String, causes: Vec<StatusCause> },
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Malformed(why) => Self::bad_request(why),
            // upstream answers a plain error here, which has no reason
            ApplyError::Schema(why) => Self::unexplained(why),
            ApplyError::Conflict { message, causes } => {
                let mut status = Self::failure(Reason::Conflict, message);
                status.0.details.get_or_insert_with(Default::default).causes = Some(causes);
                status
            }
        }
    }
}

/// An apply under way.
pub struct Merge<'a> {
    live: Option<&'a Value>,
    config: Value,
    types: Types<'a>,
    writer: &'a Writer<'a>,
    entries: Vec<Entry>,
    own: Entry,
    /// The writer's last configuration.
    before: Option<Entry>,
    /// What the object becomes.
    object: Value,
}

impl<'a> Merge<'a> {
    /// Merges a configuration into `live`, which is `None` where there is no object yet.
    ///
    /// # Errors
    /// If the configuration is none, or does not fit its type.
    pub fn begin(
        live: Option<&'a Value>,
        mut config: Value,
        types: Types<'a>,
        writer: &'a Writer<'a>,
    ) -> Result<Self, ApplyError> {
        check_config(&mut config, types, writer)?;
        let mut entries = live.map(entries_of).unwrap_or_default();
        if let (Some(live), true) = (live, entries.is_empty()) {
            let before = Writer { manager: BEFORE_FIRST_APPLY, subresource: "", ..*writer };
            record_update(&mut entries, &Value::Null, live, types, &before, None);
        }
        let mut own = Entry::of(writer, true);
        let before = entries.iter().position(|entry| entry.same(&own)).map(|index| entries.remove(index));
        own.fields = walk::fields(&config, types, writer.ignored);
        let mut object = live.cloned().unwrap_or_else(|| json!({}));
        walk::merge(&mut object, &config, types, writer.ignored);
        Ok(Self { live, config, types, writer, entries, own, before, object })
    }

    /// What the object is so far.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// The version of the writer's last configuration, if it was another one.
    pub fn last_version(&self) -> Option<&str> {
        let last = self.before.as_ref()?.api_version.as_str();
        (last != self.writer.api_version).then_some(last)
    }

    /// Takes out what was in the writer's last configuration and has no owner any more.
    pub fn prune(&mut self) {
        let Some(before) = &self.before else { return };
        let mut owned = self.own.fields.clone();
        self.entries.iter().for_each(|entry| owned.extend(&entry.fields));
        walk::prune(&mut self.object, &before.fields, &owned, self.types);
    }

    /// As [`Merge::prune`], of the object in the version of the last configuration.
    pub fn prune_in_last(&self, object: &mut Value, types: Types<'_>) {
        let Some(before) = &self.before else { return };
        let mut owned = Set::default();
        let same = |entry: &&Entry| entry.api_version == before.api_version;
        self.entries.iter().filter(same).for_each(|entry| owned.extend(&entry.fields));
        walk::prune(object, &before.fields, &owned, types);
    }

    /// Goes on with an object that was pruned in another version and converted back.
    pub fn take(&mut self, pruned: Value) {
        self.object = pruned;
        walk::merge(&mut self.object, &self.config, self.types, self.writer.ignored);
    }

    /// The object with its `managedFields`. `others` as in [`update`].
    ///
    /// # Errors
    /// A conflict.
    pub fn finish(mut self, others: Option<&[Other<'_>]>, force: bool) -> Result<Value, ApplyError> {
        let nothing = Value::Null;
        let live = self.live.unwrap_or(&nothing);
        let changes = walk::compare(live, &self.object, self.types, self.writer.ignored);
        let mut conflicts = Vec::new();
        each_seen(&mut self.entries, &changes, self.writer, others, |entry, changes| {
            let mut changed = changes.modified.clone();
            changed.extend(&changes.added);
            conflicts.push((entry.shown(), entry.fields.intersection(&changed)));
            entry.fields.subtract(&changed);
            entry.fields.subtract(&changes.removed);
        });
        conflicts.retain(|(_, fields)| !fields.is_empty());
        if !force && !conflicts.is_empty() {
            if let Some(own) = last_applied::fields(live, self.types, self.writer) {
                conflicts.iter_mut().for_each(|(_, fields)| fields.subtract(&own));
            }
            refuse(conflicts)?;
        }
        let same = self.before.as_ref().is_some_and(|before| before.fields == self.own.fields);
        let unchanged = changes.added.is_empty() && changes.modified.is_empty() && changes.removed.is_empty();
        self.own.time = match self.before {
            Some(before) if same && unchanged && before.api_version == self.own.api_version => before.time,
            _ => Some(time_text(self.writer.now)),
        };
        self.entries.push(self.own);
        store(&mut self.object, self.entries);
        last_applied::follow(&mut self.object, self.config, self.writer);
        Ok(self.object)
    }
}

/// Applies a configuration: the object it makes of `live`, with its `managedFields`. Fields of the writer's last
/// configuration that are not in this one go, unless someone else owns them. Fields are the same in all versions.
///
/// The result is then validated and stored like any update, but not recorded again by [`update`]. `live` is `None`
/// where there is no object yet.
///
/// # Errors
/// As [`Merge::begin`] and [`Merge::finish`].
pub fn apply(
    live: Option<&Value>,
    config: Value,
    types: Types<'_>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let mut merge = Merge::begin(live, config, types, writer)?;
    merge.prune();
    merge.finish(None, force)
}

fn check_config(config: &mut Value, types: Types<'_>, writer: &Writer<'_>) -> Result<(), ApplyError> {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    if !config.is_object() {
        return Err(ApplyError::Malformed("error decoding YAML: the configuration is not an object".to_owned()));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|list| !list.is_null()) {
        return Err(ApplyError::Malformed("metadata.managedFields must be nil".to_owned()));
    }
    let api_version = text("/apiVersion");
    if api_version != writer.api_version {
        return Err(ApplyError::Malformed(format!(
            "Incorrect version specified in apply patch. Specified patch version: {api_version}, expected: {}",
            writer.api_version
        )));
    }
    let problems: Vec<String> = match types {
        Types::BuiltIn(definition) => {
            let checked = schema::check(config, definition);
            let undeclared = checked.unknown.first().map(|path| format!(".{path}: field not declared in schema"));
            undeclared.or(checked.type_error).into_iter().collect()
        }
        Types::Custom(shape) => shape.check(config),
    };
    let why = match problems.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    };
    if let Some(why) = why {
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let kind = text("/kind");
        // The core group has no name before the `/`.
        let group_version = if api_version.contains('/') { api_version } else { format!("/{api_version}") };
        return Err(ApplyError::Schema(format!(
            "failed to create typed patch object ({namespace}/{name}; {group_version}, Kind={kind}): {why}"
        )));
    }
    if let Types::BuiltIn(definition) = types {
        schema::normalize_applied(config, definition);
    }
    Ok(())
}

/// Each conflict is a manager and its fields.
fn refuse(conflicts: Vec<(String, Set)>) -> Result<(), ApplyError> {
    let paths = |(manager, fields): (String, Set)| fields.paths().into_iter().map(move |path| (manager.clone(), path));
    let mut conflicts: Vec<(String, String)> = conflicts.into_iter().flat_map(paths).collect();
    conflicts.sort();
    let cause = |(manager, path): &(String, String)| StatusCause {
        reason: Some("FieldManagerConflict".to_owned()),
        message: Some(format!("conflict with {manager}")),
        field: Some(path.clone()),
    };
    let causes = conflicts.iter().map(cause).collect();
    let message = match conflicts.as_slice() {
        [] => return Ok(()),
        [(manager, path)] => format!("Apply failed with 1 conflict: conflict with {manager}: {path}"),
        many => {
            let mut lines = Vec::new();
            let mut last = "";
            for (manager, path) in many {
                if last != manager {
                    lines.push(format!("conflicts with {manager}:"));
                    last = manager;
                }
                lines.push(format!("- {path}"));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    Err(ApplyError::Conflict { message, causes })
}

#[cfg(test)]
mod tests;
