//! `pintle certs`: what there is and how long it lasts.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base::Clock;

use crate::cli::CertsArgs;
use crate::layout::Layout;

pub fn run(arguments: &CertsArgs) -> Result<ExitCode> {
    if arguments.action == "rotate" {
        eprintln!(
            "pintle certs rotate: not built yet: certificates are renewed by themselves in the last third of their life"
        );
        return Ok(ExitCode::from(2));
    }
    let directory = Layout::new(&arguments.place.data_dir).pki();
    let files = std::fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut rows = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "crt") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let certificate = pki::Certificate::from_pem(&text).with_context(|| format!("reading {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        rows.push((name, certificate));
    }
    if rows.is_empty() {
        bail!("{} holds no certificate: has `pintle server` been started with this data dir?", directory.display());
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let now = Clock::system().now();
    println!("{:<28} {:<32} {:<22} DAYS LEFT", "FILE", "SUBJECT", "EXPIRES");
    for (name, certificate) in rows {
        let left = certificate.not_after.duration_since(now).as_hours() / 24;
        println!("{name:<28} {:<32} {:<22} {left}", certificate.common_name, certificate.not_after.to_string());
    }
    Ok(ExitCode::SUCCESS)
}
