//! Every ending of a connection. Both sides see the same as through `tcp_proxy` alone. The filter counts which side ended
//! the connection, and in which phase.

use serde_json::json;

use crate::bootstrap::{
    MYSQL, PLAIN, add_plain_listener, configured, copy_listener, listeners, plugin, tcp_proxy,
};
use crate::counter_diff::{CounterDiff, assert_clean};
use crate::session_counts::LOGIN;
use crate::traffic::{Chunks, Pair, captured, login, session};
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::{Ending, Peer, Server, closed_address};

/// Bytes that a side received after the scripted ones, and the ending of the stream as it saw it.
type Observed = (Vec<u8>, Ending);

struct Case {
    name: &'static str,
    run: fn(Pair) -> Vec<Observed>,
    /// Counts from before the case: [`NOTHING`], [`GREETING`] or [`LOGIN`].
    before: &'static str,
    /// Counts of the case itself. `RESETTER` is `server` if Envoy forwards a reset by the server. It is `proxy` with Envoy
    /// 1.37 and older, because these cannot distinguish such a reset from their own close.
    counts: &'static str,
}

/// Counts of a connection without a greeting.
const NOTHING: &str = "connections_total{protocol=mysql} 1
";

/// Counts of a connection whose client does not respond to the greeting.
const GREETING: &str = "
    connections_total{protocol=mysql} 1
    greeting_duration_seconds_count 1
    greetings_total{flavor=mariadb,release=10.11} 1
    server_first_detected_total{protocol=mysql} 1
    handshakes_total{result=aborted} 1
    hazards_total{kind=unanswered_greeting} 1
    bytes_total{sender=server} 104
";

fn greeting() -> Chunks {
    session()[..1].to_vec()
}

const CASES: [Case; 13] = [
    Case {
        name: "the client finishes and still receives",
        run: |mut pair| {
            pair.play(&login());
            pair.client.finish();
            let server = pair.server.rest();
            pair.server.send(b"\x07\0\0\x01");
            drop(pair.server);
            vec![server, pair.client.rest()]
        },
        before: LOGIN,
        // Four bytes that belong to no command. The packet is incomplete, so the filter does not see that yet.
        counts: "connections_closed_total{closed_by=client,phase=command} 1
                  bytes_total{sender=server} 4",
    },
    Case {
        name: "the server finishes and still receives",
        run: |mut pair| {
            pair.play(&login());
            pair.server.finish();
            let client = pair.client.rest();
            pair.client.send(b"\x01\0\0\0\x0e");
            drop(pair.client);
            vec![client, pair.server.rest()]
        },
        before: LOGIN,
        counts: "connections_closed_total{closed_by=server,phase=command} 1
                  commands_total{command=ping} 1
                  bytes_total{sender=client} 5",
    },
    Case {
        name: "the server's last bytes come with its end",
        run: |mut pair| {
            pair.play(&login());
            // ERR 1053: the server shuts down.
            pair.server.send_and_finish(b"\x09\0\0\0\xff\x1d\x04#08S01");
            let client = pair.client.rest();
            drop(pair.client);
            vec![client, pair.server.rest()]
        },
        before: LOGIN,
        counts: "connections_closed_total{closed_by=server,phase=command} 1
                  server_notices_total{errno=1053} 1
                  bytes_total{sender=server} 13",
    },
    Case {
        name: "the client resets",
        run: |mut pair| {
            pair.play(&login());
            pair.client.reset();
            vec![pair.server.rest()]
        },
        before: LOGIN,
        counts: "connections_closed_total{closed_by=client,phase=command} 1",
    },
    Case {
        name: "the client resets during a command",
        run: |mut pair| {
            pair.play(&login());
            pair.client.send(b"\x01\0\0\0\x0e");
            pair.server.expect(b"\x01\0\0\0\x0e");
            pair.client.reset();
            vec![pair.server.rest()]
        },
        before: LOGIN,
        counts: "connections_closed_total{closed_by=client,phase=command} 1
                  commands_total{command=ping} 1
                  bytes_total{sender=client} 5",
    },
    Case {
        name: "the server resets",
        run: |mut pair| {
            pair.play(&login());
            pair.server.reset();
            vec![pair.client.rest()]
        },
        before: LOGIN,
        counts: "connections_closed_total{closed_by=RESETTER,phase=command} 1",
    },
    Case {
        name: "the client quits and the server resets",
        run: |mut pair| {
            pair.play(&login());
            pair.client.send(b"\x01\0\0\0\x01");
            pair.server.expect(b"\x01\0\0\0\x01");
            pair.server.reset();
            vec![pair.client.rest()]
        },
        before: LOGIN,
        counts: "connections_closed_total{closed_by=client,phase=command} 1
                  commands_total{command=quit} 1
                  bytes_total{sender=client} 5",
    },
    Case {
        name: "the client closes before the greeting",
        run: |mut pair| {
            drop(pair.client);
            vec![pair.server.rest()]
        },
        before: NOTHING,
        counts: "connections_closed_total{closed_by=client,phase=greeting} 1",
    },
    Case {
        name: "the client resets before the greeting",
        run: |mut pair| {
            pair.client.reset();
            vec![pair.server.rest()]
        },
        before: NOTHING,
        counts: "connections_closed_total{closed_by=client,phase=greeting} 1",
    },
    Case {
        name: "the server closes before the greeting",
        run: |mut pair| {
            drop(pair.server);
            vec![pair.client.rest()]
        },
        before: NOTHING,
        counts: "connections_closed_total{closed_by=server,phase=greeting} 1",
    },
    Case {
        name: "the server resets in the middle of the greeting",
        run: |mut pair| {
            pair.server.send(&greeting()[0].1[..40]);
            pair.client.expect(&greeting()[0].1[..40]);
            pair.server.reset();
            vec![pair.client.rest()]
        },
        before: NOTHING,
        counts: "connections_closed_total{closed_by=RESETTER,phase=greeting} 1
                  server_first_detected_total{protocol=mysql} 1
                  bytes_total{sender=server} 40",
    },
    Case {
        name: "the client leaves after the greeting",
        run: |mut pair| {
            pair.play(&greeting());
            drop(pair.client);
            vec![pair.server.rest()]
        },
        before: GREETING,
        counts: "connections_closed_total{closed_by=client,phase=handshake} 1",
    },
    Case {
        name: "the server refuses the login and closes",
        run: |mut pair| {
            pair.play(&captured("session-refused")[..3]);
            drop(pair.server);
            vec![pair.client.rest()]
        },
        before: NOTHING,
        counts: "connections_closed_total{closed_by=server,phase=authentication} 1
                  greeting_duration_seconds_count 1
                  greetings_total{flavor=mariadb,release=10.11} 1
                  server_first_detected_total{protocol=mysql} 1
                  handshakes_total{result=error} 1
                  handshake_duration_seconds_count 1
                  handshake_errors_total{errno=1045,plugin=mysql_native_password} 1
                  bytes_total{sender=client} 223
                  bytes_total{sender=server} 179",
    },
];

