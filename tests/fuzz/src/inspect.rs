//! `firstword inspect` without its command line.

use firstword::escape::{is_text, json};

use crate::paint::{Colour, Paint};

macro_rules! files {
    ($($name:ident = $path:literal;)*) => {$(
        #[path = $path]
        #[allow(dead_code, reason = "a part of it is used here")]
        mod $name;
    )*};
}

files! {
    capture = "../../../crates/cli/src/inspect/capture.rs";
    conversation = "../../../crates/cli/src/inspect/conversation.rs";
    flow = "../../../crates/cli/src/inspect/flow.rs";
    flows = "../../../crates/cli/src/inspect/flows.rs";
    greeting = "../../../crates/cli/src/inspect/greeting.rs";
    hazard = "../../../crates/cli/src/inspect/hazard.rs";
    pcap = "../../../crates/cli/src/inspect/pcap.rs";
    proxy_headers = "../../../crates/cli/src/inspect/proxy_headers.rs";
    reader = "../../../crates/cli/src/inspect/reader.rs";
    report = "../../../crates/cli/src/inspect/report.rs";
    segment = "../../../crates/cli/src/inspect/segment.rs";
    slowest = "../../../crates/cli/src/inspect/slowest.rs";
    stream = "../../../crates/cli/src/inspect/stream.rs";
    table = "../../../crates/cli/src/inspect/table.rs";
    text = "../../../crates/cli/src/inspect/text.rs";
    wall_clock = "../../../crates/cli/src/inspect/wall_clock.rs";
}

/// Reads `bytes` as a capture file, and writes the report in both forms.
pub fn any_capture(bytes: &[u8]) {
    let settings = reader::Settings { ports: &[], max_commands: 50, max_slowest: 10, shows_user: true };
    let mut report = report::Report::new("capture".to_owned());
    reader::read(bytes, &settings, &mut report);
    let mut shown = Vec::new();
    text::write(&report, Paint::for_stdout(Colour::Never), &mut shown).expect("a Vec takes everything");
    let shown = String::from_utf8(shown).expect("UTF-8");
    assert!(shown.chars().all(|char| is_text(char) || char == '\n'), "{shown:?}");
    if let Some(problem) = &report.problem {
        assert!(problem.starts_with("byte ") && problem.chars().all(is_text), "{problem:?}");
    }
    let serialised = serde_json::to_string(&report).expect("a report");
    let value: serde_json::Value = serde_json::from_str(&json(&serialised)).expect("JSON");
    assert!(value.is_object());
}
