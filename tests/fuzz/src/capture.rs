//! Fuzz target: random bytes as a capture file. `firstword inspect` reads it to its end or to the place that it names, and its
//! report contains only harmless characters.

#![no_main]

mod inspect;
#[path = "../../../crates/cli/src/paint.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod paint;
mod seeds;

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;

/// Maximum length of a seed, because longer inputs are slow.
const MAX_SEED: usize = 8192;

/// The committed capture files, or their beginnings.
fn examples() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../captures/pcap");
    let paths = fs::read_dir(directory).expect("capture files").map(|entry| entry.expect("a file").path());
    let read = paths.map(|path| fs::read(path).expect("a capture file"));
    read.map(|bytes| bytes.into_iter().take(MAX_SEED).collect()).collect()
}

fuzz_target!(init: seeds::write(examples()), |bytes: &[u8]| inspect::any_capture(bytes));
