//! What holds for every resource of the catalogue.

use std::collections::BTreeSet;

use expect_test::expect;

use crate::{ALL, Storage};

/// The catalogue in words: resource, scope, where it is stored, names, subresources.
#[test]
fn names_scopes_and_keys_are_upstreams() {
    let line = |resource: &&dyn crate::AnyStrategy| {
        let (kind, names) = (resource.kind(), resource.names());
        let segment = match resource.storage() {
            Storage::Stored { segment } => segment,
            Storage::Virtual => "-",
        };
        let scope = if resource.scope() == crate::Scope::Namespaced { "n" } else { "c" };
        let subresources: Vec<&str> = resource.subresources().iter().map(|sub| sub.name()).collect();
        format!(
            "{}/{} {scope} {segment} {} [{}] [{}] {}",
            kind.api_version,
            names.plural,
            kind.kind,
            names.short.join(","),
            names.categories.join(","),
            subresources.join(","),
        )
        .trim_end()
        .to_owned()
    };
    let text = ALL.iter().map(line).collect::<Vec<_>>().join("\n");
    expect![[r#"
        v1/bindings n - Binding [] []
        v1/componentstatuses c - ComponentStatus [cs] []
        v1/configmaps n configmaps ConfigMap [cm] []
        v1/endpoints n services/endpoints Endpoints [ep] []
        v1/events n events Event [ev] []
        v1/limitranges n limitranges LimitRange [limits] []
        v1/namespaces c namespaces Namespace [ns] [] finalize,status
        v1/nodes c minions Node [no] [] proxy,status
        v1/persistentvolumeclaims n persistentvolumeclaims PersistentVolumeClaim [pvc] [] status
        v1/persistentvolumes c persistentvolumes PersistentVolume [pv] [] status
        v1/pods n pods Pod [po] [all] attach,binding,ephemeralcontainers,eviction,exec,log,portforward,proxy,resize,status
        v1/podtemplates n podtemplates PodTemplate [] []
        v1/resourcequotas n resourcequotas ResourceQuota [quota] [] status
        v1/replicationcontrollers n controllers ReplicationController [rc] [all] scale,status
        v1/secrets n secrets Secret [] []
        v1/serviceaccounts n serviceaccounts ServiceAccount [sa] [] token
        v1/services n services/specs Service [svc] [all] proxy,status
        admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings c mutatingadmissionpolicybindings MutatingAdmissionPolicyBinding [] [api-extensions]
        admissionregistration.k8s.io/v1/mutatingadmissionpolicies c mutatingadmissionpolicies MutatingAdmissionPolicy [] [api-extensions]
        admissionregistration.k8s.io/v1/mutatingwebhookconfigurations c mutatingwebhookconfigurations MutatingWebhookConfiguration [] [api-extensions]
        admissionregistration.k8s.io/v1/validatingadmissionpolicybindings c validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding [] [api-extensions]
        admissionregistration.k8s.io/v1/validatingadmissionpolicies c validatingadmissionpolicies ValidatingAdmissionPolicy [] [api-extensions] status
        admissionregistration.k8s.io/v1/validatingwebhookconfigurations c validatingwebhookconfigurations ValidatingWebhookConfiguration [] [api-extensions]
        apiextensions.k8s.io/v1/customresourcedefinitions c apiextensions.k8s.io/customresourcedefinitions CustomResourceDefinition [crd,crds] [api-extensions] status
        apiregistration.k8s.io/v1/apiservices c apiregistration.k8s.io/apiservices APIService [] [api-extensions] status
        apps/v1/controllerrevisions n controllerrevisions ControllerRevision [] []
        apps/v1/daemonsets n daemonsets DaemonSet [ds] [all] status
        apps/v1/deployments n deployments Deployment [deploy] [all] scale,status
        apps/v1/replicasets n replicasets ReplicaSet [rs] [all] scale,status
        apps/v1/statefulsets n statefulsets StatefulSet [sts] [all] scale,status
        authentication.k8s.io/v1/selfsubjectreviews c - SelfSubjectReview [] []
        authentication.k8s.io/v1/tokenreviews c - TokenReview [] []
        authorization.k8s.io/v1/localsubjectaccessreviews n - LocalSubjectAccessReview [] []
        authorization.k8s.io/v1/selfsubjectaccessreviews c - SelfSubjectAccessReview [] []
        authorization.k8s.io/v1/selfsubjectrulesreviews c - SelfSubjectRulesReview [] []
        authorization.k8s.io/v1/subjectaccessreviews c - SubjectAccessReview [] []
        autoscaling/v2/horizontalpodautoscalers n horizontalpodautoscalers HorizontalPodAutoscaler [hpa] [all] status
        autoscaling/v1/horizontalpodautoscalers n horizontalpodautoscalers HorizontalPodAutoscaler [hpa] [all] status
        batch/v1/cronjobs n cronjobs CronJob [cj] [all] status
        batch/v1/jobs n jobs Job [] [all] status
        certificates.k8s.io/v1/certificatesigningrequests c certificatesigningrequests CertificateSigningRequest [csr] [] approval,status
        certificates.k8s.io/v1/clustertrustbundles c clustertrustbundles ClusterTrustBundle [] []
        certificates.k8s.io/v1/podcertificaterequests n podcertificaterequests PodCertificateRequest [] [] status
        coordination.k8s.io/v1/leases n leases Lease [] []
        discovery.k8s.io/v1/endpointslices n endpointslices EndpointSlice [] []
        events.k8s.io/v1/events n events Event [ev] []
        flowcontrol.apiserver.k8s.io/v1/flowschemas c flowschemas FlowSchema [] [] status
        flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations c prioritylevelconfigurations PriorityLevelConfiguration [] [] status
        networking.k8s.io/v1/ingressclasses c ingressclasses IngressClass [] []
        networking.k8s.io/v1/ingresses n ingress Ingress [ing] [] status
        networking.k8s.io/v1/ipaddresses c ipaddresses IPAddress [ip] []
        networking.k8s.io/v1/networkpolicies n networkpolicies NetworkPolicy [netpol] []
        networking.k8s.io/v1/servicecidrs c servicecidrs ServiceCIDR [] [] status
        node.k8s.io/v1/runtimeclasses c runtimeclasses RuntimeClass [] []
        policy/v1/poddisruptionbudgets n poddisruptionbudgets PodDisruptionBudget [pdb] [] status
        rbac.authorization.k8s.io/v1/clusterrolebindings c clusterrolebindings ClusterRoleBinding [] []
        rbac.authorization.k8s.io/v1/clusterroles c clusterroles ClusterRole [] []
        rbac.authorization.k8s.io/v1/rolebindings n rolebindings RoleBinding [] []
        rbac.authorization.k8s.io/v1/roles n roles Role [] []
        resource.k8s.io/v1/deviceclasses c deviceclasses DeviceClass [] []
        resource.k8s.io/v1/devicetaintrules c devicetaintrules DeviceTaintRule [] [] status
        resource.k8s.io/v1/resourceclaimtemplates n resourceclaimtemplates ResourceClaimTemplate [] []
        resource.k8s.io/v1/resourceclaims n resourceclaims ResourceClaim [] [] status
        resource.k8s.io/v1/resourceslices c resourceslices ResourceSlice [] []
        scheduling.k8s.io/v1/priorityclasses c priorityclasses PriorityClass [pc] []
        storage.k8s.io/v1/csidrivers c csidrivers CSIDriver [] []
        storage.k8s.io/v1/csinodes c csinodes CSINode [] []
        storage.k8s.io/v1/csistoragecapacities n csistoragecapacities CSIStorageCapacity [] []
        storage.k8s.io/v1/storageclasses c storageclasses StorageClass [sc] []
        storage.k8s.io/v1/volumeattachments c volumeattachments VolumeAttachment [] [] status
        storage.k8s.io/v1/volumeattributesclasses c volumeattributesclasses VolumeAttributesClass [vac] []
        storagemigration.k8s.io/v1/storageversionmigrations c storageversionmigrations StorageVersionMigration [] [] status"#]].assert_eq(&text);
}

#[test]
fn every_line_is_of_its_own() {
    let mut seen = BTreeSet::new();
    for resource in ALL {
        let (kind, names) = (resource.kind(), resource.names());
        assert_eq!(kind.plural, names.plural);
        assert!(seen.insert((kind.api_version, names.plural)), "{} twice", names.plural);
        assert!(std::ptr::eq(crate::find(kind.group, kind.version, names.plural).unwrap().kind(), kind));
        let columns = resource.columns();
        assert!(columns.iter().any(|column| column.name == "Name" && column.format == "name"), "{}", names.plural);
        assert!(columns.iter().all(|column| !column.description.is_empty()), "{}", names.plural);
    }
}

/// An object that says nothing is defaulted once and for all, and no hook trips over it.
#[test]
fn no_hook_trips_over_an_empty_object() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    for resource in ALL {
        let mut object = resource.kind().decode(b"{}").unwrap();
        resource.default(object.as_mut());
        let once = object.encode();
        resource.default(object.as_mut());
        assert_eq!(object.encode(), once, "{}: defaults are idempotent", resource.names().plural);
        resource.prepare_create(object.as_mut());
        resource.validate(object.as_ref());
        let old = object.clone();
        resource.prepare_update(object.as_mut(), old.as_ref());
        assert_eq!(object.encode(), old.encode(), "{}: nothing changed", resource.names().plural);
        resource.validate_update(object.as_ref(), old.as_ref());
        for subresource in resource.subresources() {
            resource.prepare_subresource_update(*subresource, object.as_mut(), old.as_ref());
            resource.validate_subresource_update(*subresource, object.as_ref(), old.as_ref());
        }
        resource.prepare_status_update(object.as_mut(), old.as_ref());
        resource.validate_status_update(object.as_ref(), old.as_ref());
        resource.warnings(object.as_ref());
        resource.delete_grace_seconds(object.as_ref(), &Default::default());
        resource.scale(object.as_ref());
        assert_eq!(resource.cells(object.as_ref(), now).len(), resource.columns().len());
        assert_eq!(resource.selectable_values(object.as_ref()).len(), resource.selectable_paths().len());
    }
}
