//! What is open in a session: prepared statements and a transaction; and the verbs of statements.

use super::*;

const IN_TRANS: &[u8] = b"\0\0\0\x03\0\0\0";
const SELECT: &[u8] = b"\x16SELECT ?";
const INSERT: &[u8] = b"\x16INSERT INTO t VALUES (?)";
const RESET: &[u8] = b"\x1f";
const CHANGE_USER: &[u8] = b"\x11app\0";

/// `COM_STMT_PREPARE_OK` without parameters and columns.
fn prepared(id: u8) -> [u8; 12] {
    [0, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn execute(id: u32) -> Vec<u8> {
    [&b"\x17"[..], &id.to_le_bytes(), &[0, 1, 0, 0, 0]].concat()
}

fn close(id: u32) -> Vec<u8> {
    [&b"\x19"[..], &id.to_le_bytes()].concat()
}

/// A session with the statements 7, a SELECT, and 9, an INSERT.
fn with_statements() -> Watched {
    let (seven, nine) = (prepared(7), prepared(9));
    Watched::past(&[(C, 0, SELECT), (S, 1, &seven), (C, 0, INSERT), (S, 1, &nine)])
}

fn changes(events: &[Event]) -> Vec<i64> {
    let change = |event: &Event| match event {
        Event::PreparedStatements { change } => Some(*change),
        _ => None,
    };
    events.iter().filter_map(change).collect()
}

fn transactions(events: &[Event]) -> Vec<bool> {
    let open = |event: &Event| match event {
        Event::Transaction { open } => Some(*open),
        _ => None,
    };
    events.iter().filter_map(open).collect()
}

fn verbs(events: &[Event]) -> Vec<Option<Verb>> {
    let verb = |event: &Event| match event {
        Event::CommandEnded { verb, .. } => Some(*verb),
        _ => None,
    };
    events.iter().filter_map(verb).collect()
}

#[test]
fn statements_are_open_from_the_answer_to_the_close() {
    let answer = prepared(7);
    let opened = told(&[(C, 0, SELECT), (S, 1, &answer)]);
    let expected = [
        started(Command::STMT_PREPARE),
        Event::PreparedStatements { change: 1 },
        ended(Command::STMT_PREPARE, Some(Verb::Select), Tally::default()),
    ];
    assert_eq!(opened, expected);
    assert_eq!(changes(&told(&[(C, 0, SELECT), (S, 1, ERR_PACKET)])), [0; 0]);

    let mut watched = with_statements();
    let closed = watched.told(&[(C, 0, &close(9)), (C, 0, &close(9)), (C, 0, &close(8)), (C, 0, b"\x19")]);
    assert_eq!(changes(&closed), [-1], "once, and only what is open");
    assert_eq!(changes(&watched.end()), [-1]);
    assert_eq!(watched.end(), []);
}

#[test]
fn statements_end_with_the_session_they_are_of() {
    for command in [RESET, CHANGE_USER] {
        let mut watched = with_statements();
        assert_eq!(changes(&watched.told(&[(C, 0, command)])), [0; 0], "not before the answer");
        assert_eq!(changes(&watched.told(&[(S, 1, OK_PACKET), (C, 0, &close(7))])), [-2]);
        assert_eq!(watched.end(), []);

        let mut refused = with_statements();
        assert_eq!(changes(&refused.told(&[(C, 0, command), (S, 1, ERR_PACKET)])), [0; 0]);
        assert_eq!(changes(&refused.end()), [-2]);

        // A close that crosses the reset is not counted twice.
        let mut crossing = with_statements();
        let told = crossing.told(&[(C, 0, command), (C, 0, &close(7)), (S, 1, OK_PACKET)]);
        assert_eq!(changes(&told), [-1, -1]);
    }
}

#[test]
fn a_transaction_is_open_as_the_last_status_says() {
    let query = |answer| [(C, 0, QUERY), (S, 1, answer)];
    let mut watched = Watched::new(CLASSIC);
    assert_eq!(transactions(&watched.told(&query(OK_PACKET))), [false; 0]);
    assert_eq!(transactions(&watched.told(&query(IN_TRANS))), [true]);
    assert_eq!(transactions(&watched.told(&query(IN_TRANS))), [false; 0]);
    assert_eq!(transactions(&watched.told(&query(ERR_PACKET))), [false; 0], "an error has no status");
    assert_eq!(transactions(&watched.told(&query(OK_PACKET))), [false]);

    let in_rows =
        [(C, 0, QUERY), (S, 1, b"\x01"), (S, 2, b"\x03def"), (S, 3, EOF_PACKET), (S, 4, b"\xfe\0\0\x03\0")];
    assert_eq!(transactions(&watched.told(&in_rows)), [true]);
    assert_eq!(transactions(&watched.end()), [false]);
    assert_eq!(watched.end(), []);
}

#[test]
fn a_transaction_ends_with_the_session_it_is_of() {
    for command in [RESET, CHANGE_USER] {
        let mut watched = Watched::past(&[(C, 0, QUERY), (S, 1, IN_TRANS)]);
        assert_eq!(transactions(&watched.told(&[(C, 0, command), (S, 1, OK_PACKET)])), [false]);
        assert_eq!(watched.end(), []);
    }
}

#[test]
fn the_verb_of_a_statement_stands_behind_its_attributes() {
    let one = &b"\x03\x01\x01\0\x01\xfd\0\x01a\x02xyDELETE FROM t"[..];
    let answered =
        [(C, 0, &b"\x03\0\x01UPDATE t SET a=1"[..]), (S, 1, OK_PACKET), (C, 0, one), (S, 1, OK_PACKET)];
    let mut watched = Watched::new(CLASSIC | Capabilities::QUERY_ATTRIBUTES);
    assert_eq!(verbs(&watched.told(&answered)), [Some(Verb::Update), Some(Verb::Delete)]);
    // Where one side does not know them, they are the statement.
    assert_eq!(verbs(&told(&answered)), [Some(Verb::Other), Some(Verb::Other)]);
}

#[test]
fn an_execute_has_the_verb_of_what_was_prepared() {
    let mut watched = with_statements();
    let mut verb_of = |payload: &[u8]| verbs(&watched.told(&[(C, 0, payload), (S, 1, OK_PACKET)]))[0];
    assert_eq!(verb_of(&execute(7)), Some(Verb::Select));
    assert_eq!(verb_of(&execute(9)), Some(Verb::Insert));
    assert_eq!(verb_of(b"\xfa\x09\0\0\0\0\0"), Some(Verb::Insert), "COM_STMT_BULK_EXECUTE");
    assert_eq!(verb_of(&execute(8)), Some(Verb::Other));
    assert_eq!(verb_of(b"\x17"), Some(Verb::Other));
    assert_eq!(verb_of(PING), None);
    watched.told(&[(C, 0, &close(9))]);
    let closed = watched.told(&[(C, 0, &execute(9)), (S, 1, ERR_PACKET)]);
    assert_eq!(verbs(&closed), [Some(Verb::Other)]);
}

/// MariaDB's clients send both at once and call the statement -1.
#[test]
fn an_execute_can_be_sent_with_its_prepare() {
    let (last, answer) = (execute(u32::MAX), prepared(7));
    let both = [(C, 0, INSERT), (C, 0, &last), (S, 1, &answer), (S, 1, OK_PACKET)];
    assert_eq!(verbs(&told(&both)), [Some(Verb::Insert), Some(Verb::Insert)]);
    // Where the first fails, the second does.
    let failing = [(C, 0, INSERT), (C, 0, &last), (S, 1, ERR_PACKET), (S, 1, ERR_PACKET)];
    let events = told(&failing);
    assert_eq!((verbs(&events), changes(&events)), (vec![Some(Verb::Insert), Some(Verb::Insert)], vec![]));
    assert_eq!(verbs(&told(&[(C, 0, &last), (S, 1, ERR_PACKET)])), [Some(Verb::Other)]);
}
