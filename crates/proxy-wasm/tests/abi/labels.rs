//! Labels of a connection's metrics, and the number of series.

use std::collections::BTreeSet;

use firstword::mysql::wire::auth_plugin::AuthPlugin;

use crate::host::{Destination, Ending, ORDERS, Plugin, Vm};
use crate::scripts::{self, Turn, login, query, run};
use crate::{assert_gauges_are_zero, sum};
use firstword_testing::packets::*;

/// Scope labels of all metrics of connections.
fn fronts(vm: &Vm) -> BTreeSet<String> {
    let metrics = vm.metrics();
    let own = "protocol phase closed_by seen flavor release errno result plugin command verb sender reason kind le version commit";
    let own: Vec<_> = own.split(' ').collect();
    let front = |name: &String| {
        let labels = name.split(";.;").filter(|part| part.contains("=.="));
        let scope = labels.filter(|label| !own.contains(&label.split("=.=").next().unwrap()));
        scope.collect::<Vec<_>>().join(" ").replace("=.=", "=")
    };
    metrics.keys().map(front).filter(|front| !front.is_empty()).collect()
}

fn fronts_of(configuration: &str, to: &Destination) -> Vec<String> {
    let vm = Vm::start();
    let plugin = vm.plugin(configuration);
    run(&plugin, to, &scripts::classic(), Ending::ClientFin);
    plugin.flush();
    fronts(&vm).into_iter().collect()
}

#[test]
fn destination_is_the_rule_or_the_cluster_or_passthrough() {
    let rules = r#"{"rules": [{"name": "shop/db", "match": {"ports": [3306], "addresses": ["10.0.0.0/24"]}},
                              {"match": {"ports": [3307]}}]}"#;
    let at = |address, cluster| Destination { address, cluster, ..ORDERS };
    let cases = [
        (at("10.0.0.5:3306", Some("orders")), "shop/db"),
        (at("10.0.1.5:3306", Some("orders")), "orders"),
        (at("10.0.0.5:3307", Some("outbound|3307||db.shop")), "outbound_3307__db.shop"),
        (at("10.0.0.5:3307", Some("PassthroughCluster")), "passthroughcluster"),
        (at("10.0.0.5:3307", None), "passthrough"),
        (at("10.0.0.5:3307", Some("")), "passthrough"),
    ];
    for (to, destination) in cases {
        assert_eq!(fronts_of(rules, &to), [format!("direction=outbound destination={destination}")]);
    }
}

#[test]
fn direction_is_that_of_the_listener() {
    for (direction, label) in [
        (Some(0), "unspecified"),
        (Some(1), "inbound"),
        (Some(2), "outbound"),
        (Some(3), "unspecified"),
        (None, "unspecified"),
    ] {
        let fronts = fronts_of("", &Destination { direction, ..ORDERS });
        assert_eq!(fronts, [format!("direction={label} destination=orders")]);
    }
}

#[test]
fn a_rule_can_match_a_direction() {
    let rules = r#"{"rules": [{"name": "in", "match": {"direction": "inbound"}},
                              {"name": "out", "match": {"direction": "outbound"}}]}"#;
    for (direction, front) in
        [(1, "direction=inbound destination=in"), (2, "direction=outbound destination=out")]
    {
        assert_eq!(fronts_of(rules, &Destination { direction: Some(direction), ..ORDERS }), [front]);
    }
}

#[test]
fn port_is_a_label_value_only_if_a_rule_or_the_table_names_it() {
    let rules = r#"{"metrics": {"labels": ["port"]}, "rules": [{"match": {"ports": ["10000-10009"]}}]}"#;
    for (address, label) in [
        ("10.0.0.5:3306", "port=3306"),
        ("10.0.0.5:10009", "port=10009"),
        ("10.0.0.5:10010", "port=other"),
        ("/var/run/mysqld.sock", "port=other"),
    ] {
        let to = Destination { address, ..ORDERS };
        assert_eq!(fronts_of(rules, &to), [label], "{address}");
    }
}

