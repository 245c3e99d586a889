//! Packs images as image layouts in `target/oci`:
//!
//! - without arguments, for `make image`: the wasm module, as the two images that Istio's agent can fetch;
//! - `native`, for `make image-native`: the native module of this machine;
//! - `native amd64=PATH arm64=PATH`: the native module for both processors;
//! - `command amd64=PATH arm64=PATH`: the command.
//!
//! The same files have the same digests on any machine, because an image contains neither the time nor the place of its build.

// A tool reports failures through a panic.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod layout;
mod platforms;

use std::path::Path;

use firstword_testing::root;
use layout::Form;
use platforms::Content;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let Some((content, files)) = arguments.split_first() else { return wasm() };
    match content.as_str() {
        "command" => pack(Content::Command, "target/oci/command", files),
        "native" if files.is_empty() => {
            let module = root().join("target/libfirstword.so");
            let file = format!("{}={}", processor(), module.display());
            pack(Content::Native, "target/oci/native", &[file]);
        }
        "native" => pack(Content::Native, "target/oci/native", files),
        other => panic!("{other} is no image: command or native"),
    }
}

fn wasm() {
    let module = read(&root().join("target/firstword.wasm"), "; run: make wasm");
    for (form, directory) in [(Form::Image, "target/oci/image"), (Form::Artifact, "target/oci/artifact")] {
        println!("{directory:<20}{}", layout::write(form, &module, &root().join(directory)));
    }
}

/// Packs files that are given as `PROCESSOR=PATH`.
fn pack(content: Content, directory: &str, files: &[String]) {
    let file = |argument: &String| -> (String, Vec<u8>) {
        let (processor, path) = argument.split_once('=').expect("PROCESSOR=PATH");
        (processor.to_owned(), read(Path::new(path), ""))
    };
    let files: Vec<_> = files.iter().map(file).collect();
    assert!(!files.is_empty(), "no file for any processor: PROCESSOR=PATH");
    let files: Vec<_> = files.iter().map(|(name, file)| (name.as_str(), file.as_slice())).collect();
    println!("{directory:<20}{}", platforms::write(content, &files, &root().join(directory)));
}

/// Name that images have for this machine's processor.
fn processor() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => panic!("no image for {other}"),
    }
}

fn read(path: &Path, hint: &str) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}{hint}", path.display()))
}
