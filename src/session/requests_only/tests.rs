use super::*;
use crate::clock::{Clock, Timestamp};
use crate::event::details::Details;

/// The client's packets, and the output of their inspection.
struct Client {
    requests: RequestsOnly,
    events: Vec<Event>,
    details: Details,
}

impl Client {
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
fn commands_are_counted_up_to_quit() {
    let mut client = Client::new();
    for command in [b"\x03SELECT 1".as_slice(), b"\x0e", b"\x16SELECT ?", b"\x99", b""] {
        client.pass(0, command);
    }
    assert!(!client.requests.has_quit());
    client.pass(0, b"\x01");
    assert!(client.requests.has_quit());
    client.pass(0, b"\x0e");
    let sent =
        [Command::QUERY, Command::PING, Command::STMT_PREPARE, Command(0x99), Command::SLEEP, Command::QUIT];
    assert_eq!(client.sent(), sent);
}

#[test]
fn a_file_is_no_command_however_long() {
    let mut client = Client::new();
    client.pass(0, b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE t");
    // From 2 on, through 255 and 0, up to 3.
    for id in (2..=255).chain(0..=3) {
        client.pass(id, b"\x01not a COM_QUIT");
    }
    client.pass(4, b"");
    client.pass(0, b"\x0e");
    assert_eq!(client.sent(), [Command::QUERY, Command::PING]);
}

#[test]
fn the_ids_of_a_file_continue_after_the_last_fragment_of_a_packet() {
    let mut client = Client::new();
    client.pass(0, b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE t");
    assert_eq!(client.take(2, b"piece", false), Ok(()));
    client.requests.packet_end(255);
    client.pass(0, b"\x01 the next piece");
    client.pass(1, b"");
    client.pass(0, b"\x0e");
    assert_eq!(client.sent(), [Command::QUERY, Command::PING]);
}

#[test]
fn a_command_of_several_fragments_is_one_command() {
    let mut client = Client::new();
    assert_eq!(client.take(0, b"\x03INSERT ...", false), Ok(()));
    client.requests.packet_end(2);
    client.pass(0, b"\x0e");
    assert_eq!(client.sent(), [Command::QUERY, Command::PING]);
}

#[test]
fn an_empty_file_is_no_command() {
    let mut client = Client::new();
    client.pass(0, b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE t");
    client.pass(2, b"");
    client.pass(0, b"\x0e");
    assert_eq!(client.sent(), [Command::QUERY, Command::PING]);
}

#[test]
fn the_account_of_a_change_user_is_recorded_if_it_is_of_interest() {
    let change = b"\x11app\0\0shop\0\x21\0";
    let mut client = Client::new();
    client.pass(0, change);
    assert!(client.details.fields.is_empty());
    client.requests.options.interests.add(Field::User);
    client.requests.options.interests.add(Field::Schema);
    client.pass(0, change);
    client.pass(3, b"requested by a plug-in");
    client.pass(0, b"\x0e");
    let fields = [(Field::User, "app".to_owned()), (Field::Schema, "shop".to_owned())];
    assert_eq!(client.details.fields, fields);
    assert_eq!(client.sent(), [Command::CHANGE_USER, Command::CHANGE_USER, Command::PING]);
}

#[test]
fn acknowledgements_of_a_replica_are_no_commands() {
    let mut client = Client::new();
    client.pass(0, b"\x12\x04\0\0\0\0\0\x01\0\0\0");
    client.pass(0, b"\xef\x04\0\0\0\0\0\0\0binlog.000001");
    assert_eq!(client.sent(), [Command::BINLOG_DUMP]);
}

#[test]
fn other_protocols_make_the_connection_opaque() {
    assert_eq!(Client::new().take(0, b"\x20", true), Err(OpaqueReason::Clone));
    let group = Command::SUBSCRIBE_GROUP_REPLICATION_STREAM.0;
    assert_eq!(Client::new().take(0, &[group], true), Err(OpaqueReason::Replication));
}
