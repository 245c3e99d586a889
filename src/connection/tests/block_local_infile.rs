//! Requests for files that are blocked.

use super::link::{Link, error_of_the_filter, login, observe_mysql, packet};
use crate::clock::Timestamp;
use crate::connection::chunk::TickVerdict;
use crate::event::{ClosedBy, Event, HazardKind, Sender};
use crate::rules::{HoldSplitEof, Rules};

/// PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, LOCAL_FILES and others.
const CLASSIC: u32 = 0x0008_a281;
const MULTI_STATEMENTS: u32 = 1 << 16;
const SETTING: &[u8] = b"\x1b\0\0";

fn ok(sequence_id: u8, status: u8) -> Vec<u8> {
    packet(sequence_id, &[0, 0, 0, status, 0, 0, 0])
}

fn request(sequence_id: u8, name: &str) -> Vec<u8> {
    packet(sequence_id, &[b"\xfb", name.as_bytes()].concat())
}

fn query(statement: &str) -> Vec<u8> {
    packet(0, &[b"\x03", statement.as_bytes()].concat())
}

fn prepare(statement: &str) -> Vec<u8> {
    packet(0, &[b"\x16", statement.as_bytes()].concat())
}

fn execute(id: u32) -> Vec<u8> {
    packet(0, &[b"\x17".as_slice(), &id.to_le_bytes(), &[0, 1, 0, 0, 0]].concat())
}

