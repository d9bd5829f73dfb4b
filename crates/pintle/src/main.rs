//! The `pintle` binary: flags and wiring, nothing else. This is the only place where components meet.

mod agent;
mod cli;
mod commands;
mod config;
mod flags;
mod identity;
mod in_process;
mod layout;
mod node_wiring;
mod server;
mod settings;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match config::arguments(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error),
    };
    let matches = cli::Cli::command().get_matches_from(arguments);
    let mut cli = cli::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let (cli::Command::Server(own), Some(matches)) = (&mut cli.command, matches.subcommand_matches("server")) {
        own.flags = flags::of_command_line(matches);
    }
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("pintle: {error:#}");
    ExitCode::FAILURE
}
