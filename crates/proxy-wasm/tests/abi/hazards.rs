//! Hazards: each is counted once, under its kind only, and logged once with its remedy.

use std::time::Duration;

use firstword::event::HazardKind;

use crate::host::{Destination, Ending, ORDERS, Vm};
use crate::scripts::{self, Script, Turn, login, play, query, quit};
use crate::{OUTBOUND_ORDERS, under};
use firstword_testing::packets::*;

const COM_RESET_CONNECTION: u8 = 0x1f;

/// Result of [`hazards`] if no hazard is counted.
const NONE: &str = "";

/// Kinds and numbers of the counted hazards. Asserts that all other kinds are zero.
fn hazards(vm: &Vm) -> String {
    let lines = under(vm, OUTBOUND_ORDERS);
    let counts: Vec<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("hazards_total{kind="))
        .map(|line| line.split_once("} ").expect("a number"))
        .collect();
    assert_eq!(counts.len(), HazardKind::ALL.len(), "{lines:#?}");
    let counted: Vec<_> =
        counts.iter().filter(|(_, n)| *n != "0").map(|(kind, n)| format!("{kind} {n}")).collect();
    counted.join(", ")
}

/// Plays two connections that are silent for a while before they end. Returns their hazards and the log lines about them.
fn seen(script: &[Turn], quiet: Duration, ending: Ending) -> (String, Vec<String>) {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    vm.log();
    for _ in 0..2 {
        let stream = plugin.connect(&ORDERS);
        play(&stream, script);
        vm.advance(quiet);
        stream.close(ending);
    }
    plugin.flush();
    let lines = vm.log().into_iter().map(|(_, line)| line);
    (hazards(&vm), lines.filter(|line| line.starts_with("event=hazard")).collect())
}

/// Asserts that both connections show this hazard, and that one line reports it.
fn assert_seen(kind: &str, detail: &str, script: &[Turn], quiet: Duration, ending: Ending) {
    let (counted, lines) = seen(script, quiet, ending);
    assert_eq!(counted, format!("{kind} 2"), "{script:?}");
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    let place = "direction=outbound destination=10.0.0.5:3306 cluster=orders";
    let start = format!("event=hazard kind={kind} {place}{detail} cause=\"");
    assert!(line.starts_with(&start) && line.ends_with('"'), "{line}");
    assert!(line.split_once("\" fix=\"").is_some_and(|(_, fix)| fix.len() > 20), "{line}");
}

/// Greeting, handshake response, and the packets of the authentication.
fn authentication(turns: impl IntoIterator<Item = Turn>) -> Script {
    let [hello, response, _] = login(CLIENT_CAPABILITIES).try_into().expect("three chunks");
    [vec![hello, response], turns.into_iter().collect()].concat()
}

fn switched(plugin: &str, secret: &[u8]) -> Script {
    authentication([
        Turn::Server(packet(2, &auth_switch(plugin))),
        Turn::Client(packet(3, secret)),
        Turn::Server(packet(4, &ok())),
    ])
}

/// A client that begins with this plugin, although the server offers another.
fn begun(plugin: &str, secret: &[u8]) -> Script {
    let length = u8::try_from(secret.len()).expect("a short secret");
    let response =
        [&ssl_request(CLIENT_CAPABILITIES)[..], b"app\0", &[length], secret, plugin.as_bytes(), b"\0"]
            .concat();
    vec![Turn::Server(greeting()), Turn::Client(packet(1, &response)), Turn::Server(packet(2, &ok()))]
}

/// Full authentication of caching_sha2_password, in which the client sends this.
fn full_authentication(secret: &[u8]) -> Script {
    authentication([
        Turn::Server(packet(2, &auth_switch("caching_sha2_password"))),
        Turn::Client(packet(3, &[0x5a; 32])),
        Turn::Server(packet(4, b"\x01\x04")),
        Turn::Client(packet(5, secret)),
        Turn::Server(packet(6, &ok())),
    ])
}

