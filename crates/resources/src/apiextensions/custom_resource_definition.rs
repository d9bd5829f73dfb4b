//! CustomResourceDefinition: A kind defined at run time.

use api::apiextensions::v1::{CustomResourceDefinition, CustomResourceDefinitionStatus};
use structural::definition;

use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = CustomResourceDefinition;

    const NAMES: Names = Names::new("customresourcedefinitions", "customresourcedefinition")
        .short(&["crd", "crds"])
        .categories(&["api-extensions"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "apiextensions.k8s.io/customresourcedefinitions" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<CustomResourceDefinition>] = &[Column::name(), Column::created_at()];
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(object: &mut CustomResourceDefinition) {
        definition::default(object);
    }

    fn prepare_create(object: &mut CustomResourceDefinition) {
        object.metadata.generation = Some(1);
        object.status = Some(CustomResourceDefinitionStatus {
            stored_versions: definition::storage_version(&object.spec).map(|name| vec![name.to_owned()]),
            ..Default::default()
        });
    }

    fn prepare_update(new: &mut CustomResourceDefinition, old: &CustomResourceDefinition) {
        new.status.clone_from(&old.status);
        if new.spec != old.spec {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
        // objects of every version that ever was the stored one may still be in the store
        if let (Some(version), Some(status)) = (definition::storage_version(&new.spec), &mut new.status) {
            let stored = status.stored_versions.get_or_insert_with(Vec::new);
            if !stored.iter().any(|known| known == version) {
                stored.push(version.to_owned());
            }
        }
    }

    fn prepare_status_update(new: &mut CustomResourceDefinition, old: &CustomResourceDefinition) {
        new.spec.clone_from(&old.spec);
        let managed = new.metadata.managed_fields.take();
        let version = new.metadata.resource_version.take();
        new.metadata.clone_from(&old.metadata);
        new.metadata.managed_fields = managed;
        new.metadata.resource_version = version;
    }

    fn validate(object: &CustomResourceDefinition) -> FieldErrors {
        definition::validate(object)
    }

    fn validate_update(new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> FieldErrors {
        definition::validate_update(new, old)
    }

    fn validate_status_update(new: &CustomResourceDefinition, _old: &CustomResourceDefinition) -> FieldErrors {
        definition::validate_status_update(new)
    }
}

#[cfg(test)]
mod tests {
    use super::Strategy as Definitions;
    use crate::Strategy as _;
    use api::Typed;
    use api::apiextensions::v1::CustomResourceDefinition;
    use serde_json::json;

    #[test]
    fn versions_once_stored_are_remembered() {
        let crd = |stored: &str| {
            let version = |name: &str| {
                let schema = json!({"openAPIV3Schema": {"type": "object"}});
                json!({"name": name, "served": true, "storage": name == stored, "schema": schema})
            };
            let mut crd = CustomResourceDefinition::from_value(json!({
                "metadata": {"name": "foos.example.com"},
                "spec": {
                    "group": "example.com",
                    "scope": "Namespaced",
                    "names": {"plural": "foos", "kind": "Foo"},
                    "versions": [version("v1"), version("v2")],
                },
            }))
            .unwrap();
            Definitions::default(&mut crd);
            crd
        };
        let mut old = crd("v1");
        Definitions::prepare_create(&mut old);
        assert_eq!(Definitions::validate(&old).to_string(), "[]");
        let mut new = crd("v2");
        Definitions::prepare_update(&mut new, &old);
        assert_eq!(new.status.as_ref().unwrap().stored_versions, Some(vec!["v1".to_owned(), "v2".to_owned()]));
        assert_eq!(new.metadata.generation, Some(2));
        assert!(Definitions::validate_update(&new, &old).is_empty());
        new.spec.versions.remove(0);
        assert_eq!(
            Definitions::validate_update(&new, &old).to_string(),
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage \
             version, and must remain in spec.versions until a storage migration ensures no data remains persisted in \
             v1 and removes v1 from status.storedVersions"
        );
    }
}
