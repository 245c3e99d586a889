//! Several plugins in one VM, and several VMs of one plugin.

use serde_json::json;

use crate::bootstrap::{MYSQL, add_second_listener, configured, with_fast_flush};
use crate::counter_diff::{CounterDiff, ours};
use crate::session_counts::{COMMANDS, COMMANDS_FULL_PROFILE, LOGIN, LOGIN_FULL_PROFILE};
use crate::traffic::{Pair, commands, session};
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::Server;

const SECOND: &str = "second";

/// Number of VMs in Envoy.
fn vm_count(envoy: &Envoy) -> u64 {
    envoy.stats("^wasm.envoy.wasm.runtime.v8.active$").values().sum()
}

/// Two listeners with two configurations, but the same `vm_id` and module, share one VM on each thread.
#[test]
fn plugins_that_share_a_vm_count_separately() {
    let (server, second) = (Server::start(), Server::start());
    let alone = vm_count(&Envoy::start(configured(server.address(), json!({}))));
    let minimal =
        with_fast_flush(json!({"metrics": {"profile": "minimal"}, "defaults": {"protocol": "mysql"}}));
    let options = configured(server.address(), json!({"metrics": {"profile": "full"}}));
    let options = options.edit(|bootstrap| add_second_listener(bootstrap, SECOND, &minimal));
    let envoy = Envoy::start(options.upstream(SECOND, second.address()));
    assert_eq!(vm_count(&envoy), alone);

    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pairs = [
        Pair::open(envoy.listener_addr(MYSQL), &server),
        Pair::open(envoy.listener_addr(SECOND), &second),
        Pair::open(envoy.listener_addr(SECOND), &second),
    ];
    for chunk in session() {
        for pair in &mut pairs {
            pair.play(std::slice::from_ref(&chunk));
        }
    }
    for pair in pairs {
        pair.close();
    }
    let minimal = "
        connections_total{destination=second,direction=unspecified,protocol=mysql} 2
        server_first_detected_total{destination=second,direction=unspecified,protocol=mysql} 2
        handshakes_total{destination=second,direction=unspecified,result=ok} 2
        commands_total{command=ping,destination=second,direction=unspecified} 2
        commands_total{command=query,destination=second,direction=unspecified} 12
        commands_total{command=quit,destination=second,direction=unspecified} 2
        errors_total{destination=second,direction=unspecified,errno=other} 2
        bytes_total{destination=second,direction=unspecified,sender=client} 948
        bytes_total{destination=second,direction=unspecified,sender=server} 994
    ";
    diff.expect(&format!(
        "{LOGIN}{LOGIN_FULL_PROFILE}{COMMANDS}{COMMANDS_FULL_PROFILE}
         connections_closed_total{{closed_by=client,phase=command}} 1
         {minimal}"
    ));
    diff.finish();
    let builds: Vec<_> =
        envoy.prometheus().select("firstword_build_info", &[]).map(|sample| sample.value).collect();
    assert_eq!(builds, [1.0], "all plugins export the same");
}

/// A series is the sum over all threads of Envoy.
#[test]
fn two_workers_add_to_the_same_series() {
    const CONNECTIONS: usize = 40;
    let server = Server::start();
    let mysql = json!({"defaults": {"protocol": "mysql"}});
    let envoy = Envoy::start(configured(server.address(), mysql).concurrency(2));
    let address = envoy.listener_addr(MYSQL);
    let mut diff = CounterDiff::new(&envoy, MYSQL);
    let mut pairs: Vec<_> = (0..CONNECTIONS).map(|_| Pair::logged_in(address, &server)).collect();
    envoy.wait_metric("firstword_connections_active", &[("protocol", MYSQL)], 40.0);
    for chunk in commands() {
        for pair in &mut pairs {
            pair.play(std::slice::from_ref(&chunk));
        }
    }
    for pair in pairs {
        pair.close();
    }
    let closed = "connections_closed_total{closed_by=client,phase=command} 1\n";
    diff.expect(&format!("{LOGIN}{COMMANDS}{closed}").repeat(CONNECTIONS));
    diff.finish();
    let workers = envoy.stats(r"^listener\..*\.worker_[01]\.downstream_cx_total$");
    assert!(workers.len() == 2 && workers.values().all(|count| *count > 0), "{workers:?}");
    // Each VM counts the series that it defined: workers those of connections and of the VM, the main thread only the latter.
    let metrics = envoy.prometheus();
    let of_connections = ours(&metrics).filter(|sample| sample.labels.contains_key("direction")).count();
    let of_vms = ours(&metrics).count() - of_connections;
    #[allow(clippy::cast_precision_loss)]
    let defined = (2 * of_connections + 3 * of_vms) as f64;
    assert_eq!(metrics.get("firstword_series", &[]), Some(defined));
}
