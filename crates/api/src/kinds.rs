//! The catalogue of built-in kinds. A kind is one line here; its serde code is instantiated here and nowhere else.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use k8s_openapi::Resource;

use crate::codec::DecodeError;
use crate::meta::v1::ObjectMeta;
use crate::object::{Codec, Kind, Object, Typed};

macro_rules! kinds {
    ($($group:ident :: $version:ident :: $kind:ident = $plural:literal ;)*) => {
        kinds! { @impl $( crate::$group::$version::$kind, concat!("io.k8s.api.", stringify!($group), ".", stringify!($version), ".", stringify!($kind)), $plural; )* }
        /// Every built-in kind.
        pub static ALL: &[&Kind] = &[
            $( <crate::$group::$version::$kind as Typed>::KIND, )*
            <crate::apiextensions::v1::CustomResourceDefinition as Typed>::KIND,
            <crate::apiregistration::v1::APIService as Typed>::KIND,
        ];
    };
    (@impl $($type:ty, $definition:expr, $plural:literal;)*) => { $(
        impl Object for $type {
            fn kind(&self) -> &'static Kind { <Self as Typed>::KIND }
            fn metadata(&self) -> &ObjectMeta { &self.metadata }
            fn metadata_mut(&mut self) -> &mut ObjectMeta { &mut self.metadata }
            fn boxed_clone(&self) -> Box<dyn Object> { Box::new(self.clone()) }
            fn encode(&self) -> Vec<u8> {
                serde_json::to_vec(self).expect("string keys and finite numbers always encode")
            }
            fn to_value(&self) -> serde_json::Value {
                serde_json::to_value(self).expect("string keys and finite numbers always encode")
            }
            fn as_any(&self) -> &dyn Any { self }
            fn as_any_mut(&mut self) -> &mut dyn Any { self }
            fn into_any_arc(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> { self }
            fn into_any_box(self: Box<Self>) -> Box<dyn Any> { self }
            fn assign(&mut self, other: Box<dyn Object>) {
                *self = *other.into_any_box().downcast().expect("an object of the same type");
            }
        }
        impl Typed for $type {
            const KIND: &'static Kind = &Kind {
                group: <$type as Resource>::GROUP,
                version: <$type as Resource>::VERSION,
                kind: <$type as Resource>::KIND,
                api_version: <$type as Resource>::API_VERSION,
                plural: $plural,
                definition: $definition,
                codec: Codec::BuiltIn {
                    decode: |bytes| Ok(Box::new(<$type as Typed>::decode(bytes)?)),
                    from_value: |value| Ok(Box::new(<$type as Typed>::from_value(value)?)),
                    describe: |generator| drop(generator.subschema_for::<$type>()),
                },
            };
            fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                serde_json::from_slice(bytes).map_err(DecodeError::from)
            }
            fn from_value(value: serde_json::Value) -> Result<Self, DecodeError> {
                serde_json::from_value(value).map_err(DecodeError::from)
            }
        }
    )* };
}

