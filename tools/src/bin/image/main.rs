//! `make image`: packs the module as the two OCI images that Istio's agent can fetch, as image layouts in `target/oci`.
//!
//! The same module has the same digests on any machine, because an image contains neither the time nor the place of its build.

// A tool reports failures through a panic.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod layout;

use firstword_testing::root;
use layout::Form;

fn main() {
    let path = root().join("target/firstword.wasm");
    let module = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run: make wasm", path.display()));
    for (form, directory) in [(Form::Image, "target/oci/image"), (Form::Artifact, "target/oci/artifact")] {
        println!("{directory:<20}{}", layout::write(form, &module, &root().join(directory)));
    }
}
