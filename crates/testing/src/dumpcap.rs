//! Captures of the packets on an interface, by Wireshark's `dumpcap`. Needs root.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::process::{Process, in_path, read_log};
use super::{temp_dir, wait_for};

const START: Duration = Duration::from_secs(30);

/// Time after which `dumpcap` has written a packet or lost it.
const WRITE_TIME: Duration = Duration::from_secs(2);

/// The last packet of a capture.
const LAST: &[u8] = b"the last packet of a capture of Firstword's tests";

/// A running `dumpcap`.
pub struct Dump {
    process: Process,
    /// The file that it writes.
    pub file: PathBuf,
    /// Sends and receives the last packet.
    last: UdpSocket,
    _directory: tempfile::TempDir,
}

impl Dump {
    /// Starts to capture the packets from and to these TCP ports.
    pub fn start(interface: &str, ports: &[u16], more: &[&str]) -> Self {
        let program = in_path("dumpcap").expect("dumpcap; run: make tools-servers");
        let directory = temp_dir();
        let (file, log) = (directory.path().join("capture"), directory.path().join("log"));
        let last = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut filter = format!("udp port {}", last.local_addr().unwrap().port());
        for port in ports {
            filter.push_str(&format!(" or tcp port {port}"));
        }
        let path = file.to_str().unwrap();
        let arguments = [&["-q", "-B", "64", "-i", interface, "-f", &filter, "-w", path], more].concat();
        let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
        let mut process = Process::start(&program, &arguments, &log, &log);
        wait_for("running dumpcap", START, || {
            assert_eq!(process.exit_status(), None, "dumpcap: {}", read_log(&log));
            read_log(&log).contains("File: ").then_some(())
        });
        Self { process, file, last, _directory: directory }
    }

    /// Stops the capture, and returns the file when it contains all packets until now.
    pub fn stop(&mut self) -> &Path {
        let to = self.last.local_addr().unwrap();
        let mut sent = None::<Instant>;
        wait_for("last packet in the capture", START, || {
            if sent.is_none_or(|sent| sent.elapsed() >= WRITE_TIME) {
                self.last.send_to(LAST, to).unwrap();
                sent = Some(Instant::now());
            }
            let file = std::fs::read(&self.file).unwrap_or_default();
            file.windows(LAST.len()).any(|bytes| bytes == LAST).then_some(())
        });
        assert!(self.process.stop().success(), "dumpcap ends");
        &self.file
    }
}
