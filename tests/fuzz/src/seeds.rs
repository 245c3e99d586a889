//! What fuzzing begins with. A target writes it itself, as only it knows how its input is laid out.

use std::path::PathBuf;
use std::{env, fs};

/// Writes these into the directory that `FUZZ_SEEDS` names; without it, nothing: somebody repeats a crash.
pub fn write(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(directory) = env::var_os("FUZZ_SEEDS").map(PathBuf::from) else { return };
    let mut count = 0;
    for (index, seed) in seeds.into_iter().enumerate() {
        fs::write(directory.join(format!("seed-{index}")), seed).expect("a directory for the seeds");
        count += 1;
    }
    assert!(count > 0, "there are seeds");
}
