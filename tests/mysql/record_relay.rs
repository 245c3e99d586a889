//! A relay between Envoy and a server that delays each TLS record of the server, so that Envoy reads each alone.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use firstword_testing::loopback;

/// Time between two records.
const DELAY: Duration = Duration::from_millis(20);
/// Length of a record's header: type, version, length.
const HEADER_LEN: usize = 5;

/// Starts a relay, and returns its address. It ends with the test's process.
pub fn start(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
    let address = listener.local_addr().expect("a bound address");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || {
                let server = TcpStream::connect(server).expect("a connection to the server");
                relay(&client, &server);
            });
        }
    });
    address
}

fn relay(client: &TcpStream, server: &TcpStream) {
    client.set_nodelay(true).expect("a socket option");
    thread::scope(|scope| {
        // A side that closes ends both, which is not a failure of the relay.
        scope.spawn(|| {
            let _ = io::copy(&mut &*client, &mut &*server);
            let _ = server.shutdown(Shutdown::Write);
        });
        let _ = to_client(server, client);
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// Forwards the greeting, which is not in TLS, and then record after record.
fn to_client(mut server: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
    let mut greeting = vec![0; 4];
    server.read_exact(&mut greeting)?;
    greeting.resize(4 + usize::from(greeting[0]), 0);
    server.read_exact(&mut greeting[4..])?;
    client.write_all(&greeting)?;
    loop {
        let mut record = vec![0; HEADER_LEN];
        server.read_exact(&mut record)?;
        record.resize(HEADER_LEN + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
        server.read_exact(&mut record[HEADER_LEN..])?;
        client.write_all(&record)?;
        thread::sleep(DELAY);
    }
}
