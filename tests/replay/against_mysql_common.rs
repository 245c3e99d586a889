//! Our parsers read the same from the packets of the captures as `mysql_common`, the codecs of another author.

use std::collections::BTreeMap;

use firstword::event::Sender;
use firstword::mysql::wire::capability::Capabilities;
use firstword::mysql::wire::handshake::{HandshakeResponse, HandshakeV10};
use firstword::mysql::wire::response::{ColumnCount, EofPacket, OkPacket, PrepareOk, error_code};
use mysql_common::constants::{CapabilityFlags, MariadbCapabilities};
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    CommonOkPacket, ErrPacket, HandshakePacket, HandshakeResponse as TheirResponse, OkPacketDeserializer,
    OldEofPacket, ResultSetTerminator, StmtPacket,
};

use crate::packets::{Packet, agreed_capabilities, packets};
use firstword_testing::client::{DEPRECATE_EOF, PROTOCOL_41};
use firstword_testing::replay::{Captured, captures};

/// Number of comparisons of each kind of packet.
type Compared = BTreeMap<&'static str, usize>;

fn same_capabilities(ours: Capabilities, theirs: CapabilityFlags, extended: MariadbCapabilities, name: &str) {
    for bit in 0..32 {
        let flag = 1 << bit;
        if CapabilityFlags::all().bits() & flag != 0 {
            let has = theirs.bits() & flag != 0;
            assert_eq!(ours.contains(Capabilities::new(flag, 0)), has, "{name}: capability {bit}");
        }
        if MariadbCapabilities::all().bits() & flag != 0 {
            let has = extended.bits() & flag != 0;
            assert_eq!(ours.contains(Capabilities::new(0, flag)), has, "{name}: extended capability {bit}");
        }
    }
}

fn greeting(payload: &[u8], name: &str, compared: &mut Compared) {
    let theirs: HandshakePacket = ParseBuf(payload).parse(()).unwrap();
    let ours = HandshakeV10::parse(payload).unwrap();
    assert_eq!(ours.server_version, theirs.server_version_ref(), "{name}");
    same_capabilities(ours.capabilities, theirs.capabilities(), theirs.mariadb_ext_capabilities(), name);
    *compared.entry("greeting").or_default() += 1;
}

fn response(payload: &[u8], name: &str, compared: &mut Compared) {
    let theirs: TheirResponse = ParseBuf(payload).parse(()).unwrap();
    let ours = HandshakeResponse::parse(payload, Capabilities::default()).unwrap();
    let extended = theirs.mariadb_ext_capabilities();
    same_capabilities(ours.capabilities, theirs.capabilities(), extended, name);
    *compared.entry("response").or_default() += 1;
}

/// Compares a packet of the server that begins like an OK, an EOF or an ERR. Rows and definitions can begin so too: then both
/// parsers read the same meaningless values, or theirs refuses the packet because it reads all of it.
fn generic(payload: &[u8], capabilities: u32, name: &str, compared: &mut Compared) {
    let (ours, theirs) =
        (Capabilities::new(capabilities, 0), CapabilityFlags::from_bits_truncate(capabilities));
    let ok = |packet: mysql_common::packets::OkPacket| {
        (packet.affected_rows(), packet.status_flags().bits(), packet.warnings())
    };
    match payload {
        [0x00, ..] => {
            let parsed = ParseBuf(payload).parse::<OkPacketDeserializer<CommonOkPacket>>(theirs);
            let Ok(parsed) = parsed.map(|parsed| ok(parsed.into_inner())) else { return };
            let ours = OkPacket::parse(payload, ours).unwrap();
            assert_eq!((ours.affected_rows, ours.status_flags.0, ours.warnings), parsed, "{name}: OK");
            *compared.entry("OK").or_default() += 1;
        }
        [0xfe, ..] if capabilities & DEPRECATE_EOF != 0 => {
            let parsed = ParseBuf(payload).parse::<OkPacketDeserializer<ResultSetTerminator>>(theirs);
            let Ok((_, status, warnings)) = parsed.map(|parsed| ok(parsed.into_inner())) else { return };
            let ours = OkPacket::parse(payload, ours).unwrap();
            assert_eq!((ours.status_flags.0, ours.warnings), (status, warnings), "{name}: OK for EOF");
            *compared.entry("OK for EOF").or_default() += 1;
        }
        [0xfe, _, _, _, _] => {
            let parsed = ParseBuf(payload).parse::<OkPacketDeserializer<OldEofPacket>>(theirs).unwrap();
            let (_, status, warnings) = ok(parsed.into_inner());
            let ours = EofPacket::parse(payload, ours).unwrap();
            assert_eq!((ours.status_flags.0, ours.warnings), (status, warnings), "{name}: EOF");
            *compared.entry("EOF").or_default() += 1;
        }
        [0xff, ..] => {
            // Their parser supports neither errors without an SQL state nor progress reports by extended capability.
            let Ok(parsed) = ParseBuf(payload).parse::<ErrPacket>(theirs) else { return };
            let errno = match &parsed {
                ErrPacket::Error(error) => error.error_code(),
                ErrPacket::Progress(_) => 0xffff,
            };
            assert_eq!(error_code(payload), Ok(errno), "{name}: ERR");
            *compared.entry("ERR").or_default() += 1;
        }
        _ => {}
    }
}

