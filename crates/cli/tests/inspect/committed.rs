//! Recorded captures of real connections and their expected reports: `tests/captures/pcap`.
//!
//! `FIRSTWORD_BLESS=1 cargo test --test inspect committed` writes the reports again. Read the difference before you commit
//! it.

use std::fs;
use std::path::PathBuf;

use crate::run;
use firstword_testing::root;

/// The captures, sorted by name.
fn captures() -> Vec<PathBuf> {
    let directory = root().join("tests/captures/pcap");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_capture = |file: &PathBuf| {
        file.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng")
    };
    let mut captures: Vec<_> = files.filter(is_capture).collect();
    captures.sort();
    assert!(captures.len() >= 5, "{captures:?}");
    captures
}

#[test]
fn each_report_equals_the_committed_one() {
    let mut wrong = Vec::new();
    for capture in captures() {
        assert!(fs::metadata(&capture).unwrap().len() < 64 << 10, "{}", capture.display());
        let name = capture.strip_prefix(root()).unwrap().to_str().unwrap();
        for (format, extension) in [("text", "txt"), ("json", "json")] {
            let printed = run(&["-o", format, name], b"");
            assert_eq!(printed.problem, "");
            if format == "json" {
                printed.json();
            }
            let expected = capture.with_extension(extension);
            if std::env::var_os("FIRSTWORD_BLESS").is_some() {
                fs::write(&expected, &printed.output).unwrap();
            }
            if printed.output != fs::read_to_string(&expected).unwrap_or_default() {
                wrong.push(format!("{name}:\n{}", printed.output));
            }
        }
    }
    assert!(wrong.is_empty(), "not the committed reports:\n{}", wrong.join("\n"));
}

/// In these captures, all statements, values and accounts contain the word `hidden`.
#[test]
fn no_statement_and_no_account_is_shown() {
    let mut with_account = 0;
    for capture in captures() {
        let capture = capture.to_str().unwrap();
        for format in ["text", "json"] {
            let printed = run(&["-o", format, capture], b"").output;
            assert!(!printed.contains("hidden"), "{capture}: {printed}");
            let printed = run(&["-o", format, "--user", capture], b"").output;
            with_account += usize::from(printed.contains("hidden_account"));
            assert!(!printed.replace("hidden_account", "").contains("hidden"), "{capture}: {printed}");
        }
    }
    assert!(with_account >= 4, "{with_account}");
}
