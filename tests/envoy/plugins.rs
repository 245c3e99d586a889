//! Several plugins in one VM, and several VMs.

use serde_json::json;

use crate::bootstrap::{MYSQL, configured, soon, with_second};
use crate::counted::{COMMANDS, COMMANDS_IN_FULL, LOGIN, LOGIN_IN_FULL};
use crate::ledger::{Ledger, ours};
use crate::traffic::{Pair, commands, session};
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::Server;

const SECOND: &str = "second";

/// VMs that Envoy has.
fn vms(envoy: &Envoy) -> u64 {
    envoy.stats("^wasm.envoy.wasm.runtime.v8.active$").values().sum()
}

/// Two listeners, two configurations, the same `vm_id` and module: one VM for each thread, and counts apart.
#[test]
fn plugins_that_share_a_vm_count_apart() {
    let (server, second) = (Server::start(), Server::start());
    let alone = vms(&Envoy::start(configured(server.address(), json!({}))));
    let minimal = soon(json!({"metrics": {"profile": "minimal"}, "defaults": {"protocol": "mysql"}}));
    let options = configured(server.address(), json!({"metrics": {"profile": "full"}}));
    let options = options.edit(|bootstrap| with_second(bootstrap, SECOND, &minimal));
    let envoy = Envoy::start(options.upstream(SECOND, second.address()));
    assert_eq!(vms(&envoy), alone);

    let mut ledger = Ledger::new(&envoy, MYSQL);
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
    ledger.expect(&format!(
        "{LOGIN}{LOGIN_IN_FULL}{COMMANDS}{COMMANDS_IN_FULL}
         connections_closed_total{{by=client,phase=command}} 1
         {minimal}"
    ));
    ledger.finish();
    let builds: Vec<_> =
        envoy.prometheus().select("firstword_build_info", &[]).map(|sample| sample.value).collect();
    assert_eq!(builds, [1.0], "all plugins say the same");
}

/// The threads' sums are those of Envoy as a whole.
#[test]
fn two_workers_count_as_one() {
    const CONNECTIONS: usize = 40;
    let server = Server::start();
    let mysql = json!({"defaults": {"protocol": "mysql"}});
    let envoy = Envoy::start(configured(server.address(), mysql).concurrency(2));
    let address = envoy.listener_addr(MYSQL);
    let mut ledger = Ledger::new(&envoy, MYSQL);
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
    let closed = "connections_closed_total{by=client,phase=command} 1\n";
    ledger.expect(&format!("{LOGIN}{COMMANDS}{closed}").repeat(CONNECTIONS));
    ledger.finish();
    let workers = envoy.stats(r"^listener\..*\.worker_[01]\.downstream_cx_total$");
    assert!(workers.len() == 2 && workers.values().all(|count| *count > 0), "{workers:?}");
    // Every VM counts the series it defined: both workers those of connections, and the main thread too those of a VM.
    let metrics = envoy.prometheus();
    let of_connections = ours(&metrics).filter(|sample| sample.labels.contains_key("direction")).count();
    let of_vms = ours(&metrics).count() - of_connections;
    #[allow(clippy::cast_precision_loss)]
    let defined = (2 * of_connections + 3 * of_vms) as f64;
    assert_eq!(metrics.get("firstword_series", &[]), Some(defined));
}
