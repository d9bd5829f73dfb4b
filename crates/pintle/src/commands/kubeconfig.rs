//! `pintle kubeconfig`: the admin's file as it is, or a new one for a user, signed by the cluster's CA.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base::Clock;
use pki::Kubeconfig;

use crate::cli::KubeconfigArgs;
use crate::layout::Layout;

pub fn run(arguments: &KubeconfigArgs) -> Result<ExitCode> {
    let layout = Layout::new(&arguments.place.data_dir);
    let path = layout.admin_kubeconfig();
    if !path.exists() {
        bail!("{} does not exist: has `pintle server` been started with this data dir?", path.display());
    }
    let admin = Kubeconfig::load(&path, None).with_context(|| format!("reading {}", path.display()))?;
    let server = arguments.server.clone().unwrap_or_else(|| admin.server.clone());
    let kubeconfig = match &arguments.user {
        None => Kubeconfig { server, ..admin },
        Some(user) => {
            let ca = pki::Ca::load(&layout.pki().join("ca.crt"), &layout.pki().join("ca.key"))
                .context("reading the cluster's CA")?;
            let groups: Vec<&str> = arguments.group.iter().map(String::as_str).collect();
            let request = pki::Request::client(user, &groups, pki::authority::VALID);
            let identity = ca.issue(&request, Clock::system().now())?;
            // Every CA that is trusted, as the admin has them: the one that signs may be replaced.
            let trusted = admin.ca_pem.as_deref().unwrap_or(ca.cert_pem());
            Kubeconfig::new(&server, trusted, "pintle", user).with_identity(identity)
        }
    };
    print!("{}", *kubeconfig.to_yaml()?);
    Ok(ExitCode::SUCCESS)
}
