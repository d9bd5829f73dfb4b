//! Validation of security contexts, and of the annotations that once stood for their fields.

use std::collections::BTreeMap;

use api::core::v1::{
    AppArmorProfile, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, WindowsSecurityContextOptions,
};
use api::field::{FieldErrors, Path};

use super::each_container;
use crate::checks;

const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const SYSCTL_LEN_MAX: usize = 253;
const SYSCTL_PATTERN: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
pub const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Before the container's name.
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// A container's security context. `host_users`: the pod shares the host's user namespace.
pub fn validate_container(errors: &mut FieldErrors, path: &Path, context: &SecurityContext, host_users: bool) {
    for (name, value) in [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)] {
        if let Some(value) = value {
            checks::id(errors, &path.child(name), value);
        }
    }
    if let Some(mount) = context.proc_mount.as_deref() {
        let path = path.child("procMount");
        checks::optional_one_of(errors, &path, Some(mount), &["Default", "Unmasked"]);
        if host_users && mount == "Unmasked" {
            errors.invalid(&path, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    validate_seccomp(errors, &path.child("seccompProfile"), context.seccomp_profile.as_ref());
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, checks::shown(context), why);
        }
        let added = context.capabilities.as_ref().and_then(|capabilities| capabilities.add.as_deref());
        if added.is_some_and(|added| added.iter().any(|name| name == "CAP_SYS_ADMIN")) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, checks::shown(context), why);
        }
    }
    validate_windows_options(errors, &path.child("windowsOptions"), context.windows_options.as_ref());
    validate_app_armor(errors, &path.child("appArmorProfile"), context.app_armor_profile.as_ref());
}

/// A pod's security context.
pub fn validate_pod(errors: &mut FieldErrors, path: &Path, context: &PodSecurityContext, spec: &PodSpec) {
    let ids = [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)];
    for (name, value) in ids {
        if let Some(value) = value {
            checks::id(errors, &path.child(name), value);
        }
    }
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        checks::id(errors, &path.child("supplementalGroups").index(index), *group);
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, why);
    }
    validate_sysctls(errors, &path.child("sysctls"), context, spec);
    let choices = [
        ("fsGroupChangePolicy", &context.fs_group_change_policy, ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &context.supplemental_groups_policy, ["Merge", "Strict"]),
        ("seLinuxChangePolicy", &context.se_linux_change_policy, ["MountOption", "Recursive"]),
    ];
    let (change, rest) = choices.split_at(1);
    for (name, value, supported) in change {
        checks::optional_one_of(errors, &path.child(name), value.as_deref(), supported);
    }
    validate_seccomp(errors, &path.child("seccompProfile"), context.seccomp_profile.as_ref());
    validate_windows_options(errors, &path.child("windowsOptions"), context.windows_options.as_ref());
    validate_app_armor(errors, &path.child("appArmorProfile"), context.app_armor_profile.as_ref());
    for (name, value, supported) in rest {
        checks::optional_one_of(errors, &path.child(name), value.as_deref(), supported);
    }
}

fn validate_sysctls(errors: &mut FieldErrors, path: &Path, context: &PodSecurityContext, spec: &PodSpec) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let path = path.index(index).child("name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl(name) {
            let why = format!("must have at most {SYSCTL_LEN_MAX} characters and match regex {SYSCTL_PATTERN}");
            errors.invalid(&path, name, why);
        } else if seen.contains(name) {
            errors.duplicate(&path, name);
        }
        let dotted = name.replace('/', ".");
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.invalid(&path, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.host_ipc == Some(true) && is_ipc_sysctl(&dotted) {
            errors.invalid(&path, name, "may not be specified when 'hostIPC' is true");
        }
        seen.insert(name);
    }
}

fn is_ipc_sysctl(name: &str) -> bool {
    name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix))
}

fn is_sysctl(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let segment = |segment: &str| match segment.as_bytes() {
        [] => false,
        [only] => plain(*only),
        [first, middle @ .., last] => {
            plain(*first) && plain(*last) && middle.iter().all(|byte| plain(*byte) || matches!(byte, b'-' | b'_'))
        }
    };
    name.len() <= SYSCTL_LEN_MAX && name.split(['.', '/']).all(segment)
}

fn validate_seccomp(errors: &mut FieldErrors, path: &Path, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    match profile.type_.as_str() {
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        other => checks::optional_one_of(errors, &path.child("type"), Some(other), &PROFILE_TYPES),
    }
    let local_path = path.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.required(&local_path, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(local)) => checks::relative_path(errors, &local_path, local),
        (_, Some(_)) => {
            let why = "can only be set when seccomp type is Localhost";
            errors.invalid(&local_path, checks::shown(profile), why);
        }
        (_, None) => {}
    }
}

