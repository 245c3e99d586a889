//! Two Envoys with the same listeners: one with the filter, one with `tcp_proxy` alone.
//!
//! Some connections leave both as streams of HTTP/2, as in an ambient mesh, so that each takes one open file.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::{shell, temp_dir, wait_for};

use crate::tunnel;

/// The filter under test, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Wasm,
    Native,
    /// `tcp_proxy` alone.
    Plain,
}

impl Subject {
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
            Self::Plain => "plain",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Wasm | Self::Plain => "envoy/mysql.yaml",
            Self::Native => "envoy/native.yaml",
        }
    }
}

/// A kind of traffic. Each has a listener, and a rule of the filter that finds it by its address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Clients that check each byte and end with COM_QUIT.
    Good,
    /// Clients of this kind whose connections leave Envoy through a tunnel.
    Tunnelled,
    /// Clients that reset their connections.
    Cut,
    /// Hostile clients and servers.
    Flood,
    /// Hostile clients that should send a PROXY header.
    Proxied,
}

impl Traffic {
    pub const ALL: [Self; 5] = [Self::Good, Self::Tunnelled, Self::Cut, Self::Flood, Self::Proxied];

    /// Name of its listener, cluster and rule.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Tunnelled => "tunnelled",
            Self::Cut => "cut",
            Self::Flood => "flood",
            Self::Proxied => "proxied",
        }
    }

    fn address(self) -> &'static str {
        match self {
            Self::Good => "127.0.10.1",
            Self::Tunnelled => "127.0.10.2",
            Self::Cut => "127.0.10.3",
            Self::Flood => "127.0.10.4",
            Self::Proxied => "127.0.10.5",
        }
    }
}

/// An Envoy, and the addresses of its listeners.
pub struct Proxy {
    pub envoy: Envoy,
    addresses: [SocketAddr; 5],
}

impl Proxy {
    fn start(options: EnvoyOptions, servers: [SocketAddr; 5], workers: u32) -> Self {
        let servers = Traffic::ALL.iter().zip(servers);
        let options =
            servers.fold(options, |options, (traffic, server)| options.upstream(traffic.name(), server));
        let envoy = Envoy::start(options.concurrency(workers));
        let addresses = Traffic::ALL.map(|traffic| envoy.listener_addr(traffic.name()));
        Self { envoy, addresses }
    }

    /// The Envoy without the filter.
    pub fn plain(servers: [SocketAddr; 5], workers: u32) -> Self {
        let options = EnvoyOptions::new(Subject::Plain.file()).edit(|bootstrap| spread(bootstrap, None));
        Self::start(options, servers, workers)
    }

    pub fn address(&self, traffic: Traffic) -> SocketAddr {
        self.addresses[traffic as usize]
    }
}

/// One listener and one cluster for each kind of traffic, in place of those of the file.
fn spread(bootstrap: &mut Value, filter: Option<&Value>) {
    let resources = &mut bootstrap["static_resources"];
    let (listener, cluster) = (resources["listeners"][0].clone(), resources["clusters"][0].clone());
    let copies = Traffic::ALL.map(|traffic| {
        let (mut listener, mut cluster) = (listener.clone(), cluster.clone());
        listener["name"] = json!(traffic.name());
        listener["address"]["socket_address"]["address"] = json!(traffic.address());
        let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("filters");
        filters.splice(..1, filter.cloned());
        let tcp_proxy = &mut filters.last_mut().expect("tcp_proxy")["typed_config"];
        tcp_proxy["cluster"] = json!(traffic.name());
        cluster["name"] = json!(traffic.name());
        cluster["load_assignment"]["cluster_name"] = json!(traffic.name());
        if traffic == Traffic::Tunnelled {
            tunnel::enter(tcp_proxy, &mut cluster);
        }
        (listener, cluster)
    });
    let (listeners, clusters): (Vec<_>, Vec<_>) = copies.into_iter().unzip();
    resources["listeners"] = json!(listeners);
    resources["clusters"] = json!(clusters);
}

