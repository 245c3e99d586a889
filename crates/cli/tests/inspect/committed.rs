//! Recorded captures of real connections, and what is said of them, word by word: `tests/captures/pcap`.
//!
//! `FIRSTWORD_BLESS=1 cargo test --test inspect committed` writes it down anew; read the difference before
//! committing it.

use std::fs;
use std::path::PathBuf;

use crate::run;
use firstword_testing::root;

/// The captures, by their names.
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
fn what_is_said_is_what_is_written_down() {
    let mut wrong = Vec::new();
    for capture in captures() {
        assert!(fs::metadata(&capture).unwrap().len() < 64 << 10, "{}", capture.display());
        let name = capture.strip_prefix(root()).unwrap().to_str().unwrap();
        for (format, extension) in [("text", "txt"), ("json", "json")] {
            let said = run(&["-o", format, name], b"");
            assert_eq!(said.problem, "");
            if format == "json" {
                said.json();
            }
            let expected = capture.with_extension(extension);
            if std::env::var_os("FIRSTWORD_BLESS").is_some() {
                fs::write(&expected, &said.output).unwrap();
            }
            if said.output != fs::read_to_string(&expected).unwrap_or_default() {
                wrong.push(format!("{name}:\n{}", said.output));
            }
        }
    }
    assert!(wrong.is_empty(), "not what is written down:\n{}", wrong.join("\n"));
}

/// What a client and a server say to each other is theirs. All of it is `hidden` in the captures.
#[test]
fn no_statement_and_no_account_is_shown() {
    let mut with_account = 0;
    for capture in captures() {
        let capture = capture.to_str().unwrap();
        for format in ["text", "json"] {
            let said = run(&["-o", format, capture], b"").output;
            assert!(!said.contains("hidden"), "{capture}: {said}");
            let said = run(&["-o", format, "--user", capture], b"").output;
            with_account += usize::from(said.contains("hidden_account"));
            assert!(!said.replace("hidden_account", "").contains("hidden"), "{capture}: {said}");
        }
    }
    assert!(with_account >= 4, "{with_account}");
}
