//! 1.2: the API server: what it says holds, and what it does when one knocks.

use super::doors::Seen;
use super::facts::{Facts, Known, known};
use super::{Check, Decided, Group, fail, fail_on, not_applicable, pass, warn, warn_of};

/// For what no flag can change: then it is a fault of this version.
pub const UPDATE: &str = "pintle version # no flag changes this: it is a fault of this version, take a newer one";

pub static GROUP: Group = Group {
    id: "1.2",
    title: "API server",
    checks: &[
        Check { id: "1.2.1", title: "Nothing but health is shown without credentials", decide: anonymous },
        Check { id: "1.2.2", title: "No file of tokens that never end", decide: token_file },
        Check { id: "1.2.3", title: "No Service takes addresses that are not its own", decide: external_ips },
        Check { id: "1.2.4", title: "Nodes are shown a client certificate", decide: kubelet_client },
        Check { id: "1.2.5", title: "Nodes are known by the cluster's CA", decide: kubelet_ca },
        Check { id: "1.2.6", title: "Not everything is allowed to everybody", decide: not_always_allow },
        Check { id: "1.2.7", title: "Nodes reach what their pods use and no more", decide: node_authorizer },
        Check { id: "1.2.8", title: "Roles decide who may do what", decide: rbac_authorizer },
        Check { id: "1.2.9", title: "Writers of events are held back", decide: event_rate },
        Check { id: "1.2.10", title: "AlwaysAdmit is off", decide: always_admit },
        Check { id: "1.2.11", title: "Private images are had with credentials only", decide: always_pull },
        Check { id: "1.2.12", title: "ServiceAccount is on", decide: service_account },
        Check { id: "1.2.13", title: "NamespaceLifecycle is on", decide: namespace_lifecycle },
        Check { id: "1.2.14", title: "NodeRestriction is on", decide: node_restriction },
        Check { id: "1.2.15", title: "No profiler is served", decide: profiler },
        Check { id: "1.2.16", title: "An audit log is kept", decide: audit_log },
        Check { id: "1.2.17", title: "Audit logs are kept for 30 days or longer", decide: audit_age },
        Check { id: "1.2.18", title: "Ten audit logs or more are kept", decide: audit_backups },
        Check { id: "1.2.19", title: "An audit log may grow to 100 MB or more", decide: audit_size },
        Check { id: "1.2.20", title: "Requests end after a minute", decide: request_timeout },
        Check { id: "1.2.21", title: "Tokens of accounts that are gone are refused", decide: account_lookup },
        Check { id: "1.2.22", title: "Service account tokens have a key of their own", decide: account_key },
        Check { id: "1.2.23", title: "The store asks for a client certificate", decide: store_tls },
        Check { id: "1.2.24", title: "The API is served over TLS by the cluster's CA", decide: serving_certificate },
        Check { id: "1.2.25", title: "Client certificates are checked by a CA", decide: client_ca },
        Check { id: "1.2.26", title: "The store is known by a CA", decide: store_tls },
        Check { id: "1.2.27", title: "Encryption at rest is on", decide: encryption },
        Check { id: "1.2.28", title: "Secrets are sealed by a strong provider first", decide: providers },
        Check { id: "1.2.29", title: "Only strong ciphers are agreed on", decide: ciphers },
        Check { id: "1.2.30", title: "Tokens end when they say", decide: token_extension },
    ],
};

fn anonymous(facts: &Facts) -> Decided {
    let mend = facts.server_with("--anonymous-auth=false");
    match known(&facts.doors.anonymous)? {
        Seen::Answered(401) | Seen::Refused => {}
        Seen::Answered(code) => {
            return fail(
                format!("a request without credentials gets as far as authorization (it was answered {code})"),
                mend,
            );
        }
    }
    let open = facts.list("anonymous-auth")?;
    if open == ["false"] {
        return pass("nothing is shown at all");
    }
    let is_health = |path: &str| matches!(path, "/healthz" | "/livez" | "/readyz");
    let others: Vec<&str> = open.into_iter().filter(|path| !is_health(path)).collect();
    if others.is_empty() {
        return pass("health endpoints only");
    }
    warn(format!("paths are shown without credentials: {}", others.join(", ")), mend)
}

fn token_file(facts: &Facts) -> Decided {
    known(&facts.flags)?;
    match facts.flag("token-auth-file") {
        Ok(path) if !path.is_empty() => {
            fail(format!("tokens are read from {path}"), facts.server_with("--token-auth-file="))
        }
        _ => pass("this server has no such thing"),
    }
}

/// Whether an admission plugin is on.
pub fn plugin(facts: &Facts, name: &str) -> Known<bool> {
    Ok(facts.list("enable-admission-plugins")?.contains(&name))
}

fn plugin_on(facts: &Facts, name: &str) -> Decided {
    if plugin(facts, name)? {
        return pass("on");
    }
    fail(format!("{name} is off"), facts.server_without("--disable-admission-plugins", name))
}

