//! Access-log state: its values, the callbacks that write it, and their cost.

use crate::host::{Call, Ending, ORDERS, Outcome, Vm};
use crate::scripts::{self, Turn, login, play, query, quit};
use firstword_testing::packets::*;

const ALL: &str = r#"{"access_log": ["protocol", "user", "schema", "server_version", "client", "thread_id",
    "commands", "errors", "last_errno", "opaque_reason"]}"#;

/// Keys and values that were set, without `firstword.`.
fn set(calls: &[Call]) -> Vec<&str> {
    let sets = calls.iter().filter(|call| call.name == "set_property");
    sets.map(|call| call.what.strip_prefix("firstword.").unwrap()).collect()
}

#[test]
fn names_are_written_at_once_and_counts_on_the_tick_and_at_the_end() {
    let vm = Vm::start();
    let plugin = vm.plugin(ALL);
    let stream = plugin.connect(&ORDERS);
    let calls = play(&stream, &login(CLIENT_CAPABILITIES));
    let version = "server_version=5.5.5-10.11.19-MariaDB-0+deb12u1";
    assert_eq!(set(&calls), [version, "thread_id=7", "protocol=mysql", "user=app"]);
    let commands = [query("select a", result_set(&["1"])), query("select a", [err(1146)])].concat();
    assert_eq!(set(&play(&stream, &commands)), [""; 0], "not on the data path");
    assert_eq!(set(&plugin.tick()), ["commands=2", "errors=1", "last_errno=1146"]);
    assert_eq!(set(&plugin.tick()), [""; 0], "nothing has changed");
    play(&stream, &query("select a", result_set(&["1"])));
    assert_eq!(set(&plugin.tick()), ["commands=3"]);
    play(&stream, &[query("select a", [err(1064)]), quit()].concat());
    assert_eq!(set(&stream.close(Ending::ClientFin)), ["commands=5", "errors=2", "last_errno=1064"]);
}

#[test]
fn every_ending_writes_the_counts() {
    let vm = Vm::start();
    let plugin = vm.plugin(ALL);
    for ending in Ending::ALL {
        let stream = plugin.connect(&ORDERS);
        play(&stream, &login(CLIENT_CAPABILITIES));
        let calls = set(&stream.close(ending)).join(" ");
        assert_eq!(calls, "commands=0 errors=0", "{ending:?}");
    }
    for (script, expected) in [
        (scripts::tls(), "commands=0 errors=0"),
        (scripts::too_many_connections(), "commands=0 errors=0 last_errno=1040"),
        (scripts::refused(1045), "commands=0 errors=0 last_errno=1045"),
        (scripts::smtp(), "commands=0 errors=0"),
    ] {
        let stream = plugin.connect(&ORDERS);
        play(&stream, &script);
        assert_eq!(set(&stream.close(Ending::ClientFin)).join(" "), expected);
    }
}

