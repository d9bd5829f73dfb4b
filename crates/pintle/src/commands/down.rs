//! `pintle down`: the opposite of a node's start. Stops the pods, the private containerd, and takes out of the kernel
//! whatever carries this instance's name.

use std::process::ExitCode;

use anyhow::Result;

use super::block_on;
use crate::cli::DownArgs;
use crate::layout::Layout;
use crate::{agent, node_wiring};

pub fn run(arguments: &DownArgs) -> Result<ExitCode> {
    // A running agent would put back what is taken away; none starts meanwhile.
    let layout = Layout::new(&arguments.place.data_dir);
    let _agent = layout.agent_lock().exists().then(|| agent::lock(&layout)).transpose()?;
    block_on(async {
        node_wiring::down(&arguments.place).await?;
        Ok(ExitCode::SUCCESS)
    })
}
