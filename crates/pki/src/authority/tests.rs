//! A data directory over its life: made, loaded, changed, damaged, renewed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn options(extra: &[&str]) -> Options {
    let extra: Vec<String> = extra.iter().map(|name| (*name).to_owned()).collect();
    let (service, host) = ("10.43.0.1".parse().unwrap(), "192.0.2.7".parse().unwrap());
    Options::new("cluster.local", &[service], "host-1", &[host], &extra)
}

fn ca_of(authority: &Authority) -> Ca {
    authority.cluster().issuer().ca()
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn changed(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    after.iter().filter(|(name, bytes)| before.get(*name) != Some(bytes)).map(|(name, _)| name.clone()).collect()
}

#[test]
fn the_servers_names_are_upstreams() {
    let options = options(&["api.example", "198.51.100.1", "host-1", "10.43.0.1"]);
    assert_eq!(
        options.dns_names,
        [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            "host-1",
            "kubernetes.default.svc.cluster.local",
            "api.example"
        ]
    );
    let addresses: Vec<String> = options.ip_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1", "::1", "10.43.0.1", "192.0.2.7", "198.51.100.1"]);
}

#[test]
fn what_is_made_once_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let made = Authority::open_or_create(&pki, options(&[]), now()).unwrap();
    let before = contents(&pki);
    let names: Vec<&str> = before.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "admin.crt",
            "admin.key",
            "ca.crt",
            "ca.key",
            "front-proxy-ca.crt",
            "front-proxy-ca.key",
            "front-proxy-client.crt",
            "front-proxy-client.key",
            "kubelet-client.crt",
            "kubelet-client.key",
            "sa.key",
            "sa.pub",
            "server.crt",
            "server.key"
        ]
    );
    for name in names.iter().filter(|name| name.ends_with(".key")) {
        assert_eq!(fs::metadata(pki.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(&pki).unwrap().permissions().mode() & 0o777, 0o700);
    let loaded = Authority::open_or_create(&pki, options(&[]), now() + 100 * DAY).unwrap();
    assert_eq!(changed(&before, &contents(&pki)), [""; 0]);
    assert_eq!(ca_of(&loaded).spki_hash(), ca_of(&made).spki_hash());
    assert_eq!(loaded.service_account_keys(), made.service_account_keys());
    assert_eq!(loaded.certificates().len(), 6);
    let admin = loaded.admin_kubeconfig("https://192.0.2.7:6443", "pintle").identity.unwrap();
    assert_eq!(admin.certificate().organizations, ["system:masters"]);
}

#[test]
fn only_what_no_longer_fits_is_issued_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = |extra: &[&str], at| Authority::open_or_create(dir.path(), options(extra), at).unwrap();
    open(&[], now());
    let before = contents(dir.path());
    let authority = open(&["api.example"], now());
    assert_eq!(changed(&before, &contents(dir.path())), ["server.crt", "server.key"]);
    let server = authority.identity(Leaf::Server).identity();
    assert!(server.certificate().dns_names.contains(&"api.example".to_owned()));
    assert!(server.certificate().ip_addresses.contains(&"10.43.0.1".parse().unwrap()));
    assert!(server.cert_pem().ends_with(ca_of(&authority).cert_pem()), "the chain holds the CA");

    // A crash between writing a key and its certificate, and a certificate cut short.
    let before = contents(dir.path());
    fs::write(dir.path().join("admin.key"), PrivateKey::generate().unwrap().to_pem().as_bytes()).unwrap();
    fs::write(dir.path().join("kubelet-client.crt"), "-----BEGIN CERT").unwrap();
    open(&["api.example"], now());
    let issued = ["admin.crt", "admin.key", "kubelet-client.crt", "kubelet-client.key"];
    assert_eq!(changed(&before, &contents(dir.path())), issued);

    // Two thirds of a year later all of them are due, the CAs are not.
    let before = contents(dir.path());
    open(&["api.example"], now() + 250 * DAY);
    let issued = changed(&before, &contents(dir.path()));
    assert_eq!(issued.len(), 8);
    assert!(issued.iter().all(|name| !name.contains("ca.") && !name.starts_with("sa.")), "{issued:?}");
}

#[test]
fn renewal_replaces_identities_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), options(&[]), now()).unwrap();
    let node = Request { usage: Usage::Server, ..Request::client("system:node:n1", &["system:nodes"], DAY) };
    let node = authority.also("kubelet", node, now()).unwrap();
    let server = authority.identity(Leaf::Server);
    let old = [server.identity(), node.identity()];
    assert!(authority.keep(now() + 200 * DAY).unwrap().is_empty());
    let due = authority.next_time();
    let kept = authority.keep(due).unwrap();
    assert_eq!(kept.issued.len(), Leaf::ALL.len() + 1);
    assert!(kept.issued.iter().all(|(_, reason)| *reason == Reason::Expiring) && !kept.trust);
    assert_ne!(server.identity().certificate().serial, old[0].certificate().serial);
    assert_ne!(node.identity().certificate().serial, old[1].certificate().serial);
    assert!(authority.next_time() > due + 200 * DAY);
    assert!(authority.keep(due).unwrap().is_empty());
    let on_disk = |name: &str| {
        let path = |extension: &str| dir.path().join(format!("{name}.{extension}"));
        Identity::load(&path("crt"), &path("key")).unwrap()
    };
    let before = on_disk("server");
    assert_eq!(before.certificate(), server.identity().certificate());
    assert_eq!(on_disk("kubelet").certificate(), node.identity().certificate());
    assert!(authority.rotate(due).unwrap().issued.iter().all(|(_, reason)| *reason == Reason::Asked));
    assert_ne!(before.certificate(), server.identity().certificate());
}