fn external_ips(facts: &Facts) -> Decided {
    if plugin(facts, "DenyServiceExternalIPs")? {
        return pass("DenyServiceExternalIPs is on");
    }
    let mut offenders = Vec::new();
    for service in known(&facts.objects.services)? {
        let addresses = service.spec.as_ref().and_then(|spec| spec.external_ips.as_deref()).unwrap_or_default();
        if addresses.is_empty() {
            continue;
        }
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        offenders.push((
            format!("Service {namespace}/{name} takes {}", addresses.join(", ")),
            format!("kubectl patch service {name} -n {namespace} -p '{{\"spec\":{{\"externalIPs\":null}}}}'"),
        ));
    }
    warn_of(offenders, "no Service has external addresses")
}

fn kubelet_client(facts: &Facts) -> Decided {
    flag_is_set(facts, "kubelet-client-certificate", "the server has no certificate for nodes")
}

fn kubelet_ca(facts: &Facts) -> Decided {
    flag_is_set(facts, "kubelet-certificate-authority", "nodes are not verified")
}

fn flag_is_set(facts: &Facts, name: &str, why: &str) -> Decided {
    let value = facts.flag(name)?;
    if value.is_empty() {
        return fail(why, format!("pintle certs list --data-dir {}", facts.data_dir.display()));
    }
    pass(value)
}

fn not_always_allow(facts: &Facts) -> Decided {
    let modes = facts.list("authorization-mode")?;
    if modes.contains(&"AlwaysAllow") || modes.is_empty() {
        return fail(
            format!("authorizers are {}", modes.join(",")),
            facts.server_with("--authorization-mode=Node,RBAC"),
        );
    }
    pass(modes.join(","))
}

fn authorizer(facts: &Facts, name: &str) -> Decided {
    let modes = facts.list("authorization-mode")?;
    if modes.contains(&name) {
        return pass(modes.join(","));
    }
    fail(format!("{name} is not among {}", modes.join(",")), facts.server_with("--authorization-mode=Node,RBAC"))
}

fn node_authorizer(facts: &Facts) -> Decided {
    authorizer(facts, "Node")
}

fn rbac_authorizer(facts: &Facts) -> Decided {
    authorizer(facts, "RBAC")
}

/// By the plugin EventRateLimit, or by flow control, which holds back whoever writes too much.
fn event_rate(facts: &Facts) -> Decided {
    if plugin(facts, "EventRateLimit")? {
        return pass("EventRateLimit is on");
    }
    if *known(&facts.objects.flow_schemas)? == 0 {
        return fail(
            "there are no FlowSchemas, so nobody is held back",
            format!("pintle server --data-dir {}", facts.data_dir.display()),
        );
    }
    pass("API priority and fairness holds back who writes too much; EventRateLimit is off")
}

fn always_admit(facts: &Facts) -> Decided {
    if plugin(facts, "AlwaysAdmit")? {
        return fail("AlwaysAdmit is on", facts.server_without("--enable-admission-plugins", "AlwaysAdmit"));
    }
    pass("off")
}

fn always_pull(facts: &Facts) -> Decided {
    if plugin(facts, "AlwaysPullImages")? {
        return pass("AlwaysPullImages is on");
    }
    let pull = |type_: &str| matches!(type_, "kubernetes.io/dockerconfigjson" | "kubernetes.io/dockercfg");
    let count = known(&facts.objects.secrets)?.iter().filter(|secret| pull(&secret.type_)).count();
    if count == 0 {
        return not_applicable("no Secret holds credentials of a registry, so no image is private");
    }
    warn(
        format!("{count} Secrets hold credentials of registries, and whoever comes later uses the images without"),
        facts.server_with("--enable-admission-plugins=AlwaysPullImages"),
    )
}

fn service_account(facts: &Facts) -> Decided {
    plugin_on(facts, "ServiceAccount")
}

fn namespace_lifecycle(facts: &Facts) -> Decided {
    plugin_on(facts, "NamespaceLifecycle")
}

fn node_restriction(facts: &Facts) -> Decided {
    plugin_on(facts, "NodeRestriction")
}

/// Nothing answers where a profiler would.
pub fn profiler(facts: &Facts) -> Decided {
    match known(&facts.doors.profiler)? {
        Seen::Answered(404) => pass("nothing is there"),
        seen => fail(format!("/debug/pprof/ answered: {seen:?}"), UPDATE),
    }
}

fn audit_log(facts: &Facts) -> Decided {
    let path = facts.flag("audit-log-path")?;
    let standard = facts.data_dir.join("audit/audit.log");
    if path.is_empty() {
        return fail("no audit log is kept", facts.server_with(&format!("--audit-log-path={}", standard.display())));
    }
    let own = facts.below(path.as_ref())?;
    let loose = own.into_iter().filter_map(|file| super::control_plane_files::loose(file, 0o600));
    fail_on(loose.collect(), path)
}

