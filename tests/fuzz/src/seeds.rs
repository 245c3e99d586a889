//! The first inputs of a fuzz target. Each target writes its own, because only it knows the format of its input.

use std::path::PathBuf;
use std::{env, fs};

/// Writes these into the directory `FUZZ_SEEDS`. Writes nothing without this variable, because then a crash is repeated.
pub fn write(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(directory) = env::var_os("FUZZ_SEEDS").map(PathBuf::from) else { return };
    let mut count = 0;
    for (index, seed) in seeds.into_iter().enumerate() {
        fs::write(directory.join(format!("seed-{index}")), seed).expect("a directory for the seeds");
        count += 1;
    }
    assert!(count > 0, "there are seeds");
}