/// A life of seconds is renewed before its end, and not at once.
#[test]
fn short_lives_are_renewed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let short = Options { valid: Duration::from_secs(12), ..options(&[]) };
    let authority = Authority::open_or_create(dir.path(), short, now()).unwrap();
    let mut at = now();
    for _ in 0..5 {
        let due = authority.next_time();
        assert!(due >= at + Duration::from_secs(7) && due <= at + Duration::from_secs(9), "{at} {due}");
        assert_eq!(authority.keep(due).unwrap().issued.len(), Leaf::ALL.len());
        at = due;
    }
    // Who is told of a shorter life than certificates have issues them again.
    Authority::open_or_create(dir.path(), options(&[]), at + 20 * DAY).unwrap();
    let before = contents(dir.path());
    let shorter = Options { valid: 30 * DAY, ..options(&[]) };
    Authority::open_or_create(dir.path(), shorter, at + 21 * DAY).unwrap();
    assert_eq!(changed(&before, &contents(dir.path())).len(), 2 * Leaf::ALL.len());
}

#[test]
fn cas_are_replaced_step_by_step() {
    let dir = tempfile::tempdir().unwrap();
    let open = |at| Authority::open_or_create(dir.path(), options(&[]), at).unwrap();
    let authority = open(now());
    let refused = |error: Result<Changes>| error.unwrap_err().to_string();
    assert_eq!(refused(authority.switch_cas(now())), "no new CA has been introduced");
    assert_eq!(refused(authority.retire_cas()), "there is no old CA to retire");
    let (old_ca, old_front) = (ca_of(&authority), authority.front_proxy().issuer().ca());
    let old_admin = authority.identity(Leaf::Admin).identity();
    let chain = |identity: &Identity| crate::pem::certificates(identity.cert_pem()).unwrap();
    let trusted = |authority: &Authority, identity: &Identity, at| {
        authority.clients().verify_client(&chain(identity), at).is_ok()
    };

    // Introduced: trusted, and nothing is signed by it.
    let changes = authority.introduce_cas(now()).unwrap();
    assert!(changes.trust && changes.issued.is_empty());
    assert_eq!(authority.stage(), Stage::Introduced);
    assert_eq!(ca_of(&authority).spki_hash(), old_ca.spki_hash());
    assert!(authority.keep(now()).unwrap().is_empty());
    assert!(refused(authority.introduce_cas(now())).contains("wait to sign"));
    let kubeconfig = authority.admin_kubeconfig("https://192.0.2.7:6443", "pintle");
    assert_eq!(kubeconfig.ca_pem.unwrap().matches("BEGIN").count(), 2);
    assert_eq!(authority.clients().pem().matches("BEGIN").count(), 4);

    // Switched, after a restart: everything is the new one's, and what the old one signed still counts.
    let authority = open(now() + DAY);
    assert_eq!(authority.stage(), Stage::Introduced);
    let changes = authority.switch_cas(now() + DAY).unwrap();
    assert!(changes.issued.iter().all(|(_, reason)| *reason == Reason::OtherAuthority));
    assert_eq!(changes.issued.len(), Leaf::ALL.len());
    let until = now() + DAY + VALID;
    assert_eq!(authority.stage(), Stage::Switched { until });
    assert_ne!(ca_of(&authority).spki_hash(), old_ca.spki_hash());
    assert_ne!(authority.front_proxy().issuer().ca().spki_hash(), old_front.spki_hash());
    assert_eq!(ca_of(&authority).certificate().common_name, "kubernetes");
    let new_admin = authority.identity(Leaf::Admin).identity();
    assert!(trusted(&authority, &old_admin, now() + DAY) && trusted(&authority, &new_admin, now() + DAY));
    assert!(!dir.path().join("ca-next.key").exists() && !dir.path().join("ca-old.key").exists());

    // Retired by itself when the last certificate has ended, also after a restart.
    let authority = open(now() + 2 * DAY);
    assert_eq!(authority.stage(), Stage::Switched { until });
    assert!(!authority.keep(until - Duration::from_secs(1)).unwrap().trust);
    assert!(authority.keep(until).unwrap().trust);
    assert_eq!(authority.stage(), Stage::Settled);
    assert_eq!(authority.clients().pem().matches("BEGIN").count(), 2);
    assert!(!trusted(&authority, &old_admin, now() + 3 * DAY));

    // Or when somebody asks.
    authority.introduce_cas(until).unwrap();
    authority.switch_cas(until).unwrap();
    authority.retire_cas().unwrap();
    assert_eq!(authority.stage(), Stage::Settled);
    assert!(!dir.path().join("ca-old.crt").exists());
}