#[test]
fn the_end_of_inspection_is_written_in_the_same_callback() {
    let vm = Vm::start();
    let plugin = vm.plugin(r#"{"access_log": ["user", "opaque_reason"]}"#);
    for (script, expected) in [
        (scripts::tls(), vec!["opaque_reason=tls", "user=%"]),
        (scripts::compressed(), vec!["user=app", "opaque_reason=compressed", "user=%"]),
        (scripts::http(), vec!["opaque_reason=not_mysql", "user=%"]),
    ] {
        let stream = plugin.connect(&ORDERS);
        assert_eq!(set(&play(&stream, &script)), expected);
    }
    let off = vm.plugin(r#"{"access_log": ["user", "opaque_reason"], "mode": "off"}"#).connect(&ORDERS);
    assert_eq!(set(&off.server(&greeting())), ["opaque_reason=configured", "user=%"]);
}

/// A filter that decides by account reads the state once for each callback, and would check only the last account.
#[test]
fn a_callback_that_names_several_accounts_names_none() {
    for inspect in ["full", "requests"] {
        let vm = Vm::start();
        let rule = format!(r#"{{"match": {{"ports": [3306]}}, "mysql": {{"inspect": "{inspect}"}}}}"#);
        let plugin = vm.plugin(&format!(r#"{{"access_log": ["user", "opaque_reason"], "rules": [{rule}]}}"#));
        let change = |user: &str| command(0x11, format!("{user}\0\0\0").as_bytes());
        let state = |callbacks: &[Vec<u8>]| {
            let stream = plugin.connect(&ORDERS);
            play(&stream, &login(CLIENT_CAPABILITIES));
            callbacks.iter().for_each(|bytes| drop(stream.client(bytes)));
            stream.state("user").expect("an account")
        };
        assert_eq!(state(&[[change("app"), change("app")].concat()]), "app", "{inspect}");
        assert_eq!(state(&[change("evil"), change("app")]), "app", "each callback by itself");
        assert_eq!(state(&[[change("evil"), change("app")].concat()]), "%", "{inspect}");
        let [front, rest] = [&change("app")[..9], &change("app")[9..]].map(<[u8]>::to_vec);
        assert_eq!(state(&[front, [rest, change("evil"), change("app")].concat()]), "%", "{inspect}");
    }
    // After the login, when a server reads commands.
    let vm = Vm::start();
    let plugin = vm.plugin(r#"{"access_log": ["user"]}"#);
    let stream = plugin.connect(&ORDERS);
    let script = login(CLIENT_CAPABILITIES);
    play(&stream, &script[..1]);
    let Turn::Client(response) = &script[1] else { panic!("the client's turn") };
    stream.client(&[response.clone(), command(0x11, b"evil\0\0\0")].concat());
    assert_eq!(stream.state("user").as_deref(), Some("%"));
}

/// A filter that decides by account decides about the bytes of the callback in which the account is written.
#[test]
fn the_account_is_written_with_the_last_byte_of_its_packet_however_it_is_cut() {
    let vm = Vm::start();
    let plugin = vm.plugin(r#"{"access_log": ["user"]}"#);
    let response = packet(1, &handshake_response(CLIENT_CAPABILITIES));
    let change = packet(0, b"\x11report\0\0\0\x21\0mysql_native_password\0");
    for cut in 1..response.len() {
        let stream = plugin.connect(&ORDERS);
        stream.server(&greeting());
        assert_eq!(set(&stream.client(&response[..cut])), [""; 0], "cut at {cut}");
        assert_eq!(set(&stream.client(&response[cut..])), ["user=app"], "cut at {cut}");
        stream.server(&packet(2, &ok()));
        let cut = cut.min(change.len() - 1);
        assert_eq!(set(&stream.client(&change[..cut])), [""; 0], "cut at {cut}");
        assert_eq!(set(&stream.client(&change[cut..])), ["user=report"], "cut at {cut}");
        assert_eq!(set(&stream.server(&answer([err(1045)]))), ["user=app"], "the server refused");
        stream.close(Ending::ClientFin);
    }
}

#[test]
fn only_configured_keys_are_written_and_they_are_declared_as_text() {
    let vm = Vm::start();
    let plugin = vm.plugin("");
    let stream = plugin.connect(&ORDERS);
    let calls = [play(&stream, &scripts::classic()), plugin.tick(), stream.close(Ending::ClientFin)].concat();
    let names = ["set_property", "call_foreign_function"];
    assert!(calls.iter().all(|call| !names.contains(&call.name)), "no key is configured");

    let plugin = vm.plugin(r#"{"access_log": ["schema", "commands"]}"#);
    let declared = vm.configure_calls();
    let declared: Vec<_> = declared.iter().filter(|call| call.name == "call_foreign_function").collect();
    let text = |key: &str| format!("\\n\\u{{{:x}}}firstword.{key}\\u{{18}}\\u{{1}}", key.len() + 10);
    assert_eq!(
        declared.iter().map(|call| call.what.as_str()).collect::<Vec<_>>(),
        [text("schema"), text("commands")]
    );
    let stream = plugin.connect(&ORDERS);
    play(&stream, &scripts::classic());
    plugin.tick();
    assert_eq!(
        ["user", "schema", "commands", "errors"].map(|key| stream.state(key).unwrap_or("-".into())),
        ["-", "", "10", "-"]
    );
}

/// No text of a peer can break a log line, and no secret is written.
#[test]
fn text_of_peers_is_escaped() {
    let vm = Vm::start();
    let plugin = vm.plugin(ALL);
    let stream = plugin.connect(&ORDERS);
    let mut response = handshake_response(CLIENT_CAPABILITIES);
    let at = response.windows(4).position(|user| user == b"app\0").unwrap();
    response[at..at + 3].copy_from_slice(b"\n\"%");
    stream.server(&greeting());
    let calls = stream.client(&packet(1, &response));
    assert_eq!(set(&calls), ["user=%0A%22%25"]);
    let all = [calls, play(&stream, &[Turn::Server(packet(2, &ok()))]), stream.close(Ending::Drain)].concat();
    assert!(all.iter().all(|call| !call.what.contains("secret")), "{all:?}");
}

#[test]
fn the_source_of_a_believed_header_is_written_once() {
    let vm = Vm::start();
    let plugin = vm.plugin(
        r#"{"access_log": ["source", "user"], "rules": [{"protocol": "mysql", "proxy_protocol":
            {"receive": {"mode": "optional", "trusted_networks": ["*"]}}}]}"#,
    );
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 3306\r\n";
    let (stream, ..) = plugin.connect_from(Some("198.51.100.1:40000"), &ORDERS);
    stream.server(&greeting());
    let response = packet(1, &handshake_response(CLIENT_CAPABILITIES));
    let (outcome, calls) = stream.pass_client(&[&header[..], &response].concat(), false);
    assert_eq!(
        (outcome, set(&calls)),
        (Outcome::Forwarded(response), vec!["user=app", "source=192.0.2.1:5000"])
    );
    assert_eq!(set(&stream.server(&packet(2, &ok()))), [""; 0]);
    stream.close(Ending::ClientFin);
}
