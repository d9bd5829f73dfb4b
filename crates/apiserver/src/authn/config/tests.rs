//! Tests of `config` and of the mappings it makes.

use serde_json::json;

use super::*;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
const OWN: &str = "https://own.example";

fn read(body: &str) -> Result<Configuration, String> {
    Configuration::decode(format!("{HEAD}{body}").as_bytes(), &[OWN.to_owned()])
}

/// One issuer with these fields in flow style.
fn jwt(issuer: &str, mappings: &str, rest: &str) -> String {
    format!("jwt: [{{issuer: {{{issuer}}}, claimMappings: {{{mappings}}}{rest}}}]\n")
}

const ISSUER: &str = "url: 'https://a.example', audiences: [me]";
const NAME: &str = "username: {claim: sub, prefix: ''}";

#[test]
fn wrong_files_are_refused_in_upstreams_words() {
    let cases = [
        (jwt("audiences: [me]", NAME, ""), "jwt[0].issuer.url: Required value"),
        (
            jwt("url: 'http://a', audiences: [me]", NAME, ""),
            "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https",
        ),
        (
            jwt("url: 'https://u@a?b=c#d', audiences: [me]", NAME, ""),
            "[jwt[0].issuer.url: Invalid value: \"https://u@a?b=c#d\": URL must not contain a username or password, \
             jwt[0].issuer.url: Invalid value: \"https://u@a?b=c#d\": URL must not contain a query, \
             jwt[0].issuer.url: Invalid value: \"https://u@a?b=c#d\": URL must not contain a fragment]",
        ),
        (
            jwt(&format!("url: '{OWN}', audiences: [me]"), NAME, ""),
            "jwt[0].issuer.url: Invalid value: \"https://own.example\": URL must not overlap with disallowed issuers: \
             [https://own.example]",
        ),
        (
            jwt("url: 'https://a'", NAME, ""),
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        ),
        (
            jwt("url: 'https://a', audiences: [b, c]", NAME, ""),
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple \
             audiences",
        ),
        (
            jwt("url: 'https://a', discoveryURL: 'https://a/', audiences: [b]", NAME, ""),
            "jwt[0].issuer.discoveryURL: Invalid value: \"https://a/\": discoveryURL must be different from URL",
        ),
        (jwt(ISSUER, "", ""), "jwt[0].claimMappings.username: Required value: claim or expression is required"),
        (
            jwt(ISSUER, "username: {claim: sub}", ""),
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set \
             to an empty string to disable prefixing",
        ),
        (
            jwt(ISSUER, "username: {expression: claims.email}", ""),
            "jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must be \
             used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or \
             claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
        ),
        (
            jwt(ISSUER, &format!("{NAME}, extra: [{{key: 'a.k8s.io/x', valueExpression: claims.x}}]"), ""),
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"a.k8s.io/x\": k8s.io, kubernetes.io and their \
             subdomains are reserved for Kubernetes use",
        ),
        (
            jwt(ISSUER, NAME, ", claimValidationRules: [{expression: claims.x + 'a'}]"),
            "jwt[0].claimValidationRules[0].expression: Invalid value: \"claims.x + 'a'\": must evaluate to bool",
        ),
        (
            jwt(ISSUER, NAME, ", userValidationRules: [{message: x}]"),
            "jwt[0].userValidationRules[0].expression: Required value",
        ),
        (
            "anonymous: {enabled: false, conditions: [{path: /livez}]}\n".to_owned(),
            "anonymous.conditions: Invalid value: [{\"path\":\"/livez\"}]: enabled should be set to true when \
             conditions are defined",
        ),
        (
            "jwt: [{issuer: {uri: x}}]\n".to_owned(),
            "failed to load AuthenticationConfiguration from file: strict decoding error: unknown field \
             \"jwt[0].issuer.uri\"",
        ),
    ];
    for (body, why) in cases {
        assert_eq!(read(&body).map(|_| ()).unwrap_err(), why, "{body}");
    }
    let one = format!("- {{issuer: {{{ISSUER}}}, claimMappings: {{{NAME}}}}}\n");
    let twice = format!("jwt:\n{one}{one}");
    assert_eq!(read(&twice).map(|_| ()).unwrap_err(), "jwt[1].issuer.url: Duplicate value: \"https://a.example\"");
}

