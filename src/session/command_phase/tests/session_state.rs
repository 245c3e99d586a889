//! Session state: prepared statements, the transaction, and the verbs of statements.

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

/// A command phase with the statements 7, a SELECT, and 9, an INSERT.
fn with_statements() -> Conversation {
    let (seven, nine) = (prepared(7), prepared(9));
    Conversation::after(&[(C, 0, SELECT), (S, 1, &seven), (C, 0, INSERT), (S, 1, &nine)])
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
fn statements_are_open_from_the_response_to_the_close() {
    let response = prepared(7);
    let opened = emitted(&[(C, 0, SELECT), (S, 1, &response)]);
    let expected = [
        started(Command::STMT_PREPARE),
        Event::PreparedStatements { change: 1 },
        ended(Command::STMT_PREPARE, Some(Verb::Select), Tally::default()),
    ];
    assert_eq!(opened, expected);
    assert_eq!(changes(&emitted(&[(C, 0, SELECT), (S, 1, ERR_PACKET)])), [0; 0]);

    let mut conversation = with_statements();
    let closed =
        conversation.emitted(&[(C, 0, &close(9)), (C, 0, &close(9)), (C, 0, &close(8)), (C, 0, b"\x19")]);
    assert_eq!(changes(&closed), [-1], "once, and only if it is open");
    assert_eq!(changes(&conversation.end()), [-1]);
    assert_eq!(conversation.end(), []);
}

#[test]
fn statements_are_closed_when_the_session_is_reset() {
    for command in [RESET, CHANGE_USER] {
        let mut conversation = with_statements();
        assert_eq!(changes(&conversation.emitted(&[(C, 0, command)])), [0; 0], "not before the response");
        assert_eq!(changes(&conversation.emitted(&[(S, 1, OK_PACKET), (C, 0, &close(7))])), [-2]);
        assert_eq!(conversation.end(), []);

        let mut refused = with_statements();
        assert_eq!(changes(&refused.emitted(&[(C, 0, command), (S, 1, ERR_PACKET)])), [0; 0]);
        assert_eq!(changes(&refused.end()), [-2]);

        // A close that is sent before the response to the reset is not counted twice.
        let mut crossing = with_statements();
        let emitted = crossing.emitted(&[(C, 0, command), (C, 0, &close(7)), (S, 1, OK_PACKET)]);
        assert_eq!(changes(&emitted), [-1, -1]);
    }
}

#[test]
fn the_last_status_tells_whether_a_transaction_is_open() {
    let query = |response| [(C, 0, QUERY), (S, 1, response)];
    let mut conversation = Conversation::new(CLASSIC);
    assert_eq!(transactions(&conversation.emitted(&query(OK_PACKET))), [false; 0]);
    assert_eq!(transactions(&conversation.emitted(&query(IN_TRANS))), [true]);
    assert_eq!(transactions(&conversation.emitted(&query(IN_TRANS))), [false; 0]);
    assert_eq!(transactions(&conversation.emitted(&query(ERR_PACKET))), [false; 0], "an error has no status");
    assert_eq!(transactions(&conversation.emitted(&query(OK_PACKET))), [false]);

    let in_rows =
        [(C, 0, QUERY), (S, 1, b"\x01"), (S, 2, b"\x03def"), (S, 3, EOF_PACKET), (S, 4, b"\xfe\0\0\x03\0")];
    assert_eq!(transactions(&conversation.emitted(&in_rows)), [true]);
    assert_eq!(transactions(&conversation.end()), [false]);
    assert_eq!(conversation.end(), []);
}

#[test]
fn a_transaction_ends_when_the_session_is_reset() {
    for command in [RESET, CHANGE_USER] {
        let mut conversation = Conversation::after(&[(C, 0, QUERY), (S, 1, IN_TRANS)]);
        assert_eq!(transactions(&conversation.emitted(&[(C, 0, command), (S, 1, OK_PACKET)])), [false]);
        assert_eq!(conversation.end(), []);
    }
}

#[test]
fn the_verb_of_a_statement_is_read_after_its_attributes() {
    let one = &b"\x03\x01\x01\0\x01\xfd\0\x01a\x02xyDELETE FROM t"[..];
    let queries =
        [(C, 0, &b"\x03\0\x01UPDATE t SET a=1"[..]), (S, 1, OK_PACKET), (C, 0, one), (S, 1, OK_PACKET)];
    let mut conversation = Conversation::new(CLASSIC | Capabilities::QUERY_ATTRIBUTES);
    assert_eq!(verbs(&conversation.emitted(&queries)), [Some(Verb::Update), Some(Verb::Delete)]);
    // If one peer does not support attributes, they are part of the statement.
    assert_eq!(verbs(&emitted(&queries)), [Some(Verb::Other), Some(Verb::Other)]);
}

#[test]
fn an_execute_has_the_verb_of_the_prepared_statement() {
    let mut conversation = with_statements();
    let mut verb_of = |payload: &[u8]| verbs(&conversation.emitted(&[(C, 0, payload), (S, 1, OK_PACKET)]))[0];
    assert_eq!(verb_of(&execute(7)), Some(Verb::Select));
    assert_eq!(verb_of(&execute(9)), Some(Verb::Insert));
    assert_eq!(verb_of(b"\xfa\x09\0\0\0\0\0"), Some(Verb::Insert), "COM_STMT_BULK_EXECUTE");
    assert_eq!(verb_of(&execute(8)), Some(Verb::Other));
    assert_eq!(verb_of(b"\x17"), Some(Verb::Other));
    assert_eq!(verb_of(PING), None);
    conversation.emitted(&[(C, 0, &close(9))]);
    let closed = conversation.emitted(&[(C, 0, &execute(9)), (S, 1, ERR_PACKET)]);
    assert_eq!(verbs(&closed), [Some(Verb::Other)]);
}

/// MariaDB's clients send both at once, with the statement id -1.
#[test]
fn an_execute_can_be_sent_with_its_prepare() {
    let (last, response) = (execute(u32::MAX), prepared(7));
    let both = [(C, 0, INSERT), (C, 0, &last), (S, 1, &response), (S, 1, OK_PACKET)];
    assert_eq!(verbs(&emitted(&both)), [Some(Verb::Insert), Some(Verb::Insert)]);
    // If the first fails, so does the second.
    let failing = [(C, 0, INSERT), (C, 0, &last), (S, 1, ERR_PACKET), (S, 1, ERR_PACKET)];
    let events = emitted(&failing);
    assert_eq!((verbs(&events), changes(&events)), (vec![Some(Verb::Insert), Some(Verb::Insert)], vec![]));
    assert_eq!(verbs(&emitted(&[(C, 0, &last), (S, 1, ERR_PACKET)])), [Some(Verb::Other)]);
}
