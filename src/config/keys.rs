//! The keys of each object of a configuration, and the message for an unknown key.

use super::text::quoted;

/// The keys of one kind of object.
pub(super) struct Keys {
    /// The path of the object, without indices.
    path: &'static str,
    pub(super) names: &'static [&'static str],
}

pub(super) const ROOT: Keys =
    Keys { path: "$", names: &["mode", "rules", "defaults", "metrics", "access_log", "log", "limits"] };
pub(super) const RULE: Keys = Keys {
    path: "$.rules[]",
    names: &["name", "match", "protocol", "greeting_timeout", "proxy_protocol", "tls", "mysql"],
};
pub(super) const MATCH: Keys = Keys { path: "$.rules[].match", names: &["ports", "addresses", "direction"] };
pub(super) const PROXY_PROTOCOL: Keys =
    Keys { path: "$.rules[].proxy_protocol", names: &["receive", "send"] };
pub(super) const RECEIVE: Keys = Keys {
    path: "$.rules[].proxy_protocol.receive",
    names: &[
        "mode",
        "trusted_networks",
        "on_untrusted_header",
        "timeout",
        "connect_upstream",
        "max_header_bytes",
    ],
};
pub(super) const SEND: Keys =
    Keys { path: "$.rules[].proxy_protocol.send", names: &["mode", "version", "when"] };
pub(super) const TLS: Keys = Keys { path: "$.rules[].tls", names: &["downstream", "upstream"] };
pub(super) const MYSQL: Keys = Keys {
    path: "$.rules[].mysql",
    names: &["inspect", "hold_split_eof", "clear_capabilities", "block_local_infile", "slow_command"],
};
/// `proxy_protocol` and `tls` are known keys here, because the message that refuses them gives the reason.
pub(super) const DEFAULTS: Keys =
    Keys { path: "$.defaults", names: &["protocol", "greeting_timeout", "mysql", "proxy_protocol", "tls"] };
pub(super) const METRICS: Keys =
    Keys { path: "$.metrics", names: &["profile", "labels", "flush_interval", "max_series", "stall"] };
pub(super) const LIMITS: Keys = Keys { path: "$.limits", names: &["connection_state"] };
pub(super) const LOG: Keys = Keys { path: "$.log", names: &["level", "max_per_minute"] };

const ALL: [&Keys; 12] = [
    &ROOT,
    &RULE,
    &MATCH,
    &PROXY_PROTOCOL,
    &RECEIVE,
    &SEND,
    &TLS,
    &MYSQL,
    &METRICS,
    &LOG,
    &LIMITS,
    &DEFAULTS,
];

/// A name that was replaced before the first release.
struct Renamed {
    old: &'static str,
    new: &'static str,
}

/// The keys that were renamed.
const RENAMED_KEYS: [Renamed; 8] = [
    Renamed { old: "greeting_timeout_ms", new: "greeting_timeout" },
    Renamed { old: "untrusted", new: "on_untrusted_header" },
    Renamed { old: "timeout_ms", new: "timeout" },
    Renamed { old: "connect", new: "connect_upstream" },
    Renamed { old: "observe", new: "inspect" },
    Renamed { old: "slow_command_ms", new: "slow_command" },
    Renamed { old: "flush_interval_ms", new: "flush_interval" },
    Renamed { old: "stall_ms", new: "stall" },
];

/// The values that were renamed, each after the key it belongs to.
const RENAMED_VALUES: [(&str, Renamed); 3] = [
    ("inspect", Renamed { old: "all", new: "full" }),
    ("connect_upstream", Renamed { old: "first", new: "immediately" }),
    ("mode", Renamed { old: "first_bytes", new: "with_first_client_bytes" }),
];

/// The former name of a key.
pub(super) fn former_key(key: &str) -> Option<&'static str> {
    RENAMED_KEYS.iter().find(|renamed| renamed.new == key).map(|renamed| renamed.old)
}

