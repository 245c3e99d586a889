//! The rules of a simulated configuration, and what each does to the bytes of a connection.

use firstword_testing::packets::{CLIENT_COMPRESS, CLIENT_SSL};
use firstword_testing::random::Random;

/// A rule. Its connections have ports of its own, one for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes no byte.
    Plain,
    /// Removes PROXY headers of trusted clients.
    Receive,
    /// Sends a PROXY header.
    Send,
    /// Clears capabilities and blocks file requests.
    Protect,
    /// Holds split responses to COM_STMT_PREPARE.
    Hold,
}

pub(crate) const KINDS: [Kind; 5] = [Kind::Plain, Kind::Receive, Kind::Send, Kind::Protect, Kind::Hold];

/// The first port of the rules, and the number of ports of each.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 100;

impl Kind {
    /// The port of the connection with this number.
    pub(crate) fn port(self, number: u16) -> u16 {
        FIRST_PORT + self as u16 * PORTS + number % PORTS
    }

    fn rule(self) -> String {
        let settings = match self {
            Self::Plain => String::new(),
            Self::Receive => {
                r#", "proxy_protocol": {"receive": {"mode": "optional", "trusted_networks": ["10.0.0.0/8"]}}"#
                    .into()
            }
            Self::Send => r#", "proxy_protocol": {"send": {"mode": "with_first_client_bytes"}}"#.into(),
            Self::Protect => {
                r#", "mysql": {"clear_capabilities": ["ssl", "compress"], "block_local_infile": true}"#
                    .to_owned()
            }
            Self::Hold => r#", "mysql": {"hold_split_eof": "always"}"#.into(),
        };
        let first = self.port(0);
        let last = first + PORTS - 1;
        format!(
            r#"{{"match": {{"ports": ["{first}-{last}"], "addresses": ["10.0.0.0/8"]}}, "protocol": "mysql"{settings}}}"#
        )
    }

    /// What may reach the server of what the client sends after `header`: with the rule, and without it.
    pub(crate) fn to_server(
        self,
        header: &[u8],
        sent_header: &[u8],
        is_trusted: bool,
        bytes: &[u8],
    ) -> [Vec<u8>; 2] {
        let unchanged = [header, bytes].concat();
        let changed = match self {
            Self::Receive if is_trusted || header.is_empty() => bytes.to_vec(),
            // The header of another client closes the connection.
            Self::Receive => Vec::new(),
            Self::Send => [sent_header, bytes].concat(),
            Self::Plain | Self::Protect | Self::Hold => unchanged.clone(),
        };
        [changed, unchanged]
    }

    /// What may reach the client of what the server sends: with the rule, with a rule that ended in the middle of the change, and
    /// last without it.
    pub(crate) fn to_client(self, bytes: &[u8]) -> Vec<Vec<u8>> {
        // Before the capabilities are 5 bytes, the server's version with a NUL, the thread id, and the scramble's first part
        // with a NUL.
        let version = bytes.iter().skip(5).position(|byte| *byte == 0);
        let Some(version) = version.filter(|_| self == Self::Protect) else { return vec![bytes.to_vec()] };
        let cleared = !(CLIENT_SSL | CLIENT_COMPRESS);
        let with_first = |count: usize| {
            let mut changed = bytes.to_vec();
            let capabilities = changed.iter_mut().skip(5 + version + 1 + 4 + 9);
            for (byte, kept) in capabilities.zip(&cleared.to_le_bytes()[..count]) {
                *byte &= kept;
            }
            changed
        };
        [2, 1, 0].map(with_first).to_vec()
    }

    /// Whether bytes may wait for others.
    pub(crate) fn may_hold(self) -> bool {
        self != Self::Plain
    }
}

/// A configuration with all rules, in a mode.
pub(crate) fn configuration(mode: &str, random: &mut Random) -> String {
    let profile = ["standard", "full"][random.below(2)];
    let flush = ["100ms", "500ms", "1s", "2s"][random.below(4)];
    let access_log = ["[]", r#"["user", "schema", "commands"]"#][random.below(2)];
    let rules: Vec<_> = KINDS.iter().map(|kind| kind.rule()).collect();
    format!(
        r#"{{"mode": "{mode}", "rules": [{}], "access_log": {access_log}, "log": {{"level": "trace"}},
            "metrics": {{"profile": "{profile}", "labels": ["port"], "flush_interval": "{flush}", "max_series": 100000}}}}"#,
        rules.join(", ")
    )
}
