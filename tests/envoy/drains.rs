//! `firstword doctor --diff` predicts which open connections a change of listeners closes, for pairs of listeners that differ
//! in each field that matters, and for random combinations, in one Envoy.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::program::firstword;
use firstword_testing::random::Random;
use firstword_testing::{connect_from, temp_dir, wait_for};

/// Number of listeners with random changes.
const RANDOM: usize = 120;
const PATIENCE: Duration = Duration::from_secs(40);
/// Long enough to read Envoy's configuration before it closes connections, on a busy machine.
const DRAIN_TIME: Duration = Duration::from_secs(3);

const EXTENSION: &str = "by-name";

/// A server that returns each byte.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    address
}

fn typed(name: &str, message: &str, mut fields: Value) -> Value {
    fields["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.{message}"));
    json!({"name": name, "typed_config": fields})
}

fn tcp_proxy(fields: Value) -> Value {
    let mut filter = typed("tcp", "network.tcp_proxy.v3.TcpProxy", fields);
    filter["typed_config"]["cluster"] = json!("echo");
    if filter["typed_config"].get("stat_prefix").is_none() {
        filter["typed_config"]["stat_prefix"] = json!("tcp");
    }
    filter
}

/// A filter that allows everything.
fn allow_all(prefix: &str) -> Value {
    typed("rbac", "network.rbac.v3.RBAC", json!({"stat_prefix": prefix}))
}

/// A listener filter that waits for nothing.
fn original_dst(name: &str) -> Value {
    typed(name, "listener.original_dst.v3.OriginalDst", json!({}))
}

/// Clients connect from these addresses. The first two have filter chains of their own.
const CLIENTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3), Ipv4Addr::new(127, 0, 0, 4)];
const CHAINS: [&str; 2] = ["a", "b"];

fn chain(name: &str, source: Ipv4Addr) -> Value {
    let range = json!([{"address_prefix": source.to_string(), "prefix_len": 32}]);
    json!({"name": name, "filter_chain_match": {"source_prefix_ranges": range}, "filters": [tcp_proxy(json!({}))]})
}

fn listener(name: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "listener_filters": [original_dst("first"), original_dst("second")],
        "filter_chains": [chain("a", CLIENTS[0]), chain("b", CLIENTS[1])],
        "default_filter_chain": {"name": "rest", "filters": [tcp_proxy(json!({}))]},
    })
}

