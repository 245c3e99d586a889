//! Segments as networks and captures deliver them: late, twice, overlapping, lost, cut, or from the middle on.

use firstword::event::Sender;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::links::{counts, recorded_as};
use crate::report;
use crate::wire::{CLIENT, Frame, SERVER, STEP, Talk, pcap};
use firstword_testing::capture::Chunks;
use firstword_testing::packets::packet;
use firstword_testing::replay::{replay, whole};

fn chunks() -> Chunks {
    recorded_as("mariadb-auth-native")
}

/// A login without `DEPRECATE_EOF`.
fn login() -> Chunks {
    let mut chunks = chunks();
    assert_eq!(chunks.pop().unwrap().1.as_ref(), b"\x01\0\0\0\x01", "COM_QUIT");
    let mut response = chunks[1].1.to_vec();
    // The highest byte of the capabilities.
    response[7] &= !1;
    chunks[1].1 = response.into();
    chunks
}

/// The counts of the connection without retransmissions.
fn essence(report: &Value) -> Value {
    let mut essence = report["connections"][0]["counts"].clone();
    essence["retransmitted"] = Value::Null;
    essence
}

fn expected(chunks: &Chunks) -> Value {
    let mut counts = counts(&replay(whole(chunks)));
    counts["retransmitted"] = Value::Null;
    counts
}

fn cut(frame: &Frame, range: std::ops::Range<usize>) -> Frame {
    let seq = frame.seq.wrapping_add(range.start as u32);
    Frame { seq, payload: frame.payload[range].to_vec(), ..frame.clone() }
}

#[test]
fn disorder_does_not_change_the_counts_of_a_recorded_connection() {
    let chunks = recorded_as("mariadb-prepared-classic");
    let expected = expected(&chunks);
    let frames = Talk::whole(&chunks).frames;
    let strategy = (0..frames.len(), 0..5_usize, any::<prop::sample::Index>(), any::<bool>());
    let disorder = prop::collection::vec(strategy, 1..12);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() });
    runner
        .run(&disorder, |disorder| {
            let mut frames = frames.clone();
            for (index, what, place, early) in disorder {
                let frame = frames[index].clone();
                let len = frame.payload.len();
                let at = if len > 1 { 1 + place.index(len - 1) } else { 0 };
                match what {
                    // Twice, the second time later.
                    0 => frames.insert((index + 1 + place.index(4)).min(frames.len()), frame),
                    // In two segments that overlap, in either order.
                    1 if at > 0 => {
                        let parts = [cut(&frame, 0..at), cut(&frame, at - 1..len)];
                        let parts = if early { parts } else { [parts[1].clone(), parts[0].clone()] };
                        frames.splice(index..=index, parts);
                    }
                    // A keep-alive: any byte in place of the last one that was sent.
                    2 if index > 3 && is_sent(&frames[..index], &frame) => frames
                        .insert(index, Frame { seq: frame.seq.wrapping_sub(1), payload: vec![0], ..frame }),
                    // Captured after the next segment.
                    3 if index > 3 && index + 1 < frames.len() => frames.swap(index, index + 1),
                    // A part of the data, then all of it.
                    4 if at > 0 => {
                        frames.splice(index..=index, [cut(&frame, 0..at), frame]);
                    }
                    _ => {}
                }
            }
            let report = report(&pcap(&frames), &[]);
            prop_assert_eq!(essence(&report), expected.clone());
            prop_assert_eq!(&report["totals"]["opaque"], &json!({}));
            Ok(())
        })
        .unwrap();
}

/// True if one of `frames` has the byte before `next`, or the SYN in its place.
fn is_sent(frames: &[Frame], next: &Frame) -> bool {
    let has_it = |frame: &&Frame| {
        let at = next.seq.wrapping_sub(1).wrapping_sub(frame.seq);
        frame.from == next.from && (at as usize) < frame.payload.len().max(1)
    };
    frames.iter().any(|frame| has_it(&frame))
}

