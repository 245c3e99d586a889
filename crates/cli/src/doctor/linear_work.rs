//! The work for a large configuration grows linearly.

use serde_json::{Map, Value, json};

use super::candidates;
use super::envoy::dump::Dump;
use super::examination::Examination;
use super::input::Input;
use super::report;
use super::work;

fn to_chain(name: &str) -> Value {
    json!({"action": {"name": name}})
}

fn input_of(name: &str) -> Value {
    json!({"typed_config": {"@type": format!("type.googleapis.com/x.{name}")}})
}

fn by_text(input: &str, map: Map<String, Value>, otherwise: Option<Value>) -> Value {
    let mut matcher = json!({"matcher_tree": {"input": input_of(input), "exact_match_map": {"map": map}}});
    if let Some(otherwise) = otherwise {
        matcher["on_no_match"] = otherwise;
    }
    json!({"matcher": matcher})
}

/// A waypoint with this number of Services, each with a declared port, an undeclared one, and one whose number has HTTP in
/// another Service.
fn waypoint(services: u16) -> Value {
    const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";
    let tcp = |name: &str| {
        let config = json!({"@type": format!("{FILTERS}.network.tcp_proxy.v3.TcpProxy"), "cluster": name});
        json!({"name": name, "filters": [{"name": "tcp", "typed_config": config}]})
    };
    let http = |name: &str| {
        let kind = format!("{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager");
        json!({"name": name, "filters": [{"name": "http", "typed_config": {"@type": kind}}]})
    };
    let (mut chains, mut ranges, mut clusters) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..services {
        let name =
            |port: u16, kind: &str| format!("inbound-vip|{port}|{kind}|mysql-{number}.amb.svc.cluster.local");
        let (declared, [sniffed, sniffed_http]) =
            (name(3306, "tcp"), [name(3307, "tcp"), name(3307, "http")]);
        let mixed = if number + 1 == services { name(3308, "http") } else { name(3308, "tcp") };
        for chain in [&declared, &sniffed, &mixed] {
            chains.push(if chain.contains("|http|") { http(chain) } else { tcp(chain) });
            clusters.push(json!({"cluster": {"name": chain, "type": "EDS"}}));
        }
        chains.push(http(&sniffed_http));
        let protocols = Map::from_iter([("'http/1.1'".to_owned(), to_chain(&sniffed_http))]);
        let ports = Map::from_iter([
            ("3306".to_owned(), to_chain(&declared)),
            ("3307".to_owned(), by_text("ApplicationProtocolInput", protocols, Some(to_chain(&sniffed)))),
            ("3308".to_owned(), to_chain(&mixed)),
        ]);
        let [high, low] = number.to_be_bytes();
        let range = json!([{"address_prefix": format!("10.96.{high}.{low}"), "prefix_len": 32}]);
        ranges.push(json!({"ranges": range, "on_match": by_text("DestinationPortInput", ports, None)}));
    }
    let networks =
        json!({"typed_config": {"@type": "type.googleapis.com/x.IPMatcher", "range_matchers": ranges}});
    let inspector = format!("{FILTERS}.listener.http_inspector.v3.HttpInspector");
    let disabled = json!({"destination_port_range": {"start": 3306, "end": 3307}});
    let inner = json!({
        "name": "main_internal", "internal_listener": {}, "filter_chains": chains,
        "listener_filters": [{"name": "http", "typed_config": {"@type": inspector}, "filter_disabled": disabled}],
        "filter_chain_matcher": {"matcher_tree": {"input": input_of("DestinationIPInput"), "custom_match": networks}},
    });
    let outer = json!({"name": "connect_terminate", "filter_chains": [http("default")]});
    let node = json!({"id": "waypoint~10.0.0.9~waypoint-0.amb~amb.svc.cluster.local"});
    json!({"configs": [
        {"@type": "BootstrapConfigDump", "bootstrap": {"node": node}},
        {"@type": "ClustersConfigDump", "dynamic_active_clusters": clusters},
        {"@type": "ListenersConfigDump", "static_listeners": [{"listener": outer}, {"listener": inner}]},
    ]})
}

/// The steps of the examination of a waypoint without `--dest`.
fn steps(services: u16) -> u64 {
    let dump = Dump::read(vec![waypoint(services)]).unwrap();
    let input = Input { name: "dump.json".to_owned(), dump, statistics: None };
    work::during(|| {
        let destinations = candidates::all(&input.dump);
        assert_eq!(destinations.len(), usize::from(services) * 3 - 1);
        let examination = Examination::new(&input, &destinations);
        // Each Service has an undeclared port that waits, and all but the last one the port with two protocols.
        let count = |code: &str| examination.findings.iter().filter(|finding| finding.code == code).count();
        assert_eq!(count("waypoint-undeclared-port"), usize::from(services));
        assert_eq!(count("waypoint-mixed-port"), usize::from(services) - 1);
        report::json(&examination);
    })
}

#[test]
fn the_work_for_a_waypoint_grows_linearly_with_its_services() {
    let (few, many) = (steps(100), steps(400));
    assert!(few >= 100, "the searches count their steps: {few}");
    assert!(many <= few * 5, "four times the Services: from {few} steps to {many}");
}
