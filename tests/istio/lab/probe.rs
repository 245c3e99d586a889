//! What a client sees: when the first byte comes, and through what an HTTP request went.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::mariadb::{PASSWORD, USER};

/// A server that is silent for so long will stay so.
pub const SILENCE: Duration = Duration::from_secs(5);

/// How long a probe waits that should see the proxy give up, after Envoy's 15 seconds.
const LONGEST: Duration = Duration::from_secs(40);

/// What comes of a connection on which the client says nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    Greeting(Duration),
    Closed(Duration),
    /// Nothing, for [`SILENCE`].
    Nothing,
}

/// Connects, sends `first`, perhaps nothing, and listens. With `to_the_end`, until something happens.
pub fn listen(to: SocketAddr, first: &[u8], to_the_end: bool) -> Seen {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&to, SILENCE).unwrap_or_else(|e| panic!("{to}: {e}"));
    let patience = if to_the_end { LONGEST } else { SILENCE };
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

/// Asks MariaDB's own client for the sum of two numbers: the answer, or the error it reports.
pub fn client(namespace: &Namespace, to: SocketAddr) -> Result<String, String> {
    let mut command = namespace.command();
    command.arg("mariadb").arg("--no-defaults").arg(format!("--host={}", to.ip()));
    command
        .arg(format!("--port={}", to.port()))
        .arg(format!("--user={USER}"))
        .arg(format!("--password={PASSWORD}"));
    command.args(["--protocol=TCP", "--skip-ssl", "--batch", "--skip-column-names"]);
    command.arg(format!("--connect-timeout={}", SILENCE.as_secs())).arg("--execute=SELECT 20+22");
    let output = command.output().expect("MariaDB's client");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The same of one who sends a PROXY header first, which MariaDB's own client cannot.
pub fn client_with(namespace: &Namespace, to: SocketAddr, header: &[u8]) -> String {
    namespace.enter(|| {
        let mut client = Client::connect(to);
        client.send(header);
        let mut client = client.log_in(&Login::new(CLASSIC)).expect("a login");
        let answer = client.query("SELECT 20+22").expect("a result");
        client.quit();
        String::from_utf8_lossy(&answer.0[3][1..]).into_owned()
    })
}

/// The address and port that the server knows a connection by, and those it has.
pub fn known_as(namespace: &Namespace, to: SocketAddr) -> (String, String) {
    namespace.enter(|| {
        let client = Client::connect(to);
        let own = client.local_addr().to_string();
        let mut client = client.log_in(&Login::new(CLASSIC)).expect("a login");
        let statement = "SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()";
        let answer = client.query(statement).expect("a result");
        client.quit();
        (String::from_utf8_lossy(&answer.0[3][1..]).into_owned(), own)
    })
}

/// Who handled an HTTP request on its way to the Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// Envoy's HTTP connection manager: the answer is signed by it.
    Manager,
    /// Nobody: raw TCP.
    Raw,
}

/// Sends a request, its first byte after `pause`.
pub fn request(to: SocketAddr, host: &str, pause: Duration) -> Http {
    let mut stream = TcpStream::connect_timeout(&to, SILENCE).unwrap_or_else(|e| panic!("{to}: {e}"));
    stream.set_read_timeout(Some(LONGEST)).expect("a time-out");
    sleep(pause);
    write!(stream, "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap_or_else(|e| panic!("{host}: {e}"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("ok\n"), "{host}: {answer}");
    if answer.contains("\r\nserver: istio-envoy\r\n") {
        Http::Manager
    } else {
        assert!(answer.contains("\r\nserver: backend\r\n"), "{host}: {answer}");
        Http::Raw
    }
}
