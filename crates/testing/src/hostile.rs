//! Responses of a hostile server: responses of an honest server with changes, packets that no honest server sends, and file
//! requests between them.

use std::fmt;

use super::packets::*;
use super::random::Random;

/// `SERVER_PS_OUT_PARAMS`.
const PS_OUT_PARAMS: u16 = 0x1000;
/// `SERVER_SESSION_STATE_CHANGED`.
const SESSION_STATE_CHANGED: u16 = 0x4000;
/// MariaDB's progress reports are ERR packets with this number.
const PROGRESS: u16 = 0xffff;

/// The sequence id of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    Next,
    /// The id after the next.
    Skip,
    Fixed(u8),
}

/// A part of a hostile response.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    Packet(Id, Vec<u8>),
    /// The same packet several times, until the next sequence id is this one.
    Until(u8, Vec<u8>),
    /// Bytes that need not be packets.
    Raw(Vec<u8>),
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |bytes: &[u8]| {
            let hex: String = bytes.iter().take(100).map(|byte| format!("{byte:02x}")).collect();
            if bytes.len() > 100 { format!("{hex}... ({} bytes)", bytes.len()) } else { hex }
        };
        match self {
            Self::Packet(Id::Next, payload) => write!(f, "{}", bytes(payload)),
            Self::Packet(id, payload) => write!(f, "{id:?} {}", bytes(payload)),
            Self::Until(id, payload) => write!(f, "until the next id is {id}: {}", bytes(payload)),
            Self::Raw(raw) => write!(f, "raw {}", bytes(raw)),
        }
    }
}

/// The sequence ids of a server's packets.
#[derive(Debug, Default)]
pub struct Numbers {
    pub next: u8,
}

impl Numbers {
    pub fn bytes(&mut self, piece: &Piece) -> Vec<u8> {
        match piece {
            Piece::Raw(bytes) => bytes.clone(),
            Piece::Packet(id, payload) => {
                let id = match id {
                    Id::Next => self.next,
                    Id::Skip => self.next.wrapping_add(1),
                    Id::Fixed(id) => *id,
                };
                self.next = id.wrapping_add((payload.len() / MAX_FRAGMENT + 1) as u8);
                packet(id, payload)
            }
            Piece::Until(id, payload) => {
                let mut bytes = Vec::new();
                while self.next != *id {
                    bytes.extend(packet(self.next, payload));
                    self.next = self.next.wrapping_add(1);
                }
                bytes
            }
        }
    }
}

/// Parameters of hostile responses.
#[derive(Clone, Debug)]
pub struct Style {
    pub deprecate_eof: bool,
    /// True if a byte after the column count shows whether definitions follow.
    pub optional_metadata: bool,
    /// The file that is requested.
    pub file: String,
    /// True if some responses have packets of 16 MiB.
    pub has_long: bool,
}

impl Style {
    /// A hostile response to a command.
    pub fn response(&self, command: u8, random: &mut Random) -> Vec<Piece> {
        if random.below(8) == 0 {
            // Strict clients accept a file request only as the whole response.
            return vec![Piece::Packet(Id::Next, local_infile(&self.file))];
        }
        let honest = self.honest(command, random);
        let mut pieces: Vec<_> = honest.into_iter().map(|payload| Piece::Packet(Id::Next, payload)).collect();
        for _ in 0..*pick(random, &[0, 0, 1, 1, 1, 2, 3]) {
            self.change(&mut pieces, random);
        }
        if random.below(3) > 0 {
            let at = if random.below(2) == 0 { pieces.len() } else { random.below(pieces.len() + 1) };
            let id = self.id(random);
            let mut request = vec![Piece::Packet(id, local_infile(&self.file))];
            if random.below(4) == 0 {
                // Clients that check sequence ids accept a request only with the id 1.
                let before = *pick(random, &[1, 1, 1, 0, 2, 255]);
                request.insert(0, Piece::Until(before, self.row(random)));
                if random.below(2) == 0 {
                    request.insert(0, Piece::Until(before.wrapping_sub(1), self.row(random)));
                    request[1] = Piece::Packet(Id::Next, self.any(random));
                }
            }
            pieces.splice(at..at, request);
        }
        pieces
    }

