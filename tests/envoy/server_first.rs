//! Real servers of other server-first protocols than MySQL. The greeting arrives as fast as through `tcp_proxy` alone, and its
//! protocol is recognised, with each protocol that a rule can expect.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::bootstrap::PLAIN;
use crate::bootstrap::{MYSQL, add_plain_listener, configured};
use crate::counter_diff::CounterDiff;
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::Peer;
use firstword_testing::process::{Process, in_path, read_log};
use firstword_testing::{built, free_port, loopback, temp_dir, wait_for};

const CONNECTIONS: usize = 51;

/// A server from `target/tools/servers-rootfs`. Dropping it ends the server.
struct Daemon {
    address: SocketAddr,
    _process: Process,
    files: TempDir,
}

impl Daemon {
    /// Starts a program. `arguments` receives the port to listen on, on 127.0.0.1.
    fn start(program: &str, arguments: impl Fn(u16) -> Vec<String>) -> Self {
        // Retry, because another process can take the free port first.
        (0..5)
            .find_map(|_| Self::launch(program, &arguments))
            .unwrap_or_else(|| panic!("{program} does not start"))
    }

    fn launch(program: &str, arguments: &impl Fn(u16) -> Vec<String>) -> Option<Self> {
        let port = free_port();
        let files = temp_dir();
        let log = files.path().join("log");
        let rootfs = built("SERVERS_ROOTFS", "target/tools/servers-rootfs", "sudo make tools-servers");
        // Some servers can run only once in their root file system: another test run waits here.
        let lock = rootfs.join("run").join(program.replace('/', "-"));
        let mut all: Vec<OsString> =
            vec!["--no-fork".into(), lock.into(), "chroot".into(), rootfs.into(), program.into()];
        all.extend(arguments(port).into_iter().map(Into::into));
        let mut process = Process::start(&in_path("flock").expect("flock in PATH"), &all, &log, &log);
        let listens = wait_for("server that listens", Duration::from_secs(60), || {
            let ended = process.exit_status().map(|_| false);
            ended.or_else(|| TcpStream::connect(loopback(port)).is_ok().then_some(true))
        });
        if !listens {
            eprintln!("{program}: {}", read_log(&log));
        }
        listens.then_some(Self { address: loopback(port), _process: process, files })
    }

    fn log(&self) -> String {
        read_log(&self.files.path().join("log"))
    }
}

fn ssh() -> Daemon {
    Daemon::start("/usr/sbin/sshd", |port| {
        let options = [
            format!("Port={port}"),
            "ListenAddress=127.0.0.1".into(),
            "HostKey=/etc/ssh/ssh_host_ed25519_key".into(),
            "UseDNS=no".into(),
            "PidFile=none".into(),
            // By default, sshd refuses some clients if too many have not logged in.
            "MaxStartups=1000".into(),
        ];
        let options = options.into_iter().flat_map(|option| ["-o".into(), option]);
        ["-D", "-e", "-f", "/dev/null"].map(Into::into).into_iter().chain(options).collect()
    })
}

fn smtp() -> Daemon {
    let options = |port| {
        vec!["-d".into(), "-D".into(), format!("port={port}"), "-f".into(), "/etc/smtpd-test.conf".into()]
    };
    Daemon::start("/usr/sbin/smtpd", options)
}

fn ftp() -> Daemon {
    let options = |port| vec![format!("-olisten_port={port}"), "/etc/vsftpd-test.conf".into()];
    Daemon::start("/usr/sbin/vsftpd", options)
}

/// Opens a connection, reads the greeting and closes. Returns the time to the greeting, and the number of bytes received.
fn read_greeting(address: SocketAddr, greeting: &str) -> (Duration, usize) {
    let begin = Instant::now();
    let mut client = Peer::connect(address);
    let line = client.until("\r\n");
    let time = begin.elapsed();
    assert!(line.starts_with(greeting), "{line:?}");
    client.finish();
    let (rest, _) = client.rest();
    (time, line.len() + rest.len())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn assert_recognised(server: &Daemon, name: &str, greeting: &str) {
    // With a rule, the reason is the rule. Without one, the reason is that it is not MySQL.
    for (expected, reason) in [("server_first", "configured"), ("detect", "not_mysql")] {
        let configuration = json!({"defaults": {"protocol": expected}});
        let envoy = Envoy::start(configured(server.address, configuration).edit(add_plain_listener));
        let (plain, filtered) = (envoy.listener_addr(PLAIN), envoy.listener_addr(MYSQL));
        let mut diff = CounterDiff::new(&envoy, MYSQL);
        // Alternate, so that load on the machine slows both.
        let turns =
            (0..CONNECTIONS).map(|_| (read_greeting(plain, greeting).0, read_greeting(filtered, greeting)));
        let (without, with): (Vec<_>, Vec<_>) = turns.unzip();
        let (with, sent): (Vec<_>, Vec<_>) = with.into_iter().unzip();
        let (without, with) = (median(without), median(with));
        println!(
            "{name}, {expected}: greeting after {without:?} by tcp_proxy alone, {with:?} with the filter (medians)"
        );
        assert!(with < 3 * without, "{}", server.log());
        diff.expect(&format!(
            "connections_total{{protocol=server_first}} {CONNECTIONS}
             server_first_detected_total{{protocol={name}}} {CONNECTIONS}
             opaque_total{{reason={reason}}} {CONNECTIONS}
             connections_closed_total{{closed_by=client,phase=opaque}} {CONNECTIONS}
             bytes_total{{sender=server}} {}",
            sent.iter().sum::<usize>()
        ));
        diff.finish();
    }
}

mod needs_root {
    use super::*;

    #[test]
    #[ignore = "needs root, and the servers of make tools-servers"]
    fn a_real_ssh_server_is_recognised() {
        assert_recognised(&ssh(), "ssh", "SSH-2.0-OpenSSH_");
    }

    #[test]
    #[ignore = "needs root, and the servers of make tools-servers"]
    fn a_real_smtp_server_is_recognised() {
        assert_recognised(&smtp(), "smtp", "220 mail.test ESMTP OpenSMTPD");
    }

    #[test]
    #[ignore = "needs root, and the servers of make tools-servers"]
    fn a_real_ftp_server_is_recognised() {
        assert_recognised(&ftp(), "ftp", "220 (vsFTPd ");
    }
}
