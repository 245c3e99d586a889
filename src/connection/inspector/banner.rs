//! Banners: the first bytes of server-first protocols other than MySQL.

use crate::event::ServerFirst;

/// Beginnings of banners that identify the protocol by themselves.
const BANNERS: &[(&[u8], ServerFirst)] = &[
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

/// Reply codes "service ready" and "service not available". SMTP (RFC 5321, section 4.2) and FTP (RFC 959, section 5.4)
/// share them, so only the text after the code shows the protocol.
const REPLIES: &[&[u8]] = &[b"220 ", b"220-", b"421 ", b"421-"];

/// Maximum number of bytes of a reply that are inspected, all its lines together. RFC 5321 allows 512 bytes in a line.
const MAX_REPLY_LEN: u16 = 1024;

/// Meaning of the first bytes of a server.
pub(in crate::connection) enum Banner {
    /// They are the beginning of a known banner.
    Undecided,
    /// They identify the protocol.
    Known(ServerFirst),
    /// They begin a reply of SMTP or FTP: see [`Reply`].
    Reply,
    /// They begin no known banner.
    Other,
}

/// Classifies the first bytes of a server.
pub(in crate::connection) fn classify(seen: &[u8]) -> Banner {
    if let Some((_, kind)) = BANNERS.iter().find(|(banner, _)| seen.starts_with(banner)) {
        return Banner::Known(*kind);
    }
    if REPLIES.iter().any(|reply| seen.starts_with(reply)) {
        return Banner::Reply;
    }
    let mut banners = BANNERS.iter().map(|(banner, _)| *banner).chain(REPLIES.iter().copied());
    if banners.any(|banner| banner.starts_with(seen)) { Banner::Undecided } else { Banner::Other }
}

/// True if the bytes are those of SSH. A client and a server of SSH begin with the same bytes, and both may speak at once.
pub(in crate::connection) fn is_ssh(seen: &[u8]) -> bool {
    seen.starts_with(b"SSH-")
}

/// True if more bytes can make `seen` a beginning of SSH.
pub(in crate::connection) fn may_be_ssh(seen: &[u8]) -> bool {
    b"SSH-".starts_with(seen)
}

/// Search for the name of the protocol in a server's first reply, which may have several lines.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::connection) struct Reply {
    /// Last four bytes in upper case. The newest is the lowest.
    tail: u32,
    /// First four bytes of the line. The newest is the lowest.
    code: u32,
    column: u16,
    inspected: u16,
}

impl Reply {
    /// Takes more of the reply. `None` if more bytes are needed.
    pub(in crate::connection) fn take(&mut self, bytes: &[u8]) -> Option<ServerFirst> {
        for byte in bytes {
            self.tail = self.tail.wrapping_shl(8) | u32::from(byte.to_ascii_uppercase());
            let [_, name @ ..] = self.tail.to_be_bytes();
            match self.tail.to_be_bytes() {
                [b'S' | b'L', b'M', b'T', b'P'] => return Some(ServerFirst::Smtp),
                _ if name == *b"FTP" => return Some(ServerFirst::Ftp),
                _ => {}
            }
            self.inspected = self.inspected.saturating_add(1);
            let is_last_line = matches!(self.code.to_be_bytes(), [b'2' | b'4', b'2', b'0' | b'1', b' ']);
            if self.inspected >= MAX_REPLY_LEN || *byte == b'\n' && is_last_line {
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
