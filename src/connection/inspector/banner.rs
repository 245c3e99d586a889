//! The first words of servers that speak first in other protocols than MySQL's.

use crate::event::ServerFirst;

/// How the first line of a server begins that needs no more to be known.
const FIRST_WORDS: &[(&[u8], ServerFirst)] = &[
    (b"SSH-", ServerFirst::Ssh),       // RFC 4253, section 4.2
    (b"RFB ", ServerFirst::Rfb),       // RFC 6143, section 7.1.1
    (b"+OK", ServerFirst::Pop3),       // RFC 1939, section 4
    (b"* OK", ServerFirst::Imap),      // RFC 9051, section 7.1
    (b"* PREAUTH", ServerFirst::Imap), // RFC 9051, section 7.1.4
    (b"* BYE", ServerFirst::Imap),     // RFC 9051, section 7.1.5
    (b"200 ", ServerFirst::Nntp),      // RFC 3977, section 5.1: posting allowed
    (b"201 ", ServerFirst::Nntp),      // posting prohibited
    (b"554 ", ServerFirst::Smtp),      // RFC 5321, section 3.1: no service
];

/// "Service ready" and "service not available", of SMTP (RFC 5321, section 4.2) as of FTP (RFC 959,
/// section 5.4): only the words behind them tell the two apart.
const REPLIES: &[&[u8]] = &[b"220 ", b"220-", b"421 ", b"421-"];

/// So much of a reply is looked at, all its lines together. RFC 5321 gives a line 512 bytes.
const REPLY_LIMIT: u16 = 1024;

/// What the first bytes of a server say.
pub(in crate::connection) enum FirstWord {
    /// They are the beginning of some first words.
    Undecided,
    /// They are known.
    Known(ServerFirst),
    /// A reply of SMTP or FTP: see [`Reply`].
    Reply,
    /// None of these.
    Other,
}

/// Looks at the first bytes of a server.
pub(in crate::connection) fn first_word(seen: &[u8]) -> FirstWord {
    if let Some((_, kind)) = FIRST_WORDS.iter().find(|(word, _)| seen.starts_with(word)) {
        return FirstWord::Known(*kind);
    }
    if REPLIES.iter().any(|reply| seen.starts_with(reply)) {
        return FirstWord::Reply;
    }
    let mut words = FIRST_WORDS.iter().map(|(word, _)| *word).chain(REPLIES.iter().copied());
    if words.any(|word| word.starts_with(seen)) { FirstWord::Undecided } else { FirstWord::Other }
}

/// A client begins with the same words as its server: SSH lets both speak at once.
pub(in crate::connection) fn is_ssh(seen: &[u8]) -> bool {
    seen.starts_with(b"SSH-")
}

/// `seen` can still become what [`is_ssh`].
pub(in crate::connection) fn may_be_ssh(seen: &[u8]) -> bool {
    b"SSH-".starts_with(seen)
}

/// Looks for the name of the protocol in a server's first reply, which may have several lines.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::connection) struct Reply {
    /// The last bytes, in upper case, the newest lowest.
    tail: u32,
    /// The first bytes of the line, the newest lowest.
    code: u32,
    column: u16,
    looked_at: u16,
}

impl Reply {
    /// Takes more of the reply. None: there is more to come.
    pub(in crate::connection) fn take(&mut self, bytes: &[u8]) -> Option<ServerFirst> {
        for byte in bytes {
            self.tail = self.tail.wrapping_shl(8) | u32::from(byte.to_ascii_uppercase());
            let [_, name @ ..] = self.tail.to_be_bytes();
            match self.tail.to_be_bytes() {
                [b'S' | b'L', b'M', b'T', b'P'] => return Some(ServerFirst::Smtp),
                _ if name == *b"FTP" => return Some(ServerFirst::Ftp),
                _ => {}
            }
            self.looked_at = self.looked_at.saturating_add(1);
            let is_last_line = matches!(self.code.to_be_bytes(), [b'2' | b'4', b'2', b'0' | b'1', b' ']);
            if self.looked_at >= REPLY_LIMIT || *byte == b'\n' && is_last_line {
                return Some(ServerFirst::Other);
            }
            if *byte == b'\n' {
                (self.code, self.column) = (0, 0);
            } else if self.column < 4 {
                self.code = self.code.wrapping_shl(8) | u32::from(*byte);
                self.column = self.column.saturating_add(1);
            }
        }
        None
    }
}
