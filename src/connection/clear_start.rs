//! The start of a connection whose client's TLS ends in another listener of the same proxy.
//!
//! A client of MySQL speaks without TLS until it has sent its SSLRequest, and then begins TLS at once. One listener of a proxy
//! cannot take both: what it has read without TLS never reaches its TLS. So one listener takes the client's connection, and
//! connects to a second listener, which ends TLS and connects to the server. This is the filter of the first listener. Its
//! partner is the filter of the second one.
//!
//! | state   | client                                          | partner                   | second listener       |
//! |---------|-------------------------------------------------|---------------------------|-----------------------|
//! | Waiting | any byte: closed                                | greeting: forwarded       | any byte: closed      |
//! | Greeted | SSLRequest: handed over to the partner, alone   | forwarded                 | any byte: closed      |
//! |         | any other packet: refused with an error         |                           |                       |
//! | Started | forwarded: TLS                                  | dropped                   | forwarded: TLS        |
//! | Refused | closed                                          | dropped                   | dropped               |

use crate::connection::chunk::{Chunk, ClientVerdict, Edit, HandOver, Reply, ServerVerdict};
use crate::connection::stages::greeting_flags::{SSL_AT, SSL_FLAG};
use crate::event::{Event, TlsResult, TlsSide};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::packet::HEADER_LEN;
use crate::mysql::wire::response::error_packet;

/// Length of the payload of an SSLRequest.
const PAYLOAD_LEN: usize = 32;
const REQUEST_LEN: usize = HEADER_LEN.saturating_add(PAYLOAD_LEN);
/// Offset of the byte with `CLIENT_SSL`.
const FLAG_AT: usize = HEADER_LEN.saturating_add(SSL_AT);
/// `ER_SECURE_TRANSPORT_REQUIRED`.
const ERRNO: u16 = 3159;
const SQL_STATE: &[u8] = b"HY000";
const MESSAGE: &[u8] =
    b"Connect with TLS: the proxy ends TLS, and accepts no client without it (tls.downstream is terminate)";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The server has not greeted.
    Waiting,
    /// The client has got a greeting.
    Greeted,
    /// The client has sent its SSLRequest.
    Started,
    /// The connection forwards nothing more.
    Refused,
}

/// Start of one connection.
#[derive(Debug)]
pub struct ClearStart {
    state: State,
}

impl Default for ClearStart {
    fn default() -> Self {
        Self { state: State::Waiting }
    }
}

impl ClearStart {
    /// Takes bytes of the client, which begin with the bytes that were held before. `end_stream`: no bytes follow.
    pub fn client(&mut self, chunk: &impl Chunk, end_stream: bool, events: &mut Vec<Event>) -> ClientVerdict {
        match self.state {
            State::Started => ClientVerdict::Pass,
            _ if chunk.is_empty() => ClientVerdict::Pass,
            State::Greeted => self.request(chunk, end_stream, events),
            State::Waiting => {
                self.refuse(TlsResult::Refused, events);
                ClientVerdict::Close
            }
            State::Refused => ClientVerdict::Close,
        }
    }

    /// Takes bytes of the second listener.
    pub fn server(&mut self, chunk: &impl Chunk, events: &mut Vec<Event>) -> ServerVerdict {
        if self.state == State::Started || chunk.is_empty() {
            return ServerVerdict::Pass;
        }
        if self.state != State::Refused {
            self.refuse(TlsResult::Failed, events);
        }
        ServerVerdict::Edit(Edit { drain: chunk.len(), prepend: Vec::new() })
    }

    /// Takes the server's bytes from the partner. Returns true if the host must send them to the client.
    pub fn handed_over(&mut self) -> bool {
        let is_clear = matches!(self.state, State::Waiting | State::Greeted);
        if is_clear {
            self.state = State::Greeted;
        }
        is_clear
    }

    /// True if the host must close the connection.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    fn refuse(&mut self, result: TlsResult, events: &mut Vec<Event>) {
        self.state = State::Refused;
        events.push(Event::Tls { side: TlsSide::Downstream, result });
    }

    /// Takes the first packet of the client, or its beginning.
    fn request(&mut self, chunk: &impl Chunk, end_stream: bool, events: &mut Vec<Event>) -> ClientVerdict {
        let start = chunk.read(0, REQUEST_LEN).unwrap_or_default();
        let header = [PAYLOAD_LEN as u8, 0, 0, 1];
        let is_possible = start.iter().zip(header).all(|(byte, expected)| *byte == expected);
        let asks = start.get(FLAG_AT).is_none_or(|flags| flags & SSL_FLAG != 0);
        if is_possible && asks {
            return match start.first_chunk::<REQUEST_LEN>() {
                Some(request) => {
                    self.state = State::Started;
                    let edit = Edit { drain: REQUEST_LEN, prepend: Vec::new() };
                    ClientVerdict::HandOver(Box::new(HandOver { edit, bytes: request.to_vec() }))
                }
                None if end_stream => {
                    self.refuse(TlsResult::Refused, events);
                    ClientVerdict::Close
                }
                None => ClientVerdict::Hold,
            };
        }
        let result = match start.first_chunk() {
            Some([_, _, _, 1, _, flags]) if flags & SSL_FLAG == 0 => TlsResult::NotRequested,
            None if !end_stream => return ClientVerdict::Hold,
            _ => TlsResult::Refused,
        };
        self.refuse(result, events);
        let edit = Edit { drain: chunk.len(), prepend: Vec::new() };
        let id = start.get(HEADER_LEN.saturating_sub(1)).map_or(1, |id| id.wrapping_add(1));
        let bytes = error_packet(id, Capabilities::PROTOCOL_41, ERRNO, SQL_STATE, MESSAGE);
        ClientVerdict::Reply(Box::new(Reply { edit, bytes, closes: true }))
    }
}
