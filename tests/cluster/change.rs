//! Connections that are open while something changes, and new ones at the same time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::pod::Pod;
use crate::lab::world::outside;
use crate::mesh::Mesh;
use crate::report::Report;
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::probe::{Seen, listen};

/// Time between two new connections.
const PAUSE: Duration = Duration::from_millis(12);
/// Time after which Envoy has closed what it drains, and a margin: `lab/istio.rs` sets 3 seconds.
const DRAINED: Duration = Duration::from_secs(7);

/// One change.
pub struct Change<'c> {
    pub what: &'c str,
    pub make: &'c dyn Fn(),
    /// Whether the connections to the database outside, and to the one in the mesh, stay open.
    pub stay: (bool, bool),
    /// Whether each new connection to the database outside gets its greeting.
    pub all_greeted: bool,
}

impl Change<'_> {
    /// Makes the change while a pod has this number of open connections to each of the two databases, and new ones come. Reports
    /// what becomes of them.
    pub fn observe(&self, mesh: &Mesh<'_>, pod: &Pod, open: usize, step: &'static str, report: &mut Report) {
        let inside = mesh.service("db", "mysql");
        let log_in = |to: SocketAddr| -> Vec<Client> {
            pod.network.enter(|| (0..open).map(|_| Client::login(to, &Login::new(CLASSIC))).collect())
        };
        let (outside_open, inside_open) = (log_in(outside()), log_in(inside));
        let is_done = AtomicBool::new(false);
        let new = thread::scope(|scope| {
            let new = scope.spawn(|| pod.network.enter(|| connect_until(&is_done)));
            // Some connections before the change.
            thread::sleep(Duration::from_secs(1));
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.make)()));
            thread::sleep(DRAINED);
            is_done.store(true, Ordering::Release);
            let new = new.join().expect("the new connections");
            made.map(|()| new).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let found = (alive(outside_open), alive(inside_open));
        let number = |stays: bool| if stays { open } else { 0 };
        let expected = (number(self.stay.0), number(self.stay.1));
        assert_eq!(found, expected, "{}: open connections outside and in the mesh that are left", self.what);
        assert!(new.len() > 50, "{}: {} new connections", self.what, new.len());
        let others: Vec<_> = new.iter().filter(|seen| !matches!(seen, Seen::Greeting(_))).collect();
        assert_eq!(others.is_empty(), self.all_greeted, "{}: new connections: {others:?}", self.what);
        let of = |stays: bool| if stays { "stay open" } else { "end after the drain time" };
        report.add(
            step,
            self.what,
            format!(
                "outside {}, in the mesh {}; {}",
                of(self.stay.0),
                of(self.stay.1),
                if self.all_greeted {
                    "each new connection gets its greeting"
                } else {
                    "new ones hang again"
                }
            ),
        );
    }
}

/// Number of connections that are open, and work.
fn alive(clients: Vec<Client>) -> usize {
    let mut alive = 0;
    for mut client in clients {
        if !client.has_ended() {
            client.query("SELECT 20+22").expect("a result");
            client.quit();
            alive += 1;
        }
    }
    alive
}

/// Connects again and again, and notes the first reaction.
fn connect_until(is_done: &AtomicBool) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !is_done.load(Ordering::Acquire) {
        let start = Instant::now();
        seen.push(listen(outside(), b"", false));
        thread::sleep(PAUSE.saturating_sub(start.elapsed()));
    }
    seen
}
