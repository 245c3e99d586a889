//! Resets and half closes in each phase of a connection, between scripted peers.

use std::net::SocketAddr;

use firstword_testing::envoy::Envoy;
use firstword_testing::packets::{self, COM_PING, COM_QUERY, COM_STMT_PREPARE, command, packet};
use firstword_testing::peer::{Ending, Peer, Server};

/// Both ends of a connection through Envoy.
pub struct Pair {
    client: Peer,
    server: Peer,
}

/// Between whom the connections of the faults are.
pub struct Path<'a> {
    pub envoy: &'a Envoy,
    /// Envoy's listener.
    pub address: SocketAddr,
    pub server: &'a Server,
    /// Name of the server's cluster. Only these connections use it.
    pub cluster: &'a str,
}

impl Pair {
    fn open(path: &Path) -> Self {
        let pair = Self { client: Peer::connect(path.address), server: path.server.accept() };
        // The server accepts a connection before Envoy knows it. A reset in between is a connection that failed.
        path.envoy.wait_stat(&format!("^cluster.{}.upstream_rq_active$", path.cluster), 1);
        pair
    }

    fn client_sends(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
        self.server.expect(bytes);
    }

    fn server_sends(&mut self, bytes: &[u8]) {
        self.server.send(bytes);
        self.client.expect(bytes);
    }
}

/// The name of a phase, and the steps that lead to it from the phase before.
type Step = (&'static str, fn(&mut Pair));

/// Phases until the client is logged in.
const LOGIN: [Step; 4] = [
    ("before the greeting", |_| {}),
    ("after the greeting", |pair| pair.server_sends(&packets::greeting())),
    ("during the login", |pair| {
        pair.client_sends(&packet(1, &packets::handshake_response(packets::CLIENT_CAPABILITIES)));
    }),
    ("while idle", |pair| pair.server_sends(&packet(2, &packets::ok()))),
];

/// Phases of a command. Each begins on an idle connection.
const COMMANDS: [Step; 3] = [
    ("in the middle of a command", |pair| pair.client_sends(&command(COM_QUERY, &[b'x'; 100])[..50])),
    ("in the middle of a result", |pair| {
        pair.client_sends(&command(COM_QUERY, b"SELECT a"));
        pair.server_sends(&result().0);
    }),
    ("in the middle of a COM_STMT_PREPARE", |pair| {
        pair.client_sends(&command(COM_STMT_PREPARE, b"SELECT a FROM t WHERE b = ?"));
        pair.server_sends(&packets::answer([packets::prepare_ok(1, 1), packets::column_def("b")]));
    }),
];

/// A result, cut within its second row.
fn result() -> (Vec<u8>, Vec<u8>) {
    let mut whole = packets::answer(packets::result_set(&["one", "two"]));
    let rest = whole.split_off(whole.len() - 12);
    (whole, rest)
}

/// A fault, and what the other side sees of it.
pub type Fault = (String, Box<dyn Fn(&Path) -> &'static str>);

/// All faults between scripted peers.
pub fn faults() -> Vec<Fault> {
    let logins = (1..=LOGIN.len()).map(|steps| LOGIN[..steps].to_vec());
    let commands = COMMANDS.iter().map(|step| [&LOGIN[..], &[*step]].concat());
    let mut all: Vec<Fault> = Vec::new();
    for steps in logins.chain(commands) {
        let phase = steps[steps.len() - 1].0;
        for side in ["client", "server"] {
            let steps = steps.clone();
            let run = move |path: &Path| {
                let mut pair = Pair::open(path);
                steps.iter().for_each(|(_, step)| step(&mut pair));
                let (reset, mut other) =
                    if side == "client" { (pair.client, pair.server) } else { (pair.server, pair.client) };
                reset.reset();
                seen(&mut other)
            };
            all.push((format!("the {side} resets {phase}"), Box::new(run)));
        }
    }
    all.push(("the client half closes in the middle of a result".into(), Box::new(half_closed_by_client)));
    all.push(("the server half closes while idle".into(), Box::new(half_closed_by_server)));
    all
}

/// Kind of the end that a side sees. No byte may arrive before it.
fn seen(peer: &mut Peer) -> &'static str {
    match peer.rest() {
        (bytes, _) if !bytes.is_empty() => panic!("bytes before the end: {}", bytes.escape_ascii()),
        (_, Ending::Reset) => "a reset",
        (_, Ending::Finished) => "an end",
    }
}

fn idle(path: &Path) -> Pair {
    let mut pair = Pair::open(path);
    LOGIN.iter().for_each(|(_, step)| step(&mut pair));
    pair
}

fn half_closed_by_client(path: &Path) -> &'static str {
    let mut pair = idle(path);
    pair.client_sends(&command(COM_QUERY, b"SELECT a"));
    let (begin, rest) = result();
    pair.server_sends(&begin);
    pair.client.finish();
    assert_eq!(seen(&mut pair.server), "an end");
    pair.server_sends(&rest);
    drop(pair.server);
    pair.client.assert_finished();
    "an end; the rest of the result arrives"
}

fn half_closed_by_server(path: &Path) -> &'static str {
    let mut pair = idle(path);
    pair.server.finish();
    assert_eq!(seen(&mut pair.client), "an end");
    pair.client_sends(&command(COM_PING, b""));
    drop(pair.client);
    pair.server.assert_finished();
    "an end; its next command arrives"
}
