//! Rules: what matches, who seals, who opens, and what is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;

use super::*;

const SECRETS: Sealed<'_> = Sealed { group: "", resource: "secrets" };

fn key(fill: u8, len: usize) -> String {
    STANDARD.encode(vec![fill; len])
}

fn file(rules: &str) -> String {
    format!("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{rules}")
}

fn rules(text: &str) -> Rules {
    Rules::parse(&file(text)).unwrap()
}

fn secrets_with(providers: &str) -> Rules {
    rules(&format!("- {{resources: [secrets], providers: [{providers}]}}"))
}

/// Nothing here has a plugin to wait for.
fn open(rules: &Rules, key: &str, stored: &Bytes) -> Result<(Bytes, bool), String> {
    let opened = rules.open(SECRETS, key, stored).now_or_never().unwrap();
    opened.map_err(|why| why.to_string())
}

fn provider(word: &str, name: &str, fill: u8, len: usize) -> String {
    format!("{{{word}: {{keys: [{{name: {name}, secret: {:?}}}]}}}}", key(fill, len))
}

#[test]
fn every_provider_opens_what_it_sealed_at_its_place() {
    let path = "/registry/secrets/a/b";
    let plain = Bytes::from_static(b"{\"kind\":\"Secret\"}");
    let cases = [
        ("aesgcm", 16),
        ("aesgcm", 24),
        ("aesgcm", 32),
        ("aescbc", 16),
        ("aescbc", 24),
        ("aescbc", 32),
        ("secretbox", 32),
    ];
    for (word, len) in cases {
        let own = secrets_with(&provider(word, "k1", 7, len));
        let sealed = own.seal(SECRETS, path, &plain).unwrap();
        assert!(sealed.starts_with(format!("k8s:enc:{word}:v1:k1:").as_bytes()));
        assert!(!sealed.windows(6).any(|window| window == b"Secret"));
        assert_eq!(open(&own, path, &sealed).unwrap(), (plain.clone(), false), "{word} {len}");
        if word == "aesgcm" {
            assert!(open(&own, "/registry/secrets/a/c", &sealed).is_err(), "moved to another object");
        }
        let other = secrets_with(&provider(word, "k1", 8, len));
        // CBC authenticates nothing: another key may find padding by chance, but never the text.
        let opened = open(&other, path, &sealed);
        assert!(opened.is_err() || (word == "aescbc" && opened.unwrap().0 != plain), "another key of the same name");
        let renamed = secrets_with(&provider(word, "k2", 7, len));
        let why = open(&renamed, path, &sealed).unwrap_err();
        assert!(why.starts_with("no matching key was found for the provided "), "{why}");
        let first = provider("aesgcm", "new", 9, 32);
        let both = secrets_with(&format!("{first}, {}, {{identity: {{}}}}", provider(word, "k1", 7, len)));
        assert_eq!(open(&both, path, &sealed).unwrap(), (plain.clone(), true), "stale");
        assert_eq!(open(&both, path, &plain).unwrap(), (plain.clone(), true), "never sealed");
        assert!(open(&own, path, &plain).is_err(), "without identity plain text is not read");
    }
    let identity = secrets_with("{identity: {}}");
    assert_eq!(open(&identity, path, &plain).unwrap(), (plain.clone(), false));
    let why = open(&identity, path, &Bytes::from_static(b"k8s:enc:aesgcm:v1:k:x")).unwrap_err();
    assert_eq!(why, "identity transformer tried to read encrypted data");
}

#[test]
fn the_first_rule_that_matches_holds() {
    let one = provider("aesgcm", "one", 1, 32);
    let two = provider("aescbc", "two", 2, 32);
    let three = provider("secretbox", "three", 3, 32);
    let rules = rules(&format!(
        "- {{resources: [secrets, deployments.apps], providers: [{one}]}}\n\
         - {{resources: ['*.apps', '*.'], providers: [{two}]}}\n\
         - {{resources: [leases.coordination.k8s.io], providers: [{{identity: {{}}}}]}}\n\
         - {{resources: ['*.*'], providers: [{three}]}}"
    ));
    let by = |group, resource| {
        let sealed = rules.seal(Sealed { group, resource }, "k", &Bytes::from_static(b"{}")).unwrap();
        String::from_utf8_lossy(&sealed).split(':').nth(4).unwrap_or("identity").to_owned()
    };
    assert_eq!((by("", "secrets"), by("apps", "deployments")), ("one".to_owned(), "one".to_owned()));
    assert_eq!((by("apps", "daemonsets"), by("", "configmaps")), ("two".to_owned(), "two".to_owned()));
    assert_eq!(by("coordination.k8s.io", "leases"), "identity");
    assert_eq!(by("example.com", "widgets"), "three");
    assert!(!Rules::none().concerns(SECRETS) && rules.concerns(SECRETS));
}