    /// Hostile packets without a command.
    pub fn unsolicited(&self, random: &mut Random) -> Vec<Piece> {
        let count = 1 + random.below(2);
        (0..count).map(|_| Piece::Packet(self.id(random), self.any(random))).collect()
    }

    fn id(&self, random: &mut Random) -> Id {
        match random.below(12) {
            0 => Id::Fixed(0),
            1 | 2 => Id::Fixed(1),
            3 => Id::Fixed(255),
            4 => Id::Skip,
            _ => Id::Next,
        }
    }

    fn change(&self, pieces: &mut Vec<Piece>, random: &mut Random) {
        let at = random.below(pieces.len() + 1);
        let new = Piece::Packet(self.id(random), self.any(random));
        let Some(piece) = pieces.get_mut(at) else { return pieces.push(new) };
        match random.below(8) {
            0 | 1 => *piece = new,
            2 | 3 => pieces.insert(at, new),
            4 => drop(pieces.remove(at)),
            5 => pieces.truncate(at),
            6 => {
                let again = piece.clone();
                pieces.insert(at, again);
            }
            _ => {
                if let Piece::Packet(id, payload) = piece {
                    *id = self.id(random);
                    damage(payload, random);
                }
            }
        }
    }

    fn row(&self, random: &mut Random) -> Vec<u8> {
        match random.below(6) {
            0 => binary_row("1"),
            1 => vec![0xfb],
            2 => progress(random),
            _ => row(&["1"]),
        }
    }

    fn count(&self, columns: u8) -> Vec<u8> {
        if self.optional_metadata { vec![columns, 1] } else { vec![columns] }
    }

    fn end(&self, status: u16) -> Vec<u8> {
        if self.deprecate_eof { ok_as_eof(status) } else { eof(status) }
    }

