//! What holds for the metadata of every kind (apimachinery `pkg/api/validation`).

use api::meta::v1::{ObjectMeta, OwnerReference};
use api::{FieldErrors, Kind, Object, Path, Status, Timestamp, name};
use resources::{AnyStrategy, Scope};
use serde_json::Value;

/// The most bytes that annotations may have together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
const IMMUTABLE: &str = "field is immutable";
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];
/// What deleting an object with dependents leaves behind.
pub const ORPHAN: &str = "orphan";
pub const FOREGROUND: &str = "foregroundDeletion";

/// Object timestamps have whole seconds.
pub fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// An object takes the namespace of its request; if it names another, the request is bad.
pub fn match_namespace(requested: &str, object: &mut dyn Object) -> Result<(), Status> {
    match object.namespace() {
        own if own == requested => {}
        "" => object.metadata_mut().namespace = Some(requested.to_owned()),
        _ if requested.is_empty() => object.metadata_mut().namespace = None,
        _ => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// The object of an update must be the one in the path.
pub fn match_name(name: &str, namespace: &str, object: &dyn Object) -> Result<(), Status> {
    let own = object.name();
    if own.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if own != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        )));
    }
    let own = object.namespace();
    if !namespace.is_empty() && !own.is_empty() && own != namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({own}) does not match the namespace on the request ({namespace})"
        )));
    }
    Ok(())
}

/// All problems of an object's metadata.
pub fn validate(strategy: &dyn AnyStrategy, object: &dyn Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let at = Path::new("metadata");
    let metadata = object.metadata();
    let generate = metadata.generate_name.as_deref().unwrap_or_default();
    if !generate.is_empty() {
        for why in strategy.validate_name(generate, true) {
            errors.invalid(&at.child("generateName"), generate, why);
        }
    }
    if object.name().is_empty() {
        errors.required(&at.child("name"), "name or generateName is required");
    } else {
        for why in strategy.validate_name(object.name(), false) {
            errors.invalid(&at.child("name"), object.name(), why);
        }
    }
    if strategy.scope() == Scope::Namespaced {
        if object.namespace().is_empty() {
            errors.required(&at.child("namespace"), "");
        } else {
            for why in name::dns1123_label(object.namespace(), false) {
                errors.invalid(&at.child("namespace"), object.namespace(), why);
            }
        }
    } else if !object.namespace().is_empty() {
        errors.forbidden(&at.child("namespace"), "not allowed on this type");
    }
    common(&mut errors, &at, metadata, has_own_finalizers(object.kind()));
    errors
}

/// All problems of an update's metadata. What the server owns has been copied from `old` where it was left out.
pub fn validate_update(new: &dyn Object, old: &dyn Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let at = Path::new("metadata");
    let own_finalizers = has_own_finalizers(new.kind());
    let (new, old) = (new.metadata(), old.metadata());
    let texts =
        [("name", &new.name, &old.name), ("namespace", &new.namespace, &old.namespace), ("uid", &new.uid, &old.uid)];
    for (field, new, old) in texts {
        if new != old {
            errors.invalid(&at.child(field), new.clone().unwrap_or_default(), IMMUTABLE);
        }
    }
    if new.deletion_timestamp != old.deletion_timestamp {
        let asked = new.deletion_timestamp.as_ref().map(|time| time.0.to_string());
        errors.invalid(&at.child("deletionTimestamp"), asked, IMMUTABLE);
    }
    if new.deletion_grace_period_seconds != old.deletion_grace_period_seconds {
        let grace = new.deletion_grace_period_seconds;
        errors.invalid(&at.child("deletionGracePeriodSeconds"), grace, IMMUTABLE);
    }
    let (generation, before) = (new.generation.unwrap_or_default(), old.generation.unwrap_or_default());
    if generation < before {
        errors.invalid(&at.child("generation"), generation, "must not be decremented");
    }
    if old.deletion_timestamp.is_some() {
        let known = old.finalizers.as_deref().unwrap_or_default();
        let added: Vec<String> =
            new.finalizers.iter().flatten().filter(|f| !known.contains(f)).map(|f| format!("{f:?}")).collect();
        if !added.is_empty() {
            let added = added.join(", ");
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{added}}}"
            );
            errors.forbidden(&at.child("finalizers"), why);
        }
    }
    common(&mut errors, &at, new, own_finalizers);
    errors
}

