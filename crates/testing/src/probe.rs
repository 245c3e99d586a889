//! Clients: the time to the first byte, and whether Envoy handled an HTTP request.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{CLASSIC, Client, Login};
use super::mariadb::{PASSWORD, USER};
use super::namespace::Namespace;

/// A server that is silent for this time is taken to be silent for ever.
pub const SILENCE: Duration = Duration::from_secs(5);

/// Maximum wait for the proxy to close, which is longer than Envoy's 15 seconds.
const MAX_WAIT: Duration = Duration::from_secs(40);

/// First reaction on a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    Greeting(Duration),
    Closed(Duration),
    /// No byte and no close for [`SILENCE`].
    Nothing,
}

/// Connects, sends `first`, and reads. With `until_closed`, waits up to 40 seconds.
pub fn listen(to: SocketAddr, first: &[u8], until_closed: bool) -> Seen {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&to, SILENCE).unwrap_or_else(|e| panic!("{to}: {e}"));
    let patience = if until_closed { MAX_WAIT } else { SILENCE };
    stream.set_read_timeout(Some(patience)).expect("a time-out");
    stream.write_all(first).unwrap_or_else(|e| panic!("{to}: {e}"));
    match stream.read(&mut [0]) {
        Ok(0) => Seen::Closed(start.elapsed()),
        Ok(_) => Seen::Greeting(start.elapsed()),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => Seen::Closed(start.elapsed()),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Seen::Nothing,
        Err(e) => panic!("{to}: {e}"),
    }
}

/// Queries a sum with MariaDB's command-line client. Returns its output, or its error.
pub fn client(namespace: &Namespace, to: SocketAddr) -> Result<String, String> {
    client_by(namespace.command(), &to.ip().to_string(), to.port())
}

/// The same by a command that runs its arguments, and by a host's name or address.
pub fn client_by(mut command: Command, host: &str, port: u16) -> Result<String, String> {
    command.arg("mariadb").arg("--no-defaults").arg(format!("--host={host}"));
    command.arg(format!("--port={port}")).arg(format!("--user={USER}")).arg(format!("--password={PASSWORD}"));
    command.args(["--protocol=TCP", "--skip-ssl", "--batch", "--skip-column-names"]);
    command.arg(format!("--connect-timeout={}", SILENCE.as_secs())).arg("--execute=SELECT 20+22");
    let output = command.output().expect("MariaDB's client");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Queries a sum with our client after a PROXY header, because MariaDB's client cannot send one.
pub fn client_with_header(namespace: &Namespace, to: SocketAddr, header: &[u8]) -> String {
    namespace.enter(|| {
        let mut client = Client::connect(to);
        client.send(header);
        let mut client = client.log_in(&Login::new(CLASSIC)).expect("a login");
        let response = client.query("SELECT 20+22").expect("a result");
        client.quit();
        String::from_utf8_lossy(&response.0[3][1..]).into_owned()
    })
}

/// The client address that the server sees, and the client's own.
pub fn addresses(namespace: &Namespace, to: SocketAddr) -> (String, String) {
    namespace.enter(|| {
        let client = Client::connect(to);
        let own = client.local_addr().to_string();
        let mut client = client.log_in(&Login::new(CLASSIC)).expect("a login");
        let statement = "SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()";
        let response = client.query(statement).expect("a result");
        client.quit();
        (String::from_utf8_lossy(&response.0[3][1..]).into_owned(), own)
    })
}

/// How the proxy handled an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// By Envoy's HTTP connection manager, which sets the header `server`.
    Manager,
    /// As raw TCP.
    Raw,
}

/// Sends a request, its first byte after `pause`.
pub fn request(to: SocketAddr, host: &str, pause: Duration) -> Http {
    let mut stream = TcpStream::connect_timeout(&to, SILENCE).unwrap_or_else(|e| panic!("{to}: {e}"));
    stream.set_read_timeout(Some(MAX_WAIT)).expect("a time-out");
    sleep(pause);
    write!(stream, "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").expect("a request");
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap_or_else(|e| panic!("{host}: {e}"));
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("ok\n"), "{host}: {response}");
    // Istio's sidecars say `envoy` to their own pod, and `istio-envoy` to others.
    if ["envoy", "istio-envoy"].iter().any(|name| response.contains(&format!("\r\nserver: {name}\r\n"))) {
        Http::Manager
    } else {
        assert!(response.contains("\r\nserver: backend\r\n"), "{host}: {response}");
        Http::Raw
    }
}
