//! Child processes that end with the process that started them.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// One running program. When it is dropped, the program gets SIGTERM, and SIGKILL if it does not end.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` in the repository's directory, and appends its output to the two files.
    pub fn start(program: &Path, arguments: &[OsString], stdout: &Path, stderr: &Path) -> Self {
        let file = |path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Stdio::from(file.expect("a file for the program's output"))
        };
        // `setpriv` becomes the program, so the child's id is the program's. The kernel kills the program when this process
        // ends, because no destructor runs for a static, or in a process that a signal ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        command.current_dir(super::root()).stdin(Stdio::null()).stdout(file(stdout)).stderr(file(stderr));
        // Ctrl-C reaches only this process, which then ends the servers in order.
        command.process_group(0);
        let child = spawn(command).unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
        Self { child }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status. `None` if the program runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child process")
    }

    /// Sends SIGTERM, and SIGKILL if the program has not ended after ten seconds.
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

    /// Sends SIGKILL, which no program can handle.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("the end of a killed process")
    }

    /// Stops all threads of the process, and returns once they do nothing more. Only [`Process::kill`] ends it then.
    pub fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
        let id = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        let status = waitpid(id, Some(WaitPidFlag::WUNTRACED)).expect("the state of a child process");
        assert_eq!(status, WaitStatus::Stopped(id, Signal::SIGSTOP));
    }

    pub fn signal(&mut self, signal: Signal) {
        // After `exit_status` returns a status, another process may have this id.
        if self.exit_status().is_none() {
            let id = i32::try_from(self.child.id()).expect("a process id");
            kill(Pid::from_raw(id), signal).expect("a signal to a child process");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

type SpawnRequest = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a child in a thread that runs as long as the process. The kernel kills a child when the thread that started it ends,
/// and the thread of a test ends with the test.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<SpawnRequest>>> = LazyLock::new(|| {
        let (requests, inbox) = mpsc::channel::<SpawnRequest>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // Cannot fail, because the caller waits for the reply.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    let (reply, child) = mpsc::channel();
    let requests = SPAWNER.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    requests.send((command, reply)).expect("the thread that starts processes");
    child.recv().expect("the thread that starts processes")
}

/// CPU time of all threads of a process, in user and kernel mode. `/proc/PID/stat` has the same time, less exactly.
pub fn cpu_time(pid: u32) -> Duration {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    let clock = clock_getcpuclockid(pid).expect("the CPU clock of a running proxy");
    clock.now().expect("its time").into()
}

/// Resident memory of a process, in MiB.
pub fn resident(pid: u32) -> f64 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kibibytes / 1024.0
}

/// Raises the number of files that this process, and each that it starts, may open at the same time. Returns that number.
pub fn raise_open_files() -> u64 {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of open files");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("a higher limit of open files");
    most
}

/// The output of a program so far. Empty if the file does not exist yet.
pub fn read_log(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// The path of a program in `PATH`.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}