#[test]
fn each_ending_equals_that_of_tcp_proxy_and_is_counted_exactly() {
    let server = Server::start();
    let mysql = json!({"defaults": {"protocol": "mysql"}});
    let envoy = Envoy::start(configured(server.address(), mysql).edit(add_plain_listener));
    let (plain, filtered) = (envoy.listener_addr(PLAIN), envoy.listener_addr(MYSQL));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    for Case { name, run, before, counts } in CASES {
        println!("{name}");
        let expected = run(Pair::open(plain, &server));
        assert_eq!(run(Pair::open(filtered, &server)), expected, "{name}");
        let is_reset = expected.iter().any(|(_, ending)| *ending == Ending::Reset);
        let counts = counts.replace("RESETTER", if is_reset { "server" } else { "proxy" });
        diff.expect(&format!("{before}{counts}"));
    }
    diff.finish_with_log_lines(&["event=hazard kind=unanswered_greeting "]);
}

#[test]
fn a_connection_without_an_upstream_server_is_closed_by_the_proxy() {
    let envoy = Envoy::start(
        configured(closed_address(), json!({"defaults": {"protocol": "mysql"}})).edit(add_plain_listener),
    );
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let expected = Peer::connect(envoy.listener_addr(PLAIN)).rest();
    assert_eq!(Peer::connect(envoy.listener_addr(MYSQL)).rest(), expected);
    diff.expect(
        "connections_total{protocol=mysql} 1
         connections_closed_total{closed_by=proxy,phase=greeting} 1",
    );
    diff.finish();
}

/// Neither peer ends the connection: Envoy closes it because it is idle.
#[test]
fn an_idle_connection_is_closed_by_the_proxy() {
    let server = Server::start();
    let mysql = json!({"defaults": {"protocol": "mysql"}});
    let envoy = Envoy::start(configured(server.address(), mysql).edit(|bootstrap| {
        tcp_proxy(&mut listeners(bootstrap)[0])["idle_timeout"] = json!("0.3s");
    }));
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pair = Pair::open(envoy.listener_addr(MYSQL), &server);
    pair.client.assert_finished();
    pair.server.assert_finished();
    diff.expect(
        "connections_total{protocol=mysql} 1
         connections_closed_total{closed_by=proxy,phase=greeting} 1",
    );
    diff.finish();
}

/// Connections in every phase, of a plugin that inspects and of one that does not.
#[test]
fn envoy_shuts_down_with_open_connections() {
    let server = Server::start();
    let envoy = Envoy::start(configured(server.address(), json!({})).edit(|bootstrap| {
        copy_listener(bootstrap, "off", |listener| {
            plugin(listener)["configuration"]["value"] = json!(r#"{"mode": "off"}"#);
        });
    }));
    let mut pairs = Vec::new();
    for listener in [MYSQL, "off"] {
        let address = envoy.listener_addr(listener);
        for chunks in [0, 1, 2, 3, 4, 5, 6] {
            let mut pair = Pair::open(address, &server);
            pair.play(&session()[..chunks]);
            pairs.push(pair);
        }
    }
    envoy.wait_metric("firstword_connections_active", &[("protocol", MYSQL)], 6.0);
    envoy.wait_metric("firstword_connections_active", &[("protocol", "opaque")], 7.0);
    // Draining closes no connection of tcp_proxy: sessions continue.
    envoy.admin_post("/drain_listeners?graceful");
    pairs[3].play(&session()[3..5]);
    let (status, log) = envoy.shutdown();
    assert!(status.success(), "{status}\n{log}");
    // Two connections were idle, perhaps for a second.
    let expected = "event=hazard kind=idle_closed_by_proxy ";
    assert!(log.matches(expected).count() <= 1, "{log}");
    let others: Vec<_> = log.lines().filter(|line| !line.contains(expected)).collect();
    assert_clean(&others.join("\n"));
    for mut pair in pairs {
        pair.client.assert_finished();
        pair.server.assert_finished();
    }
}