fn validate_app_armor(errors: &mut FieldErrors, path: &Path, profile: Option<&AppArmorProfile>) {
    const NAME_LEN_MAX: usize = 4095;
    let Some(profile) = profile else { return };
    let local_path = path.child("localhostProfile");
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => errors.required(&local_path, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(local)) => {
            if local.trim() != local {
                errors.invalid(&local_path, local, "must not be padded with whitespace");
            } else if local.is_empty() {
                errors.required(&local_path, "must be set when AppArmor type is Localhost");
            }
            if local.len() > NAME_LEN_MAX {
                errors.too_long(&local_path, NAME_LEN_MAX);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(local)) => {
            errors.invalid(&local_path, local, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(&path.child("type"), "type is required when appArmorProfile is set"),
        (other, _) => errors.not_supported(&path.child("type"), other, &PROFILE_TYPES),
    }
}

fn validate_windows_options(errors: &mut FieldErrors, path: &Path, options: Option<&WindowsSecurityContextOptions>) {
    const SPEC_KIB_MAX: usize = 64;
    let Some(options) = options else { return };
    if let Some(name) = &options.gmsa_credential_spec_name {
        checks::dns_subdomain(errors, &path.child("gmsaCredentialSpecName"), name);
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let path = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&path, spec.as_str(), "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > SPEC_KIB_MAX * 1024 {
            let why = format!("gmsaCredentialSpec size must be under {SPEC_KIB_MAX} KiB");
            errors.invalid(&path, spec.as_str(), why);
        }
    }
    if options.run_as_user_name.as_deref() == Some("") {
        errors.invalid(&path.child("runAsUserName"), "", "runAsUserName cannot be an empty string");
    }
}

/// What an AppArmor annotation says as a field; `None` if it says nothing valid.
fn app_armor_field(annotation: &str) -> Option<AppArmorProfile> {
    let of = |type_: &str, local: Option<&str>| AppArmorProfile {
        type_: type_.to_owned(),
        localhost_profile: local.map(str::to_owned),
    };
    let profile = match (annotation, annotation.strip_prefix("localhost/")) {
        ("unconfined", _) => of("Unconfined", None),
        ("runtime/default", _) => of("RuntimeDefault", None),
        (_, Some(local)) => of("Localhost", Some(local)),
        _ => return None,
    };
    let mut errors = FieldErrors::new();
    validate_app_armor(&mut errors, &Path::default(), Some(&profile));
    errors.is_empty().then_some(profile)
}

/// Makes fields of a new pod's AppArmor annotations where there are none, so that the node heeds them; returns the
/// warnings about that (upstream's `applyAppArmorVersionSkew`).
pub fn heed_app_armor_annotations(pod: &mut Pod) -> Vec<String> {
    let (Some(annotations), Some(spec)) = (&pod.metadata.annotations, &mut pod.spec) else { return Vec::new() };
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return Vec::new();
    }
    let of_pod = spec.security_context.as_ref().and_then(|context| context.app_armor_profile.clone());
    let mut warnings = Vec::new();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let key = format!("{APP_ARMOR}{}", container.name);
        let Some(annotation) = annotations.get(&key) else { continue };
        if container.security_context.as_ref().is_some_and(|context| context.app_armor_profile.is_some()) {
            continue;
        }
        let field = app_armor_field(annotation);
        if field.is_some() && field == of_pod {
            continue;
        }
        if field.is_some() {
            container.security_context.get_or_insert_default().app_armor_profile = field;
        }
        let path = Path::new("metadata").child("annotations").key(&key);
        warnings.push(format!("{path}: deprecated since v1.30; use the \"appArmorProfile\" field instead"));
    }
    warnings
}

/// Seccomp and AppArmor annotations of a pod or template: known values, known containers, and no contradiction to the
/// fields.
pub fn validate_annotations(
    errors: &mut FieldErrors,
    path: &Path,
    annotations: Option<&BTreeMap<String, String>>,
    spec: &PodSpec,
) {
    let Some(annotations) = annotations else { return };
    for (key, value) in annotations {
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            validate_seccomp_text(errors, &path.child(key), value);
        }
    }
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        if !each_container(spec, path).iter().any(|(_, container)| container.name == name) {
            errors.invalid(&path.key(key), name, "container not found");
        }
        let known = value.is_empty()
            || matches!(value.as_str(), "runtime/default" | "unconfined")
            || value.starts_with("localhost/");
        if !known {
            let why = format!("invalid AppArmor profile name: {value:?}");
            errors.invalid(&path.key(key), value.as_str(), why);
        }
    }
}

fn validate_seccomp_text(errors: &mut FieldErrors, path: &Path, value: &str) {
    if let Some(local) = value.strip_prefix("localhost/") {
        checks::relative_path(errors, path, local);
    } else if !matches!(value, "runtime/default" | "docker/default" | "unconfined") {
        errors.invalid(path, value, "must be a valid seccomp profile");
    }
}

