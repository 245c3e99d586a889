use super::*;
use crate::mysql::wire::command::Command;

const CLASSIC: Capabilities = Capabilities::PROTOCOL_41;
const DEPRECATE_EOF: Capabilities = Capabilities::new(1 << 9 | 1 << 24, 0);
const BEFORE_41: Capabilities = Capabilities::new(0, 0);

const OK_PACKET: &[u8] = b"\0\x03\0\x02\0\0\0";
const EOF_PACKET: &[u8] = b"\xfe\0\0\x02\0";
const OK_AS_EOF: &[u8] = b"\xfe\0\0\x02\0\0\0";
const ERR_PACKET: &[u8] = b"\xff\x28\x04#42000";
const COLUMN: &[u8] = b"\x03def";
const ROW: &[u8] = b"\x011";
const BINARY_ROW: &[u8] = b"\0\0\x011";

/// Takes payloads, of which only the last may end the response. Returns the effect of the last one.
fn feed(command: Command, capabilities: Capabilities, payloads: &[&[u8]]) -> (Step, ResponseState) {
    feed_to(ResponseState::new(command.grammar()), command, capabilities, payloads)
}

fn feed_to(
    mut response: ResponseState,
    command: Command,
    capabilities: Capabilities,
    payloads: &[&[u8]],
) -> (Step, ResponseState) {
    let mut last = Step::More;
    for payload in payloads {
        assert_eq!(last, Step::More, "{command:?}: before {payload:?} of {payloads:?}");
        let length = payload.len() as u32;
        let packet = Packet { length, sequence_id: 1, prefix: payload, complete: true };
        last = response.packet(&packet, capabilities);
    }
    (last, response)
}

/// The content of a complete response.
fn done(command: Command, capabilities: Capabilities, payloads: &[&[u8]]) -> Tally {
    let (step, response) = feed(command, capabilities, payloads);
    assert_eq!(step, Step::Done, "{command:?}: {payloads:?}");
    response.tally()
}

fn assert_unexpected(command: Command, capabilities: Capabilities, payloads: &[&[u8]]) {
    let step = feed(command, capabilities, payloads).0;
    assert!(matches!(step, Step::Unexpected | Step::Malformed(_)), "{command:?}: {step:?} at {payloads:?}");
}

fn rows(rows: u64, result_sets: u32) -> Tally {
    Tally { rows, result_sets, ..Tally::default() }
}

fn affected(affected_rows: u64) -> Tally {
    Tally { affected_rows, ..Tally::default() }
}

fn failed(errno: u16) -> Tally {
    Tally { errno: Some(errno), ..Tally::default() }
}

#[test]
fn responses_of_one_packet_are_complete() {
    let cases: [(Command, &[u8], Tally); 9] = [
        (Command::PING, OK_PACKET, affected(3)),
        (Command::QUERY, OK_PACKET, affected(3)),
        (Command::QUERY, ERR_PACKET, failed(1064)),
        (Command::STMT_PREPARE, ERR_PACKET, failed(1064)),
        (Command::STMT_FETCH, ERR_PACKET, failed(1064)),
        (Command::FIELD_LIST, ERR_PACKET, failed(1064)),
        (Command::DEBUG, EOF_PACKET, Tally::default()),
        (Command::SET_OPTION, OK_AS_EOF, Tally::default()),
        (Command(0x77), ERR_PACKET, failed(1064)),
    ];
    for (command, payload, tally) in cases {
        for capabilities in [CLASSIC, DEPRECATE_EOF] {
            assert_eq!(done(command, capabilities, &[payload]), tally, "{command:?}");
        }
    }
}

#[test]
fn an_invalid_first_packet_is_unexpected() {
    for payload in [&b""[..], b"\0", b"\0\xfb\0\0\0\0\0", b"\xff\0", b"\xfc\x01"] {
        assert_unexpected(Command::QUERY, CLASSIC, &[payload]);
    }
    assert_unexpected(Command::PING, CLASSIC, &[b"\x01"]);
    assert_unexpected(Command::STMT_PREPARE, CLASSIC, &[b"\x01"]);
    assert_unexpected(Command::CHANGE_USER, CLASSIC, &[b"\x03"]);
    assert_unexpected(Command::BINLOG_DUMP, CLASSIC, &[b"\x03"]);
    assert_unexpected(Command::BINLOG_DUMP, CLASSIC, &[&[0xfe; 9]]);
}

