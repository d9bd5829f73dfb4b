//! The `pintle` binary: flags and wiring, nothing else. This is the only place where components meet.

mod cli;
mod commands;
mod config;
mod identity;
mod in_process;
mod layout;
mod node_wiring;
mod server;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match config::arguments(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error),
    };
    let cli = cli::Cli::parse_from(arguments);
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("pintle: {error:#}");
    ExitCode::FAILURE
}
