//! Namespace: A scope for names.

use api::core::v1::{Namespace, NamespaceStatus};

use crate::checks;
use crate::metadata::validate_finalizer_domain;
use crate::prelude::*;

/// The finalizer that keeps a namespace until everything in it is gone.
const KUBERNETES: &str = "kubernetes";
/// The label that lets selectors name a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Namespace;

    const NAMES: Names = Names::new("namespaces", "namespace").short(&["ns"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "namespaces" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Finalize, Subresource::Status];
    const VERBS: &'static [&'static str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
    const SELECTABLE: &'static [Selectable<Namespace>] =
        &[Selectable { path: "status.phase", value: |namespace| phase(namespace).to_owned() }];
    const COLUMNS: &'static [Column<Namespace>] = &[
        Column::name(),
        Column::new("Status", "string", |namespace, _| Value::from(phase(namespace)))
            .describe("The status of the namespace"),
        Column::age(),
    ];

    fn default(namespace: &mut Namespace) {
        if let Some(name) = namespace.metadata.name.clone().filter(|name| !name.is_empty()) {
            namespace.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
        let phase = &mut namespace.status.get_or_insert_default().phase;
        if phase.as_deref().is_none_or(str::is_empty) {
            *phase = Some("Active".to_owned());
        }
    }

    fn prepare_create(namespace: &mut Namespace) {
        namespace.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), conditions: None });
        let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|name| name == KUBERNETES) {
            finalizers.push(KUBERNETES.to_owned());
        }
    }

    fn prepare_update(new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
    }

    fn prepare_subresource_update(subresource: Subresource, new: &mut Namespace, old: &Namespace) {
        match subresource {
            Subresource::Finalize => new.status.clone_from(&old.status),
            _ => Self::prepare_status_update(new, old),
        }
    }

    fn validate(namespace: &Namespace) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("finalizers");
        for name in finalizers(namespace) {
            checks::qualified(&mut errors, &path, name);
            validate_finalizer_domain(&mut errors, &path, name);
        }
        errors
    }

    fn validate_update(_new: &Namespace, _old: &Namespace) -> FieldErrors {
        FieldErrors::new()
    }

    fn validate_status_update(new: &Namespace, _old: &Namespace) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status").child("Phase");
        let (wanted, whether) =
            if new.metadata.deletion_timestamp.is_none() { ("Active", "") } else { ("Terminating", "not ") };
        if phase(new) != wanted {
            let why = format!("may only be '{wanted}' if `deletionTimestamp` is {whether}empty");
            errors.invalid(&path, phase(new), why);
        }
        errors
    }

    fn validate_subresource_update(subresource: Subresource, new: &Namespace, old: &Namespace) -> FieldErrors {
        if subresource != Subresource::Finalize {
            return Self::validate_status_update(new, old);
        }
        let mut errors = FieldErrors::new();
        for (index, name) in finalizers(new).iter().enumerate() {
            let path = Path::new("spec").child("finalizers").index(index);
            checks::qualified(&mut errors, &path, name);
            validate_finalizer_domain(&mut errors, &path, name);
        }
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        api::name::dns1123_label(name, prefix)
    }
}

fn phase(namespace: &Namespace) -> &str {
    namespace.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn finalizers(namespace: &Namespace) -> &[String] {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Strategy as Namespaces;
    use crate::Strategy as _;
    use crate::strategy::Subresource;
    use api::Typed;
    use api::core::v1::Namespace;
    use serde_json::json;

    #[test]
    fn a_namespace_is_finalized_through_its_own_door() {
        let mut namespace =
            Namespace::from_value(json!({"metadata": {"name": "n"}, "status": {"phase": "Odd"}})).unwrap();
        Namespaces::default(&mut namespace);
        Namespaces::prepare_create(&mut namespace);
        assert_eq!(
            serde_json::to_value(&namespace).unwrap(),
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
        let mut emptied = namespace.clone();
        emptied.spec.as_mut().unwrap().finalizers = None;
        let mut updated = emptied.clone();
        Namespaces::prepare_update(&mut updated, &namespace);
        assert_eq!(updated.spec, namespace.spec);
        Namespaces::prepare_subresource_update(Subresource::Finalize, &mut emptied, &namespace);
        assert_eq!(emptied.spec.as_ref().unwrap().finalizers, None);
        emptied.spec.as_mut().unwrap().finalizers = Some(vec!["odd".to_owned()]);
        assert_eq!(
            Namespaces::validate_subresource_update(Subresource::Finalize, &emptied, &namespace).to_string(),
            "spec.finalizers[0]: Invalid value: \"odd\": name is neither a standard finalizer name nor is it fully \
             qualified"
        );
    }
}