/// A session with a `SELECT` of a row of 100,000 bytes.
fn long_rows() -> Talk {
    let mut talk = Talk::new([CLIENT, SERVER], 0);
    talk.chunks(&login());
    talk.push(Sender::Client, &packet(0, b"\x03SELECT text FROM long_rows"));
    let mut row = vec![0xfd, 0xa0, 0x86, 1];
    row.resize(4 + 100_000, b'x');
    let column = b"\x03def\0\0\0\x04text\x04text\x0c\x21\0\0\0\0\0\xfc\0\0\0\0\0";
    let response = [packet(1, b"\x01"), packet(2, column), packet(3, b"\xfe\0\0\x02\0"), packet(4, &row)];
    let response = [response.concat(), packet(5, b"\xfe\0\0\x02\0")].concat();
    for part in response.chunks(20_000) {
        talk.push(Sender::Server, part);
    }
    talk.push(Sender::Client, &packet(0, b"\x01"));
    talk.fin(Sender::Client);
    talk.fin(Sender::Server);
    talk.push(Sender::Client, b"");
    talk
}

/// The indices of the frames of `from` with a payload of this length.
fn indices(frames: &[Frame], from: Sender, len: usize) -> Vec<usize> {
    let is = |frame: &Frame| frame.from == from && frame.payload.len() == len;
    frames.iter().enumerate().filter(|(_, frame)| is(frame)).map(|(index, _)| index).collect()
}

#[test]
fn bytes_missing_inside_a_row_are_skipped_and_elsewhere_end_inspection() {
    let all = long_rows().frames;
    let complete = report(&pcap(&all), &[]);
    assert_eq!(complete["totals"]["counts"]["rows"], 1);
    let inside = indices(&all, Sender::Server, 20_000)[2];
    for cut_only in [false, true] {
        let mut frames = all.clone();
        if cut_only {
            frames[inside].cut = 19_000;
        } else {
            frames.remove(inside);
        }
        let report = report(&pcap(&frames), &[]);
        let lost = if cut_only { 19_000 } else { 20_000 };
        assert_eq!(report["totals"]["counts"]["lost_bytes"], json!({"client": 0, "server": lost}));
        assert_eq!(report["totals"]["opaque"], json!({}));
        let mut counts = report["totals"]["counts"].clone();
        counts["lost_bytes"] = complete["totals"]["counts"]["lost_bytes"].clone();
        assert_eq!(counts, complete["totals"]["counts"]);
    }
    // Without the end of the response, the server's direction cannot be inspected further.
    let end =
        all.iter().rposition(|frame| frame.from == Sender::Server && !frame.payload.is_empty()).unwrap();
    let mut frames = all.clone();
    frames.remove(end);
    let report = report(&pcap(&frames), &[]);
    assert_eq!(report["totals"]["opaque"], json!({"desync": 1}));
    assert_eq!(report["connections"][0]["opaque"]["lost_bytes"], true);
    assert_eq!(report["connections"][0]["commands"][0]["unanswered"], true);
    assert_eq!(report["connections"][0]["end"]["by"], "client");
}

#[test]
fn late_segments_are_awaited_and_lost_segments_are_not() {
    let all = long_rows().frames;
    let part = indices(&all, Sender::Server, 20_000)[0];
    // The capture shows a segment only after its acknowledgement, because packets were captured in another order.
    let mut late = all.clone();
    let frame = late.remove(part);
    late.insert(all.len() - 5, frame);
    let report_of_late = report(&pcap(&late), &[]);
    assert_eq!(report_of_late["totals"]["counts"]["rows"], 1);
    assert_eq!(report_of_late["totals"]["counts"]["lost_bytes"], json!({"client": 0, "server": 0}));
    // The command is not in the capture, but its response is.
    let command = indices(&all, Sender::Client, 31)[0];
    assert!(all[command].payload.ends_with(b"long_rows"));
    let mut frames = all;
    frames.remove(command);
    let report = report(&pcap(&frames), &[]);
    assert_eq!(report["totals"]["counts"]["lost_bytes"], json!({"client": 31, "server": 0}));
    assert_eq!(report["totals"]["opaque"], json!({"desync": 1}));
}

