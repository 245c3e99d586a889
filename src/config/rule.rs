//! `rules` and `defaults`: the settings of connections.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::duration::HOUR;
use super::error::Problems;
use super::field::{Field, Object};
use super::matching::{Coverage, Match};
use super::policy::{Inspect, Policy, ProtocolRule};
use super::text::alternatives;
use super::{keys, proxy_protocol};
use crate::event::Direction;
use crate::metrics;
use crate::rules::{ClearCapabilities, HoldSplitEof};

/// Maximum number of rules, because each new connection tries them in order, and each rule is compared with all rules
/// before it.
pub(super) const MAX_RULES: usize = 1000;

/// Maximum length of the name of a rule, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Values of the label `destination` that are not names of rules or clusters.
const RESERVED: [&str; 3] = ["none", "other", "passthrough"];

const PROTOCOLS: [(&str, ProtocolRule); 4] = [
    ("mysql", ProtocolRule::Mysql),
    ("server_first", ProtocolRule::ServerFirst),
    ("opaque", ProtocolRule::Opaque),
    ("detect", ProtocolRule::Detect),
];

const HOLD_SPLIT_EOF: [(&str, HoldSplitEof); 3] = [
    ("off", HoldSplitEof::Off),
    ("affected_clients", HoldSplitEof::AffectedClients),
    ("always", HoldSplitEof::Always),
];

/// The values of `tls.downstream`. True if the client's TLS ends in the proxy.
const DOWNSTREAM_TLS: [(&str, bool); 2] = [("pass", false), ("terminate", true)];
/// The values of `tls.upstream`. True if the filter starts TLS to the server.
const UPSTREAM_TLS: [(&str, bool); 2] = [("pass", false), ("originate", true)];

/// `tls` of a rule.
#[derive(Clone, Copy, Default)]
struct Tls {
    terminate: bool,
    originate: bool,
}

const INSPECT: [(&str, Inspect); 3] =
    [("full", Inspect::Full), ("requests", Inspect::Requests), ("handshake", Inspect::Handshake)];

/// The settings of `mysql` that change bytes.
const BYTE_CHANGING: [&str; 3] = ["hold_split_eof", "clear_capabilities", "block_local_infile"];

/// One of `rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) matching: Match,
    pub(super) policy: Policy,
}

impl Rule {
    /// The settings of the connections that the rule matches.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The destination ports that the rule matches. They may overlap. Empty if it matches every port.
    #[must_use]
    pub fn ports(&self) -> &[RangeInclusive<u16>] {
        self.matching.ports()
    }

    /// The direction that the rule matches; `None` if it matches every direction.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        self.matching.direction()
    }
}

