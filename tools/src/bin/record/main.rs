//! Records the captures in `tests/captures` from real connections: `make record`.
//!
//! The servers of the passwords and scrambles in them were removed after the recording.

// A tool reports failures through a panic.
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

/// A server, and the recorder of captures of its connections.
struct Studio<'a> {
    server: &'a Database,
    /// Prefix of the captures' names.
    product: &'static str,
    version: String,
    /// True if captures contain the server's counts.
    counts: bool,
}

impl<'a> Studio<'a> {
    fn new(server: &'a Database, product: &'static str) -> Self {
        let version = server.sql("SELECT VERSION()").concat().concat();
        Self { server, product, version, counts: true }
    }

    /// Returns a studio whose captures contain no counts.
    fn without_counts(server: &'a Database, product: &'static str) -> Self {
        Self { counts: false, ..Self::new(server, product) }
    }

    /// Records the one connection that `scenario` makes to the address it is passed.
    fn record(&self, name: &str, client: &str, scenario: impl FnOnce(SocketAddr)) {
        self.record_from(None, name, client, scenario);
    }

    /// Records a connection of the raw client, which has not logged in yet.
    fn raw(&self, name: &str, what: &str, scenario: impl FnOnce(Client)) {
        self.record(name, &format!("raw packets: {what}"), |address| scenario(Client::connect(address)));
    }

    /// Records a connection from another source address.
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
        // The counts of a server follow other rules if the connection ends without COM_QUIT.
        if let (Some(before), true) = (before, ends_with_quit(&chunks)) {
            comments.push(capture::counted_comment(&self.server.oracle_when_alone().since(&before)));
        }
        write(&format!("{}-{name}", self.product), &comments, &chunks);
    }
}

/// True if the client's last bytes are COM_QUIT.
fn ends_with_quit(chunks: &Chunks) -> bool {
    let last = chunks.iter().rfind(|(sender, _)| *sender == Sender::Client);
    last.is_some_and(|(_, bytes)| bytes.ends_with(&[1, 0, 0, 0, 1]))
}

/// Writes a capture.
fn write(name: &str, comments: &[String], chunks: &Chunks) {
    let path = capture::directory().join(format!("{name}.cap"));
    std::fs::write(&path, capture::format(comments, chunks)).expect("a file");
    let bytes: usize = chunks.iter().map(|(_, bytes)| bytes.len()).sum();
    println!("{} ({bytes} bytes)", path.display());
}

/// Runs a command-line client of either product. Returns true if it succeeds.
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
