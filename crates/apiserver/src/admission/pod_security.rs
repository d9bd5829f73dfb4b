//! PodSecurity: what a namespace's labels demand of its pods. Enforced on pods, said as a warning for pods and for
//! everything that has a pod template. Each mode has its own level, as of its own version.
//!
//! Upstream: staging/src/k8s.io/pod-security-admission/{admission,api}.

pub mod checks;
mod existing;
mod settings;
mod version;

use std::collections::BTreeMap;

use api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use api::batch::v1::{CronJob, Job};
use api::core::v1::{Namespace, Pod, PodSpec, PodTemplate, PodTemplateSpec, ReplicationController};
use api::meta::v1::ObjectMeta;
use api::{FieldErrors, Object, Path, Status};
use futures_util::future::BoxFuture;

use self::checks::violations;
pub use self::settings::Settings;
pub use self::version::Version;
use super::{Operation, Request, done};

pub struct Plugin;

const PREFIX: &str = "pod-security.kubernetes.io/";
/// Subresources of pods that do not change what runs.
const IGNORED: &[&str] = &["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "resize", "status"];

/// How strict a policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// A level, and the version of Kubernetes whose idea of it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    pub level: Level,
    pub version: Version,
}

impl Demand {
    fn shown(self) -> String {
        format!("{}:{}", self.level.name(), self.version)
    }

    /// Whether it comes to the same: nothing is demanded at any version of privileged.
    fn equals(self, other: Self) -> bool {
        self == other || self.level == Level::Privileged && other.level == Level::Privileged
    }
}

/// What a namespace demands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Policy {
    enforce: Demand,
    audit: Demand,
    warn: Demand,
}

impl Policy {
    fn equals(&self, other: &Self) -> bool {
        let pairs = [(self.enforce, other.enforce), (self.audit, other.audit), (self.warn, other.warn)];
        pairs.iter().all(|(one, another)| one.equals(*another))
    }
}

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && match (group, resource) {
                ("", "pods") => !IGNORED.contains(&subresource),
                ("", "namespaces" | "podtemplates" | "replicationcontrollers")
                | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
                | ("batch", "cronjobs" | "jobs") => subresource.is_empty(),
                _ => false,
            }
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if request.resource == "namespaces" {
            return done(namespace(request));
        }
        let settings = &request.server.options().admission_settings.pod_security;
        if let Some(whom) = exempt(settings, request.namespace, &request.caller.name) {
            request.annotations.push((format!("{PREFIX}exempt"), whom.to_owned()));
            return done(Ok(()));
        }
        if let Some(namespace) = request.lookup().get::<Namespace>("", request.namespace) {
            return done(pod_like(request, &namespace, settings));
        }
        Box::pin(async move {
            let found = request.lookup().get_live::<Namespace>("", request.namespace).await?;
            found.map_or(Ok(()), |namespace| pod_like(request, &namespace, settings))
        })
    }
}

/// Who is not asked for anything, if anybody is.
fn exempt(settings: &Settings, namespace: &str, user: &str) -> Option<&'static str> {
    let is_in = |list: &[String], own: &str| list.iter().any(|one| one == own);
    if is_in(&settings.namespaces, namespace) {
        return Some("namespace");
    }
    is_in(&settings.users, user).then_some("user")
}

