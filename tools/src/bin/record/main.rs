//! Records the captures in `tests/captures` from real connections: `make record`.
//!
//! Passwords and scrambles in them are those of servers that existed for a second.

// A tool for this repository: what goes wrong ends it.
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod both;
mod by_hand;
mod mariadb;
mod mysql;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use firstword::event::Sender;
use firstword_testing::capture::{self, Chunks, Recorder};
use firstword_testing::client::Client;
use firstword_testing::database::Database;

/// A server in front of which captures are recorded.
struct Studio<'a> {
    server: &'a Database,
    /// The front of the captures' names.
    product: &'static str,
    version: String,
    /// Asks the server what it counted.
    counts: bool,
}

impl<'a> Studio<'a> {
    fn new(server: &'a Database, product: &'static str) -> Self {
        let version = server.sql("SELECT VERSION()").concat().concat();
        Self { server, product, version, counts: true }
    }

    /// One whose server is started for something else than to count.
    fn without_counts(server: &'a Database, product: &'static str) -> Self {
        Self { counts: false, ..Self::new(server, product) }
    }

    /// Records what happens on the one connection made to the address it is given.
    fn record(&self, name: &str, client: &str, scenario: impl FnOnce(SocketAddr)) {
        self.record_from(None, name, client, scenario);
    }

    /// The same with the raw client, not logged in yet.
    fn raw(&self, name: &str, what: &str, scenario: impl FnOnce(Client)) {
        self.record(name, &format!("raw packets: {what}"), |address| scenario(Client::connect(address)));
    }

    /// The same for a client from another address.
    fn record_from(
        &self,
        source: Option<IpAddr>,
        name: &str,
        client: &str,
        scenario: impl FnOnce(SocketAddr),
    ) {
        both::fixtures(self.server);
        let before = self.counts.then(|| self.server.oracle());
        let recorder = Recorder::start_from(source, self.server.addr());
        scenario(recorder.address());
        let chunks = recorder.finish();
        let mut comments = vec![
            format!("server: {}", self.version),
            format!("client: {client}"),
            "made by: make record".into(),
        ];
        // What a server counts of a connection that ends otherwise follows other rules.
        if let (Some(before), true) = (before, says_goodbye(&chunks)) {
            comments.push(capture::counted_comment(&self.server.oracle_when_alone().since(&before)));
        }
        write(&format!("{}-{name}", self.product), &comments, &chunks);
    }
}

/// The client's last bytes are COM_QUIT.
fn says_goodbye(chunks: &Chunks) -> bool {
    let last = chunks.iter().rfind(|(sender, _)| *sender == Sender::Client);
    last.is_some_and(|(_, bytes)| bytes.ends_with(&[1, 0, 0, 0, 1]))
}

/// Writes a capture down.
fn write(name: &str, comments: &[String], chunks: &Chunks) {
    let path = capture::directory().join(format!("{name}.cap"));
    std::fs::write(&path, capture::format(comments, chunks)).expect("a file");
    let bytes: usize = chunks.iter().map(|(_, bytes)| bytes.len()).sum();
    println!("{} ({bytes} bytes)", path.display());
}

/// Runs a command-line client of either product and returns whether it was content.
fn command_line(program: &Path, address: SocketAddr, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(["--no-defaults", "-h127.0.0.1", "-uapp", "-papp"])
        .arg(format!("-P{}", address.port()))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("a command-line client").success()
}

fn main() {
    by_hand::record();
    mariadb::record();
    mysql::record();
}
