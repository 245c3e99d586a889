//! A trap in the VM, or a panic in the native module: effects on the connection that causes it, on the others of its worker, and on new
//! ones, under each failure policy of Envoy.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::scope;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::packet;
use firstword_testing::{built, table, temp_dir};

/// Text in a statement on which the test build of the wasm module traps (`crates/proxy-wasm/src/traps.rs`).
const TRAP: &str = "firstword trap";
/// Time after which a module is taken to be never loaded again. Envoy waits about a second.
const RELOAD: Duration = Duration::from_secs(15);

/// Time without changes after which all counts are exported: more than two ticks of the filter.
const QUIET: Duration = Duration::from_millis(1500);

fn wasm(policy: &str, value: Value) -> EnvoyOptions {
    let module = built("FIRSTWORD_WASM_TRAPS", "target/firstword-traps.wasm", "scripts/wasm.sh traps");
    EnvoyOptions::new("envoy/mysql.yaml").wasm(&module).edit(|bootstrap| {
        let filters = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
        let config = filters[0]["typed_config"]["config"].as_object_mut().expect("a plugin");
        config.remove("fail_open").expect("fail_open in envoy/mysql.yaml");
        config.insert(policy.to_owned(), value);
    })
}

/// The next bytes of a client cause a panic when the file at this path names that hook.
fn native(panic: &Path) -> EnvoyOptions {
    let module =
        built("FIRSTWORD_NATIVE_PANICS", "target/libfirstword-panics.so", "scripts/native.sh panics");
    let options = EnvoyOptions::new("envoy/native.yaml").native(&module);
    options.environment("FIRSTWORD_PANIC", panic.to_str().expect("a path"))
}

/// Logs in. `None` if Envoy closes the connection before the greeting.
fn login(address: SocketAddr) -> Option<Client> {
    let mut probe = TcpStream::connect(address).expect("a listener that accepts");
    if !matches!(probe.read(&mut [0]), Ok(1)) {
        return None;
    }
    Some(Client::login(address, &Login::new(CLASSIC)))
}

/// Sends a query. True if its response arrives.
fn works(client: &mut Client, statement: &str) -> bool {
    let payload = client.query_payload(statement);
    if client.try_send(&packet(0, &payload)).is_none() {
        return false;
    }
    let Some(first) = client.next_packet() else { return false };
    assert_eq!(first, [1], "the column count");
    // Definition, EOF, row, EOF.
    (0..4).all(|_| client.next_packet().is_some())
}

fn logins(envoy: &Envoy) -> f64 {
    envoy.stable(QUIET).get("firstword_handshakes_total", &[("result", "ok")]).unwrap_or_default()
}

/// Outcome for a new connection.
fn outcome_of_new(envoy: &Envoy, address: SocketAddr) -> &'static str {
    let before = logins(envoy);
    let Some(mut client) = login(address) else { return "closed" };
    assert!(works(&mut client, "SELECT 1"));
    client.quit();
    if logins(envoy) > before { "inspected" } else { "forwarded without inspection" }
}

/// A row of the table. `arm` is called before the statement that causes the crash.
fn row(name: &str, options: EnvoyOptions, server: &MariaDb, arm: impl FnOnce()) -> Vec<String> {
    let configuration = json!({"defaults": {"protocol": "mysql"}, "metrics": {"flush_interval": "100ms"}});
    let envoy = Envoy::start(options.upstream("mysql", server.addr()).configuration(configuration));
    let address = envoy.listener_addr("mysql");
    let [mut victim, mut other] = [(); 2].map(|()| login(address).expect("a login"));
    assert_eq!(outcome_of_new(&envoy, address), "inspected");
    let kept = |works| if works { "stays open" } else { "closed" };
    arm();
    let victim = kept(works(&mut victim, &format!("SELECT '{TRAP}'")));
    let other = if works(&mut other, "SELECT 2") { "stay open" } else { "closed at their next byte" };
    // With `FAIL_RELOAD` they can be closed at first.
    let began = Instant::now();
    let mut new = outcome_of_new(&envoy, address);
    while new == "closed" && began.elapsed() < RELOAD {
        new = outcome_of_new(&envoy, address);
    }
    vec![name.to_owned(), victim.to_owned(), other.to_owned(), new.to_owned()]
}

#[test]
fn each_failure_policy_does_what_the_table_says() {
    let server = MariaDb::start(&[]);
    let directory = temp_dir();
    let place = directory.path().join("place");
    let policies = ["FAIL_OPEN", "FAIL_RELOAD", "FAIL_CLOSED"];
    let rows: Vec<_> = scope(|scope| {
        let (server, place) = (&server, &place);
        let policies = policies.map(|policy| {
            let name = format!("wasm, `failure_policy: {policy}`");
            scope.spawn(move || row(&name, wasm("failure_policy", json!(policy)), server, || {}))
        });
        let open = move || row("wasm, `fail_open: true`", wasm("fail_open", json!(true)), server, || {});
        let arm = move || std::fs::write(place, "client").expect("a file");
        let native = move || row("native module", native(place), server, arm);
        let all = std::iter::once(scope.spawn(open)).chain(policies).chain([scope.spawn(native)]);
        let all: Vec<_> = all.collect();
        all.into_iter().map(|row| row.join().expect("a row")).collect()
    });
    let header = [
        "failure policy",
        "the connection with the crash",
        "other connections of the worker",
        "new connections, seconds later",
    ];
    let rows: Vec<_> = std::iter::once(header.map(str::to_owned).to_vec()).chain(rows).collect();
    table::assert_says("docs/failure-modes.md", &rows);
}
