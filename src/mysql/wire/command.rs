//! The commands of the command phase (`include/my_command.h` of MySQL, `include/mysql_com.h` of MariaDB).

use std::fmt;

/// A command byte. Every value is valid, because an observer also sees commands that it does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command(pub u8);

/// The form of the response to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// No response.
    Nothing,
    /// OK or ERR.
    Ok,
    /// A single EOF, or an OK in its place, or ERR.
    Eof,
    /// OK, ERR, a LOCAL INFILE request or a result set; chained by `SERVER_MORE_RESULTS_EXISTS`.
    ResultSet,
    /// Column definitions up to an EOF, without a count before them.
    FieldList,
    /// `COM_STMT_PREPARE_OK` and definitions.
    Prepare,
    /// Rows up to an EOF, with neither count nor definitions.
    Fetch,
    /// One packet of text.
    Statistics,
    /// The packets of the connection phase, beginning with the authentication.
    ChangeUser,
    /// Events until an EOF or ERR, while the client may send acknowledgements.
    BinlogDump,
    /// A protocol of its own that is not inspected.
    Private,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:#04x})", self.label(), self.0)
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $byte:literal, $label:literal, $grammar:ident;)*) => {
        impl Command {
            $($(#[$doc])* pub const $name: Self = Self($byte);)*

            /// Every command with a name.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in lower case without `COM_`; `other` for a byte without a name.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self.0 {
                    $($byte => $label,)*
                    _ => "other",
                }
            }

            /// True if the command has a name.
            #[must_use]
            pub const fn is_known(self) -> bool {
                matches!(self.0, $($byte)|*)
            }

            /// The form of the response. A server that does not know the command sends ERR 1047.
            #[must_use]
            pub const fn grammar(self) -> Grammar {
                match self.0 {
                    $($byte => Grammar::$grammar,)*
                    _ => Grammar::Ok,
                }
            }
        }
    };
}

commands! {
    /// Internal; an empty packet also means this command.
    SLEEP = 0x00, "sleep", Ok;
    /// Ends the connection.
    QUIT = 0x01, "quit", Nothing;
    /// Changes the current schema.
    INIT_DB = 0x02, "init_db", Ok;
    /// A statement as text.
    QUERY = 0x03, "query", ResultSet;
    /// Columns of a table.
    FIELD_LIST = 0x04, "field_list", FieldList;
    /// Removed from new servers.
    CREATE_DB = 0x05, "create_db", Ok;
    /// Removed from new servers.
    DROP_DB = 0x06, "drop_db", Ok;
    /// FLUSH in one byte.
    REFRESH = 0x07, "refresh", Ok;
    /// Shuts the server down.
    SHUTDOWN = 0x08, "shutdown", Eof;
    /// A line of server statistics.
    STATISTICS = 0x09, "statistics", Statistics;
    /// The process list.
    PROCESS_INFO = 0x0a, "process_info", ResultSet;
    /// Internal.
    CONNECT = 0x0b, "connect", Ok;
    /// KILL in one command.
    PROCESS_KILL = 0x0c, "process_kill", Ok;
    /// Makes the server dump debug information.
    DEBUG = 0x0d, "debug", Eof;
    /// Checks that the server is alive.
    PING = 0x0e, "ping", Ok;
    /// Internal.
    TIME = 0x0f, "time", Ok;
    /// Internal.
    DELAYED_INSERT = 0x10, "delayed_insert", Ok;
    /// Authenticates again.
    CHANGE_USER = 0x11, "change_user", ChangeUser;
    /// Streams the binary log.
    BINLOG_DUMP = 0x12, "binlog_dump", BinlogDump;
    /// Replication before 4.0.
    TABLE_DUMP = 0x13, "table_dump", Ok;
    /// Internal.
    CONNECT_OUT = 0x14, "connect_out", Ok;
    /// Announces a replica.
    REGISTER_SLAVE = 0x15, "register_slave", Ok;
    /// Prepares a statement.
    STMT_PREPARE = 0x16, "stmt_prepare", Prepare;
    /// Executes a prepared statement.
    STMT_EXECUTE = 0x17, "stmt_execute", ResultSet;
    /// A part of a parameter; COM_STMT_EXECUTE reports its errors.
    STMT_SEND_LONG_DATA = 0x18, "stmt_send_long_data", Nothing;
    /// Closes a prepared statement.
    STMT_CLOSE = 0x19, "stmt_close", Nothing;
    /// Resets a prepared statement.
    STMT_RESET = 0x1a, "stmt_reset", Ok;
    /// Turns multi-statements on or off.
    SET_OPTION = 0x1b, "set_option", Eof;
    /// Rows from a cursor.
    STMT_FETCH = 0x1c, "stmt_fetch", Fetch;
    /// Internal.
    DAEMON = 0x1d, "daemon", Ok;
    /// Streams the binary log by GTID.
    BINLOG_DUMP_GTID = 0x1e, "binlog_dump_gtid", BinlogDump;
    /// Resets the session's state.
    RESET_CONNECTION = 0x1f, "reset_connection", Ok;
    /// MySQL's CLONE plugin.
    CLONE = 0x20, "clone", Private;
    /// MySQL's group replication.
    SUBSCRIBE_GROUP_REPLICATION_STREAM = 0x21, "subscribe_group_replication_stream", Private;
    /// MariaDB: executes a prepared statement for many sets of parameters.
    STMT_BULK_EXECUTE = 0xfa, "stmt_bulk_execute", ResultSet;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_are_distinct_and_unknown_bytes_share_one() {
        let labels: BTreeSet<_> = Command::ALL.iter().map(|command| command.label()).collect();
        assert_eq!(labels.len(), Command::ALL.len());
        assert!(!labels.contains("other"));
        assert_eq!(Command(0x22).label(), "other");
        assert_eq!(Command(0xff).grammar(), Grammar::Ok);
    }
}
