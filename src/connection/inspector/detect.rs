//! Detection of the peer that speaks first, and of its protocol. It reads the first bytes while they are forwarded, and
//! never holds a byte to see more.

use super::banner::{self, Banner, Reply};
use crate::event::{ClientFirst, ServerFirst};
use crate::mysql::wire::handshake::{ERR, PROTOCOL_V9, PROTOCOL_V10};

/// Maximum number of first bytes that a decision needs.
const MAX_FIRST_BYTES: usize = 16;
/// Number of bytes that identify a server's first line as a reply.
const REPLY_CODE_LEN: usize = 4;
/// Maximum length of a greeting. Real greetings are far shorter, and text read as a packet header gives far larger lengths.
const MAX_GREETING_LEN: u32 = 0xffff;

/// Meaning of the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// There are too few bytes.
    Undecided,
    /// The server began with a MySQL packet that opens a connection.
    Mysql,
    /// The server spoke first, in another protocol.
    ServerFirst(ServerFirst),
    /// The client spoke first.
    ClientFirst(ClientFirst),
}

/// First bytes of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detector {
    bytes: [u8; MAX_FIRST_BYTES],
    len: usize,
    client_first: bool,
    reply: Reply,
}

/// First bytes of client-first protocols.
const CLIENT_FIRST: &[(&[u8], ClientFirst)] = &[
    (b"PROXY ", ClientFirst::ProxyV1),
    (b"\r\n\r\n\0\r\nQUIT\n", ClientFirst::ProxyV2),
    (b"\x16\x03", ClientFirst::Tls),
    (b"GET ", ClientFirst::Http),
    (b"POST ", ClientFirst::Http),
    (b"PUT ", ClientFirst::Http),
    (b"HEAD ", ClientFirst::Http),
    (b"PATCH ", ClientFirst::Http),
    (b"DELETE ", ClientFirst::Http),
    (b"OPTIONS ", ClientFirst::Http),
    (b"CONNECT ", ClientFirst::Http),
    (b"TRACE ", ClientFirst::Http),
    (b"PRI * HTTP/2.0", ClientFirst::Http),
];

impl Detector {
    /// Takes bytes of the client. They have no effect once the server has spoken.
    pub fn client_bytes(&mut self, bytes: &[u8]) -> Detection {
        if !self.client_first && self.len > 0 {
            return self.finish();
        }
        self.client_first = true;
        self.push(bytes);
        let seen = self.seen();
        if banner::is_ssh(seen) {
            return Detection::ServerFirst(ServerFirst::Ssh);
        }
        if let Some((_, kind)) = CLIENT_FIRST.iter().find(|(start, _)| seen.starts_with(start)) {
            return Detection::ClientFirst(*kind);
        }
        match is_mysqlx(seen) {
            Some(true) => Detection::ClientFirst(ClientFirst::MysqlX),
            None => Detection::Undecided,
            Some(false) if CLIENT_FIRST.iter().any(|(start, _)| start.starts_with(seen)) => {
                Detection::Undecided
            }
            Some(false) if banner::may_be_ssh(seen) => Detection::Undecided,
            Some(false) => Detection::ClientFirst(ClientFirst::Other),
        }
    }

    /// Takes bytes of the server. They have no effect once the client has spoken.
    pub fn server_bytes(&mut self, bytes: &[u8]) -> Detection {
        if self.client_first {
            return self.finish();
        }
        let before = self.len;
        self.push(bytes);
        match self.seen() {
            [l0, l1, l2, 0, first, ..] => {
                let length = u32::from_le_bytes([*l0, *l1, *l2, 0]);
                let opens = matches!(*first, PROTOCOL_V10 | PROTOCOL_V9 | ERR);
                let mysql = opens && (1..=MAX_GREETING_LEN).contains(&length);
                if mysql { Detection::Mysql } else { Detection::ServerFirst(ServerFirst::Other) }
            }
            // A packet header without its payload.
            [_, _, _, 0] => Detection::Undecided,
            [] | [_] | [_, _] | [_, _, _] => Detection::Undecided,
            seen => match banner::classify(seen) {
                Banner::Undecided => Detection::Undecided,
                Banner::Known(kind) => Detection::ServerFirst(kind),
                Banner::Other => Detection::ServerFirst(ServerFirst::Other),
                Banner::Reply => {
                    let start = self.bytes.get(..before.min(MAX_FIRST_BYTES)).unwrap_or_default();
                    let start = if before < REPLY_CODE_LEN { start } else { &[] };
                    let mut reply = self.reply;
                    let found = reply.take(start).or_else(|| reply.take(bytes));
                    self.reply = reply;
                    found.map_or(Detection::Undecided, Detection::ServerFirst)
                }
            },
        }
    }

