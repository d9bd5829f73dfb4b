//! Running programs with a limit, and waiting for something to be so.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Lines of output kept unread.
const LINES_LEN_MAX: usize = 10_000;

/// Where `scripts/setup` and `scripts/images` put things.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
    if let Some(cache) = std::env::var_os("CACHE") {
        return cache.into();
    }
    std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from).join("pintle")
}

/// A file of the repository. Where it is says cargo now: a target folder that several clones share may hold a binary
/// built from another of them.
pub fn source(path: &str) -> String {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    format!("{here}/../../{path}")
}

/// A program that `scripts/setup test` installs below its cache.
pub fn installed(path: &str) -> PathBuf {
    let path = cache().join(path);
    assert!(path.exists(), "{} is missing: run scripts/setup test", path.display());
    path
}

/// One of the images `scripts/images` makes.
pub fn image(name: &str) -> PathBuf {
    let folder = std::env::var_os("IMAGES").map_or_else(|| cache().join("images"), PathBuf::from);
    let path = folder.join(format!("{name}.tar"));
    assert!(path.exists(), "{} is missing: run scripts/images", path.display());
    path
}

/// Which kubectl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1_35,
    V1_32,
}

/// Both kubectls.
pub const BOTH: [Version; 2] = [Version::V1_35, Version::V1_32];

impl Version {
    pub fn path(self) -> PathBuf {
        let path = cache().join("bin").join(match self {
            Self::V1_35 => "kubectl",
            Self::V1_32 => "kubectl-1.32",
        });
        assert!(path.exists(), "{} is missing: run scripts/setup test", path.display());
        path
    }
}

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its output, if it ended well; else the test fails.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "{}: {self:#?}", self.command);
        self.stdout
    }

    /// Its complaint, if it ended badly; else the test fails.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(self.code != 0, "{} should have failed: {self:#?}", self.command);
        self.stderr
    }
}

/// Runs a program to its end, for at most `seconds`: code 124 says that it took longer.
pub fn run(command: &mut Command, stdin: &[u8], seconds: u32) -> Output {
    let shown = shown(command);
    let mut limited = Command::new("timeout");
    limited.args(["--foreground", "--kill-after=5", &seconds.to_string()]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = limited.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let (mut input, mut stdout, mut stderr) =
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A program that does not read to the end closes the pipe.
            let _ = input.write_all(stdin);
            drop(input);
        });
        scope.spawn(|| stdout.read_to_end(&mut out).unwrap());
        stderr.read_to_end(&mut err).unwrap();
    });
    Output {
        command: shown,
        code: child.wait().unwrap().code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&out).into_owned(),
        stderr: String::from_utf8_lossy(&err).into_owned(),
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A program that runs beside the test, and is killed at the end of the scope.
pub struct Beside {
    child: Child,
    lines: Receiver<String>,
    shown: String,
}

impl Beside {
    pub fn start(command: &mut Command) -> Self {
        let shown = shown(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(LINES_LEN_MAX);
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, shown }
    }

    /// The next line of output that contains `text`.
    #[track_caller]
    pub fn line_with(&self, text: &str, seconds: u64) -> String {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("{}: no `{text}` within {seconds} s in {seen:#?}", self.shown),
                Err(RecvTimeoutError::Disconnected) => panic!("{}: ended without `{text}`: {seen:#?}", self.shown),
            }
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until `look` has an answer; its complaint is shown when it has none within `seconds`.
#[track_caller]
pub fn eventually<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) => assert!(Instant::now() < deadline, "{what}: not within {seconds} s: {why}"),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// `Ok` if `yes`, else the complaint.
pub fn check(yes: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if yes { Ok(()) } else { Err(why()) }
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// A signal to a process, which may have ended already.
pub fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    let _ = rustix::process::kill_process(pid, signal);
}
