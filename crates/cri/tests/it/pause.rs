//! The pause program, run as what it is: a process that waits for signals.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal};

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of `rt_sigtimedwait`.
const WAIT: &str = if cfg!(target_arch = "x86_64") { "128 " } else { "137 " };

fn start(directory: &std::path::Path) -> Running {
    let path = directory.join("pause");
    std::fs::write(&path, cri::pause::program(std::env::consts::ARCH).unwrap()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let child = Running(Command::new(&path).spawn().unwrap());
    for _ in 0..1_000_000 {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.0.id())).unwrap();
        if call.starts_with(WAIT) {
            return child;
        }
        std::thread::yield_now();
    }
    panic!("the pause program does not wait for signals");
}

#[test]
fn ends_with_success_when_told_to() {
    let directory = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = start(directory.path());
        let pid = Pid::from_raw(i32::try_from(child.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::CHILD).unwrap();
        assert!(child.0.try_wait().unwrap().is_none(), "it goes on after a child's end");
        rustix::process::kill_process(pid, signal).unwrap();
        let status = child.0.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}
