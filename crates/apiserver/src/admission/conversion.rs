//! Objects between the forms of one resource, and back into the request after a change.

use api::{Custom, Object, Status, schema};
use serde_json::Value;

use super::Request;
use crate::catalog::Resource;

/// The object in another form of its resource.
///
/// # Errors
/// 500 if there is no conversion between the two.
pub fn to(request: &Request<'_>, object: &dyn Object, other: &Resource) -> Result<Box<dyn Object>, Status> {
    let own = request.lookup().catalog().find(request.group, request.version, request.resource);
    let own = own.ok_or_else(Status::unknown_resource)?;
    between(object, &own, other)
}

/// The same back into the request's own form.
///
/// # Errors
/// As [`to`].
pub fn back(request: &Request<'_>, object: &dyn Object, other: &Resource) -> Result<Box<dyn Object>, Status> {
    let own = request.lookup().catalog().find(request.group, request.version, request.resource);
    let own = own.ok_or_else(Status::unknown_resource)?;
    between(object, other, &own)
}

fn between(object: &dyn Object, from: &Resource, to: &Resource) -> Result<Box<dyn Object>, Status> {
    if object.kind() != from.kind() {
        // The body of a subresource, which is the same in every version.
        return Ok(object.boxed_clone());
    }
    if let (Some(version), Some(custom)) = (&to.custom, object.as_any().downcast_ref::<Custom>())
        && !version.conversion.moves_fields()
    {
        return Ok(Box::new(custom.clone().of(to.kind())));
    }
    if from.kind().is_custom() || to.kind().is_custom() {
        let why = format!("no conversion from {} to {}", from.kind().api_version, to.kind().api_version);
        return Err(Status::internal(why));
    }
    let stored = from.convert.map_or_else(|| object.boxed_clone(), |convert| (convert.to_stored)(object));
    Ok(match to.convert {
        Some(convert) => (convert.from_stored)(&*stored),
        None => stored,
    })
}

/// An object from a value tree that was changed: checked against its type, in normal form, with its defaults.
///
/// # Errors
/// 500 in the decoder's words.
pub fn decode(request: &Request<'_>, kind: &'static api::Kind, mut value: Value) -> Result<Box<dyn Object>, Status> {
    if let Some(definition) = schema::definition(kind.definition) {
        if let Some(error) = schema::check(&value, definition).type_error {
            return Err(Status::internal(error));
        }
        schema::normalize(&mut value, definition);
    }
    let mut object = kind.decode_value(value).map_err(Status::internal)?;
    if let Some(resource) = request.lookup().catalog().find(kind.group, kind.version, kind.plural) {
        resource.strategy.default(&mut *object);
    }
    Ok(object)
}
