//! The built module: it is small, contains no paths of this machine, and imports only functions that Envoy has.

// Clippy does not recognise helpers of tests, which report errors by a panic.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{Parser, Payload, TypeRef};

/// Maximum size in bytes. The module must be small, because every worker of every proxy compiles it for each configuration.
const MAX_BYTES: usize = 400 * 1024;

fn module() -> Vec<u8> {
    std::fs::read(firstword_testing::wasm()).unwrap()
}

/// `(module, name)` of every import.
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
fn the_module_is_small() {
    let size = module().len();
    assert!(size <= MAX_BYTES, "the module has {size} bytes, {MAX_BYTES} are allowed");
}

/// Envoy refuses to load a module with an unknown import.
#[test]
fn the_module_imports_only_functions_of_envoy() {
    for (module, name) in imports(&module()) {
        let known = match module.as_str() {
            "env" => name.starts_with("proxy_"),
            "wasi_snapshot_preview1" => ["environ_get", "environ_sizes_get"].contains(&name.as_str()),
            _ => false,
        };
        assert!(known, "the module imports {module}.{name}");
    }
}

/// The first column of the table in `SECURITY.md` whose header begins with `| first |`, and the rest of each row.
fn table(first: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(firstword_testing::root().join("SECURITY.md")).unwrap();
    let header = format!("| {first} |");
    let rows = text.lines().skip_while(|line| !line.starts_with(&header)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|row| {
        let (call, rest) = row.trim_matches('|').split_once('|').unwrap();
        (call.trim().trim_matches('`').to_owned(), rest.trim().to_owned())
    });
    rows.collect()
}

/// Each import is called for a documented purpose, or is never called.
#[test]
fn security_md_names_each_host_call() {
    let (called, never) = (table("host call"), table("imported, never called"));
    let named: BTreeSet<_> = called.keys().chain(never.keys()).cloned().collect();
    assert_eq!(named.len(), called.len() + never.len(), "a call is in both tables");
    let imported: BTreeSet<_> = imports(&module()).into_iter().map(|(_, name)| name).collect();
    assert_eq!(imported, named);
    let forbidden = ["http", "grpc", "queue", "header_map"];
    assert!(called.keys().all(|call| forbidden.iter().all(|word| !call.contains(word))), "{called:?}");

    // One file declares all calls, and no file uses those of the SDK.
    let plugin = firstword_testing::root().join("crates/proxy-wasm/src");
    let host = std::fs::read_to_string(plugin.join("hostcalls.rs")).unwrap();
    let declared = host.split("fn proxy_").skip(1).map(|rest| rest.split('(').next().unwrap());
    let environment = host.split("fn environ_").skip(1).map(|rest| rest.split('(').next().unwrap());
    let environment = environment.map(|name| format!("environ_{name}"));
    let declared: BTreeSet<_> = declared.map(|name| format!("proxy_{name}")).chain(environment).collect();
    assert!(declared.iter().eq(called.keys()), "{declared:?}");
    let methods: Vec<_> = never.values().flat_map(|methods| methods.split(", ")).collect();
    for file in std::fs::read_dir(plugin).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("proxy_wasm::hostcalls"), "{}", path.display());
        for method in methods.iter().map(|method| method.trim_matches('`')) {
            let calls = [format!(".{method}("), format!("::{method}")];
            assert!(calls.iter().all(|call| !text.contains(call)), "{}: {method}", path.display());
        }
    }

    // The list for Envoy's configuration.
    let text = std::fs::read_to_string(firstword_testing::root().join("SECURITY.md")).unwrap();
    let allowed = text.lines().filter_map(|line| line.trim().strip_suffix(": {}"));
    let allowed: BTreeSet<_> = allowed.filter(|name| !name.starts_with("proxy_on_")).collect();
    assert!(allowed.iter().eq(called.keys()), "{allowed:?}");
}

#[test]
fn the_module_contains_no_path_of_the_machine_that_built_it() {
    let wasm = module();
    let paths =
        [Some(firstword_testing::root().into()), std::env::home_dir().map(|home| home.join(".cargo"))];
    for path in paths.into_iter().flatten() {
        let needle = path.to_str().unwrap().as_bytes();
        assert!(
            !wasm.windows(needle.len()).any(|window| window == needle),
            "{} is in the module",
            path.display()
        );
    }
}
