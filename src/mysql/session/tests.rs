use super::*;
use crate::event::Tally;

const CAPABILITIES: Capabilities = Capabilities::PROTOCOL_41;
const OK_PACKET: &[u8] = b"\0\0\0\x02\0\0\0";
const ERR_PACKET: &[u8] = b"\xff\x28\x04#42000";

/// A session and what it told.
struct Watched {
    session: Session,
    events: Vec<Event>,
}

impl Watched {
    fn new() -> Self {
        Self { session: Session::new(Timestamp::from_nanos(1)), events: Vec::new() }
    }

    /// A session that takes commands.
    fn in_command_phase() -> Self {
        let mut this = Self::new();
        this.session.state = State::Command;
        this.session.capabilities = CAPABILITIES;
        this
    }

    fn packet(&mut self, sender: Sender, sequence_id: u8, prefix: &[u8], complete: bool) -> Outcome {
        let read = || Timestamp::from_nanos(5_001);
        let mut clock = Clock::new(&read);
        let mut to = Observer { events: &mut self.events, clock: &mut clock };
        let packet = Packet { length: prefix.len() as u32, sequence_id, prefix, complete };
        match sender {
            Sender::Client => self.session.client_packet(&packet, &mut to),
            Sender::Server => self.session.server_packet(&packet, &mut to),
        }
    }

    fn client(&mut self, sequence_id: u8, payload: &[u8]) -> Outcome {
        self.packet(Sender::Client, sequence_id, payload, true)
    }

    fn server(&mut self, sequence_id: u8, payload: &[u8]) -> Outcome {
        self.packet(Sender::Server, sequence_id, payload, true)
    }

    /// A packet that is longer than what has come of it, and then its end.
    fn in_two(&mut self, sender: Sender, sequence_id: u8, payload: &[u8]) {
        assert_eq!(self.packet(sender, sequence_id, payload, false), Ok(()));
        self.session.packet_end(sender, sequence_id);
    }

