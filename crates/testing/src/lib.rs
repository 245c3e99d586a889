//! Support for tests and the demo: Envoy with a bootstrap of `envoy/`, private MariaDB and MySQL servers, captures, test hosts.
//!
//! Each server listens on an ephemeral loopback port, has a temporary directory, and ends with the process that started it. A
//! failure panics and prints the server's log.

// A test reports through a panic. Tests may read the clock; the core may not.
#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::panic_in_result_fn,
    clippy::should_implement_trait,
    clippy::unwrap_used
)]

pub mod capture;
pub mod client;
pub mod command_line;
pub mod connection_manager;
pub mod database;
pub mod doctor;
pub mod dumpcap;
pub mod envoy;
pub mod fake_host;
pub mod generated;
#[allow(unsafe_code, reason = "an allocator that counts needs `unsafe`")]
pub mod heap;
pub mod hostile;
pub mod http_backend;
pub mod invariants;
pub mod link;
pub mod machine;
pub mod mariadb;
pub mod median;
pub mod mysqld;
pub mod namespace;
pub mod packets;
pub mod peer;
pub mod probe;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod proxies;
pub mod random;
pub mod registry;
pub mod relay;
pub mod replay;
pub mod shell;
pub mod table;
pub mod tls_session;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// The repository's directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/testing lies in the repository")
}

/// The module under test: `FIRSTWORD_WASM`, else `target/firstword.wasm`.
pub fn wasm() -> PathBuf {
    built("FIRSTWORD_WASM", "target/firstword.wasm", "make wasm")
}

/// The Envoy under test: `ENVOY`, else the one `make tools` fetched.
pub fn envoy() -> PathBuf {
    built("ENVOY", "target/tools/envoy", "make tools")
}

/// The MariaDB server: `MARIADBD`, else the one `make tools` found or installed.
pub fn mariadbd() -> PathBuf {
    // Resolves links, because the server looks for its files in its own directory.
    built("MARIADBD", "target/tools/mariadbd", "make tools").canonicalize().expect("the path of the server")
}

/// A newer MariaDB server: `NEW_MARIADBD`, else the one `make tools-mariadb` fetched.
pub fn new_mariadbd() -> PathBuf {
    built("NEW_MARIADBD", "target/tools/new-mariadbd", "make tools-mariadb")
}

/// The MySQL server: `MYSQLD`, else the one `make tools-mysql` fetched.
pub fn mysqld() -> PathBuf {
    built("MYSQLD", "target/tools/mysqld", "make tools-mysql")
}

pub fn built(variable: &str, default: &str, made_by: &str) -> PathBuf {
    let path = root().join(std::env::var_os(variable).filter(|v| !v.is_empty()).unwrap_or(default.into()));
    assert!(path.exists(), "{} is missing; run: {made_by} (or set {variable})", path.display());
    path
}

/// A directory that is removed when the value is dropped. It is in `/tmp`, because paths of Unix sockets must be short.
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("firstword-").tempdir().expect("a temporary directory")
}

/// A free loopback port. Another process may take it first: bind port 0 instead if possible, and start a server that cannot do
/// so again with another port.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
    listener.local_addr().expect("a bound address").port()
}

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Connects to `address`, from the address `source` of this machine if one is given.
pub fn connect_from(source: Option<IpAddr>, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into()).expect("an address of this machine");
    }
    socket.connect(&address.into()).unwrap_or_else(|e| panic!("{address}: {e}"));
    socket.into()
}

/// Polls until `probe` returns a value. Panics with the name `what` after the time `within`.
pub fn wait_for<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "no {what} within {within:?}");
        sleep(Duration::from_millis(20));
    }
}
