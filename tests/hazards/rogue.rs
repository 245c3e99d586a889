//! A rogue server, of which MySQL's manual warns. It accepts each login, and responds to the first statement with a request
//! for a file.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use firstword_testing::loopback;
use firstword_testing::packets::*;

/// All flags of MySQL 8.0 up to DEPRECATE_EOF, without TLS and compression.
const CAPABILITIES: u32 = 0x01ff_f7df;

/// Maximum silence of a client. One that is silent longer will not respond.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// Results of the requests.
#[derive(Clone, Debug, Default)]
pub struct Loot {
    /// Number of requests for a file.
    pub requests: u64,
    /// Bytes of files, without packet headers.
    pub bytes: Vec<u8>,
    /// Number of connections with a request that have ended.
    pub ended: u64,
}

/// The server.
pub struct Rogue {
    address: SocketAddr,
    loot: Arc<Mutex<Loot>>,
}

impl Rogue {
    /// Starts a server that requests this file from each client. It ends with the test's process.
    pub fn start(file: &str) -> Self {
        let listener = TcpListener::bind(loopback(0)).expect("a port on loopback");
        let address = listener.local_addr().expect("a bound address");
        let loot: Arc<Mutex<Loot>> = Arc::default();
        let (shared, file) = (Arc::clone(&loot), file.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (loot, file) = (Arc::clone(&shared), file.clone());
                // Ignore the result, because the client may close.
                thread::spawn(move || serve(client, &file, &loot));
            }
        });
        Self { address, loot }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn loot(&self) -> Loot {
        self.loot.lock().expect("the loot").clone()
    }

    pub fn take_loot(&self) -> Loot {
        std::mem::take(&mut self.loot.lock().expect("the loot"))
    }
}

/// Sequence id and payload of the next packet. `None` at the end.
fn read(client: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    client.read_exact(&mut header).ok()?;
    let [l0, l1, l2, sequence_id] = header;
    let mut payload = vec![0; u32::from_le_bytes([l0, l1, l2, 0]) as usize];
    client.read_exact(&mut payload).ok()?;
    Some((sequence_id, payload))
}

fn serve(mut client: TcpStream, file: &str, loot: &Mutex<Loot>) -> Option<()> {
    client.set_read_timeout(Some(MAX_SILENCE)).ok()?;
    client.set_nodelay(true).ok()?;
    client.write_all(&packet(0, &handshake_v10("8.0.36", CAPABILITIES))).ok()?;
    let (sequence_id, response) = read(&mut client)?;
    let plugin = b"caching_sha2_password";
    let mut next = sequence_id + 1;
    if response.windows(plugin.len()).any(|window| window == plugin) {
        // Pretend that the password is in the server's cache.
        client.write_all(&packet(next, b"\x01\x03")).ok()?;
        next += 1;
    }
    client.write_all(&packet(next, &ok())).ok()?;
    loop {
        let (_, command) = read(&mut client)?;
        match command.first().copied() {
            Some(COM_QUERY | COM_STMT_EXECUTE) => break,
            Some(COM_QUIT) => return None,
            Some(COM_STMT_CLOSE) => {}
            Some(COM_STMT_PREPARE) => client.write_all(&packet(1, &prepare_ok(0, 0))).ok()?,
            _ => client.write_all(&packet(1, &ok())).ok()?,
        }
    }
    client.write_all(&packet(1, &local_infile(file))).ok()?;
    loot.lock().expect("the loot").requests += 1;
    while let Some((sequence_id, bytes)) = read(&mut client) {
        match sequence_id {
            // Another command, because the client has refused the request.
            0 => {}
            _ if bytes.is_empty() => break,
            _ => loot.lock().expect("the loot").bytes.extend(bytes),
        }
    }
    loot.lock().expect("the loot").ended += 1;
    None
}
