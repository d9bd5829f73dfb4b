//! The server's flags as they hold, for `/flagz`: every flag of the command line under its name, and upstream's flags
//! of what is fixed here or follows from the data dir.

use std::collections::BTreeMap;

use clap::{ArgMatches, CommandFactory};

use crate::cli::Cli;
use crate::server::Common;

/// Values that `/flagz` must not show.
const CLASSIFIED: &[&str] = &["token"];

/// Every flag of `pintle server` with its value: given, or by default.
pub fn of_command_line(matches: &ArgMatches) -> BTreeMap<String, String> {
    let cli = Cli::command();
    let Some(server) = cli.find_subcommand("server") else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for argument in server.get_arguments() {
        let Some(name) = argument.get_long() else { continue };
        let values = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
        let values: Vec<String> = values.map(|value| value.to_string_lossy().into_owned()).collect();
        let value = match values.is_empty() {
            false if CLASSIFIED.contains(&name) => "CLASSIFIED".to_owned(),
            _ => values.join(","),
        };
        all.insert(name.to_owned(), value);
    }
    all
}

/// Those of a server that is starting.
pub fn of_server(common: &Common, tls: &rustls::ServerConfig) -> BTreeMap<String, String> {
    let arguments = &common.arguments;
    let pki = common.layout.pki();
    let path = |name: &str| pki.join(name).display().to_string();
    let mut keys = vec![path("sa.key")];
    keys.extend(arguments.identity.service_account_key_file.iter().map(|path| path.display().to_string()));
    let suites = tls.crypto_provider().cipher_suites.iter();
    let suites: Vec<String> =
        suites.filter_map(|suite| Some(format!("{:?}", suite.tls13()?.common.suite))).map(upstream_name).collect();
    let log = arguments.audit.audit_log_path.clone();
    let log = log.unwrap_or_else(|| common.layout.audit_log().display().to_string());
    let bind = arguments.bind.ip();
    let kubelet = if bind.is_unspecified() { common.advertise_address } else { bind };
    let kubelet = std::net::SocketAddr::new(kubelet, arguments.node.kubelet_port);
    let name = arguments.node.node_name.clone();
    let holds = [
        ("advertise-address", common.advertise_address.to_string()),
        ("audit-log-path", log),
        ("bind-address", bind.to_string()),
        ("client-ca-file", path("ca.crt")),
        ("effective-kubelet-address", kubelet.to_string()),
        ("hostname-override", name.or_else(|| crate::node_wiring::default_name().ok()).unwrap_or_default()),
        ("kubelet-certificate-authority", path("ca.crt")),
        ("kubelet-client-certificate", path("kubelet-client.crt")),
        ("kubelet-client-key", path("kubelet-client.key")),
        ("requestheader-client-ca-file", path("front-proxy-ca.crt")),
        ("secure-port", common.port.to_string()),
        ("service-account-key-file", format!("[{}]", keys.join(","))),
        ("service-account-signing-key-file", path("sa.key")),
        ("service-cluster-ip-range", arguments.service_cidr.clone()),
        ("tls-cert-file", path("server.crt")),
        ("tls-cipher-suites", format!("[{}]", suites.join(","))),
        ("tls-min-version", "VersionTLS13".to_owned()),
        ("tls-private-key-file", path("server.key")),
    ];
    let mut all = arguments.flags.clone();
    all.extend(holds.map(|(name, value)| (name.to_owned(), value)));
    all
}

/// A cipher suite as Go names it: `TLS_AES_128_GCM_SHA256`.
fn upstream_name(name: String) -> String {
    name.replacen("TLS13_", "TLS_", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> BTreeMap<String, String> {
        let matches = Cli::command().get_matches_from(words);
        of_command_line(matches.subcommand_matches("server").unwrap())
    }

    #[test]
    fn every_flag_is_there_with_what_holds() {
        let flags = of(&["pintle", "server", "--no-agent", "--tls-san", "a", "--tls-san", "b", "--token", "hush"]);
        assert_eq!((flags["no-agent"].as_str(), flags["tls-san"].as_str()), ("true", "a,b"));
        assert_eq!((flags["bind"].as_str(), flags["audit-log-maxage"].as_str()), ("0.0.0.0:6443", "30"));
        assert_eq!((flags["token"].as_str(), flags["config"].as_str()), ("CLASSIFIED", ""));
        assert_eq!(of(&["pintle", "server"])["no-agent"], "false");
    }
}
