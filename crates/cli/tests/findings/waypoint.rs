//! Waypoints. Most dumps are from the stand-in below, in the shape that istiod generates (`connect_terminate`, `main_internal` with
//! a matcher by address and port). Those in `waypoints/` are of a real one: `make test-cluster` writes them (`FIRSTWORD_BLESS=1`).

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::support::{HTTP_INSPECTOR, codes, dump, finding, report, tcp_proxy};

/// How a Service declares a port.
#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Tcp,
    Http,
    Auto,
}

/// A Service behind the waypoint: its name, address and ports.
type Service = (&'static str, &'static str, &'static [(u16, Protocol)]);

const DATABASE: Service =
    ("declared", "10.96.0.1", &[(3306, Protocol::Tcp), (3307, Protocol::Auto), (3308, Protocol::Tcp)]);
const HTTP: Service = ("web", "10.96.0.2", &[(3308, Protocol::Http)]);

fn chain_name(kind: &str, port: u16, service: &str) -> String {
    format!("inbound-vip|{port}|{kind}|{service}.amb.svc.cluster.local")
}

fn to_chain(name: &str) -> Value {
    let value = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": name});
    json!({"action": {"name": name, "typed_config": value}})
}

fn input(name: &str) -> Value {
    json!({"name": "x", "typed_config": {"@type": format!("type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.{name}")}})
}

/// The chain for HTTP if the inspector has found HTTP, otherwise the one for TCP.
fn by_protocol(tcp: &str, http: &str) -> Value {
    json!({"matcher": {
        "matcher_tree": {"input": input("ApplicationProtocolInput"), "exact_match_map": {"map": {
            "'h2c'": to_chain(http), "'http/1.1'": to_chain(http)}}},
        "on_no_match": to_chain(tcp)}})
}

fn range(address: &str, on_match: &Value) -> Value {
    json!({"ranges": [{"address_prefix": address, "prefix_len": 32}], "on_match": on_match})
}

/// The dump of a waypoint for these Services and for the workloads with these addresses.
fn waypoint(services: &[Service], workloads: &[&str]) -> Value {
    let (mut chains, mut ranges, mut clusters) =
        (Vec::new(), Vec::new(), vec![json!({"name": "encap", "type": "ORIGINAL_DST"})]);
    let manager = json!({"name": "http", "typed_config": {"@type":
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"}});
    let mut add = |name: &str, filter: Value| {
        clusters.push(json!({"name": name, "type": "EDS"}));
        chains.push(json!({"name": name, "filters": [filter]}));
    };
    for (service, address, ports) in services {
        let mut map = Map::new();
        for (port, protocol) in *ports {
            let [tcp, http] = ["tcp", "http"].map(|kind| chain_name(kind, *port, service));
            if *protocol != Protocol::Http {
                add(&tcp, tcp_proxy(&tcp));
            }
            if *protocol != Protocol::Tcp {
                add(&http, manager.clone());
            }
            let on_match = match protocol {
                Protocol::Tcp => to_chain(&tcp),
                Protocol::Http => to_chain(&http),
                Protocol::Auto => by_protocol(&tcp, &http),
            };
            map.insert(port.to_string(), on_match);
        }
        let by_port = json!({"matcher": {"matcher_tree": {
            "input": input("DestinationPortInput"), "exact_match_map": {"map": map}}}});
        ranges.push(range(address, &by_port));
    }
    add("direct-tcp", tcp_proxy("encap"));
    add("direct-http", manager.clone());
    ranges.extend(workloads.iter().map(|address| range(address, &by_protocol("direct-tcp", "direct-http"))));
    let ip = json!({"name": "ip", "typed_config": {"@type": "type.googleapis.com/xds.type.matcher.v3.IPMatcher", "range_matchers": ranges}});
    let mut inspector =
        json!({"name": "envoy.filters.listener.http_inspector", "typed_config": {"@type": HTTP_INSPECTOR}});
    if workloads.is_empty() {
        let all = || services.iter().flat_map(|(_, _, ports)| ports.iter());
        let declared = all().filter(|(port, protocol)| {
            all().all(|(other, declared)| other != port || declared == protocol)
                && *protocol != Protocol::Auto
        });
        let rules: Vec<_> = declared
            .map(|(port, _)| json!({"destination_port_range": {"start": port, "end": port + 1}}))
            .collect();
        inspector["filter_disabled"] = json!({"or_match": {"rules": rules}});
    }
    let original = json!({"name": "envoy.filters.listener.original_dst", "typed_config": {"@type":
        "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"}});
    let inner = json!({
        "name": "main_internal", "internal_listener": {}, "traffic_direction": "INBOUND",
        "listener_filters": [original, inspector], "filter_chains": chains,
        "filter_chain_matcher": {
            "matcher_tree": {"input": input("DestinationIPInput"), "custom_match": ip},
            "on_no_match": {"matcher": {"matcher_tree": {"input": input("FilterStateInput"),
                "exact_match_map": {"map": {}}}}}},
    });
    let outer = json!({
        "name": "connect_terminate", "filter_chains": [{"name": "default", "filters": [manager]}],
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15008}},
    });
    let limit = json!({"thresholds": [{"max_connections": 5000}]});
    clusters.iter_mut().for_each(|cluster| cluster["circuit_breakers"] = limit.clone());
    let node = json!({"id": "waypoint~10.0.0.9~waypoint-0.amb~amb.svc.cluster.local", "metadata": {
        "NAMESPACE": "amb", "ISTIO_VERSION": "1.32.0", "LABELS": {"gateway.networking.k8s.io/gateway-name": "shared"}}});
    dump(&node, &[outer, inner], &clusters)
}

/// The verdict about a client that waits, with the time until then.
fn verdict(report: &Value) -> String {
    let client = &report["destinations"][0]["clients"][0];
    let after = client["after_ms"].as_u64().map_or_else(String::new, |millis| format!(" {millis}"));
    format!("{}{after}", client["verdict"].as_str().unwrap())
}

fn examined(input: &Value, dest: &str) -> Value {
    report(&["--dest", dest], input)
}

#[test]
fn a_declared_port_is_greeted_at_once() {
    let input = waypoint(&[DATABASE, HTTP], &[]);
    let found = examined(&input, "10.96.0.1:3306");
    assert_eq!((verdict(&found), codes(&found)), ("greeting".to_owned(), vec![]), "{found:#}");
    let client = &found["destinations"][0]["clients"][0];
    assert_eq!(client["listeners"], json!(["connect_terminate", "main_internal"]));
    assert_eq!(client["chain"], chain_name("tcp", 3306, "declared"));
}

#[test]
fn an_undeclared_port_is_closed_after_envoys_own_time_out() {
    let found = examined(&waypoint(&[DATABASE], &[]), "10.96.0.1:3307");
    assert_eq!(
        (verdict(&found), codes(&found)),
        ("closed 15000".to_owned(), vec!["error waypoint-undeclared-port".to_owned()])
    );
    let fixes = &finding(&found, "waypoint-undeclared-port")["fixes"];
    assert_eq!(fixes[0]["from"], json!(["istio/scenarios/undeclared-port/service-port.yaml"]));
    assert!(fixes[0]["what"].as_str().unwrap().contains("kubectl patch service declared -n amb"), "{fixes}");
    // The same with the declaration.
    let declared: Service = ("declared", "10.96.0.1", &[(3307, Protocol::Tcp)]);
    assert_eq!(verdict(&examined(&waypoint(&[declared], &[]), "10.96.0.1:3307")), "greeting");
}

#[test]
fn a_port_number_with_mixed_protocols_names_the_other_service() {
    let found = examined(&waypoint(&[DATABASE, HTTP], &[]), "10.96.0.1:3308");
    assert_eq!(
        (verdict(&found), codes(&found)),
        ("closed 15000".to_owned(), vec!["error waypoint-mixed-port".to_owned()])
    );
    let finding = finding(&found, "waypoint-mixed-port");
    assert!(
        finding["why"].as_str().unwrap().starts_with("Service amb/web in the same waypoint has port 3308"),
        "{finding}"
    );
    assert!(
        finding["fixes"][0]["what"].as_str().unwrap().starts_with("Give Service amb/web another port number"),
        "{finding}"
    );
    // Without the other Service.
    assert_eq!(verdict(&examined(&waypoint(&[DATABASE], &[]), "10.96.0.1:3308")), "greeting");
}

#[test]
fn one_workload_makes_every_port_wait() {
    let input = waypoint(&[DATABASE], &["10.0.7.7"]);
    for dest in ["10.96.0.1:3306", "10.96.0.1:3307", "10.0.7.7:3306"] {
        let found = examined(&input, dest);
        assert_eq!(
            (verdict(&found), codes(&found)),
            ("closed 15000".to_owned(), vec!["error waypoint-for-workloads".to_owned()]),
            "{dest}"
        );
        let first = &finding(&found, "waypoint-for-workloads")["fixes"][0]["what"];
        // The label alone does not end the inspection of a port that declares no protocol.
        assert_eq!(
            first,
            if dest == "10.96.0.1:3307" {
                "Set the label istio.io/waypoint-for=service on the Gateway amb/shared, and declare port 3307 of Service amb/declared as \
                 TCP. One of them is not enough"
            } else {
                "Run kubectl label gateways.gateway.networking.k8s.io shared -n amb istio.io/waypoint-for=service --overwrite"
            }
        );
    }
}

/// A port number with two protocols needs another number too. A destination without a chain has no manifest.
#[test]
fn the_label_alone_is_printed_only_where_it_is_enough() {
    let input = waypoint(&[DATABASE, HTTP], &["10.0.7.7"]);
    let fixes = |input: &Value, dest: &str| {
        let found = examined(input, dest);
        let fixes = finding(&found, "waypoint-for-workloads")["fixes"].as_array().unwrap().clone();
        let what = fixes.iter().map(|fix| fix["what"].as_str().unwrap().to_owned());
        what.collect::<Vec<_>>()
    };
    let mixed = fixes(&input, "10.96.0.1:3308");
    assert_eq!(
        mixed[0],
        "Set the label istio.io/waypoint-for=service on the Gateway amb/shared, and give Service amb/web another port number. One \
         of them is not enough"
    );
    assert_eq!(mixed.len(), 2);
    // A workload's own address no longer goes through the waypoint.
    assert!(fixes(&input, "10.0.7.7:3308")[0].starts_with("Run kubectl label "));
    // A waypoint for workloads alone serves no Service.
    assert_eq!(fixes(&waypoint(&[], &["10.0.7.7"]), "10.96.0.1:3306").len(), 1);
}

/// The manifest as istiod applies it: the inspector is replaced by one with the ports of the manifest excluded.
#[test]
fn the_printed_envoy_filter_ends_the_wait() {
    let mut input = waypoint(&[DATABASE, HTTP], &["10.0.7.7"]);
    let found = examined(&input, "10.96.0.1:3308");
    let fixes = finding(&found, "waypoint-for-workloads")["fixes"].as_array().unwrap();
    let fix =
        fixes.iter().find(|fix| fix["from"][0] == "istio/scenarios/waypoint/main-internal.yaml").unwrap();
    let yaml: Value = serde_norway::from_str(fix["yaml"].as_str().unwrap()).unwrap();
    assert_eq!(
        yaml["spec"]["targetRefs"],
        json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "shared"}])
    );
    assert_eq!(yaml["metadata"]["namespace"], "amb");
    let patches = yaml["spec"]["configPatches"].as_array().unwrap();
    let operations: Vec<_> =
        patches.iter().map(|patch| patch["patch"]["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["REMOVE", "INSERT_AFTER"]);
    let listener = &mut input["configs"][2]["static_listeners"][1]["listener"];
    listener["listener_filters"][1] = patches[1]["patch"]["value"].clone();
    for dest in ["10.96.0.1:3308", "10.96.0.1:3306"] {
        assert_eq!(verdict(&examined(&input, dest)), "greeting", "{dest}");
    }
    assert_eq!(verdict(&examined(&input, "10.96.0.1:3307")), "closed 15000");
}

#[test]
fn a_waypoint_is_examined_without_a_destination_and_by_name() {
    let input = waypoint(&[DATABASE, HTTP], &[]);
    let found = report(&[], &input);
    let destinations = found["destinations"].as_array().unwrap().iter();
    let destinations: Vec<_> = destinations.map(|to| to["destination"].as_str().unwrap()).collect();
    assert_eq!(destinations, ["10.96.0.1:3306", "10.96.0.1:3307", "10.96.0.1:3308"]);
    let found = examined(&input, "declared.amb:3307");
    assert_eq!(found["destinations"][0]["destination"], "10.96.0.1:3307");
    // An address that no Service and no workload behind the waypoint has.
    assert_eq!(codes(&examined(&waypoint(&[DATABASE], &[]), "10.96.0.77:3306")), ["error no-chain"]);
}

/// The verdicts that the clients of the real waypoint confirmed.
#[test]
fn the_dumps_of_a_real_waypoint_are_read() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/findings/waypoints");
    let read = |serves: &str| -> Value {
        let text = std::fs::read_to_string(directory.join(format!("{serves}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let waits = |code: &str| ("closed 15000".to_owned(), vec![format!("error {code}")]);
    let cases = [
        ("service", "declared.amb:3306", ("greeting".to_owned(), vec![])),
        ("service", "undeclared.amb:3307", waits("waypoint-undeclared-port")),
        ("service", "mixed.amb:3308", waits("waypoint-mixed-port")),
        ("all", "declared.amb:3306", waits("waypoint-for-workloads")),
        ("all", "mixed.amb:3308", waits("waypoint-for-workloads")),
        ("workload", "10.96.1.1:3306", waits("waypoint-for-workloads")),
    ];
    for (serves, dest, expected) in cases {
        let found = examined(&read(serves), dest);
        assert_eq!((verdict(&found), codes(&found)), expected, "{serves} {dest}: {found:#}");
    }
}

/// A matcher with a part that is not evaluated decides nothing.
#[test]
fn an_unknown_matcher_is_not_guessed() {
    let mut input = waypoint(&[DATABASE], &[]);
    let matcher = &mut input["configs"][2]["static_listeners"][1]["listener"]["filter_chain_matcher"];
    matcher["matcher_tree"]["input"] = self::input("SourceIPInput");
    let found = examined(&input, "10.96.0.1:3306");
    assert_eq!((verdict(&found), codes(&found)), ("unknown".to_owned(), vec!["info undecided".to_owned()]));
}
