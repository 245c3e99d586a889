//! `rules[].proxy_protocol`: the PROXY headers that the filter receives and sends.

use std::time::Duration;

use super::duration::HOUR;
use super::error::Problems;
use super::field::Object;
use super::keys;
use super::matching::read_networks;
use super::text::alternatives;
use crate::proxy_protocol::networks::Networks;
use crate::proxy_protocol::{Format, MAX_V1_LEN, MAX_V2_LEN};
use crate::rules::{Need, Untrusted};

/// A rule's settings for PROXY headers. By default the filter neither receives nor sends headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// `receive`; `None` for the mode `off`.
    pub receive: Option<Receive>,
    /// `send`; `None` for the mode `off`.
    pub send: Option<Send>,
}

/// `receive` in a mode other than `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receive {
    /// Whether a header is required.
    pub need: Need,
    /// Peers whose headers the filter believes; none by default.
    pub trusted_networks: Networks,
    /// `on_untrusted_header`: the action for a header of another peer.
    pub untrusted: Untrusted,
    /// Maximum time until the header is complete, 1 ms to an hour.
    pub timeout: Duration,
    /// Maximum length of a header, 107 to 65551 bytes.
    pub max_header_bytes: usize,
}

/// `send` in the mode `with_first_client_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// `version`.
    pub format: Format,
    /// `when`: whether the filter sends no header on a connection on which it has believed one.
    pub only_unless_received: bool,
}

const UNTRUSTED: [(&str, Untrusted); 2] = [("close", Untrusted::Close), ("strip", Untrusted::Strip)];

pub(super) fn read(rule: &Object<'_>, problems: &mut Problems) -> ProxyProtocol {
    let Some(object) = rule.object("proxy_protocol", &keys::PROXY_PROTOCOL, problems) else {
        return ProxyProtocol::default();
    };
    let receive = object.object("receive", &keys::RECEIVE, problems);
    let receive = receive.and_then(|receive| read_receive(&receive, problems));
    let send = object.object("send", &keys::SEND, problems);
    let send = send.and_then(|send| read_send(&send, receive.is_some(), problems));
    ProxyProtocol { receive, send }
}

fn read_receive(receive: &Object<'_>, problems: &mut Problems) -> Option<Receive> {
    let mode = read_mode(receive, &["off", "optional", "required"], problems);
    let untrusted = receive.get("on_untrusted_header").and_then(|field| field.word(&UNTRUSTED, problems));
    let untrusted = untrusted.unwrap_or_default();
    let trusted_networks = match receive.get("trusted_networks") {
        Some(field) => read_networks(&field, problems),
        None if mode == Some("required") && untrusted == Untrusted::Close => {
            let why = "with the mode \"required\" no other client can connect";
            let problem = format!("expected at least one address or network, because {why}; found nothing");
            problems.add(&format!("{}.trusted_networks", receive.at), problem);
            None
        }
        None => None,
    };
    let timeout = receive.get("timeout").and_then(|field| field.duration(1, HOUR, problems));
    let connect = receive.get("connect_upstream").and_then(|field| {
        let connect = field.one_of(&["immediately", "after_header"], problems);
        if connect == Some("after_header") && mode == Some("optional") {
            // The client may wait for the server's greeting.
            let expected = "\"immediately\" with the mode \"optional\", which must never wait for a header";
            field.refuse(expected, problems);
        }
        connect
    });
    // From the maximum length of version 1 to that of version 2.
    let limit = |len| u32::try_from(len).unwrap_or(u32::MAX);
    let max = receive.get("max_header_bytes");
    let max = max.and_then(|field| field.integer(limit(MAX_V1_LEN), limit(MAX_V2_LEN), problems));
    let need = match (mode?, connect) {
        ("optional", _) => Need::Optional,
        ("required", Some("after_header")) => Need::BeforeConnect,
        ("required", _) => Need::Required,
        _ => return None,
    };
    Some(Receive {
        need,
        trusted_networks: trusted_networks.unwrap_or_default(),
        untrusted,
        timeout: timeout.unwrap_or(Duration::from_secs(3)),
        max_header_bytes: max.and_then(|max| usize::try_from(max).ok()).unwrap_or(536),
    })
}

fn read_send(send: &Object<'_>, receives: bool, problems: &mut Problems) -> Option<Send> {
    let mode = read_mode(send, &["off", "with_first_client_bytes"], problems);
    let version = send.get("version").and_then(|field| field.integer(1, 2, problems));
    let when = send.get("when").and_then(|field| {
        let when = field.one_of(&["always", "not_received"], problems);
        if when == Some("not_received") && mode == Some("with_first_client_bytes") && !receives {
            field.refuse("\"always\" where \"receive\" is off, because no header is received then", problems);
        }
        when
    });
    (mode? == "with_first_client_bytes").then_some(Send {
        format: if version == Some(2) { Format::V2 } else { Format::V1 },
        only_unless_received: when == Some("not_received"),
    })
}

/// Reads the `mode` of a part. Without a mode the part has no effect, so that its other keys are a problem.
fn read_mode(part: &Object<'_>, modes: &[&'static str], problems: &mut Problems) -> Option<&'static str> {
    let mode = part.get("mode");
    if mode.is_none() && part.has_other_than("mode") {
        let expected = alternatives(modes);
        problems.add(&format!("{}.mode", part.at), format!("expected {expected}, found nothing"));
    }
    mode?.one_of(modes, problems)
}