#[test]
fn an_invalid_later_packet_is_unexpected() {
    assert_unexpected(Command::QUERY, CLASSIC, &[b"\x01", COLUMN, ROW]);
    assert_unexpected(Command::QUERY, CLASSIC, &[b"\x01", COLUMN, EOF_PACKET, b""]);
    assert_unexpected(Command::QUERY, CLASSIC, &[b"\xfbfile", OK_AS_EOF]);
    assert_unexpected(Command::STMT_PREPARE, CLASSIC, &[b"\0\x01\0\0\0\x01\0\0\0\0\0\0", b""]);
}

#[test]
fn a_result_set_ends_with_eof_or_with_ok() {
    let classic = [b"\x02", COLUMN, COLUMN, EOF_PACKET, ROW, ROW, EOF_PACKET];
    assert_eq!(done(Command::QUERY, CLASSIC, &classic), rows(2, 1));
    let modern = [b"\x02", COLUMN, COLUMN, ROW, ROW, OK_AS_EOF];
    assert_eq!(done(Command::QUERY, DEPRECATE_EOF, &modern), rows(2, 1));
    let with_state = [b"\x01", COLUMN, &b"\xfe\0\0\x02\x40\0\0\0\x0cschema change"[..]];
    assert_eq!(done(Command::QUERY, DEPRECATE_EOF, &with_state), rows(0, 1), "an OK of any length");
}

#[test]
fn an_error_can_end_a_response_anywhere() {
    let classic = [b"\x01", COLUMN, EOF_PACKET, ROW, ERR_PACKET];
    for cut in 0..classic.len() - 1 {
        let payloads = [&classic[..cut], &[ERR_PACKET]].concat();
        let expected = Tally { rows: 0, result_sets: u32::from(cut > 0), ..failed(1064) };
        let expected = Tally { rows: u64::from(cut > 3), ..expected };
        assert_eq!(done(Command::QUERY, CLASSIC, &payloads), expected);
    }
    assert_eq!(done(Command::QUERY, CLASSIC, &classic), Tally { errno: Some(1064), ..rows(1, 1) });
}

#[test]
fn rows_can_look_like_other_packets() {
    let in_rows = [b"\x01", COLUMN, EOF_PACKET, b"\xfb", b"\0"];
    let mut response = feed(Command::QUERY, CLASSIC, &in_rows).1;
    let long = [&[0xfe, 0, 0, 0, 1, 0, 0, 0, 0][..], b"a first column of 16 MiB"].concat();
    let mut take = |length: u32| {
        let packet = Packet { length, sequence_id: 1, prefix: &long, complete: false };
        response.packet(&packet, CLASSIC)
    };
    assert_eq!(take(MAX_FRAGMENT_LEN), Step::More);
    assert_eq!(take(MAX_FRAGMENT_LEN - 1), Step::Unexpected, "some clients read it as an EOF");
    assert_eq!(response.tally(), rows(3, 1));

    let mut response = feed(Command::QUERY, DEPRECATE_EOF, &[b"\x01", COLUMN]).1;
    let mut take = |length: u32| {
        let packet = Packet { length, sequence_id: 1, prefix: OK_AS_EOF, complete: false };
        response.packet(&packet, DEPRECATE_EOF)
    };
    assert_eq!(take(MAX_FRAGMENT_LEN), Step::More, "a row of many fragments");
    assert_eq!(take(MAX_FRAGMENT_LEN - 1), Step::Done);
    assert_eq!(response.tally(), rows(1, 1));
}

