//! A real registry of go-containerregistry, and its tool.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Process, read_log};
use super::{built, temp_dir, wait_for};

/// A running registry, which keeps its blobs in memory. When it is dropped, it ends.
pub struct Registry {
    port: u16,
    _process: Process,
    _files: TempDir,
}

/// The program `crane`.
pub fn crane() -> PathBuf {
    built("CRANE", "target/tools/crane", "make tools-istio")
}

impl Registry {
    pub fn start() -> Self {
        let files = temp_dir();
        let log = files.path().join("log");
        let arguments = ["registry", "serve", "--address", "127.0.0.1:0"].map(Into::into);
        let mut process = Process::start(&crane(), &arguments, &log, &log);
        let port = wait_for("port of the registry", Duration::from_secs(30), || {
            let log = read_log(&log);
            assert!(process.exit_status().is_none(), "{log}");
            log.lines().find_map(|line| line.rsplit_once("serving on port ")?.1.parse().ok())
        });
        Self { port, _process: process, _files: files }
    }

    /// Port of the registry on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `crane` prints. Panics if it fails.
    pub fn crane(&self, arguments: &[&str]) -> String {
        let output = Command::new(crane()).args(arguments).output().expect("crane");
        assert!(output.status.success(), "crane {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}
