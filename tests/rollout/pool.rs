//! A pool of five hundred connections: most are idle, some wait for a response, and some query all the time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::{DATABASE, PASSWORD, USER};

pub const IDLE: usize = 460;
const WAITING: usize = 20;
const THREADS: usize = 4;
const BUSY_PER_THREAD: usize = 5;
/// Number of all connections.
pub const SIZE: usize = IDLE + WAITING + THREADS * BUSY_PER_THREAD;

const STATISTICS: u8 = 0x09;

/// Connections in three states.
pub struct Pool {
    idle: Vec<Client>,
    waiting: Vec<Client>,
    busy: Busy,
}

impl Pool {
    pub fn open(address: SocketAddr) -> Self {
        let login = Login::new(CLASSIC);
        let clients = |count| (0..count).map(|_| Client::login(address, &login)).collect::<Vec<_>>();
        let mut waiting = clients(WAITING);
        for client in &mut waiting {
            let payload = client.query_payload("SELECT SLEEP(600)");
            client.command(&payload);
        }
        Self { idle: clients(IDLE), waiting, busy: Busy::start(address) }
    }

    /// Drops the connections that the other side has ended. Returns their number.
    pub fn drop_ended(&mut self) -> usize {
        let before = self.idle.len() + self.waiting.len();
        self.idle.retain(|client| !client.has_ended());
        self.waiting.retain(|client| !client.has_ended());
        let busy = self.busy.ended.swap(0, Ordering::Relaxed);
        before - self.idle.len() - self.waiting.len() + busy
    }

    /// Sends COM_STATISTICS on each idle connection, because no other connection sends it. Returns the number of them.
    pub fn query_statistics(&mut self) -> usize {
        for client in &mut self.idle {
            client.command(&[STATISTICS]);
            let response = client.packet();
            assert!(response.starts_with(b"Uptime"), "{response:?}");
        }
        self.idle.len()
    }

    /// Number of responses to the busy connections.
    pub fn responses(&self) -> u64 {
        self.busy.responses.load(Ordering::Relaxed)
    }
}

/// Opens a connection of a real client.
pub fn connect(address: SocketAddr) -> mysql::Result<Conn> {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(address.ip().to_string()))
        .tcp_port(address.port())
        .user(Some(USER))
        .pass(Some(PASSWORD))
        .db_name(Some(DATABASE))
        .prefer_socket(false);
    Conn::new(options)
}

/// Threads that query all the time, each on several connections in turn.
struct Busy {
    stop: Arc<AtomicBool>,
    responses: Arc<AtomicU64>,
    /// Number of connections that have failed.
    ended: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start(address: SocketAddr) -> Self {
        let (stop, responses, ended) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicUsize>)>::default();
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let mut connections: Vec<_> =
                (0..BUSY_PER_THREAD).map(|_| connect(address).expect("a connection")).collect();
            let (stop, responses, ended) = (Arc::clone(&stop), Arc::clone(&responses), Arc::clone(&ended));
            threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    connections.retain_mut(|connection| {
                        match connection.query_first::<u64, _>("SELECT 4711") {
                            Ok(row) => {
                                assert_eq!(row, Some(4711));
                                responses.fetch_add(1, Ordering::Relaxed);
                                true
                            }
                            Err(_) => {
                                ended.fetch_add(1, Ordering::Relaxed);
                                false
                            }
                        }
                    });
                    // Limit the load, because the machine may have only two cores.
                    thread::sleep(Duration::from_millis(10));
                }
            }));
        }
        Self { stop, responses, ended, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("correct responses");
        }
    }
}
