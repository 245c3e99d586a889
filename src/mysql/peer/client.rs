//! Client libraries, identified by the connection attributes `_client_name` and `_client_version` with a fixed table: no
//! text of a peer becomes a label.

use crate::labels::labels;
use crate::mysql::peer::server::major_minor;

labels! {
    /// A client library.
    Connector {
        /// MySQL's C API, also as part of its connectors for C++, ODBC and Python.
        Libmysql = "libmysql",
        /// MariaDB Connector/C.
        Libmariadb = "libmariadb",
        /// MySQL Connector/J.
        MysqlJ = "mysql-connector-j",
        /// MySQL Connector/NET.
        MysqlNet = "mysql-connector-net",
        /// MySQL Connector/Python without the C API.
        MysqlPython = "mysql-connector-python",
        /// MariaDB Connector/J.
        MariadbJ = "mariadb-connector-j",
        /// MariaDB Connector/Node.js.
        MariadbNode = "mariadb-connector-node",
        /// PHP's own driver.
        Mysqlnd = "mysqlnd",
        /// Go: go-sql-driver/mysql.
        GoSqlDriver = "go-sql-driver",
        /// Go: go-mysql-org/go-mysql.
        GoMysql = "go-mysql",
        /// Node.js: mysql2.
        NodeMysql2 = "node-mysql2",
        /// .NET: MySqlConnector.
        MysqlConnector = "mysqlconnector",
        /// Python: PyMySQL.
        Pymysql = "pymysql",
        /// Rust: the crate mysql.
        RustMysql = "rust-mysql",
        /// Rust: the crate mysql_async.
        RustMysqlAsync = "rust-mysql_async",
        /// Ruby: Trilogy.
        Trilogy = "trilogy",
        /// A name that is not in this list.
        Other = "other",
        /// The client sends no name.
        None = "none",
    }
}

/// Release series with label values of their own: majors, each with its last minor. The tables have the series of late 2026
/// and, for active majors, those of the next years. They are finite, so invented versions create no new label values.
type KnownSeries = &'static [(u8, u8)];

/// Names in lower case, and the release series of each.
const NAMES: &[(&[u8], Connector, KnownSeries)] = &[
    (b"libmysql", Connector::Libmysql, MYSQL),
    (b"libmariadb", Connector::Libmariadb, &[(3, 9)]),
    (b"mysql connector/j", Connector::MysqlJ, MYSQL),
    (b"mysql connector java", Connector::MysqlJ, MYSQL),
    (b"mysql-connector-net", Connector::MysqlNet, MYSQL),
    (b"mysql-connector-python", Connector::MysqlPython, MYSQL),
    (b"mariadb connector/j", Connector::MariadbJ, &[(2, 7), (3, 9), (4, 9)]),
    (b"mariadb connector/node", Connector::MariadbNode, &[(2, 5), (3, 9)]),
    (b"mysqlnd", Connector::Mysqlnd, &[]),
    (b"go-mysql-driver", Connector::GoSqlDriver, &[]),
    (b"go-mysql", Connector::GoMysql, &[(1, 29)]),
    (b"node-mysql-2", Connector::NodeMysql2, &[(3, 39)]),
    (b"mysqlconnector", Connector::MysqlConnector, &[(0, 69), (1, 3), (2, 9)]),
    (b"pymysql", Connector::Pymysql, &[(0, 10), (1, 9)]),
    (
        b"rust-mysql-simple",
        Connector::RustMysql,
        &[(24, 0), (25, 0), (26, 0), (27, 0), (28, 0), (29, 0), (30, 0)],
    ),
    (b"mysql_async", Connector::RustMysqlAsync, &[(0, 49)]),
    (b"trilogy", Connector::Trilogy, &[(2, 19)]),
];

/// Series of MySQL's own products that send attributes. Those for .NET and Python had other numbers before 8.0. The series
/// after 9.7 is 26.7, of July 2026.
const MYSQL: KnownSeries =
    &[(2, 2), (5, 7), (6, 10), (8, 4), (9, 9), (26, 12), (27, 12), (28, 12), (29, 12), (30, 12)];

/// A release series, `major.minor`, of a known client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// The library gives no version, or no attributes at all.
    None,
    /// A series that is not in the table.
    Other,
    /// A series that is in the table.
    Known(u8, u8),
}

/// Identifies a client by the two attributes. An empty attribute is absent.
#[must_use]
pub fn identify(client_name: &[u8], client_version: &[u8]) -> (Connector, Series) {
    if client_name.is_empty() {
        return (Connector::None, Series::None);
    }
    let found = NAMES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(client_name));
    let Some((_, connector, known)) = found else { return (Connector::Other, Series::Other) };
    let series = match major_minor(client_version) {
        _ if client_version.is_empty() => Series::None,
        Some((major, minor)) if known.iter().any(|(m, last)| *m == major && minor <= *last) => {
            Series::Known(major, minor)
        }
        _ => Series::Other,
    };
    (*connector, series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_identified_by_name_and_version() {
        use Series::{Known, None, Other};
        let cases: [(&str, &str, Connector, Series); 13] = [
            ("libmariadb", "3.3.14", Connector::Libmariadb, Known(3, 3)),
            ("libmysql", "8.0.41", Connector::Libmysql, Known(8, 0)),
            ("MySQL Connector/J", "9.1.0", Connector::MysqlJ, Known(9, 1)),
            ("MySQL Connector/J", "26.10.0", Connector::MysqlJ, Known(26, 10)),
            ("mysql-connector-python", "26.13.0", Connector::MysqlPython, Other),
            ("pymysql", "1.2.4", Connector::Pymysql, Known(1, 2)),
            ("Go-MySQL-Driver", "", Connector::GoSqlDriver, None),
            ("Node-MySQL-2", "3.11.0", Connector::NodeMysql2, Known(3, 11)),
            ("rust-mysql-simple", "28.0.4", Connector::RustMysql, Known(28, 0)),
            ("libmysql", "8.99.1", Connector::Libmysql, Other),
            ("libmysql", "x", Connector::Libmysql, Other),
            ("libmysql2", "8.0.41", Connector::Other, Other),
            ("", "8.0.41", Connector::None, None),
        ];
        for (name, version, connector, series) in cases {
            let found = identify(name.as_bytes(), version.as_bytes());
            assert_eq!(found, (connector, series), "{name} {version}");
        }
    }

    #[test]
    fn every_connector_but_the_last_two_has_a_name() {
        let (nameless, named): (Vec<&Connector>, Vec<_>) =
            Connector::ALL.iter().partition(|connector| NAMES.iter().all(|(_, of, _)| of != *connector));
        assert_eq!(nameless, [&Connector::Other, &Connector::None]);
        assert_eq!(named.len(), Connector::ALL.len() - 2);
        assert!(NAMES.iter().all(|(name, ..)| name.to_ascii_lowercase() == *name));
    }
}