/// A change of a listener.
type Change = (&'static str, fn(&mut Value));

fn set(listener: &mut Value, key: &str, value: Value) {
    listener[key] = value;
}

/// Changes a chain, if the listener has it.
fn change_chain(listener: &mut Value, index: usize, change: impl FnOnce(&mut Value)) {
    if let Some(chain) = listener["filter_chains"].get_mut(index) {
        change(chain);
    }
}

fn swap(listener: &mut Value, key: &str) {
    if let Some(list) = listener[key].as_array_mut() {
        list.reverse();
    }
}

/// Each change that Envoy's rule distinguishes. Applied to the listener after or before the update.
const CHANGES: &[Change] = &[
    ("nothing", |_| {}),
    ("a filter is added to a chain", |l| {
        change_chain(l, 0, |chain| {
            chain["filters"].as_array_mut().expect("filters").insert(0, allow_all("added"))
        });
    }),
    ("a chain is removed", |l| drop(l["filter_chains"].as_array_mut().map(Vec::pop))),
    ("a chain is added", |l| {
        let new = chain("c", Ipv4Addr::new(127, 0, 0, 99));
        l["filter_chains"].as_array_mut().expect("chains").push(new);
    }),
    ("the order of chains", |l| swap(l, "filter_chains")),
    ("the default chain", |l| {
        l["default_filter_chain"] = json!({"name": "rest", "filters": [allow_all("x"), tcp_proxy(json!({}))]})
    }),
    ("no default chain", |l| drop(l.as_object_mut().expect("a listener").remove("default_filter_chain"))),
    ("only the default chain", |l| l["filter_chains"] = json!([])),
    ("the name of a chain", |l| change_chain(l, 0, |chain| chain["name"] = json!("renamed"))),
    ("the metadata of a chain", |l| {
        change_chain(l, 0, |chain| chain["metadata"] = json!({"filter_metadata": {"istio": {"a": "b"}}}));
    }),
    ("a field of a filter", |l| {
        change_chain(l, 0, |chain| chain["filters"] = json!([tcp_proxy(json!({"stat_prefix": "other"}))]));
    }),
    ("a field of a filter with its default value", |l| {
        change_chain(l, 0, |chain| chain["filters"] = json!([tcp_proxy(json!({"idle_timeout": "3600s"}))]));
    }),
    ("a wrapped default value in a chain", |l| {
        change_chain(l, 0, |chain| chain["use_proxy_proto"] = json!(false))
    }),
    ("a listener filter is removed", |l| drop(l["listener_filters"].as_array_mut().map(Vec::pop))),
    ("the order of listener filters", |l| swap(l, "listener_filters")),
    ("a listener filter for some ports", |l| {
        l["listener_filters"][0]["filter_disabled"] =
            json!({"destination_port_range": {"start": 1, "end": 2}});
    }),
    ("listener_filters_timeout", |l| set(l, "listener_filters_timeout", json!("5s"))),
    ("listener_filters_timeout of zero", |l| set(l, "listener_filters_timeout", json!("0s"))),
    ("listener_filters_timeout of its default", |l| set(l, "listener_filters_timeout", json!("15s"))),
    ("continue_on_listener_filters_timeout", |l| set(l, "continue_on_listener_filters_timeout", json!(true))),
    ("use_original_dst", |l| set(l, "use_original_dst", json!(true))),
    ("use_original_dst of false", |l| set(l, "use_original_dst", json!(false))),
    ("per_connection_buffer_limit_bytes", |l| set(l, "per_connection_buffer_limit_bytes", json!(32_768))),
    ("metadata", |l| set(l, "metadata", json!({"filter_metadata": {"istio": {"a": "b"}}}))),
    ("traffic_direction", |l| set(l, "traffic_direction", json!("OUTBOUND"))),
    ("tcp_backlog_size", |l| set(l, "tcp_backlog_size", json!(64))),
    ("connection_balance_config", |l| set(l, "connection_balance_config", json!({"exact_balance": {}}))),
    ("ignore_global_conn_limit of false", |l| set(l, "ignore_global_conn_limit", json!(false))),
    ("stat_prefix", |l| set(l, "stat_prefix", json!("other"))),
    ("bind_to_port of true", |l| set(l, "bind_to_port", json!(true))),
    ("enable_reuse_port of its default", |l| set(l, "enable_reuse_port", json!(true))),
    ("another address", |l| l["address"]["socket_address"]["address"] = json!("127.0.0.9")),
    ("socket options", |l| {
        set(l, "socket_options", json!([{"level": 6, "name": 1, "int_value": 1, "state": "STATE_PREBIND"}]));
    }),
    ("filter_chain_matcher", |l| {
        let name = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "a"});
        set(
            l,
            "filter_chain_matcher",
            json!({"on_no_match": {"action": {"name": "chain", "typed_config": name}}}),
        );
    }),
    ("a chain with a filter by name", |l| {
        let source = json!({"path_config_source": {"path": "EXTENSION"}});
        let kind = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";
        let discovery = json!({"config_source": source, "type_urls": [kind]});
        let filter = json!({"name": EXTENSION, "config_discovery": discovery});
        change_chain(l, 1, |chain| chain["filters"] = json!([filter, tcp_proxy(json!({}))]));
    }),
];

/// Changes that Envoy accepts in no listener that already exists.
const REFUSED: Change = ("enable_reuse_port", |l| set(l, "enable_reuse_port", json!(false)));

/// The deprecated way to a PROXY header. It is no change of [`CHANGES`], because clients would have to send one.
const PROXY_HEADER: Change =
    ("use_proxy_proto", |l| change_chain(l, 0, |chain| chain["use_proxy_proto"] = json!(true)));

/// A listener before and after the update. `None`: it does not exist.
struct Pair {
    name: String,
    what: String,
    before: Option<Value>,
    after: Option<Value>,
}

