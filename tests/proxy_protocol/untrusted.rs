//! Headers from untrusted clients, with every setting of receive and send, and a MariaDB that trusts Envoy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bootstrap::{MYSQL, configured, copy_listener, listeners, plugin, tcp_proxy, with_fast_flush};
use crate::database::{TRUSTS_ENVOY, client_hosts, login};
use crate::headers::{V1, V2, trusted_networks};
use firstword_testing::client::Client;
use firstword_testing::envoy::Envoy;
use firstword_testing::mariadb::MariaDb;
use firstword_testing::packets::packet;

const UNTRUSTED_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));

/// When the untrusted client sends its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Directly after connecting.
    First,
    /// After the greeting, in one segment with the handshake response.
    WithResponse,
    /// After the greeting. The last byte of the header comes in one segment with the handshake response.
    Cut,
}

/// Logs in with a header. Returns the host that MariaDB sees. `None` if the connection was closed.
fn seen_host(address: SocketAddr, header: &[u8], when: When) -> Option<String> {
    let mut client = Client::connect_from(Some(UNTRUSTED_CLIENT), address);
    if when == When::First {
        client.try_send(header)?;
    }
    let greeting = client.next_packet()?;
    let plugin = client.read_greeting(&greeting);
    client.capabilities &= login().capabilities;
    let response = packet(1, &client.handshake_response(&login(), &plugin));
    match when {
        When::First => client.try_send(&response)?,
        When::WithResponse => client.try_send(&[header, &response].concat())?,
        When::Cut => {
            let (begin, end) = header.split_at(header.len() - 1);
            client.try_send(begin)?;
            client.try_send(&[end, &response].concat())?;
        }
    }
    client.sequence_id = 2;
    (client.next_packet()?[0] == 0).then_some(())?;
    let (user, list) = client_hosts(&mut client);
    assert!(list.starts_with(&format!("{user}:")), "{list}");
    client.quit();
    Some(user)
}

/// One combination of settings.
#[derive(Clone, Copy)]
struct Setting {
    mode: &'static str,
    connect: &'static str,
    untrusted: &'static str,
    send: &'static str,
}

impl Setting {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (mode, connect) in
            [("optional", "immediately"), ("required", "immediately"), ("required", "after_header")]
        {
            for untrusted in ["close", "strip"] {
                for send in ["off", "always", "not_received"] {
                    all.push(Self { mode, connect, untrusted, send });
                }
            }
        }
        all
    }

    fn name(self) -> String {
        let Self { mode, connect, untrusted, send } = self;
        format!("{mode}-{connect}-{untrusted}-{send}")
    }

    fn configuration(self, trusted: Option<&Value>) -> Value {
        let Self { mode, connect, untrusted, send } = self;
        let mut receive = json!({
            "mode": mode, "connect_upstream": connect, "on_untrusted_header": untrusted, "timeout": "60s",
        });
        if let Some(trusted) = trusted {
            receive["trusted_networks"] = trusted.clone();
        }
        let send = match send {
            "off" => json!({"mode": "off"}),
            when => json!({"mode": "with_first_client_bytes", "when": when}),
        };
        let proxy_protocol = json!({"receive": receive, "send": send});
        with_fast_flush(
            json!({"rules": [{"name": self.name(), "protocol": "mysql", "proxy_protocol": proxy_protocol}]}),
        )
    }

    /// The host that MariaDB must see. `None` if the filter must close.
    fn expected_host(self) -> Option<&'static str> {
        match (self.untrusted, self.send) {
            ("close", _) => None,
            // Envoy's address, because the filter sends no header.
            (_, "off") => Some("127.0.0.1"),
            _ => Some("127.0.0.7"),
        }
    }
}

/// An Envoy with one listener for each setting.
fn start_envoy(server: SocketAddr, settings: &[Setting], trusted: Option<&Value>) -> Envoy {
    let options = configured(server, settings[0].configuration(trusted)).edit(|bootstrap| {
        for setting in settings {
            copy_listener(bootstrap, &setting.name(), |listener| {
                plugin(listener)["name"] = json!(setting.name());
                let configuration = setting.configuration(trusted).to_string();
                plugin(listener)["configuration"]["value"] = json!(configuration);
                tcp_proxy(listener)["max_early_data_bytes"] = match setting.connect {
                    "after_header" => json!(1024),
                    _ => Value::Null,
                };
            });
        }
        let first = listeners(bootstrap).remove(0);
        assert_eq!(first["name"], MYSQL);
    });
    Envoy::start(options)
}

#[test]
fn no_setting_trusts_the_header_of_an_untrusted_client() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    // Without trusted networks, and with networks that do not contain the client. `required` needs trusted networks.
    for trusted in [None, Some(trusted_networks())] {
        let trusted = trusted.as_ref();
        let mut settings = Setting::all();
        settings.retain(|setting| trusted.is_some() || setting.mode == "optional");
        let envoy = start_envoy(server.addr(), &settings, trusted);
        let mut sent = 0.0;
        for setting in &settings {
            let address = envoy.listener_addr(&setting.name());
            let expected = setting.expected_host();
            for header in [V1, V2] {
                for when in [When::First, When::WithResponse, When::Cut] {
                    if setting.connect == "after_header" && when != When::First {
                        // There is no greeting before the header.
                        continue;
                    }
                    let host = seen_host(address, header, when);
                    assert_eq!(host.as_deref(), expected, "{} {when:?}: {trusted:?}", setting.name());
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
        for setting in &settings {
            let times = if setting.connect == "after_header" { 1.0 } else { 3.0 };
            for format in ["v1", "v2"] {
                let name = setting.name();
                let labels = [("destination", name.as_str()), ("format", format), ("result", "untrusted")];
                assert_eq!(count("received", &labels), times, "{name} {format}");
            }
        }
        // There is no other result.
        assert_eq!(count("received", &[]), count("received", &[("result", "untrusted")]));
        assert_eq!(count("sent", &[]), sent);
    }
}

/// If no rule receives headers, the filter forwards them, and the server trusts Envoy.
#[test]
fn a_header_is_forwarded_if_no_rule_receives_it() {
    let server = MariaDb::start(&[TRUSTS_ENVOY]);
    let rule = json!({"proxy_protocol": {"receive": {"mode": "optional"}}});
    for configuration in [
        json!({}),
        json!({"mode": "off", "rules": [rule.clone()]}),
        json!({"mode": "observe", "rules": [rule]}),
    ] {
        let envoy = Envoy::start(configured(server.addr(), configuration.clone()));
        let address = envoy.listener_addr(MYSQL);
        assert_eq!(seen_host(address, V1, When::First).as_deref(), Some("192.0.2.1"), "{configuration}");
        assert_eq!(envoy.metric("firstword_proxy_protocol_received_total", &[]), None);
    }
}
