//! The rules of the protocol that end inspection when a peer breaks them.

use std::fmt;

use crate::event::Sender;
use crate::mysql::wire::types::ParseError;

/// A rule that a peer broke, and the field of the packet that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The broken rule.
    pub rule: Rule,
    /// `None` if the packet as a whole breaks the rule.
    pub error: Option<ParseError>,
}

/// Declares the rules, each with the peer that has to keep it, its name in a log, and its text.
macro_rules! rules {
    ($($name:ident, $peer:ident, $label:literal, $text:literal;)*) => {
        /// A rule of the protocol, as far as the filter relies on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule {
            $(#[doc = $text] $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The peer that has to keep it.
            #[must_use]
            pub const fn peer(self) -> Sender {
                match self {
                    $(Self::$name => Sender::$peer,)*
                }
            }

            /// Its name in a log.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// Its text in a log.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

rules! {
    HandshakeResponse, Client, "handshake_response", "the handshake response has the sequence id 1 and all of its fixed fields";
    AuthenticationTurn, Client, "authentication_turn", "each packet of an authentication follows a packet of the server, with the next sequence id";
    CommandId, Client, "command_id", "a packet whose sequence id is not 0 belongs to a file or an authentication that the server asked for";
    KnownCommand, Client, "known_command", "with block_local_infile, a packet with the sequence id 0 is a command that clients send";
    AccountInFile, Client, "account_in_file", "a piece of a file does not look like a COM_CHANGE_USER, where the account matters";
    NothingAfterQuit, Client, "nothing_after_quit", "nothing follows a COM_QUIT whose sequence id is not 0, where the account matters";
    ChangeUserContent, Client, "change_user_content", "a COM_CHANGE_USER names its account, where responses are not read";
    ClientFragment, Client, "client_fragment", "the fragments of a packet have consecutive sequence ids";
    ServerFragment, Server, "server_fragment", "the fragments of a packet have consecutive sequence ids";
    GreetingThenClient, Server, "greeting_then_client", "after the greeting the client sends the next packet";
    AuthenticationPacket, Server, "authentication_packet", "a packet of an authentication begins with 0x00, 0x01, 0x02, 0xfe or 0xff";
    NothingAfterRefusal, Server, "nothing_after_refusal", "with block_local_infile, nothing follows an ERR that ends the connection phase";
    SecondGreeting, Server, "second_greeting", "the greeting after an empty COM_CHANGE_USER can be read";
    SequenceId, Server, "sequence_id", "a response continues the sequence ids of its command";
    Response, Server, "response", "a packet is valid at its place in the response to the command";
    Unsolicited, Server, "unsolicited", "a packet outside a response is an ERR";
    Error, Server, "error", "an ERR packet has an error number";
    PacketLength, Server, "packet_length", "with block_local_infile, a packet that no command expects has at most 32 KiB";
}

impl From<Rule> for Violation {
    fn from(rule: Rule) -> Self {
        Self { rule, error: None }
    }
}

/// Writes `key=value` for a log. Only the value of an integer field comes from a peer.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, error } = self;
        write!(f, "peer={} rule={} expected=\"{}\"", rule.peer().label(), rule.label(), rule.text())?;
        match error {
            None => Ok(()),
            Some(ParseError::Truncated { field }) => write!(f, " field=\"{field}\" found=truncated"),
            Some(ParseError::Invalid { field, value }) => write!(f, " field=\"{field}\" found={value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_are_distinct_and_texts_need_no_escapes() {
        let labels: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.label()).collect();
        assert_eq!(labels.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert!(!rule.text().contains(['"', '\\']), "{rule:?}");
        }
    }

    #[test]
    fn a_violation_names_peer_rule_and_field() {
        let text = Violation::from(Rule::Unsolicited).to_string();
        assert_eq!(text, r#"peer=server rule=unsolicited expected="a packet outside a response is an ERR""#);
        let error = Some(ParseError::Invalid { field: "column_count", value: 0 });
        let text = Violation { rule: Rule::Response, error }.to_string();
        assert!(text.ends_with(r#" field="column_count" found=0"#), "{text}");
    }
}
