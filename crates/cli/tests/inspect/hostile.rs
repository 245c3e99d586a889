//! Captures from an attacker.

use firstword::escape::is_text;
use firstword::event::Sender;

use crate::report;
use crate::run;
use crate::wire::{CLIENT, Frame, SERVER, Talk, pcap};
use firstword_testing::packets::{MARIADB_CAPABILITIES, handshake_v10, packet, ssl_request};

/// Moves the cursor, sets colours, changes the direction of text, breaks lines, holds invisible characters; then a name in
/// Chinese.
const NAME: &str = "a\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2028}\u{85}\u{200b}\u{e0041}\u{3164}\n\r%订单";
const SHOWN: &str = "a%1B[2J%C2%9B31m%7F%E2%80%AE%E2%80%A8%C2%85%E2%80%8B%F3%A0%81%81%E3%85%A4%0A%0D%25订单";

#[test]
fn identities_of_peers_are_escaped() {
    let mut greeting = handshake_v10(&format!("5.5.5-10.11.19-MariaDB-{NAME}"), MARIADB_CAPABILITIES);
    greeting.truncate(greeting.len() - "mysql_native_password\0".len());
    greeting.extend_from_slice(format!("{NAME}\0").as_bytes());
    let mut response = ssl_request(MARIADB_CAPABILITIES);
    response.extend_from_slice(format!("{NAME}\0\0{NAME}\0").as_bytes());
    let mut talk = Talk::new([CLIENT, SERVER], 0);
    talk.push(Sender::Server, &packet(0, &greeting));
    talk.push(Sender::Client, &packet(1, &response));
    let capture = pcap(&talk.frames);
    let text = run(&["--user", "-"], &capture);
    assert!(text.output.chars().all(|char| char == '\n' || is_text(char)), "{:?}", text.output);
    assert!(text.output.contains(&format!("10.11.19-MariaDB-{SHOWN}")), "{}", text.output);
    let json = run(&["--user", "-o", "json", "-"], &capture);
    assert!(json.output.chars().all(|char| char == '\n' || is_text(char)), "{:?}", json.output);
    let handshake = &json.json()["connections"][0]["handshake"];
    assert_eq!(handshake["server"]["version"], format!("5.5.5-10.11.19-MariaDB-{SHOWN}"));
    assert_eq!(handshake["server"]["auth_plugin"], SHOWN);
    assert_eq!(handshake["client"]["user"], SHOWN, "{handshake:#}");
}

#[test]
fn the_name_of_a_file_is_escaped() {
    for arguments in [&["no/\u{9b}31m\n\u{202e}"][..], &["-o", "json", "no/\u{9b}31m\n\u{202e}"]] {
        let printed = run(arguments, b"");
        let all = printed.output + &printed.problem;
        assert_eq!(printed.code, 2);
        assert!(all.chars().all(|char| char == '\n' || is_text(char)), "{all:?}");
        assert!(!all.contains("31m\n"), "{all:?}");
    }
}

/// A flood of connections without any response. The table of open ones is full long before the end.
#[test]
fn a_flood_of_connections_is_read_to_its_end() {
    const CONNECTIONS: u32 = 150_000;
    let frames: Vec<_> = (0..CONNECTIONS)
        .map(|number| Frame {
            at_us: u64::from(number),
            from: Sender::Client,
            seq: number,
            ack: None,
            syn: true,
            fin: false,
            rst: false,
            payload: Vec::new(),
            ports: [1 + (number % 60_000) as u16, [3306, 3307, 33060][number as usize / 60_000]],
            cut: 0,
        })
        .collect();
    let printed = report(&pcap(&frames), &[]);
    let number = |name: &str| printed[name].as_u64().unwrap();
    assert_eq!((number("packets"), printed["totals"]["connections"].as_u64().unwrap()), (150_000, 1 << 16));
    assert_eq!(number("not_followed"), 150_000 - (1 << 16));
    assert_eq!(
        (printed["connections"].as_array().unwrap().len(), number("not_listed")),
        (10_000, (1 << 16) - 10_000)
    );
}

/// Many headers in one segment. Reading each of them costs a pass over all of them.
#[test]
fn proxy_headers_without_end_are_read_up_to_a_limit() {
    let mut talk = Talk::new([CLIENT, SERVER], 0);
    talk.push(Sender::Client, &b"PROXY UNKNOWN\r\n".repeat(4000));
    let printed = report(&pcap(&talk.frames), &[]);
    assert_eq!(printed["connections"][0]["proxy_headers"].as_array().unwrap().len(), 16);
}
