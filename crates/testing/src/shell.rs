//! The shell under test. `FIRSTWORD_SHELL=native` runs the tests with the native module in place of the wasm module: each
//! bootstrap is translated when Envoy starts, so a test is written once.

use std::path::PathBuf;

use serde_json::{Value, json};

/// True if the native module is under test.
pub fn is_native() -> bool {
    std::env::var_os("FIRSTWORD_SHELL").is_some_and(|shell| shell == "native")
}

/// The native module under test: `FIRSTWORD_NATIVE`, else `target/libfirstword.so`.
pub fn native() -> PathBuf {
    super::built("FIRSTWORD_NATIVE", "target/libfirstword.so", "make native")
}

/// Number of filters that one configuration has before the first connection to an Envoy with one worker. In wasm these are the
/// filter of the main thread and that of the worker.
pub fn idle_filters() -> u32 {
    if is_native() { 1 } else { 2 }
}

/// True if this line of Envoy's log is from the filter.
pub fn is_filter_line(line: &str) -> bool {
    let ours = line.contains("event=") || line.contains("configuration re");
    line.contains("wasm log") || line.contains("[dynamic_modules]") && ours
}

/// Translates a bootstrap for the shell under test.
pub(crate) fn translate_bootstrap(bootstrap: &mut Value) {
    if is_native() {
        translate(bootstrap);
        add_extension(bootstrap);
    }
}

/// Translates the filters in a resource for the shell under test.
pub fn translate_resource(resource: &mut Value) {
    if is_native() {
        translate(resource);
    }
}

/// The reference to the module in Envoy's configuration.
fn module() -> Value {
    json!({"module": {"local": {"filename": native()}}, "do_not_close": true})
}

/// Adds what `envoy/native.yaml` has: the bootstrap extension, and the setting for the names of metrics.
fn add_extension(bootstrap: &mut Value) {
    let extension = json!({
        "name": "envoy.bootstrap.dynamic_modules",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.bootstrap.dynamic_modules.v3.DynamicModuleBootstrapExtension",
            "dynamic_module_config": module(),
            "extension_name": "firstword",
        },
    });
    match bootstrap.get_mut("bootstrap_extensions").and_then(Value::as_array_mut) {
        Some(extensions) if extensions.iter().any(|other| other["name"] == extension["name"]) => {}
        Some(extensions) => extensions.push(extension),
        None => bootstrap["bootstrap_extensions"] = json!([extension]),
    }
    let guard = "envoy.reloadable_features.dynamic_modules_strip_custom_stat_prefix";
    bootstrap["layered_runtime"]["layers"] = json!([{"name": "firstword", "static_layer": {guard: true}}]);
}

/// Replaces each wasm filter by the native one, and the keys of filter state by those of the native module.
fn translate(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let kind = object.get("@type").and_then(Value::as_str).unwrap_or_default();
            if kind.ends_with(".network.wasm.v3.Wasm") {
                let plugin = &object["config"];
                let mut filter = json!({
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.dynamic_modules.v3.\
                              DynamicModuleNetworkFilter",
                    "dynamic_module_config": module(),
                    "filter_name": plugin["name"],
                });
                if let Some(configuration) = plugin.get("configuration") {
                    filter["filter_config"] = configuration.clone();
                }
                *value = filter;
                return;
            }
            object.values_mut().for_each(translate);
        }
        Value::Array(list) => list.iter_mut().for_each(translate),
        Value::String(text) => *text = text.replace("wasm.firstword.", "firstword."),
        _ => {}
    }
}