/// A command that ends with this error.
fn fails(errno: u16) -> Script {
    [login(CLIENT_CAPABILITIES), query("select 1", [err(errno)]), quit()].concat()
}

/// Login, and an unsolicited error of the server.
fn unsolicited(errno: u16) -> Script {
    [login(CLIENT_CAPABILITIES), vec![Turn::Server(packet(0, &err(errno)))]].concat()
}

const AT_ONCE: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_millis(2500);

#[test]
fn exposed_passwords_are_counted() {
    let at_once = |kind, script: Script| assert_seen(kind, "", &script, AT_ONCE, Ending::ClientFin);
    at_once("clear_password", switched("mysql_clear_password", b"secret\0"));
    at_once("clear_password", switched("dialog", b"secret\0"));
    at_once("clear_password", begun("mysql_clear_password", b"secret\0"));
    // Two questions of PAM are one authentication.
    let mut questions = switched("dialog", b"secret\0");
    questions.pop();
    questions.extend([
        Turn::Server(packet(4, b"\x01\x05One-time password: ")),
        Turn::Client(packet(5, b"123456\0")),
        Turn::Server(packet(6, &ok())),
    ]);
    at_once("clear_password", questions);
    at_once("full_auth_without_tls", scripts::full_authentication());
    // The client has the server's key, of 2048 bits.
    at_once("full_auth_without_tls", full_authentication(&[0x5a; 256]));
    let mut sha256 = switched("sha256_password", b"\x01");
    sha256.pop();
    sha256.extend([
        Turn::Server(packet(4, b"\x01-----BEGIN PUBLIC KEY-----")),
        Turn::Client(packet(5, &[0x5a; 256])),
        Turn::Server(packet(6, &ok())),
    ]);
    at_once("full_auth_without_tls", sha256);
    at_once("full_auth_without_tls", begun("sha256_password", &[0x5a; 128]));
    at_once(
        "old_password",
        authentication([
            Turn::Server(packet(2, b"\xfe")),
            Turn::Client(packet(3, b"12345678\0")),
            Turn::Server(packet(4, &ok())),
        ]),
    );
    at_once("old_password", switched("mysql_old_password", b"12345678\0"));

    // A clear password in place of an encrypted one is both hazards.
    let (counted, lines) = seen(&full_authentication(b"secret\0"), AT_ONCE, Ending::ClientFin);
    assert_eq!((counted.as_str(), lines.len()), ("clear_password 2, full_auth_without_tls 2", 2));
    // An empty password is not a secret, and a hash can be used only once.
    for script in [
        switched("mysql_clear_password", b"\0"),
        switched("sha256_password", b"\0"),
        begun("mysql_clear_password", b""),
        switched("caching_sha2_password", &[0x5a; 32]),
        switched("mysql_native_password", &[0x5a; 20]),
        switched("client_ed25519", &[0x5a; 64]),
        scripts::tls(),
    ] {
        assert_eq!(seen(&script, AT_ONCE, Ending::ClientFin), (NONE.to_owned(), vec![]), "{script:?}");
    }
}

#[test]
fn servers_that_refuse_are_counted() {
    for (errno, kind) in [(1040, "too_many_connections"), (1129, "host_blocked"), (1130, "host_not_allowed")]
    {
        let script = [Turn::Server(packet(0, &err(errno)))];
        assert_seen(kind, "", &script, AT_ONCE, Ending::ServerFin);
    }
    for (errno, kind) in [(1040, "too_many_connections"), (3159, "tls_required")] {
        assert_seen(kind, "", &scripts::refused(errno), AT_ONCE, Ending::ServerFin);
    }
    for errno in [1153, 1301] {
        assert_seen("packet_too_large", "", &fails(errno), AT_ONCE, Ending::ClientFin);
    }
    // The server sends the error before it has read all of the packet, so its sequence id is that of an unsolicited error.
    assert_seen("packet_too_large", "", &unsolicited(1153), LONG, Ending::ServerFin);
    for script in [scripts::refused(1045), fails(1146), fails(1040), unsolicited(1927)] {
        assert_eq!(seen(&script, AT_ONCE, Ending::ServerFin), (NONE.to_owned(), vec![]), "{script:?}");
    }
}