#[test]
fn flags_and_warnings_of_chained_results_are_summed() {
    let payloads: [&[u8]; 9] = [
        b"\x01",
        COLUMN,
        // The EOF after the definitions does not count.
        b"\xfe\x09\0\x20\x08",
        ROW,
        // Two warnings, MORE_RESULTS, NO_INDEX_USED, QUERY_WAS_SLOW.
        b"\xfe\x02\0\x28\x08",
        // Three rows, one warning, MORE_RESULTS, NO_INDEX_USED.
        b"\0\x03\0\x28\0\x01\0",
        b"\x01",
        COLUMN,
        ERR_PACKET,
    ];
    let expected = Tally {
        rows: 1,
        affected_rows: 3,
        warnings: 3,
        result_sets: 2,
        no_index_used: 2,
        slow: 1,
        errno: Some(1064),
    };
    assert_eq!(done(Command::QUERY, CLASSIC, &payloads), expected);
}

#[test]
fn the_last_status_is_that_of_the_session() {
    let status = |payloads: &[&[u8]]| feed(Command::QUERY, CLASSIC, payloads).1.status();
    assert_eq!(status(&[b"\0\0\0\x03\0\0\0"]), Some(StatusFlags(3)));
    assert_eq!(status(&[b"\x01", COLUMN, b"\xfe\0\0\x03\0", b"\xfe\0\0\x02\0"]), Some(StatusFlags(2)));
    assert_eq!(status(&[b"\0\0\0\x09\0\0\0", ERR_PACKET]), Some(StatusFlags(9)), "an error has none");
    assert_eq!(status(&[ERR_PACKET]), None);
}

#[test]
fn an_ok_follows_the_result_set_of_out_parameters() {
    // PS_OUT_PARAMS and MORE_RESULTS.
    let classic = [b"\x01", COLUMN, EOF_PACKET, BINARY_ROW, b"\xfe\0\0\x0a\x10", OK_PACKET];
    // Servers do not count the row.
    let expected = Tally { affected_rows: 3, ..rows(0, 1) };
    assert_eq!(done(Command::STMT_EXECUTE, CLASSIC, &classic), expected);
    let modern = [b"\x01", COLUMN, BINARY_ROW, b"\xfe\0\0\x0a\x10\0\0", OK_PACKET];
    assert_eq!(done(Command::STMT_EXECUTE, DEPRECATE_EOF, &modern), expected);
}

#[test]
fn rows_of_a_cursor_are_in_the_response_to_fetch() {
    let classic = [b"\x01", COLUMN, &b"\xfe\0\0\x42\0"[..]];
    let asks = ResponseState::new(Command::STMT_EXECUTE.grammar()).with_cursor(true);
    let (step, mut response) = feed_to(asks, Command::STMT_EXECUTE, CLASSIC, &classic);
    assert_eq!((step, response.tally(), response.rows_may_follow()), (Step::Done, rows(0, 1), true));
    // MariaDB also sets the flag while a stored routine has an open cursor. Then rows follow at once.
    for (payload, step) in [(BINARY_ROW, Step::More), (&b"\xfe\0\0\x42\0"[..], Step::Done)] {
        let packet = Packet { length: payload.len() as u32, sequence_id: 4, prefix: payload, complete: true };
        assert_eq!(response.packet(&packet, CLASSIC), step);
    }
    assert_eq!(response.tally(), rows(1, 1));
    // A command that does not ask for a cursor leaves no rows to COM_STMT_FETCH, even with the flag.
    for command in [Command::QUERY, Command::STMT_EXECUTE] {
        for status in [0x48, 0x4a, 0x6a, 0xca] {
            let row = if command == Command::QUERY { ROW } else { BINARY_ROW };
            let (more, end) = ([0xfe, 0, 0, status, 0x40], [0xfe, 0, 0, status & !8, 0x40]);
            let response = [b"\x01", COLUMN, &more, row, &more, b"\x01", COLUMN, &end, row, &end];
            assert_eq!(
                done(command, CLASSIC, &response),
                Tally { no_index_used: if status & 0x20 == 0 { 0 } else { 2 }, ..rows(2, 2) }
            );
        }
    }
    let modern = [b"\x01", COLUMN, &b"\xfe\0\0\x42\0\0\0"[..]];
    assert_eq!(done(Command::STMT_EXECUTE, DEPRECATE_EOF, &modern), rows(0, 1));

    // First the cursor still exists, then the last row was sent.
    for (capabilities, ends) in [
        (CLASSIC, [&b"\xfe\0\0\x42\0"[..], b"\xfe\0\0\x82\0"]),
        (DEPRECATE_EOF, [b"\xfe\0\0\x42\0\0\0", b"\xfe\0\0\x82\0\0\0"]),
    ] {
        for end in ends {
            let fetched = [BINARY_ROW, BINARY_ROW, end];
            assert_eq!(done(Command::STMT_FETCH, capabilities, &fetched), rows(2, 0));
            assert_eq!(done(Command::STMT_FETCH, capabilities, &[end]), rows(0, 0));
        }
    }
}

