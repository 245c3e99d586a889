//! Fuzz target: random bytes as a configuration. It is refused with a reason and a JSON path, or it has the same meaning in
//! any layout of the JSON.

#![no_main]

mod seeds;

use std::fs;
use std::path::Path;

use firstword::config::{Config, ConfigErrors};
use firstword::escape::is_text;
use firstword::event::Direction;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Asserts that each problem has a path and is printable.
fn assert_explained(errors: &ConfigErrors) {
    assert!(errors.iter().count() > 0);
    for error in errors {
        assert!(error.at.starts_with('$'), "{error}");
        assert!(error.to_string().chars().all(is_text), "{error:?}");
        assert!(error.to_string().len() < 1000, "{error}");
    }
}

/// Asserts that an accepted configuration has the same meaning when its JSON is written again.
fn assert_same_meaning(json: &[u8], config: &Config) {
    assert_eq!(Config::parse(json).as_ref(), Ok(config));
    let written = match serde_json::from_slice::<Value>(json) {
        Ok(value) => serde_json::to_vec_pretty(&value).expect("JSON that was read"),
        // Empty input is the empty configuration.
        Err(_) => Vec::new(),
    };
    assert_eq!(Config::parse(&written).as_ref(), Ok(config), "{}", written.escape_ascii());
    for ports in config.named_ports() {
        assert!(!ports.is_empty());
        let _ = config.policy(Some(*ports.start()), None, Direction::Inbound);
    }
}

/// The configuration with every key, and the accepted and refused ones of the tests.
fn examples() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let read = |name| fs::read_to_string(directory.join(name)).expect("examples of configurations");
    let problems = read("problems.txt");
    let lines = problems.lines().filter(|line| !line.is_empty() && !line.starts_with([' ', '#']));
    lines.map(|line| line.as_bytes().to_vec()).chain([read("whole.json").into_bytes()]).collect()
}

fuzz_target!(init: seeds::write(examples()), |json: &[u8]| {
    match Config::parse(json) {
        Ok(config) => assert_same_meaning(json, &config),
        Err(errors) => assert_explained(&errors),
    }
});