#[test]
fn zeros_are_exported_without_scope_labels_too() {
    for (labels, front) in [("[]", ""), (r#"["port"]"#, "port=.=other;.;")] {
        let vm = Vm::start();
        let plugin = vm.plugin(&format!(r#"{{"metrics": {{"labels": {labels}}}}}"#));
        run(
            &plugin,
            &Destination { address: "10.0.0.5:10000", ..ORDERS },
            &scripts::classic(),
            Ending::ClientFin,
        );
        plugin.flush();
        assert_eq!(vm.metric(&format!("{front}command=.=query;.;firstword_commands_total")), Some(4));
        assert_eq!(vm.metric(&format!("{front}reason=.=tls;.;firstword_opaque_total")), Some(0));
        assert_eq!(vm.metric("firstword_series_overflow_total"), Some(0));
        assert_eq!(vm.metric("firstword_series"), Some(vm.metrics().len() as u64));
    }
}

/// Configuration with a profile. The largest profile may export all its series.
fn with_profile(profile: &str) -> String {
    let max_series = if profile == "full" { 10_000 } else { 1000 };
    format!(r#"{{"metrics": {{"profile": "{profile}", "max_series": {max_series}}}}}"#)
}

fn exported(profile: &str) -> BTreeSet<String> {
    let vm = Vm::start();
    let plugin = vm.plugin(&with_profile(profile));
    heavy_load(&plugin);
    plugin.flush();
    vm.metrics().keys().map(|name| name.rsplit(";.;").next().unwrap().to_owned()).collect()
}

#[test]
fn a_profile_exports_its_own_metrics_and_those_of_smaller_profiles() {
    let names = |names: &str| {
        names.split_whitespace().map(|name| format!("firstword_{name}")).collect::<BTreeSet<_>>()
    };
    let minimal = names(
        "connections_total connections_active greeting_timeouts_total server_first_detected_total
         pre_handshake_errors_total handshakes_total commands_total
         commands_in_flight commands_stalled errors_total bytes_total opaque_total heartbeat_total vm_memory_bytes series connection_state_bytes
         series_overflow_total config_rejected build_info",
    );
    let standard = names(
        "connections_closed_total greeting_duration_seconds_bucket greeting_duration_seconds_count
         greeting_duration_microseconds_sum client_first_total greetings_total handshake_duration_seconds_bucket
         handshake_duration_seconds_count handshake_duration_microseconds_sum handshake_errors_total
         plaintext_full_auth_total statements_total command_duration_seconds_bucket command_duration_seconds_count
         command_duration_microseconds_sum rows_total affected_rows_total warnings_total no_index_used_total
         slow_flag_total prepared_statements_open transactions_open local_infile_total server_notices_total
         local_infile_blocked_total prepare_eof_splits_total prepare_eof_held_total prepare_eof_lost_total eof_hazard_clients_total
         hazards_total protection_lost_total",
    );
    let full = names(
        "auth_switches_total clients_total command_first_byte_seconds_bucket command_first_byte_seconds_count
         command_first_byte_microseconds_sum result_sets_total packets_total compressed_bytes_total",
    );
    assert_eq!(exported("minimal"), minimal);
    assert_eq!(exported("standard"), &minimal | &standard);
    assert_eq!(exported("full"), &(&minimal | &standard) | &full);
}

/// Number of commands of [`heavy_load`], without those of the scripts.
const COMMANDS: u64 = 31 + 500 + 15;

/// All commands, hundreds of error numbers of each kind, all kinds of servers, all endings.
fn heavy_load(plugin: &Plugin) {
    for ending in Ending::ALL {
        for (_, script) in scripts::all() {
            run(plugin, &ORDERS, &script, ending);
        }
        run(plugin, &ORDERS, &scripts::login(CLIENT_CAPABILITIES)[..1], ending);
        run(plugin, &ORDERS, &[], ending);
    }
    let mut session = login(CLIENT_CAPABILITIES);
    // Commands with a response, except those that end inspection.
    for byte in
        (0x00..=0x1f).filter(|byte| ![COM_QUIT, COM_STMT_SEND_LONG_DATA, COM_STMT_CLOSE].contains(byte))
    {
        session.push(Turn::Client(command(byte, b"")));
        session.push(Turn::Server(answer([err(1047)])));
    }
    session.push(Turn::Client(command(COM_STMT_CLOSE, &[0; 4])));
    session.push(Turn::Client(command(0xfa, b"")));
    session.push(Turn::Server(answer([err(1047)])));
    for errno in 1000..1500 {
        session.extend(query("a", [err(errno)]));
    }
    run(plugin, &ORDERS, &session, Ending::ClientFin);
    for number in 1000..1500 {
        let refusal = packet(0, &err(number));
        run(plugin, &ORDERS, &[Turn::Server(refusal)], Ending::ServerFin);
        let notice = Turn::Server(packet(0, &err(number)));
        run(plugin, &ORDERS, &[login(CLIENT_CAPABILITIES), vec![notice]].concat(), Ending::ServerFin);
        run(plugin, &ORDERS, &scripts::refused(number), Ending::ServerFin);
    }
    let verbs = "select insert update delete replace call set begin commit rollback drop show use load kill";
    let statements = verbs.split(' ').flat_map(|verb| query(verb, [ok()]));
    run(
        plugin,
        &ORDERS,
        &login(CLIENT_CAPABILITIES).into_iter().chain(statements).collect::<Vec<_>>(),
        Ending::Drain,
    );
    for plugin_name in AuthPlugin::ALL {
        let asked = packet(2, &auth_switch(plugin_name.label()));
        let script =
            [&login(CLIENT_CAPABILITIES)[..2], &[Turn::Server(asked), Turn::Server(packet(3, &err(1045)))]];
        run(plugin, &ORDERS, &script.concat(), Ending::ServerFin);
    }
    for version in [
        "5.7.44",
        "8.0.41",
        "8.4.5",
        "9.7.4",
        "11.8.6-MariaDB",
        "5.7.25-TiDB-v6.1.0",
        "what",
        "8.0.30-Vitess",
    ] {
        let hello = packet(0, &handshake_v10(version, MARIADB_CAPABILITIES));
        run(plugin, &ORDERS, &[Turn::Server(hello)], Ending::ClientFin);
    }
}

#[test]
fn the_profiles_do_not_exceed_their_budgets_for_one_destination() {
    let count = |profile: &str| {
        let vm = Vm::start();
        let plugin = vm.plugin(&with_profile(profile));
        heavy_load(&plugin);
        plugin.flush();
        assert_gauges_are_zero(&vm);
        let scripted = Ending::ALL.len() as u64;
        assert_eq!(
            sum(&vm, "errors_total", &[]),
            COMMANDS - 1 - 15 + scripted * 4,
            "all are counted: {profile}"
        );
        assert_eq!(sum(&vm, "commands_total", &[]), COMMANDS + scripted * (10 + 9 + 8 + 5 + 1), "{profile}");
        assert_eq!(sum(&vm, "pre_handshake_errors_total", &[]), 500 + scripted, "{profile}");
        if profile != "minimal" {
            let refused = 500 + scripted + AuthPlugin::ALL.len() as u64;
            assert_eq!(sum(&vm, "handshake_errors_total", &[]), refused, "{profile}");
            let answered = COMMANDS - 1 + scripted * (8 + 7 + 5 + 4);
            assert_eq!(sum(&vm, "command_duration_seconds_count", &[]), answered, "{profile}");
        }
        assert_eq!(sum(&vm, "series_overflow_total", &[]), 0, "{profile}");
        assert!(sum(&vm, "errors_total", &["errno=.=other"]) > 0, "{profile}");
        let promised = if profile == "minimal" { "errno=.=1290" } else { "errno=.=1146" };
        assert!(sum(&vm, "errors_total", &[promised]) > 0, "{profile}");
        vm.metrics().len()
    };
    let (minimal, standard, full) = (count("minimal"), count("standard"), count("full"));
    assert!(minimal <= 64, "{minimal}");
    assert!(standard <= 280, "{standard}");
    assert!(full > 1000, "{full}");
}

#[test]
fn series_beyond_max_series_are_counted_under_other() {
    for max_series in 90..=120 {
        let vm = Vm::start();
        let plugin = vm.plugin(&format!(r#"{{"metrics": {{"max_series": {max_series}}}}}"#));
        let clusters = ["a", "b", "c", "d", "e"];
        for cluster in clusters {
            let to = Destination { cluster: Some(cluster), ..ORDERS };
            run(&plugin, &to, &scripts::classic(), Ending::ClientFin);
        }
        plugin.flush();
        let all = clusters.len() as u64;
        let other = ["direction=.=other", "destination=.=other"];
        assert_eq!(sum(&vm, "commands_total", &["destination=.=a", "command=.=query"]), 4);
        assert_eq!(sum(&vm, "commands_total", &["destination=.=e"]), 0);
        assert!(sum(&vm, "commands_total", &[&other[..], &["command=.=other"]].concat()) >= 20);
        assert_eq!(sum(&vm, "commands_total", &[]), 10 * all);
        assert_eq!(sum(&vm, "rows_total", &[]), 6 * all);
        assert_eq!(sum(&vm, "statements_total", &[]), 5 * all);
        assert_eq!(sum(&vm, "connections_total", &[]), all);
        for (name, each) in [("greeting_duration", 1), ("handshake_duration", 1), ("command_duration", 8)] {
            assert_eq!(sum(&vm, &format!("{name}_seconds_count"), &[]), each * all, "{name}");
            assert!(sum(&vm, &format!("{name}_seconds_count"), &other) >= 3 * each, "{name}");
        }
        let (client, server) = scripts::bytes(&scripts::classic());
        assert_eq!(sum(&vm, "bytes_total", &[]), all * (client + server));
        assert!(sum(&vm, "series_overflow_total", &[]) > 0);
        assert_gauges_are_zero(&vm);
        let others = vm.metrics().keys().filter(|name| name.contains("destination=.=other")).count();
        let own = vm.metrics().len() - others;
        // A histogram is counted under `other` as a whole, so room for twelve series may remain.
        assert!((max_series - 12..=max_series).contains(&own), "{own} of {max_series}");
        assert_eq!(vm.metric("firstword_series"), Some(vm.metrics().len() as u64));
    }
}
