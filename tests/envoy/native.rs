//! The native module: its bootstrap extension, drain and shutdown, and what follows a panic. `scripts/test.sh` runs scenarios of
//! the other files with it too.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use firstword::event::Sender;
use firstword::metrics::Profile;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, filters, listeners, with_fast_flush};
use crate::counter_diff::{CounterDiff, assert_clean};
use crate::session_counts::{self, COMMANDS, LOGIN};
use crate::traffic::{Pair, commands, login, session};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::packets::packet;
use firstword_testing::peer::{Ending, Server, closed_address};
use firstword_testing::{built, shell, temp_dir, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

fn configured(server: SocketAddr, configuration: Value) -> EnvoyOptions {
    let options = EnvoyOptions::new("envoy/native.yaml").upstream(MYSQL, server);
    options.configuration(with_fast_flush(configuration))
}

/// The oldest minor version of Envoy that the module supports.
fn envoy_1_39() -> PathBuf {
    built("ENVOY_1_39", "target/tools/envoy-1.39.3", "ENVOY_VERSION=1.39.3 scripts/tools.sh")
}

/// An older patch of the same minor version.
fn envoy_1_39_1() -> PathBuf {
    built("ENVOY_1_39_1", "target/tools/envoy-1.39.1", "ENVOY_VERSION=1.39.1 scripts/tools.sh")
}

fn mysql() -> Value {
    json!({"defaults": {"protocol": "mysql"}})
}

#[test]
fn the_shipped_file_counts_a_session_exactly() {
    let server = Server::start();
    let envoy = Envoy::start(EnvoyOptions::new("envoy/native.yaml").upstream(MYSQL, server.address()));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    pair.play(&session());
    pair.close();
    diff.expect(&session_counts::session(Profile::Standard));
    diff.finish();
}

/// The counts of the other workers are exported too, and those of a worker whose last connection has ended.
#[test]
fn two_workers_add_to_the_same_series() {
    const CONNECTIONS: usize = 40;
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), mysql()).concurrency(2));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    for _ in 0..CONNECTIONS {
        let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
        pair.play(&session());
        pair.close();
    }
    diff.expect(&session_counts::session(Profile::Standard).repeat(CONNECTIONS));
    diff.finish();
}

/// The filter of a process without the extension, or with the extension of another copy of the file.
#[test]
fn without_the_extension_the_filter_says_so_and_forwards() {
    let server = Server::start();
    let directory = temp_dir();
    let copy = directory.path().join("libfirstword.so");
    std::fs::copy(shell::native(), &copy).expect("a copy of the module");
    let with_copy = |bootstrap: &mut Value| {
        let filter = &mut filters(&mut listeners(bootstrap)[0])[0]["typed_config"];
        filter["dynamic_module_config"]["module"]["local"]["filename"] = json!(copy);
    };
    let without =
        |bootstrap: &mut Value| drop(bootstrap.as_object_mut().unwrap().remove("bootstrap_extensions"));
    let options = || configured(server.address(), mysql());
    for options in [options().edit(without), options().edit(with_copy)] {
        let envoy = Envoy::start(options);
        envoy.wait_log("event=no_bootstrap_extension");
        let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
        pair.play(&session());
        pair.close();
        envoy.wait_stat("firstword_connections_without_extension_total", 1);
        assert_eq!(envoy.metric("firstword_connections_total", &[]), None);
    }
}

#[test]
fn a_greeting_timeout_needs_no_traffic() {
    let server = Server::start();
    let rule = json!({"protocol": "mysql", "greeting_timeout": "50ms"});
    let envoy = Envoy::start(configured(server.address(), json!({"defaults": rule})).concurrency(2));
    let pairs: Vec<_> = (0..6).map(|_| Pair::open(envoy.listener_addr(MYSQL), &server)).collect();
    envoy.wait_metric("firstword_greeting_timeouts_total", &[], 6.0);
    pairs.into_iter().for_each(Pair::close);
}

#[test]
fn an_unsolicited_file_request_does_not_reach_the_client() {
    let server = Server::start();
    let rule = json!({"rules": [{"protocol": "mysql", "mysql": {"block_local_infile": true}}]});
    let envoy = Envoy::start(configured(server.address(), rule));
    let mut pair = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    pair.play(&commands()[..1]);
    pair.server.send(&packet(1, b"\xfb/etc/passwd"));
    envoy.wait_metric("firstword_local_infile_blocked_total", &[], 1.0);
    let (bytes, _) = pair.client.rest();
    assert!(!bytes.windows(6).any(|window| window == b"passwd"), "{}", bytes.escape_ascii());
}

