//! What is particular to namespaces: they are emptied before they go. `spec.finalizers` keeps a deleted namespace in
//! the phase `Terminating` until the namespace controller has emptied it and finalizes it.

use api::Object;
use api::core::v1::{Namespace, NamespaceSpec, NamespaceStatus};

const FINALIZER: &str = "kubernetes";

fn as_namespace(object: &mut dyn Object) -> Option<&mut Namespace> {
    object.as_any_mut().downcast_mut()
}

fn spec_finalizers(object: &dyn Object) -> Option<&Vec<String>> {
    let namespace: &Namespace = object.as_any().downcast_ref()?;
    namespace.spec.as_ref()?.finalizers.as_ref()
}

/// Whether something must still happen before an object under deletion may go.
pub fn has_finalizers(object: &dyn Object) -> bool {
    let finalizers = object.metadata().finalizers.as_ref();
    finalizers.is_some_and(|all| !all.is_empty()) || spec_finalizers(object).is_some_and(|all| !all.is_empty())
}

/// A new namespace is active and has the finalizer.
pub fn prepare_create(object: &mut dyn Object) {
    let Some(namespace) = as_namespace(object) else { return };
    namespace.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), ..Default::default() });
    let finalizers = namespace.spec.get_or_insert_with(NamespaceSpec::default).finalizers.get_or_insert_default();
    if !finalizers.iter().any(|own| own == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
}

/// Only `finalize` changes the finalizers of the spec, only `status` the status.
pub fn prepare_update(new: &mut dyn Object, old: &dyn Object) {
    let (Some(new), Some(old)) = (as_namespace(new), old.as_any().downcast_ref::<Namespace>()) else { return };
    new.spec.get_or_insert_default().finalizers = old.spec.as_ref().and_then(|spec| spec.finalizers.clone());
    new.status.clone_from(&old.status);
}

/// `finalize` changes nothing but the finalizers of the spec.
pub fn prepare_finalize(new: &mut dyn Object, old: &dyn Object) {
    let (Some(new), Some(old)) = (as_namespace(new), old.as_any().downcast_ref::<Namespace>()) else { return };
    new.status.clone_from(&old.status);
}

/// A namespace under deletion is terminating.
pub fn terminate(object: &mut dyn Object) {
    let Some(namespace) = as_namespace(object) else { return };
    namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
}
