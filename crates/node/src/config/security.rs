//! Who a container runs as and what it may do: the pod's and the container's security contexts together.
//!
//! A pod that says nothing about seccomp gets the runtime's default profile; upstream leaves it unconfined.

use api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};
use cri::v1;
use cri::v1::security_profile::ProfileType;

use super::ConfigError;
use crate::pod;

/// Paths hidden from containers unless they ask for all of `/proc` (upstream `securitycontext/util.go`).
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the node offers.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// AppArmor is enabled in the kernel.
    pub apparmor: bool,
    /// Where `Localhost` seccomp profiles are, for example `/var/lib/kubelet/seccomp`.
    pub seccomp_dir: String,
}

/// Which user an image says it runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

fn pod_context(p: &Pod) -> Option<&PodSecurityContext> {
    pod::spec(p).security_context.as_ref()
}

/// Whether any container of the pod is privileged: then its sandbox is, too.
pub fn any_privileged(p: &Pod) -> bool {
    let mut all = pod::containers(p).iter().chain(pod::init_containers(p));
    all.any(|c| c.security_context.as_ref().is_some_and(|s| s.privileged == Some(true)))
}

/// The pod's namespaces; `target_id` is the container whose processes an ephemeral container sees.
pub fn namespaces(p: &Pod, target_id: Option<&str>) -> v1::NamespaceOption {
    let spec = pod::spec(p);
    let node_or = |host: Option<bool>, otherwise| if host == Some(true) { v1::NamespaceMode::Node } else { otherwise };
    let own_pid =
        if spec.share_process_namespace == Some(true) { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Container };
    let pid = match target_id {
        Some(_) => v1::NamespaceMode::Target,
        None => node_or(spec.host_pid, own_pid),
    };
    v1::NamespaceOption {
        network: node_or(spec.host_network, v1::NamespaceMode::Pod).into(),
        pid: pid.into(),
        ipc: node_or(spec.host_ipc, v1::NamespaceMode::Pod).into(),
        target_id: target_id.unwrap_or_default().to_owned(),
        userns_options: None,
    }
}

fn selinux(options: &SELinuxOptions) -> v1::SeLinuxOption {
    let text = |o: &Option<String>| o.clone().unwrap_or_default();
    v1::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn profile(kind: ProfileType, localhost_ref: String) -> v1::SecurityProfile {
    v1::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

fn seccomp(asked: Option<&SeccompProfile>, host: &Host) -> Result<v1::SecurityProfile, ConfigError> {
    match asked.map(|p| p.type_.as_str()) {
        None | Some("RuntimeDefault") => Ok(profile(ProfileType::RuntimeDefault, String::new())),
        Some("Unconfined") => Ok(profile(ProfileType::Unconfined, String::new())),
        Some("Localhost") => match asked.and_then(|p| p.localhost_profile.as_deref()) {
            Some(name) if !name.is_empty() => {
                Ok(profile(ProfileType::Localhost, format!("{}/{name}", host.seccomp_dir)))
            }
            _ => Err(ConfigError::new("localhostProfile must be set if seccompProfile type is Localhost.")),
        },
        Some(other) => Err(ConfigError::new(format!("unknown seccomp profile type {other:?}"))),
    }
}

fn apparmor(asked: Option<&AppArmorProfile>) -> Option<v1::SecurityProfile> {
    let asked = asked?;
    Some(match asked.type_.as_str() {
        "Unconfined" => profile(ProfileType::Unconfined, String::new()),
        "Localhost" => profile(ProfileType::Localhost, asked.localhost_profile.clone().unwrap_or_default()),
        _ => profile(ProfileType::RuntimeDefault, String::new()),
    })
}

fn int(value: Option<i64>) -> Option<v1::Int64Value> {
    value.map(|value| v1::Int64Value { value })
}

/// Groups of every process of the pod.
fn groups(context: Option<&PodSecurityContext>) -> Vec<i64> {
    let mut groups: Vec<i64> = context.and_then(|c| c.fs_group).into_iter().collect();
    groups.extend(context.and_then(|c| c.supplemental_groups.clone()).unwrap_or_default());
    groups
}

fn groups_policy(context: Option<&PodSecurityContext>) -> i32 {
    match context.and_then(|c| c.supplemental_groups_policy.as_deref()) {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict.into(),
        _ => v1::SupplementalGroupsPolicy::Merge.into(),
    }
}

/// The sandbox's security context.
pub fn of_sandbox(p: &Pod) -> v1::LinuxSandboxSecurityContext {
    let context = pod_context(p);
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(p, None)),
        privileged: any_privileged(p),
        run_as_user: int(context.and_then(|c| c.run_as_user)),
        run_as_group: int(context.filter(|c| c.run_as_user.is_some()).and_then(|c| c.run_as_group)),
        supplemental_groups: groups(context),
        supplemental_groups_policy: groups_policy(context),
        seccomp: Some(profile(ProfileType::RuntimeDefault, String::new())),
        selinux_options: context.and_then(|c| c.se_linux_options.as_ref()).map(selinux),
        ..Default::default()
    }
}

