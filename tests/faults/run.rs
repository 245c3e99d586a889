//! The runner: one fault after the other, and the table.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::envoy::Envoy;
use firstword_testing::loopback;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::peer::Server;
use firstword_testing::{free_port, table, wait_for};

use crate::bystanders::Bystanders;
use crate::phases::Path;
use crate::proxy::{Filtered, Subject, Traffic};
use crate::tally::Counts;
use crate::{exact, good, phases, real};

/// Worker threads of Envoy.
const WORKERS: u32 = 4;
/// Maximum time until counts are exported on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Gauges of what is open on a connection.
const GAUGES: [&str; 4] =
    ["connections_active", "commands_in_flight", "prepared_statements_open", "transactions_open"];

/// A row of the table: the fault, what the other side sees, and what is counted.
type Row = [String; 3];

#[test]
fn a_fault_on_one_connection_is_counted_and_leaves_the_others() {
    let [wasm, native] = [Subject::Wasm, Subject::Native].map(|subject| thread::spawn(move || rows(subject)));
    let [wasm, native] = [wasm, native].map(|shell| shell.join().expect("all faults"));
    assert_eq!(wasm, native, "the modules differ");
    let header = ["fault on a connection", "the other side sees", "counted as closed by, in the phase"];
    let rows = wasm.into_iter().map(Vec::from);
    let rows: Vec<_> = std::iter::once(header.map(str::to_owned).to_vec()).chain(rows).collect();
    table::assert_says("docs/failure-modes.md", &rows);
}

/// Connections that ended, by who closed them and in which phase, except those of good clients.
type Closed = BTreeMap<String, u64>;

fn closed(envoy: &Envoy) -> Closed {
    let mut closed = Closed::new();
    for sample in envoy.prometheus().select("firstword_connections_closed_total", &[]) {
        if sample.labels["destination"] != Traffic::Good.name() {
            let ending = format!("{}, {}", sample.labels["closed_by"], sample.labels["phase"]);
            *closed.entry(ending).or_default() += sample.value as u64;
        }
    }
    closed
}

/// Runs a fault beside the bystanders, waits until `count` more connections have ended and nothing of them is open, and returns
/// what is counted.
fn counted<T>(
    filtered: &Filtered,
    bystanders: &mut Bystanders,
    count: u64,
    fault: impl FnOnce() -> T,
) -> (T, String) {
    let envoy = &filtered.proxy.envoy;
    let before = closed(envoy);
    let open = bystanders.count() as u64;
    let seen = bystanders.beside(fault);
    let now = wait_for(&format!("{count} ends"), PATIENCE, || {
        let now = closed(envoy);
        (now.values().sum::<u64>() == before.values().sum::<u64>() + count).then_some(now)
    });
    let expected = [open, 0, 0, 0];
    wait_for("gauges of the other connections alone", PATIENCE, || {
        let metrics = envoy.prometheus();
        let gauge = |name| metrics.get(&format!("firstword_{name}"), &[]).unwrap_or_default() as u64;
        (GAUGES.map(gauge) == expected).then_some(())
    });
    let more = now.into_iter().filter(|(ending, count)| before.get(ending).copied().unwrap_or(0) < *count);
    (seen, more.map(|(ending, _)| ending).collect::<Vec<_>>().join("; "))
}

/// Runs all faults with one module.
fn rows(subject: Subject) -> Vec<Row> {
    let [good, server] = [(); 2].map(|()| MariaDb::start(&[]));
    [&good, &server].into_iter().for_each(|server| good::prepare(server));
    let scripted = Server::start();
    let nowhere = loopback(free_port());
    let before = exact::statuses(&good);
    let mut filtered =
        Filtered::start(subject, [good.addr(), nowhere, server.addr(), scripted.address(), nowhere], WORKERS);
    let address = |traffic| filtered.proxy.address(traffic);
    let cut = address(Traffic::Cut);
    let mut bystanders = Bystanders::open(address(Traffic::Good));
    let mut counts = Counts::default();
    let mut rows = Vec::new();

    let envoy = &filtered.proxy.envoy;
    let path =
        Path { envoy, address: address(Traffic::Flood), server: &scripted, cluster: Traffic::Flood.name() };
    for (name, fault) in phases::faults() {
        let (seen, counted) = counted(&filtered, &mut bystanders, 1, || fault(&path));
        counts.attacks[0] += 1;
        rows.push([name, seen.to_owned(), counted]);
    }

    let mut real = |name: &str, fault: &dyn Fn() -> &'static str| {
        let (seen, counted) = counted(&filtered, &mut bystanders, 1, fault);
        counts.cut += 1;
        rows.push([name.to_owned(), seen.to_owned(), counted]);
    };
    real("the client does not read until all buffers are full", &|| real::slow_reader(cut));
    real("the client sends a statement slowly", &|| real::slow_writer(cut));
    real("a statement of 8 MiB, in chunks of up to 1 MiB", &|| real::large_statement(cut));
    real("another configuration comes in the middle of a result", &|| {
        filtered.reload();
        real::slow_reader(cut)
    });
    real("Envoy drains", &|| {
        filtered.drain();
        real::slow_reader(cut)
    });
    real("the server kills the session in the middle of a result", &|| real::killed_session(cut, &server));

    let ([reading, preparing], counted_as) =
        counted(&filtered, &mut bystanders, 2, || real::killed_process(cut, server));
    counts.cut += 2;
    rows.push([
        "the server's process is killed in the middle of a result".into(),
        reading.into(),
        counted_as.clone(),
    ]);
    rows.push(["the same, in the middle of a COM_STMT_PREPARE".into(), preparing.into(), counted_as]);
    let (seen, counted_as) = counted(&filtered, &mut bystanders, 1, || real::refused(cut));
    counts.cut += 1;
    rows.push(["no server accepts connections".into(), seen.into(), counted_as]);

    counts.good = bystanders.quit();
    let server = exact::Server { before, after: exact::statuses(&good) };
    let mut compared = server.with_clients(&counts);
    compared.extend(server.with_filter(&filtered.proxy.envoy, &counts));
    exact::assert_equal(&compared);

    // The end of the process ends all connections, on both sides.
    let bystanders = Bystanders::open(filtered.proxy.address(Traffic::Good));
    let mut idle = Client::login(filtered.proxy.address(Traffic::Good), &Login::new(CLASSIC));
    filtered.proxy.envoy.process().kill();
    bystanders.assert_closed();
    assert_eq!(idle.next_packet(), None);
    good.wait_until_alone(Duration::from_secs(20));
    rows
}
