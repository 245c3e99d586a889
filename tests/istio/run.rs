//! Runs the cases, several at the same time, each in its own pod, and compares the outcomes with the expected ones.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::{
    Case, Clients, DATABASE, Expected, HTTP_POD, HTTP_POD_PORT, HTTP_SERVICE, HttpExpected, MYSQL_PORT,
    Outbound, PORT,
};
use crate::cases::CASES;
use crate::lab::pod::{PLAIN, Pod, Running, start};
use crate::lab::world::{FIRST_CLIENT_PORT, World, database, pod_address};
use firstword_testing::doctor::doctor;
use firstword_testing::namespace::Namespace;
use firstword_testing::probe::{Http, SILENCE, Seen, addresses, client, client_with_header, listen, request};
use firstword_testing::wait_for;

/// Number of cases that run at the same time. It exceeds the number of cores, because they mostly wait.
pub const PODS: u8 = 6;
/// Number of further pods, for the tests of fixes.
pub const PODS_FOR_FIXES: u8 = 3;
/// Number of connections for a median.
const CONNECTIONS: usize = 9;
/// Maximum time to a greeting beyond three times that of plain `tcp_proxy`, because a busy machine adds delays.
const SLACK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// The world of all tests that run now. It ends with the last of them, because a static would not delete its files.
pub fn world() -> Arc<World> {
    static WORLD: Mutex<Weak<World>> = Mutex::new(Weak::new());
    let mut current = WORLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    current.upgrade().unwrap_or_else(|| {
        let world = Arc::new(World::new(PODS + 1 + PODS_FOR_FIXES));
        *current = Arc::downgrade(&world);
        world
    })
}

/// Starts the case's proxy in the pod, with [`PLAIN`] for a database.
fn start_case(world: &World, pod: &Pod, case: &Case, annotations: &Value, database: SocketAddr) -> Running {
    let proxy = case.proxy(pod_address(pod.number));
    let mesh = case.mesh(&proxy, world.files().to_str().expect("a path"));
    start(world, pod, (&mesh, &proxy), &case.all_resources(), annotations, database)
}

/// Outcome of a case for its clients, and of plain `tcp_proxy` for comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// One for each kind of clients. `None` if the case has no such clients.
    pub clients: Vec<Option<Measured>>,
    pub plain: Duration,
    pub http: Option<HttpExpected>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub as_expected: Expected,
    /// The median time. For a hang, the time of the wait.
    pub after: Duration,
}

/// Outcomes of all cases, or the message of the failure.
pub static OUTCOMES: LazyLock<Vec<Result<Outcome, String>>> = LazyLock::new(|| {
    let queue: VecDeque<_> = (0..CASES.len()).filter(|index| !is_too_new(&CASES[*index])).collect();
    let queue = Mutex::new(queue);
    let outcomes = Mutex::new(vec![Err("not run".to_owned()); CASES.len()]);
    let world = world();
    thread::scope(|scope| {
        for number in 0..PODS {
            let (queue, outcomes, world) = (&queue, &outcomes, &*world);
            scope.spawn(move || {
                let pod = Pod::new(world, number);
                loop {
                    let Some(index) = queue.lock().expect("the queue").pop_front() else { break };
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(world, &pod, &CASES[index])));
                    let why = |panic: Box<dyn std::any::Any + Send>| {
                        let text = panic.downcast_ref::<String>().cloned();
                        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()))
                            .unwrap_or_default()
                    };
                    outcomes.lock().expect("the outcomes")[index] = outcome.map_err(why);
                }
            });
        }
    });
    outcomes.into_inner().expect("the outcomes")
});

/// Whether the Envoy under test is too old for the case, which is then left out.
pub fn is_too_new(case: &Case) -> bool {
    static VERSION: LazyLock<(u32, u32)> = LazyLock::new(|| {
        let output =
            Command::new(firstword_testing::envoy()).arg("--version").output().expect("Envoy's version");
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = regex::Regex::new(r"/(\d+)\.(\d+)\.\d+/").expect("an expression");
        let found = found.captures(&output).unwrap_or_else(|| panic!("no version: {output}"));
        (found[1].parse().expect("a number"), found[2].parse().expect("a number"))
    });
    case.since > *VERSION
}

mod needs_netns {
    use super::*;

    #[test]
    #[ignore = "needs network namespaces: make test-istio"]
    fn each_case_has_the_expected_outcome() {
        for case in CASES.iter().filter(|case| is_too_new(case)) {
            println!("left out {}, it needs Envoy {}.{}", case.name, case.since.0, case.since.1);
        }
        let wrong: Vec<_> = CASES
            .iter()
            .zip(OUTCOMES.iter())
            .filter(|(case, _)| !is_too_new(case))
            .filter_map(|(case, outcome)| Some(format!("{}: {}", case.name, outcome.as_ref().err()?)))
            .collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    }

