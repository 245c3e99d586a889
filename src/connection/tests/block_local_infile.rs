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

/// How often: requests, blocked ones, undecidable ones.
fn told(connection: &Link) -> [usize; 3] {
    let undecidable = Event::Hazard(HazardKind::LocalInfileUndecidable);
    connection.counts([Event::LocalInfile, Event::LocalInfileBlocked, undecidable])
}

/// Nothing passes any more, and the next tick ends it.
fn assert_cut(connection: &mut Link) {
    assert_ended(connection);
    assert_eq!(connection.counts([Event::Hazard(HazardKind::LocalInfileUnsolicited)]), [1]);
}

/// The same without a request that was judged.
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

/// Every cut of what a server sends: what is in front of the request leaves, and the error in its place.
#[test]
fn a_request_that_nobody_asked_for_becomes_an_error_however_it_is_cut() {
    let results =
        [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0"), packet(4, b"\x01x")];
    let more = packet(5, b"\xfe\0\0\x0a\0");
    // What is in front of the request, its sequence id, and the packets in front that are no rows.
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
            let mut watched = multi();
            watched.client(&query("SELECT 1; SELECT 2"));
            let now = watched.server(&whole[..cut]);
            let then = watched.server(&whole[cut..]);
            assert_eq!([now.clone(), then].concat(), after, "cut at {cut}");
            // Of what is in front of it packets wait until they are complete, and rows do not.
            let incomplete = packets.iter().find(|(start, end)| (start + 1..*end).contains(&cut));
            let expected = match incomplete {
                _ if cut >= request.end => &after,
                Some((start, _)) => &before[..*start],
                _ => &before[..cut.min(request.start)],
            };
            assert_eq!(now, expected, "cut at {cut}");
            assert_eq!(told(&watched), [1, 1, 0], "cut at {cut}");
            assert_cut(&mut watched);
        }
        let mut watched = multi();
        watched.client(&query("SELECT 1; SELECT 2"));
        let passed: Vec<_> = whole.iter().flat_map(|byte| watched.server(&[*byte])).collect();
        assert_eq!(passed, after);
        assert_cut(&mut watched);
    }
}

#[test]
fn a_request_that_the_statement_asks_for_passes_however_it_is_cut() {
    let statement = "SELECT 1; LOAD DATA LOCAL INFILE '/tmp/it\\'s' INTO TABLE t";
    let whole = [ok(1, 10), request(2, "/tmp/it's")].concat();
    let file = [packet(3, b"1\n2\n"), packet(4, b"")].concat();
    for cut in 0..=whole.len() {
        let mut watched = multi();
        // That a backslash escapes is known from an answer.
        watched.client(&query("DO 1"));
        watched.server_passes(&ok(1, 2));
        let command = query(statement);
        watched.client(&command[..cut.min(command.len())]);
        watched.client(&command[cut.min(command.len())..]);
        let now = watched.server(&whole[..cut]);
        let then = watched.server(&whole[cut..]);
        assert_eq!([now, then].concat(), whole, "cut at {cut}");
        watched.client(&file);
        watched.server_passes(&ok(5, 2));
        assert_eq!(told(&watched), [1, 0, 0], "cut at {cut}");
        watched.close(ClosedBy::Client);
        assert!(
            !watched.events.iter().any(|event| matches!(event, Event::Opaque(_) | Event::PrepareEofLost))
        );
    }
}

#[test]
fn where_a_request_is_blocked() {
    let asks = |sequence_id| request(sequence_id, "f");
    let load = "LOAD DATA LOCAL INFILE 'f' INTO TABLE t";
    type Steps = Vec<(Sender, Vec<u8>)>;
    let client = |bytes: Vec<u8>| (Sender::Client, bytes);
    let server = |bytes: Vec<u8>| (Sender::Server, bytes);
    let cases: [(&str, Steps, u8); 13] = [
        ("before any command", vec![], 1),
        ("of the server's own accord", vec![], 0),
        ("behind an answer", vec![client(query("DO 1")), server(ok(1, 2))], 2),
        ("with any sequence id", vec![client(query("SELECT 1"))], 77),
        ("as the answer to COM_PING", vec![client(packet(0, b"\x0e"))], 1),
        ("as the answer to COM_INIT_DB", vec![client(packet(0, b"\x02f"))], 1),
        ("as the answer to COM_FIELD_LIST", vec![client(packet(0, b"\x04f\0"))], 1),
        ("as the answer to COM_CHANGE_USER", vec![client(packet(0, b"\x11app\0\0\0"))], 1),
        ("as the answer to COM_STMT_PREPARE", vec![client(prepare(load))], 1),
        (
            "to a statement that names another",
            vec![client(query("LOAD DATA LOCAL INFILE 'g' INTO TABLE t"))],
            1,
        ),
        (
            "to a statement for a file of the server's",
            vec![client(query("LOAD DATA INFILE 'f' INTO TABLE t"))],
            1,
        ),
        (
            "behind one that was asked for",
            vec![client(query(load)), server(asks(1)), client(packet(2, b""))],
            3,
        ),
        (
            "to a prepared statement of another kind",
            vec![client(prepare("SELECT 1")), server(prepared(1)), client(execute(1))],
            1,
        ),
    ];
    for (what, steps, sequence_id) in cases {
        let mut watched = multi();
        for (sender, bytes) in steps {
            assert_eq!(watched.take(sender, &bytes, false), bytes, "{what}");
        }
        assert_eq!(watched.server(&asks(sequence_id)), refused(sequence_id), "{what}");
        assert_eq!(told(&watched)[1..], [1, 0], "{what}");
        assert_cut(&mut watched);
    }
}