fn pairs(random: &mut Random) -> Vec<Pair> {
    let mut all = Vec::new();
    let mut add = |what: String, before: Option<&[Change]>, after: Option<&[Change]>| {
        let name = format!("pair-{}", all.len());
        let of = |changes: &[Change]| {
            let mut listener = listener(&name);
            changes.iter().for_each(|(_, change)| change(&mut listener));
            listener
        };
        let (before, after) = (before.map(of), after.map(of));
        all.push(Pair { name, what, before, after });
    };
    for change in CHANGES.iter().chain([&REFUSED]) {
        add(change.0.to_owned(), Some(&[]), Some(&[*change]));
        add(format!("back from {}", change.0), Some(&[*change]), Some(&[]));
    }
    add(PROXY_HEADER.0.to_owned(), Some(&[]), Some(&[PROXY_HEADER]));
    add("a new listener".to_owned(), None, Some(&[]));
    add("a removed listener".to_owned(), Some(&[]), None);
    for _ in 0..RANDOM {
        let mut some = || -> Vec<Change> {
            // Two of these replace the same chains.
            let is_alone =
                |change: &Change| ["filter_chain_matcher", "only the default chain"].contains(&change.0);
            let mut chosen: Vec<Change> = Vec::new();
            for _ in 0..random.below(3) {
                let change = CHANGES[random.below(CHANGES.len())];
                // Envoy refuses two chains with the same match.
                if chosen.iter().all(|(name, _)| *name != change.0) {
                    chosen.push(change);
                }
            }
            if chosen.iter().any(is_alone) {
                chosen.truncate(1);
            }
            chosen
        };
        let (before, after) = (some(), some());
        let names =
            |changes: &[Change]| changes.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" + ");
        add(format!("{} -> {}", names(&before), names(&after)), Some(&before), Some(&after));
    }
    // Envoy refuses a listener without any chain, and a matcher that names a chain that does not exist matches nothing.
    all.retain(|pair| {
        [&pair.before, &pair.after].into_iter().flatten().all(|listener| {
            let has_chains = listener["filter_chains"].as_array().is_some_and(|chains| !chains.is_empty());
            has_chains || listener.get("default_filter_chain").is_some()
        })
    });
    all
}

/// Writes a file and moves it, because Envoy reads it only then.
fn write(directory: &Path, name: &str, resources: &[Value]) {
    let text = json!({"resources": resources}).to_string();
    let extension = directory.join("extension.json");
    let new = directory.join("new.json");
    fs::write(&new, text.replace("EXTENSION", &extension.to_string_lossy())).expect("a file");
    fs::rename(new, directory.join(name)).expect("a file");
}

/// The configuration of [`EXTENSION`].
fn extension(prefix: &str) -> Value {
    let config = allow_all(prefix);
    json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": EXTENSION,
        "typed_config": config["typed_config"],
    })
}

/// An open connection of a client, and the chain that has it.
struct Connection {
    pair: usize,
    chain: String,
    stream: TcpStream,
}

impl Connection {
    /// Whether a byte comes back.
    fn echoes(&mut self) -> bool {
        self.stream.write_all(b"x").is_ok() && self.stream.read_exact(&mut [0]).is_ok()
    }
}

/// The chain of a listener for the client with this number, by the names that doctor uses.
fn chain_of(listener: &Value, client: usize) -> Option<String> {
    let chains = listener["filter_chains"].as_array().expect("chains");
    if listener.get("filter_chain_matcher").is_some() {
        return Some("a".to_owned());
    }
    let own = CHAINS.get(client).and_then(|_| {
        let source = json!(CLIENTS[client].to_string());
        let range = |chain: &&Value| {
            chain["filter_chain_match"]["source_prefix_ranges"][0]["address_prefix"] == source
        };
        chains.iter().find(range)
    });
    let default = || listener.get("default_filter_chain").map(|_| "default_filter_chain".to_owned());
    own.map(|chain| chain["name"].as_str().expect("a name").to_owned()).or_else(default)
}

/// The chains that doctor says Envoy drains, as `LISTENER CHAIN`.
fn predicted(before: &Path, after: &Path) -> BTreeSet<String> {
    let mut doctor = Command::new(firstword());
    let output =
        doctor.args(["doctor", "-o", "json", "--diff"]).args([before, after]).output().expect("firstword");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let listeners = report["listeners"].as_array().expect("listeners");
    let drained = listeners.iter().flat_map(|listener| {
        let chains = listener["chains"].as_array().expect("chains").iter();
        let name = listener["listener"].as_str().expect("a name");
        chains
            .filter(|chain| chain["drained"] == true)
            .map(move |chain| format!("{name} {}", chain["chain"].as_str().expect("a name")))
    });
    drained.collect()
}

