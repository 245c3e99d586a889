//! Decision about a configuration that has problems: the filter refuses it, or runs with the defaults.
//!
//! A proxy without a filter may close every connection, so a new proxy runs with the defaults. It refuses a text that
//! contains a protecting setting, because the defaults would drop the protection. A proxy that has accepted a configuration
//! refuses all bad ones, because it then keeps the old configuration.

use log::Level;
use serde::de::IgnoredAny;

use super::access_log::POLICY_KEYS;
use super::host::Host;
use crate::config::ConfigErrors;

/// Keys of settings on which the server or a policy depends. [`POLICY_KEYS`] of the access log protect too.
const PROTECTING: [&str; 4] = ["proxy_protocol", "tls", "clear_capabilities", "block_local_infile"];

/// Facts about the proxy on which the decision depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyState {
    /// True if the operator wants each bad configuration to be refused.
    pub always_refuses: bool,
    /// True if the proxy has accepted a configuration of this plugin.
    pub has_accepted: bool,
    /// True if the proxy has already decided to run with the defaults instead of the same text. The decision holds for all
    /// workers and does not change, because Envoy asks once for a text, and a worker that refused what the proxy has
    /// accepted would lose its VM.
    pub has_rejected: bool,
}

/// Logs the problems of a configuration, and the decision. Returns true if the filter runs with the defaults.
pub(super) fn runs_with_defaults(
    configuration: &[u8],
    problems: &ConfigErrors,
    proxy: ProxyState,
    host: &dyn Host,
) -> bool {
    let keeps_older = proxy.has_accepted && !proxy.has_rejected;
    let refuses = proxy.always_refuses || keeps_older;
    let word = if refuses { None } else { protecting_word(configuration, problems) };
    let is_refused = refuses || word.is_some();
    let verb = if is_refused { "refused" } else { "rejected" };
    for problem in problems {
        host.log(Level::Error, &format!("configuration {verb}: {problem}"));
    }
    if let Some(word) = word {
        let line = format!(
            "event=config_refused word={word} reason=\"without this setting the server or a policy may not work, so the \
             filter does not run with the defaults\" fix=\"correct the problems in the lines before, which firstword \
             check-config lists too\""
        );
        host.log(Level::Error, &line);
    }
    if !is_refused {
        let problems = problems.into_iter().count();
        let line = format!(
            "event=config_rejected problems={problems} effect=\"the filter runs with the defaults: it inspects traffic, and \
             no rule applies\" fix=\"correct the problems in the lines before, which firstword check-config lists too\""
        );
        host.log(Level::Error, &line);
    }
    !is_refused
}

/// Returns the first protecting setting that the text contains, or that a misspelt key resembles.
fn protecting_word(configuration: &[u8], problems: &ConfigErrors) -> Option<&'static str> {
    let is_json = serde_json::from_slice::<IgnoredAny>(configuration).is_ok();
    PROTECTING.into_iter().chain(POLICY_KEYS).find(|word| {
        contains(configuration, word, is_json)
            || problems.iter().any(|problem| problem.suggestion() == Some(*word))
    })
}

/// True if the text contains the word: in quotes if the text is JSON, otherwise not as a part of a longer word. YAML and the
/// binary form of a protobuf message have no quotes.
fn contains(text: &[u8], word: &str, is_json: bool) -> bool {
    let is_limit = |byte: Option<&u8>| {
        if is_json {
            byte == Some(&b'"')
        } else {
            byte.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
        }
    };
    text.windows(word.len()).enumerate().any(|(start, found)| {
        let before = start.checked_sub(1).and_then(|index| text.get(index));
        let after = text.get(start.saturating_add(word.len()));
        found == word.as_bytes() && is_limit(before) && is_limit(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_contains_a_word_only_in_quotes() {
        for (text, expected) in [
            (r#"{"tls": {}}"#, true),
            (r#"["user"]"#, true),
            (r#"{"username": 1}"#, false),
            (r#"{"name": "the user"}"#, false),
            (r#"{"name": "tls"#, true),
        ] {
            let word = if text.contains("tls") { "tls" } else { "user" };
            let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
            assert_eq!(contains(text.as_bytes(), word, is_json), expected, "{text}");
        }
    }

    #[test]
    fn other_text_contains_a_word_without_quotes() {
        for (text, expected) in [
            ("mysql:\n  block_local_infile: true", true),
            ("block_local_infile", true),
            ("unblock_local_infile: true", false),
            ("block_local_infiles: true", false),
            ("\n\x12block_local_infile\x12\x02 \x01", true),
        ] {
            assert_eq!(contains(text.as_bytes(), "block_local_infile", false), expected, "{text:?}");
        }
        assert!(!contains(b"", "tls", false));
    }
}
