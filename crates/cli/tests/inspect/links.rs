//! The same connections in every kind of file and frame.

use std::collections::BTreeMap;

use firstword::event::{Event, Sender};
use serde_json::{Value, json};

use crate::wire::{CLIENT, Link, SERVER, Talk, address, pcap, pcap_nanos, pcap_of, pcapng};
use crate::{report, run};
use firstword_testing::capture::Chunks;
use firstword_testing::replay::{Captured, Replayed, captures, replay, whole};

/// The counts of a connection by the events of the core.
pub fn counts(emitted: &Replayed) -> Value {
    let mut commands = BTreeMap::<_, u64>::new();
    let mut errors = BTreeMap::<_, u64>::new();
    let (mut rows, mut affected, mut warnings, mut sets) = (0, 0, 0, 0);
    for event in &emitted.events {
        match event {
            Event::CommandSent(command) | Event::CommandStarted(command) => {
                *commands.entry(command.label()).or_default() += 1;
            }
            Event::CommandEnded { response: Some(response), .. } => {
                rows += response.tally.rows;
                affected += response.tally.affected_rows;
                warnings += response.tally.warnings;
                sets += response.tally.result_sets;
                if let Some(errno) = response.tally.errno {
                    *errors.entry(errno.to_string()).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    let both = |counts: [u64; 2]| json!({"client": counts[0], "server": counts[1]});
    json!({
        "commands": commands, "errors": errors, "rows": rows, "affected_rows": affected, "warnings": warnings,
        "result_sets": sets, "bytes": both(emitted.bytes), "packets": both(emitted.packets),
        "compressed_bytes": both(emitted.compressed), "retransmitted": both([0, 0]), "lost_bytes": both([0, 0]),
    })
}

/// Recorded connections on which the server speaks first.
pub fn recorded() -> Vec<Captured> {
    let server_first =
        |captured: &Captured| captured.chunks.first().is_some_and(|(by, _)| *by == Sender::Server);
    let captures: Vec<_> = captures().into_iter().filter(server_first).collect();
    assert!(captures.len() > 30, "{}", captures.len());
    captures
}

/// A recorded connection by its name.
pub fn recorded_as(name: &str) -> Chunks {
    captures().into_iter().find(|captured| captured.name == name).unwrap().chunks
}

#[test]
fn the_counts_of_every_recorded_connection_equal_those_of_the_core() {
    for Captured { name, chunks, .. } in recorded() {
        let emitted = replay(whole(&chunks));
        let report = report(&pcap(&Talk::whole(&chunks).frames), &[]);
        assert_eq!(report["totals"]["connections"], 1, "{name}");
        assert_eq!(report["connections"][0]["counts"], counts(&emitted), "{name}");
        assert_eq!(report["totals"]["counts"], counts(&emitted), "{name}");
        let opaque = emitted.events.iter().find_map(|event| match event {
            Event::Opaque(reason) => Some(reason.label()),
            _ => None,
        });
        assert_eq!(report["connections"][0]["opaque"]["reason"].as_str(), opaque, "{name}");
        let end = &report["connections"][0]["end"];
        assert_eq!((&end["by"], &end["how"]), (&json!("client"), &json!("fin")), "{name}");
    }
}

/// The report of a connection without its addresses and the name of the file.
fn without_addresses(report: &Value) -> Value {
    let mut connection = report["connections"][0].clone();
    connection["client"] = Value::Null;
    connection["server"] = Value::Null;
    connection
}

#[test]
fn the_report_is_the_same_for_every_link_and_file_format() {
    let chunks = recorded_as("mariadb-auth-native");
    let frames = Talk::whole(&chunks).frames;
    let expected = report(&pcap(&frames), &[]);
    assert_eq!(expected["connections"][0]["client"], format!("192.0.2.1:{CLIENT}"));
    assert_eq!(expected["connections"][0]["server"], format!("192.0.2.2:{SERVER}"));
    for link in Link::ALL {
        for ipv6 in [false, true] {
            let found = report(&pcap_of(&frames, link, ipv6), &[]);
            assert_eq!(without_addresses(&found), without_addresses(&expected), "{link:?}");
            let [client, server] = [(Sender::Client, CLIENT), (Sender::Server, SERVER)]
                .map(|(sender, port)| std::net::SocketAddr::new(address(sender, ipv6), port).to_string());
            assert_eq!(found["connections"][0]["client"], client);
            assert_eq!(found["connections"][0]["server"], server);
        }
    }
    assert_eq!(without_addresses(&report(&pcap_nanos(&frames), &[])), without_addresses(&expected));
    assert_eq!(without_addresses(&report(&pcapng(&frames), &[])), without_addresses(&expected));
    // A file with two sections.
    let twice = [pcapng(&frames), pcapng(&frames)].concat();
    assert_eq!(report(&twice, &[])["packets"], 2 * frames.len());
}

#[test]
fn packets_other_than_tcp_are_counted_and_skipped() {
    let frames = Talk::whole(&recorded_as("mariadb-auth-native")).frames;
    let mut file = pcap_of(&frames, Link::Ethernet, false);
    let arp = [&[0xff; 12][..], &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1], &[0; 20]].concat();
    let fragment = {
        let mut fragment = crate::wire::bytes(&frames[4], Link::Ethernet, false);
        // More fragments follow.
        fragment[14 + 6] |= 0x20;
        fragment
    };
    let short = crate::wire::bytes(&frames[4], Link::Ethernet, false)[..40].to_vec();
    for (packet, length) in [(&arp, arp.len()), (&fragment, fragment.len()), (&short, 900)] {
        for number in [1_700_000_100, 0, packet.len() as u32, length as u32] {
            file.extend(number.to_le_bytes());
        }
        file.extend(packet);
    }
    let report = report(&file, &[]);
    assert_eq!(
        report["left_out"],
        json!({
            "not TCP": 1,
            "a fragment of an IP packet, which is not put together": 1,
            "captured too short for its headers": 1,
        })
    );
    let mut usb = pcap(&frames);
    usb[20] = 189;
    let printed = run(&["-"], &usb);
    let line = format!("  left out   {} packets of link type 189, which is not read\n", frames.len());
    assert!(printed.output.contains(&line), "{}", printed.output);
}

#[test]
fn ports_and_first_bytes_select_connections() {
    let chunks = recorded_as("mariadb-auth-native");
    let on = |port: u16| {
        let mut talk = Talk::new([CLIENT, port], 0);
        talk.chunks(&chunks);
        talk.frames
    };
    let count =
        |capture: &[u8], arguments: &[&str]| report(capture, arguments)["totals"]["connections"].clone();
    // A greeting selects a connection on any port.
    assert_eq!(count(&pcap(&on(10_000)), &[]), 1);
    assert_eq!(count(&pcap(&on(10_000)), &["--port", "10000", "--port", "1"]), 1);
    assert_eq!(count(&pcap(&on(10_000)), &["--port", "1"]), 0);
    assert_eq!(count(&pcap(&on(3306)), &["--port", "1"]), 0);
    let http = |port: u16| {
        let mut talk = Talk::new([CLIENT, port], 0);
        talk.push(Sender::Client, b"GET / HTTP/1.1\r\n\r\n");
        talk.push(Sender::Server, b"HTTP/1.1 200 OK\r\n\r\n");
        talk.frames
    };
    assert_eq!(count(&pcap(&http(8080)), &[]), 0);
    let at_mysql = report(&pcap(&http(3306)), &[]);
    assert_eq!(at_mysql["connections"][0]["first_word"]["seen"], "http");
    assert_eq!(at_mysql["connections"][0]["first_word"]["by"], "client");
    assert_eq!(at_mysql["totals"]["hazards"], json!({"client_first": 1}));
    assert_eq!(count(&pcap(&http(8080)), &["--port", "8080"]), 1);
    // A PROXY header selects a connection too, and the report shows it.
    let mut talk = Talk::new([CLIENT, 8080], 0);
    talk.push(Sender::Client, b"PROXY TCP4 198.51.100.7 192.0.2.2 5555 8080\r\nGET / HTTP/1.1\r\n\r\n");
    let header = report(&pcap(&talk.frames), &[]);
    let found = &header["connections"][0]["proxy_headers"][0];
    assert_eq!((&found["format"], &found["sender"]), (&json!("v1"), &json!("proxy")));
    assert_eq!((&found["source"], &found["length"]), (&json!("198.51.100.7:5555"), &json!(45)));
}