#[test]
fn what_a_prepared_statement_asks_for() {
    let load = "LOAD DATA LOCAL INFILE 'f' INTO TABLE t";
    for (statement, name, expected) in [
        (load, "f", [1, 0, 0]),
        (load, "g", [1, 1, 0]),
        ("CALL p()", "g", [1, 0, 1]),
        ("SELECT 1", "f", [1, 1, 0]),
    ] {
        for id in [1, 0xffff_ffff] {
            let mut watched = multi();
            watched.client(&prepare(statement));
            watched.server_passes(&prepared(1));
            watched.client(&execute(id));
            let blocked = expected[1] == 1;
            assert_eq!(watched.server(&request(1, name)) == refused(1), blocked, "{statement} {name}");
            assert_eq!(told(&watched), expected, "{statement} {name}");
        }
    }
    let mut closed = multi();
    closed.client(&prepare(load));
    closed.server_passes(&prepared(1));
    closed.client(&[packet(0, b"\x19\x01\0\0\0"), execute(1)].concat());
    assert_eq!(closed.server(&request(1, "f")), refused(1));
}

#[test]
fn what_cannot_be_decided_passes() {
    let long = format!("SELECT '{}'; LOAD DATA LOCAL INFILE 'f' INTO TABLE t", "x".repeat(17_000));
    let file = format!("LOAD DATA LOCAL INFILE 'f' INTO TABLE t (a) SET b = '{}'", "x".repeat(17_000));
    for (statement, capabilities, name, expected) in [
        ("CALL p()", CLASSIC, "f", [1, 0, 1]),
        ("EXECUTE s", CLASSIC, "f", [1, 0, 1]),
        ("SELECT 1; SELECT 'a", CLASSIC | MULTI_STATEMENTS, "f", [1, 0, 1]),
        // One statement, whatever quotes it lacks.
        ("SELECT 'a", CLASSIC | MULTI_STATEMENTS, "f", [1, 1, 0]),
        (&long, CLASSIC | MULTI_STATEMENTS, "f", [1, 0, 1]),
        // One statement that does not begin with LOAD is none, however long.
        (&long, CLASSIC, "f", [1, 1, 0]),
        (&file, CLASSIC, "f", [1, 0, 0]),
        (&file, CLASSIC, "g", [1, 0, 1]),
    ] {
        let mut watched = logged_in(true, capabilities);
        watched.client(&query(statement));
        let whole = request(1, name);
        let passed = watched.server(&whole);
        assert_eq!(passed == whole, expected[1] == 0, "{:.40}", statement);
        assert_eq!(told(&watched), expected, "{:.40}", statement);
    }
    // COM_SET_OPTION lets the client send several statements.
    let mut several = logged_in(true, CLASSIC);
    several.client(&packet(0, SETTING));
    several.server_passes(&packet(1, b"\xfe\0\0\x02\0"));
    several.client(&query("SELECT 1; LOAD DATA LOCAL INFILE 'f' INTO TABLE t"));
    several.server_passes(&[ok(1, 10), request(2, "f")].concat());
    assert_eq!(told(&several), [1, 0, 0]);
}