#[test]
fn a_drain_loses_no_count() {
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), mysql()).concurrency(2));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pairs: Vec<_> = (0..4).map(|_| Pair::logged_in(envoy.listener_addr(MYSQL), &server)).collect();
    envoy.admin_post("/drain_listeners?graceful&skip_exit");
    pairs.iter_mut().for_each(|pair| pair.play(&commands()));
    pairs.into_iter().for_each(Pair::close);
    let closed = "connections_closed_total{closed_by=client,phase=command} 1\n";
    diff.expect(&format!("{LOGIN}{COMMANDS}{closed}").repeat(4));
    diff.finish();
}

/// The flush interval is a minute, so only the shutdown exports. Envoy sends the counters to statsd a last time when it ends.
#[test]
fn a_shutdown_exports_what_was_counted() {
    for (workers, signals) in [(1, 1), (2, 2), (4, 1)] {
        let server = Server::start();
        let statsd = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = statsd.local_addr().expect("a bound address").port();
        let sink = json!([{
            "name": "envoy.stat_sinks.statsd",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            },
        }]);
        let mut configuration = mysql();
        configuration["metrics"]["flush_interval"] = json!("60s");
        let options = EnvoyOptions::new("envoy/native.yaml").upstream(MYSQL, server.address());
        let options = options.configuration(configuration).concurrency(workers).edit(|bootstrap| {
            bootstrap["stats_sinks"] = sink;
            bootstrap["stats_flush_interval"] = json!("240s");
        });
        let mut envoy = Envoy::start(options);
        let mut pairs: Vec<_> =
            (0..6).map(|_| Pair::logged_in(envoy.listener_addr(MYSQL), &server)).collect();
        let without_quit = commands();
        pairs.iter_mut().for_each(|pair| pair.play(&without_quit[..2]));
        for _ in 0..signals {
            envoy.process().signal(Signal::SIGTERM);
        }
        let process = envoy.process();
        let status = wait_for("end of Envoy", PATIENCE, || process.exit_status());
        assert!(status.success(), "{status}");
        let counted = received(&statsd);
        let sum = |metric: &str| -> i64 {
            let series = counted.iter().filter(|(name, _)| name.contains(metric));
            series.map(|(_, value)| *value).sum()
        };
        assert_eq!(sum("firstword_connections_total."), 6, "{counted:?}");
        assert_eq!(sum("firstword_handshakes_total."), 6);
        assert_eq!(sum("firstword_commands_total."), 6);
        let sent = |sender| pairs.len() * sent(&[&login()[..], &without_quit[..2]].concat(), sender);
        assert_eq!(usize::try_from(sum(".sender.client")).unwrap(), sent(Sender::Client));
        assert_eq!(usize::try_from(sum(".sender.server")).unwrap(), sent(Sender::Server));
    }
}

fn sent(chunks: &[(Sender, bytes::Bytes)], sender: Sender) -> usize {
    crate::traffic::sent(chunks, sender)
}

/// The counters that arrived as `name:value|c`.
fn received(socket: &UdpSocket) -> BTreeMap<String, i64> {
    socket.set_nonblocking(true).expect("a socket option");
    let mut counters = BTreeMap::new();
    let mut datagram = vec![0; 65_536];
    while let Ok(size) = socket.recv(&mut datagram) {
        for line in String::from_utf8_lossy(&datagram[..size]).lines() {
            let Some((name, value)) = line.strip_suffix("|c").and_then(|line| line.rsplit_once(':')) else {
                continue;
            };
            *counters.entry(name.to_owned()).or_default() += value.parse::<i64>().expect("a number");
        }
    }
    counters
}

