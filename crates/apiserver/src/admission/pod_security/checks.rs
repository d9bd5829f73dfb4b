//! The Pod Security Standards: what baseline and restricted forbid, and in which words.
//!
//! Pure. Upstream: staging/src/k8s.io/pod-security-admission/policy.

use std::collections::BTreeSet;

use api::core::v1::{
    AppArmorProfile, Capabilities, Container, LifecycleHandler, PodSecurityContext, PodSpec, Probe, SELinuxOptions,
    SecurityContext, Volume,
};
use api::meta::v1::ObjectMeta;

use super::{Demand, Level};

/// A reason and its detail.
type Violation = (String, String);
type Check = fn(&Subject<'_>) -> Option<Violation>;

/// A check through the versions.
struct Rule {
    /// Upstream's name of it.
    name: &'static str,
    /// What it is since which minor version; before the first there is none.
    editions: &'static [(u64, Check)],
    /// The check of baseline whose place it takes in restricted, as soon as there is this one.
    instead_of: Option<&'static str>,
}

const fn rule(name: &'static str, editions: &'static [(u64, Check)]) -> Rule {
    Rule { name, editions, instead_of: None }
}

impl Rule {
    const fn instead_of(self, name: &'static str) -> Self {
        Self { instead_of: Some(name), ..self }
    }

    /// What it is at that version.
    fn at(&self, demand: Demand) -> Option<Check> {
        let edition = self.editions.iter().rfind(|(since, _)| demand.version.is_since(*since))?;
        Some(edition.1)
    }
}

/// Forbidden in baseline. In order of the names, which is the order in which violations are told.
const BASELINE: &[Rule] = &[
    rule("appArmorProfile", &[(0, app_armor)]),
    rule("capabilities_baseline", &[(0, capabilities_baseline)]),
    rule("hostNamespaces", &[(0, host_namespaces)]),
    rule("hostPathVolumes", &[(0, host_path_volumes)]),
    rule("hostPorts", &[(0, host_ports)]),
    rule("hostProbesAndHostLifecycle", &[(34, host_handlers)]),
    rule("privileged", &[(0, privileged)]),
    rule("procMount", &[(0, proc_mount), (35, |pod| pod.in_host_users(proc_mount))]),
    rule("seLinuxOptions", &[(0, |pod| se_linux(pod, &SE_LINUX[..4])), (31, |pod| se_linux(pod, SE_LINUX))]),
    rule("seccompProfile_baseline", &[(0, seccomp_annotations), (19, seccomp_baseline)]),
    rule(
        "sysctls",
        &[
            (0, |pod| sysctls(pod, &SYSCTLS[..5])),
            (27, |pod| sysctls(pod, &SYSCTLS[..6])),
            (29, |pod| sysctls(pod, &SYSCTLS[..10])),
            (32, |pod| sysctls(pod, SYSCTLS)),
        ],
    ),
    rule("windowsHostProcess", &[(0, windows_host_process)]),
];
/// Forbidden in restricted besides, told after those of baseline.
const RESTRICTED: &[Rule] = &[
    rule(
        "allowPrivilegeEscalation",
        &[(8, privilege_escalation), (25, |pod| pod.unless_windows(privilege_escalation))],
    ),
    rule(
        "capabilities_restricted",
        &[(22, capabilities_restricted), (25, |pod| pod.unless_windows(capabilities_restricted))],
    )
    .instead_of("capabilities_baseline"),
    rule("procMount_restricted", &[(35, proc_mount)]).instead_of("procMount"),
    rule("restrictedVolumes", &[(0, restricted_volumes)]).instead_of("hostPathVolumes"),
    rule("runAsNonRoot", &[(0, run_as_non_root), (35, |pod| pod.in_host_users(run_as_non_root))]),
    rule("runAsUser", &[(23, run_as_user), (35, |pod| pod.in_host_users(run_as_user))]),
    rule("seccompProfile_restricted", &[(19, seccomp_restricted), (25, |pod| pod.unless_windows(seccomp_restricted))])
        .instead_of("seccompProfile_baseline"),
];

/// The types of SELinux that need no leave; the last one since v1.31.
const SE_LINUX: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Sysctls of a pod's own namespaces: the first five ever since, one more since v1.27, four since v1.29, two since
/// v1.32.
const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// What a pod does that a level forbids as of a version: reasons and details.
pub fn violations(demand: Demand, metadata: &ObjectMeta, spec: &PodSpec) -> Vec<Violation> {
    let subject = Subject { metadata, spec, containers: containers(spec) };
    in_force(demand).into_iter().filter_map(|(_, check)| check(&subject)).collect()
}

/// The checks of a level at a version, by upstream's names.
fn in_force(demand: Demand) -> Vec<(&'static str, Check)> {
    let of = |rules: &'static [Rule]| rules.iter().filter_map(move |rule| Some((rule, rule.at(demand)?)));
    let stricter: Vec<(&Rule, Check)> = match demand.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => Vec::new(),
        Level::Restricted => of(RESTRICTED).collect(),
    };
    let replaced = |rule: &Rule| stricter.iter().any(|(other, _)| other.instead_of == Some(rule.name));
    let mut all: Vec<(&Rule, Check)> = of(BASELINE).filter(|(rule, _)| !replaced(rule)).collect();
    all.extend(&stricter);
    all.into_iter().map(|(rule, check)| (rule.name, check)).collect()
}

