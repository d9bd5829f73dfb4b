//! `pintle down`: the opposite of a node's start. Stops the pods, the private containerd, and takes out of the kernel
//! whatever carries this instance's name.

use std::process::ExitCode;

use anyhow::Result;

use super::block_on;
use crate::cli::DownArgs;
use crate::node_wiring;

pub fn run(arguments: &DownArgs) -> Result<ExitCode> {
    block_on(async {
        node_wiring::down(&arguments.place).await?;
        Ok(ExitCode::SUCCESS)
    })
}
