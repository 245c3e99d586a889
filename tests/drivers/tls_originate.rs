//! Each driver with a server that requires TLS: without TLS through `envoy/tls-originate.yaml`, and with TLS through
//! `envoy/tls-bridge.yaml`.

use serde_json::{Value, json};

use super::*;

/// Length of an SSLRequest, which the server counts and the driver does not send.
const REQUEST_LEN: u64 = 36;

/// Envoy with this file, which starts TLS to the server and verifies its certificate by this authority.
fn start_envoy_with_tls(file: &str, server: &Server, tls: Value) -> Envoy {
    let options = EnvoyOptions::new(file).upstream("mysql", server.database.addr());
    let validation = json!({"trusted_ca": {"filename": server.authority}});
    let configuration = json!({
        "rules": [{"match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql", "tls": tls}],
        "metrics": {"profile": "full", "max_series": 5000},
    });
    let (certificate, key) = (server.certificate.join("cert"), server.certificate.join("key"));
    let options = options.edit(|bootstrap| {
        let resources = &mut bootstrap["static_resources"];
        for cluster in resources["clusters"].as_array_mut().expect("clusters") {
            let socket = &mut cluster["transport_socket"]["typed_config"]["tls_socket_config"];
            // The certificates of these servers have no name that the file could expect.
            if let Some(tls) = socket.get_mut("common_tls_context") {
                tls["validation_context"] = validation.clone();
            }
        }
        for listener in resources["listeners"].as_array_mut().expect("listeners") {
            if let Some(socket) = listener["filter_chains"][0].get_mut("transport_socket") {
                socket["typed_config"]["common_tls_context"]["tls_certificates"] = json!([
                    {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
                ]);
            }
        }
    });
    Envoy::start(options.configuration(configuration))
}

/// Runs a driver without TLS. Returns true if its results are those of `direct`, and the problems.
pub(crate) fn compare(driver: &Driver, server: &Server, direct: &str) -> (bool, Vec<String>) {
    let envoy = start_envoy_with_tls("envoy/tls-originate.yaml", server, json!({"upstream": "originate"}));
    compare_through(&envoy, "plain", driver, server, direct)
}

/// Runs a driver with TLS that ends in Envoy. Returns the problems.
pub(crate) fn compare_bridge(driver: &Driver, server: &Server, direct: &str) -> Vec<String> {
    let tls = json!({"downstream": "terminate", "upstream": "originate"});
    let envoy = start_envoy_with_tls("envoy/tls-bridge.yaml", server, tls);
    compare_through(&envoy, "tls", driver, server, direct).1
}

fn compare_through(
    envoy: &Envoy,
    transport: &str,
    driver: &Driver,
    server: &Server,
    direct: &str,
) -> (bool, Vec<String>) {
    let database = server.database;
    prepare(driver, database);
    each(database, &["SET GLOBAL require_secure_transport = ON"]);
    let (before, accepted) = (reset_counts(database), database.status("Ssl_accepts"));
    let through = run(driver, database, envoy.listener_addr("mysql"), transport);
    each(database, &["SET GLOBAL require_secure_transport = OFF"]);
    let metrics = envoy.stable(QUIET);
    let accepted = database.status("Ssl_accepts") - accepted;
    let (mut server_counts, mut filter) = (counted_by_server(server, &before), counted_by_filter(&metrics));
    let mut problems = Vec::new();
    let equal = through == direct;
    if !equal {
        problems.push(format!("TLS from the filter to the server, driver with {transport}:"));
        problems.extend(text_differences(direct, &through));
    }
    *filter.entry("Bytes_received".to_owned()).or_default() += accepted * REQUEST_LEN;
    if server.is_mysql && transport == "plain" {
        // The filter exchanges keys and passwords with the driver, which the server does not see.
        for name in STATUSES {
            server_counts.remove(name);
            filter.remove(name);
        }
    }
    problems.extend(differences(&server_counts, &filter));
    let connections = sum(&metrics, "firstword_connections_total", &[]);
    let side = [("side", "upstream"), ("result", "established")];
    let established: f64 =
        metrics.select("firstword_tls_sessions_total", &side).map(|sample| sample.value).sum();
    let opaque: f64 = metrics.select("firstword_opaque_total", &[]).map(|sample| sample.value).sum();
    if accepted != connections || established as u64 != connections || opaque > 0.0 {
        problems.push(format!(
            "of {connections} connections the server accepted TLS on {accepted}, the filter started it on {established}, and \
             {opaque} became opaque\n{}",
            envoy.log()
        ));
    }
    (equal && problems.is_empty(), problems)
}