/// The policy in a namespace's labels, or else the standard one. What cannot be read is as strict as can be when
/// enforced. Warnings are no weaker than what is enforced, unless they say so.
fn policy(labels: Option<&BTreeMap<String, String>>, standard: &Policy) -> (Policy, FieldErrors) {
    let mut errors = FieldErrors::new();
    let path = Path::new("metadata").child("labels");
    let value = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    let mut demand = |mode: &str, standard: Demand, unreadable: Level| {
        let (level_key, version_key) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
        let mut readable = false;
        let level = value(&level_key).map_or(standard.level, |text| match Level::parse(text) {
            Some(level) => {
                readable = true;
                level
            }
            None => {
                errors.invalid(&path.key(&level_key), text, "must be one of privileged, baseline, restricted");
                unreadable
            }
        });
        let version = value(&version_key).map_or(standard.version, |text| {
            Version::parse(text).unwrap_or_else(|| {
                errors.invalid(&path.key(&version_key), text, "must be \"latest\" or \"v1.x\"");
                Version::Latest
            })
        });
        (Demand { level, version }, readable)
    };
    let (enforce, said) = demand("enforce", standard.enforce, Level::Restricted);
    let (audit, _) = demand("audit", standard.audit, Level::Privileged);
    let (mut warn, _) = demand("warn", standard.warn, Level::Privileged);
    if said && value(&format!("{PREFIX}warn")).is_none() && enforce.level > warn.level {
        warn.level = enforce.level;
        if value(&format!("{PREFIX}warn-version")).is_none() {
            warn.version = enforce.version;
        }
    }
    (Policy { enforce, audit, warn }, errors)
}

/// The labels of a namespace must be readable; what is there already and violates the new policy is told.
fn namespace(request: &mut Request<'_>) -> Result<(), Status> {
    let name = request.name.to_owned();
    let settings = &request.server.options().admission_settings.pod_security;
    let old = request.old_object::<Namespace>().map(|old| policy(old.metadata.labels.as_ref(), &settings.standard));
    let Some(new) = request.object::<Namespace>() else { return Ok(()) };
    let labels = new.metadata.labels.clone().unwrap_or_default();
    let (wanted, errors) = policy(Some(&labels), &settings.standard);
    if !errors.is_empty() && old.as_ref().is_none_or(|(_, old_errors)| *old_errors != errors) {
        return Err(Status::invalid("", "Namespace", &name, &errors));
    }
    let exempt = exempt(settings, &name, "").is_some();
    let Some((before, _)) = old else {
        if exempt {
            request.warnings.extend(ignored(&name, &wanted, settings, &labels));
        }
        return Ok(());
    };
    let (enforce, was) = (wanted.enforce, before.enforce);
    let relaxed = enforce.version == was.version && enforce.level <= was.level;
    if enforce.level == Level::Privileged || relaxed {
        return Ok(());
    }
    if exempt {
        request.warnings.extend(ignored(&name, &wanted, settings, &labels));
        return Ok(());
    }
    let pods = existing::prioritized(request.lookup().list::<Pod>(Some(&name)), settings);
    request.warnings.extend(existing::violations(&pods, &name, enforce));
    Ok(())
}