/// A row whose first column is NULL begins like a request, and COM_STATISTICS answers with any text.
#[test]
fn what_only_looks_like_a_request_passes_at_once() {
    let mut watched = multi();
    watched.client(&query("SELECT NULL"));
    let head = [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0")].concat();
    watched.server_passes(&head);
    for byte in [packet(4, b"\xfb"), packet(5, b"\xfb/etc/passwd")].concat() {
        watched.server_passes(&[byte]);
    }
    watched.server_passes(&packet(6, b"\xfe\0\0\x02\0"));
    assert_eq!(told(&watched), [0, 0, 0]);
}

/// Rows of a prepared statement begin with 0x00, and the text of COM_STATISTICS with a letter.
#[test]
fn what_is_no_row_and_no_text_is_a_request() {
    let mut watched = multi();
    watched.client(&prepare("SELECT NULL"));
    watched.server_passes(&prepared(1));
    watched.client(&execute(1));
    watched
        .server_passes(&[packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0")].concat());
    watched.server_passes(&packet(4, b"\0\0\x01x"));
    assert_eq!(watched.server(&request(5, "f")), refused(5));

    let mut watched = multi();
    watched.client(&packet(0, b"\x09"));
    assert_eq!(watched.server(&request(1, "f")), refused(1));
}

/// A client that has finished with a response and sends its next command does not take the rest for rows.
#[test]
fn a_row_is_a_request_where_the_client_has_sent_its_next_command() {
    let head = [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0")].concat();
    let mut watched = multi();
    watched.client(&query("SELECT NULL"));
    watched.server_passes(&head);
    watched.client(&query("DO 0"));
    assert_eq!(watched.server(&request(4, "f")), refused(4));
    // Sent ahead: a client that does so reads all of the response.
    let mut watched = multi();
    watched.client(&query("SELECT NULL"));
    watched.client(&query("DO 0"));
    watched.server_passes(&[head, packet(4, b"\xfb")].concat());
}

/// A client that cannot use a result may drop the rest and take a row for a request. What it then sends is no command.
#[test]
fn a_file_that_a_row_asks_for_does_not_pass() {
    let head = [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0")].concat();
    for (row, upload) in
        [(packet(4, b"\xfbf"), packet(5, b"secret")), (packet(255, b"\xfbf"), packet(0, b"secret"))]
    {
        let mut watched = multi();
        watched.client(&query("SELECT NULL"));
        watched.server_passes(&head);
        let before: Vec<u8> = (4..row[3]).flat_map(|id| packet(id, b"\x011")).collect();
        watched.server_passes(&[before, row].concat());
        watched.client(&query("DO 0"));
        assert_eq!(watched.take(Sender::Client, &upload, false), b"");
        assert_ended(&mut watched);
    }
}

/// An error of the connection phase ends it. MariaDB's client passes over one that is a progress report.
#[test]
fn nothing_follows_an_error_of_the_connection_phase() {
    let setup = Rules { block_local_infile: true, ..observe_mysql() };
    let [greeting, response] = login("8.0.36", CLASSIC, &[]);
    let mut watched = Link::new(setup);
    watched.server_passes(&greeting);
    watched.client(&response);
    watched.server_passes(&packet(2, b"\xff\xff\xff\x01\x01\x01\0\0\0\0"));
    assert_eq!(watched.server(&packet(3, b"\0\0\0\x02\0\0\0")), b"");
    assert_ended(&mut watched);
}

/// Connector/J drops what has arrived before it sends a command, and would read the rest as the response.
#[test]
fn no_part_of_a_packet_comes_without_the_rest() {
    for (first, behind) in [
        // Behind a response.
        (query("DO 1"), ok(1, 2)),
        // The last EOF of a response to COM_STMT_PREPARE, which Connector/J 8.0.27 does not read.
        (prepare("SELECT 1"), [packet(1, b"\0\x01\0\0\0\x01\0\0\0\0\0\0"), packet(2, b"\x03def")].concat()),
    ] {
        for part in [&b"\x05\0\0"[..], b"\x05\0\0\x03\xfe", b"\xff\xff\xff\x03\xfe"] {
            let mut watched = logged_in_without_hold();
            watched.client(&first);
            watched.server_passes(&behind);
            assert_eq!(watched.server(part), b"");
        }
        let mut watched = logged_in_without_hold();
        watched.client(&first);
        watched.server_passes(&behind);
        let id = if behind.len() > 20 { 3 } else { 2 };
        let long = [&[0xff, 0xff, 0xff, id, 0xfe][..], &[0; 10_000]].concat();
        assert!(!watched.server(&long).starts_with(&long[..4]), "it would be too long to be held");
        assert_ended(&mut watched);
    }
}

/// A packet that is no row waits until it is complete.
#[test]
fn a_packet_comes_in_one_piece() {
    let mut watched = multi();
    for answer in [ok(1, 2), packet(1, b"\xff\x48\x04#42000no")] {
        watched.client(&query("DO 1"));
        let (last, before) = answer.split_last().expect("a packet");
        for byte in before {
            assert_eq!(watched.server(&[*byte]), b"");
        }
        assert_eq!(watched.server(&[*last]), answer);
    }
    // The end of the stream lets go, and so does an empty packet, which has no first byte.
    assert_eq!(watched.server(&request(1, "f")[..3]), b"");
    assert_eq!(watched.take(Sender::Server, b"", true), request(1, "f")[..3]);
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
fn a_name_longer_than_any_path_is_blocked_and_holds_no_more_than_that() {
    let whole = request(1, &"x".repeat(60_000));
    let mut watched = multi();
    watched.client(&query("SELECT 1"));
    let mut given = 0;
    for chunk in whole.chunks(1000) {
        given += chunk.len();
        let passed = watched.server(chunk);
        if given < 4 + 4096 {
            assert_eq!(passed, b"");
        } else if given - chunk.len() < 4 + 4096 {
            assert_eq!(passed, refused(1));
        } else {
            assert_eq!(passed, b"");
        }
    }
    assert_eq!(told(&watched), [1, 1, 0]);
    assert_cut(&mut watched);
}

#[test]
fn where_no_rule_says_so_nothing_waits_and_nothing_is_judged() {
    let mut watched = logged_in(false, CLASSIC | MULTI_STATEMENTS);
    watched.client(&query("SELECT 1"));
    for byte in request(1, "/etc/passwd") {
        watched.server_passes(&[byte]);
    }
    watched.client(&packet(2, b"root:x:0:0"));
    assert_eq!(told(&watched), [1, 0, 0]);
}
