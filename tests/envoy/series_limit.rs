//! Maximum number of series, with hostile peers that send ten thousand different names and errors.

use serde_json::json;

use crate::bootstrap::{MYSQL, add_second_listener, configured, with_fast_flush};
use crate::counter_diff::{ours, wait_for_flushes};
use crate::traffic::Pair;
use firstword_testing::envoy::Envoy;
use firstword_testing::packets::{COM_QUERY, answer, command, err, greeting, ok, packet};
use firstword_testing::peer::Server;

const FULL: &str = "full";
/// Default of `metrics.max_series`, the only limit of the full profile.
const MAX_SERIES: usize = 1000;

/// Handshake response with this user and these attributes. Capabilities: PROTOCOL_41, SECURE_CONNECTION, CONNECT_ATTRS.
fn response(user: &str, client: &str, version: &str) -> Vec<u8> {
    let mut attributes = Vec::new();
    for text in ["_client_name", client, "_client_version", version] {
        attributes.push(u8::try_from(text.len()).expect("short"));
        attributes.extend(text.bytes());
    }
    let flags = (1_u32 | 1 << 9 | 1 << 15 | 1 << 20).to_le_bytes();
    let len = u8::try_from(attributes.len()).expect("short");
    packet(1, &[&flags[..], &[0; 28], user.as_bytes(), &[0, 0, len], &attributes].concat())
}

/// Plays a login, a command that fails with this error, and the end.
fn session(envoy: &Envoy, listener: &str, server: &Server, response: &[u8], errno: u16) {
    let mut pair = Pair::open(envoy.listener_addr(listener), server);
    let Pair { client, server } = &mut pair;
    let mut forward = |from_client: bool, bytes: &[u8]| {
        let (from, to) =
            if from_client { (&mut *client, &mut *server) } else { (&mut *server, &mut *client) };
        from.send(bytes);
        to.expect(bytes);
    };
    forward(false, &greeting());
    forward(true, response);
    forward(false, &packet(2, &ok()));
    forward(true, &command(COM_QUERY, b"select a"));
    forward(false, &answer([err(errno)]));
    pair.close();
}

/// Ten thousand clients with different names, users and errors change no known label value, and use no more memory.
#[test]
fn ten_thousand_unknown_names_take_no_series_from_known_ones() {
    let (server, second) = (Server::start(), Server::start());
    let full = with_fast_flush(json!({"metrics": {"profile": "full"}, "defaults": {"protocol": "mysql"}}));
    let configuration =
        json!({"access_log": ["user", "client", "last_errno"], "defaults": {"protocol": "mysql"}});
    let options = configured(server.address(), configuration);
    let options = options.edit(|bootstrap| add_second_listener(bootstrap, FULL, &full));
    let envoy = Envoy::start(options.upstream(FULL, second.address()));
    let ends = [(MYSQL, &server), (FULL, &second)];
    let memory = || {
        wait_for_flushes(&envoy);
        envoy.metric("firstword_vm_memory_bytes", &[]).expect("the memory")
    };
    let mut memory_at_7000 = 0.0;
    for n in 0..10_000_u16 {
        let hostile =
            response(&format!("user{n}"), &format!("client{n}"), &format!("{}.{}", n / 100, n % 100));
        for (listener, server) in ends {
            session(&envoy, listener, server, &hostile, n);
        }
        // All known errors are below 7000, so no more series come after it.
        if n == 7000 {
            memory_at_7000 = memory();
        }
    }
    assert_eq!(memory(), memory_at_7000, "bytes");

    let known = response("app", "libmariadb", "3.3.14");
    for (listener, server) in ends {
        for errno in [1205, 1213, 1290] {
            session(&envoy, listener, server, &known, errno);
        }
    }
    wait_for_flushes(&envoy);
    let metrics = envoy.prometheus();
    for (listener, _) in ends {
        let total = |name: &str, labels: &[(&str, &str)]| -> f64 {
            let labels = [&[("destination", listener)], labels].concat();
            metrics.select(&format!("firstword_{name}"), &labels).map(|sample| sample.value).sum()
        };
        assert_eq!(total("errors_total", &[]), 10_003.0, "{listener}");
        // One of a hostile client, one of a known client.
        for errno in ["1205", "1213", "1290"] {
            assert_eq!(total("errors_total", &[("errno", errno)]), 2.0, "{listener} {errno}");
        }
        assert_eq!(total("commands_total", &[("command", "query")]), 10_003.0, "{listener}");
        let limit = if listener == FULL { MAX_SERIES } else { 280 };
        let series = ours(&metrics).filter(|sample| {
            let destination = sample.labels.get("destination");
            destination.is_none() || destination.is_some_and(|destination| destination == listener)
        });
        let series = series.count();
        assert!(series <= limit, "{listener}: {series}");
    }
    let clients = |client: &str, series: &str| {
        metrics.get(
            "firstword_clients_total",
            &[
                ("destination", FULL),
                ("direction", "unspecified"),
                ("client", client),
                ("client_series", series),
            ],
        )
    };
    assert_eq!((clients("other", "other"), clients("libmariadb", "3.3")), (Some(10_000.0), Some(3.0)));
    assert_eq!(metrics.get("firstword_series_overflow_total", &[]), Some(0.0));
    let leaked = ours(&metrics).filter(|sample| sample.labels.values().any(|value| value.contains("user")));
    assert_eq!(leaked.count(), 0);
}
