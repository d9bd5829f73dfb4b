//! A machine of a test's own, with a node that joins: a network namespace with a cable to this one.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::cluster::Invocation;
use crate::leftovers;
use crate::tools::{check, eventually, run, send};

/// This machine's end of the cable, and the other's.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 174, 0, 1);
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 174, 0, 2);

/// The other machine. Dropped, what runs there is ended and it is gone.
pub struct Machine {
    netns: String,
    cable: String,
    pub instance: String,
    folder: tempfile::TempDir,
    agent: Option<Child>,
}

fn ip(words: &str) {
    run(Command::new("ip").args(words.split(' ')), b"", 20).ok();
}

impl Machine {
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "a network namespace needs root");
        let id = std::process::id() & 0xf_ffff;
        let folder = tempfile::Builder::new().prefix("pj").tempdir_in("/tmp").unwrap();
        let (netns, cable, instance) = (format!("pj{id:x}"), format!("pjv{id:x}"), format!("j{id:x}"));
        let machine = Self { netns, cable, instance, folder, agent: None };
        let (netns, cable) = (&machine.netns, &machine.cable);
        ip(&format!("netns add {netns}"));
        ip(&format!("link add {cable} type veth peer name eth0 netns {netns}"));
        ip(&format!("addr add {NEAR}/24 dev {cable}"));
        ip(&format!("link set {cable} up"));
        for words in [&format!("addr add {FAR}/24 dev eth0"), "link set eth0 up", "link set lo up"] {
            ip(&format!("-n {netns} {words}"));
        }
        ip(&format!("-n {netns} route add default via {NEAR}"));
        machine
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("d")
    }

    /// Another folder there.
    pub fn other_dir(&self) -> PathBuf {
        self.folder.path().join("other")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("agent.log")
    }

    /// What the agent has logged since `from` bytes.
    pub fn logged(&self, from: usize) -> String {
        let all = fs::read_to_string(self.log()).unwrap_or_default();
        all.get(from..).unwrap_or_default().to_owned()
    }

    /// A program on that machine. Its files are this one's, `/sys` too: the namespace is the network's alone.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns)).arg(program);
        command
    }

    /// `pintle COMMAND ...` there, on this folder.
    pub fn pintle(&self, words: &[&str], folder: &Path) -> Invocation {
        let mut command = self.command(env!("CARGO_BIN_EXE_pintle"));
        command.args(words).arg("--data-dir").arg(folder);
        Invocation::of(command)
    }

    /// Starts the agent with these words; does not wait for it. Answers how much was logged before.
    pub fn launch(&mut self, words: &[&str]) -> usize {
        assert!(self.agent.is_none(), "it is running");
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let before = usize::try_from(log.metadata().unwrap().len()).unwrap();
        let mut command = self.pintle(&["agent"], &self.data_dir()).command;
        command.args(["--instance", &self.instance, "--node-name", "node-2", "--kubelet-port", "11250"]).args(words);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.agent = Some(command.spawn().unwrap());
        before
    }

    /// SIGTERM, which ends the agent cleanly and nothing else.
    pub fn stop(&mut self) {
        let mut agent = self.agent.take().expect("it is running");
        send(agent.id(), Signal::TERM);
        let status =
            eventually("the agent's end", 30, || agent.try_wait().unwrap().ok_or_else(|| "it runs on".to_owned()));
        assert!(status.success(), "{status}: {}", self.logged(0));
    }

    /// `pintle down`, and that nothing stays there.
    pub fn finish(mut self) {
        self.stop();
        self.pintle(&["down", "--instance", &self.instance], &self.data_dir()).run(60).ok();
        let left = leftovers::all(&self.instance, &self.data_dir());
        assert!(left.is_empty(), "left behind by `pintle down`: {left:#?}");
        for (program, words) in [("ip", "-o link"), ("ip", "route show table all"), ("nft", "list tables")] {
            let there = run(self.command(program).args(words.split(' ')), b"", 20).ok();
            assert!(!there.contains(&self.instance), "{program} {words}: {there}");
        }
        let log = self.logged(0);
        assert!(!log.contains("panicked at"), "{log}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log is\n{}\n---", self.logged(0));
        }
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        if self.data_dir().exists() {
            run(&mut self.pintle(&["down", "--instance", &self.instance], &self.data_dir()).command, b"", 60);
        }
        for ((pid, _), _) in
            leftovers::naming(&self.data_dir()).into_iter().chain(leftovers::in_containers(&self.instance))
        {
            send(pid, Signal::KILL);
        }
        run(Command::new("ip").args(["netns", "del", &self.netns]), b"", 20);
        // The cable goes when the last process in the namespace has ended: the next test must not find it.
        let gone = || !Path::new("/sys/class/net").join(&self.cable).exists();
        if !std::thread::panicking() {
            eventually("the end of the cable", 20, || check(gone(), || self.cable.clone()));
        }
    }
}
