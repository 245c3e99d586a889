//! Search for output that a peer can forge: log lines and access-log state of random versions, names and statements.

use std::time::Duration;

use firstword::escape;

use crate::budget::search;
use crate::host::{Ending, ORDERS, Vm};
use firstword_testing::packets::{
    CLIENT_CAPABILITIES, MARIADB_CAPABILITIES, answer, command, err, handshake_v10, ok, packet, prepare_ok,
};
use firstword_testing::random::Random;

/// All outputs that contain text of peers.
const SETTINGS: &str = r#"{"access_log": ["user", "schema", "server_version", "client", "opaque_reason"],
    "log": {"level": "trace", "max_per_minute": 60000}, "defaults": {"mysql": {"slow_command": "1ms"}}}"#;

/// `CLIENT_CONNECT_WITH_DB`, `CLIENT_CONNECT_ATTRS`.
const WITH_NAMES: u32 = 1 << 3 | 1 << 20;

/// Pieces that can break lines, quotes and terminals.
const PIECES: [&[u8]; 20] = [
    b"\"",
    b"\\",
    b"'",
    b"`",
    b" event=forged ",
    b"\n",
    b"\r\n",
    b"\x1b[2J",
    b"%",
    b"=",
    b"a",
    b"\xc2\x9b",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xae",
    b"\xf3\xa0\x81\x81",
    b"\xe3\x85\xa4",
    b"\xff",
    b"\xc3",
    b"\x7f",
    b"SELECT ",
];

/// Random text of pieces and arbitrary bytes, without the final NUL.
fn words(random: &mut Random) -> Vec<u8> {
    let mut words = Vec::new();
    for _ in 0..random.below(12) {
        match random.below(4) {
            0 => words.push((random.next() as u8).max(1)),
            _ => words.extend_from_slice(PIECES[random.below(PIECES.len())]),
        }
    }
    words
}

fn response(random: &mut Random) -> Vec<u8> {
    let (user, schema) = (words(random), words(random));
    let (name, version) = (words(random), words(random));
    let text = |text: &[u8]| [&[text.len().min(250) as u8], &text[..text.len().min(250)]].concat();
    let attributes = [text(b"_client_name"), text(&name), text(b"_client_version"), text(&version)].concat();
    let flags = (CLIENT_CAPABILITIES | WITH_NAMES).to_le_bytes();
    let front = [&flags[..], &[0, 0, 0, 1, 45], &[0; 23], &user, b"\0\0", &schema, b"\0"].concat();
    [&front[..], b"mysql_native_password\0", &text(&attributes)].concat()
}

/// Keys of a line of `key=value`, in which values are quoted or contain no white space. `None` if the line is malformed.
fn keys(line: &str) -> Option<Vec<&str>> {
    let mut rest = line;
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=')?;
        keys.push(key);
        rest = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?.1,
            None => value.find(' ').and_then(|end| value.get(end..)).unwrap_or_default(),
        };
        rest = match rest.strip_prefix(' ') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(keys)
}

fn check_line(line: &str) {
    let keys = keys(line).unwrap_or_else(|| panic!("not key=value: {line}"));
    assert_eq!(keys.first(), Some(&"event"), "{line}");
    assert_eq!(keys.iter().filter(|key| **key == "event").count(), 1, "{line}");
    assert!(line.chars().all(|char| char == ' ' || char.is_ascii_graphic()), "{line:?}");
}

#[test]
fn no_peer_can_forge_a_line_or_a_value() {
    let mut lines = 0;
    search(|random| {
        let vm = Vm::start();
        let plugin = vm.plugin(SETTINGS);
        let stream = plugin.connect(&ORDERS);
        let version = String::from_utf8_lossy(&words(random)).into_owned();
        stream.server(&packet(0, &handshake_v10(&version, MARIADB_CAPABILITIES | WITH_NAMES)));
        stream.client(&packet(1, &response(random)));
        stream.server(&packet(2, &ok()));
        for _ in 0..4 {
            let statement = words(random);
            let (byte, arguments) = match random.below(4) {
                0 => (0x16, statement),
                1 => (0x02, statement),
                2 => (0x11, [&statement[..], b"\0\0x\0"].concat()),
                _ => (0x03, statement),
            };
            stream.client(&command(byte, &arguments));
            vm.advance(Duration::from_millis(5));
            let failed = random.below(3) == 0;
            let payload = if failed {
                err(1064)
            } else if byte == 0x16 {
                prepare_ok(0, 0)
            } else {
                ok()
            };
            stream.server(&answer([payload]));
        }
        // The report of a desync contains text of both peers.
        stream.client(&packet(9, b"x"));
        for key in ["user", "schema", "server_version", "client"] {
            let value = stream.state(key).unwrap_or_default();
            assert!(value.chars().all(|char| char == '%' || escape::is_word(char)), "{key}: {value:?}");
        }
        stream.close(Ending::ClientReset);
        for (_, line) in vm.log() {
            check_line(&line);
            lines += 1;
        }
    });
    assert!(lines > 0, "no lines");
}