#[test]
fn a_missing_fin_is_not_a_lost_byte_and_a_missing_byte_is() {
    let chunks = chunks();
    let mut frames = Talk::whole(&chunks).frames;
    let fin = frames.iter().position(|frame| frame.fin).unwrap();
    frames.remove(fin);
    let report_without_fin = report(&pcap(&frames), &[]);
    assert_eq!(report_without_fin["connections"][0]["counts"], counts(&replay(whole(&chunks))));
    assert_eq!(report_without_fin["connections"][0]["end"]["by"], "server");
    // A command in segments of one byte. One is missing, which an acknowledgement shows before the next byte arrives.
    let mut talk = Talk::new([CLIENT, SERVER], 0);
    talk.chunks(&login());
    for byte in packet(0, b"\x0e") {
        talk.push(Sender::Client, &[byte]);
        for _ in 0..40 {
            talk.push(Sender::Server, b"");
        }
    }
    talk.push(Sender::Server, b"\x07\0\0\x01\0\0\0\x02\0\0\0");
    let mut frames = talk.frames;
    let byte = indices(&frames, Sender::Client, 1)[2];
    frames.remove(byte);
    let report = report(&pcap(&frames), &[]);
    assert_eq!(report["totals"]["counts"]["lost_bytes"], json!({"client": 1, "server": 0}));
    assert_eq!(report["totals"]["opaque"], json!({"desync": 1}));
    assert_eq!(report["connections"][0]["opaque"]["lost_bytes"], true);
}

#[test]
fn a_capture_from_the_middle_is_opaque_and_one_from_the_greeting_is_not() {
    let chunks = chunks();
    let frames = Talk::whole(&chunks).frames;
    let middle = report(&pcap(&frames[6..]), &[]);
    assert_eq!(middle["totals"]["opaque"], json!({"late_start": 1}));
    let bytes =
        |from| frames[6..].iter().filter(|frame| frame.from == from).map(|frame| frame.payload.len()).sum();
    let (client, server): (usize, usize) = (bytes(Sender::Client), bytes(Sender::Server));
    assert_eq!(middle["totals"]["counts"]["bytes"], json!({"client": client, "server": server}));
    assert_eq!(middle["totals"]["counts"]["commands"], json!({}));
    // On another port, the capture does not show that it is MySQL.
    let elsewhere: Vec<_> =
        frames[6..].iter().map(|frame| Frame { ports: [CLIENT, 10_000], ..frame.clone() }).collect();
    assert_eq!(report(&pcap(&elsewhere), &[])["totals"]["connections"], 0);
    // COM_PROCESS_INFO begins like a greeting, but is not one.
    let mut talk = Talk::new([CLIENT, 10_000], 0);
    talk.push(Sender::Client, &packet(0, b"\x0a"));
    assert_eq!(report(&pcap(&talk.frames[3..]), &[])["totals"]["connections"], 0);
    assert_eq!(report(&pcap(&elsewhere), &["--port", "10000"])["totals"]["opaque"], json!({"late_start": 1}));
    let greeting = report(&pcap(&frames[3..]), &[]);
    assert_eq!(greeting["connections"][0]["counts"], counts(&replay(whole(&chunks))));
    assert_eq!(greeting["connections"][0]["tcp_handshake_us"], Value::Null);
}

#[test]
fn a_capture_without_payload_counts_all_bytes_as_lost() {
    let mut frames = Talk::whole(&chunks()).frames;
    for frame in &mut frames {
        frame.cut = frame.payload.len();
    }
    frames.remove(3);
    let report = report(&pcap(&frames), &[]);
    let sent =
        |by| chunks().iter().filter(|(sender, _)| *sender == by).map(|(_, bytes)| bytes.len()).sum::<usize>();
    let all = json!({"client": sent(Sender::Client), "server": sent(Sender::Server)});
    assert_eq!(report["totals"]["counts"]["lost_bytes"], all);
    assert_eq!(report["totals"]["counts"]["bytes"], all);
    assert_eq!(report["connections"][0]["opaque"]["lost_bytes"], true);
    assert_eq!(report["connections"][0]["end"]["how"], "fin");
}