/// What an update may leave out: the server's own fields.
pub fn keep_system_fields(new: &mut dyn Object, old: &dyn Object) {
    let old = old.metadata();
    let new = new.metadata_mut();
    if new.uid.as_deref().unwrap_or_default().is_empty() {
        new.uid.clone_from(&old.uid);
    }
    // Changes of it are ignored, not refused.
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    if old.deletion_timestamp.is_some() {
        new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    }
    if new.deletion_grace_period_seconds.is_none() {
        new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    }
    new.generation = old.generation;
    new.self_link = None;
}

/// Whether finalizers without a domain are Kubernetes' own on this kind, and no others are taken.
fn has_own_finalizers(kind: &Kind) -> bool {
    !kind.is_custom() && !matches!(kind.group, "apiextensions.k8s.io" | "apiregistration.k8s.io")
}

fn common(errors: &mut FieldErrors, at: &Path, metadata: &ObjectMeta, own_finalizers: bool) {
    if let Some(generation) = metadata.generation.filter(|generation| *generation < 0) {
        errors.invalid(&at.child("generation"), generation, "must be greater than or equal to 0");
    }
    let labels = at.child("labels");
    for (key, value) in metadata.labels.iter().flatten() {
        name::label_key(key).into_iter().for_each(|why| errors.invalid(&labels, key.as_str(), why));
        name::label_value(value).into_iter().for_each(|why| errors.invalid(&labels, value.as_str(), why));
    }
    let annotations = at.child("annotations");
    let mut bytes = 0;
    for (key, value) in metadata.annotations.iter().flatten() {
        let lower = key.to_lowercase();
        name::qualified(&lower).into_iter().for_each(|why| errors.invalid(&annotations, key.as_str(), why));
        bytes += key.len() + value.len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.too_long(&annotations, ANNOTATIONS_BYTES_MAX);
    }
    owners(errors, &at.child("ownerReferences"), metadata.owner_references.as_deref().unwrap_or_default());
    finalizers(errors, &at.child("finalizers"), metadata.finalizers.as_deref().unwrap_or_default(), own_finalizers);
}

fn owners(errors: &mut FieldErrors, at: &Path, owners: &[OwnerReference]) {
    let mut controller: Option<&str> = None;
    for owner in owners {
        if owner.api_version.is_empty() {
            errors.invalid(&at.child("apiVersion"), "", "version must not be empty");
        }
        let fields = [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)];
        for (field, value) in fields.into_iter().filter(|(_, value)| value.is_empty()) {
            errors.invalid(&at.child(field), value.as_str(), format!("{field} must not be empty"));
        }
        if (owner.api_version.as_str(), owner.kind.as_str()) == ("v1", "Event") {
            errors.invalid(at, owned(owner), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.controller == Some(true) {
            match controller {
                Some(first) => {
                    let why = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {}",
                        owner.name
                    );
                    errors.invalid(at, Value::from(owners.iter().map(owned).collect::<Vec<_>>()), why);
                }
                None => controller = Some(&owner.name),
            }
        }
    }
}

fn owned(owner: &OwnerReference) -> Value {
    serde_json::json!({"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid})
}

fn finalizers(errors: &mut FieldErrors, at: &Path, finalizers: &[String], own_only: bool) {
    let has = |wanted: &str| finalizers.iter().any(|own| own == wanted);
    for (index, own) in finalizers.iter().enumerate() {
        name::qualified(own).into_iter().for_each(|why| errors.invalid(at, own.as_str(), why));
        if own_only && !own.contains('/') && !STANDARD_FINALIZERS.contains(&own.as_str()) {
            errors.invalid(
                &at.index(index),
                own.as_str(),
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
    if has(ORPHAN) && has(FOREGROUND) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.invalid(at, Value::from(finalizers.to_vec()), why);
    }
}

/// What the finalizers of a custom resource are warned of, if the object did not have them before: one without a domain
/// may be somebody else's too. Upstream says nothing of built-in kinds, whose own rules are stricter.
pub fn finalizer_warnings(new: &dyn Object, old: Option<&dyn Object>) -> Vec<String> {
    let of = |object: &dyn Object| object.metadata().finalizers.clone().unwrap_or_default();
    let known = old.map(of).unwrap_or_default();
    let mut added = of(new);
    added.retain(|name| !name.contains('/') && !STANDARD_FINALIZERS.contains(&name.as_str()) && !known.contains(name));
    let warning = |name: String| {
        format!(
            "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name including a path (/) to avoid \
             accidental conflicts with other finalizer writers"
        )
    };
    added.into_iter().map(warning).collect()
}
