//! Each driver with a server that requires TLS: without TLS through `envoy/tls-originate.yaml`, and with TLS through
//! `envoy/tls-bridge.yaml`. With MySQL, once with the password in the server's cache and once without it.

use serde_json::{Value, json};

use super::certificates::Certificates;
use super::*;

/// Length of an SSLRequest, which the server counts and the driver does not send.
const REQUEST_LEN: u64 = 36;
/// The name that drivers expect in Envoy's certificate.
const PROXY: &str = "127.0.0.1";

/// Envoy with this file, which starts TLS to the server and verifies its certificate by this authority.
fn start_envoy_with_tls(file: &str, server: &Server, tls: &Value, proxy: &Certificates) -> Envoy {
    let options = EnvoyOptions::new(file).upstream("mysql", server.database.addr());
    let validation = json!({"trusted_ca": {"filename": server.authority}});
    let configuration = json!({
        "rules": [{"match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql", "tls": tls}],
        "metrics": {"profile": "full", "max_series": 5000},
    });
    let options = options.edit(|bootstrap| {
        let resources = &mut bootstrap["static_resources"];
        for cluster in resources["clusters"].as_array_mut().expect("clusters") {
            // The certificates of these servers have no name that the file could expect.
            let tls =
                "/transport_socket/typed_config/tls_socket_config/common_tls_context/validation_context";
            if let Some(expected) = cluster.pointer_mut(tls) {
                *expected = validation.clone();
            }
        }
        for listener in resources["listeners"].as_array_mut().expect("listeners") {
            if let Some(socket) = listener["filter_chains"][0].get_mut("transport_socket") {
                socket["typed_config"]["common_tls_context"]["tls_certificates"] = json!([proxy.pair()]);
            }
        }
    });
    Envoy::start(options.configuration(configuration))
}

/// Runs a driver without TLS. Returns the problems.
pub(crate) fn compare_originate(driver: &Driver, server: &Server, direct: &str) -> Vec<String> {
    let (tls, proxy) = (json!({"upstream": "originate"}), Certificates::new(PROXY, 2090));
    let run = |cache: Cache| {
        let envoy = start_envoy_with_tls("envoy/tls-originate.yaml", server, &tls, &proxy);
        named("originate", cache, compare_through(&envoy, "plain", driver, server, direct, cache))
    };
    let caches: &[Cache] = match (server.is_mysql, driver.requests_key) {
        (true, true) => &[Cache::Cold, Cache::Warm],
        (true, false) => &[Cache::Warm],
        (false, _) => &[Cache::Cold],
    };
    caches.iter().flat_map(|cache| run(*cache)).collect()
}

/// Runs a driver with TLS that ends in Envoy. The driver verifies Envoy's certificate if it can. Returns the problems.
pub(crate) fn compare_bridge(driver: &Driver, server: &Server, direct: &str) -> Vec<String> {
    let tls = json!({"downstream": "terminate", "upstream": "originate"});
    let (proxy, other) = (Certificates::new(PROXY, 2090), Certificates::new(PROXY, 2090));
    let authority = |of: &Certificates| of.directory().join("ca.pem").display().to_string();
    let run = |cache: Cache| {
        let envoy = start_envoy_with_tls("envoy/tls-bridge.yaml", server, &tls, &proxy);
        let transport = if driver.verifies { authority(&proxy) } else { "tls".to_owned() };
        named("bridge", cache, compare_through(&envoy, &transport, driver, server, direct, cache))
    };
    let caches: &[Cache] = if server.is_mysql { &[Cache::Cold, Cache::Warm] } else { &[Cache::Cold] };
    let mut problems: Vec<_> = caches.iter().flat_map(|cache| run(*cache)).collect();
    if !driver.verifies {
        return problems;
    }

    // A driver that trusts another authority must not log in.
    let envoy = start_envoy_with_tls("envoy/tls-bridge.yaml", server, &tls, &proxy);
    prepare_with(server.database, Cache::Cold);
    super::run(driver, server.database, envoy.listener_addr("mysql"), &authority(&other));
    let metrics = envoy.stable(QUIET);
    let failed =
        total(&metrics, "firstword_tls_sessions_total", &[("side", "downstream"), ("result", "failed")]);
    let logins = total(&metrics, "firstword_handshakes_total", &[("result", "ok")]);
    if failed == 0 || logins > 0 {
        problems.push(format!("bridge, another authority: {logins} logins, {failed} refusals"));
    }
    problems
}

/// Sum of all series of a metric with these labels.
fn total(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    metrics.select(name, labels).map(|sample| sample.value as u64).sum()
}

/// Puts the case before its problems.
fn named(mode: &str, cache: Cache, problems: Vec<String>) -> Vec<String> {
    problems.into_iter().map(|problem| format!("{mode}, {cache:?} cache: {problem}")).collect()
}

fn compare_through(
    envoy: &Envoy,
    transport: &str,
    driver: &Driver,
    server: &Server,
    direct: &str,
    cache: Cache,
) -> Vec<String> {
    let database = server.database;
    prepare_with(database, cache);
    each(database, &["SET GLOBAL require_secure_transport = ON"]);
    let (before, accepted) = (reset_counts(database), database.status("Ssl_accepts"));
    let through = super::run(driver, database, envoy.listener_addr("mysql"), transport);
    each(database, &["SET GLOBAL require_secure_transport = OFF"]);
    let metrics = envoy.stable(QUIET);
    let accepted = database.status("Ssl_accepts") - accepted;
    let (mut server_counts, mut filter) = (counted_by_server(server, &before), counted_by_filter(&metrics));
    let mut problems = Vec::new();
    if through != direct {
        problems.push("other results than directly".to_owned());
        problems.extend(text_differences(direct, &through));
    }
    *filter.entry("Bytes_received".to_owned()).or_default() += accepted * REQUEST_LEN;
    if server.is_mysql && transport == "plain" {
        // The filter exchanges keys and passwords with the driver, which the server does not see.
        for name in STATUSES {
            server_counts.remove(name);
            filter.remove(name);
        }
        let passwords = sum(&metrics, "firstword_plaintext_full_auth_total", &[]);
        // With a warm cache, sqlx needs it nevertheless.
        if cache == Cache::Cold && passwords == 0 {
            problems.push("no login needed the password".to_owned());
        }
    }
    problems.extend(differences(&server_counts, &filter));
    let connections = sum(&metrics, "firstword_connections_total", &[]);
    let established =
        total(&metrics, "firstword_tls_sessions_total", &[("side", "upstream"), ("result", "established")]);
    let opaque = total(&metrics, "firstword_opaque_total", &[]);
    if connections == 0 || accepted != connections || established != connections || opaque > 0 {
        problems.push(format!(
            "of {connections} connections the server accepted TLS on {accepted}, the filter started it on {established}, and \
             {opaque} became opaque\n{}",
            envoy.log()
        ));
    }
    problems
}
