//! Built-in port table: the expected protocol of a port, for ports that no rule of the configuration names.
//!
//! The table is only a hint. The first bytes of a connection decide its protocol.

use crate::rules::Expected;

/// Ports of servers that speak MySQL's protocol.
const MYSQL: &[u16] = &[
    3306,  // MySQL, MariaDB and most servers that speak their protocol
    3307,  // ShardingSphere-Proxy, Databend
    33062, // MySQL, admin_port
    6446, 6447, 6450, // MySQL Router: read-write, read-only, split
    4000, // TiDB
    6000, // TiProxy
    6032, 6033, // ProxySQL: admin, traffic
    8066, 9066, // Mycat: traffic, admin
    4006, 4008,  // MaxScale
    15306, // Vitess
    2881, 2883, // OceanBase: observer, proxy
    9030, // StarRocks, Doris
    9004, // ClickHouse
    9306, // Manticore, Sphinx
    6001, // MatrixOne
    4002, // GreptimeDB
    8527, // PolarDB-X
];

/// Ports of other server-first protocols.
const SERVER_FIRST: &[u16] = &[
    21, // FTP
    22, // SSH
    23, // Telnet
    24, // LMTP
    25, 587, 2525, // SMTP
    110,  // POP3
    119,  // NNTP
    143,  // IMAP
    873,  // rsync
    2628, // DICT
    3690, // Subversion
    4190, // ManageSieve
    4222, // NATS
    4444, 4567, 4568, // Galera: SST, group communication, IST
    5038, // Asterisk manager
    5900, 5901, 5902,  // RFB
    6600,  // MPD
    10011, // TeamSpeak query
];

/// Returns the expected protocol on `port`. [`Expected::Unknown`] if the table does not contain the port.
#[must_use]
pub fn expected(port: u16) -> Expected {
    if MYSQL.contains(&port) {
        Expected::Mysql
    } else if SERVER_FIRST.contains(&port) {
        Expected::ServerFirst
    } else {
        Expected::Unknown
    }
}

/// True if the table contains `port`. Such a port can be a label value, because the set of these ports is bounded.
#[must_use]
pub fn is_known(port: u16) -> bool {
    expected(port) != Expected::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ports_of_server_first_protocols_are_expected() {
        assert_eq!(expected(3306), Expected::Mysql);
        assert_eq!(expected(25), Expected::ServerFirst);
        // Client-first protocols, although other lists name some of them: PostgreSQL, Redis, X Protocol, SMTPS.
        for port in [5432, 6379, 33060, 465, 443, 80, 10000] {
            assert_eq!(expected(port), Expected::Unknown, "port {port}");
        }
    }

    #[test]
    fn no_port_is_in_both_lists() {
        assert!(MYSQL.iter().all(|port| !SERVER_FIRST.contains(port)));
    }
}
