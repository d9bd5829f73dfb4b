//! What a fake container does: a command line is read as the few words of a shell that specs and tests use. Pure.
//!
//! `true`, `false`, `sleep N`, `exit N`, `echo TEXT`, `oom`, `trap 'COMMANDS' TERM`, one after another with `;` or
//! `&&`,
//! bare or in `sh -c`. `no-such-program` cannot be started. Any other program is a server: it runs until it is stopped,
//! and ends with 0 at SIGTERM.

use std::time::Duration;

/// How long a program runs and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Until it ends by itself; `None`: never.
    pub duration: Option<Duration>,
    /// Its exit code when it ends by itself.
    pub exit_code: i32,
    /// Its exit code when it is sent SIGTERM; `None`: it does not listen, as a first process without a handler.
    pub on_term: Option<i32>,
    /// The kernel kills it for want of memory when its time is over.
    pub out_of_memory: bool,
    /// The lines it writes to its standard output, at its start.
    pub lines: Vec<String>,
    /// It cannot be started at all.
    pub missing: bool,
}

impl Default for Program {
    fn default() -> Self {
        Self::server()
    }
}

impl Program {
    /// Runs until it is stopped, and ends with 0 at SIGTERM.
    pub fn server() -> Self {
        Self { duration: None, exit_code: 0, on_term: Some(0), out_of_memory: false, lines: Vec::new(), missing: false }
    }

    /// Ends with `exit_code` after `duration`.
    pub fn exits(exit_code: i32, duration: Duration) -> Self {
        Self { duration: Some(duration), exit_code, on_term: None, ..Self::server() }
    }

    /// Reads a command line; see the top of this file.
    pub fn read(command: &[String]) -> Self {
        match command.first().map(String::as_str) {
            None => Self::server(),
            Some("no-such-program") => Self { missing: true, ..Self::server() },
            Some("sh" | "/bin/sh") if command.get(1).is_some_and(|flag| flag == "-c") => {
                script(command.get(2).map_or("", String::as_str))
            }
            Some("busybox" | "/bin/busybox") => Self::read(&command[1..]),
            Some(_) => script(&command.join(" ")),
        }
    }
}

/// The statements of a script: split at `;`, `&&` and line ends that are not quoted.
fn statements(script: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut quote = None;
    for c in script.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, ';' | '\n' | '&') => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        found.last_mut().expect("never empty").push(c);
    }
    found.into_iter().map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

fn script(text: &str) -> Program {
    let mut program = Program::exits(0, Duration::ZERO);
    for statement in statements(text) {
        let (word, rest) = statement.split_once(' ').unwrap_or((&statement, ""));
        let rest = rest.trim();
        match word {
            "true" | ":" => program.exit_code = 0,
            "false" => program.exit_code = 1,
            "echo" => program.lines.push(rest.trim_matches(['\'', '"']).to_owned()),
            "sleep" => match rest.trim_end_matches('s').parse::<f64>().ok().filter(|seconds| *seconds >= 0.0) {
                Some(seconds) => {
                    let pause = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
                    program.duration = program.duration.map(|so_far| so_far.saturating_add(pause));
                }
                None => return Program { duration: None, ..program },
            },
            "exit" => return Program { exit_code: rest.parse().unwrap_or(program.exit_code), ..program },
            "oom" => return Program { exit_code: 137, out_of_memory: true, ..program },
            "trap" => program.on_term = Some(trap_code(rest)),
            _ => return Program { duration: None, on_term: Some(program.on_term.unwrap_or(0)), ..program },
        }
    }
    program
}

/// The exit code that `trap 'COMMANDS' TERM` ends with.
fn trap_code(rest: &str) -> i32 {
    let quoted = rest.split(['\'', '"']).nth(1).unwrap_or("");
    script(quoted).exit_code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &[&str]) -> Program {
        Program::read(&command.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn command_lines() {
        let seconds = Duration::from_secs;
        assert_eq!(read(&[]), Program::server());
        assert_eq!(read(&["nginx", "-g", "daemon off;"]).duration, None);
        assert_eq!(read(&["true"]), Program::exits(0, seconds(0)));
        assert_eq!(read(&["sleep", "3600"]), Program::exits(0, seconds(3600)));
        assert_eq!(read(&["sh", "-c", "exit 3"]), Program::exits(3, seconds(0)));
        assert_eq!(read(&["sh", "-c", "sleep 2; false"]), Program::exits(1, seconds(2)));
        let trap = read(&["sh", "-c", "trap 'exit 7' TERM; sleep 60; exit 1"]);
        assert_eq!((trap.on_term, trap.duration, trap.exit_code), (Some(7), Some(seconds(60)), 1));
        assert_eq!(read(&["/bin/sh", "-c", "echo 'a; b' && sleep 1"]).lines, ["a; b"]);
        assert!(read(&["no-such-program"]).missing);
        assert!(read(&["sh", "-c", "sleep 1; oom"]).out_of_memory);
    }
}
