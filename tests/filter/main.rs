//! The filter without a proxy: a configuration on a worker, and its connections, with a host that records calls.

// A test reports through a panic.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod access_log;
mod after_panic;
mod budget;
mod configuration;
mod connections;
mod log_lines;
mod mode;
mod refusals;

use std::cell::RefCell;

use bytes::Bytes;
use firstword::clock::Timestamp;
use firstword::event::{Direction, Sender};
use firstword::filter::Filter;
use firstword::filter::host::{ConnectionInfo, Host};
use firstword::filter::mode::PublishedMode;
use firstword::filter::stream::Stream;
use firstword::filter::uninspected::UninspectedStream;
use firstword_testing::fake_host::{FakeHost, FakeMetrics};
use firstword_testing::link::Verdict;
use firstword_testing::packets::*;

/// The prefix of the metrics of connections to [`ORDERS`].
const ORDERS_METRICS: &str = "direction=.=outbound;.;destination=.=orders;.;";

fn orders() -> ConnectionInfo {
    ConnectionInfo { direction: Direction::Outbound, destination: "10.0.0.5:3306".parse().ok() }
}

/// One configuration on one worker, and the shell around it.
struct Worker {
    host: FakeHost,
    metrics: RefCell<FakeMetrics>,
    filter: Filter,
}

impl Worker {
    fn start(configuration: &str) -> Self {
        let host = FakeHost::default();
        let filter = Filter::configure(configuration.as_bytes(), || panic!("a bad configuration"), &host);
        let filter = filter.unwrap_or_else(|| panic!("refused: {:?}", host.take_log()));
        Self { host, metrics: RefCell::default(), filter }
    }

    fn open(&self) -> Result<Stream, UninspectedStream> {
        Stream::open(&self.filter, orders(), &self.host)
    }

    /// A connection that is inspected.
    fn connect(&self) -> Stream {
        self.open().unwrap_or_else(|_| panic!("the budget has no room"))
    }

    fn client(&self, stream: &mut Stream, bytes: &[u8]) -> Verdict {
        stream.client(&self.filter, &Bytes::copy_from_slice(bytes), false, &self.host)
    }

    fn server(&self, stream: &mut Stream, bytes: &[u8]) -> Verdict {
        stream.server(&self.filter, &Bytes::copy_from_slice(bytes), false, &self.host).into()
    }

    /// Forwards bytes of both sides, which no rule changes.
    fn play(&self, stream: &mut Stream, script: &[(Sender, Vec<u8>)]) {
        for (sender, bytes) in script {
            let verdict = match sender {
                Sender::Client => self.client(stream, bytes),
                Sender::Server => self.server(stream, bytes),
            };
            assert_eq!(verdict, Verdict::Pass);
        }
    }

    /// A tick at which `newest` is the newest configuration. It ends with a flush if the flush interval is over.
    fn tick(&self, streams: &mut [Stream], newest: Option<PublishedMode>) {
        self.filter.begin_tick(&self.host);
        for stream in streams {
            if let Some(due) = stream.due(&self.filter, self.host.now(), newest) {
                stream.tick(&self.filter, due, &self.host);
            }
        }
        self.filter.end_tick(None, &mut *self.metrics.borrow_mut());
    }

    fn close(&self, mut stream: Stream) {
        stream.close(&self.filter, &self.host);
    }

    fn flush(&self) {
        self.filter.flush(&mut *self.metrics.borrow_mut());
    }

    fn sum(&self, name: &str, labels: &[&str]) -> i64 {
        self.metrics.borrow().sum(name, labels)
    }

    fn log(&self) -> Vec<String> {
        self.host.take_log().into_iter().map(|(_, line)| line).collect()
    }

    fn now(&self) -> Timestamp {
        self.host.now()
    }
}

/// Greeting, handshake response and OK.
fn login() -> Vec<(Sender, Vec<u8>)> {
    vec![
        (Sender::Server, greeting()),
        (Sender::Client, packet(1, &handshake_response(CLIENT_CAPABILITIES))),
        (Sender::Server, packet(2, &ok())),
    ]
}

/// A statement and its response.
fn query(sql: &str, response: impl IntoIterator<Item = Vec<u8>>) -> Vec<(Sender, Vec<u8>)> {
    vec![(Sender::Client, command(COM_QUERY, sql.as_bytes())), (Sender::Server, answer(response))]
}