/// What is told of a policy for a namespace that is exempt.
fn ignored(namespace: &str, wanted: &Policy, settings: &Settings, labels: &BTreeMap<String, String>) -> Option<String> {
    let modes = [("enforce", wanted.enforce), ("audit", wanted.audit), ("warn", wanted.warn)];
    if wanted.equals(&settings.standard) || modes.iter().all(|(_, demand)| demand.level == Level::Privileged) {
        return None;
    }
    let said = |mode: &str| {
        [format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version")].iter().any(|key| labels.contains_key(key))
    };
    let shown = modes.iter().filter(|(mode, demand)| demand.level != Level::Privileged && said(mode));
    let shown: Vec<String> = shown.map(|(mode, demand)| format!("{mode}={}", demand.shown())).collect();
    let shown = shown.join(", ");
    Some(format!("namespace {namespace:?} is exempt from Pod Security, and the policy ({shown}) will be ignored"))
}

/// The pod, or the pod to be, in an object.
fn template(object: &dyn Object) -> Option<(&ObjectMeta, &PodSpec)> {
    let any = object.as_any();
    if let Some(pod) = any.downcast_ref::<Pod>() {
        return Some((&pod.metadata, pod.spec.as_ref()?));
    }
    let template: &PodTemplateSpec = if let Some(own) = any.downcast_ref::<PodTemplate>() {
        own.template.as_ref()?
    } else if let Some(own) = any.downcast_ref::<ReplicationController>() {
        own.spec.as_ref()?.template.as_ref()?
    } else if let Some(own) = any.downcast_ref::<ReplicaSet>() {
        own.spec.template.as_ref()?
    } else if let Some(own) = any.downcast_ref::<Deployment>() {
        &own.spec.template
    } else if let Some(own) = any.downcast_ref::<DaemonSet>() {
        &own.spec.template
    } else if let Some(own) = any.downcast_ref::<Job>() {
        &own.spec.as_ref()?.template
    } else if let Some(own) = any.downcast_ref::<CronJob>() {
        &own.spec.job_template.spec.as_ref()?.template
    } else {
        &any.downcast_ref::<StatefulSet>()?.spec.template
    };
    Some((template.metadata.as_ref().unwrap_or(&EMPTY), template.spec.as_ref()?))
}

static EMPTY: ObjectMeta = ObjectMeta {
    annotations: None,
    creation_timestamp: None,
    deletion_grace_period_seconds: None,
    deletion_timestamp: None,
    finalizers: None,
    generate_name: None,
    generation: None,
    labels: None,
    managed_fields: None,
    name: None,
    namespace: None,
    owner_references: None,
    resource_version: None,
    self_link: None,
    uid: None,
};

/// Whether an update of a pod changes anything the checks look at: images aside, only ephemeral containers can.
fn is_significant(new: &PodSpec, old: &PodSpec) -> bool {
    let images = |spec: &PodSpec| -> Vec<Option<String>> {
        spec.init_containers.iter().flatten().chain(&spec.containers).map(|one| one.image.clone()).collect()
    };
    new.ephemeral_containers != old.ephemeral_containers || images(new) != images(old)
}

fn pod_like(request: &mut Request<'_>, namespace: &Namespace, settings: &Settings) -> Result<(), Status> {
    let (Policy { enforce, audit, warn }, errors) = policy(namespace.metadata.labels.as_ref(), &settings.standard);
    let is_pod = request.resource == "pods";
    let strictest = warn.level.max(audit.level).max(if is_pod { enforce.level } else { Level::Privileged });
    let enforced = (format!("{PREFIX}enforce-policy"), enforce.shown());
    if strictest == Level::Privileged && errors.is_empty() {
        request.annotations.extend(is_pod.then_some(enforced));
        return Ok(());
    }
    let old = request.old_object::<Pod>().and_then(|pod| pod.spec.as_ref());
    let Some((metadata, spec)) = request.object.as_deref().and_then(|object| template(&**object)) else {
        return Ok(());
    };
    if is_pod && old.is_some_and(|old| !is_significant(spec, old)) {
        return Ok(());
    }
    if settings.exempts_class(spec) {
        request.annotations.push((format!("{PREFIX}exempt"), "runtimeClass".to_owned()));
        return Ok(());
    }
    let of = |demand: Demand| described(&violations(demand, metadata, spec));
    let refused = is_pod.then(|| of(enforce)).flatten();
    let audited = of(audit);
    let warned = of(warn);
    if !errors.is_empty() {
        request.annotations.push((format!("{PREFIX}error"), format!("Failed to parse policy: {errors}")));
    }
    request.annotations.extend(is_pod.then_some(enforced));
    if let Some(why) = audited {
        let text = format!("would violate PodSecurity {:?}: {why}", audit.shown());
        request.annotations.push((format!("{PREFIX}audit-violations"), text));
    }
    if let Some(why) = refused {
        return Err(request.forbidden(&format!("violates PodSecurity {:?}: {why}", enforce.shown())));
    }
    if let Some(why) = warned {
        request.warnings.push(format!("would violate PodSecurity {:?}: {why}", warn.shown()));
    }
    Ok(())
}

/// Violations in one line; `None` if there are none.
fn described(found: &[(String, String)]) -> Option<String> {
    let each = found.iter().map(|(reason, detail)| match detail.as_str() {
        "" => reason.clone(),
        detail => format!("{reason} ({detail})"),
    });
    (!found.is_empty()).then(|| each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use api::core::v1::{Capabilities, Container, PodSecurityContext, SeccompProfile, SecurityContext};

    use super::*;

    fn spec(context: Option<SecurityContext>) -> PodSpec {
        let container = Container { name: "c".into(), security_context: context, ..Container::default() };
        PodSpec { containers: vec![container], ..PodSpec::default() }
    }

    fn said(level: Level, spec: &PodSpec) -> String {
        let demand = Demand { level, version: Version::Latest };
        described(&violations(demand, &ObjectMeta::default(), spec)).unwrap_or_default()
    }

    #[test]
    fn a_plain_pod_is_baseline_and_not_restricted() {
        assert_eq!(said(Level::Baseline, &spec(None)), "");
        assert_eq!(
            said(Level::Restricted, &spec(None)),
            "allowPrivilegeEscalation != false (container \"c\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn a_careful_pod_is_restricted() {
        let mut pod = spec(Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..SecurityContext::default()
        }));
        pod.security_context = Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
            ..PodSecurityContext::default()
        });
        assert_eq!(said(Level::Restricted, &pod), "");
    }

    #[test]
    fn what_reaches_the_host_is_named() {
        let mut pod = spec(Some(SecurityContext {
            privileged: Some(true),
            capabilities: Some(Capabilities { add: Some(vec!["NET_ADMIN".into(), "CHOWN".into()]), drop: None }),
            ..SecurityContext::default()
        }));
        pod.host_network = Some(true);
        pod.host_pid = Some(true);
        assert_eq!(
            said(Level::Baseline, &pod),
            "non-default capabilities (container \"c\" must not include \"NET_ADMIN\" in \
             securityContext.capabilities.add), host namespaces (hostNetwork=true, hostPID=true), privileged \
             (container \"c\" must not set securityContext.privileged=true)"
        );
        assert_eq!(said(Level::Privileged, &pod), "");
    }

    #[test]
    fn labels_say_what_is_demanded() {
        let labels = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect()
        };
        let policy = |list: &[(&str, &str)]| policy(Some(&labels(list)), &Policy::default());
        let (none, errors) = policy(&[]);
        assert!(errors.is_empty());
        assert_eq!(none.enforce.shown(), "privileged:latest");
        let (some, errors) = policy(&[("enforce", "baseline"), ("enforce-version", "v1.30")]);
        assert!(errors.is_empty());
        assert_eq!((some.enforce.shown(), some.warn.shown()), ("baseline:v1.30".into(), "baseline:v1.30".into()));
        let (apart, _) = policy(&[
            ("enforce", "baseline"),
            ("warn-version", "v1.22"),
            ("audit", "restricted"),
            ("audit-version", "v1.0"),
        ]);
        assert_eq!(
            (apart.enforce.shown(), apart.warn.shown(), apart.audit.shown()),
            ("baseline:latest".into(), "baseline:v1.22".into(), "restricted:v1.0".into())
        );
        let (own, _) = policy(&[("enforce", "baseline"), ("warn", "privileged")]);
        assert_eq!(own.warn.level, Level::Privileged, "it is said");
        let (bad, errors) = policy(&[("enforce", "strict"), ("warn-version", "1.30")]);
        assert_eq!((bad.enforce.level, bad.warn.shown()), (Level::Restricted, "privileged:latest".into()));
        assert_eq!(
            errors.0[0].to_string(),
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of \
             privileged, baseline, restricted"
        );
        assert_eq!(errors.0.len(), 2);
    }

    #[test]
    fn the_standard_holds_where_nothing_is_said() {
        let baseline = Demand { level: Level::Baseline, version: Version::Minor(30) };
        let standard = Policy { enforce: baseline, audit: baseline, warn: baseline };
        let labels = |key: &str, value: &str| BTreeMap::from([(format!("{PREFIX}{key}"), value.to_owned())]);
        assert_eq!(policy(None, &standard).0, standard);
        let (relaxed, _) = policy(Some(&labels("enforce", "privileged")), &standard);
        assert_eq!(
            (relaxed.enforce.shown(), relaxed.warn.shown()),
            ("privileged:v1.30".into(), "baseline:v1.30".into())
        );
        let (raised, _) = policy(Some(&labels("enforce", "restricted")), &standard);
        assert_eq!((raised.warn.level, raised.audit.level), (Level::Restricted, Level::Baseline));
    }
}
