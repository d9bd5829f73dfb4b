//! Runs the system's own tools (nft, ip, conntrack, CNI plugins): input on stdin, a time limit, output or a clear
//! error.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{Error, Result};

/// No tool this crate runs takes longer unless something is stuck.
const LIMIT: Duration = Duration::from_secs(30);

/// What a finished command left behind.
pub(crate) struct Output {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, trimmed.
    pub stderr: String,
}

/// Runs `program` to its end and returns its standard output; a non-zero exit is an error with what it printed.
pub(crate) async fn run(program: &str, args: &[&str], stdin: &str) -> Result<Vec<u8>> {
    let output = output(program, args, &[], stdin).await?;
    if output.success {
        return Ok(output.stdout);
    }
    let message = if output.stderr.is_empty() { "failed without a message".into() } else { output.stderr };
    Err(Error::Command { command: shown(program, args), message })
}

/// Runs `program` with extra environment variables and returns how it ended, whatever its exit status.
pub(crate) async fn output(program: &str, args: &[&str], env: &[(&str, &str)], stdin: &str) -> Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing {
                what: format!("the program {program:?}"),
                path: program.to_owned(),
                hint: format!("install the package that holds it ({})", package(program)),
            },
            _ => Error::Io { context: format!("starting {program}"), source },
        })?;
    let mut input = child.stdin.take().expect("stdin was asked for");
    let feed = async {
        // A tool that stops reading says why on its standard error: a broken pipe is not the error to show.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(LIMIT, both)
        .await
        .map_err(|_| Error::Command {
            command: shown(program, args),
            message: format!("did not end within {} s and was killed", LIMIT.as_secs()),
        })?
        .map_err(Error::io(format!("running {program}")))?;
    Ok(Output {
        success: output.status.success(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn shown(program: &str, args: &[&str]) -> String {
    let mut text = program.to_owned();
    for arg in args {
        text.push(' ');
        text.push_str(arg);
    }
    text
}

fn package(program: &str) -> &'static str {
    match program {
        "nft" => "nftables",
        "ip" => "iproute2",
        "conntrack" => "conntrack",
        _ => "containernetworking-plugins",
    }
}