    /// Without the pod's annotation, Envoy does not keep the statistic that shows a hang.
    #[test]
    #[ignore = "needs network namespaces: make test-istio"]
    fn without_the_annotation_no_statistic_shows_a_hang() {
        let world = world();
        let pod = Pod::new(&world, PODS);
        pod.redirect(&[]);
        let article = CASES.iter().find(|case| case.name == "A1").expect("the case");
        let server = (DATABASE, PORT).into();
        let running = start_case(&world, &pod, article, &json!({}), server);
        assert_eq!(pod.namespace.enter(|| listen(server, b"", false)), Seen::Nothing);
        let statistics = pod.namespace.enter(|| running.envoy.admin_get("/stats"));
        assert!(!statistics.contains("downstream_pre_cx"), "{statistics}");
    }
}

/// Asserts that `firstword doctor`, run in the pod with Envoy's admin interface, reports the outcome of each kind of client.
fn assert_diagnosed(pod: &Pod, running: &Running, case: &Case) {
    let admin = pod.namespace.enter(|| running.envoy.admin_addr()).to_string();
    for to in case.destinations(pod_address(pod.number)) {
        let mut inside = pod.namespace.command();
        inside.arg(firstword_testing::program::firstword());
        case.assert_verdicts(&doctor(inside, &admin, to, b""));
    }
}

fn run(world: &World, pod: &Pod, case: &Case) -> Outcome {
    match &case.clients {
        Clients::Outbound(clients) => outbound(world, pod, case, clients),
        Clients::Inbound { plain, mtls } => inbound(world, pod, case, *plain, *mtls),
        Clients::Gateway(expected) => gateway(world, pod, case, *expected),
        Clients::Proxied { gateway, with, without, mtls } => {
            proxied(world, pod, case, *gateway, [Some(*with), Some(*without), *mtls])
        }
    }
}

fn outbound(world: &World, pod: &Pod, case: &Case, of: &Outbound) -> Outcome {
    pod.redirect(if of.excluded { &[DATABASE] } else { &[] });
    let running = start_case(world, pod, case, &case.annotations(), (DATABASE, PORT).into());
    // Test HTTP before and after the clients that may hang.
    let http = of.http.inspect(|expected| assert_http(&pod.namespace, *expected));
    let mut greeted = 0;
    let mut clients = Vec::new();
    for address in [of.to.0].into_iter().chain(of.also) {
        let probe = Probe { client: &pod.namespace, pod, to: (address, of.to.1).into(), first: b"" };
        clients.push(probe.expect(of.expected, &running, &mut greeted));
    }
    if of.expected == Expected::Greeting && !of.excluded {
        let (known, own) = addresses(&pod.namespace, of.to.into());
        assert_eq!(known == own, case.sends_header, "known as {known}, is {own}");
        greeted += 1;
    }
    of.http.inspect(|expected| assert_http(&pod.namespace, *expected));
    assert_counted(pod, &running, case, "outbound", greeted);
    assert_diagnosed(pod, &running, case);
    Outcome { plain: clients[0].1, clients: vec![Some(clients[0].0)], http }
}

fn inbound(world: &World, pod: &Pod, case: &Case, plain: Expected, mtls: Option<Expected>) -> Outcome {
    pod.redirect(&[]);
    let own = pod_address(pod.number);
    let server = database(&pod.namespace, world.files(), MYSQL_PORT);
    let running = start_case(world, pod, case, &case.annotations(), (Ipv4Addr::LOCALHOST, MYSQL_PORT).into());
    let mut greeted = 0;
    let mut expect = |to: SocketAddr, expected| {
        Probe { client: &world.namespace, pod, to, first: b"" }.expect(expected, &running, &mut greeted)
    };
    let (seen, baseline) = expect((own, MYSQL_PORT).into(), plain);
    let client_sidecar = (Ipv4Addr::LOCALHOST, FIRST_CLIENT_PORT + u16::from(pod.number)).into();
    let by_mtls = mtls.map(|expected| expect(client_sidecar, expected).0);
    assert_counted(pod, &running, case, "inbound", greeted);
    assert_diagnosed(pod, &running, case);
    drop(running);
    drop(server);
    Outcome { clients: vec![Some(seen), by_mtls], plain: baseline, http: None }
}

