//! A network namespace. It exists as long as a process that only holds it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::process::{Process, in_path};
use super::wait_for;

/// A network namespace. Dropping it ends the process that holds it.
pub struct Namespace {
    holder: Process,
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Namespace {
    pub fn new() -> Self {
        let null = Path::new("/dev/null");
        let arguments = ["--net", "--", "sleep", "infinity"].map(Into::into);
        let holder = Process::start(&program("unshare"), &arguments, null, null);
        let namespace = Self { holder };
        let ours = std::fs::read_link("/proc/self/ns/net").expect("our own namespace");
        wait_for("network namespace", Duration::from_secs(10), || {
            std::fs::read_link(namespace.path()).ok().filter(|path| *path != ours)
        });
        namespace.run("ip link set lo up");
        namespace
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// Process id of the holder.
    pub fn id(&self) -> u32 {
        self.holder.id()
    }

    /// Runs a command in the namespace. Spaces separate its words.
    pub fn run(&self, command: &str) {
        self.run_with(command, "");
    }

    /// Runs a command with this standard input.
    pub fn run_with(&self, command: &str, input: &str) {
        let mut child = self.command();
        let mut child = child
            .args(command.split(' '))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command}: {e}"));
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("input");
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A command that runs its arguments in the namespace.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program("nsenter"));
        command.arg(format!("--net={}", self.path().display())).arg("--");
        command
    }

    /// Does work in the namespace, on its own thread. Sockets that it opens remain in the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).expect("the namespace");
        let entered = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("to enter the namespace");
            work()
        };
        thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Writes a script that starts `program` in the namespace, as this user.
    pub fn launcher(&self, directory: &Path, program: &Path, user: Option<u32>) -> PathBuf {
        let name = program.file_name().expect("a program").to_string_lossy();
        let path = directory.join(format!("{name}-in-{}", self.id()));
        // Set the signal again, because the kernel clears it when the user changes.
        let user = user.map_or_else(String::new, |user| {
            format!("setpriv --reuid={user} --regid={user} --clear-groups --pdeathsig=KILL -- ")
        });
        let namespace = self.path();
        let script = format!(
            "#!/bin/sh\nexec nsenter --net={} -- {user}{} \"$@\"\n",
            namespace.display(),
            program.display()
        );
        std::fs::write(&path, script).expect("a launcher");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a launcher");
        path
    }
}

/// Path of a program. Also searches the folders that only root's `PATH` has.
fn program(name: &str) -> PathBuf {
    let sbin = ["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).join(name));
    in_path(name)
        .or_else(|| sbin.into_iter().find(|path| path.is_file()))
        .unwrap_or_else(|| panic!("{name} is missing; run: make tools-istio"))
}