fn wait_for_update(envoy: &Envoy, updates: u64) {
    wait_for("update of listeners", PATIENCE, || {
        let stats =
            envoy.stats(r"^listener_manager\.(lds\.update_(success|rejected)|total_listeners_warming)$");
        let of = |name: &str| stats.get(&format!("listener_manager.{name}")).copied().unwrap_or_default();
        let done = of("lds.update_success") + of("lds.update_rejected") >= updates;
        (done && of("total_listeners_warming") == 0).then_some(())
    });
}

#[test]
fn doctor_predicts_which_connections_a_change_closes() {
    let mut random = Random::from_environment();
    let pairs = pairs(&mut random);
    let directory = temp_dir();
    let path = |name: &str| directory.path().join(name);
    let before: Vec<Value> = pairs.iter().filter_map(|pair| pair.before.clone()).collect();
    let after: Vec<Value> = pairs.iter().filter_map(|pair| pair.after.clone()).collect();
    write(directory.path(), "extension.json", &[extension("old")]);
    write(directory.path(), "listeners.json", &before);
    let server = echo_server();
    let endpoint = json!({"endpoint": {"address": {"socket_address": {
        "address": server.ip().to_string(), "port_value": server.port()}}}});
    let options = EnvoyOptions::unchanged(json!({
        "node": {"id": "drains", "cluster": "test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {"lds_config": {"path_config_source": {"path": path("listeners.json")}}},
        "static_resources": {"clusters": [{"name": "echo", "type": "STATIC", "load_assignment": {
            "cluster_name": "echo", "endpoints": [{"lb_endpoints": [endpoint]}]}}]},
    }));
    let envoy = Envoy::start(options.upstream("echo", server).drain_time(DRAIN_TIME));
    wait_for_update(&envoy, 1);
    let dump = |name: &str| {
        fs::write(path(name), envoy.admin_get("/config_dump")).expect("a file");
        path(name)
    };

    let mut open = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        let Some(listener) = &pair.before else { continue };
        let address = envoy.listener_addr(&pair.name);
        for (client, source) in CLIENTS.into_iter().enumerate() {
            let Some(chain) = chain_of(listener, client) else { continue };
            let stream = connect_from(Some(IpAddr::V4(source)), address);
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            let mut connection = Connection { pair: index, chain, stream };
            assert!(connection.echoes(), "{}: client {client}", pair.what);
            open.push(connection);
        }
    }
    let dump_before = dump("before.json");
    write(directory.path(), "extension.json", &[extension("new")]);
    write(directory.path(), "listeners.json", &after);
    wait_for_update(&envoy, 2);
    let dump_after = dump("after.json");
    // What an operator has before the change: the listeners of this proxy, and of one with the change.
    let list = |name: &str, listeners: &[Value]| {
        fs::write(path(name), json!(listeners).to_string()).expect("a file");
        path(name)
    };
    let by_lists = predicted(&list("list-before.json", &before), &list("list-after.json", &after));
    let by_dumps = predicted(&dump_before, &dump_after);
    wait_for("end of the drain", PATIENCE, || {
        let stats = envoy.stats(r"^listener_manager\.total_(listeners|filter_chains)_draining$");
        (stats.values().sum::<u64>() == 0).then_some(())
    });

    let mut wrong = Vec::new();
    let mut closed = 0;
    for connection in &mut open {
        let pair = &pairs[connection.pair];
        let is_closed = !connection.echoes();
        closed += usize::from(is_closed);
        let key = format!("{} {}", pair.name, connection.chain);
        for (input, predicted) in [("lists", &by_lists), ("dumps", &by_dumps)] {
            if predicted.contains(&key) != is_closed {
                wrong.push(format!("{input}: {}: chain {}: closed {is_closed}", pair.what, connection.chain));
            }
        }
    }
    println!("{} pairs, {} connections, {closed} closed, {} wrong", pairs.len(), open.len(), wrong.len());
    assert!(closed > 100 && open.len() - closed > 100, "{closed} of {} closed", open.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
