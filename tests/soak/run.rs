//! The phases of a run.

use std::net::SocketAddr;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::process::resident;
use firstword_testing::random::Random;
use serde_json::Value;

use crate::cut::cut;
use crate::delays::{Round, flood, measure};
use crate::exact;
use crate::flood;
use crate::good::{self, Session};
use crate::options::Options;
use crate::proxy::{Filtered, Proxy, Subject, Traffic};
use crate::report::{Report, Sample};
use crate::tally::{Counts, Tally};
use crate::tunnel;

/// Options of the servers. One thread for each connection would need more memory than the connections themselves.
const SERVER: [&str; 3] =
    ["--thread-handling=pool-of-threads", "--max-connections=25000", "--open-files-limit=20000"];
/// Worker threads of Envoy.
const WORKERS: u32 = 2;
/// Threads of the mixed load. Each has a part of the open connections.
const THREADS: usize = 6;
/// Commands of a session of the mixed load before it ends and another begins.
const COMMANDS: usize = 50;
/// Threads that connect, and the connects in a second that they aim at.
const CONNECTING: u32 = 16;
pub const CONNECTS: u32 = 2000;
/// Time between two hostile connections beside the mixed load.
const ATTACK_EVERY: Duration = Duration::from_millis(20);
/// Time between two connections that are cut.
const CUT_EVERY: Duration = Duration::from_millis(10);

/// A thread of the mixed load between two intervals.
struct Worker {
    /// Connections that stay open.
    open: Vec<Session>,
    random: Random,
    tally: Tally,
}

impl Worker {
    fn new(seed: usize) -> Self {
        Self { open: Vec::new(), random: Random::from_seed(seed as u64), tally: Tally::default() }
    }

    /// Opens connections that stay open. Each has the largest messages at once, because Envoy and the server keep some room for
    /// them per connection, and memory should not grow later for that reason.
    fn open(&mut self, address: SocketAddr, bodies: &[String], count: usize) {
        for _ in 0..count {
            let mut session = Session::open(address, &mut self.tally);
            session.fill(bodies, &mut self.tally);
            session.upload(bodies, &mut self.random, &mut self.tally);
            self.open.push(session);
        }
    }

    /// Runs short sessions until the end. Each second command is one of an open connection, all of them in turn.
    fn work(&mut self, address: SocketAddr, bodies: &[String], end: Instant) {
        while Instant::now() < end {
            let mut session = Session::open(address, &mut self.tally);
            for _ in 0..COMMANDS {
                if Instant::now() > end {
                    break;
                }
                session.work(bodies, &mut self.random, &mut self.tally);
                self.open.rotate_left(1);
                if let Some(open) = self.open.last_mut() {
                    open.work(bodies, &mut self.random, &mut self.tally);
                }
            }
            session.quit(&mut self.tally);
        }
    }
}

/// Runs all phases with one subject. Panics if a client sees a wrong byte, or a count is not exact.
pub fn run(subject: Subject) {
    let options = Options::from_environment();
    let [good, cut_server, plain_server] = [(); 3].map(|()| MariaDb::start(&SERVER));
    [&good, &cut_server, &plain_server].into_iter().for_each(|server| good::prepare(server));
    let (hostile, bodies) = (flood::server(), good::bodies());
    let before = exact::statuses(&good);
    let tunnel = tunnel::exit(good.addr(), WORKERS);
    let servers = [good.addr(), tunnel.listener_addr("tunnel"), cut_server.addr(), hostile, hostile];
    let mut filtered = Filtered::start(subject, servers, WORKERS);
    let mut counts = Counts::default();
    let say = |phase: &str| eprintln!("{}: {phase}", subject.name());

    say("good queries beside a flood");
    let rounds = {
        let server = plain_server.addr();
        let plain = Proxy::plain([server, server, server, hostile, hostile], WORKERS);
        compare_delays(&filtered.proxy, &plain, &options, &mut counts)
    };
    drop(plain_server);

    say("open connections");
    let mut workers: Vec<_> = (0..THREADS).map(Worker::new).collect();
    let began = Instant::now();
    let direct = options.connections - options.tunnelled;
    for (traffic, count) in [(Traffic::Good, direct), (Traffic::Tunnelled, options.tunnelled)] {
        open(&mut workers, filtered.proxy.address(traffic), &bodies, count as usize);
    }
    let opened_in = began.elapsed();

    say("connects");
    let (connects, connecting) =
        connect(filtered.proxy.address(Traffic::Good), options.connecting(), &mut counts);

    let mut samples = Vec::new();
    for interval in 0..options.intervals() {
        let end = Instant::now() + options.interval();
        mix(&mut workers, &filtered.proxy, &bodies, end, &mut counts, u64::from(interval), || {
            sleep(options.interval() / 2);
            filtered.reload();
            if interval == options.intervals() / 2 {
                filtered.drain();
            }
        });
        let sample = sample(&mut filtered, interval + 1);
        say(&format!(
            "minute {}: {:.1} MiB, {:.1} allocated",
            sample.minute, sample.resident, sample.allocated
        ));
        samples.push(sample);
    }

    say("the end of all connections");
    scope(|scope| {
        for worker in &mut workers {
            scope.spawn(|| worker.open.drain(..).for_each(|session| session.quit(&mut worker.tally)));
        }
    });
    workers.iter().for_each(|worker| counts.good.add(&worker.tally));
    let server = exact::Server { before, after: exact::statuses(&good) };
    exact::statuses(&cut_server);
    let mut comparisons = server.with_clients(&counts);
    if subject != Subject::Plain {
        comparisons.extend(server.with_filter(&filtered.proxy.envoy, &counts));
    }
    let reloads = filtered.reloads();
    let (status, log) = filtered.proxy.envoy.shutdown();
    let report = Report {
        subject,
        options,
        rounds,
        opened_in,
        connects: f64::from(connects) / connecting.as_secs_f64(),
        samples,
        reloads,
        counts,
        comparisons,
    };
    report.write();
    assert!(status.success(), "Envoy ended with {status}:\n{log}");
    for word in ["[critical]", "panicked", "in-VM backtrace", "event=panic"] {
        assert!(!log.contains(word), "{word}:\n{log}");
    }
    report.assert_exact();
}

