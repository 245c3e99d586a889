//! `make image`: packs the module as the two OCI images that Istio's agent can fetch, as image layouts in `target/oci`. With the
//! arguments `amd64=PATH arm64=PATH` it packs these binaries as the image of the command instead.
//!
//! The same module has the same digests on any machine, because an image contains neither the time nor the place of its build.

// A tool reports failures through a panic.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod command;
mod layout;

use std::path::Path;

use firstword_testing::root;
use layout::Form;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        let module = read(&root().join("target/firstword.wasm"), "; run: make wasm");
        for (form, directory) in [(Form::Image, "target/oci/image"), (Form::Artifact, "target/oci/artifact")]
        {
            println!("{directory:<20}{}", layout::write(form, &module, &root().join(directory)));
        }
        return;
    }
    let binary = |argument: &String| -> (String, Vec<u8>) {
        let (processor, path) = argument.split_once('=').expect("PROCESSOR=PATH");
        (processor.to_owned(), read(Path::new(path), ""))
    };
    let binaries: Vec<_> = arguments.iter().map(binary).collect();
    let binaries: Vec<_> = binaries.iter().map(|(name, binary)| (name.as_str(), binary.as_slice())).collect();
    let directory = "target/oci/command";
    println!("{directory:<20}{}", command::write(&binaries, &root().join(directory)));
}

fn read(path: &Path, hint: &str) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}{hint}", path.display()))
}