#[test]
fn claims_become_a_caller() {
    let body = jwt(
        ISSUER,
        "username: {expression: \"claims.email_verified ? claims.email : 'nobody'\"}, groups: {claim: roles, prefix: \
         'x:'}, uid: {claim: sub}, extra: [{key: 'a.example/tenant', valueExpression: claims.tenant}]",
        ", claimValidationRules: [{claim: hd, requiredValue: example.com}, {expression: 'claims.exp - claims.iat <= \
         3600', message: too long}], userValidationRules: [{expression: \"!user.username.startsWith('system:')\", \
         message: reserved}]",
    );
    let read = read(&body).unwrap();
    let mapping = &read.issuers[0].mapping;
    let claims = |with: serde_json::Value| {
        let mut all = json!({
            "sub": "7", "email": "a@b", "email_verified": true, "roles": ["r1", "r2"], "tenant": ["t", ""],
            "hd": "example.com", "iat": 0, "exp": 3600, "jti": "j"
        });
        all.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        all
    };
    let caller = mapping.caller(&claims(json!({}))).unwrap();
    assert_eq!((caller.name.as_str(), caller.uid.as_str()), ("a@b", "7"));
    assert_eq!(caller.groups, ["x:r1", "x:r2", "system:authenticated"]);
    assert_eq!(caller.extra["a.example/tenant"], ["t"]);
    assert_eq!(caller.extra["authentication.kubernetes.io/credential-id"], ["JTI=j"]);
    for (with, why) in [
        (json!({"hd": "x"}), "oidc: required claim hd value does not match. Got = x, want = example.com"),
        (json!({"exp": 3601}), "claims.exp - claims.iat <= 3600' failed: too long"),
        (json!({"email": "system:admin"}), "failed: reserved"),
        (json!({"email": 7}), "username claim expression must return a string"),
        (json!({"roles": 7}), "oidc: parse groups claim \"roles\""),
    ] {
        let refused = mapping.caller(&claims(with)).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn flags_make_an_issuer() {
    let flags = Flags {
        issuer_url: Some("https://a".into()),
        client_id: Some("me".into()),
        groups_claim: Some("g".into()),
        required_claims: vec!["hd=example.com".into()],
        ..Flags::default()
    };
    let of = |flags: &Flags| Configuration::of_flags(flags, &[]);
    let made = of(&flags).unwrap();
    let claims = json!({"sub": "jane", "g": "dev", "hd": "example.com"});
    let caller = made.issuers[0].mapping.caller(&claims).unwrap();
    assert_eq!((caller.name.as_str(), caller.groups[0].as_str()), ("https://a#jane", "dev"));
    assert_eq!(made.issuers[0].algorithms, ["RS256"]);
    assert!(of(&Flags::default()).unwrap().issuers.is_empty());
    for (flags, why) in [
        (
            Flags { client_id: None, ..flags.clone() },
            "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set",
        ),
        (Flags { signing_algs: vec!["none".into()], ..flags.clone() }, "oidc: unsupported signing alg: \"none\""),
        (
            Flags { issuer_url: Some("http://a".into()), ..flags.clone() },
            "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https",
        ),
    ] {
        assert_eq!(of(&flags).map(|_| ()).unwrap_err(), why);
    }
}

#[test]
fn anonymous_only_where_it_is_said() {
    let read = |body: &str| read(body).unwrap().anonymous.unwrap();
    let some = read("anonymous: {enabled: true, conditions: [{path: /livez}]}\n");
    assert!(some.allows("/livez") && !some.allows("/livez/") && !some.allows("/version"));
    assert!(read("anonymous: {enabled: true}\n").allows("/version"));
    assert!(!read("anonymous: {enabled: false}\n").allows("/livez"));
}