/// Envoy 1.38 lacks functions that the module needs, and its metrics with labels leak.
#[test]
fn an_older_envoy_does_not_load_the_module() {
    let old = built("ENVOY_WITHOUT_V8", "target/tools/envoy-1.38.3", "make tools-servers");
    let by_name = |module: &mut Value| module["dynamic_module_config"] = json!({"name": "firstword"});
    let options = EnvoyOptions::new("envoy/native.yaml").upstream(MYSQL, closed_address());
    let options = options.program(old).edit(|bootstrap| {
        bootstrap.as_object_mut().unwrap().remove("bootstrap_extensions");
        by_name(&mut filters(&mut listeners(bootstrap)[0])[0]["typed_config"]);
    });
    let directory = temp_dir();
    std::fs::copy(shell::native(), directory.path().join("libfirstword.so")).expect("a copy of the module");
    let path = directory.path().to_str().expect("a path");
    let (status, log) = Envoy::start_refused(options.environment("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", path));
    assert!(!status.success(), "{status}");
    assert!(log.contains("needs Envoy 1.39 or newer"), "{log}");
}

/// Envoy 1.39 does not report the direction of a listener to native modules. A rule that is not applied can be a protection.
#[test]
fn a_rule_for_a_direction_is_refused_by_envoy_1_39() {
    let rule = json!({"rules": [{"match": {"direction": "inbound"}, "protocol": "mysql"}]});
    let options = configured(closed_address(), rule.clone()).program(envoy_1_39());
    let (status, log) = Envoy::start_refused(options);
    assert!(!status.success() && log.contains("event=config_refused word=direction"), "{status}\n{log}");

    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), rule).edit(|bootstrap| {
        listeners(bootstrap)[0]["traffic_direction"] = json!("INBOUND");
    }));
    Pair::logged_in(envoy.listener_addr(MYSQL), &server).close();
    envoy.wait_metric("firstword_connections_total", &[("direction", "inbound")], 1.0);
}

/// A module that panics when the file has the name of a place, once.
struct Panics {
    directory: tempfile::TempDir,
}

impl Panics {
    fn new() -> Self {
        Self { directory: temp_dir() }
    }

    fn options(&self, server: SocketAddr, configuration: Value) -> EnvoyOptions {
        let module =
            built("FIRSTWORD_NATIVE_PANICS", "target/libfirstword-panics.so", "scripts/native.sh panics");
        let file = self.directory.path().join("place");
        configured(server, configuration)
            .native(&module)
            .environment("FIRSTWORD_PANIC", file.to_str().expect("a path"))
    }

    /// The next hook at `place` panics.
    fn at(&self, place: &str) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, place).expect("a file");
        std::fs::rename(new, self.directory.path().join("place")).expect("a file");
    }

    fn wait(&self) {
        let file = self.directory.path().join("place");
        wait_for("panic", PATIENCE, || (!file.exists()).then_some(()));
    }
}

const PASSED: &str = "panics_total{result=passed} 1\n";
const CLOSED: &str = "panics_total{result=closed} 1\n";

/// Asserts the counts of an unaffected connection, in addition to `changes`, which are those of the affected one.
fn assert_unaffected(mut other: Pair, diff: &mut CounterDiff, changes: &str) {
    other.play(&commands());
    other.close();
    let closed = "connections_closed_total{closed_by=client,phase=command} 1\n";
    diff.expect(&format!("{LOGIN}{COMMANDS}{closed}{changes}"));
}

#[test]
fn after_a_panic_a_connection_without_rules_passes_uninspected() {
    for place in ["client", "server", "tick"] {
        let (server, panics) = (Server::start(), Panics::new());
        // A tick has work on a connection only if something is due, such as counts for the access log.
        let envoy = Envoy::start(panics.options(server.address(), mysql()));
        let mut diff = CounterDiff::new(&envoy, MYSQL);
        let mut affected = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
        diff.expect(&format!("{LOGIN}connections_active{{protocol=mysql}} 1"));
        if place == "tick" {
            panics.at(place);
            panics.wait();
            affected.play(&commands());
        } else {
            panics.at(place);
            affected.play(&commands());
            panics.wait();
        }
        let other = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
        affected.close();
        let counted = if place == "server" {
            "commands_total{command=query} 1\nbytes_total{sender=client} 32\n"
        } else {
            ""
        };
        let closed = "connections_closed_total{closed_by=client,phase=command} 1\n\
                      connections_active{protocol=mysql} -1\n";
        assert_unaffected(other, &mut diff, &format!("{PASSED}{counted}{closed}"));
        assert!(envoy.log().contains("event=panic result=passed"), "{}", envoy.log());
    }
}

