//! A listener and an extension in files that Envoy watches, instead of a control plane.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::{temp_dir, wait_for};

/// The listener and the cluster of `envoy/mysql.yaml`.
pub const MYSQL: &str = "mysql";
const PATIENCE: Duration = Duration::from_secs(30);
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";

/// The files and their content.
pub struct Delivery {
    directory: TempDir,
    /// The listener, with `tcp_proxy` as its only filter.
    listener: Value,
    /// The filter of `envoy/mysql.yaml`, with the module under test.
    filter: Value,
}

/// A filter that allows each connection, as a substitute for a missing one.
pub fn allow_all() -> Value {
    json!({"@type": RBAC, "stat_prefix": "firstword_missing."})
}

/// A filter that closes each connection at its first byte.
pub fn deny_all() -> Value {
    let all = json!({"permissions": [{"any": true}], "principals": [{"any": true}]});
    json!({
        "@type": RBAC,
        "stat_prefix": "firstword_missing.",
        "rules": {"action": "DENY", "policies": {"all": all}},
    })
}

impl Delivery {
    /// Takes the listener from `envoy/mysql.yaml`, and the filter from the listener. At the start, delivers the listener
    /// without the filter, and no extension.
    pub fn new(server: SocketAddr) -> (Self, EnvoyOptions) {
        let directory = temp_dir();
        let lds = directory.path().join("listeners.json");
        let mut extracted = None;
        let options = EnvoyOptions::new("envoy/mysql.yaml").upstream(MYSQL, server).edit(|bootstrap| {
            let listeners = bootstrap["static_resources"]["listeners"].as_array_mut();
            let mut listener = listeners.expect("listeners").remove(0);
            let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("filters");
            let filter = filters.remove(0)["typed_config"].take();
            extracted = Some((listener, filter));
            bootstrap["node"] = json!({"id": "test", "cluster": "test"});
            bootstrap["dynamic_resources"]["lds_config"]["path_config_source"]["path"] = json!(lds);
        });
        let (mut listener, filter) = extracted.expect("a listener");
        listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        let delivery = Self { directory, listener, filter };
        delivery.write("extension", &[]);
        delivery.write_listener(None);
        (delivery, options)
    }

    /// The filter with this configuration and frequent exports.
    pub fn filter(&self, configuration: &Value) -> Value {
        let mut configuration = configuration.clone();
        configuration["metrics"]["flush_interval"] = json!("100ms");
        let mut filter = self.filter.clone();
        filter["config"]["configuration"]["value"] = json!(configuration.to_string());
        filter
    }

    /// A filter that is delivered by ECDS, and its default until then.
    pub fn by_ecds(&self, default: Option<Value>) -> Value {
        let mut discovery = json!({
            "config_source": {"path_config_source": {"path": self.path("extension")}, "initial_fetch_timeout": "0s"},
            "type_urls": [WASM, RBAC],
        });
        if let Some(default) = default {
            discovery["default_config"] = default;
            discovery["apply_default_config_without_warming"] = json!(true);
        }
        json!({"name": "firstword", "config_discovery": discovery})
    }

    /// A filter with its configuration in the listener.
    pub fn inline(filter: Value) -> Value {
        json!({"name": "firstword", "typed_config": filter})
    }

    /// Delivers the listener, with this filter before `tcp_proxy` if there is one.
    pub fn write_listener(&self, filter: Option<Value>) {
        self.write_changed(filter, |_| {});
    }

    fn write_changed(&self, filter: Option<Value>, change: impl FnOnce(&mut Value)) {
        let mut listener = self.listener.clone();
        let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("filters");
        filters.splice(0..0, filter);
        change(&mut listener);
        self.write("listeners", &[listener]);
    }

    /// Delivers the listener, and waits until all workers use it.
    pub fn listener(&self, envoy: &Envoy, filter: Option<Value>) {
        self.changed(envoy, filter, |_| {});
    }

    /// Delivers the listener with another change, and waits until all workers use it.
    pub fn changed(&self, envoy: &Envoy, filter: Option<Value>, change: impl FnOnce(&mut Value)) {
        let before = envoy.stat(r"^listener_manager\.lds\.update_success$");
        self.write_changed(filter, change);
        wait_for("update of the listener", PATIENCE, || {
            let updated = envoy.stat(r"^listener_manager\.lds\.update_success$") > before;
            (updated && envoy.stat(r"^listener_manager\.total_listeners_warming$") == 0).then_some(())
        });
    }

    /// Delivers the extension.
    pub fn write_extension(&self, filter: Option<Value>) {
        let extension = filter.map(|filter| {
            json!({
                "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
                "name": "firstword",
                "typed_config": filter,
            })
        });
        self.write("extension", extension.as_slice());
    }

    /// Delivers the extension, and waits until Envoy uses it.
    pub fn extension(&self, envoy: &Envoy, filter: Option<Value>) {
        let reloads = r"^extension_config_discovery\.network_filter\.firstword\.config_reload$";
        let before = envoy.stat(reloads);
        self.write_extension(filter);
        wait_for("update of the extension", PATIENCE, || (envoy.stat(reloads) > before).then_some(()));
    }

    /// Writes a file and moves it, because Envoy reads a file only when it is moved to the path.
    fn write(&self, name: &str, resources: &[Value]) {
        let new = self.path("new");
        fs::write(&new, json!({"resources": resources}).to_string()).expect("a file of resources");
        fs::rename(new, self.path(name)).expect("a file of resources");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.json"))
    }
}