/// A container's security context.
pub fn of_container(
    p: &Pod,
    container: &Container,
    image_user: &ImageUser,
    target_id: Option<&str>,
    host: &Host,
) -> Result<v1::LinuxContainerSecurityContext, ConfigError> {
    let outer = pod_context(p);
    let empty = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&empty);
    let user = own.run_as_user.or(outer.and_then(|c| c.run_as_user));
    let group = own.run_as_group.or(outer.and_then(|c| c.run_as_group));
    let non_root = own.run_as_non_root.or(outer.and_then(|c| c.run_as_non_root));
    if non_root == Some(true) {
        check_non_root(p, container, user, image_user)?;
    }
    let privileged = own.privileged == Some(true);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|&p| p.to_owned()).collect() };
    let asked_seccomp = own.seccomp_profile.as_ref().or(outer.and_then(|c| c.seccomp_profile.as_ref()));
    let seccomp = if privileged && asked_seccomp.is_none() {
        profile(ProfileType::Unconfined, String::new())
    } else {
        seccomp(asked_seccomp, host)?
    };
    let asked_apparmor = own.app_armor_profile.as_ref().or(outer.and_then(|c| c.app_armor_profile.as_ref()));
    let (run_as_user, run_as_username) = match (user, image_user.uid, image_user.name.as_str()) {
        (Some(user), _, _) | (None, Some(user), _) => (Some(user), String::new()),
        (None, None, name) => (None, name.to_owned()),
    };
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|c| v1::Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            ..Default::default()
        }),
        privileged,
        namespace_options: Some(namespaces(p, target_id)),
        selinux_options: own.se_linux_options.as_ref().or(outer.and_then(|c| c.se_linux_options.as_ref())).map(selinux),
        run_as_user: int(run_as_user),
        run_as_username,
        run_as_group: int(group),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(outer),
        supplemental_groups_policy: groups_policy(outer),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: Some(seccomp),
        apparmor: if host.apparmor { apparmor(asked_apparmor) } else { None },
        ..Default::default()
    })
}

fn check_non_root(p: &Pod, container: &Container, user: Option<i64>, image: &ImageUser) -> Result<(), ConfigError> {
    let who = format!("(pod: {:?}, container: {})", pod::full_name(p), container.name);
    match (user, image.uid, image.name.as_str()) {
        (Some(0), _, _) => Err(ConfigError::new(format!("container's runAsUser breaks non-root policy {who}"))),
        (Some(_), _, _) => Ok(()),
        (None, Some(0), _) => {
            Err(ConfigError::new(format!("container has runAsNonRoot and image will run as root {who}")))
        }
        (None, None, name) if !name.is_empty() => Err(ConfigError::new(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {who}"
        ))),
        (None, None, _) => {
            Err(ConfigError::new(format!("container has runAsNonRoot and image will run as root {who}")))
        }
        (None, Some(_), _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    fn of(spec: &str, image: &ImageUser) -> Result<v1::LinuxContainerSecurityContext, ConfigError> {
        let p = Pod::decode(format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#).as_bytes()).unwrap();
        of_container(&p, &pod::containers(&p)[0], image, None, &Host::default())
    }

    #[test]
    fn a_pod_that_asks_nothing_is_confined() {
        let context = of(r#"{"containers":[{"name":"a"}]}"#, &ImageUser::default()).unwrap();
        assert_eq!(context.seccomp.unwrap().profile_type, i32::from(ProfileType::RuntimeDefault));
        assert!(!context.masked_paths.is_empty() && !context.privileged && !context.no_new_privs);
        assert_eq!(context.namespace_options.unwrap().pid, i32::from(v1::NamespaceMode::Container));
    }

    #[test]
    fn the_container_overrides_the_pod() {
        let context = of(
            r#"{"hostPID":true,"securityContext":{"runAsUser":5,"fsGroup":7,"supplementalGroups":[8],
                "seccompProfile":{"type":"Unconfined"}},
                "containers":[{"name":"a","securityContext":{"runAsUser":6,"allowPrivilegeEscalation":false}}]}"#,
            &ImageUser::default(),
        )
        .unwrap();
        assert_eq!(context.run_as_user.unwrap().value, 6);
        assert_eq!(context.supplemental_groups, [7, 8]);
        assert!(context.no_new_privs);
        assert_eq!(context.seccomp.unwrap().profile_type, i32::from(ProfileType::Unconfined));
        assert_eq!(context.namespace_options.unwrap().pid, i32::from(v1::NamespaceMode::Node));
    }

    #[test]
    fn root_is_refused_where_non_root_is_asked() {
        let spec = r#"{"securityContext":{"runAsNonRoot":true},"containers":[{"name":"a"}]}"#;
        let root = ImageUser { uid: Some(0), name: String::new() };
        let named = ImageUser { uid: None, name: "www".into() };
        assert!(of(spec, &root).unwrap_err().0.contains("image will run as root"));
        assert!(of(spec, &named).unwrap_err().0.contains("non-numeric user (www)"));
        assert!(of(spec, &ImageUser { uid: Some(33), name: String::new() }).is_ok());
    }
}