#[test]
fn wrong_configurations_are_refused_in_upstreams_words() {
    let say = |text: &str| Rules::parse(&file(text)).map(drop).unwrap_err();
    let of = |resources: &str| say(&format!("- {{resources: [{resources}], providers: [{{identity: {{}}}}]}}"));
    let with = |providers: &str| say(&format!("- {{resources: [secrets], providers: [{providers}]}}"));
    assert_eq!(say("  []"), "resources: Required value: at least one resources is required");
    assert_eq!(of(""), "resources[0].resources: Required value: at least one resources[0].resources is required");
    assert_eq!(
        of("Secrets"),
        "resources[0].resources[0]: Invalid value: \"Secrets\": resource name should not contain capital letters"
    );
    assert_eq!(
        of("'*'"),
        "resources[0].resources[0]: Invalid value: \"*\": use '*.' to encrypt all the resources from core API group \
         or *.* to encrypt all resources"
    );
    assert_eq!(
        of("'pods.*'"),
        "resources[0].resources[0]: Invalid value: \"pods.*\": encrypting the same resource across groups is not \
         supported"
    );
    assert!(of("secrets, secrets").ends_with("the same resource cannot be specified multiple times"));
    assert!(of("secrets, '*.'").contains("using overlapping resources such as 'secrets' and '*.'"));
    assert!(of("events.events.k8s.io").contains("Use 'events' instead in the config file"));
    assert!(of("serviceipallocations").ends_with("resources which do not have REST API/s cannot be encrypted"));
    assert_eq!(with(""), "resources[0].providers: Required value: at least one resources[0].providers is required");
    assert_eq!(
        with("{}"),
        "resources[0].providers[0]: Invalid value: {}: provider does not contain any of the expected providers: KMS, \
         AESGCM, AESCBC, Secretbox, Identity"
    );
    let short = format!("{{aesgcm: {{keys: [{{name: a, secret: {:?}}}]}}}}", key(1, 20));
    assert_eq!(
        with(&short),
        "resources[0].providers[0].aesgcm.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected \
         length, got 20, expected one of [16 24 32]"
    );
    assert!(with("{secretbox: {keys: [{name: a, secret: '%%'}]}}").ends_with("secrets must be base64 encoded"));
    assert!(with("{aescbc: {keys: []}}").ends_with("keys: Required value: at least one keys is required"));
    assert!(with("{aescbc: {keys: [{secret: x}]}}").contains("name is a mandatory field for a key"));
    let two = format!("{{identity: {{}}, {}", &provider("aesgcm", "a", 1, 32)[1..]);
    assert!(with(&two).contains("more than one provider specified in a single element"));
    assert!(with("{kms: {name: a, endpoint: 'unix:///k'}}").contains("providers[0].kms.apiVersion: Forbidden: KMSv1"));
    let kms = "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///k'}}";
    assert!(with(&format!("{kms}, {kms}")).contains("providers[1].kms.name: Invalid value: \"a\": duplicate KMS"));
    assert!(with("{rot13: {}}").starts_with("strict decoding error: unknown field"));
    let leaky = with("{aesgcm: {keys: [{name: a, secret: [hush]}]}}");
    assert!(!leaky.contains("hush"), "{leaky}");
    assert!(Rules::parse("kind: Policy").map(drop).unwrap_err().starts_with("no kind \"Policy\""));
}

#[test]
fn what_the_key_file_sealed_is_read_under_a_configuration() {
    let keys = KeyFile::generate().unwrap();
    let path = "/registry/secrets/a/b";
    let plain = Bytes::from_static(b"{}");
    let sealed = keys.rules().seal(SECRETS, path, &plain).unwrap();
    let new = secrets_with(&provider("secretbox", "k", 7, 32)).also_reading(keys.rules());
    assert_eq!(open(&new, path, &sealed).unwrap(), (plain.clone(), true));
    assert_eq!(open(&new, path, &plain).unwrap(), (plain.clone(), true));
    let silent = rules("- {resources: [configmaps], providers: [{identity: {}}]}").also_reading(keys.rules());
    assert_eq!(open(&silent, path, &sealed).unwrap(), (plain.clone(), true));
    assert_eq!(silent.seal(SECRETS, path, &plain).unwrap(), plain, "as the configuration has it");
}
