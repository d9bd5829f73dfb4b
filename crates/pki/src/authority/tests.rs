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
    assert_eq!(loaded.ca().spki_hash(), made.ca().spki_hash());
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
    assert!(server.cert_pem().ends_with(authority.ca().cert_pem()), "the chain holds the CA");

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
    let server = authority.identity(Leaf::Server);
    let old = server.identity();
    assert_eq!(authority.renew(now() + 200 * DAY).unwrap(), []);
    let due = authority.renewal_time();
    let renewed = authority.renew(due).unwrap();
    assert_eq!(renewed.len(), Leaf::ALL.len());
    assert!(renewed.iter().all(|(_, reason)| *reason == Reason::Expiring));
    assert_ne!(server.identity().certificate().serial, old.certificate().serial);
    assert!(authority.renewal_time() > due + 200 * DAY);
    assert_eq!(authority.renew(due).unwrap(), []);
    let on_disk = Identity::load(&dir.path().join("server.crt"), &dir.path().join("server.key")).unwrap();
    assert_eq!(on_disk.certificate(), server.identity().certificate());
    authority.rotate(due).unwrap();
    assert_ne!(on_disk.certificate(), server.identity().certificate());
}

#[test]
fn a_ca_is_never_guessed_at() {
    let dir = tempfile::tempdir().unwrap();
    let open = |at| Authority::open_or_create(dir.path(), options(&[]), at);
    let hash = open(now()).unwrap().ca().spki_hash();
    let (cert, key) = (dir.path().join("ca.crt"), dir.path().join("ca.key"));
    let (cert_pem, key_pem) = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());

    // The first start was cut short after the key: the same CA, and everything that it signed still fits.
    fs::remove_file(&cert).unwrap();
    let before = contents(dir.path());
    assert_eq!(open(now()).unwrap().ca().spki_hash(), hash);
    assert_eq!(changed(&before, &contents(dir.path())), ["ca.crt"]);

    // Its certificate nears its end: the same key again.
    let authority = open(now() + 2500 * DAY).unwrap();
    assert_eq!(authority.ca().spki_hash(), hash);
    assert!(authority.ca().certificate().not_after > now() + 6000 * DAY);

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