    fn told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

fn ended(command: Command) -> Event {
    Event::CommandEnded { command, tally: Some(Tally::default()) }
}

fn failed(command: Command, errno: u16) -> Event {
    Event::CommandEnded { command, tally: Some(Tally { errno: Some(errno), ..Tally::default() }) }
}

#[test]
fn phases_and_how_the_connection_phase_can_end() {
    let greeting = b"\x0a8.0.41\0\x07\0\0\0\x31\x32\x33\x34\x35\x36\x37\x38\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0";
    let mut response = [0; 40];
    response[..4].copy_from_slice(&0x0001_0201_u32.to_le_bytes());
    let greeted = || {
        let mut watched = Watched::new();
        assert_eq!(watched.session.phase(), Phase::Greeting);
        watched.server(0, greeting).unwrap();
        assert!(matches!(watched.told()[..], [Event::Greeting { after, .. }] if after.as_micros() == 5));
        watched
    };
    let answered = || {
        let mut watched = greeted();
        assert_eq!(watched.session.phase(), Phase::Handshake);
        watched.client(1, &response).unwrap();
        assert_eq!(watched.session.phase(), Phase::Authentication);
        watched
    };

    let mut accepted = answered();
    for round in [&b"\xfeplugin\0"[..], b"\x01\x04", b"\x02plugin\0"] {
        accepted.server(2, round).unwrap();
        accepted.client(3, b"a secret that looks like \x03 a command").unwrap();
    }
    accepted.server(4, OK_PACKET).unwrap();
    assert_eq!(accepted.told(), [Event::Handshake(HandshakeResult::Ok)]);
    assert_eq!(accepted.session.phase(), Phase::Command);

    let mut refused = answered();
    refused.server(2, ERR_PACKET).unwrap();
    refused.client(3, b"whatever").unwrap();
    refused.session.end(None, &mut refused.events);
    assert_eq!(refused.told(), [Event::Handshake(HandshakeResult::Error)]);
    assert_eq!(refused.session.phase(), Phase::Authentication);

    for mut abandoned in [greeted(), answered()] {
        abandoned.session.end(None, &mut abandoned.events);
        assert_eq!(abandoned.told(), [Event::Handshake(HandshakeResult::Aborted)]);
    }

    let mut turned_away = Watched::new();
    turned_away.server(0, b"\xff\x10\x04Too many connections").unwrap();
    turned_away.session.end(None, &mut turned_away.events);
    assert_eq!(turned_away.told(), [Event::PreHandshakeError { errno: 1040 }]);
    assert_eq!(turned_away.session.phase(), Phase::Greeting);

    response[1] |= 0x08;
    let mut tls = greeted();
    tls.client(1, &response[..32]).unwrap();
    assert!(tls.session.awaits_tls());
    tls.session.end(Some(OpaqueReason::Tls), &mut tls.events);
    assert_eq!(tls.told(), [Event::Handshake(HandshakeResult::Tls)]);
}

#[test]
fn what_cannot_stand_in_the_connection_phase() {
    assert_eq!(Watched::new().server(0, b"\x09old"), Err(OpaqueReason::NotMysql));
    assert_eq!(Watched::new().server(0, b"\x0a8.0"), Err(OpaqueReason::NotMysql));
    assert_eq!(Watched::new().client(0, b"\x0a8.0"), Err(OpaqueReason::NotMysql));
    let mut watched = Watched::new();
    watched.session.state = State::Handshake;
    assert_eq!(watched.server(0, OK_PACKET), Err(OpaqueReason::Desync), "an OK before the client's response");
    assert_eq!(watched.client(1, b"short"), Ok(()), "HandshakeResponse320 has no least length");
    assert_eq!(watched.server(2, b"\x33"), Err(OpaqueReason::Desync));
}

#[test]
fn each_answer_goes_to_the_oldest_command() {
    let mut watched = Watched::in_command_phase();
    watched.client(0, b"\x03a").unwrap();
    watched.client(0, b"\x0e").unwrap();
    watched.told();
    watched.server(1, ERR_PACKET).unwrap();
    watched.server(1, OK_PACKET).unwrap();
    assert_eq!(watched.told(), [failed(Command::QUERY, 1064), ended(Command::PING)]);
    assert_eq!(watched.server(2, OK_PACKET), Err(OpaqueReason::Desync), "nothing was asked");
}

#[test]
fn sequence_ids_are_checked() {
    let mut watched = Watched::in_command_phase();
    watched.client(0, b"\x03a").unwrap();
    assert_eq!(watched.server(2, OK_PACKET), Err(OpaqueReason::Desync));
    assert_eq!(watched.client(1, b"\x03a"), Err(OpaqueReason::Desync));
}

#[test]
fn the_end_of_a_long_packet_belongs_to_its_own_exchange() {
    let pipelined = || {
        let mut watched = Watched::in_command_phase();
        watched.client(0, b"\x03a").unwrap();
        watched.client(0, b"\x0e").unwrap();
        watched
    };
    // The last packet of an answer: the next answer begins anew.
    let mut watched = pipelined();
    watched.in_two(Sender::Server, 1, ERR_PACKET);
    assert_eq!(watched.server(1, OK_PACKET), Ok(()));

    // A piece of a parameter has no answer.
    let mut watched = Watched::in_command_phase();
    watched.client(0, b"\x03a").unwrap();
    watched.server(1, b"\x01").unwrap();
    watched.server(2, b"\x03def").unwrap();
    watched.in_two(Sender::Client, 0, b"\x18");
    assert_eq!(watched.server(3, b"\xfe\0\0\x02\0"), Ok(()));

    // A replica's acknowledgement neither.
    let mut watched = Watched::in_command_phase();
    watched.client(0, b"\x12").unwrap();
    watched.server(1, b"\0event").unwrap();
    watched.in_two(Sender::Client, 0, b"\xef");
    assert_eq!(watched.server(2, b"\0event"), Ok(()));

    // A command of many fragments.
    let mut watched = Watched::in_command_phase();
    watched.packet(Sender::Client, 0, b"\x03a", false).unwrap();
    watched.session.packet_end(Sender::Client, 4);
    assert_eq!(watched.server(5, OK_PACKET), Ok(()));
}

#[test]
fn a_command_that_is_too_long_is_refused_before_its_end() {
    let mut watched = Watched::in_command_phase();
    watched.packet(Sender::Client, 0, b"\x03a", false).unwrap();
    watched.told();
    assert_eq!(watched.server(3, b"\xff\x81\x04#08S01"), Ok(()));
    assert_eq!(watched.told(), [failed(Command::QUERY, 1153)]);
    watched.session.packet_end(Sender::Client, 5);
    assert_eq!(watched.session.phase(), Phase::Command);

    let mut watched = Watched::in_command_phase();
    watched.packet(Sender::Client, 0, b"\x03a", false).unwrap();
    assert_eq!(watched.server(3, OK_PACKET), Err(OpaqueReason::Desync), "only an error");
}

#[test]
fn errors_of_the_servers_own_accord() {
    for sequence_id in [0, 1] {
        let mut idle = Watched::in_command_phase();
        idle.server(sequence_id, ERR_PACKET).unwrap();
        assert_eq!(idle.told(), [Event::ServerNotice { errno: 1064 }]);
    }
    let mut busy = Watched::in_command_phase();
    busy.client(0, b"\x03a").unwrap();
    busy.told();
    busy.server(0, ERR_PACKET).unwrap();
    busy.server(1, OK_PACKET).unwrap();
    assert_eq!(busy.told(), [Event::ServerNotice { errno: 1064 }, ended(Command::QUERY)]);
}

/// The OK behind OUT parameters, when the result set before did not announce it.
#[test]
fn an_answer_can_have_a_tail() {
    let mut watched = Watched::in_command_phase();
    watched.client(0, b"\x17").unwrap();
    watched.server(1, OK_PACKET).unwrap();
    watched.told();
    assert_eq!(watched.server(2, OK_PACKET), Ok(()));
    assert_eq!(watched.told(), []);
    assert_eq!(watched.server(2, OK_PACKET), Err(OpaqueReason::Desync));
    watched.client(0, b"\x0e").unwrap();
    watched.server(1, OK_PACKET).unwrap();
    assert_eq!(watched.server(2, OK_PACKET), Err(OpaqueReason::Desync), "PING has none");
}

#[test]
fn a_file_passes_and_may_be_refused_on_the_way() {
    let asked = || {
        let mut watched = Watched::in_command_phase();
        watched.client(0, b"\x03load").unwrap();
        watched.server(1, b"\xfbfile").unwrap();
        watched.told();
        watched
    };
    let mut accepted = asked();
    accepted.client(2, b"\x03no command").unwrap();
    accepted.client(3, b"").unwrap();
    accepted.server(4, OK_PACKET).unwrap();
    assert_eq!(accepted.told(), [ended(Command::QUERY)]);

    let mut refused = asked();
    refused.client(2, b"one").unwrap();
    refused.server(3, ERR_PACKET).unwrap();
    refused.client(3, b"two").unwrap();
    refused.client(4, b"").unwrap();
    refused.client(0, b"\x0e").unwrap();
    refused.server(1, OK_PACKET).unwrap();
    let expected = [failed(Command::QUERY, 1064), Event::CommandStarted(Command::PING), ended(Command::PING)];
    assert_eq!(refused.told(), expected);
}

#[test]
fn a_session_that_is_given_up_owes_no_answer() {
    for (byte, reason) in [(0x20, OpaqueReason::Clone), (0x21, OpaqueReason::Replication)] {
        let mut watched = Watched::in_command_phase();
        assert_eq!(watched.client(0, &[byte]), Err(reason));
        watched.session.end(Some(reason), &mut watched.events);
        let command = Command(byte);
        let expected = [Event::CommandStarted(command), Event::CommandEnded { command, tally: None }];
        assert_eq!(watched.told(), expected);
    }
    let mut flooded = Watched::in_command_phase();
    for _ in 0..MAX_QUEUED {
        flooded.client(0, b"\x0e").unwrap();
    }
    assert_eq!(flooded.client(0, b"\x0e"), Err(OpaqueReason::Memory));
}

#[test]
fn an_empty_packet_is_a_command_and_quit_has_no_answer() {
    let mut watched = Watched::in_command_phase();
    watched.client(0, b"").unwrap();
    watched.server(1, ERR_PACKET).unwrap();
    assert!(!watched.session.has_quit());
    watched.client(0, b"\x01").unwrap();
    assert!(watched.session.has_quit());
    let quit = Event::CommandSent(Command::QUIT);
    assert_eq!(watched.told(), [Event::CommandStarted(Command::SLEEP), failed(Command::SLEEP, 1064), quit]);
}