/// Compares the first packet of the response to `command`.
fn first(command: u8, payload: &[u8], capabilities: u32, name: &str, compared: &mut Compared) {
    let ours = Capabilities::new(capabilities, 0);
    match (command, payload.first()) {
        (0x16, Some(0x00)) => {
            let theirs: StmtPacket = ParseBuf(payload).parse(()).unwrap();
            let ours = PrepareOk::parse(payload, ours).unwrap();
            let counts = (theirs.num_columns(), theirs.num_params());
            assert_eq!((ours.num_columns, ours.num_params), counts, "{name}: PREPARE_OK");
            *compared.entry("PREPARE_OK").or_default() += 1;
        }
        (0x03 | 0x17, Some(0x01..=0xfa)) => {
            let theirs = ParseBuf(payload).checked_eat_lenenc_int();
            // Their parser ignores the flag that definitions follow.
            let ours = ours | Capabilities::MARIADB_CACHE_METADATA;
            let ours = ColumnCount::parse(payload, ours).unwrap();
            assert_eq!(Some(ours.columns), theirs, "{name}: column count");
            *compared.entry("column count").or_default() += 1;
        }
        _ => {}
    }
}

#[test]
fn mysql_common_reads_the_same() {
    let mut compared = Compared::new();
    for Captured { name, chunks, .. } in captures() {
        let packets = packets(&chunks);
        let mut command = None;
        let agreed = agreed_capabilities(&packets).filter(|agreed| agreed & PROTOCOL_41 != 0);
        let Some(capabilities) = agreed else { continue };
        // Only Mycat's greeting lacks PLUGIN_AUTH. Their parser takes the bytes after its scramble for a plugin.
        greeting(&packets[0].payload, &name, &mut compared);
        for (index, Packet { sender, sequence_id, payload, .. }) in packets.iter().enumerate().skip(1) {
            match (sender, command) {
                (Sender::Client, _)
                    if packets[..index].iter().all(|packet| packet.sender == Sender::Server) =>
                {
                    response(payload, &name, &mut compared);
                }
                (Sender::Client, _) => {
                    command = payload.first().copied().filter(|_| *sequence_id == 0);
                }
                (Sender::Server, Some(command_byte)) if *sequence_id == 1 => {
                    first(command_byte, payload, capabilities, &name, &mut compared);
                    generic(payload, capabilities, &name, &mut compared);
                    command = None;
                }
                (Sender::Server, _) => generic(payload, capabilities, &name, &mut compared),
            }
        }
    }
    let kinds = ["greeting", "response", "OK", "OK for EOF", "EOF", "ERR", "PREPARE_OK", "column count"];
    for kind in kinds {
        let count = compared.get(kind).copied().unwrap_or(0);
        assert!(count >= 50, "only {count} compared of {kind}");
    }
}
