//! An API server alone on a port, with its state in memory: for trying things by hand and for measuring.
//!
//! `cargo run -p pintle-apiserver --example serve -- 127.0.0.1:6443 /tmp/kubeconfig [/store/dir]`

use std::path::Path;
use std::time::Duration;

use apiserver::http::Listener;
use apiserver::{Options, Server};
use base::{Clock, TaskGroup};
use pki::tls::Reloadable;

type AnyError = Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, kubeconfig, rest @ ..] = arguments.as_slice() else {
        return Err("usage: ADDRESS FILE [DIR]".into());
    };
    let clock = Clock::system();
    let tasks = TaskGroup::new();
    let valid = Duration::from_secs(86_400);
    let ca = pki::Ca::generate("pintle-ca", clock.now(), valid)?;
    let listener = Listener::bind(address.parse()?).await?;
    let request = pki::Request {
        common_name: "kube-apiserver".to_owned(),
        organizations: Vec::new(),
        dns_names: vec!["localhost".to_owned()],
        ip_addresses: vec![listener.address().ip()],
        usage: pki::Usage::Server,
        valid,
    };
    let identity = Reloadable::new(ca.issue(&request, clock.now())?);
    let tls = pki::tls::server_config(identity, Some(ca.cert_pem()), clock)?;
    let admin = ca.issue(&pki::Request::client("admin", &["system:masters"], valid), clock.now())?;
    let url = format!("https://{}", listener.address());
    pki::Kubeconfig::new(&url, ca.cert_pem(), "pintle", "admin").with_identity(admin).save(Path::new(kubeconfig))?;
    let store = match rest {
        [dir, ..] => store::Store::open(store::Options::new(dir), clock, tasks.clone()).await?,
        [] => store::Store::memory(),
    };
    let server = Server::start(store, Options::default(), tasks.clone()).await?;
    listener.serve(server, tls, 10_000, &tasks);
    tokio::signal::ctrl_c().await?;
    tasks.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