#[test]
fn idle_connections_that_the_server_or_the_proxy_closes_are_counted() {
    let idle = login(CLIENT_CAPABILITIES);
    let pooled = [
        idle.clone(),
        query("select 1", result_set(&["1"])),
        vec![Turn::Client(command(COM_RESET_CONNECTION, b"")), Turn::Server(answer([ok()]))],
    ]
    .concat();
    for script in [&idle, &pooled] {
        for (ending, kind) in [
            (Ending::ServerFin, "idle_closed_by_server"),
            (Ending::ServerReset, "idle_closed_by_server"),
            (Ending::Drain, "idle_closed_by_proxy"),
        ] {
            assert_seen(kind, " idle_s=2", script, LONG, ending);
            // A close directly after a response is a reaction to it.
            assert_eq!(seen(script, Duration::from_millis(999), ending).0, NONE, "{ending:?}");
        }
        for ending in [Ending::ClientFin, Ending::ClientReset] {
            assert_eq!(seen(script, LONG, ending).0, NONE, "{ending:?}");
        }
    }
    // MySQL sends the reason before it closes the connection. The hazard is counted only once.
    for ending in [Ending::ServerFin, Ending::ClientFin] {
        assert_seen("idle_closed_by_server", " idle_s=0", &unsolicited(4031), LONG, ending);
    }
    let unanswered = [idle.clone(), vec![Turn::Client(command(COM_PING, b""))]].concat();
    for script in [unanswered, [idle, quit()].concat(), unsolicited(1927), unsolicited(1053)] {
        for ending in [Ending::ServerFin, Ending::ServerReset, Ending::Drain] {
            assert_eq!(seen(&script, LONG, ending), (NONE.to_owned(), vec![]), "{ending:?} {script:?}");
        }
    }
}

#[test]
fn health_checks_are_counted_and_logged_in_powers_of_ten() {
    let greeted = &login(CLIENT_CAPABILITIES)[..1];
    for ending in [Ending::ClientFin, Ending::ClientReset] {
        assert_seen("unanswered_greeting", " count=1", greeted, AT_ONCE, ending);
    }
    // A close by the server, a close by the proxy, and a client that requests TLS.
    let requests_tls =
        [greeted, &[Turn::Client(packet(1, &ssl_request(CLIENT_CAPABILITIES | CLIENT_SSL)))]].concat();
    for (script, ending) in
        [(greeted, Ending::ServerFin), (greeted, Ending::Drain), (&requests_tls, Ending::ClientFin)]
    {
        assert_eq!(seen(script, AT_ONCE, ending).0, NONE, "{ending:?}");
    }
    assert_eq!(seen(&login(CLIENT_CAPABILITIES)[..2], AT_ONCE, Ending::ClientFin).0, NONE);

    let vm = Vm::start();
    let plugin = vm.plugin("");
    vm.log();
    for _ in 0..120 {
        scripts::run(&plugin, &ORDERS, greeted, Ending::ClientFin);
    }
    // Another destination is logged separately.
    let mail = Destination { address: "10.0.0.6:3306", cluster: Some("mail"), ..ORDERS };
    scripts::run(&plugin, &mail, greeted, Ending::ClientFin);
    plugin.flush();
    let logged: Vec<_> = vm
        .log()
        .iter()
        .map(|(level, line)| {
            assert_eq!(*level, 3, "{line}");
            let words =
                line.split(' ').filter(|word| word.starts_with("cluster=") || word.starts_with("count="));
            words.collect::<Vec<_>>().join(" ")
        })
        .collect();
    let expected = ["cluster=orders count=1", "cluster=orders count=10", "cluster=orders count=100"];
    assert_eq!(logged, [&expected[..], &["cluster=mail count=1"]].concat());
    assert_eq!(hazards(&vm), "unanswered_greeting 120");
}
