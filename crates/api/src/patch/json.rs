//! RFC 6902, with the liberties and words of the library upstream uses: negative list indexes count from the end, a
//! test for null passes where nothing is.

use serde_json::Value;

use super::{COPY_BYTES_MAX, OPERATIONS_MAX, PatchError};

/// One operation, as written.
#[derive(Debug)]
pub(super) struct Operation {
    kind: String,
    path: String,
    from: String,
    value: Value,
}

fn unprocessable(text: impl Into<String>) -> PatchError {
    PatchError::Unprocessable(text.into())
}

/// Reads the operations, and what strict validation says of fields they should not have.
pub(super) fn operations(patch: &Value) -> Result<(Vec<Operation>, Vec<String>), PatchError> {
    let malformed = |what: &str| PatchError::Malformed(format!("error decoding patch: json: cannot unmarshal {what}"));
    let Value::Array(items) = patch else {
        return Err(malformed("object into Go value of type []handlers.jsonPatchOp"));
    };
    if items.len() > OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations(items.len()));
    }
    let (mut operations, mut unknown) = (Vec::with_capacity(items.len()), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let Value::Object(fields) = item else {
            return Err(malformed("value into Go value of type handlers.jsonPatchOp"));
        };
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(malformed(&format!("value into Go struct field jsonPatchOp.{name} of type string"))),
        };
        operations.push(Operation {
            kind: text("op")?,
            path: text("path")?,
            from: text("from")?,
            value: fields.get("value").cloned().unwrap_or_default(),
        });
        let known = |name: &&String| !matches!(name.as_str(), "op" | "path" | "from" | "value");
        unknown
            .extend(fields.keys().filter(known).map(|name| format!("json patch unknown field \"[{index}].{name}\"")));
    }
    Ok((operations, unknown))
}

/// Applies the operations in their order; all or nothing.
pub(super) fn apply(mut document: Value, operations: &[Operation]) -> Result<Value, PatchError> {
    let mut copied_bytes = 0;
    for operation in operations {
        let Operation { kind, path, from, value } = operation;
        match kind.as_str() {
            "add" => add(&mut document, path, value.clone(), "add")?,
            "remove" => drop(remove(&mut document, path, "remove", path)?),
            "replace" => replace(&mut document, path, value.clone())?,
            "move" => {
                if path.starts_with(&format!("{from}/")) {
                    return Err(unprocessable(format!("error in move for path: '{path}'")));
                }
                let value = remove(&mut document, from, "move", path)?;
                add(&mut document, path, value, "move")?;
            }
            "copy" => {
                let missing =
                    || unprocessable(format!("copy operation does not apply: doc is missing from path: {from}"));
                let value = get(&document, from).cloned().ok_or_else(missing)?;
                copied_bytes += value.to_string().len();
                if copied_bytes > COPY_BYTES_MAX {
                    return Err(unprocessable(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, \
                         exceeding the limit {COPY_BYTES_MAX}"
                    )));
                }
                add(&mut document, path, value, "copy")?;
            }
            "test" => {
                let found = get(&document, path).unwrap_or(&Value::Null);
                if !equal(found, value) {
                    return Err(unprocessable(format!("testing value {path} failed: test failed")));
                }
            }
            other => return Err(unprocessable(format!("Unexpected kind: {other}"))),
        }
    }
    Ok(document)
}

/// Equality where numbers compare by value.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// A pointer's last token, and the tokens before it. `None`: the whole document.
fn split(path: &str) -> Option<(Vec<String>, String)> {
    let mut tokens: Vec<String> =
        path.strip_prefix('/')?.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    let last = tokens.pop()?;
    Some((tokens, last))
}

/// A list index, from the end if negative.
fn index(token: &str, len: usize) -> Option<usize> {
    let index: i64 = token.parse().ok()?;
    let index = if index < 0 { index + len as i64 } else { index };
    usize::try_from(index).ok().filter(|index| *index <= len)
}

fn step<'a>(value: &'a Value, token: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(token),
        Value::Array(items) => items.get(index(token, items.len())?),
        _ => None,
    }
}

fn get<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(document);
    }
    let (before, last) = split(path)?;
    step(before.iter().try_fold(document, |value, token| step(value, token))?, &last)
}

/// The container that holds a pointer's target, and the last token.
fn container<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (before, last) = split(path)?;
    let holder = before.iter().try_fold(document, |value, token| match value {
        Value::Object(map) => map.get_mut(token),
        Value::Array(items) => {
            let index = index(token, items.len())?;
            items.get_mut(index)
        }
        _ => None,
    })?;
    (holder.is_object() || holder.is_array()).then_some((holder, last))
}

fn missing(operation: &str, path: &str) -> PatchError {
    unprocessable(format!("{operation} operation does not apply: doc is missing path: \"{path}\": missing value"))
}

fn add(document: &mut Value, path: &str, value: Value, operation: &str) -> Result<(), PatchError> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (holder, last) = container(document, path).ok_or_else(|| missing(operation, path))?;
    match holder {
        Value::Object(map) => drop(map.insert(last, value)),
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let invalid =
                || unprocessable(format!("error in {operation} for path: '{path}': invalid index referenced"));
            let index = index(&last, items.len()).ok_or_else(invalid)?;
            items.insert(index, value);
        }
        _ => return Err(missing(operation, path)),
    }
    Ok(())
}

/// Takes the target out. `about` is the path that the error names.
fn remove(document: &mut Value, path: &str, operation: &str, about: &str) -> Result<Value, PatchError> {
    let (holder, last) = container(document, path).ok_or_else(|| missing(operation, path))?;
    let taken = match holder {
        Value::Object(map) => map.shift_remove(&last),
        Value::Array(items) => {
            let at = index(&last, items.len()).filter(|index| *index < items.len());
            at.map(|index| items.remove(index))
        }
        _ => None,
    };
    taken.ok_or_else(|| {
        unprocessable(format!(
            "error in {operation} for path: '{about}': Unable to remove nonexistent key: {last}: missing value"
        ))
    })
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let (holder, last) = container(document, path).ok_or_else(|| missing("replace", path))?;
    let target = match holder {
        Value::Object(map) => map.get_mut(&last),
        Value::Array(items) => match index(&last, items.len()) {
            Some(index) => items.get_mut(index),
            None => None,
        },
        _ => None,
    };
    let absent =
        || unprocessable(format!("replace operation does not apply: doc is missing key: {path}: missing value"));
    *target.ok_or_else(absent)? = value;
    Ok(())
}
