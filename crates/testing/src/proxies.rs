//! Other real proxies: HAProxy, nginx and MySQL Router. Their configurations name ports: `127.0.0.1:<front>`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::{Captures, Regex};
use tempfile::TempDir;

use super::process::{Process, read_log};
use super::{built, free_port, loopback, temp_dir, wait_for};

const START: Duration = Duration::from_secs(20);

/// A running proxy; dropped, it ends.
pub struct Proxy {
    process: Process,
    ports: BTreeMap<String, u16>,
    dir: TempDir,
}

impl Proxy {
    /// Starts HAProxy with these sections. The defaults are TCP mode and long timeouts.
    pub fn haproxy(sections: &str) -> Self {
        // With SO_REUSEPORT, HAProxy's default, two tests could share a port without an error.
        let configuration = format!(
            "global\n  noreuseport\n\
             defaults\n  mode tcp\n  timeout connect 20s\n  timeout client 60s\n  timeout server 60s\n\
             {sections}\n\
             listen ready\n  bind 127.0.0.1:<ready>\n  tcp-request content reject\n"
        );
        Self::start(
            built("HAPROXY", "target/tools/haproxy", "scripts/proxies.sh"),
            &configuration,
            |file, _| vec!["-db".into(), "-f".into(), file.into()],
        )
    }

    /// Starts nginx with these servers in its `stream` section.
    pub fn nginx(servers: &str) -> Self {
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
             events {{}}\n\
             stream {{\n\
               proxy_connect_timeout 20s; proxy_timeout 60s;\n\
               {servers}\n\
               server {{ listen 127.0.0.1:<ready>; return ready; }}\n\
             }}\n"
        );
        Self::start(
            built("NGINX", "target/tools/nginx", "scripts/proxies.sh"),
            &configuration,
            |file, dir| vec!["-e".into(), "stderr".into(), "-p".into(), dir.into(), "-c".into(), file.into()],
        )
    }

    /// Starts MySQL Router with one thread for traffic, and with its port `front` before this server.
    pub fn mysql_router(server: SocketAddr) -> Self {
        let program = built("MYSQLROUTER", "target/tools/mysqlrouter", "scripts/router.sh");
        let tools = program.parent().expect("a directory").display().to_string();
        let configuration = format!(
            "[DEFAULT]\nplugin_folder={tools}/router-rootfs/usr/lib/mysqlrouter/plugin\nmax_total_connections=20000\n\
             [io]\nthreads=1\n\
             [routing:front]\nbind_address=127.0.0.1\nbind_port=<front>\ndestinations={server}\n\
             routing_strategy=first-available\nprotocol=classic\n\
             client_ssl_mode=DISABLED\nserver_ssl_mode=DISABLED\n"
        );
        Self::start(program, &configuration, |file, _| vec!["-c".into(), file.into()])
    }

    fn start(
        program: PathBuf,
        configuration: &str,
        arguments: impl Fn(&Path, &Path) -> Vec<OsString>,
    ) -> Self {
        let dir = temp_dir();
        let (file, log) = (dir.path().join("proxy.conf"), dir.path().join("proxy.log"));
        // Another process may have taken a port that was free. Then the proxy starts again with other ports.
        for _ in 0..5 {
            let (text, ports) = with_ports(configuration);
            std::fs::write(&file, &text).expect("a configuration file");
            let mut process = Process::start(&program, &arguments(&file, dir.path()), &log, &log);
            let started = wait_for(&format!("{} that accepts connections", program.display()), START, || {
                if let Some(status) = process.exit_status() {
                    let log = read_log(&log);
                    assert!(log.contains("Address already in use"), "{status}\n{text}\n{log}");
                    return Some(false);
                }
                // The proxy ends a connection to the port `ready`. All its ports are bound by then.
                let Some(ready) = ports.get("ready") else {
                    return TcpStream::connect(loopback(*ports.values().next()?)).ok().map(|_| true);
                };
                let mut stream = TcpStream::connect(loopback(*ready)).ok()?;
                stream.set_read_timeout(Some(START)).ok()?;
                stream.read_to_end(&mut Vec::new()).ok().map(|_| true)
            });
            if started {
                return Self { process, ports, dir };
            }
        }
        panic!("no ports for {}:\n{}", program.display(), read_log(&log));
    }

    /// The loopback address of the port with this name.
    pub fn addr(&self, name: &str) -> SocketAddr {
        loopback(self.ports[name])
    }

    /// The proxy's process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The proxy's log.
    pub fn log(&self) -> String {
        read_log(&self.dir.path().join("proxy.log"))
    }
}

/// Replaces each name by a free port.
fn with_ports(configuration: &str) -> (String, BTreeMap<String, u16>) {
    let mut ports = BTreeMap::new();
    let name = Regex::new("<([a-z0-9_]+)>").expect("an expression");
    let text = name.replace_all(configuration, |found: &Captures<'_>| {
        ports.entry(found[1].to_owned()).or_insert_with(free_port).to_string()
    });
    (text.into_owned(), ports)
}
