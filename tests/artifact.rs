//! The built module: small, free of this machine's paths, and asking the host only for what Envoy has.

// Helpers of tests are no tests to clippy, and a panic is how they report.
#![allow(clippy::unwrap_used)]

mod support;

use wasmparser::{Parser, Payload, TypeRef};

/// Every worker of every proxy compiles it at each configuration.
const MAX_BYTES: usize = 400 * 1024;

fn module() -> Vec<u8> {
    std::fs::read(support::wasm()).unwrap()
}

/// `(module, name)` of everything imported.
fn imports(wasm: &[u8]) -> Vec<(String, String)> {
    let mut imports = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::ImportSection(section) = payload.unwrap() {
            for import in section.into_imports() {
                let import = import.unwrap();
                assert!(matches!(import.ty, TypeRef::Func(_)), "{import:?} is not a function");
                imports.push((import.module.to_owned(), import.name.to_owned()));
            }
        }
    }
    imports
}

#[test]
fn is_small() {
    let size = module().len();
    assert!(size <= MAX_BYTES, "the module has {size} bytes, {MAX_BYTES} are allowed");
}

/// Envoy refuses a module with an import it does not know, at the time it is loaded.
#[test]
fn imports_only_what_envoy_has() {
    for (module, name) in imports(&module()) {
        let known = match module.as_str() {
            "env" => name.starts_with("proxy_"),
            "wasi_snapshot_preview1" => true,
            _ => false,
        };
        assert!(known, "the module imports {module}.{name}");
    }
}

#[test]
fn names_no_path_of_the_machine_that_built_it() {
    let wasm = module();
    let paths = [Some(support::root().into()), std::env::home_dir().map(|home| home.join(".cargo"))];
    for path in paths.into_iter().flatten() {
        let needle = path.to_str().unwrap().as_bytes();
        assert!(
            !wasm.windows(needle.len()).any(|window| window == needle),
            "{} is in the module",
            path.display()
        );
    }
}