/// Where an annotation and a field say the same thing, they must agree.
pub fn validate_annotations_match_fields(
    errors: &mut FieldErrors,
    path: &Path,
    annotations: Option<&BTreeMap<String, String>>,
    spec: &PodSpec,
) {
    let Some(annotations) = annotations else { return };
    let pod = spec.security_context.as_ref();
    if let (Some(value), Some(profile)) =
        (annotations.get(SECCOMP_POD), pod.and_then(|context| context.seccomp_profile.as_ref()))
    {
        let local = profile.localhost_profile.as_deref();
        let path = path.child("securityContext").child("seccompProfile");
        match_profile(errors, &path, "seccomp", value, &profile.type_, local);
    }
    let containers = each_container(spec, path);
    for (path, container) in &containers {
        let profile = container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
        if let (Some(profile), Some(value)) =
            (profile, annotations.get(&format!("{SECCOMP_CONTAINER}{}", container.name)))
        {
            let local = profile.localhost_profile.as_deref();
            let path = path.child("securityContext").child("seccompProfile");
            match_profile(errors, &path, "seccomp", value, &profile.type_, local);
        }
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    for (path, container) in &containers {
        let own = container.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
        let profile = own.or_else(|| pod.and_then(|context| context.app_armor_profile.as_ref()));
        if let (Some(profile), Some(value)) = (profile, annotations.get(&format!("{APP_ARMOR}{}", container.name))) {
            let local = profile.localhost_profile.as_deref();
            let path = path.child("securityContext").child("appArmorProfile");
            match_profile(errors, &path, "apparmor", value, &profile.type_, local);
        }
    }
}

fn match_profile(errors: &mut FieldErrors, path: &Path, what: &str, text: &str, type_: &str, local: Option<&str>) {
    let type_matches = match type_ {
        "Unconfined" => text == "unconfined",
        "RuntimeDefault" => text == "runtime/default" || (what == "seccomp" && text == "docker/default"),
        "Localhost" => text.starts_with("localhost/"),
        _ => true,
    };
    if !type_matches {
        errors.forbidden(&path.child("type"), format!("{what} type in annotation and field must match"));
    } else if type_ == "Localhost" && text.strip_prefix("localhost/") != local {
        errors.forbidden(&path.child("localhostProfile"), format!("{what} profile in annotation and field must match"));
    }
}

/// What a pod of one operating system may not ask for.
pub fn validate_os(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    let Some(os) = &spec.os else { return };
    match os.name.as_str() {
        "" => errors.required(&path.child("os").child("name"), "cannot be empty"),
        "linux" => validate_linux(errors, path, spec),
        "windows" => validate_windows(errors, path, spec),
        other => errors.not_supported(&path.child("os"), other, &["linux", "windows"]),
    }
}

fn validate_linux(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    const WHY: &str = "windows options cannot be set for a linux pod";
    if spec.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
        errors.forbidden(&path.child("securityContext").child("windowsOptions"), WHY);
    }
    for (path, container) in each_container(spec, path) {
        if container.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
            errors.forbidden(&path.child("securityContext").child("windowsOptions"), WHY);
        }
    }
}

fn validate_windows(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    const WHY: &str = "cannot be set for a windows pod";
    let mut forbid = |path: &Path, set: &[(&str, bool)]| {
        for (name, _) in set.iter().filter(|(_, set)| *set) {
            errors.forbidden(&path.child(name), WHY);
        }
    };
    let own = [
        ("hostUsers", spec.host_users.is_some()),
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        ("shareProcessNamespace", spec.share_process_namespace.is_some()),
    ];
    forbid(path, &own);
    if let Some(context) = &spec.security_context {
        let set = [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("fsGroup", context.fs_group.is_some()),
            ("fsGroupChangePolicy", context.fs_group_change_policy.is_some()),
            ("sysctls", context.sysctls.as_ref().is_some_and(|sysctls| !sysctls.is_empty())),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
            ("supplementalGroups", context.supplemental_groups.is_some()),
            ("supplementalGroupsPolicy", context.supplemental_groups_policy.is_some()),
            ("seLinuxChangePolicy", context.se_linux_change_policy.is_some()),
        ];
        forbid(&path.child("securityContext"), &set);
    }
    for (path, container) in each_container(spec, path) {
        let Some(context) = &container.security_context else { continue };
        let set = [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("capabilities", context.capabilities.is_some()),
            ("readOnlyRootFilesystem", context.read_only_root_filesystem.is_some()),
            ("privileged", context.privileged.is_some()),
            ("allowPrivilegeEscalation", context.allow_privilege_escalation.is_some()),
            ("procMount", context.proc_mount.is_some()),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
        ];
        forbid(&path.child("securityContext"), &set);
    }
}

/// Windows HostProcess containers: all or none, and on the host's network.
pub fn validate_host_process(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    let pod = spec.security_context.as_ref().and_then(|context| context.windows_options.as_ref()?.host_process);
    let containers = each_container(spec, path);
    let mut count = 0;
    for (path, container) in &containers {
        let own =
            container.security_context.as_ref().and_then(|context| context.windows_options.as_ref()?.host_process);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let path = path.child("securityContext").child("windowsOptions").child("hostProcess");
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.invalid(&path, own, why);
        }
        count += usize::from(own.or(pod) == Some(true));
    }
    if count == 0 {
        return;
    }
    if count != containers.len() {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path, "", why);
    }
    if spec.host_network != Some(true) {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), false, why);
    }
}