/// The new name of a value of `key`, if `words` contain it.
pub(super) fn renamed_value(key: &str, value: &str, words: &[&'static str]) -> Option<&'static str> {
    let key = RENAMED_KEYS.iter().find(|renamed| renamed.old == key).map_or(key, |renamed| renamed.new);
    let renamed = RENAMED_VALUES.iter().find(|(of, renamed)| *of == key && renamed.old == value);
    renamed.map(|(_, renamed)| renamed.new).filter(|new| words.contains(new))
}

/// Whether an object with these keys is probably a configuration: one is a key of its root, perhaps misspelt, or each belongs to
/// an object of a configuration.
pub(super) fn resemble_a_configuration(keys: &[&str]) -> bool {
    let is_of_root = |key: &&str| ROOT.names.iter().any(|name| is_near(name, key));
    let has_home = |key: &&str| ALL.iter().any(|keys| keys.names.contains(key));
    keys.iter().any(is_of_root) || keys.iter().all(has_home)
}

/// The path of every setting that is not itself an object with known keys.
#[cfg(test)]
pub(super) fn settings() -> impl Iterator<Item = String> {
    let path = |keys: &Keys, name: &str| format!("{}.{name}", keys.path);
    let paths = ALL.iter().flat_map(move |keys| keys.names.iter().map(move |name| path(keys, name)));
    let is_object = |path: &str| {
        ALL.iter().any(|keys| keys.path.strip_prefix(path).is_some_and(|rest| matches!(rest, "" | "[]")))
    };
    paths.filter(move |path| !is_object(path)).filter_map(|path| path.strip_prefix("$.").map(str::to_owned))
}

impl Keys {
    /// The first of these keys that another key resembles. `None` if it resembles none.
    pub(super) fn nearest(&self, key: &str) -> Option<&'static str> {
        self.names.iter().find(|name| is_near(name, key)).copied()
    }

    /// The message for a key that is not one of these. `suggestion`: the key that it resembles.
    pub(super) fn unknown(&self, key: &str, suggestion: Option<&str>) -> String {
        let renamed = RENAMED_KEYS.iter().find(|renamed| renamed.old == key);
        if let Some(Renamed { new, .. }) = renamed.filter(|renamed| self.names.contains(&renamed.new)) {
            return format!("renamed to {new:?}");
        }
        let hint = match (suggestion, ALL.iter().find(|keys| keys.names.contains(&key))) {
            (Some(near), _) => format!(" (did you mean {near:?}?)"),
            (None, Some(home)) => format!(" (it belongs in {})", home.path),
            (None, None) => String::new(),
        };
        format!("unknown key{hint}, expected one of {}", quoted(self.names))
    }
}

/// Whether two names differ only in style (`maxSeries`, `max-series`) and by at most two typing errors; by one in a short
/// name.
fn is_near(name: &str, key: &str) -> bool {
    let bare = |text: &str| -> Vec<u8> {
        let style = |byte: &u8| matches!(byte, b'_' | b'-' | b'.' | b' ');
        text.bytes().filter(|byte| !style(byte)).map(|byte| byte.to_ascii_lowercase()).collect()
    };
    let (name, key) = (bare(name), bare(key));
    let slips = if name.len() < 6 { 1 } else { 2 };
    name.len().abs_diff(key.len()) <= slips && edit_distance(&name, &key) <= slips
}

/// Levenshtein's distance: insertions, deletions and substitutions.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for from in a {
        let mut diagonal = row.first().copied().unwrap_or_default();
        let mut left = diagonal.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b) {
            let substituted = diagonal.saturating_add(usize::from(from != to));
            diagonal = *cell;
            *cell = substituted.min(left.min(diagonal).saturating_add(1));
            left = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edit_distance_is_symmetric() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("ports", "portz", 1),
            ("mode", "moed", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(a.as_bytes(), b.as_bytes()), distance, "{a} {b}");
            assert_eq!(edit_distance(b.as_bytes(), a.as_bytes()), distance, "{b} {a}");
        }
    }

    #[test]
    fn a_name_is_near_another_style_of_it_and_never_another_key() {
        assert!(is_near("max_series", "maxSeries"));
        assert!(is_near("flush_interval", "flush-intervall"));
        assert!(is_near("ports", "port"));
        assert!(!is_near("log", "tag"));
        for (keys, name) in ALL.iter().flat_map(|keys| keys.names.iter().map(move |name| (keys, name))) {
            let near: Vec<_> = keys.names.iter().filter(|other| is_near(name, other)).collect();
            assert_eq!(near, [name], "two keys of {} are too alike to suggest one", keys.path);
        }
    }
}