kinds! {
    core::v1::Binding = "bindings";
    core::v1::ComponentStatus = "componentstatuses";
    core::v1::ConfigMap = "configmaps";
    core::v1::Endpoints = "endpoints";
    core::v1::Event = "events";
    core::v1::LimitRange = "limitranges";
    core::v1::Namespace = "namespaces";
    core::v1::Node = "nodes";
    core::v1::PersistentVolume = "persistentvolumes";
    core::v1::PersistentVolumeClaim = "persistentvolumeclaims";
    core::v1::Pod = "pods";
    core::v1::PodTemplate = "podtemplates";
    core::v1::ReplicationController = "replicationcontrollers";
    core::v1::ResourceQuota = "resourcequotas";
    core::v1::Secret = "secrets";
    core::v1::Service = "services";
    core::v1::ServiceAccount = "serviceaccounts";
    admissionregistration::v1::MutatingAdmissionPolicy = "mutatingadmissionpolicies";
    admissionregistration::v1::MutatingAdmissionPolicyBinding = "mutatingadmissionpolicybindings";
    admissionregistration::v1::MutatingWebhookConfiguration = "mutatingwebhookconfigurations";
    admissionregistration::v1::ValidatingAdmissionPolicy = "validatingadmissionpolicies";
    admissionregistration::v1::ValidatingAdmissionPolicyBinding = "validatingadmissionpolicybindings";
    admissionregistration::v1::ValidatingWebhookConfiguration = "validatingwebhookconfigurations";
    admissionregistration::v1alpha1::MutatingAdmissionPolicy = "mutatingadmissionpolicies";
    admissionregistration::v1alpha1::MutatingAdmissionPolicyBinding = "mutatingadmissionpolicybindings";
    admissionregistration::v1beta1::MutatingAdmissionPolicy = "mutatingadmissionpolicies";
    admissionregistration::v1beta1::MutatingAdmissionPolicyBinding = "mutatingadmissionpolicybindings";
    apps::v1::ControllerRevision = "controllerrevisions";
    apps::v1::DaemonSet = "daemonsets";
    apps::v1::Deployment = "deployments";
    apps::v1::ReplicaSet = "replicasets";
    apps::v1::StatefulSet = "statefulsets";
    authentication::v1::SelfSubjectReview = "selfsubjectreviews";
    authentication::v1::TokenRequest = "";
    authentication::v1::TokenReview = "tokenreviews";
    authorization::v1::LocalSubjectAccessReview = "localsubjectaccessreviews";
    authorization::v1::SelfSubjectAccessReview = "selfsubjectaccessreviews";
    authorization::v1::SelfSubjectRulesReview = "selfsubjectrulesreviews";
    authorization::v1::SubjectAccessReview = "subjectaccessreviews";
    autoscaling::v1::HorizontalPodAutoscaler = "horizontalpodautoscalers";
    autoscaling::v1::Scale = "";
    autoscaling::v2::HorizontalPodAutoscaler = "horizontalpodautoscalers";
    batch::v1::CronJob = "cronjobs";
    batch::v1::Job = "jobs";
    certificates::v1::CertificateSigningRequest = "certificatesigningrequests";
    certificates::v1::ClusterTrustBundle = "clustertrustbundles";
    certificates::v1::PodCertificateRequest = "podcertificaterequests";
    certificates::v1beta1::ClusterTrustBundle = "clustertrustbundles";
    coordination::v1::Lease = "leases";
    coordination::v1alpha2::LeaseCandidate = "leasecandidates";
    coordination::v1beta1::LeaseCandidate = "leasecandidates";
    discovery::v1::EndpointSlice = "endpointslices";
    events::v1::Event = "events";
    flowcontrol::v1::FlowSchema = "flowschemas";
    flowcontrol::v1::PriorityLevelConfiguration = "prioritylevelconfigurations";
    networking::v1::IPAddress = "ipaddresses";
    networking::v1::Ingress = "ingresses";
    networking::v1::IngressClass = "ingressclasses";
    networking::v1::NetworkPolicy = "networkpolicies";
    networking::v1::ServiceCIDR = "servicecidrs";
    node::v1::RuntimeClass = "runtimeclasses";
    policy::v1::Eviction = "";
    policy::v1::PodDisruptionBudget = "poddisruptionbudgets";
    rbac::v1::ClusterRole = "clusterroles";
    rbac::v1::ClusterRoleBinding = "clusterrolebindings";
    rbac::v1::Role = "roles";
    rbac::v1::RoleBinding = "rolebindings";
    resource::v1::DeviceClass = "deviceclasses";
    resource::v1::DeviceTaintRule = "devicetaintrules";
    resource::v1::ResourceClaim = "resourceclaims";
    resource::v1::ResourceClaimTemplate = "resourceclaimtemplates";
    resource::v1::ResourceSlice = "resourceslices";
    resource::v1alpha3::DeviceTaintRule = "devicetaintrules";
    resource::v1beta1::DeviceClass = "deviceclasses";
    resource::v1beta1::ResourceClaim = "resourceclaims";
    resource::v1beta1::ResourceClaimTemplate = "resourceclaimtemplates";
    resource::v1beta1::ResourceSlice = "resourceslices";
    resource::v1beta2::DeviceClass = "deviceclasses";
    resource::v1beta2::DeviceTaintRule = "devicetaintrules";
    resource::v1beta2::ResourceClaim = "resourceclaims";
    resource::v1beta2::ResourceClaimTemplate = "resourceclaimtemplates";
    resource::v1beta2::ResourceSlice = "resourceslices";
    scheduling::v1::PriorityClass = "priorityclasses";
    scheduling::v1alpha3::PodGroup = "podgroups";
    scheduling::v1alpha3::Workload = "workloads";
    scheduling::v1beta1::PodGroup = "podgroups";
    scheduling::v1beta1::Workload = "workloads";
    storage::v1::CSIDriver = "csidrivers";
    storage::v1::CSINode = "csinodes";
    storage::v1::CSIStorageCapacity = "csistoragecapacities";
    storage::v1::StorageClass = "storageclasses";
    storage::v1::VolumeAttachment = "volumeattachments";
    storage::v1::VolumeAttributesClass = "volumeattributesclasses";
    storagemigration::v1::StorageVersionMigration = "storageversionmigrations";
    storagemigration::v1beta1::StorageVersionMigration = "storageversionmigrations";
}

kinds! { @impl
    crate::apiextensions::v1::CustomResourceDefinition,
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition", "customresourcedefinitions";
    crate::apiregistration::v1::APIService, "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService", "apiservices";
}

static BY_NAME: LazyLock<HashMap<(&'static str, &'static str), &'static Kind>> =
    LazyLock::new(|| ALL.iter().map(|kind| ((kind.api_version, kind.kind), *kind)).collect());

/// The built-in kind of that name, for example `("apps/v1", "Deployment")`.
pub fn find(api_version: &str, kind: &str) -> Option<&'static Kind> {
    BY_NAME.get(&(api_version, kind)).copied()
}
