//! A relay between clients and a real server that delays bytes as a network can. It clears CLIENT_DEPRECATE_EOF, and delays
//! the end of the last EOF of each COM_STMT_PREPARE response.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::loopback;

/// Number of bytes of an EOF packet, each of which a connection can be cut before.
pub const CUTS: usize = 9;

/// Delay of the end.
const DELAY: Duration = Duration::from_millis(50);

const COM_STMT_PREPARE: u8 = 0x16;

/// `CLIENT_DEPRECATE_EOF`, bit 24 of the capabilities, in the highest of their bytes.
const DEPRECATE_EOF: u8 = 1;

/// A running relay. Connection number `n` has its EOFs cut before their byte `n % CUTS`.
pub struct Relay {
    address: SocketAddr,
    /// Number of responses that were cut, by the place of the cut.
    cut: Arc<[AtomicU64; CUTS]>,
}

impl Relay {
    pub fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
        let address = listener.local_addr().expect("a bound address");
        let cut: Arc<[AtomicU64; CUTS]> = Arc::default();
        let counts = Arc::clone(&cut);
        // Ends with the test's process.
        thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                let counts = Arc::clone(&counts);
                thread::spawn(move || relay(client, server, number % CUTS, &counts));
            }
        });
        Self { address, cut }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of responses that were cut before each byte of their EOF since the last call.
    pub fn take_cut(&self) -> [u64; CUTS] {
        std::array::from_fn(|at| self.cut[at].swap(0, Ordering::SeqCst))
    }
}

fn relay(client: TcpStream, server: SocketAddr, cut: usize, counts: &[AtomicU64; CUTS]) {
    let server = TcpStream::connect(server).expect("a connection to the server");
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket option");
    }
    let prepares = AtomicBool::new(false);
    thread::scope(|scope| {
        // A side that closes ends both, which is not a failure of the relay.
        scope.spawn(|| {
            let _ = to_server(&client, &server, &prepares);
            let _ = server.shutdown(Shutdown::Write);
        });
        let _ = to_client(&server, &client, &prepares, cut, counts);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}

/// Reads one packet, with its header.
fn packet(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet)?;
    let len = usize::from(packet[0]) | usize::from(packet[1]) << 8 | usize::from(packet[2]) << 16;
    packet.resize(4 + len, 0);
    from.read_exact(&mut packet[4..])?;
    Ok(packet)
}

fn to_server(client: &TcpStream, mut server: &TcpStream, prepares: &AtomicBool) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    loop {
        let packet = packet(&mut client)?;
        if packet[3] == 0 && packet.get(4) == Some(&COM_STMT_PREPARE) {
            prepares.store(true, Ordering::SeqCst);
        }
        server.write_all(&packet)?;
    }
}

fn to_client(
    server: &TcpStream,
    mut client: &TcpStream,
    prepares: &AtomicBool,
    cut: usize,
    counts: &[AtomicU64; CUTS],
) -> std::io::Result<()> {
    let mut server = BufReader::new(server);
    let mut greeting = packet(&mut server)?;
    let version = greeting.iter().skip(5).position(|byte| *byte == 0).expect("a version");
    // After it: thread id, scramble and filler, lower capabilities, character set, status, upper capabilities.
    greeting[5 + version + 1 + 4 + 9 + 2 + 1 + 2 + 1] &= !DEPRECATE_EOF;
    client.write_all(&greeting)?;
    loop {
        let first = packet(&mut server)?;
        if !prepares.swap(false, Ordering::SeqCst) || first[4] != 0 {
            client.write_all(&first)?;
            continue;
        }
        let [columns, params] = [9, 11].map(|at| u16::from_le_bytes([first[at], first[at + 1]]));
        let mut response = first;
        for group in [params, columns].into_iter().filter(|count| *count > 0) {
            for _ in 0..=group {
                response.extend(packet(&mut server)?);
            }
        }
        assert!(columns > 0 && response[response.len() - 5] == 0xfe, "an EOF after the columns");
        let at = response.len() - CUTS + cut;
        client.write_all(&response[..at])?;
        thread::sleep(DELAY);
        counts[cut].fetch_add(1, Ordering::SeqCst);
        client.write_all(&response[at..])?;
    }
}