    /// The payloads of an honest response.
    fn honest(&self, command: u8, random: &mut Random) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        match command {
            COM_STMT_PREPARE => {
                let (columns, params) = (random.below(3) as u16, random.below(2) as u16);
                payloads.push(prepare_ok(columns, params));
                for group in [params, columns].into_iter().filter(|count| *count > 0) {
                    payloads.extend((0..group).map(|_| column_def("a")));
                    payloads.extend((!self.deprecate_eof).then(|| eof(AUTOCOMMIT)));
                }
            }
            COM_QUERY | COM_STMT_EXECUTE => loop {
                let more = *pick(random, &[0, 0, 0, 0, 0, MORE_RESULTS, PS_OUT_PARAMS]);
                let status = more | *pick(random, &[AUTOCOMMIT, AUTOCOMMIT, CURSOR_EXISTS]);
                if random.below(2) == 0 {
                    payloads.push(ok_with(0, status));
                } else {
                    self.result_set(command, status, &mut payloads, random);
                }
                if more == 0 || payloads.len() > 40 {
                    return payloads;
                }
            },
            // The text of COM_STATISTICS.
            0x09 => payloads.push(b"Uptime: 7".to_vec()),
            _ => payloads.push(pick(random, &[ok(), ok(), ok(), eof(AUTOCOMMIT), err(1064)]).clone()),
        }
        payloads
    }

    fn result_set(&self, command: u8, status: u16, payloads: &mut Vec<Vec<u8>>, random: &mut Random) {
        let columns = 1 + random.below(2) as u8;
        payloads.push(self.count(columns));
        payloads.extend((0..columns).map(|_| column_def("a")));
        payloads.extend((!self.deprecate_eof).then(|| eof(status)));
        let text = [row(&["1"]), row(&["1", "2"])];
        for _ in 0..random.below(3) {
            let binary = command == COM_STMT_EXECUTE;
            payloads.push(if binary { binary_row("1") } else { text[usize::from(columns - 1)].clone() });
        }
        payloads.push(self.end(status));
    }

    /// Any packet, honest or not.
    pub fn any(&self, random: &mut Random) -> Vec<u8> {
        let status = *pick(
            random,
            &[AUTOCOMMIT, AUTOCOMMIT, MORE_RESULTS, CURSOR_EXISTS, PS_OUT_PARAMS, SESSION_STATE_CHANGED],
        );
        let mut payload = match random.below(24) {
            0 => ok_with(random.below(3) as u8, status),
            1 => ok_as_eof(status),
            2 => eof(status),
            3 => err(1064),
            4 => progress(random),
            5 => self.count(random.below(4) as u8),
            6 => odd_count(random),
            7 => [odd_count(random), vec![random.below(2) as u8]].concat(),
            8 | 9 => column_def("a"),
            10 => row(&["1"]),
            11 => vec![0xfb],
            12 => [b"\xfb\x01", &b"2"[..]].concat(),
            13 => binary_row("1"),
            14 => prepare_ok(random.below(3) as u16, random.below(3) as u16),
            15 => pick(random, &[prepare_ok(u16::MAX, 0), prepare_ok(0, u16::MAX), prepare_ok(1, u16::MAX)])
                .clone(),
            16 => auth_switch(["mysql_native_password", "mysql_clear_password", "dialog"][random.below(3)]),
            17 => handshake_v10("5.5.5-10.11.19-MariaDB", MARIADB_CAPABILITIES),
            18 => Vec::new(),
            19 => vec![*pick(random, &[0x00, 0x01, 0x02, 0x03, 0xfc, 0xfd, 0xfe, 0xff])],
            20 => [vec![0xfe; 9], b"long".to_vec()].concat(),
            21 => [&[0xff][..], &[0xff, 0xff]].concat(),
            22 if self.has_long => {
                vec![*pick(random, &[0x00, 0xfa, 0xfd, 0xfe]); MAX_FRAGMENT + random.below(2)]
            }
            _ => local_infile(&self.file),
        };
        if random.below(8) == 0 && payload.len() < 1000 {
            damage(&mut payload, random);
        }
        payload
    }

    /// Bytes in the place of a packet: a header alone, a wrong length, fragments out of sequence.
    pub fn broken(&self, random: &mut Random) -> Piece {
        let request = packet(1, &local_infile(&self.file));
        let bytes = match random.below(4) {
            0 => request[..1 + random.below(5)].to_vec(),
            1 => vec![0xff, 0xff, 0xff, 1, 0xfe, 0, 0],
            2 => [&request[..4], &request].concat(),
            _ => vec![0; 4],
        };
        Piece::Raw(bytes)
    }
}

/// A column count that different clients read differently.
fn odd_count(random: &mut Random) -> Vec<u8> {
    const COUNTS: [&[u8]; 12] = [
        &[0xfc, 0, 0],
        &[0xfc, 1, 0],
        &[0xfc, 0xfb, 0],
        &[0xfc, 0, 1],
        &[0xfd, 0, 0, 0],
        &[0xfd, 1, 0, 0],
        &[0xfd, 0, 0, 1],
        &[0xfe, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xfe, 1, 0, 0, 0, 0, 0, 0, 0],
        &[0xfe, 0, 0, 0, 0, 1, 0, 0, 0],
        &[0xfe, 0, 0, 0, 0x80, 0, 0, 0, 0],
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    let count = pick(random, &COUNTS).to_vec();
    // After a count of 0 some clients read the rest of an OK.
    if random.below(2) == 0 { count } else { [&count[..], &[0, 0, 2, 0, 0, 0]].concat() }
}

/// A progress report of MariaDB. Many are malformed.
pub fn progress(random: &mut Random) -> Vec<u8> {
    let [low, high] = PROGRESS.to_le_bytes();
    const REPORTS: [&[u8]; 4] =
        [b"\x01\x01\x02\x10\0\0\x04copy", b"\x01\x01\x01\0\0\0\xf0", b"", b"\x01\x01"];
    [&[0xff, low, high], *pick(random, &REPORTS)].concat()
}

fn damage(payload: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(payload.len() + 1);
    match random.below(4) {
        0 => payload.truncate(at),
        1 => payload.insert(at, random.next() as u8),
        2 => payload.extend([0, 0]),
        _ => {
            if let Some(byte) = payload.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
    }
}

/// Returns a random element.
pub fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[random.below(of.len())]
}