#[test]
fn data_in_the_syn_is_inspected() {
    let mut talk = Talk::new([CLIENT, SERVER], 0);
    let [syn, syn_ack] = [0, 1].map(|index: usize| talk.frames[index].clone());
    talk.frames.clear();
    talk.push(Sender::Client, b"GET / HTTP/1.1\r\n\r\n");
    let with_data = Frame { payload: talk.frames[0].payload.clone(), ..syn };
    let ack = Frame { ack: Some(with_data.seq.wrapping_add(19)), ..syn_ack };
    let mut last = talk.push(Sender::Client, b"").clone();
    last.at_us += STEP;
    let report = report(&pcap(&[with_data, ack, last]), &[]);
    assert_eq!(report["connections"][0]["first_word"]["seen"], "http");
    assert_eq!(report["totals"]["counts"]["bytes"], json!({"client": 18, "server": 0}));
}

#[test]
fn reused_ports_are_another_connection() {
    let chunks = chunks();
    let first = Talk::whole(&chunks).frames;
    let again = |frames: &[Frame]| -> Vec<Frame> {
        let shift = |frame: &Frame| Frame {
            at_us: frame.at_us + 60_000_000,
            seq: frame.seq.wrapping_add(1 << 31),
            ack: frame.ack.map(|ack| ack.wrapping_add(1 << 31)),
            ..frame.clone()
        };
        frames.iter().map(shift).collect()
    };
    let second = again(&first);
    let report_of_both = report(&pcap(&[first.clone(), second.clone()].concat()), &[]);
    assert_eq!(report_of_both["totals"]["connections"], 2);
    assert_eq!(report_of_both["connections"][0]["counts"], report_of_both["connections"][1]["counts"]);
    assert_eq!(report_of_both["connections"][1]["first"]["at_us"], 60_000_000);
    let cut = report(&pcap(&[first[..6].to_vec(), second].concat()), &[]);
    assert_eq!(cut["connections"][0]["end"]["how"], "replaced");
    assert_eq!(cut["connections"][1]["end"]["how"], "fin");
}

#[test]
fn open_and_closed_connections_are_reported() {
    let login = login();
    let mut talk = Talk::new([CLIENT, SERVER], 0);
    talk.chunks(&login);
    talk.push(Sender::Client, &packet(0, b"\x03SELECT SLEEP(9)"));
    let waiting = talk.frames.clone();
    let sent = waiting.len() as u64;
    // The client waits. The time is that of the last packet of the capture, which belongs to another connection.
    let mut other = Talk::new([CLIENT + 1, 9], 7_000_000);
    other.push(Sender::Client, b"x");
    let open = report(&pcap(&[waiting.clone(), other.frames].concat()), &[]);
    let connection = &open["connections"][0];
    assert_eq!(connection["end"], Value::Null);
    let since = (sent - 1) * STEP;
    assert_eq!(
        connection["waits"],
        json!({
            "who": "client", "what": "answer", "commands": ["query"],
            "packet": sent, "at_us": since, "for_us": 7_000_000 + 3 * STEP - since,
        })
    );
    assert_eq!(connection["commands"][0]["unanswered"], true);
    for (by, rst) in [(Sender::Server, true), (Sender::Client, true), (Sender::Server, false)] {
        let mut talk = Talk::new([CLIENT, SERVER], 0);
        talk.chunks(&login);
        talk.push(Sender::Client, &packet(0, b"\x03SELECT SLEEP(9)"));
        if rst {
            talk.push(by, b"").rst = true;
        } else {
            talk.fin(by);
        }
        let report = report(&pcap(&talk.frames), &[]);
        let end = &report["connections"][0]["end"];
        assert_eq!(end["by"], by.label());
        assert_eq!(end["how"], if rst { "rst" } else { "fin" });
        assert_eq!(end["unanswered"], json!(["query"]));
        assert_eq!((&end["quit"], &end["phase"]), (&json!(false), &json!("command")));
        assert_eq!(end["reset_by"].as_str(), rst.then_some(by.label()));
    }
    // Refused: no server listens.
    let mut refused = Talk::new([CLIENT, SERVER], 0);
    refused.frames.truncate(1);
    let mut reset = refused.frames[0].clone();
    (reset.from, reset.syn, reset.rst) = (Sender::Server, false, true);
    (reset.seq, reset.ack) = (0, Some(refused.frames[0].seq.wrapping_add(1)));
    refused.frames.push(reset);
    let refused = report(&pcap(&refused.frames), &[]);
    let end = &refused["connections"][0]["end"];
    assert_eq!(
        (&end["by"], &end["how"], &end["phase"]),
        (&json!("server"), &json!("rst"), &json!("tcp_handshake"))
    );
    // No response at all.
    let mut alone = Talk::new([CLIENT, SERVER], 0);
    alone.frames.truncate(1);
    let alone = report(&pcap(&alone.frames), &[]);
    assert_eq!(alone["connections"][0]["waits"]["what"], "tcp_handshake");
    assert_eq!(alone["connections"][0]["waits"]["who"], "client");
}

