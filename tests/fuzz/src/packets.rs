//! Captures, as first inputs of fuzz targets.

use std::fs;
use std::path::Path;

#[path = "../../../crates/testing/src/capture/text.rs"]
#[allow(dead_code, reason = "captures are only read here")]
mod text;

pub use text::Chunks;

/// The chunks of each capture.
pub fn captures() -> Vec<Chunks> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../captures");
    let paths = fs::read_dir(directory).expect("captures").map(|entry| entry.expect("a capture").path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "cap")).collect();
    paths.sort();
    paths.iter().map(|path| text::parse(&fs::read_to_string(path).expect("a capture"))).collect()
}