fn gateway(world: &World, pod: &Pod, case: &Case, expected: Expected) -> Outcome {
    pod.no_redirect();
    let running = start_case(world, pod, case, &case.annotations(), (DATABASE, PORT).into());
    let mut greeted = 0;
    let to = (pod_address(pod.number), MYSQL_PORT).into();
    let probe = Probe { client: &world.namespace, pod, to, first: b"" };
    let (seen, plain) = probe.expect(expected, &running, &mut greeted);
    assert_counted(pod, &running, case, "outbound", greeted);
    assert_diagnosed(pod, &running, case);
    Outcome { clients: vec![Some(seen)], plain, http: None }
}

/// Header from a load balancer.
pub const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 3306\r\n";

/// Clients of a load balancer that sends PROXY headers, before a database's pod or a gateway.
fn proxied(world: &World, pod: &Pod, case: &Case, gateway: bool, expected: [Option<Expected>; 3]) -> Outcome {
    let server = (!gateway).then(|| {
        pod.redirect(&[]);
        database(&pod.namespace, world.files(), MYSQL_PORT)
    });
    let plain = match &server {
        Some(_) => (Ipv4Addr::LOCALHOST, MYSQL_PORT).into(),
        None => {
            pod.no_redirect();
            (DATABASE, PORT).into()
        }
    };
    let running = start_case(world, pod, case, &case.annotations(), plain);
    let own = SocketAddr::from((pod_address(pod.number), MYSQL_PORT));
    let sidecar = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST_CLIENT_PORT + u16::from(pod.number)));
    let mut greeted = 0;
    let clients = [(own, HEADER), (own, b""), (sidecar, b"")];
    let mut baseline = Duration::ZERO;
    let seen = clients.into_iter().zip(expected).map(|((to, first), expected)| {
        let probe = Probe { client: &world.namespace, pod, to, first };
        let (seen, plain) = probe.expect(expected?, &running, &mut greeted);
        baseline = plain;
        Some(seen)
    });
    let mut clients: Vec<_> = seen.collect();
    if gateway {
        // A gateway has no clients with mTLS.
        clients.truncate(2);
    }
    if matches!(expected[1], Some(Expected::Closed(_))) {
        // The filter closed and counted two connections: that of the probe, and that of MariaDB's client.
        greeted += 2;
    }
    assert_counted(pod, &running, case, if gateway { "outbound" } else { "inbound" }, greeted);
    assert_diagnosed(pod, &running, case);
    drop(running);
    drop(server);
    Outcome { clients, plain: baseline, http: None }
}

/// A client that connects to a database through the pod's proxy.
pub struct Probe<'w> {
    pub client: &'w Namespace,
    pub pod: &'w Pod,
    pub to: SocketAddr,
    /// The client's first bytes.
    pub first: &'static [u8],
}

