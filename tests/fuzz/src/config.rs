//! Any bytes as a configuration: it is refused with a reason and a place, or means the same however the JSON is written.

#![no_main]

mod seeds;

use std::fs;
use std::path::Path;

use firstword::config::{Config, ConfigErrors};
use firstword::escape::is_text;
use firstword::event::Direction;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Holds what must be true of what is said about a configuration that is refused.
fn explained(errors: &ConfigErrors) {
    assert!(errors.iter().count() > 0);
    for error in errors {
        assert!(error.at.starts_with('$'), "{error}");
        assert!(error.to_string().chars().all(is_text), "{error:?}");
        assert!(error.to_string().len() < 1000, "{error}");
    }
}

/// Holds what must be true of one that is accepted.
fn means_the_same(json: &[u8], config: &Config) {
    assert_eq!(Config::parse(json).as_ref(), Ok(config));
    let written = match serde_json::from_slice::<Value>(json) {
        Ok(value) => serde_json::to_vec_pretty(&value).expect("JSON that was read"),
        // Nothing at all is the empty configuration.
        Err(_) => Vec::new(),
    };
    assert_eq!(Config::parse(&written).as_ref(), Ok(config), "{}", written.escape_ascii());
    for ports in config.named_ports() {
        assert!(!ports.is_empty());
        let _ = config.policy(Some(*ports.start()), None, Direction::Inbound);
    }
}

/// The whole schema, and what is accepted and refused in the tests.
fn examples() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let read = |name| fs::read_to_string(directory.join(name)).expect("examples of configurations");
    let problems = read("problems.txt");
    let lines = problems.lines().filter(|line| !line.is_empty() && !line.starts_with([' ', '#']));
    lines.map(|line| line.as_bytes().to_vec()).chain([read("whole.json").into_bytes()]).collect()
}

fuzz_target!(init: seeds::write(examples()), |json: &[u8]| {
    match Config::parse(json) {
        Ok(config) => means_the_same(json, &config),
        Err(errors) => explained(&errors),
    }
});
