use super::*;
use crate::clock::{Clock, Timestamp};
use crate::event::details::Details;

/// A session of which the client alone is heard, and what it told.
struct Watched {
    requests: RequestsOnly,
    events: Vec<Event>,
    details: Details,
}

impl Watched {
    fn new() -> Self {
        let requests = RequestsOnly::new(Capabilities::default(), false, Options::default());
        Self { requests, events: Vec::new(), details: Details::default() }
    }

    fn take(&mut self, sequence_id: u8, prefix: &[u8], complete: bool) -> Outcome {
        let read = || Timestamp::from_nanos(5_001);
        let mut clock = Clock::new(&read);
        let mut out = Output::new(&mut self.events, &mut clock, &mut self.details);
        let packet = Packet { length: prefix.len() as u32, sequence_id, prefix, complete };
        self.requests.packet(&packet, &mut out)
    }

    fn pass(&mut self, sequence_id: u8, prefix: &[u8]) {
        assert_eq!(self.take(sequence_id, prefix, true), Ok(()), "{prefix:?}");
    }

    fn sent(&self) -> Vec<Command> {
        let command = |event: &Event| match event {
            Event::CommandSent(command) => *command,
            other => panic!("{other:?}"),
        };
        self.events.iter().map(command).collect()
    }
}

#[test]
fn commands_are_counted_and_nothing_behind_the_last() {
    let mut watched = Watched::new();
    for command in [b"\x03SELECT 1".as_slice(), b"\x0e", b"\x16SELECT ?", b"\x99", b""] {
        watched.pass(0, command);
    }
    assert!(!watched.requests.has_quit());
    watched.pass(0, b"\x01");
    assert!(watched.requests.has_quit());
    watched.pass(0, b"\x0e");
    let sent =
        [Command::QUERY, Command::PING, Command::STMT_PREPARE, Command(0x99), Command::SLEEP, Command::QUIT];
    assert_eq!(watched.sent(), sent);
}

#[test]
fn a_file_is_no_command_however_long() {
    let mut watched = Watched::new();
    watched.pass(0, b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE t");
    // From 2 on, through 255 and 0, up to 3.
    for id in (2..=255).chain(0..=3) {
        watched.pass(id, b"\x01not a COM_QUIT");
    }
    watched.pass(4, b"");
    watched.pass(0, b"\x0e");
    assert_eq!(watched.sent(), [Command::QUERY, Command::PING]);
}

#[test]
fn a_long_piece_of_a_file_counts_on_from_its_last_fragment() {
    let mut watched = Watched::new();
    watched.pass(0, b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE t");
    assert_eq!(watched.take(2, b"piece", false), Ok(()));
    watched.requests.packet_end(255);
    watched.pass(0, b"\x01 the next piece");
    watched.pass(1, b"");
    watched.pass(0, b"\x0e");
    assert_eq!(watched.sent(), [Command::QUERY, Command::PING]);
}

#[test]
fn a_long_command_is_one() {
    let mut watched = Watched::new();
    assert_eq!(watched.take(0, b"\x03INSERT ...", false), Ok(()));
    watched.requests.packet_end(2);
    watched.pass(0, b"\x0e");
    assert_eq!(watched.sent(), [Command::QUERY, Command::PING]);
}

#[test]
fn an_empty_file_is_no_command() {
    let mut watched = Watched::new();
    watched.pass(0, b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE t");
    watched.pass(2, b"");
    watched.pass(0, b"\x0e");
    assert_eq!(watched.sent(), [Command::QUERY, Command::PING]);
}

#[test]
fn the_account_that_is_asked_for_is_told_to_who_wants_it() {
    let change = b"\x11app\0\0shop\0\x21\0";
    let mut watched = Watched::new();
    watched.pass(0, change);
    assert!(watched.details.fields.is_empty());
    watched.requests.options.interests.add(Field::User);
    watched.requests.options.interests.add(Field::Schema);
    watched.pass(0, change);
    watched.pass(3, b"what a plug-in asked for");
    watched.pass(0, b"\x0e");
    let said = [(Field::User, "app".to_owned()), (Field::Schema, "shop".to_owned())];
    assert_eq!(watched.details.fields, said);
    assert_eq!(watched.sent(), [Command::CHANGE_USER, Command::CHANGE_USER, Command::PING]);
}

#[test]
fn acknowledgements_of_a_replica_are_no_commands() {
    let mut watched = Watched::new();
    watched.pass(0, b"\x12\x04\0\0\0\0\0\x01\0\0\0");
    watched.pass(0, b"\xef\x04\0\0\0\0\0\0\0binlog.000001");
    assert_eq!(watched.sent(), [Command::BINLOG_DUMP]);
}

#[test]
fn protocols_of_their_own_are_not_followed() {
    assert_eq!(Watched::new().take(0, b"\x20", true), Err(OpaqueReason::Clone));
    let group = Command::SUBSCRIBE_GROUP_REPLICATION_STREAM.0;
    assert_eq!(Watched::new().take(0, &[group], true), Err(OpaqueReason::Replication));
}