/// Clients differ in how they read other forms, and no server sends them.
#[test]
fn a_column_count_is_not_zero_and_has_no_superfluous_bytes() {
    for count in [&b"\xfc\0\0"[..], b"\xfc\xfa\0", b"\xfd\0\0\0", b"\xfd\xff\xff\0", b"\x01"] {
        let step = feed(Command::QUERY, CLASSIC, &[count]).0;
        let is_expected = matches!(step, Step::Malformed(ParseError::Invalid { field: "column_count", .. }));
        assert_eq!(is_expected, count != b"\x01", "{count:?}: {step:?}");
    }
    assert_unexpected(Command::QUERY, CLASSIC, &[b"\x02", COLUMN, EOF_PACKET]);
}

#[test]
fn definitions_of_a_result_set_can_be_omitted() {
    let optional = Capabilities::OPTIONAL_RESULTSET_METADATA;
    let cached = Capabilities::MARIADB_CACHE_METADATA;
    for capabilities in [optional, cached] {
        let (classic, modern) = (CLASSIC | capabilities, DEPRECATE_EOF | capabilities);
        let left_out = [b"\x01\0", EOF_PACKET, ROW, EOF_PACKET];
        assert_eq!(done(Command::STMT_EXECUTE, classic, &left_out), rows(1, 1));
        assert_eq!(done(Command::STMT_EXECUTE, modern, &[b"\x01\0", ROW, OK_AS_EOF]), rows(1, 1));
        let there = [b"\x01\x01", COLUMN, EOF_PACKET, ROW, EOF_PACKET];
        assert_eq!(done(Command::STMT_EXECUTE, classic, &there), rows(1, 1));
        assert_eq!(done(Command::STMT_EXECUTE, modern, &[b"\x01\x01", COLUMN, ROW, OK_AS_EOF]), rows(1, 1));
    }
    // Without the capability there is no second byte, and with it no third. A definition is not a count.
    assert_unexpected(Command::QUERY, DEPRECATE_EOF, &[b"\x01\0"]);
    assert_unexpected(Command::QUERY, DEPRECATE_EOF | cached, &[b"\x01\x01\0"]);
    assert_unexpected(Command::QUERY, DEPRECATE_EOF, &[COLUMN]);
}

/// COM_STMT_PREPARE_OK for statement 9.
fn prepared(columns: u8, params: u8) -> [u8; 12] {
    [0, 9, 0, 0, 0, columns, 0, params, 0, 0, 0, 0]
}

#[test]
fn definitions_of_a_prepared_statement_are_read() {
    for (columns, params) in [(0, 0), (0, 1), (1, 0), (1, 1), (3, 2)] {
        let first = prepared(columns, params);
        let modern = std::iter::once(&first[..]).chain([COLUMN].repeat(usize::from(columns + params)));
        let modern: Vec<_> = modern.collect();
        let group =
            |count: u8| [vec![COLUMN; usize::from(count)], vec![EOF_PACKET; usize::from(count.min(1))]];
        let classic = [vec![&first[..]], group(params).concat(), group(columns).concat()].concat();
        for (capabilities, payloads) in [(DEPRECATE_EOF, modern), (CLASSIC, classic)] {
            let (step, mut response) = feed(Command::STMT_PREPARE, capabilities, &payloads);
            assert_eq!((step, response.tally()), (Step::Done, Tally::default()), "{columns} and {params}");
            assert_eq!(response.take_statement_id(), Some(9));
        }
    }
    assert_eq!(feed(Command::STMT_PREPARE, CLASSIC, &[ERR_PACKET]).1.take_statement_id(), None);
}