impl Probe<'_> {
    /// Asserts the expected outcome. Returns it with its time, and the median of plain `tcp_proxy`. Adds the number of
    /// connections with a greeting to `greeted`.
    pub fn expect(&self, expected: Expected, running: &Running, greeted: &mut u32) -> (Measured, Duration) {
        let (after, plain) = self.measure(expected, running, greeted);
        let is_greeted = matches!(expected, Expected::Greeting | Expected::After(_));
        if !self.first.is_empty() {
            if is_greeted {
                assert_eq!(client_with_header(self.client, self.to, self.first), "42");
                *greeted += 1;
            }
            return (Measured { as_expected: expected, after }, plain);
        }
        let result = client(self.client, self.to);
        if is_greeted {
            assert_eq!(result.as_deref(), Ok("42"), "MariaDB's client");
            *greeted += 1;
        } else {
            let error = result.expect_err("MariaDB's client received a response");
            let reason = "reading initial communication packet";
            assert!(error.contains("ERROR 2013") && error.contains(reason), "MariaDB's client: {error}");
        }
        (Measured { as_expected: expected, after }, plain)
    }

    /// Time to the expected outcome, and the time to the greeting of plain `tcp_proxy`.
    fn measure(&self, expected: Expected, running: &Running, greeted: &mut u32) -> (Duration, Duration) {
        match expected {
            Expected::Greeting => {
                // Try again, because the machine may be busy.
                let mut last = (Duration::MAX, Duration::ZERO);
                for _ in 0..5 {
                    let (plain, seen) = self.medians(CONNECTIONS, greeted);
                    last = (seen, plain);
                    if seen <= plain * 3 + SLACK {
                        break;
                    }
                }
                assert!(
                    last.0 <= last.1 * 3 + SLACK,
                    "greeting after {:?}, by tcp_proxy alone after {:?}",
                    last.0,
                    last.1
                );
                last
            }
            Expected::After(millis) => {
                let (plain, seen) = self.medians(3, greeted);
                assert!(seen >= minimum(millis), "greeting after {seen:?}, not {millis} ms");
                (seen, plain)
            }
            Expected::Hang => {
                let seen = self.client.enter(|| listen(self.to, self.first, false));
                assert_eq!(seen, Seen::Nothing, "{}", self.to);
                self.assert_only_waiting(running);
                (SILENCE, self.plain())
            }
            Expected::Closed(millis) => {
                let seen = self.client.enter(|| listen(self.to, self.first, true));
                let Seen::Closed(after) = seen else { panic!("expected it closed, found {seen:?}") };
                assert!(after >= minimum(millis), "closed after {after:?}, not {millis} ms");
                (after, self.plain())
            }
        }
    }

    /// Time to the greeting of plain `tcp_proxy`.
    fn plain(&self) -> Duration {
        match self.pod.namespace.enter(|| listen(PLAIN, b"", false)) {
            Seen::Greeting(after) => after,
            other => panic!("tcp_proxy alone: {other:?}"),
        }
    }

    /// Medians of the time to the greeting: of plain `tcp_proxy`, and of this client. Both alternate, so that load on the
    /// machine slows both.
    fn medians(&self, connections: usize, greeted: &mut u32) -> (Duration, Duration) {
        let pair = |_| {
            let plain = self.plain();
            match self.client.enter(|| listen(self.to, self.first, false)) {
                Seen::Greeting(after) => (plain, after),
                other => panic!("expected a greeting from {}, found {other:?}", self.to),
            }
        };
        let (plain, seen): (Vec<_>, Vec<_>) = (0..connections).map(pair).unzip();
        *greeted += u32::try_from(connections).expect("few");
        (median(plain), median(seen))
    }

    /// Asserts that the statistic of connections in listener filters shows the connection while it is open.
    fn assert_only_waiting(&self, running: &Running) {
        let waiting =
            || self.pod.namespace.enter(|| running.envoy.admin_get("/stats?filter=downstream_pre_cx_active"));
        let is = |count: u32| {
            let sum = |text: String| {
                text.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).sum::<u32>()
            };
            wait_for("number of waiting connections", PATIENCE, || (sum(waiting()) == count).then_some(()));
        };
        is(0);
        let mut connection = self.client.enter(|| TcpStream::connect(self.to).expect("a connection"));
        connection.write_all(self.first).expect("a header");
        is(1);
        drop(connection);
        is(0);
    }
}

/// Minimum measured time for a timer, because clocks of cores differ a little.
fn minimum(millis: u64) -> Duration {
    Duration::from_millis(millis) * 9 / 10
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn assert_http(client: &Namespace, expected: HttpExpected) {
    let service = SocketAddr::from((HTTP_SERVICE, PORT));
    let of =
        |to: SocketAddr, host: &str, pause| client.enter(|| request(to, host, Duration::from_millis(pause)));
    let found = match expected {
        HttpExpected::ManagerElsewhere { .. } => {
            let pod = SocketAddr::from((HTTP_POD, HTTP_POD_PORT));
            of(pod, &pod.to_string(), 0)
        }
        _ => of(service, "irrelevant-svc.other:10000", 0),
    };
    if matches!(expected, HttpExpected::ManagerElsewhere { raw_on_the_port: true }) {
        assert_eq!(of(service, &service.to_string(), 0), Http::Raw, "on the database's port");
    }
    assert_eq!(found, if expected == HttpExpected::Raw { Http::Raw } else { Http::Manager }, "{expected:?}");
    // A slow client is handled in the same way, unless the listener filters have a timeout.
    let slow = |pause| of(service, "irrelevant-svc.other:10000", pause);
    match expected {
        HttpExpected::Manager => assert_eq!(slow(200), found, "{expected:?}, slow"),
        // A busy machine may delay Envoy's timer beyond the first pause.
        HttpExpected::ManagerIfQuick => {
            assert!(
                [200, 1000, 5000].into_iter().any(|pause| slow(pause) == Http::Raw),
                "{expected:?}, slow"
            );
        }
        _ => {}
    }
}

/// Asserts that the filter has counted each connection with a greeting as MySQL, and that there are no counts without it.
fn assert_counted(pod: &Pod, running: &Running, case: &Case, direction: &str, greeted: u32) {
    pod.namespace.enter(|| {
        const COUNTER: &str = "firstword_connections_total";
        let Some(destination) = case.counted_as else {
            let found = running.envoy.metric(COUNTER, &[]);
            assert_eq!(found, None, "no filter should be in the chain");
            return;
        };
        let labels = [("protocol", "mysql"), ("direction", direction), ("destination", destination)];
        running.envoy.wait_metric(COUNTER, &labels, greeted.into());
        let all = running.envoy.metric(COUNTER, &[("protocol", "mysql")]);
        assert_eq!(all, Some(greeted.into()), "with other labels");
    });
}
