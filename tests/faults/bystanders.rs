//! Connections that work while another one has a fault.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use firstword_testing::random::Random;

use crate::good::{Session, bodies};
use crate::tally::Tally;

/// Threads, and connections of each.
const THREADS: u64 = 4;
const EACH: usize = 3;

struct Bystander {
    sessions: Vec<Session>,
    random: Random,
    tally: Tally,
}

/// All of them.
pub struct Bystanders {
    all: Vec<Bystander>,
    bodies: Vec<String>,
}

impl Bystanders {
    pub fn open(address: SocketAddr) -> Self {
        let open = |seed| {
            let mut tally = Tally::default();
            let sessions = (0..EACH).map(|_| Session::open(address, &mut tally)).collect();
            Bystander { sessions, random: Random::from_seed(seed), tally }
        };
        Self { all: (0..THREADS).map(open).collect(), bodies: bodies() }
    }

    pub fn count(&self) -> usize {
        self.all.iter().map(|bystander| bystander.sessions.len()).sum()
    }

    /// Works while `fault` runs, and once on each connection after it. Panics if a byte is wrong.
    pub fn beside<T>(&mut self, fault: impl FnOnce() -> T) -> T {
        let (is_over, bodies) = (AtomicBool::new(false), &self.bodies);
        scope(|scope| {
            for Bystander { sessions, random, tally } in &mut self.all {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut is_last = false;
                    while !is_last {
                        is_last = is_over.load(Ordering::Relaxed);
                        sessions.iter_mut().for_each(|session| session.work(bodies, random, tally));
                    }
                });
            }
            // Ends the others also if the fault's own assertion fails.
            let end = End(&is_over);
            let seen = fault();
            drop(end);
            seen
        })
    }

    /// Ends all connections with COM_QUIT. Returns what they did.
    pub fn quit(self) -> Tally {
        let mut all = Tally::default();
        for mut bystander in self.all {
            bystander.sessions.into_iter().for_each(|session| session.quit(&mut bystander.tally));
            all.add(&bystander.tally);
        }
        all
    }

    /// Asserts that each connection ends.
    pub fn assert_closed(self) {
        for session in self.all.into_iter().flat_map(|bystander| bystander.sessions) {
            assert!(session.closes());
        }
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
