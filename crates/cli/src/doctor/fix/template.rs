//! Files of `istio/`, with example values that the user's own values replace.

use crate::findings::Fix;

/// A file of this repository.
pub(super) struct Template {
    pub(super) path: &'static str,
    pub(super) text: &'static str,
}

macro_rules! template {
    ($path:literal) => {
        Template { path: $path, text: include_str!(concat!("../../../../../", $path)) }
    };
}

pub(super) const DNS_NAME: Template = template!("istio/scenarios/port-conflict/dns-name.yaml");
pub(super) const PODS_ENTRY: Template = template!("istio/scenarios/headless/serviceentry.yaml");
pub(super) const MAIN_INTERNAL: Template = template!("istio/scenarios/waypoint/main-internal.yaml");
pub(super) const SERVICE_ENTRY: Template = template!("istio/scenarios/port-conflict/serviceentry.yaml");
pub(super) const SIDECAR: Template = template!("istio/scenarios/port-conflict/sidecar.yaml");
pub(super) const LISTENER_ADD: Template = template!("istio/scenarios/port-conflict/listener-add.yaml");
pub(super) const SNIFF_TIMEOUT: Template = template!("istio/scenarios/port-conflict/sniff-timeout.yaml");
pub(super) const DYNAMIC_DNS: Template = template!("istio/scenarios/dynamic-dns/envoyfilter.yaml");
pub(super) const SERVICE_PORT: Template = template!("istio/scenarios/undeclared-port/service-port.yaml");
pub(super) const SERVICE: Template = template!("istio/scenarios/undeclared-port/service.yaml");
pub(super) const GATEWAY: Template = template!("istio/scenarios/gateway/gateway.yaml");
pub(super) const PEER_AUTHENTICATION: Template = template!("istio/envoyfilter/peerauthentication.yaml");
pub(super) const EXTENSION: Template = template!("istio/envoyfilter/extension.yaml");
pub(super) const ANNOTATIONS: Template = template!("istio/components/pod-annotations/annotations.yaml");
pub(super) const RECEIVE: Template = template!("istio/scenarios/proxy-protocol/receive.yaml");
pub(super) const RECEIVE_AT_GATEWAY: Template = template!("istio/scenarios/proxy-protocol/gateway.yaml");
pub(super) const SEND: Template = template!("istio/scenarios/proxy-protocol/send.yaml");

/// Whether a text may stand in YAML as a name: the characters that Kubernetes allows in names, hosts and label values.
pub(in super::super) fn is_name(text: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    !text.is_empty() && text.len() <= 253 && text.chars().all(plain)
}

pub(super) type Values<'v> = &'v [(&'static str, String)];

/// A fix from files, with the user's values.
pub(super) fn fix(what: impl Into<String>, trade_off: impl Into<String>, of: &[(&Template, Values)]) -> Fix {
    let texts: Vec<_> = of.iter().map(|(template, values)| filled(template.text, values)).collect();
    let from = of.iter().map(|(template, _)| template.path).collect();
    Fix { from, yaml: texts.join("---\n"), ..Fix::advice(what, trade_off) }
}

/// A template with the user's values, without the command that applies the file unchanged.
fn filled(template: &str, values: Values) -> String {
    let lines: Vec<_> = template.lines().collect();
    let is_command = |line: &str| line.starts_with("#   ");
    let mut text = String::with_capacity(template.len());
    for (index, line) in lines.iter().enumerate() {
        let before_command =
            *line == "#" && lines.get(index.saturating_add(1)).is_some_and(|next| is_command(next));
        if !is_command(line) && !before_command {
            text.push_str(line);
            text.push('\n');
        }
    }
    replaced(&text, values)
}

/// Replaces whole words in one pass, so that a new value is not replaced again. Of several matches the longest wins.
fn replaced(text: &str, values: Values) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let in_word = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric());
        let matches_here = |from: &&str| {
            let begins = !in_word(from.chars().next()) || !in_word(done.chars().last());
            let ends = |after: &str| !in_word(from.chars().last()) || !in_word(after.chars().next());
            begins && rest.strip_prefix(*from).is_some_and(ends)
        };
        let found = values.iter().filter(|(from, _)| matches_here(from)).max_by_key(|(from, _)| from.len());
        match found.and_then(|(from, to)| Some((rest.strip_prefix(from)?, to))) {
            Some((after, to)) => {
                done.push_str(to);
                rest = after;
            }
            None => {
                done.push(next);
                rest = rest.get(next.len_utf8()..).unwrap_or_default();
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_replaced_once() {
        let values = [("10", "20".to_owned()), ("20", "30".to_owned()), ("10_a", "x".to_owned())];
        assert_eq!(replaced("10 100 a10 {10} 20 10_a 10_b", &values), "20 100 a10 {20} 30 x 20_b");
    }
}
