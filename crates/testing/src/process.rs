//! A server as a child process that cannot outlive us.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// One running program; dropped, it ends: politely first, then by force.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` in the repository's directory with its output appended to the two files.
    pub fn start(program: &Path, arguments: &[OsString], stdout: &Path, stderr: &Path) -> Self {
        let file = |path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Stdio::from(file.expect("a file for the program's output"))
        };
        // `setpriv` becomes the program, so the child's id is the program's. The kernel kills it when we are gone,
        // however we went: a test killed by a signal, and a server kept in a static, run no destructor.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        command.current_dir(super::root()).stdin(Stdio::null()).stdout(file(stdout)).stderr(file(stderr));
        // Ctrl-C is for us, who then end the servers in order.
        command.process_group(0);
        let child = spawn(command).unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
        Self { child }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child process")
    }

    /// SIGTERM, and SIGKILL for one that has not ended after ten seconds.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.exit_status() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill()
    }

    /// SIGKILL: the program has no say.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("the end of a killed process")
    }

    pub fn signal(&mut self, signal: Signal) {
        // One that has ended keeps its id until it is waited for; after that the id is somebody else's.
        if self.exit_status().is_none() {
            let id = i32::try_from(self.child.id()).expect("a process id");
            kill(Pid::from_raw(id), signal).expect("a signal to our own child");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// All children are started by one thread that lives as long as the process, because "when the parent is gone" means the
/// thread that started them, and a test's thread ends with the test.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // Who ordered waits for the reply, so there is somebody to take it.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (reply, child) = mpsc::channel();
    let orders = SPAWNER.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    orders.send((command, reply)).expect("the thread that starts processes");
    child.recv().expect("the thread that starts processes")
}

/// The CPU time a process has used, all its threads, in user and kernel mode: as in `/proc/PID/stat`, but in nanoseconds.
pub fn cpu_time(pid: u32) -> Duration {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    let clock = clock_getcpuclockid(pid).expect("the CPU clock of a running proxy");
    clock.now().expect("its time").into()
}

/// What a program has written so far; nothing when it has not begun.
pub fn read_log(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Where a program in `PATH` lies.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}
