//! `pintle secrets rotate`: a new key, and everything sealed anew by it, while the server serves.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{block_on, status};
use crate::cli::{SecretsAction, SecretsArgs};
use crate::layout::Layout;

pub fn run(arguments: &SecretsArgs) -> Result<ExitCode> {
    let SecretsAction::Rotate { place } = &arguments.action;
    block_on(async {
        let https = status::transport(&Layout::new(&place.data_dir))?;
        let answer = https.post_path("/pintle/secrets/rotate").await?;
        let done: Value = serde_json::from_slice(&answer).context("the server's answer")?;
        for (resource, count) in done["resealed"].as_object().into_iter().flatten() {
            println!("{count} {resource} sealed anew");
        }
        println!("{} stored objects looked at", done["checked"]);
        println!("{}", done["keys"].as_str().unwrap_or_default());
        Ok(ExitCode::SUCCESS)
    })
}