#[test]
fn a_group_of_definitions_ends_at_its_eof_and_not_by_count() {
    // 65537 columns look like one.
    let first = prepared(1, 0);
    let mut payloads = vec![&first[..]];
    payloads.extend(std::iter::repeat_n(COLUMN, 65_537));
    payloads.push(EOF_PACKET);
    assert_eq!(done(Command::STMT_PREPARE, CLASSIC, &payloads), Tally::default());
    // 65537 parameters and one column.
    let first = prepared(1, 1);
    payloads[0] = &first;
    payloads.extend([COLUMN, EOF_PACKET]);
    assert_eq!(done(Command::STMT_PREPARE, CLASSIC, &payloads), Tally::default());
}

#[test]
fn definitions_of_a_prepared_statement_can_be_omitted() {
    let (optional, first) = (Capabilities::OPTIONAL_RESULTSET_METADATA, prepared(5, 2));
    let with_flag = |flag: u8| [&first[..], &[flag]].concat();
    assert_eq!(done(Command::STMT_PREPARE, DEPRECATE_EOF | optional, &[&with_flag(0)]), Tally::default());
    // The EOFs after them are not omitted.
    let left_out = [&with_flag(0)[..], EOF_PACKET, EOF_PACKET];
    assert_eq!(done(Command::STMT_PREPARE, CLASSIC | optional, &left_out), Tally::default());
    for capabilities in [CLASSIC | optional, DEPRECATE_EOF | optional] {
        assert_eq!(feed(Command::STMT_PREPARE, capabilities, &[&with_flag(1)]).0, Step::More);
        assert_eq!(feed(Command::STMT_PREPARE, capabilities, &[&first]).0, Step::More, "no flag");
    }
    assert_eq!(feed(Command::STMT_PREPARE, DEPRECATE_EOF, &[&with_flag(0)]).0, Step::More, "no capability");
}

#[test]
fn an_ok_follows_out_parameters_even_if_not_announced() {
    let of_parameters: &[u8] = b"\xfe\0\0\x0a\x10";
    let rows = [b"\x01", COLUMN, of_parameters, BINARY_ROW, EOF_PACKET];
    assert_eq!(feed(Command::STMT_EXECUTE, CLASSIC, &rows).0, Step::More);
    let tally = done(Command::STMT_EXECUTE, CLASSIC, &[&rows[..], &[OK_PACKET]].concat());
    assert_eq!((tally.rows, tally.affected_rows), (0, 3));
}

#[test]
fn a_file_request_awaits_the_file() {
    let requested = feed(Command::QUERY, CLASSIC, &[b"\xfbfile"]).1;
    assert!(requested.awaits_file());
    assert!(!feed(Command::QUERY, CLASSIC, &[b"\xfbfile", OK_PACKET]).1.awaits_file());
    assert_eq!(done(Command::QUERY, CLASSIC, &[b"\xfbfile", OK_PACKET]), affected(3));
    assert_eq!(done(Command::QUERY, CLASSIC, &[b"\xfbfile", ERR_PACKET]), failed(1064));
    let another = [b"\xfbfile", &b"\0\x03\0\x0a\0\0\0"[..], b"\xfbfile", OK_PACKET];
    assert_eq!(done(Command::QUERY, CLASSIC, &another), affected(6));
    assert_unexpected(Command::PING, CLASSIC, &[b"\xfbfile"]);
}

#[test]
fn a_progress_report_is_not_an_error() {
    let progress = b"\xff\xff\xff\x01\x01\x02\0\0\0\0";
    let with = CLASSIC | Capabilities::MARIADB_PROGRESS;
    assert_eq!(done(Command::QUERY, with, &[progress, progress, OK_PACKET]), affected(3));
    let in_rows = [b"\x01", COLUMN, EOF_PACKET, ROW, &progress[..], ROW, EOF_PACKET];
    assert_eq!(done(Command::QUERY, with, &in_rows), rows(2, 1));
    assert_eq!(done(Command::QUERY, with, &[b"\xfbfile", progress, OK_PACKET]), affected(3));
    assert_eq!(done(Command::QUERY, CLASSIC, &[progress]), failed(0xffff));
    // MariaDB's client reads these as errors, and sends its next command.
    for malformed in [&b"\xff\xff\xff"[..], b"\xff\xff\xff\x01\x01\x02\0\0\0\x05copy"] {
        assert_unexpected(Command::QUERY, with, &[b"\x01", COLUMN, EOF_PACKET, ROW, malformed]);
    }
}