    /// Returns the decision when no more bytes of the first speaker count: the connection ends, or the other peer speaks.
    #[must_use]
    pub fn finish(&self) -> Detection {
        match (self.client_first, self.len) {
            (_, 0) => Detection::Undecided,
            (true, _) => Detection::ClientFirst(ClientFirst::Other),
            (false, _) => Detection::ServerFirst(ServerFirst::Other),
        }
    }

    /// The first bytes that have arrived, at most 16.
    #[must_use]
    pub fn seen(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *slot = *byte;
            self.len = self.len.saturating_add(1);
        }
    }
}

/// True if the bytes are those of an X Protocol client. `None` if there are too few bytes.
///
/// Such a client begins with a 4-byte length, which includes the type, and the type CapabilitiesGet (1), CapabilitiesSet (2)
/// or AuthenticateStart (4).
fn is_mysqlx(seen: &[u8]) -> Option<bool> {
    match seen {
        [_, _, 0, 0, kind, ..] => Some(matches!(kind, 1 | 2 | 4)),
        [_, _, 0, 0] | [_, _, 0] => None,
        [_] | [_, _] => None,
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the decision about bytes that arrive one by one, and the number of bytes that it needed.
    fn client(bytes: &[u8]) -> (Detection, usize) {
        let mut detector = Detector::default();
        for (index, byte) in bytes.iter().enumerate() {
            let detection = detector.client_bytes(&[*byte]);
            if detection != Detection::Undecided {
                assert_eq!(Detector::default().client_bytes(bytes), detection, "whole and byte by byte");
                return (detection, index + 1);
            }
        }
        (detector.finish(), bytes.len())
    }

    #[test]
    fn first_bytes_of_a_client_identify_its_protocol() {
        let cases: [(&[u8], ClientFirst, usize); 9] = [
            (b"PROXY TCP4 1.2.3.4", ClientFirst::ProxyV1, 6),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", ClientFirst::ProxyV2, 12),
            (b"\x16\x03\x01\x02\0\x01", ClientFirst::Tls, 2),
            (b"GET / HTTP/1.1\r\n", ClientFirst::Http, 4),
            (b"PRI * HTTP/2.0\r\n", ClientFirst::Http, 14),
            (b"\x05\0\0\0\x01\x08\x05\x1a\0", ClientFirst::MysqlX, 5),
            (b"*1\r\n$4\r\nPING\r\n", ClientFirst::Other, 3),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", ClientFirst::Other, 4),
            (b"PROXX", ClientFirst::Other, 5),
        ];
        for (bytes, kind, after) in cases {
            assert_eq!(client(bytes), (Detection::ClientFirst(kind), after), "{bytes:?}");
        }
    }

    #[test]
    fn a_greeting_or_an_error_of_the_server_is_mysql() {
        let mut detector = Detector::default();
        for byte in b"\x4a\0\0\0" {
            assert_eq!(detector.server_bytes(&[*byte]), Detection::Undecided);
        }
        assert_eq!(detector.server_bytes(b"\x0a"), Detection::Mysql);
        let detect = |bytes: &[u8]| Detector::default().server_bytes(bytes);
        assert_eq!(detect(b"\x4a\0\0\0\x0a5.5.5"), Detection::Mysql);
        assert_eq!(detect(b"\x17\0\0\0\xff\x10\x04Too many"), Detection::Mysql);
        let other = Detection::ServerFirst(ServerFirst::Other);
        assert_eq!(detect(b"\x4a\0\0\x01\x0a5.5.5"), other);
        assert_eq!(detect(b"\x0a\0\0\0\x0b\x08\x05\x1a\0"), other, "an X Protocol notice");
    }

    /// The same for bytes of a server.
    fn server(bytes: &[u8]) -> (Detection, usize) {
        let mut detector = Detector::default();
        for (index, byte) in bytes.iter().enumerate() {
            let detection = detector.server_bytes(&[*byte]);
            if detection != Detection::Undecided {
                assert_eq!(Detector::default().server_bytes(bytes), detection, "whole and byte by byte");
                return (detection, index + 1);
            }
        }
        (detector.finish(), bytes.len())
    }

    #[test]
    fn banners_identify_other_server_first_protocols() {
        use ServerFirst::{Ftp, Imap, Nntp, Other, Pop3, Rfb, Smtp, Ssh};
        let cases: [(&[u8], ServerFirst, usize); 20] = [
            (b"220 mail.example.com ESMTP Postfix\r\n", Smtp, 26),
            (b"220 mail.example.com LMTP ready\r\n", Smtp, 25),
            (b"220-relay.example.com says\r\n220 ESMTP\r\n", Smtp, 37),
            (b"554 mail.example.com no\r\n", Smtp, 4),
            (b"421 too many connections of smtp clients\r\n", Smtp, 32),
            (b"220 (vsFTPd 3.0.3)\r\n", Ftp, 10),
            (b"220---------- Welcome to Pure-FTPd [privsep] ----------\r\n", Ftp, 33),
            (b"220-FileZilla Server 1.7.0\r\n220-Please visit us\r\n220 an FTP server\r\n", Ftp, 59),
            (b"220 mail.example.com\r\n", Other, 22),
            (b"220-one\r\n  two\r\n220 three\r\nand an FTP server\r\n", Other, 27),
            (b"+OK Dovecot ready.\r\n", Pop3, 4),
            (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", Imap, 4),
            (b"* PREAUTH IMAP4rev1 server\r\n", Imap, 9),
            (b"* BYE no\r\n", Imap, 5),
            (b"200 news.example.com\r\n", Nntp, 4),
            (b"201 news.example.com\r\n", Nntp, 4),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Ssh, 4),
            (b"RFB 003.008\n", Rfb, 4),
            (b"@RSYNCD: 31.0\n", Other, 4),
            (b"* PROXY\n", Other, 5),
        ];
        for (bytes, kind, after) in cases {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(server(bytes), (Detection::ServerFirst(kind), after), "{text}");
        }
        let endless = [&b"220-"[..], &[b'x'; 2000]].concat();
        assert_eq!(server(&endless), (Detection::ServerFirst(Other), 1024));
    }

    #[test]
    fn an_ssh_client_that_speaks_first_is_detected_as_ssh() {
        assert_eq!(client(b"SSH-2.0-OpenSSH_9.2\r\n"), (Detection::ServerFirst(ServerFirst::Ssh), 4));
        assert_eq!(client(b"SSX"), (Detection::ClientFirst(ClientFirst::Other), 3));
    }

    #[test]
    fn a_greeting_after_bytes_of_the_client_is_not_mysql() {
        let mut detector = Detector::default();
        assert_eq!(detector.client_bytes(b"P"), Detection::Undecided);
        let detection = detector.server_bytes(b"\x4a\0\0\0\x0a5.5.5");
        assert_eq!(detection, Detection::ClientFirst(ClientFirst::Other));
    }

    #[test]
    fn a_client_that_interrupts_the_server_has_not_spoken_first() {
        let mut detector = Detector::default();
        assert_eq!(detector.server_bytes(b"22"), Detection::Undecided);
        let detection = detector.client_bytes(b"GET / HTTP/1.1");
        assert_eq!(detection, Detection::ServerFirst(ServerFirst::Other));
    }

    #[test]
    fn a_silent_connection_is_undecided() {
        assert_eq!(Detector::default().finish(), Detection::Undecided);
    }
}