/// A crash at any point of a step leaves files with which the step can be taken again, or is done.
#[test]
fn a_step_that_was_cut_short_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let open = || Authority::open_or_create(dir.path(), options(&[]), now());
    open().unwrap().introduce_cas(now()).unwrap();
    let next = fs::read(at("ca-next.crt")).unwrap();

    // The old one is noted, nothing is moved yet.
    fs::copy(at("ca.crt"), at("ca-old.crt")).unwrap();
    let authority = open().unwrap();
    assert_eq!(authority.stage(), Stage::Introduced);
    assert_eq!(authority.cluster().trust().pem().matches("BEGIN").count(), 2);

    // The key is moved, the certificate is not.
    fs::rename(at("ca-next.key"), at("ca.key")).unwrap();
    let authority = open().unwrap();
    assert!(matches!(authority.cluster().stage(), Stage::Switched { .. }));
    assert_eq!(fs::read(at("ca.crt")).unwrap(), next);
    // The front proxy's has not taken the step: it does now.
    assert_eq!(authority.front_proxy().stage(), Stage::Introduced);
    authority.switch_cas(now()).unwrap();
    assert!(matches!(authority.front_proxy().stage(), Stage::Switched { .. }));
}

/// A CA's own certificate is signed again in its last third, while running.
#[test]
fn a_cas_certificate_is_renewed_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let short = Options { ca_valid: 30 * DAY, valid: DAY, ..options(&[]) };
    let authority = Authority::open_or_create(dir.path(), short, now()).unwrap();
    let before = ca_of(&authority);
    assert!(!authority.keep(now() + 19 * DAY).unwrap().trust);
    assert!(authority.keep(now() + 21 * DAY).unwrap().trust);
    let after = ca_of(&authority);
    assert_eq!(after.spki_hash(), before.spki_hash());
    assert!(after.certificate().not_after > before.certificate().not_after);
    assert!(authority.clients().pem().starts_with(after.cert_pem()));
}

#[test]
fn a_ca_is_never_guessed_at() {
    let dir = tempfile::tempdir().unwrap();
    let open = |at| Authority::open_or_create(dir.path(), options(&[]), at);
    let hash = ca_of(&open(now()).unwrap()).spki_hash();
    let (cert, key) = (dir.path().join("ca.crt"), dir.path().join("ca.key"));
    let (cert_pem, key_pem) = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());

    // The first start was cut short after the key: the same CA, and everything that it signed still fits.
    fs::remove_file(&cert).unwrap();
    let before = contents(dir.path());
    assert_eq!(ca_of(&open(now()).unwrap()).spki_hash(), hash);
    assert_eq!(changed(&before, &contents(dir.path())), ["ca.crt"]);

    // Its certificate nears its end: the same key again.
    let authority = open(now() + 2500 * DAY).unwrap();
    assert_eq!(ca_of(&authority).spki_hash(), hash);
    assert!(ca_of(&authority).certificate().not_after > now() + 6000 * DAY);

    fs::write(&cert, &cert_pem).unwrap();
    fs::remove_file(&key).unwrap();
    assert!(matches!(open(now()), Err(Error::Refused(_))));
    fs::write(&key, PrivateKey::generate().unwrap().to_pem().as_bytes()).unwrap();
    assert!(matches!(open(now()), Err(Error::Refused(_))));
    fs::write(&key, "damaged").unwrap();
    assert!(matches!(open(now()), Err(Error::Malformed { .. })));
    fs::write(&key, &key_pem).unwrap();
    assert!(open(now()).is_ok());

    // Another CA was put in place: what the old one signed is issued again.
    let before = contents(dir.path());
    Ca::generate("kubernetes", now(), CA_VALID).unwrap().save(&cert, &key).unwrap();
    open(now()).unwrap();
    let issued = changed(&before, &contents(dir.path()));
    assert!(issued.contains(&"server.crt".to_owned()) && !issued.contains(&"front-proxy-client.crt".to_owned()));
}

#[test]
fn a_retired_service_account_key_stays_known() {
    let dir = tempfile::tempdir().unwrap();
    let old = Authority::open_or_create(dir.path(), options(&[]), now()).unwrap();
    fs::remove_file(dir.path().join("sa.key")).unwrap();
    let new = Authority::open_or_create(dir.path(), options(&[]), now()).unwrap();
    let keys = [new.service_account_key().public_key().clone(), old.service_account_key().public_key().clone()];
    assert_eq!(new.service_account_keys(), keys);
    let again = Authority::open_or_create(dir.path(), options(&[]), now()).unwrap();
    assert_eq!(again.service_account_keys(), keys);
}