/// A container of any sort, as far as the checks care.
struct Part<'a> {
    name: &'a str,
    context: Option<&'a SecurityContext>,
    ports: Vec<i32>,
    hosts: Vec<&'a str>,
}

struct Subject<'a> {
    metadata: &'a ObjectMeta,
    spec: &'a PodSpec,
    containers: Vec<Part<'a>>,
}

fn containers(spec: &PodSpec) -> Vec<Part<'_>> {
    let plain = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut parts: Vec<Part<'_>> = plain.map(part).collect();
    parts.extend(spec.ephemeral_containers.iter().flatten().map(|container| Part {
        name: &container.name,
        context: container.security_context.as_ref(),
        ports: Vec::new(),
        hosts: Vec::new(),
    }));
    parts
}

fn part(container: &Container) -> Part<'_> {
    let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    let mut hosts: Vec<&str> = probes.into_iter().flatten().flat_map(probe_hosts).collect();
    if let Some(lifecycle) = &container.lifecycle {
        hosts.extend([&lifecycle.post_start, &lifecycle.pre_stop].into_iter().flatten().flat_map(handler_hosts));
    }
    let ports = container.ports.iter().flatten().filter_map(|port| port.host_port).filter(|port| *port != 0);
    Part { name: &container.name, context: container.security_context.as_ref(), ports: ports.collect(), hosts }
}

fn named(hosts: [Option<&String>; 2]) -> impl Iterator<Item = &str> {
    hosts.into_iter().flatten().map(String::as_str).filter(|host| !host.is_empty())
}

fn probe_hosts(probe: &Probe) -> impl Iterator<Item = &str> {
    let http = probe.http_get.as_ref().and_then(|action| action.host.as_ref());
    named([http, probe.tcp_socket.as_ref().and_then(|action| action.host.as_ref())])
}

fn handler_hosts(handler: &LifecycleHandler) -> impl Iterator<Item = &str> {
    let http = handler.http_get.as_ref().and_then(|action| action.host.as_ref());
    named([http, handler.tcp_socket.as_ref().and_then(|action| action.host.as_ref())])
}

impl<'a> Subject<'a> {
    /// The names of the containers for which that holds.
    fn which(&self, bad: impl Fn(&Part<'a>) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|part| bad(part)).map(|part| part.name).collect()
    }

    fn pod_context(&self) -> Option<&'a PodSecurityContext> {
        self.spec.security_context.as_ref()
    }

    /// A pod of Windows cannot say what such a check asks for.
    fn unless_windows(&self, check: Check) -> Option<Violation> {
        let windows = self.spec.os.as_ref().is_some_and(|os| os.name == "windows");
        if windows { None } else { check(self) }
    }

    /// Root of a pod that has users of its own is nobody on the host.
    fn in_host_users(&self, check: Check) -> Option<Violation> {
        if self.spec.host_users == Some(false) { None } else { check(self) }
    }
}