#[test]
fn a_second_response_follows_only_a_statement() {
    let more: &[u8] = b"\0\0\0\x0a\0\0\0";
    assert_eq!(feed(Command::QUERY, CLASSIC, &[more]).0, Step::More);
    for command in [Command::PING, Command::INIT_DB, Command::SET_OPTION, Command::CHANGE_USER] {
        assert_unexpected(command, CLASSIC, &[more]);
    }
    // Clients expect an OK after OUT parameters if one of the two EOFs has MORE_RESULTS.
    let unannounced = [b"\x01", COLUMN, &b"\xfe\0\0\x02\x10"[..], BINARY_ROW, EOF_PACKET];
    assert_eq!(feed(Command::STMT_EXECUTE, CLASSIC, &unannounced).0, Step::Done);
}

#[test]
fn statistics_are_any_text() {
    for text in
        [&b"Uptime: 5  Threads: 1"[..], b"\xff", b"\xff\xff\xff\x01", b"\xffUptime: 5", b"\0", b"\xfe"]
    {
        for capabilities in [CLASSIC, DEPRECATE_EOF, CLASSIC | Capabilities::MARIADB_PROGRESS] {
            assert_eq!(done(Command::STATISTICS, capabilities, &[text]), Tally::default(), "{text:?}");
        }
    }
    assert_eq!(done(Command::STATISTICS, CLASSIC, &[ERR_PACKET]), failed(1064));
}

#[test]
fn a_field_list_has_no_count() {
    for (capabilities, end) in [(CLASSIC, EOF_PACKET), (DEPRECATE_EOF, OK_AS_EOF)] {
        assert_eq!(done(Command::FIELD_LIST, capabilities, &[COLUMN, COLUMN, end]), Tally::default());
        assert_eq!(done(Command::FIELD_LIST, capabilities, &[end]), Tally::default());
        assert_eq!(done(Command::FIELD_LIST, capabilities, &[COLUMN, ERR_PACKET]), failed(1064));
    }
}

#[test]
fn a_binary_log_ends_with_a_real_eof() {
    for command in [Command::BINLOG_DUMP, Command::BINLOG_DUMP_GTID] {
        for capabilities in [CLASSIC, DEPRECATE_EOF] {
            assert_eq!(done(command, capabilities, &[b"\0event", b"\0event", EOF_PACKET]), Tally::default());
            assert_eq!(done(command, capabilities, &[b"\0event", ERR_PACKET]), failed(1064));
        }
    }
}

#[test]
fn a_change_user_can_have_several_rounds_of_authentication() {
    let rounds: [&[u8]; 5] = [b"\xfeplugin\0", b"\xfe", b"\x01\x04", b"\x02plugin\0", OK_PACKET];
    assert_eq!(done(Command::CHANGE_USER, CLASSIC, &rounds), affected(3));
    assert_eq!(done(Command::CHANGE_USER, CLASSIC, &[b"\xfeplugin\0", ERR_PACKET]), failed(1064));
}

#[test]
fn before_41_packets_are_shorter() {
    let (ok, eof, err) = (&b"\0\x03\0"[..], &b"\xfe"[..], &b"\xff\x28\x04no state"[..]);
    assert_eq!(done(Command::QUERY, BEFORE_41, &[ok]), affected(3));
    assert_eq!(done(Command::QUERY, BEFORE_41, &[err]), failed(1064));
    let result_set = [b"\x01", &b"\x01t\x01a\x03\0\0\0\x01\x03\x03\0\0\0"[..], eof, ROW, ROW, eof];
    assert_eq!(done(Command::QUERY, BEFORE_41, &result_set), rows(2, 1));
    // CLIENT_TRANSACTIONS: a status, and no warnings.
    assert_eq!(feed(Command::QUERY, BEFORE_41, &[b"\0\x03\0\x03\0"]).1.status(), Some(StatusFlags(3)));
}