#[test]
fn a_server_without_a_greeting_is_a_hazard() {
    let mut silent = Talk::new([CLIENT, SERVER], 0);
    let mut last = silent.push(Sender::Client, b"").clone();
    last.at_us = 5_000_000;
    silent.frames.push(last);
    let report = report(&pcap(&silent.frames), &[]);
    let connection = &report["connections"][0];
    assert_eq!(report["totals"]["hazards"], json!({"no_greeting": 1}));
    assert_eq!(
        (&connection["waits"]["who"], &connection["waits"]["what"]),
        (&json!("client"), &json!("greeting"))
    );
    assert_eq!(connection["waits"]["for_us"], 5_000_000 - 2 * STEP);
    assert_eq!(connection["first_word"], Value::Null);
}

#[test]
fn every_split_of_the_last_eof_of_a_prepared_statement_is_reported() {
    let column = b"\x03def\0\0\0\x01a\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";
    let login = login();
    let response =
        [packet(1, b"\0\x01\0\0\0\x01\0\0\0\0\0\0"), packet(2, column), packet(3, b"\xfe\0\0\x02\0")]
            .concat();
    for passed in 0..10 {
        let at = response.len() - 9 + passed;
        for went_on in [false, true] {
            let mut talk = Talk::new([CLIENT, SERVER], 0);
            talk.chunks(&login);
            talk.push(Sender::Client, &packet(0, b"\x16SELECT 1"));
            talk.push(Sender::Server, &response[..at]);
            let first = talk.frames.len() as u64;
            if went_on {
                talk.push(Sender::Client, &packet(0, b"\x17\x01\0\0\0\0\x01\0\0\0"));
            }
            if passed < 9 {
                talk.push(Sender::Server, &response[at..]).at_us += 200;
            }
            let rest = talk.frames.len() as u64;
            let report = report(&pcap(&talk.frames), &[]);
            let hazards = &report["connections"][0]["hazards"];
            if passed == 9 {
                assert_eq!(hazards, &json!([]));
                continue;
            }
            assert_eq!(hazards.as_array().unwrap().len(), 1);
            assert_eq!(hazards[0]["severity"], if went_on { "error" } else { "warning" });
            assert_eq!(
                (&hazards[0]["code"], &hazards[0]["packet"]),
                (&json!("prepare_eof_split"), &json!(first))
            );
            assert_eq!(
                hazards[0]["split"],
                json!({
                    "eof_bytes": passed,
                    "rest_packet": rest,
                    "rest_after_us": STEP * (rest - first) + 200,
                    "client_went_on_packet": went_on.then_some(first + 1),
                })
            );
        }
    }
}
