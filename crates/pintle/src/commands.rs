//! One file per command that does more than wiring.

mod certs;
mod down;
mod image;
mod kubeconfig;
mod secrets;
mod security;
mod status;
mod token;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::{agent, server};

/// What a command that is not built yet exits with.
const LATER: u8 = 2;

/// Runs the command; the answer is the process's exit code.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Server(arguments) => server::run(*arguments),
        Command::Agent(arguments) => agent::run(*arguments),
        Command::Kubeconfig(arguments) => kubeconfig::run(&arguments),
        Command::Token(arguments) => token::run(arguments.action),
        Command::Backup(_) => Ok(later(
            "backup",
            "stop the server and copy the data dir's folders `store` and `pki` together; without pki/secrets.key the secrets cannot be read",
        )),
        Command::Certs(arguments) => certs::run(&arguments),
        Command::Secrets(arguments) => secrets::run(&arguments),
        Command::Status(arguments) if arguments.security => security::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Image(arguments) => image::run(arguments.action),
        Command::Down(arguments) => down::run(&arguments),
        Command::Sim(_) => Ok(later("sim", "the in-process simulation runs in the tests: `cargo test -p pintle-sim`")),
        Command::Version => {
            println!("pintle {} (Kubernetes v1.37.0)", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn later(command: &str, instead: &str) -> ExitCode {
    eprintln!("pintle {command}: not built yet: {instead}");
    ExitCode::from(LATER)
}

/// A runtime for commands that ask something and end.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
