//! Each driver without TLS, with a server that requires TLS, through `envoy/tls-originate.yaml`.

use std::path::Path;

use serde_json::json;

use super::*;

/// Length of an SSLRequest, which the server counts and the driver does not send.
const REQUEST_LEN: u64 = 36;

/// Envoy that starts TLS to the server, and verifies its certificate by this authority.
fn start_originating_envoy(database: &Database, authority: &Path) -> Envoy {
    let options = EnvoyOptions::new("envoy/tls-originate.yaml").upstream("mysql", database.addr());
    let validation = json!({"trusted_ca": {"filename": authority}});
    let configuration = json!({
        "rules": [{
            "match": {"addresses": ["127.0.0.1"]}, "protocol": "mysql", "tls": {"upstream": "originate"}
        }],
        "metrics": {"profile": "full", "max_series": 5000},
    });
    let options = options.edit(|bootstrap| {
        let cluster = &mut bootstrap["static_resources"]["clusters"][0];
        let tls = &mut cluster["transport_socket"]["typed_config"]["tls_socket_config"];
        // The certificates of these servers have no name that the file could expect.
        tls["common_tls_context"]["validation_context"] = validation;
    });
    Envoy::start(options.configuration(configuration))
}

/// Runs a driver. Returns true if its results are those of `direct`, and the problems.
pub(crate) fn compare(driver: &Driver, server: &Server, direct: &str) -> (bool, Vec<String>) {
    let database = server.database;
    let envoy = start_originating_envoy(database, &server.authority);
    prepare(driver, database);
    each(database, &["SET GLOBAL require_secure_transport = ON"]);
    let (before, accepted) = (reset_counts(database), database.status("Ssl_accepts"));
    let through = run(driver, database, envoy.listener_addr("mysql"), "plain");
    each(database, &["SET GLOBAL require_secure_transport = OFF"]);
    let metrics = envoy.stable(QUIET);
    let accepted = database.status("Ssl_accepts") - accepted;
    let (mut server_counts, mut filter) = (counted_by_server(server, &before), counted_by_filter(&metrics));
    let mut problems = Vec::new();
    let equal = through == direct;
    if !equal {
        problems.push("TLS from the filter to the server:".to_owned());
        problems.extend(text_differences(direct, &through));
    }
    *filter.entry("Bytes_received".to_owned()).or_default() += accepted * REQUEST_LEN;
    if server.is_mysql {
        // The filter exchanges keys and passwords with the driver, which the server does not see.
        for name in STATUSES {
            server_counts.remove(name);
            filter.remove(name);
        }
    }
    problems.extend(differences(&server_counts, &filter));
    let connections = sum(&metrics, "firstword_connections_total", &[]);
    let established = metrics.select("firstword_tls_sessions_total", &[("result", "established")]);
    let established: f64 = established.map(|sample| sample.value).sum();
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