/// The Envoy under test. Its filter comes from a file that Envoy watches (ECDS).
pub struct Filtered {
    pub proxy: Proxy,
    directory: TempDir,
    /// `None` without a filter.
    filter: Option<Value>,
    /// Number of the newest configuration.
    version: AtomicU32,
}

impl Filtered {
    pub fn start(subject: Subject, servers: [SocketAddr; 5], workers: u32) -> Self {
        let directory = temp_dir();
        if subject == Subject::Plain {
            let proxy = Proxy::plain(servers, workers);
            return Self { proxy, directory, filter: None, version: AtomicU32::new(0) };
        }
        let extension = path(directory.path());
        let mut filter = Value::Null;
        let options = EnvoyOptions::new(subject.file()).edit(|bootstrap| {
            filter = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"].take();
            let reference = json!({
                "name": "firstword",
                "config_discovery": {
                    "config_source": {"path_config_source": {"path": extension}, "initial_fetch_timeout": "0s"},
                    "type_urls": [filter["@type"]],
                },
            });
            spread(bootstrap, Some(&reference));
            bootstrap["node"] = json!({"id": "soak", "cluster": "soak"});
        });
        write(&directory, &filter, 0);
        let proxy = Proxy::start(options, servers, workers);
        Self { proxy, directory, filter: Some(filter), version: AtomicU32::new(0) }
    }

    /// Delivers another configuration, and waits until Envoy uses it for new connections.
    pub fn reload(&self) {
        let Some(filter) = &self.filter else { return };
        let reloads = r"^extension_config_discovery\.network_filter\.firstword\.config_reload$";
        let before = self.proxy.envoy.stat(reloads);
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        write(&self.directory, filter, version);
        wait_for("another configuration", Duration::from_secs(60), || {
            (self.proxy.envoy.stat(reloads) > before).then_some(())
        });
    }

    /// Notifies Envoy and the filter of a drain, which closes no connection of `tcp_proxy`.
    pub fn drain(&self) {
        self.proxy.envoy.admin_post("/drain_listeners?graceful&skip_exit");
    }

    /// Number of configurations after the first.
    pub fn reloads(&self) -> u32 {
        self.version.load(Ordering::Relaxed)
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("extension.json")
}

/// Writes the filter with the configuration of this number, and moves the file, because Envoy reads it only then.
fn write(directory: &TempDir, filter: &Value, version: u32) {
    let rules = Traffic::ALL.map(|traffic| {
        let mut rule =
            json!({"name": traffic.name(), "match": {"addresses": [traffic.address()]}, "protocol": "mysql"});
        if traffic == Traffic::Proxied {
            rule["proxy_protocol"]["receive"] =
                json!({"mode": "required", "trusted_networks": ["127.0.0.0/8"]});
        }
        rule
    });
    let configuration = json!({
        "rules": rules,
        "metrics": {"labels": ["destination"], "stall": format!("{}s", 60 + version % 7)},
    });
    let mut filter = filter.clone();
    let is_wasm = filter.get("config").is_some();
    let plugin = if is_wasm { &mut filter["config"]["configuration"] } else { &mut filter["filter_config"] };
    plugin["value"] = json!(configuration.to_string());
    let module = if is_wasm {
        &mut filter["config"]["vm_config"]["code"]["local"]["filename"]
    } else {
        &mut filter["dynamic_module_config"]["module"]["local"]["filename"]
    };
    *module = if is_wasm { json!(firstword_testing::wasm()) } else { json!(shell::native()) };
    let extension = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "firstword",
        "typed_config": filter,
    });
    let new = directory.path().join("new.json");
    fs::write(&new, json!({"resources": [extension]}).to_string()).expect("a file of resources");
    fs::rename(new, path(directory.path())).expect("a file of resources");
}