#[test]
fn after_a_panic_a_connection_with_a_rule_or_policy_is_closed() {
    let rule = json!({"rules": [{"protocol": "mysql", "mysql": {"block_local_infile": true}}]});
    let policy = json!({"defaults": {"protocol": "mysql"}, "access_log": ["user"]});
    for configuration in [rule, policy] {
        for place in ["client", "server", "tick"] {
            let (server, panics) = (Server::start(), Panics::new());
            let envoy = Envoy::start(panics.options(server.address(), configuration.clone()));
            let mut affected = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
            let mut other = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
            other.play(&commands()[..2]);
            panics.at(place);
            let chunks = commands();
            match place {
                "client" => affected.client.send(&chunks[0].1),
                "server" => {
                    affected.server.send(&chunks[1].1);
                }
                _ => {}
            }
            panics.wait();
            if place == "tick" {
                // The tick is that of all connections, so it is not known which of them panicked.
                wait_for("closed connection", PATIENCE, || {
                    (affected.client.has_ended() || other.client.has_ended()).then_some(())
                });
            } else {
                let (bytes, ending) = affected.client.rest();
                assert_eq!((bytes, ending), (Vec::new(), Ending::Finished), "{place}");
                other.play(&commands()[2..]);
                other.close();
            }
            envoy.wait_metric("firstword_panics_total", &[("result", "closed")], 1.0);
            assert_eq!(envoy.metric("firstword_panics_total", &[("result", "passed")]), None);
        }
    }
}

#[test]
fn a_panic_at_the_start_or_the_end_of_a_connection_affects_no_other() {
    let (server, panics) = (Server::start(), Panics::new());
    let envoy = Envoy::start(panics.options(server.address(), mysql()));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    panics.at("open");
    let mut affected = Pair::open(envoy.listener_addr(MYSQL), &server);
    affected.play(&session());
    affected.close();
    let other = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    assert_unaffected(other, &mut diff, PASSED);

    // What the end of a connection would have counted is missing.
    let mut affected = Pair::open(envoy.listener_addr(MYSQL), &server);
    affected.play(&session());
    panics.at("close");
    affected.close();
    panics.wait();
    let other = Pair::logged_in(envoy.listener_addr(MYSQL), &server);
    assert_unaffected(
        other,
        &mut diff,
        &format!("{LOGIN}{COMMANDS}{PASSED}connections_active{{protocol=mysql}} 1"),
    );
}

#[test]
fn a_panic_at_the_start_closes_a_connection_that_a_rule_protects() {
    let (server, panics) = (Server::start(), Panics::new());
    let rule = json!({"rules": [{"protocol": "mysql", "mysql": {"block_local_infile": true}}]});
    let envoy = Envoy::start(panics.options(server.address(), rule));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    panics.at("open");
    let mut affected = firstword_testing::peer::Peer::connect(envoy.listener_addr(MYSQL));
    affected.assert_finished();
    diff.expect(CLOSED);
}

#[test]
fn a_panic_of_the_timer_or_the_shutdown_stops_neither() {
    let (server, panics) = (Server::start(), Panics::new());
    let envoy = Envoy::start(panics.options(server.address(), mysql()));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    panics.at("timer");
    panics.wait();
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    pair.play(&session());
    pair.close();
    diff.expect(&session_counts::session(Profile::Standard));
    panics.at("flush");
    let (status, log) = envoy.shutdown();
    assert!(status.success(), "{status}\n{log}");
    assert_eq!(log.matches("event=panic place=").count(), 2, "{log}");
}

#[test]
fn a_panic_while_a_configuration_is_read_refuses_it() {
    let panics = Panics::new();
    panics.at("configure");
    let (status, log) = Envoy::start_refused(panics.options(closed_address(), mysql()));
    assert!(!status.success(), "{log}");
    assert!(log.contains("event=panic place="), "{log}");
}

/// Each function that the module imports is in each Envoy, so `dlopen` succeeds in all.
#[test]
fn one_file_runs_in_each_envoy() {
    let server = Server::start();
    for program in [firstword_testing::envoy(), envoy_1_39(), envoy_1_39_1()] {
        let envoy = Envoy::start(configured(server.address(), mysql()).program(program));
        let mut diff = CounterDiff::new(&envoy, MYSQL);
        let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
        pair.play(&session());
        pair.close();
        diff.expect(&session_counts::session(Profile::Standard));
        assert_clean(&envoy.log());
    }
}
