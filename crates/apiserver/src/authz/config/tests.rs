//! Tests of `config`.

use super::*;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";

fn refused(body: &str) -> String {
    Configuration::decode(format!("{HEAD}{body}").as_bytes()).unwrap_err()
}

/// A webhook with these fields, which is right but for them.
fn webhook(with: &str) -> String {
    refused(&format!(
        "authorizers:\n- type: Webhook\n  name: a\n  webhook: {{timeout: 3s, failurePolicy: Deny, \
         subjectAccessReviewVersion: v1, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: /etc/passwd}}, {with}}}\n"
    ))
}

#[test]
fn a_right_file_is_read() {
    let text = format!(
        "{HEAD}authorizers:\n- type: Node\n  name: node\n- type: Webhook\n  name: other\n  webhook:\n    timeout: 3s\n    \
         cacheUnauthorizedRequests: false\n    subjectAccessReviewVersion: v1\n    \
         matchConditionSubjectAccessReviewVersion: v1\n    failurePolicy: Deny\n    connectionInfo:\n      \
         type: KubeConfigFile\n      kubeConfigFile: /etc/passwd\n    matchConditions:\n    - expression: \
         has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'\n- type: RBAC\n  \
         name: rbac\n"
    );
    let read = Configuration::decode(text.as_bytes()).unwrap();
    let names: Vec<&str> = read.authorizers.iter().map(|one| one.kind.name()).collect();
    assert_eq!(names, ["Node", "Webhook", "RBAC"]);
    let Kind::Webhook(own) = &read.authorizers[1].kind else { panic!("no webhook") };
    assert!(own.denies_on_failure && own.conditions.len() == 1 && own.version == Version::V1);
    assert_eq!((own.authorized_ttl, own.unauthorized_ttl), (Some(AUTHORIZED_TTL), None));
}

#[test]
fn wrong_files_are_refused_in_upstreams_words() {
    for (body, why) in [
        ("", "authorizers: Required value: at least one authorization mode must be defined"),
        ("authorizers: [{name: a}]", "authorizers[0].type: Required value"),
        (
            "authorizers: [{type: Foo, name: a}]",
            "authorizers[0].type: Unsupported value: \"Foo\": supported values: \"ABAC\", \"AlwaysAllow\", \
             \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\"",
        ),
        (
            "authorizers: [{type: RBAC, name: a}, {type: RBAC, name: b}]",
            "authorizers[1].type: Duplicate value: \"RBAC\"",
        ),
        ("authorizers: [{type: RBAC}]", "authorizers[0].name: Required value"),
        ("authorizers: [{type: RBAC, name: a}, {type: Node, name: a}]", "authorizers[1].name: Duplicate value: \"a\""),
        (
            "authorizers: [{type: Webhook, name: a}]",
            "authorizers[0].webhook: Required value: required when type=Webhook",
        ),
        (
            "authorizers: [{type: RBAC, name: a, webhook: {}}]",
            "authorizers[0].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
        ),
        (
            "authorizers: [{type: RBAC, name: a, other: 1}]",
            "failed to load AuthorizationConfiguration from file: strict decoding error: unknown field \
             \"authorizers[0].other\"",
        ),
    ] {
        assert_eq!(refused(body), why, "{body}");
    }
    assert!(
        refused("authorizers: [{type: RBAC, name: A_b}]").contains("authorizer name is invalid: a lowercase RFC 1123")
    );
}

#[test]
fn wrong_webhooks_are_refused_in_upstreams_words() {
    for (with, why) in [
        ("timeout: 31s", "authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s"),
        ("timeout: 0s", "authorizers[0].timeout: Required value"),
        ("authorizedTTL: -1s", "authorizers[0].authorizedTTL: Invalid value: \"-1s\": must be > 0s"),
        (
            "subjectAccessReviewVersion: v2",
            "authorizers[0].subjectAccessReviewVersion: Unsupported value: \"v2\": supported values: \"v1\", \"v1beta1\"",
        ),
        (
            "failurePolicy: Maybe",
            "authorizers[0].failurePolicy: Unsupported value: \"Maybe\": supported values: \"NoOpinion\", \"Deny\"",
        ),
        (
            "matchConditions: [{expression: 'true'}]",
            "authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are \
             specified",
        ),
        ("connectionInfo: {}", "authorizers[0].connectionInfo.type: Required value"),
        (
            "connectionInfo: {type: KubeConfigFile, kubeConfigFile: a}",
            "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"a\": must be an absolute path",
        ),
        (
            "connectionInfo: {type: KubeConfigFile, kubeConfigFile: /no/file}",
            "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"/no/file\": error loading file: stat \
             /no/file: no such file or directory",
        ),
        (
            "connectionInfo: {type: KubeConfigFile, kubeConfigFile: /etc}",
            "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"/etc\": must be a regular file",
        ),
        (
            "matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: request.user}]",
            "authorizers[0].matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to bool",
        ),
        (
            "matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: ' '}]",
            "authorizers[0].matchConditions[0].expression: Required value",
        ),
    ] {
        // The last of two equal keys counts.
        let text = webhook(with);
        let text = text.split("strict decoding error").next().unwrap_or(&text).to_owned();
        if text.contains("failed to load") {
            let name = with.split(':').next().unwrap();
            let right = ["timeout: 3s, ", "failurePolicy: Deny, ", "subjectAccessReviewVersion: v1, "];
            let left: String = right.iter().filter(|one| !one.starts_with(name)).copied().collect();
            let connection = "connectionInfo: {type: KubeConfigFile, kubeConfigFile: /etc/passwd}, ";
            let connection = if name == "connectionInfo" { "" } else { connection };
            let body = format!("authorizers:\n- type: Webhook\n  name: a\n  webhook: {{{left}{connection}{with}}}\n");
            assert_eq!(refused(&body), why, "{with}");
        } else {
            assert_eq!(text, why, "{with}");
        }
    }
}

#[test]
fn flags_are_checked_as_upstream_checks_them() {
    let of = |modes: &[&str], file: Option<&str>| {
        let modes = modes.iter().map(|mode| (*mode).to_owned()).collect();
        Configuration::of_flags(&Flags { modes, webhook_config_file: file.map(Into::into), ..Flags::default() })
    };
    let kinds = |read: Configuration| -> Vec<String> { read.authorizers.into_iter().map(|one| one.name).collect() };
    assert_eq!(kinds(of(&[], None).unwrap()), ["node", "rbac"]);
    assert_eq!(kinds(of(&["RBAC", "Webhook"], Some("/etc/passwd")).unwrap()), ["rbac", "webhook"]);
    for (modes, file, why) in [
        (&["Foo"][..], None, "authorization-mode \"Foo\" is not a valid mode"),
        (&["Webhook"], None, "authorization-mode Webhook's authorization config file not passed"),
        (&["RBAC"], Some("/x"), "cannot specify --authorization-webhook-config-file without mode Webhook"),
        (&["RBAC", "RBAC"], None, "authorization-mode [\"RBAC\" \"RBAC\"] has mode specified more than once"),
    ] {
        assert_eq!(of(modes, file).unwrap_err(), why);
    }
}
