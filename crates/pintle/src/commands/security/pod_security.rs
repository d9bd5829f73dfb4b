//! 5.2: what pods may do on their node.

use api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, SecurityContext};

use super::facts::{Facts, Known, known};
use super::{Check, Decided, Group, Offender, api_server, fail, fail_on, pass, warn_of};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

pub static GROUP: Group = Group {
    id: "5.2",
    title: "Pod security",
    checks: &[
        Check { id: "5.2.1", title: "A standard is enforced wherever pods are", decide: enforced },
        Check { id: "5.2.2", title: "No privileged containers", decide: privileged },
        Check { id: "5.2.3", title: "No pods among the host's processes", decide: host_pid },
        Check { id: "5.2.4", title: "No pods in the host's IPC", decide: host_ipc },
        Check { id: "5.2.5", title: "No pods in the host's network", decide: host_network },
        Check { id: "5.2.6", title: "Processes cannot gain privileges", decide: escalation },
        Check { id: "5.2.7", title: "Containers do not run as root", decide: root },
        Check { id: "5.2.8", title: "Containers do not have NET_RAW", decide: net_raw },
        Check { id: "5.2.9", title: "Containers have no capabilities added", decide: capabilities },
        Check { id: "5.2.10", title: "No HostProcess containers of Windows", decide: host_process },
        Check { id: "5.2.11", title: "No folders of the host in pods", decide: host_path },
        Check { id: "5.2.12", title: "No ports of the host for pods", decide: host_ports },
    ],
};

/// Namespaces that are the cluster's own.
pub fn is_system(namespace: &str) -> bool {
    matches!(namespace, "kube-system" | "kube-public" | "kube-node-lease")
}

fn label(namespace: &str, standard: &str) -> String {
    format!("kubectl label namespace {namespace} {ENFORCE}={standard} --overwrite")
}

fn enforced(facts: &Facts) -> Decided {
    if !api_server::plugin(facts, "PodSecurity")? {
        return fail("PodSecurity is off", facts.server_without("--disable-admission-plugins", "PodSecurity"));
    }
    let pods = known(&facts.objects.pods)?;
    let (mut privileged, mut open) = (Vec::new(), Vec::new());
    for namespace in known(&facts.objects.namespaces)? {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        if is_system(name) {
            continue;
        }
        let labels = namespace.metadata.labels.as_ref();
        let standard = labels.and_then(|labels| labels.get(ENFORCE)).map(String::as_str);
        let in_use = || pods.iter().any(|pod| pod.metadata.namespace.as_deref() == Some(name));
        match standard {
            Some("privileged") => {
                privileged.push((format!("namespace {name} lets privileged pods in"), label(name, "baseline")));
            }
            None if in_use() => open.push((format!("namespace {name} enforces nothing"), label(name, "baseline"))),
            _ => {}
        }
    }
    if privileged.is_empty() {
        return warn_of(open, "no namespace with pods is without");
    }
    privileged.extend(open);
    fail_on(privileged, "")
}

/// What a container says of its security, whatever kind of container it is.
pub struct Context<'a> {
    pub name: &'a str,
    pub own: Option<&'a SecurityContext>,
}

fn of(container: &Container) -> Context<'_> {
    Context { name: &container.name, own: container.security_context.as_ref() }
}

fn of_ephemeral(container: &EphemeralContainer) -> Context<'_> {
    Context { name: &container.name, own: container.security_context.as_ref() }
}

/// All containers of a pod.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = Context<'_>> {
    let ordinary = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(of);
    ordinary.chain(spec.ephemeral_containers.iter().flatten().map(of_ephemeral))
}

/// Pods that somebody made, outside the cluster's own namespaces, that have not ended.
pub fn pods(facts: &Facts) -> Known<impl Iterator<Item = (&Pod, &PodSpec)>> {
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let all = known(&facts.objects.pods)?.iter().map(|pod| &**pod);
    let theirs =
        all.filter(move |pod| !is_system(pod.metadata.namespace.as_deref().unwrap_or_default()) && !ended(pod));
    Ok(theirs.filter_map(|pod| Some((pod, pod.spec.as_ref()?))))
}