/// A number of the audit log's that must not be less; 0 is without limit where `zero` says so.
fn audit_number(facts: &Facts, name: &str, least: u64, zero: bool) -> Decided {
    if facts.flag("audit-log-path")?.is_empty() {
        return not_applicable("no audit log is kept: see 1.2.16");
    }
    let text = facts.flag(name)?;
    let number: u64 = text.parse().map_err(|_| format!("{name} is {text:?}"))?;
    if number >= least || (zero && number == 0) {
        return pass(text);
    }
    fail(format!("{name} is {number}"), facts.server_with(&format!("--{name}={least}")))
}

fn audit_age(facts: &Facts) -> Decided {
    audit_number(facts, "audit-log-maxage", 30, true)
}

fn audit_backups(facts: &Facts) -> Decided {
    audit_number(facts, "audit-log-maxbackup", 10, true)
}

fn audit_size(facts: &Facts) -> Decided {
    audit_number(facts, "audit-log-maxsize", 100, false)
}

fn request_timeout(facts: &Facts) -> Decided {
    match facts.flag("request-timeout")? {
        "0s" | "" => fail("requests never end", UPDATE),
        text => pass(text),
    }
}

fn account_lookup(facts: &Facts) -> Decided {
    match facts.flag("service-account-lookup")? {
        "true" => pass("tokens are looked up"),
        other => fail(format!("service-account-lookup is {other}"), UPDATE),
    }
}

fn account_key(facts: &Facts) -> Decided {
    let files = facts.list("service-account-key-file")?;
    let serving = facts.flag("tls-private-key-file")?;
    if files.is_empty() || files.contains(&serving) {
        return fail("tokens are signed with the serving key", facts.server_with("--service-account-key-file=FILE"));
    }
    pass(files.join(","))
}

fn store_tls(facts: &Facts) -> Decided {
    match facts.flag("store")? {
        "embedded" => not_applicable("the store is within the server: there is no connection to it"),
        other => Err(format!("nothing is known of the store {other}")),
    }
}

fn serving_certificate(facts: &Facts) -> Decided {
    // The visit itself verified it by the cluster's CA.
    let certificate = known(&facts.doors.certificate)?;
    let path = facts.data_dir.join("pki/server.crt");
    if facts.now >= certificate.not_after {
        return fail("the certificate has expired", format!("rm {} && systemctl restart pintle", path.display()));
    }
    pass(format!("{} until {}", certificate.common_name, certificate.not_after))
}

fn client_ca(facts: &Facts) -> Decided {
    flag_is_set(facts, "client-ca-file", "client certificates are not asked for")
}

fn encryption(facts: &Facts) -> Decided {
    let providers = facts.list("effective-encryption-providers")?;
    if providers.iter().any(|one| *one != "identity") {
        return pass(providers.join(", "));
    }
    fail("Secrets lie in the store as they are", sealing(facts))
}

/// The command that puts a sealing provider first.
fn sealing(facts: &Facts) -> String {
    match facts.flag("encryption-provider-config") {
        Ok(path) if !path.is_empty() => {
            format!(
                "$EDITOR {path} && pintle secrets rotate --data-dir {} # a provider other than identity first",
                facts.data_dir.display()
            )
        }
        _ => format!("pintle secrets rotate --data-dir {}", facts.data_dir.display()),
    }
}

fn providers(facts: &Facts) -> Decided {
    let providers = facts.list("effective-encryption-providers")?;
    match providers.first() {
        Some(&("aesgcm" | "aescbc" | "secretbox" | "kms")) => pass(providers.join(", ")),
        first => fail(format!("new Secrets are written by {}", first.unwrap_or(&"nobody")), sealing(facts)),
    }
}

/// What a handshake may agree on, and that old ones are refused.
pub fn strong_tls(old: &Known<Seen>, agreed: &Known<super::doors::Agreed>) -> Decided {
    const STRONG: [&str; 3] =
        ["TLS13_AES_128_GCM_SHA256", "TLS13_AES_256_GCM_SHA384", "TLS13_CHACHA20_POLY1305_SHA256"];
    let agreed = known(agreed)?;
    if *known(old)? != Seen::Refused {
        return fail("TLS 1.2 is accepted", UPDATE);
    }
    if !STRONG.contains(&agreed.cipher.as_str()) {
        return fail(format!("{} was agreed on", agreed.cipher), UPDATE);
    }
    pass(format!("TLS 1.2 is refused; {} with {}", agreed.version, agreed.cipher))
}

fn ciphers(facts: &Facts) -> Decided {
    strong_tls(&facts.doors.old_tls, &facts.doors.agreed)
}

fn token_extension(facts: &Facts) -> Decided {
    match facts.flag("service-account-extend-token-expiration")? {
        "false" => pass("they are not extended"),
        other => fail(format!("service-account-extend-token-expiration is {other}"), UPDATE),
    }
}