/// In quotes, as they are: upstream does not escape what is in them.
fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, len: usize) -> &'a str {
    if len == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`.
fn shown(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names.iter().copied()))
}

/// `pod`, `container "a"` or `pod and container "a"`; `None` if neither.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let containers = (!names.is_empty()).then(|| shown(names));
    match (pod, containers) {
        (false, containers) => containers,
        (true, None) => Some("pod".to_owned()),
        (true, Some(containers)) => Some(format!("pod and {containers}")),
    }
}

fn violation(reason: &str, detail: impl Into<String>) -> Option<Violation> {
    Some((reason.to_owned(), detail.into()))
}

fn app_armor(subject: &Subject<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let unconfined = |kind: Option<&str>| kind.is_some_and(|kind| !matches!(kind, "RuntimeDefault" | "Localhost"));
    let of_pod = subject.pod_context().and_then(|context| context.app_armor_profile.as_ref());
    let pod = unconfined(of_pod.map(|profile| profile.type_.as_str()));
    fn of<'a>(part: &Part<'a>) -> Option<&'a AppArmorProfile> {
        part.context?.app_armor_profile.as_ref()
    }
    let names = subject.which(|part| unconfined(of(part).map(|profile| profile.type_.as_str())));
    let kinds = subject.containers.iter().filter_map(of).chain(of_pod).map(|profile| profile.type_.as_str());
    let kinds: BTreeSet<&str> = kinds.filter(|kind| unconfined(Some(kind))).collect();
    let annotations = subject.metadata.annotations.iter().flatten().filter(|(key, value)| {
        let allowed = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
        key.starts_with(ANNOTATION) && !allowed
    });
    let annotations: BTreeSet<String> = annotations.map(|(key, value)| format!("{key}={value:?}")).collect();
    let mut who: Vec<String> = setters(pod, &names).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<&str> = kinds.into_iter().chain(annotations.iter().map(String::as_str)).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    violation(reason, format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(values)))
}

fn added<'a>(part: &Part<'a>) -> impl Iterator<Item = &'a str> {
    let capabilities: Option<&'a Capabilities> = part.context.and_then(|context| context.capabilities.as_ref());
    capabilities.into_iter().flat_map(|own| own.add.iter().flatten()).map(String::as_str)
}

/// Containers that add capabilities beyond those allowed, and which.
fn adding<'a>(subject: &Subject<'a>, allowed: &[&str]) -> Option<String> {
    let names = subject.which(|part| added(part).any(|one| !allowed.contains(&one)));
    let bad = subject.containers.iter().flat_map(added).filter(|one| !allowed.contains(one));
    let bad: BTreeSet<&str> = bad.collect();
    let who = setters(false, &names)?;
    Some(format!("{who} must not include {} in securityContext.capabilities.add", quoted(bad)))
}

fn capabilities_baseline(subject: &Subject<'_>) -> Option<Violation> {
    const ALLOWED: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    violation("non-default capabilities", adding(subject, ALLOWED)?)
}

fn host_namespaces(subject: &Subject<'_>) -> Option<Violation> {
    let spec = subject.spec;
    let all = [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)];
    let used: Vec<String> =
        all.iter().filter(|(_, used)| *used == Some(true)).map(|(name, _)| format!("{name}=true")).collect();
    if used.is_empty() { None } else { violation("host namespaces", used.join(", ")) }
}

fn host_path_volumes(subject: &Subject<'_>) -> Option<Violation> {
    let volumes = subject.spec.volumes.iter().flatten().filter(|volume| volume.host_path.is_some());
    let names: Vec<&str> = volumes.map(|volume| volume.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural("volume", "volumes", names.len()), quoted(names));
    violation("hostPath volumes", detail)
}

fn host_ports(subject: &Subject<'_>) -> Option<Violation> {
    let names = subject.which(|part| !part.ports.is_empty());
    let ports: BTreeSet<String> =
        subject.containers.iter().flat_map(|part| part.ports.iter().map(i32::to_string)).collect();
    let who = setters(false, &names)?;
    let (uses, what) = (plural("uses", "use", names.len()), plural("hostPort", "hostPorts", ports.len()));
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    violation("hostPort", format!("{who} {uses} {what} {ports}"))
}

fn host_handlers(subject: &Subject<'_>) -> Option<Violation> {
    let mut names = subject.which(|part| !part.hosts.is_empty());
    names.sort_unstable();
    let hosts: BTreeSet<&str> = subject.containers.iter().flat_map(|part| part.hosts.iter().copied()).collect();
    let who = setters(false, &names)?;
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let uses = plural("uses", "use", names.len());
    violation("probe or lifecycle host", format!("{who} {uses} {what} {}", quoted(hosts)))
}

fn privileged(subject: &Subject<'_>) -> Option<Violation> {
    let names = subject.which(|part| part.context.is_some_and(|context| context.privileged == Some(true)));
    let who = setters(false, &names)?;
    violation("privileged", format!("{who} must not set securityContext.privileged=true"))
}

fn proc_mount(subject: &Subject<'_>) -> Option<Violation> {
    let of = |part: &Part<'_>| part.context.and_then(|context| context.proc_mount.clone());
    let bad = |part: &Part<'_>| of(part).filter(|kind| kind != "Default");
    let names = subject.which(|part| bad(part).is_some());
    let kinds: BTreeSet<String> = subject.containers.iter().filter_map(bad).collect();
    let who = setters(false, &names)?;
    let kinds = quoted(kinds.iter().map(String::as_str));
    violation("procMount", format!("{who} must not set securityContext.procMount to {kinds}"))
}

fn se_linux(subject: &Subject<'_>, allowed: &[&str]) -> Option<Violation> {
    fn text(field: &Option<String>) -> &str {
        field.as_deref().unwrap_or_default()
    }
    let bad = |own: &&SELinuxOptions| {
        !allowed.contains(&text(&own.type_)) || !text(&own.user).is_empty() || !text(&own.role).is_empty()
    };
    let of_pod = subject.pod_context().and_then(|context| context.se_linux_options.as_ref());
    let names =
        subject.which(|part| part.context.and_then(|own| own.se_linux_options.as_ref()).is_some_and(|own| bad(&own)));
    let who = setters(of_pod.is_some_and(|own| bad(&own)), &names)?;
    let of_parts = subject.containers.iter().filter_map(|part| part.context?.se_linux_options.as_ref());
    let all: Vec<&SELinuxOptions> = of_parts.chain(of_pod).collect();
    let types: BTreeSet<&str> = all.iter().map(|own| text(&own.type_)).filter(|own| !allowed.contains(own)).collect();
    let mut details = Vec::new();
    if !types.is_empty() {
        details.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    if all.iter().any(|own| !text(&own.user).is_empty()) {
        details.push("user may not be set".to_owned());
    }
    if all.iter().any(|own| !text(&own.role).is_empty()) {
        details.push("role may not be set".to_owned());
    }
    let details = details.join("; ");
    violation("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {details}"))
}

fn seccomp<'a>(part: &Part<'a>) -> Option<&'a str> {
    Some(part.context?.seccomp_profile.as_ref()?.type_.as_str())
}

fn confined(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

/// How pods asked for seccomp before they had a field for it.
fn seccomp_annotations(subject: &Subject<'_>) -> Option<Violation> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let keys = subject.containers.iter().map(|part| format!("{CONTAINER}{}", part.name)).chain([POD.to_owned()]);
    let annotations = subject.metadata.annotations.as_ref()?;
    let bad = |value: &str| !matches!(value, "runtime/default" | "docker/default") && !value.starts_with("localhost/");
    let found = keys.filter_map(|key| {
        let value = annotations.get(&key).filter(|value| bad(value))?;
        Some(format!("{key}={value:?}"))
    });
    let found: BTreeSet<String> = found.collect();
    if found.is_empty() {
        return None;
    }
    let what = plural("annotation", "annotations", found.len());
    let found = found.into_iter().collect::<Vec<_>>().join(", ");
    violation("seccompProfile", format!("forbidden {what} {found}"))
}

fn seccomp_baseline(subject: &Subject<'_>) -> Option<Violation> {
    let pod_context = subject.pod_context();
    let of_pod = pod_context.and_then(|own| own.seccomp_profile.as_ref()).map(|profile| profile.type_.as_str());
    let bad = |kind: &&str| !confined(kind);
    let names = subject.which(|part| seccomp(part).is_some_and(|kind| bad(&kind)));
    let who = setters(of_pod.is_some_and(|kind| bad(&kind)), &names)?;
    let kinds: BTreeSet<&str> = subject.containers.iter().filter_map(seccomp).chain(of_pod).filter(bad).collect();
    violation("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(kinds)))
}

fn seccomp_restricted(subject: &Subject<'_>) -> Option<Violation> {
    if let Some(explicit) = seccomp_baseline(subject) {
        return Some(explicit);
    }
    let by_pod = subject.pod_context().is_some_and(|own| own.seccomp_profile.is_some());
    let names = subject.which(|part| !by_pod && seccomp(part).is_none());
    let who = setters(false, &names)?;
    let what = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    violation("seccompProfile", format!("pod or {who} {what}"))
}

fn sysctls(subject: &Subject<'_>, allowed: &[&str]) -> Option<Violation> {
    let all = subject.pod_context().into_iter().flat_map(|own| own.sysctls.iter().flatten());
    let bad: Vec<&str> = all.map(|sysctl| sysctl.name.as_str()).filter(|name| !allowed.contains(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(subject: &Subject<'_>) -> Option<Violation> {
    let pod = subject.pod_context().and_then(|own| own.windows_options.as_ref()?.host_process) == Some(true);
    let of = |part: &Part<'_>| part.context?.windows_options.as_ref()?.host_process;
    let names = subject.which(|part| of(part) == Some(true));
    let who = setters(pod, &names)?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn privilege_escalation(subject: &Subject<'_>) -> Option<Violation> {
    let of = |part: &Part<'_>| part.context.and_then(|context| context.allow_privilege_escalation);
    let names = subject.which(|part| of(part) != Some(false));
    let who = setters(false, &names)?;
    let detail = format!("{who} must set securityContext.allowPrivilegeEscalation=false");
    violation("allowPrivilegeEscalation != false", detail)
}

fn capabilities_restricted(subject: &Subject<'_>) -> Option<Violation> {
    let drops_all = |part: &Part<'_>| {
        let dropped = part.context.and_then(|own| own.capabilities.as_ref()).and_then(|own| own.drop.as_ref());
        dropped.is_some_and(|dropped| dropped.iter().any(|one| one == "ALL"))
    };
    let names = subject.which(|part| !drops_all(part));
    let missing =
        setters(false, &names).map(|who| format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    let details: Vec<String> = missing.into_iter().chain(adding(subject, &["NET_BIND_SERVICE"])).collect();
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

/// The type of a volume that restricted pods may not have; `None` for those they may.
fn restricted_type(volume: &Volume) -> Option<&'static str> {
    let allowed = volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.image.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some();
    if allowed {
        return None;
    }
    let types = [
        ("hostPath", volume.host_path.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("fc", volume.fc.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("storageos", volume.storageos.is_some()),
    ];
    Some(types.iter().find(|(_, is)| *is).map_or("unknown", |(name, _)| *name))
}

fn restricted_volumes(subject: &Subject<'_>) -> Option<Violation> {
    let all = subject.spec.volumes.iter().flatten();
    let bad: Vec<(&str, &str)> = all.filter_map(|own| Some((own.name.as_str(), restricted_type(own)?))).collect();
    if bad.is_empty() {
        return None;
    }
    let types: BTreeSet<&str> = bad.iter().map(|(_, kind)| *kind).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(bad.iter().map(|(name, _)| *name)),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", types.len()),
        quoted(types)
    );
    violation("restricted volume types", detail)
}

fn run_as_non_root(subject: &Subject<'_>) -> Option<Violation> {
    let of_pod = subject.pod_context().and_then(|own| own.run_as_non_root);
    let of = |part: &Part<'_>| part.context.and_then(|context| context.run_as_non_root);
    let names = subject.which(|part| of(part) == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &names) {
        return violation("runAsNonRoot != true", format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let names = subject.which(|part| of(part).or(of_pod) != Some(true));
    let who = setters(false, &names)?;
    violation("runAsNonRoot != true", format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

fn run_as_user(subject: &Subject<'_>) -> Option<Violation> {
    let pod = subject.pod_context().and_then(|own| own.run_as_user) == Some(0);
    let names = subject.which(|part| part.context.and_then(|context| context.run_as_user) == Some(0));
    violation("runAsUser=0", format!("{} must not set runAsUser=0", setters(pod, &names)?))
}

#[cfg(test)]
mod tests {
    use super::super::Version;
    use super::*;

    /// A check's name, level, and the versions at which it became another.
    fn editions() -> Vec<(&'static str, &'static str, Vec<u64>)> {
        let of = |level, rules: &'static [Rule]| {
            rules.iter().map(move |rule| (rule.name, level, rule.editions.iter().map(|(since, _)| *since).collect()))
        };
        of("baseline", BASELINE).chain(of("restricted", RESTRICTED)).collect()
    }

    fn names(level: Level, minor: u64) -> Vec<&'static str> {
        in_force(Demand { level, version: Version::Minor(minor) }).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn checks_and_their_editions_are_in_order() {
        for rules in [BASELINE, RESTRICTED] {
            assert!(rules.is_sorted_by(|one, next| one.name < next.name), "violations are told in this order");
        }
        for (name, _, versions) in editions() {
            assert!(!versions.is_empty() && versions.is_sorted_by(|one, next| one < next), "{name}");
        }
        for rule in RESTRICTED {
            assert!(
                rule.instead_of.is_none_or(|name| BASELINE.iter().any(|other| other.name == name)),
                "{}",
                rule.name
            );
        }
    }

    #[test]
    fn a_level_is_what_it_was() {
        let baseline_1_0 = [
            "appArmorProfile",
            "capabilities_baseline",
            "hostNamespaces",
            "hostPathVolumes",
            "hostPorts",
            "privileged",
            "procMount",
            "seLinuxOptions",
            "seccompProfile_baseline",
            "sysctls",
            "windowsHostProcess",
        ];
        assert_eq!(names(Level::Baseline, 0), baseline_1_0);
        assert_eq!(names(Level::Baseline, 33), baseline_1_0);
        assert!(names(Level::Baseline, 34).contains(&"hostProbesAndHostLifecycle"));
        assert!(names(Level::Privileged, 35).is_empty());

        let mut first: Vec<&str> = baseline_1_0.into_iter().filter(|name| *name != "hostPathVolumes").collect();
        first.extend(["restrictedVolumes", "runAsNonRoot"]);
        assert_eq!(names(Level::Restricted, 7), first);
        let newest = [
            "appArmorProfile",
            "hostNamespaces",
            "hostPorts",
            "hostProbesAndHostLifecycle",
            "privileged",
            "seLinuxOptions",
            "sysctls",
            "windowsHostProcess",
            "allowPrivilegeEscalation",
            "capabilities_restricted",
            "procMount_restricted",
            "restrictedVolumes",
            "runAsNonRoot",
            "runAsUser",
            "seccompProfile_restricted",
        ];
        assert_eq!(names(Level::Restricted, 35), newest);
        assert_eq!(names(Level::Restricted, 10_000), newest);
    }

    #[test]
    fn the_page_says_since_when() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/access.md");
        let page = std::fs::read_to_string(page).unwrap();
        let section = page.split("\n## ").find(|section| section.starts_with("Pod Security Standards")).unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
        let versions = |text: &str| -> Vec<u64> {
            text.split("v1.").skip(1).filter_map(|rest| rest.split([' ', ':']).next()?.parse().ok()).collect()
        };
        let said: Vec<(String, String, Vec<u64>)> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split(" |").map(str::trim).collect();
                (cells[0].to_owned(), cells[1].trim_start_matches("| ").to_owned(), versions(row))
            })
            .collect();
        let all = editions().into_iter().map(|(name, level, since)| (name.to_owned(), level.to_owned(), since));
        assert_eq!(said, all.collect::<Vec<_>>());
    }
}
