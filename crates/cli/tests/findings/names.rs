//! `--dest HOST:PORT`: where the addresses come from, and what that means for the fix.

use serde_json::{Value, json};

use crate::support::{codes, finding, inspected, outbound, report, run, sidecar, tcp_proxy};

fn addresses(report: &Value) -> Vec<&str> {
    let destinations = report["destinations"].as_array().unwrap().iter();
    destinations.map(|to| to["destination"].as_str().unwrap()).collect()
}

const HOST: &str = "orders.example.com";
const DEST: [&str; 2] = ["--dest", "orders.example.com:3306"];

fn cluster(kind: &str) -> Value {
    let endpoint =
        json!({"endpoint": {"address": {"socket_address": {"address": HOST, "port_value": 3306}}}});
    json!({"name": format!("outbound|3306||{HOST}"), "type": kind,
           "load_assignment": {"endpoints": [{"lb_endpoints": [endpoint]}]}})
}

fn chain() -> Value {
    json!([{"filters": [tcp_proxy(&format!("outbound|3306||{HOST}"))]}])
}

/// With automatic addresses the sidecar's own table has the host.
#[test]
fn the_proxys_own_table_comes_first() {
    let own = outbound("240.240.0.7", 3306, &chain(), &json!({}));
    let other = outbound("240.240.0.8", 3306, &chain(), &json!({}));
    let mut input = sidecar(&[own, other], &[cluster("STRICT_DNS")]);
    let table = json!({"@type": "type.googleapis.com/istio.networking.nds.v1.NameTable",
                       "table": {HOST: {"ips": ["240.240.0.7"], "registry": "External"}}});
    input["configs"].as_array_mut().unwrap().push(table);
    let found = report(&DEST, &input);
    assert_eq!((addresses(&found), codes(&found)), (vec!["240.240.0.7:3306"], vec![]));
    assert_eq!(found["destinations"][0]["host"], HOST);
}

#[test]
fn the_table_of_a_dns_listener_is_read() {
    let table = json!({"virtual_domains": [{"name": "Orders.example.com", "endpoint": {"address_list": {"address": ["10.7.7.7"]}}}]});
    let dns = json!({"name": "dns", "address": {"socket_address": {"protocol": "UDP", "address": "127.0.0.1", "port_value": 53}},
        "listener_filters": [{"name": "envoy.filters.udp.dns_filter", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig",
            "server_config": {"inline_dns_table": table}}}]});
    let input = sidecar(&[dns, outbound("10.7.7.7", 3306, &chain(), &json!({}))], &[cluster("EDS")]);
    assert_eq!(addresses(&report(&DEST, &input)), ["10.7.7.7:3306"]);
}

#[test]
fn clusters_and_listeners_have_addresses_of_hosts() {
    let own = outbound("240.240.0.7", 3306, &chain(), &json!({}));
    let found = report(&DEST, &sidecar(&[own], &[cluster("STRICT_DNS")]));
    assert_eq!(addresses(&found), ["240.240.0.7:3306"]);
    // A chain for one address. One for a network has no single address.
    let mut chains = chain();
    chains[0]["filter_chain_match"] = json!({"prefix_ranges": [
        {"address_prefix": "192.0.2.9", "prefix_len": 32}, {"address_prefix": "192.0.3.0", "prefix_len": 24}]});
    let found = report(&DEST, &sidecar(&[outbound("0.0.0.0", 3306, &chains, &json!({}))], &[cluster("EDS")]));
    assert_eq!(addresses(&found), ["192.0.2.9:3306"]);
    // A Service of Kubernetes by its short names.
    let service = "outbound|3306||mysql.shop.svc.cluster.local";
    let listener = outbound("10.96.0.5", 3306, &json!([{"filters": [tcp_proxy(service)]}]), &json!({}));
    let input = sidecar(&[listener], &[json!({"name": service, "type": "EDS"})]);
    for name in ["mysql", "mysql.shop", "mysql.shop.svc", "mysql.shop.svc.cluster.local"] {
        assert_eq!(
            addresses(&report(&["--dest", &format!("{name}:3306")], &input)),
            ["10.96.0.5:3306"],
            "{name}"
        );
    }
}

/// `localhost` stands for a database whose address a name server has.
#[test]
fn an_address_from_dns_gets_the_fix_by_name_first() {
    let input = sidecar(&[outbound("0.0.0.0", 10_000, &json!([]), &inspected())], &[]);
    let found = report(&["--dest", "localhost:10000", "--side", "outbound"], &input);
    assert!(addresses(&found).contains(&"127.0.0.1:10000"), "{found:#}");
    // Loopback addresses bypass the proxy, so the same is shown for a known host of the proxy.
    let listener = outbound("0.0.0.0", 3306, &json!([]), &inspected());
    let found = report(&["--dest", "192.0.2.7:3306"], &sidecar(&[listener], &[cluster("STRICT_DNS")]));
    let fixes = finding(&found, "port-conflict")["fixes"].as_array().unwrap();
    let yaml = fixes[0]["yaml"].as_str().unwrap();
    assert!(yaml.contains("hosts: [orders.example.com]") && yaml.contains("resolution: DNS"), "{yaml}");
    assert!(
        yaml.contains("name: orders-example-com\n  namespace: shop") && yaml.contains("number: 3306"),
        "{yaml}"
    );
    assert!(!yaml.contains("addresses: ["), "{yaml}");
    assert_eq!(fixes[1]["from"], json!(["istio/scenarios/port-conflict/serviceentry.yaml"]));
    assert!(fixes[1]["trade_off"].as_str().unwrap().starts_with("this address will change"), "{}", fixes[1]);
}

#[test]
fn an_unknown_host_is_an_error_with_a_way_out() {
    let output = run(&["doctor", "-", "--dest", "no-such-host.invalid:3306"], &sidecar(&[], &[]).to_string());
    assert_eq!((output.status, output.text.as_str()), (2, ""));
    let expected = "firstword doctor: no-such-host.invalid: the configuration does not have the host, and the system does not";
    assert!(output.problems.starts_with(expected), "{}", output.problems);
    assert!(output.problems.trim_end().ends_with("with --dest ADDRESS:3306"), "{}", output.problems);
    for (dest, hint) in
        [("10.0.0.1", "add the port, as in 10.0.0.1:3306"), ("db", "add the port, as in db:3306")]
    {
        let output = run(&["doctor", "-", "--dest", dest], "");
        assert_eq!(output.status, 2);
        assert!(output.problems.contains(hint), "{}", output.problems);
    }
}