/// A pod's namespace and name.
pub fn key(pod: &Pod) -> (&str, &str) {
    (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

/// Pods of which something is so; who enforces `standard` gets no more of them.
fn offenders(facts: &Facts, standard: &str, fault: impl Fn(&PodSpec) -> Option<String>) -> Known<Vec<Offender>> {
    let found = pods(facts)?.filter_map(|(pod, spec)| {
        let (namespace, name) = key(pod);
        let mend = format!("{} && kubectl delete pod {name} -n {namespace}", label(namespace, standard));
        Some((format!("pod {namespace}/{name}: {}", fault(spec)?), mend))
    });
    Ok(found.collect())
}

/// The names of a pod's containers of which something is so.
fn named(spec: &PodSpec, what: &str, is: impl Fn(&Context<'_>) -> bool) -> Option<String> {
    let names: Vec<&str> = containers(spec).filter(|one| is(one)).map(|one| one.name).collect();
    (!names.is_empty()).then(|| format!("{what} ({})", names.join(", ")))
}

const NONE: &str = "no pod does";

fn baseline(facts: &Facts, fault: impl Fn(&PodSpec) -> Option<String>) -> Decided {
    fail_on(offenders(facts, "baseline", fault)?, NONE)
}

fn restricted(facts: &Facts, fault: impl Fn(&PodSpec) -> Option<String>) -> Decided {
    warn_of(offenders(facts, "restricted", fault)?, NONE)
}

fn privileged(facts: &Facts) -> Decided {
    baseline(facts, |spec| named(spec, "privileged", |one| one.own.is_some_and(|own| own.privileged == Some(true))))
}

fn host_pid(facts: &Facts) -> Decided {
    baseline(facts, |spec| (spec.host_pid == Some(true)).then(|| "hostPID".to_owned()))
}

fn host_ipc(facts: &Facts) -> Decided {
    baseline(facts, |spec| (spec.host_ipc == Some(true)).then(|| "hostIPC".to_owned()))
}

fn host_network(facts: &Facts) -> Decided {
    baseline(facts, |spec| (spec.host_network == Some(true)).then(|| "hostNetwork".to_owned()))
}

fn escalation(facts: &Facts) -> Decided {
    restricted(facts, |spec| {
        let may = |one: &Context<'_>| one.own.and_then(|own| own.allow_privilege_escalation) != Some(false);
        named(spec, "allowPrivilegeEscalation is not false", may)
    })
}

fn root(facts: &Facts) -> Decided {
    restricted(facts, |spec| {
        let pod = spec.security_context.as_ref();
        let not_root = |non_root: Option<bool>, user: Option<i64>| match user {
            Some(0) => Some(false),
            Some(_) => Some(true),
            None => non_root.filter(|non_root| *non_root),
        };
        let of_pod = pod.and_then(|own| not_root(own.run_as_non_root, own.run_as_user));
        let safe = |one: &Context<'_>| {
            one.own.and_then(|own| not_root(own.run_as_non_root, own.run_as_user)).or(of_pod) == Some(true)
        };
        named(spec, "may run as root", |one| !safe(one))
    })
}

/// Whether a container gives up a capability, or all of them, and takes it not back.
fn drops(one: &Context<'_>, capability: &str) -> bool {
    let capabilities = one.own.and_then(|own| own.capabilities.as_ref());
    let has = |list: Option<&Vec<String>>, wanted: &str| list.is_some_and(|list| list.iter().any(|own| own == wanted));
    let dropped = capabilities.is_some_and(|own| has(own.drop.as_ref(), "ALL") || has(own.drop.as_ref(), capability));
    dropped && !capabilities.is_some_and(|own| has(own.add.as_ref(), capability))
}

fn net_raw(facts: &Facts) -> Decided {
    restricted(facts, |spec| named(spec, "NET_RAW is not dropped", |one| !drops(one, "NET_RAW")))
}

fn capabilities(facts: &Facts) -> Decided {
    restricted(facts, |spec| {
        let adds = |one: &Context<'_>| {
            let added = one.own.and_then(|own| own.capabilities.as_ref()?.add.as_ref());
            added.is_some_and(|added| added.iter().any(|own| own != "NET_BIND_SERVICE"))
        };
        named(spec, "capabilities are added", adds)
    })
}

fn host_process(facts: &Facts) -> Decided {
    if pods(facts)?.next().is_none() {
        return pass(NONE);
    }
    baseline(facts, |spec| {
        let is = |one: &Context<'_>| {
            let windows = one.own.and_then(|own| own.windows_options.as_ref());
            windows.is_some_and(|windows| windows.host_process == Some(true))
        };
        named(spec, "hostProcess", is)
    })
}

fn host_path(facts: &Facts) -> Decided {
    baseline(facts, |spec| {
        let volumes = spec.volumes.iter().flatten();
        let names: Vec<&str> =
            volumes.filter(|volume| volume.host_path.is_some()).map(|volume| volume.name.as_str()).collect();
        (!names.is_empty()).then(|| format!("hostPath ({})", names.join(", ")))
    })
}

fn host_ports(facts: &Facts) -> Decided {
    baseline(facts, |spec| {
        let ports = spec.containers.iter().flat_map(|one| one.ports.iter().flatten());
        let taken: Vec<String> = ports.filter_map(|port| port.host_port).map(|port| port.to_string()).collect();
        (!taken.is_empty()).then(|| format!("hostPort {}", taken.join(", ")))
    })
}
