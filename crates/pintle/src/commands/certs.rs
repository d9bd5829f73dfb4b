//! `pintle certs`: what there is and how long it lasts, and its replacement while the server serves.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base::Clock;
use pki::Certificate;
use serde_json::Value;

use super::{block_on, status};
use crate::cli::CertsArgs;
use crate::layout::Layout;

pub fn run(arguments: &CertsArgs) -> Result<ExitCode> {
    let layout = Layout::new(&arguments.place.data_dir);
    if arguments.action == "rotate" {
        return block_on(rotate(&layout, arguments.ca.as_deref()));
    }
    if arguments.ca.is_some() {
        bail!("--ca goes with `pintle certs rotate`");
    }
    list(&layout.pki())
}

async fn rotate(layout: &Layout, ca: Option<&str>) -> Result<ExitCode> {
    let https = status::transport(layout)?;
    let path = match ca {
        None => "/pintle/certs/rotate".to_owned(),
        Some(step) => format!("/pintle/certs/rotate?ca={step}"),
    };
    let answer = https.post_path(&path).await?;
    let done: Value = serde_json::from_slice(&answer).context("the server's answer")?;
    for name in done["issued"].as_array().into_iter().flatten() {
        println!("{} issued anew", name.as_str().unwrap_or_default());
    }
    println!("{}", done["words"].as_str().unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}

fn list(directory: &Path) -> Result<ExitCode> {
    let files = std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut rows = Vec::new();
    for file in files {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A joined node's certificates are beside their keys.
        if !name.ends_with(".crt") && !name.ends_with("-current.pem") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let certificate = Certificate::from_pem(&text).with_context(|| format!("reading {}", path.display()))?;
        rows.push((name, certificate));
    }
    if rows.is_empty() {
        bail!(
            "{} holds no certificate: has `pintle server` (or agent) been started with this data dir?",
            directory.display()
        );
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let now = Clock::system().now();
    println!("{:<24} {:<30} {:<22} {:<22} LEFT", "FILE", "SUBJECT", "RENEWED", "EXPIRES");
    for (name, certificate) in &rows {
        // A CA that signs no more, or elsewhere, is not renewed here.
        let renewed = match name.as_str() {
            "ca-old.crt" | "front-proxy-ca-old.crt" | "server-ca.crt" => "-".to_owned(),
            // Some time between 70 and 90 % of its life.
            _ if name.ends_with("-current.pem") => node::certificate::renewal_time(certificate, 0.0).to_string(),
            _ => certificate.renewal_time().to_string(),
        };
        let (subject, end) = (&certificate.common_name, certificate.not_after);
        let left = left(end.as_second() - now.as_second());
        println!("{name:<24} {subject:<30} {renewed:<22} {:<22} {left}", end.to_string());
    }
    let has = |wanted: &str| rows.iter().any(|(name, _)| name == wanted);
    if has("ca-next.crt") {
        println!("\nThe CAs are being replaced: the next ones are trusted. Next: `pintle certs rotate --ca switch`");
    } else if has("ca-old.crt") {
        println!("\nThe old CAs sign no more and are still trusted. To end that: `pintle certs rotate --ca retire`");
    }
    Ok(ExitCode::SUCCESS)
}

/// As kubectl shows ages.
fn left(seconds: i64) -> String {
    match seconds {
        ..0 => "expired".to_owned(),
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
