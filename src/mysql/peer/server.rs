//! Servers, identified by the version text of their greeting with a fixed table: no text of a peer becomes a label.

use crate::labels::labels;

labels! {
    /// The kind of server.
    Flavor {
        /// Oracle's MySQL, and servers whose version text names no other product.
        Mysql = "mysql",
        /// MariaDB.
        Mariadb = "mariadb",
        /// Percona Server, if the version text names it.
        Percona = "percona",
        /// TiDB.
        Tidb = "tidb",
        /// Vitess.
        Vitess = "vitess",
        /// Mycat.
        Mycat = "mycat",
        /// MaxScale.
        Maxscale = "maxscale",
        /// ProxySQL.
        Proxysql = "proxysql",
        /// OceanBase.
        Oceanbase = "oceanbase",
        /// A version text that does not begin with a release number.
        Other = "other",
    }
}

/// A release, `major.minor`: one that exists or, for active majors, is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(Option<(u8, u8)>);

/// Words in a version text that identify the server, in lower case. If it contains several, the first of this list counts.
const MARKS: &[(&[u8], Flavor)] = &[
    (b"tidb", Flavor::Tidb),
    (b"vitess", Flavor::Vitess),
    (b"mycat", Flavor::Mycat),
    (b"maxscale", Flavor::Maxscale),
    (b"proxysql", Flavor::Proxysql),
    (b"oceanbase", Flavor::Oceanbase),
    (b"mariadb", Flavor::Mariadb),
    (b"percona", Flavor::Percona),
];

/// Prefix of MariaDB's version text, which makes old replicas accept it as MySQL 5.5.
const REPLICATION_PREFIX: &[u8] = b"5.5.5-";

impl Release {
    /// A release that is not in the table.
    pub const OTHER: Self = Self(None);

    /// The release, if it is in the table.
    #[must_use]
    pub fn known(major: u8, minor: u8) -> Self {
        let exists = match major {
            5 => (0..=7).contains(&minor),
            8 => minor <= 4,
            9 => minor <= 9,
            10 => minor <= 11,
            11 => minor <= 8,
            // MariaDB's next majors, one a year.
            12..=15 => minor <= 9,
            // MySQL's next releases, named by year and month from 26.7 on.
            26..=30 => (1..=12).contains(&minor),
            _ => false,
        };
        Self(exists.then_some((major, minor)))
    }

    /// Every release in the table, and [`Release::OTHER`].
    pub fn all() -> impl Iterator<Item = Self> {
        let known = (0..=u8::MAX).flat_map(|major| (0..=16).map(move |minor| Self::known(major, minor)));
        known.filter(|release| *release != Self::OTHER).chain([Self::OTHER])
    }

    /// A number that stands for the release.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0.map_or(0, |(major, minor)| u16::from_be_bytes([major, minor]))
    }

    /// The release of a [`Release::code`].
    #[must_use]
    pub fn from_code(code: u16) -> Self {
        let [major, minor] = code.to_be_bytes();
        Self::known(major, minor)
    }

    /// `major.minor`, or `other`.
    #[must_use]
    pub fn label(self) -> String {
        self.0.map_or_else(|| "other".to_owned(), |(major, minor)| format!("{major}.{minor}"))
    }
}

/// Identifies a server by the `server_version` of its greeting.
#[must_use]
pub fn identify(server_version: &[u8]) -> (Flavor, Release) {
    let text = server_version.strip_prefix(REPLICATION_PREFIX).unwrap_or(server_version);
    let release = major_minor(text).map(|(major, minor)| Release::known(major, minor));
    let unmarked = if release.is_some() { Flavor::Mysql } else { Flavor::Other };
    let first = (0..text.len()).filter_map(|at| mark_at_start(text.get(at..)?)).min();
    let marked = first.and_then(|index| MARKS.get(index)).map(|(_, flavor)| *flavor);
    (marked.unwrap_or(unmarked), release.unwrap_or(Release::OTHER))
}

/// Index of the mark at the beginning of a text.
fn mark_at_start(text: &[u8]) -> Option<usize> {
    // Most of a version text is numbers.
    let first = text.first().filter(|byte| byte.is_ascii_alphabetic())?.to_ascii_lowercase();
    let says = |mark: &[u8]| text.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark));
    MARKS.iter().position(|(mark, _)| mark.first() == Some(&first) && says(mark))
}

/// The first two numbers of a version text.
pub(crate) fn major_minor(text: &[u8]) -> Option<(u8, u8)> {
    let (major, rest) = number(text)?;
    let (minor, _) = number(rest.strip_prefix(b".")?)?;
    Some((major, minor))
}

/// Reads a decimal number at the beginning of a text. Returns also the rest of the text.
fn number(text: &[u8]) -> Option<(u8, &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(len)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_identified_by_version_text() {
        let cases: [(&str, Flavor, &str); 15] = [
            ("8.0.41", Flavor::Mysql, "8.0"),
            ("9.7.4", Flavor::Mysql, "9.7"),
            ("8.0.36-28", Flavor::Mysql, "8.0"),
            ("5.5.5-10.11.19-MariaDB-0+deb12u1", Flavor::Mariadb, "10.11"),
            ("11.8.6-MariaDB-ubu2404", Flavor::Mariadb, "11.8"),
            ("5.7.25-TiDB-v6.1.0", Flavor::Tidb, "5.7"),
            ("5.6.29-mycat-1.6.7.1-release-20190627191042", Flavor::Mycat, "5.6"),
            ("8.0.30-Vitess", Flavor::Vitess, "8.0"),
            ("5.7.44-48-Percona Server", Flavor::Percona, "5.7"),
            ("26.10.0", Flavor::Mysql, "26.10"),
            ("13.0.1-MariaDB", Flavor::Mariadb, "13.0"),
            ("10.11.6-MariaDB-maxscale", Flavor::Maxscale, "10.11"),
            ("99.1.0", Flavor::Mysql, "other"),
            ("hello", Flavor::Other, "other"),
            ("", Flavor::Other, "other"),
        ];
        for (text, flavor, release) in cases {
            let (found, number) = identify(text.as_bytes());
            assert_eq!((found, number.label().as_str()), (flavor, release), "{text}");
            assert_eq!(Release::from_code(number.code()), number);
        }
    }
}
