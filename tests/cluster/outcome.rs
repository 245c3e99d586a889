//! What becomes of a client, in classes that are equal in each run.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::pod::Pod;
use crate::mesh::Mesh;
use firstword_testing::namespace::Namespace;
use firstword_testing::probe::{Http, Seen, client, listen, request};

/// Number of connections of which the fastest decides the class, and of those for a median.
const CONNECTIONS: usize = 9;
/// Number of attempts to measure a median on a busy machine.
const ATTEMPTS: usize = 20;
/// Smallest delay that a proxy adds on purpose.
const DELAY: Duration = Duration::from_millis(40);

/// Outcome for a client that waits for the greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The fastest of several greetings comes without a delay.
    Greeting,
    /// Each greeting comes after this number of milliseconds.
    After(u64),
    /// No byte and no end for five seconds; MariaDB's client gives up.
    Silence,
    /// The connection ends without a byte after this number of seconds.
    Closed(u64),
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting => out.write_str("greeting"),
            Self::After(millis) => write!(out, "greeting after {millis} ms"),
            Self::Silence => out.write_str("**silence**"),
            Self::Closed(0) => out.write_str("**closed** at once"),
            Self::Closed(seconds) => write!(out, "**closed** after {seconds} s"),
        }
    }
}

/// A client in a namespace, and its first bytes.
#[derive(Clone, Copy)]
pub struct Probe<'p> {
    pub from: &'p Namespace,
    pub to: SocketAddr,
    pub first: &'static [u8],
}

impl Probe<'_> {
    /// Asserts the outcome. Returns the number of connections that got a greeting.
    pub fn expect(&self, expected: Outcome) -> u32 {
        let found = self.outcome(expected);
        assert_eq!(found.0, expected, "{}", self.to);
        if !self.first.is_empty() {
            return found.1;
        }
        let response = client(self.from, self.to);
        match expected {
            Outcome::Greeting | Outcome::After(_) => {
                assert_eq!(response.as_deref(), Ok("42"), "MariaDB's client");
                found.1 + 1
            }
            Outcome::Silence | Outcome::Closed(_) => {
                let error = response.expect_err("MariaDB's client received a response");
                let reason = "reading initial communication packet";
                assert!(error.contains("ERROR 2013") && error.contains(reason), "MariaDB's client: {error}");
                found.1
            }
        }
    }

    /// Asserts that the median time to the greeting is at most twice another one. Tries again, because the machine may be busy.
    pub fn assert_at_most_twice(&self, plain: Duration) {
        let medians: Vec<_> =
            (0..ATTEMPTS).map_while(|_| Some(self.median()).filter(|found| *found > plain * 2)).collect();
        assert!(
            medians.len() < ATTEMPTS,
            "{}: greeting after {medians:?}, twice {plain:?} is the limit",
            self.to
        );
    }

    /// The median time to the greeting.
    pub fn median(&self) -> Duration {
        let time = |_| match self.from.enter(|| listen(self.to, self.first, false)) {
            Seen::Greeting(after) => after,
            other => panic!("{}: {other:?} in place of a greeting", self.to),
        };
        let mut times: Vec<_> = (0..CONNECTIONS).map(time).collect();
        times.sort();
        times[CONNECTIONS / 2]
    }

    /// The outcome, and the number of greetings. `expected` is what the delay is rounded to.
    fn outcome(&self, expected: Outcome) -> (Outcome, u32) {
        let until_closed = matches!(expected, Outcome::Closed(_));
        let listen = || self.from.enter(|| listen(self.to, self.first, until_closed));
        let mut fastest = match listen() {
            Seen::Nothing => return (Outcome::Silence, 0),
            Seen::Closed(after) => {
                // Clocks of cores differ a little.
                let seconds = (after + Duration::from_millis(100)).as_secs();
                return (Outcome::Closed(seconds), 0);
            }
            Seen::Greeting(after) => after,
        };
        for _ in 1..CONNECTIONS {
            let Seen::Greeting(after) = listen() else {
                panic!("{}: one of several has no greeting", self.to)
            };
            fastest = fastest.min(after);
        }
        let greeted = u32::try_from(CONNECTIONS).expect("few");
        let outcome = match expected {
            Outcome::After(millis) if fastest >= Duration::from_millis(millis) * 9 / 10 => expected,
            _ if fastest < DELAY => Outcome::Greeting,
            _ => Outcome::After(u64::try_from(fastest.as_millis()).expect("a short time")),
        };
        (outcome, greeted)
    }
}

/// An HTTP outcome in the tables.
pub const fn in_words(http: Http) -> &'static str {
    match http {
        Http::Manager => "HTTP",
        Http::Raw => "raw TCP",
    }
}

/// How the HTTP Service on the database's port is reached from a pod.
pub fn http(mesh: &Mesh<'_>, pod: &Pod) -> Http {
    let to = mesh.service("other", "irrelevant-svc");
    let host = format!("irrelevant-svc.other:{}", to.port());
    pod.network.enter(|| request(to, &host, Duration::ZERO))
}
