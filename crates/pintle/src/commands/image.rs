//! `pintle image`: archives into the runtime's store, without a registry.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use cri::Runtime;

use super::block_on;
use crate::cli::{ImageAction, Place};
use crate::node_wiring;

pub fn run(action: ImageAction) -> Result<ExitCode> {
    match action {
        ImageAction::Import { place, runtime, files } => block_on(async {
            let runtime = connect(&place, runtime.as_deref()).await?;
            for file in files {
                import(&runtime, &file).await?;
            }
            Ok(ExitCode::SUCCESS)
        }),
        ImageAction::List { place, runtime } => block_on(async {
            let runtime = connect(&place, runtime.as_deref()).await?;
            for name in runtime.image_names().await? {
                println!("{name}");
            }
            Ok(ExitCode::SUCCESS)
        }),
    }
}

async fn connect(place: &Place, runtime: Option<&str>) -> Result<Runtime> {
    let endpoint = match runtime {
        Some(endpoint) => endpoint.to_owned(),
        None => node_wiring::private_endpoint(place)?,
    };
    Runtime::connect(&endpoint).await.with_context(|| format!("the container runtime at {endpoint}"))
}

async fn import(runtime: &Runtime, file: &Path) -> Result<()> {
    let archive = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let base_name = format!("localhost/{}", file.file_stem().unwrap_or_default().to_string_lossy());
    let names = runtime
        .import_image(archive.into(), &base_name)
        .await
        .with_context(|| format!("importing {}", file.display()))?;
    for name in names {
        println!("{name}");
    }
    Ok(())
}
