//! Who is not trusted is not believed: every way to receive and to send, against a MariaDB that believes whatever Envoy says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, configured, copy_listener, listeners, plugin, soon, tcp_proxy};
use crate::database::{BELIEVES, hosts, login};
use crate::headers::{V1, V2, believed};
use firstword_testing::client::Client;
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::packet;

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));

/// When the stranger sends its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// At once.
    First,
    /// When the server has greeted, in one piece with the answer.
    WithAnswer,
    /// The same with the last byte of the header and the answer behind the rest.
    Cut,
}

/// The host that MariaDB takes the stranger for; none: the connection is closed.
fn host(address: SocketAddr, header: &[u8], when: When) -> Option<String> {
    let mut client = Client::connect_from(Some(STRANGER), address);
    if when == When::First {
        client.try_send(header)?;
    }
    let greeting = client.next_packet()?;
    let plugin = client.read_greeting(&greeting);
    client.capabilities &= login().capabilities;
    let response = packet(1, &client.handshake_response(&login(), &plugin));
    match when {
        When::First => client.try_send(&response)?,
        When::WithAnswer => client.try_send(&[header, &response].concat())?,
        When::Cut => {
            let (begin, end) = header.split_at(header.len() - 1);
            client.try_send(begin)?;
            client.try_send(&[end, &response].concat())?;
        }
    }
    client.sequence_id = 2;
    (client.next_packet()?[0] == 0).then_some(())?;
    let (user, list) = hosts(&mut client);
    assert!(list.starts_with(&format!("{user}:")), "{list}");
    client.quit();
    Some(user)
}

#[test]
fn no_mode_believes_a_stranger() {
    let server = MariaDb::start(&[BELIEVES]);
    let mut all = Vec::new();
    for (mode, connect) in [("optional", "first"), ("required", "first"), ("required", "after_header")] {
        for untrusted in ["close", "strip"] {
            for send in ["off", "always", "not_received"] {
                all.push((mode, connect, untrusted, send));
            }
        }
    }
    // Nobody is trusted where nobody is named (who requires a header must name somebody), nor are others than those named.
    for trusted in [None, Some(believed())] {
        let cases: Vec<_> =
            all.iter().copied().filter(|(mode, ..)| trusted.is_some() || *mode == "optional").collect();
        let name = |(mode, connect, untrusted, send): (&str, &str, &str, &str)| {
            format!("{mode}-{connect}-{untrusted}-{send}")
        };
        let configuration = |case: (&str, &str, &str, &str)| -> Value {
            let (mode, connect, untrusted, send) = case;
            let mut receive = json!({
                "mode": mode, "connect": connect, "untrusted": untrusted, "timeout_ms": 60_000,
            });
            if let Some(trusted) = &trusted {
                receive["trusted_networks"] = trusted.clone();
            }
            let send = match send {
                "off" => json!({"mode": "off"}),
                when => json!({"mode": "first_bytes", "when": when}),
            };
            let proxy_protocol = json!({"receive": receive, "send": send});
            soon(
                json!({"rules": [{"name": name(case), "protocol": "mysql", "proxy_protocol": proxy_protocol}]}),
            )
        };
        let options = configured(server.addr(), configuration(cases[0])).edit(|bootstrap| {
            for case in &cases {
                copy_listener(bootstrap, &name(*case), |listener| {
                    plugin(listener)["name"] = json!(name(*case));
                    plugin(listener)["configuration"]["value"] = json!(configuration(*case).to_string());
                    tcp_proxy(listener)["max_early_data_bytes"] = match case.1 {
                        "after_header" => json!(1024),
                        _ => Value::Null,
                    };
                });
            }
            let first = listeners(bootstrap).remove(0);
            assert_eq!(first["name"], MYSQL);
        });
        let envoy = Envoy::start(options);
        let mut sent = 0.0;
        for case in &cases {
            let (_, connect, untrusted, send) = *case;
            let address = envoy.listener_addr(&name(*case));
            let expected = match (untrusted, send) {
                ("close", _) => None,
                // Envoy's own, where nothing is sent.
                (_, "off") => Some("127.0.0.1"),
                _ => Some("127.0.0.7"),
            };
            for header in [V1, V2] {
                for when in [When::First, When::WithAnswer, When::Cut] {
                    if connect == "after_header" && when != When::First {
                        // Nobody is greeted before there is a header.
                        continue;
                    }
                    let seen = host(address, header, when);
                    assert_eq!(seen.as_deref(), expected, "{} {when:?}: {trusted:?}", name(*case));
                    sent += f64::from(u8::from(expected == Some("127.0.0.7")));
                }
            }
        }
        let metrics = envoy.stable(Duration::from_millis(1500));
        let count = |name: &str, labels: &[(&str, &str)]| -> f64 {
            metrics
                .select(&format!("firstword_proxy_protocol_{name}_total"), labels)
                .map(|one| one.value)
                .sum()
        };
        for case in &cases {
            let times = if case.1 == "after_header" { 1.0 } else { 3.0 };
            for format in ["v1", "v2"] {
                let name = name(*case);
                let labels = [("destination", name.as_str()), ("format", format), ("result", "untrusted")];
                assert_eq!(count("received", &labels), times, "{name} {format}");
            }
        }
        // And no other result of any of them.
        assert_eq!(count("received", &[]), count("received", &[("result", "untrusted")]));
        assert_eq!(count("sent", &[]), sent);
    }
}

/// Where the filter is not to receive headers it changes nothing, and the server believes whom it is told to believe: Envoy.
#[test]
fn what_no_rule_receives_passes_as_it_is() {
    let server = MariaDb::start(&[BELIEVES]);
    let rule = json!({"proxy_protocol": {"receive": {"mode": "optional"}}});
    for configuration in [
        json!({}),
        json!({"mode": "off", "rules": [rule.clone()]}),
        json!({"mode": "observe", "rules": [rule]}),
    ] {
        let envoy = Envoy::start(configured(server.addr(), configuration.clone()));
        let address = envoy.listener_addr(MYSQL);
        assert_eq!(host(address, V1, When::First).as_deref(), Some("192.0.2.1"), "{configuration}");
        assert_eq!(envoy.metric("firstword_proxy_protocol_received_total", &[]), None);
    }
}