/// Reads `defaults`: the settings of connections that no rule matches, and those that a rule omits.
pub(super) fn read_defaults(
    root: &Object<'_>,
    access_log: &[&'static str],
    problems: &mut Problems,
) -> Policy {
    let Some(defaults) = root.object("defaults", &keys::DEFAULTS, problems) else { return Policy::default() };
    let protocol = read_protocol(&defaults, problems);
    let greeting_timeout = read_greeting_timeout(&defaults, problems);
    let mysql = read_mysql(&defaults, problems);
    let slow_command = mysql.as_ref().and_then(|mysql| mysql.slow_command);
    let inspect = mysql.as_ref().and_then(|mysql| mysql.inspect).unwrap_or_default();
    if let Some(mysql) = &mysql {
        mysql.check_against(inspect, problems);
        mysql.check_access_log(access_log, problems);
    }
    let mysql = mysql.map(|mysql| mysql.object);
    let changing = BYTE_CHANGING.iter().filter_map(|key| mysql.as_ref()?.get(key));
    let unconditional = ["proxy_protocol", "tls"].into_iter().filter_map(|key| defaults.get(key));
    for field in unconditional.chain(changing) {
        field.refuse("it only in a rule, because it changes bytes", problems);
    }
    let built_in = Policy::default();
    Policy {
        protocol: protocol.unwrap_or(built_in.protocol),
        greeting_timeout: greeting_timeout.unwrap_or(built_in.greeting_timeout),
        slow_command: slow_command.filter(|duration| !duration.is_zero()),
        inspect,
        ..built_in
    }
}

/// Reads `rules`, in order. They are complete if no problem was added.
pub(super) fn read_rules(
    root: &Object<'_>,
    defaults: &Policy,
    access_log: &[&'static str],
    problems: &mut Problems,
) -> Vec<Rule> {
    let Some(field) = root.get("rules") else { return Vec::new() };
    let fields = field.array("rules", problems).unwrap_or_default();
    if fields.len() > MAX_RULES {
        let count = fields.len();
        problems.add(&field.at, format!("expected at most {MAX_RULES} rules, found {count}"));
        return Vec::new();
    }
    let mut rules = Vec::new();
    let mut names: Vec<(Arc<str>, String)> = Vec::new();
    let mut earlier: Vec<(String, Coverage)> = Vec::new();
    for field in fields {
        let Some(object) = field.object(&keys::RULE, problems) else { continue };
        let (matching, policy) = read_rule(&object, defaults, access_log, problems);
        if let (Some(field), Some(name)) = (object.get("name"), &policy.name) {
            match names.iter().find(|(earlier, _)| earlier == name) {
                Some((_, at)) => field.refuse(&format!("a name other than that of {at}"), problems),
                None => names.push((name.clone(), object.at.clone())),
            }
        }
        // A rule without valid conditions cannot hide another rule.
        let Some(matching) = matching else { continue };
        let coverage = matching.coverage();
        if let Some((at, _)) = earlier.iter().find(|(_, earlier)| earlier.contains(&coverage)) {
            let problem = "expected a rule that can match, found that all it matches is matched first by";
            problems.add(&field.at, format!("{problem} {at}"));
        }
        earlier.push((object.at.clone(), coverage));
        rules.push(Rule { matching, policy });
    }
    rules
}

/// Reads a rule. `None` in place of its conditions if these have a problem.
fn read_rule(
    rule: &Object<'_>,
    defaults: &Policy,
    access_log: &[&'static str],
    problems: &mut Problems,
) -> (Option<Match>, Policy) {
    let name = rule.get("name").and_then(|field| read_name(&field, problems));
    let matching = Match::read(rule, problems);
    let protocol = read_protocol(rule, problems).unwrap_or(defaults.protocol);
    let greeting_timeout = read_greeting_timeout(rule, problems).unwrap_or(defaults.greeting_timeout);
    let proxy_protocol = proxy_protocol::read(rule, problems);
    let tls = read_tls(rule, matching.as_ref(), protocol, problems);
    if let (true, true, Some(field)) =
        (tls.terminate, proxy_protocol.receive.is_some(), rule.get("proxy_protocol"))
    {
        let why = "the header arrives before TLS, where the filter of another listener takes the connection";
        let fix = "use the listener filter proxy_protocol of Envoy";
        let problem = format!(
            "expected no \"receive\" beside \"tls\": {{\"downstream\": \"terminate\"}}, because {why}; {fix}"
        );
        problems.add(&field.at, problem);
    }
    let (originate_tls, terminate_tls) = (tls.originate, tls.terminate);
    let mut policy = Policy {
        name,
        protocol,
        greeting_timeout,
        proxy_protocol,
        originate_tls,
        terminate_tls,
        ..defaults.clone()
    };
    if let Some(mysql) = read_mysql(rule, problems) {
        policy.hold_split_eof = mysql.hold_split_eof;
        policy.clear_capabilities = mysql.clear_capabilities;
        policy.block_local_infile = mysql.block_local_infile;
        policy.inspect = mysql.inspect.unwrap_or(policy.inspect);
        if let Some(duration) = mysql.slow_command {
            policy.slow_command = Some(duration).filter(|duration| !duration.is_zero());
        }
        mysql.check_against(policy.inspect, problems);
        mysql.check_access_log(access_log, problems);
        let no_addresses = matching.as_ref().is_some_and(|matching| !matching.has_addresses());
        if let (Some(ssl), true) = (&mysql.clears_ssl, no_addresses) {
            let why = "a server that requires TLS then refuses every client";
            let problem = format!("expected \"match.addresses\" beside \"ssl\", because {why}; found none");
            problems.add(ssl, problem);
        }
        if let (Some(ssl), true) = (&mysql.clears_ssl, originate_tls || terminate_tls) {
            let problem = "expected no \"ssl\" beside \"tls\", which itself changes the offer of TLS in the greeting; found \"ssl\"";
            problems.add(ssl, problem.to_owned());
        }
        mysql.check_protocol(protocol, problems);
    }
    (matching, policy)
}

/// Reads `tls`.
fn read_tls(
    rule: &Object<'_>,
    matching: Option<&Match>,
    protocol: ProtocolRule,
    problems: &mut Problems,
) -> Tls {
    let Some(tls) = rule.object("tls", &keys::TLS, problems) else { return Tls::default() };
    let downstream = tls.get("downstream").and_then(|field| field.word(&DOWNSTREAM_TLS, problems));
    let upstream = tls.get("upstream").and_then(|field| field.word(&UPSTREAM_TLS, problems));
    let read = Tls { terminate: downstream == Some(true), originate: upstream == Some(true) };
    if !read.terminate && !read.originate {
        return read;
    }
    if matching.is_some_and(|matching| !matching.has_addresses()) {
        let why = "the filter closes connections of peers without TLS";
        problems.add(&tls.at, format!("expected \"match.addresses\" beside it, because {why}; found none"));
    }
    if protocol != ProtocolRule::Mysql {
        let why = "the filter closes connections with another protocol";
        let found = PROTOCOLS.iter().find(|(_, value)| *value == protocol).map_or("", |(word, _)| word);
        problems
            .add(&tls.at, format!("expected it with the protocol \"mysql\", because {why}; found {found:?}"));
    }
    read
}

fn read_name(field: &Field<'_>, problems: &mut Problems) -> Option<Arc<str>> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_+./-".contains(&byte);
    let bounded = |name: &&str| (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(plain);
    let Some(name) = field.text().filter(bounded) else {
        field.refuse("a name of 1 to 64 characters, each of a-z 0-9 _ + . / -", problems);
        return None;
    };
    if let Some(torn) = metrics::RESERVED.iter().find(|torn| name.contains(*torn)) {
        field.refuse(&format!("a name without {torn:?}, which Istio's tag rules would tear"), problems);
    } else if RESERVED.contains(&name) {
        let reserved = alternatives(&RESERVED);
        field
            .refuse(&format!("a name other than {reserved}, which mean something else as a label"), problems);
    }
    Some(name.into())
}

fn read_protocol(policy: &Object<'_>, problems: &mut Problems) -> Option<ProtocolRule> {
    policy.get("protocol")?.word(&PROTOCOLS, problems)
}

fn read_greeting_timeout(policy: &Object<'_>, problems: &mut Problems) -> Option<Duration> {
    policy.get("greeting_timeout")?.duration(1, HOUR, problems)
}

/// The part `mysql`, with the facts that checks of other parts need.
struct Mysql<'n> {
    object: Object<'n>,
    /// The path of `clear_capabilities`, if `ssl` is in it.
    clears_ssl: Option<String>,
    /// Zero turns it off.
    slow_command: Option<Duration>,
    hold_split_eof: HoldSplitEof,
    inspect: Option<Inspect>,
    clear_capabilities: ClearCapabilities,
    block_local_infile: bool,
}

impl Mysql<'_> {
    /// Reports settings that need the server's responses, if `inspect` leaves these out.
    fn check_against(&self, inspect: Inspect, problems: &mut Problems) {
        let Some((word, _)) = INSPECT.iter().find(|(_, value)| *value == inspect && inspect != Inspect::Full)
        else {
            return;
        };
        let needing = [
            ("hold_split_eof", self.hold_split_eof != HoldSplitEof::Off),
            ("block_local_infile", self.block_local_infile),
            ("slow_command", self.slow_command.is_some_and(|duration| !duration.is_zero())),
        ];
        for (key, is_set) in needing {
            if let Some(field) = self.object.get(key).filter(|_| is_set) {
                let why = "which does not read the server's responses";
                problems
                    .add(&field.at, format!("expected it with \"inspect\": \"full\", found {word:?}, {why}"));
            }
        }
    }

    /// Reports settings of `mysql` in a rule for another protocol.
    fn check_protocol(&self, protocol: ProtocolRule, problems: &mut Problems) {
        let other = match protocol {
            ProtocolRule::Mysql | ProtocolRule::Detect => return,
            ProtocolRule::ServerFirst => "server_first",
            ProtocolRule::Opaque => "opaque",
        };
        let problem = format!("expected it with the protocol \"mysql\" or \"detect\", found {other:?}");
        problems.add(&self.object.at, problem);
    }

    /// Reports `inspect: handshake` if the access log uses a key that can change after the login.
    fn check_access_log(&self, access_log: &[&'static str], problems: &mut Problems) {
        let changing = access_log.iter().find(|key| matches!(**key, "user" | "schema"));
        if let (Some(key), Some(Inspect::Handshake)) = (changing, self.inspect) {
            let problem = format!(
                "expected \"full\" or \"requests\" beside the access_log key {key:?}, found \"handshake\", which reads \
                 nothing after the login, so a change of account would not be seen"
            );
            problems.add(&format!("{}.inspect", self.object.at), problem);
        }
    }
}

fn read_mysql<'n>(policy: &Object<'n>, problems: &mut Problems) -> Option<Mysql<'n>> {
    let object = policy.object("mysql", &keys::MYSQL, problems)?;
    let inspect = object.get("inspect").and_then(|field| field.word(&INSPECT, problems));
    let hold_split_eof = object.get("hold_split_eof").and_then(|field| field.word(&HOLD_SPLIT_EOF, problems));
    let (mut clears_ssl, mut clear_capabilities) = (None, ClearCapabilities::default());
    if let Some(field) = object.get("clear_capabilities") {
        let cleared = field.some_of(&["compress", "zstd", "ssl"], problems).unwrap_or_default();
        let [compress, zstd, ssl] = ["compress", "zstd", "ssl"].map(|word| cleared.contains(&word));
        clear_capabilities = ClearCapabilities { compress, zstd, ssl };
        clears_ssl = ssl.then_some(field.at);
    }
    let block_local_infile = object.get("block_local_infile").and_then(|field| field.boolean(problems));
    let slow_command = object.get("slow_command").and_then(|field| field.duration(0, HOUR, problems));
    let hold_split_eof = hold_split_eof.unwrap_or_default();
    let block_local_infile = block_local_infile.unwrap_or_default();
    Some(Mysql {
        object,
        clears_ssl,
        slow_command,
        hold_split_eof,
        inspect,
        clear_capabilities,
        block_local_infile,
    })
}
