//! APIService: Who serves a version of a group: this server, or a service in the cluster.

use api::apiregistration::v1::{APIService, APIServiceCondition, APIServiceSpec, APIServiceStatus};

use crate::prelude::*;
use crate::{checks, metadata};

const HTTPS_PORT: i32 = 443;
const GROUP_PRIORITY_MAX: i32 = 20_000;
const VERSION_PRIORITY_MAX: i32 = 1000;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = APIService;

    const NAMES: Names = Names::new("apiservices", "apiservice").categories(&["api-extensions"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "apiregistration.k8s.io/apiservices" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<APIService>] = &[
        Column::name(),
        Column::new("Service", "string", |service: &APIService, _| {
            let reference = service.spec.as_ref().and_then(|spec| spec.service.as_ref());
            Value::from(reference.map_or_else(
                || "Local".to_owned(),
                |reference| {
                    let part = |text: &Option<String>| text.clone().unwrap_or_default();
                    format!("{}/{}", part(&reference.namespace), part(&reference.name))
                },
            ))
        })
        .describe("The service that serves this version, or Local."),
        Column::new("Available", "string", |service: &APIService, _| Value::from(available(service)))
            .describe("Whether it can be reached."),
        Column::age(),
    ];

    fn default(service: &mut APIService) {
        if let Some(reference) = service.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            reference.port.get_or_insert(HTTPS_PORT);
        }
    }

    /// What this server serves itself is available from the start.
    fn prepare_create(service: &mut APIService) {
        let local = service.spec.as_ref().is_none_or(|spec| spec.service.is_none());
        let condition = APIServiceCondition {
            type_: "Available".to_owned(),
            status: "True".to_owned(),
            last_transition_time: service.metadata.creation_timestamp.clone(),
            reason: Some("Local".to_owned()),
            message: Some("Local APIServices are always available".to_owned()),
        };
        service.status = Some(APIServiceStatus { conditions: local.then(|| vec![condition]) });
    }

    fn prepare_update(new: &mut APIService, old: &APIService) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut APIService, old: &APIService) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(service: &APIService) -> FieldErrors {
        validate_service(service)
    }

    fn validate_status_update(new: &APIService, _old: &APIService) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("status").child("conditions");
        let conditions = new.status.iter().flat_map(|status| status.conditions.iter().flatten());
        for (index, condition) in conditions.enumerate() {
            let (path, supported) = (path.index(index).child("status"), ["True", "False", "Unknown"]);
            if !supported.contains(&condition.status.as_str()) {
                errors.not_supported(&path, condition.status.as_str(), &supported);
            }
        }
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        api::name::path_segment(name, prefix)
    }
}

fn available(service: &APIService) -> String {
    let mut conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let Some(condition) = conditions.find(|condition| condition.type_ == "Available") else {
        return "Unknown".to_owned();
    };
    match condition.reason.as_deref() {
        Some(reason) if condition.status != "True" && !reason.is_empty() => {
            format!("{} ({reason})", condition.status)
        }
        _ => condition.status.clone(),
    }
}

fn validate_service(service: &APIService) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = APIServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let (group, version) = (spec.group.as_deref().unwrap_or_default(), spec.version.as_deref().unwrap_or_default());
    let (name, wanted) = (service.name(), format!("{version}.{group}"));
    if !name.is_empty() && name != wanted && api::name::path_segment(name, false).is_empty() {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.invalid(&Path::new("metadata").child("name"), name, why);
    }
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.required(&path.child("group"), why);
    }
    if !group.is_empty() {
        checks::dns_subdomain(&mut errors, &path.child("group"), group);
    }
    let problems = api::name::dns1035_label(version, false);
    checks::problems(&mut errors, &path.child("version"), version, problems);
    for (name, priority, max) in [
        ("groupPriorityMinimum", spec.group_priority_minimum, GROUP_PRIORITY_MAX),
        ("versionPriority", spec.version_priority, VERSION_PRIORITY_MAX),
    ] {
        if priority <= 0 || priority > max {
            errors.invalid(&path.child(name), priority, format!("must be positive and less than {max}"));
        }
    }
    validate_backend(&mut errors, &path, spec);
    errors
}

fn validate_backend(errors: &mut FieldErrors, path: &Path, spec: &APIServiceSpec) {
    let bundle_bytes = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    let insecure = spec.insecure_skip_tls_verify == Some(true);
    let insecure_path = path.child("insecureSkipTLSVerify");
    let Some(service) = &spec.service else {
        if bundle_bytes > 0 {
            let why = "local APIServices may not have a caBundle";
            errors.invalid(&path.child("caBundle"), format!("{bundle_bytes} bytes"), why);
        }
        if insecure {
            errors.invalid(&insecure_path, true, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    };
    let path = path.child("service");
    for (name, value) in [("namespace", &service.namespace), ("name", &service.name)] {
        if value.as_deref().is_none_or(str::is_empty) {
            errors.required(&path.child(name), "");
        }
    }
    let port = service.port.unwrap_or_default();
    let problems = api::name::port_number(i64::from(port));
    if !problems.is_empty() {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {}", problems.join(",")));
    }
    if insecure && bundle_bytes > 0 {
        errors.invalid(&insecure_path, true, "may not be true if caBundle is present");
    }
}