fn prepared(id: u8) -> Vec<u8> {
    packet(1, &[0, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn refused(sequence_id: u8) -> Vec<u8> {
    error_of_the_filter(sequence_id, 3948)
}

fn logged_in(blocks: bool, capabilities: u32) -> Link {
    let (hold_split_eof, block_local_infile) = (HoldSplitEof::Always, blocks);
    let setup = Rules { hold_split_eof, block_local_infile, ..observe_mysql() };
    Link::logged_in(setup, login("8.0.36", capabilities, &[]))
}

/// Numbers of file requests, of blocked requests and of undecidable requests.
fn counts(connection: &Link) -> [usize; 3] {
    let undecidable = Event::Hazard(HazardKind::LocalInfileUndecidable);
    connection.counts([Event::LocalInfile, Event::LocalInfileBlocked, undecidable])
}

/// Asserts that a request was blocked, nothing is forwarded any more, and the next tick closes the connection.
fn assert_blocked(connection: &mut Link) {
    assert_ended(connection);
    assert_eq!(connection.counts([Event::Hazard(HazardKind::LocalInfileUnsolicited)]), [1]);
}

/// Asserts the same for a connection without a judged request.
fn assert_ended(connection: &mut Link) {
    for (sender, bytes) in [(Sender::Client, b"root:x:0:0".as_slice()), (Sender::Server, b"\x01")] {
        assert_eq!(connection.take(sender, bytes, false), b"");
        assert_eq!(connection.take(sender, b"", true), b"");
    }
    let now = Timestamp::default();
    assert!(connection.connection.is_due(now));
    assert_eq!(connection.tick(now), TickVerdict::Close);
}

fn logged_in_without_hold() -> Link {
    let setup = Rules { block_local_infile: true, ..observe_mysql() };
    Link::logged_in(setup, login("8.0.36", CLASSIC, &[]))
}

fn multi() -> Link {
    logged_in(true, CLASSIC | MULTI_STATEMENTS)
}

/// The bytes before the request are forwarded, and the error replaces the request.
#[test]
fn an_unsolicited_request_is_replaced_by_an_error_however_it_is_cut() {
    let results =
        [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0"), packet(4, b"\x01x")];
    let more = packet(5, b"\xfe\0\0\x0a\0");
    // The bytes before the request, its sequence id, and the packets before it that are not rows.
    let cases = [
        (Vec::new(), 1, vec![]),
        (ok(1, 10), 2, vec![(0, 11)]),
        ([results.concat(), more].concat(), 6, vec![(0, 5), (5, 13), (13, 22)]),
    ];
    for (before, sequence_id, packets) in cases {
        let whole = [before.clone(), request(sequence_id, "/etc/passwd"), vec![9; 5]].concat();
        let request = before.len()..whole.len() - 5;
        let after = [before.clone(), refused(sequence_id)].concat();
        for cut in 0..=whole.len() {
            let mut link = multi();
            link.client(&query("SELECT 1; SELECT 2"));
            let now = link.server(&whole[..cut]);
            let then = link.server(&whole[cut..]);
            assert_eq!([now.clone(), then].concat(), after, "cut at {cut}");
            // Packets before the request are held until they are complete, but rows are not.
            let incomplete = packets.iter().find(|(start, end)| (start + 1..*end).contains(&cut));
            let expected = match incomplete {
                _ if cut >= request.end => &after,
                Some((start, _)) => &before[..*start],
                _ => &before[..cut.min(request.start)],
            };
            assert_eq!(now, expected, "cut at {cut}");
            assert_eq!(counts(&link), [1, 1, 0], "cut at {cut}");
            assert_blocked(&mut link);
        }
        let mut link = multi();
        link.client(&query("SELECT 1; SELECT 2"));
        let passed: Vec<_> = whole.iter().flat_map(|byte| link.server(&[*byte])).collect();
        assert_eq!(passed, after);
        assert_blocked(&mut link);
    }
}

#[test]
fn a_request_that_the_statement_allows_is_forwarded_however_it_is_cut() {
    let statement = "SELECT 1; LOAD DATA LOCAL INFILE '/tmp/it\\'s' INTO TABLE t";
    let whole = [ok(1, 10), request(2, "/tmp/it's")].concat();
    let file = [packet(3, b"1\n2\n"), packet(4, b"")].concat();
    for cut in 0..=whole.len() {
        let mut link = multi();
        // A response shows that a backslash escapes.
        link.client(&query("DO 1"));
        link.server_passes(&ok(1, 2));
        let command = query(statement);
        link.client(&command[..cut.min(command.len())]);
        link.client(&command[cut.min(command.len())..]);
        let now = link.server(&whole[..cut]);
        let then = link.server(&whole[cut..]);
        assert_eq!([now, then].concat(), whole, "cut at {cut}");
        link.client(&file);
        link.server_passes(&ok(5, 2));
        assert_eq!(counts(&link), [1, 0, 0], "cut at {cut}");
        link.close(ClosedBy::Client);
        assert!(!link.events.iter().any(|event| matches!(event, Event::Opaque(_) | Event::PrepareEofLost)));
    }
}

#[test]
fn a_request_is_blocked_wherever_the_statement_does_not_allow_it() {
    let file_request = |sequence_id| request(sequence_id, "f");
    let load = "LOAD DATA LOCAL INFILE 'f' INTO TABLE t";
    type Steps = Vec<(Sender, Vec<u8>)>;
    let client = |bytes: Vec<u8>| (Sender::Client, bytes);
    let server = |bytes: Vec<u8>| (Sender::Server, bytes);
    let cases: [(&str, Steps, u8); 13] = [
        ("before any command", vec![], 1),
        ("unsolicited", vec![], 0),
        ("after a response", vec![client(query("DO 1")), server(ok(1, 2))], 2),
        ("with any sequence id", vec![client(query("SELECT 1"))], 77),
        ("as the response to COM_PING", vec![client(packet(0, b"\x0e"))], 1),
        ("as the response to COM_INIT_DB", vec![client(packet(0, b"\x02f"))], 1),
        ("as the response to COM_FIELD_LIST", vec![client(packet(0, b"\x04f\0"))], 1),
        ("as the response to COM_CHANGE_USER", vec![client(packet(0, b"\x11app\0\0\0"))], 1),
        ("as the response to COM_STMT_PREPARE", vec![client(prepare(load))], 1),
        (
            "as the response to a statement that names another file",
            vec![client(query("LOAD DATA LOCAL INFILE 'g' INTO TABLE t"))],
            1,
        ),
        (
            "as the response to a statement for a file of the server",
            vec![client(query("LOAD DATA INFILE 'f' INTO TABLE t"))],
            1,
        ),
        (
            "after an allowed request",
            vec![client(query(load)), server(file_request(1)), client(packet(2, b""))],
            3,
        ),
        (
            "as the response to a prepared statement of another kind",
            vec![client(prepare("SELECT 1")), server(prepared(1)), client(execute(1))],
            1,
        ),
    ];
    for (case, steps, sequence_id) in cases {
        let mut link = multi();
        for (sender, bytes) in steps {
            assert_eq!(link.take(sender, &bytes, false), bytes, "{case}");
        }
        assert_eq!(link.server(&file_request(sequence_id)), refused(sequence_id), "{case}");
        assert_eq!(counts(&link)[1..], [1, 0], "{case}");
        assert_blocked(&mut link);
    }
}

#[test]
fn a_prepared_statement_is_judged_by_its_text() {
    let load = "LOAD DATA LOCAL INFILE 'f' INTO TABLE t";
    for (statement, name, expected) in [
        (load, "f", [1, 0, 0]),
        (load, "g", [1, 1, 0]),
        ("CALL p()", "g", [1, 0, 1]),
        ("SELECT 1", "f", [1, 1, 0]),
    ] {
        for id in [1, 0xffff_ffff] {
            let mut link = multi();
            link.client(&prepare(statement));
            link.server_passes(&prepared(1));
            link.client(&execute(id));
            let blocked = expected[1] == 1;
            assert_eq!(link.server(&request(1, name)) == refused(1), blocked, "{statement} {name}");
            assert_eq!(counts(&link), expected, "{statement} {name}");
        }
    }
    let mut closed = multi();
    closed.client(&prepare(load));
    closed.server_passes(&prepared(1));
    closed.client(&[packet(0, b"\x19\x01\0\0\0"), execute(1)].concat());
    assert_eq!(closed.server(&request(1, "f")), refused(1));
}

#[test]
fn undecidable_requests_are_forwarded() {
    let long = format!("SELECT '{}'; LOAD DATA LOCAL INFILE 'f' INTO TABLE t", "x".repeat(17_000));
    let file = format!("LOAD DATA LOCAL INFILE 'f' INTO TABLE t (a) SET b = '{}'", "x".repeat(17_000));
    for (statement, capabilities, name, expected) in [
        ("CALL p()", CLASSIC, "f", [1, 0, 1]),
        ("EXECUTE s", CLASSIC, "f", [1, 0, 1]),
        ("SELECT 1; SELECT 'a", CLASSIC | MULTI_STATEMENTS, "f", [1, 0, 1]),
        // A single statement, although a quote is missing.
        ("SELECT 'a", CLASSIC | MULTI_STATEMENTS, "f", [1, 1, 0]),
        (&long, CLASSIC | MULTI_STATEMENTS, "f", [1, 0, 1]),
        // A single statement that does not begin with LOAD allows no file, however long it is.
        (&long, CLASSIC, "f", [1, 1, 0]),
        (&file, CLASSIC, "f", [1, 0, 0]),
        (&file, CLASSIC, "g", [1, 0, 1]),
    ] {
        let mut link = logged_in(true, capabilities);
        link.client(&query(statement));
        let whole = request(1, name);
        let passed = link.server(&whole);
        assert_eq!(passed == whole, expected[1] == 0, "{:.40}", statement);
        assert_eq!(counts(&link), expected, "{:.40}", statement);
    }
    // COM_SET_OPTION lets the client send several statements.
    let mut several = logged_in(true, CLASSIC);
    several.client(&packet(0, SETTING));
    several.server_passes(&packet(1, b"\xfe\0\0\x02\0"));
    several.client(&query("SELECT 1; LOAD DATA LOCAL INFILE 'f' INTO TABLE t"));
    several.server_passes(&[ok(1, 10), request(2, "f")].concat());
    assert_eq!(counts(&several), [1, 0, 0]);
}

/// A row whose first column is NULL begins like a request.
#[test]
fn a_row_that_begins_like_a_request_is_forwarded_at_once() {
    let mut link = multi();
    link.client(&query("SELECT NULL"));
    let head = [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0")].concat();
    link.server_passes(&head);
    for byte in [packet(4, b"\xfb"), packet(5, b"\xfb/etc/passwd")].concat() {
        link.server_passes(&[byte]);
    }
    link.server_passes(&packet(6, b"\xfe\0\0\x02\0"));
    assert_eq!(counts(&link), [0, 0, 0]);
}

/// Rows of a prepared statement begin with 0x00, and the text of COM_STATISTICS begins with a letter.
#[test]
fn a_packet_that_is_neither_a_row_nor_text_is_a_request() {
    let mut link = multi();
    link.client(&prepare("SELECT NULL"));
    link.server_passes(&prepared(1));
    link.client(&execute(1));
    link.server_passes(&[packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0")].concat());
    link.server_passes(&packet(4, b"\0\0\x01x"));
    assert_eq!(link.server(&request(5, "f")), refused(5));

    let mut link = multi();
    link.client(&packet(0, b"\x09"));
    assert_eq!(link.server(&request(1, "f")), refused(1));
}

/// A client that has ended a response and sends its next command does not read the rest as rows.
#[test]
fn a_row_is_a_request_after_the_next_command_of_the_client() {
    let head = [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0")].concat();
    let mut link = multi();
    link.client(&query("SELECT NULL"));
    link.server_passes(&head);
    link.client(&query("DO 0"));
    assert_eq!(link.server(&request(4, "f")), refused(4));
    // A client that pipelines commands reads all of the response.
    let mut link = multi();
    link.client(&query("SELECT NULL"));
    link.client(&query("DO 0"));
    link.server_passes(&[head, packet(4, b"\xfb")].concat());
}

/// A client that drops the rest of a result may read a row as a request. It then sends a file and not a command.
#[test]
fn a_file_that_the_client_sends_for_a_row_is_dropped() {
    let head = [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0")].concat();
    for (row, upload) in
        [(packet(4, b"\xfbf"), packet(5, b"secret")), (packet(255, b"\xfbf"), packet(0, b"secret"))]
    {
        let mut link = multi();
        link.client(&query("SELECT NULL"));
        link.server_passes(&head);
        let before: Vec<u8> = (4..row[3]).flat_map(|id| packet(id, b"\x011")).collect();
        link.server_passes(&[before, row].concat());
        link.client(&query("DO 0"));
        assert_eq!(link.take(Sender::Client, &upload, false), b"");
        assert_ended(&mut link);
    }
}

/// An error ends the connection phase, but MariaDB's client skips an error that is a progress report.
#[test]
fn no_packet_is_forwarded_after_an_error_of_the_connection_phase() {
    let setup = Rules { block_local_infile: true, ..observe_mysql() };
    let [greeting, response] = login("8.0.36", CLASSIC, &[]);
    let mut link = Link::new(setup);
    link.server_passes(&greeting);
    link.client(&response);
    link.server_passes(&packet(2, b"\xff\xff\xff\x01\x01\x01\0\0\0\0"));
    assert_eq!(link.server(&packet(3, b"\0\0\0\x02\0\0\0")), b"");
    assert_ended(&mut link);
}

/// Connector/J drops all bytes that have arrived before it sends a command, and would read the rest as the response.
#[test]
fn no_part_of_a_packet_is_forwarded_without_the_rest() {
    for (first, before) in [
        // After a response.
        (query("DO 1"), ok(1, 2)),
        // The last EOF of a response to COM_STMT_PREPARE, which Connector/J 8.0.27 does not read.
        (prepare("SELECT 1"), [packet(1, b"\0\x01\0\0\0\x01\0\0\0\0\0\0"), packet(2, b"\x03def")].concat()),
    ] {
        for part in [&b"\x05\0\0"[..], b"\x05\0\0\x03\xfe", b"\xff\xff\xff\x03\xfe"] {
            let mut link = logged_in_without_hold();
            link.client(&first);
            link.server_passes(&before);
            assert_eq!(link.server(part), b"");
        }
        let mut link = logged_in_without_hold();
        link.client(&first);
        link.server_passes(&before);
        let id = if before.len() > 20 { 3 } else { 2 };
        let long = [&[0xff, 0xff, 0xff, id, 0xfe][..], &[0; 10_000]].concat();
        assert!(!link.server(&long).starts_with(&long[..4]), "the packet is too long to be held");
        assert_ended(&mut link);
    }
}

/// A packet that is not a row is held until it is complete.
#[test]
fn a_packet_is_forwarded_as_a_whole() {
    let mut link = multi();
    for response in [ok(1, 2), packet(1, b"\xff\x48\x04#42000no")] {
        link.client(&query("DO 1"));
        let (last, before) = response.split_last().expect("a packet");
        for byte in before {
            assert_eq!(link.server(&[*byte]), b"");
        }
        assert_eq!(link.server(&[*last]), response);
    }
    // The end of the stream releases held bytes, and an empty packet is replaced at once.
    assert_eq!(link.server(&request(1, "f")[..3]), b"");
    assert_eq!(link.take(Sender::Server, b"", true), request(1, "f")[..3]);
    let mut empty = multi();
    empty.client(&query("DO 1"));
    assert_eq!(empty.server(&[0, 0, 0]), b"");
    assert_eq!(empty.server(&[1]), error_of_the_filter(1, 1835), "no response is empty");
    let mut inert = multi();
    inert.client(&query("DO 1"));
    assert_eq!(inert.server(&[7, 0]), b"");
    assert!(!inert.call(|connection, out| connection.disable_rewriting(out)));
    assert_eq!(inert.server(&[0]), [7, 0, 0]);
}

#[test]
fn a_request_with_a_name_longer_than_any_path_is_blocked_at_the_maximum_path_length() {
    let whole = request(1, &"x".repeat(60_000));
    let mut link = multi();
    link.client(&query("SELECT 1"));
    let mut given = 0;
    for chunk in whole.chunks(1000) {
        given += chunk.len();
        let passed = link.server(chunk);
        if given < 4 + 4096 {
            assert_eq!(passed, b"");
        } else if given - chunk.len() < 4 + 4096 {
            assert_eq!(passed, refused(1));
        } else {
            assert_eq!(passed, b"");
        }
    }
    assert_eq!(counts(&link), [1, 1, 0]);
    assert_blocked(&mut link);
}

#[test]
fn without_the_rule_no_byte_is_held_and_no_request_is_judged() {
    let mut link = logged_in(false, CLASSIC | MULTI_STATEMENTS);
    link.client(&query("SELECT 1"));
    for byte in request(1, "/etc/passwd") {
        link.server_passes(&[byte]);
    }
    link.client(&packet(2, b"root:x:0:0"));
    assert_eq!(counts(&link), [1, 0, 0]);
}
