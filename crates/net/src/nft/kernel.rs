//! Puts nftables scripts into the kernel through `nft`, and reads back what is there. Works on the network namespace of
//! the calling thread.

use super::{Names, delete};
use crate::{Error, Result, command};

/// Runs `script` as one transaction: all of it takes effect or none.
pub async fn apply(script: &str) -> Result<()> {
    command::run("nft", &["-f", "-"], script).await.map(drop).map_err(shorten)
}

/// Removes a table; fine if there is none.
pub async fn remove(table: &str) -> Result<()> {
    apply(&delete(table)).await
}

/// The names in a table of the kernel; `None` if there is no such table.
pub async fn names(table: &str) -> Result<Option<Names>> {
    let output = command::output("nft", &["-j", "-t", "list", "table", "inet", table], &[], "").await?;
    if output.success {
        return Ok(Names::parse(&output.stdout));
    }
    if output.stderr.contains("No such file or directory") {
        return Ok(None);
    }
    Err(Error::Command { command: format!("nft list table inet {table}"), message: output.stderr })
}

/// nft repeats the script around every error: the first lines say enough.
fn shorten(error: Error) -> Error {
    match error {
        Error::Command { command, message } if message.lines().count() > 12 => {
            Error::Command { command, message: message.lines().take(12).chain(["..."]).collect::<Vec<_>>().join("\n") }
        }
        other => other,
    }
}
