//! Data of a command that is needed when its response ends: the account and the schema that it requests, or its statement.
//! If no detail is requested, nothing is stored.

use std::rc::Rc;

use crate::event::details::{Details, UNREADABLE, word};
use crate::mysql::sql::digest::{digest, traceparent};
use crate::mysql::sql::verb::{Verb, schema_of_use};
use crate::mysql::wire::capability::Capabilities;
use crate::mysql::wire::command::Command;
use crate::mysql::wire::handshake::ChangeUser;
use crate::mysql::wire::packet::Packet;
use crate::mysql::wire::query::{statement, traceparent_of_execute, traceparent_of_query};
use crate::rules::{Field, Interests};
use crate::session::statements::Statements;

/// Maximum number of bytes of a command that are inspected: the beginning of a statement, after comments and attributes.
pub(super) const MAX_COMMAND_PREFIX: usize = 512;
/// Maximum number of bytes of a command that are inspected if a digest of its statement is needed.
const MAX_DIGESTED_PREFIX: usize = 1024;

/// An account and a schema that a client requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestedIdentity {
    pub(super) user: Option<String>,
    /// Empty if the client requests to have no schema.
    pub(super) schema: Option<String>,
}

impl RequestedIdentity {
    /// Heap memory in bytes.
    pub(super) fn memory(&self) -> usize {
        capacity(&self.user).saturating_add(capacity(&self.schema))
    }
}

fn capacity(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::capacity)
}

/// The stored data of one command.
#[derive(Debug)]
pub(super) enum PendingCommand {
    /// The account and the schema that it requests. They are in force once the server agrees.
    Identity(RequestedIdentity),
    /// The beginning of a COM_QUERY.
    Query(Box<[u8]>),
    /// The digest of the statement that it prepares or executes, and the `traceparent` of the command.
    Statement { digest: Option<Rc<str>>, traceparent: Option<String> },
}

/// State of a session when the client sends a command.
pub(super) struct Context<'a> {
    pub(super) capabilities: Capabilities,
    /// See [`digest`].
    pub(super) escapes: Option<bool>,
    pub(super) interests: Interests,
    pub(super) statements: &'a mut Statements,
}

impl PendingCommand {
    /// The data of a command; `None` if nothing is needed. `verb`: verb of its statement.
    pub(super) fn of(
        command: Command,
        verb: Option<Verb>,
        packet: &Packet,
        context: Context,
        details: &mut Details,
    ) -> Option<Box<Self>> {
        let Context { capabilities, escapes, interests, statements } = context;
        let rest = || packet.prefix.get(1..).unwrap_or_default();
        let pending = match command {
            Command::INIT_DB if interests.has(Field::Schema) => {
                Self::Identity(RequestedIdentity { user: None, schema: Some(word(rest())) })
            }
            Command::CHANGE_USER if interests.has_identity() => {
                let identity = change_user(packet, capabilities);
                details.record(interests, Field::User, || identity.user.clone().unwrap_or_default());
                Self::Identity(identity)
            }
            // With session tracking, the response has the schema.
            Command::QUERY if verb == Some(Verb::Use) && is_untracked(&interests, capabilities) => {
                let schema = schema_of_use(statement(packet.prefix, capabilities));
                let schema = schema.map_or(UNREADABLE.to_owned(), word);
                Self::Identity(RequestedIdentity { user: None, schema: Some(schema) })
            }
            _ if interests.slow_after.is_none() => return None,
            Command::QUERY => Self::Query(packet.prefix.into()),
            Command::STMT_PREPARE => {
                let (digest, traceparent) = digest(rest(), escapes);
                let digest: Rc<str> = digest.into();
                statements.set_last_digest(Rc::clone(&digest));
                Self::Statement { digest: Some(digest), traceparent }
            }
            Command::STMT_EXECUTE | Command::STMT_BULK_EXECUTE => Self::Statement {
                digest: statements.digest(crate::session::statements::statement_id(packet)),
                traceparent: traceparent_of_execute(packet.prefix, capabilities).and_then(traceparent),
            },
            _ => return None,
        };
        Some(Box::new(pending))
    }

    /// True for an account or a schema.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::Identity(_))
    }

    /// Memory of a boxed value, in bytes. A digest that is shared with the statements counts in both places.
    pub(super) fn memory(&self) -> usize {
        let owned = match self {
            Self::Identity(identity) => identity.memory(),
            Self::Query(prefix) => prefix.len(),
            Self::Statement { digest, traceparent } => {
                digest.as_ref().map_or(0, |digest| digest.len()).saturating_add(capacity(traceparent))
            }
        };
        owned.saturating_add(size_of::<Self>())
    }

    /// The digest and the `traceparent` of the statement.
    pub(super) fn statement(
        &self,
        capabilities: Capabilities,
        escapes: Option<bool>,
    ) -> (String, Option<String>) {
        match self {
            Self::Identity(_) => Default::default(),
            Self::Query(prefix) => {
                let (digest, in_comment) = digest(statement(prefix, capabilities), escapes);
                (digest, traceparent_of_query(prefix, capabilities).and_then(traceparent).or(in_comment))
            }
            Self::Statement { digest, traceparent } => {
                (digest.as_deref().unwrap_or_default().to_owned(), traceparent.clone())
            }
        }
    }

    /// The digest of the statement that a COM_STMT_PREPARE prepared.
    pub(super) fn prepared_digest(&self) -> Option<Rc<str>> {
        match self {
            Self::Statement { digest, .. } => digest.clone(),
            Self::Identity(_) | Self::Query(_) => None,
        }
    }
}

fn is_untracked(interests: &Interests, capabilities: Capabilities) -> bool {
    interests.has(Field::Schema) && !capabilities.contains(Capabilities::SESSION_TRACK)
}

/// The account and the schema that a COM_CHANGE_USER requests.
pub(super) fn change_user(packet: &Packet, capabilities: Capabilities) -> RequestedIdentity {
    let read = ChangeUser::parse(packet.prefix, capabilities).ok();
    let user = read.map_or(UNREADABLE.to_owned(), |read| word(read.user));
    let schema = read.and_then(|read| read.schema).map_or(UNREADABLE.to_owned(), word);
    RequestedIdentity { user: Some(user), schema: Some(schema) }
}

/// Number of bytes of a command that are inspected, except for the judgement of file requests.
pub(super) fn command_prefix_len(interests: &Interests) -> usize {
    if interests.slow_after.is_some() { MAX_DIGESTED_PREFIX } else { MAX_COMMAND_PREFIX }
}
