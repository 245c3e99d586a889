//! The filter of the native module.

use serde_json::{Value, json};

use crate::{codes, json_of};

/// The file of a native module, as JSON.
fn native_bootstrap() -> Value {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy/native.yaml");
    serde_norway::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn a_native_module_needs_the_extension_of_the_same_file() {
    assert_eq!(codes(&json_of(&["-"], &native_bootstrap()).1), [""; 0]);
    let mut without = native_bootstrap();
    without.as_object_mut().unwrap().remove("bootstrap_extensions");
    let mut copy = native_bootstrap();
    let config = &mut copy["bootstrap_extensions"][0]["typed_config"]["dynamic_module_config"];
    config["module"]["local"]["filename"] = json!("target/copy.so");
    for bootstrap in [without, copy] {
        assert_eq!(codes(&json_of(&["-"], &bootstrap).1), ["warning native-without-extension"]);
    }
}

#[test]
fn the_configuration_of_a_native_module_is_checked() {
    let mut bootstrap = native_bootstrap();
    let filter = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    filter["typed_config"]["filter_config"]["value"] = json!(r#"{"mode": "of"}"#);
    assert_eq!(codes(&json_of(&["-"], &bootstrap).1), ["error configuration"]);
    let kind = "type.googleapis.com/google.protobuf.Struct";
    let filter = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    filter["typed_config"]["filter_config"] = json!({"@type": kind, "value": {"mode": "off"}});
    assert_eq!(codes(&json_of(&["-"], &bootstrap).1), [""; 0]);
}