fn compare_delays(filtered: &Proxy, plain: &Proxy, options: &Options, counts: &mut Counts) -> Vec<Round> {
    let (rounds, time) = options.rounds();
    // Of these only the filter's counts are compared.
    let mut other = Counts::default();
    let mut round = |seed: usize| {
        let seed = seed as u64;
        if seed % 2 == 0 {
            let filtered = measure(filtered, time, seed, counts);
            Round { filtered, plain: measure(plain, time, seed, &mut other) }
        } else {
            let plain = measure(plain, time, seed, &mut other);
            Round { filtered: measure(filtered, time, seed, counts), plain }
        }
    };
    // The first round is not counted, because caches fill.
    round(0);
    (1..=rounds).map(round).collect()
}

fn open(workers: &mut [Worker], address: SocketAddr, bodies: &[String], count: usize) {
    let threads = workers.len();
    scope(|scope| {
        for (index, worker) in workers.iter_mut().enumerate() {
            let share = count / threads + usize::from(index < count % threads);
            scope.spawn(move || worker.open(address, bodies, share));
        }
    });
}

/// Connects, logs in and quits again and again. Returns the number of these sessions and the time that they took.
fn connect(address: SocketAddr, time: Duration, counts: &mut Counts) -> (u32, Duration) {
    let began = Instant::now();
    let every = Duration::from_secs(1) * CONNECTING / CONNECTS;
    let tallies: Vec<_> = scope(|scope| {
        let connect = || {
            let (mut tally, mut next) = (Tally::default(), began);
            while next < began + time && Instant::now() < began + time {
                sleep(next.saturating_duration_since(Instant::now()));
                Session::open(address, &mut tally).quit(&mut tally);
                next += every;
            }
            tally
        };
        let threads: Vec<_> = (0..CONNECTING).map(|_| scope.spawn(connect)).collect();
        threads.into_iter().map(|thread| thread.join().expect("sessions")).collect()
    });
    let elapsed = began.elapsed();
    tallies.iter().for_each(|tally| counts.good.add(tally));
    let connects: u64 = tallies.iter().map(|tally| tally.connections).sum();
    (u32::try_from(connects).expect("few connects"), elapsed)
}

/// Runs the mixed load, connections that are cut, and a flood until the end, and `change` beside them.
fn mix(
    workers: &mut [Worker],
    proxy: &Proxy,
    bodies: &[String],
    end: Instant,
    counts: &mut Counts,
    seed: u64,
    change: impl FnOnce(),
) {
    scope(|scope| {
        for worker in workers {
            scope.spawn(move || worker.work(proxy.address(Traffic::Good), bodies, end));
        }
        let cuts = scope.spawn(move || {
            let (mut random, mut cuts) = (Random::from_seed(seed), 0);
            while Instant::now() < end {
                cut(proxy.address(Traffic::Cut), &mut random);
                cuts += 1;
                sleep(CUT_EVERY);
            }
            cuts
        });
        let attacks = scope.spawn(move || flood(proxy, end, seed, ATTACK_EVERY));
        change();
        counts.cut += cuts.join().expect("connections that are cut");
        counts.add_attacks(attacks.join().expect("a flood"));
    });
}

/// Figures of a moment without load.
fn sample(filtered: &mut Filtered, minute: u32) -> Sample {
    // Connections that clients have just left end.
    sleep(Duration::from_secs(1));
    let envoy = &mut filtered.proxy.envoy;
    let metrics = envoy.prometheus();
    let gauge = |name: &str| metrics.get(&format!("firstword_{name}"), &[]).unwrap_or_default();
    Sample {
        minute,
        open: envoy.stat(r"^listener\.127[.0-9]*_0\.downstream_cx_active$"),
        state: gauge("connection_state_bytes"),
        vm: gauge("vm_memory_bytes"),
        resident: resident(envoy.process().id()),
        allocated: allocated(envoy),
    }
}

/// Memory that Envoy's allocator has given out, in MiB. The rest of what it has from the kernel is free.
fn allocated(envoy: &Envoy) -> f64 {
    let memory: Value = serde_json::from_str(&envoy.admin_get("/memory")).expect("JSON");
    let bytes: f64 = memory["allocated"].as_str().and_then(|bytes| bytes.parse().ok()).expect("a number");
    bytes / f64::from(1 << 20)
}
