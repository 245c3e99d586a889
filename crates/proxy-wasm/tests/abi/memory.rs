//! Memory of connections: the maximum that a client of each setting can cause, and the effects of a used-up budget
//! (`limits.connection_state`). `docs/memory.md` has the same numbers.

use std::time::Duration;

use firstword::filter::budget::connection_state;

use crate::host::{Ending, ORDERS, Outcome, Plugin, Stream, Vm, count};
use crate::scripts::{login, play};
use crate::{assert_gauges_are_zero, sum};
use firstword_testing::packets::*;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const SLOW: &str = r#"{"defaults": {"mysql": {"slow_command": "1ms"}}}"#;
const BLOCKS: &str = r#"{"rules": [{"mysql": {"block_local_infile": true}}]}"#;
const COM_INIT_DB: u8 = 0x02;

/// The worst client of a setting.
struct Worst {
    name: &'static str,
    settings: &'static str,
    /// Command number `n` of its pipeline.
    command: fn(usize) -> Vec<u8>,
    /// True if the server prepares each command. The statements stay open.
    is_prepared: bool,
    /// Maximum that is counted for the connection, in KiB.
    most: usize,
    /// Memory after all responses, and after all statements are closed, in tenths of a KiB. `None` if inspection has ended by
    /// then.
    idle: Option<usize>,
}

const WORST: [Worst; 9] = [
    Worst {
        name: "commands without text",
        settings: "{}",
        command: ping,
        is_prepared: false,
        most: 42,
        idle: Some(16),
    },
    Worst {
        name: "statements of 1 KiB, `slow_command`",
        settings: SLOW,
        command: statement,
        is_prepared: false,
        most: 106,
        idle: Some(16),
    },
    Worst {
        name: "COM_INIT_DB, `schema`",
        settings: r#"{"access_log": ["schema"]}"#,
        command: init_db,
        is_prepared: false,
        most: 68,
        idle: None,
    },
    Worst {
        name: "COM_CHANGE_USER, `user` and `schema`",
        settings: r#"{"access_log": ["user", "schema"]}"#,
        command: change_user,
        is_prepared: false,
        most: 67,
        idle: None,
    },
    Worst {
        name: "LOAD DATA LOCAL with a long name, `block_local_infile`",
        settings: BLOCKS,
        command: load,
        is_prepared: false,
        most: 50,
        idle: None,
    },
    Worst {
        name: "LOAD DATA LOCAL with 600 names, `block_local_infile`",
        settings: BLOCKS,
        command: many_names,
        is_prepared: false,
        most: 50,
        idle: None,
    },
    Worst {
        name: "prepared statements",
        settings: "{}",
        command: select_prepared,
        is_prepared: true,
        most: 130,
        idle: Some(16),
    },
    Worst {
        name: "prepared LOAD DATA LOCAL, `block_local_infile`",
        settings: BLOCKS,
        command: prepared_load,
        is_prepared: true,
        most: 72,
        idle: None,
    },
    Worst {
        name: "prepared statements of 250 bytes, `slow_command`",
        settings: SLOW,
        command: long_prepared,
        is_prepared: true,
        most: 199,
        idle: Some(18),
    },
];

fn load(n: usize) -> Vec<u8> {
    let name = format!("{n:0>15000}");
    command(COM_QUERY, format!("LOAD DATA LOCAL INFILE '{name}' INTO TABLE t").as_bytes())
}

fn many_names(n: usize) -> Vec<u8> {
    let statement = format!("{n:0>10} {}", "LOAD DATA LOCAL INFILE ''".repeat(600));
    command(COM_QUERY, statement.as_bytes())
}

fn prepared_load(n: usize) -> Vec<u8> {
    command(COM_STMT_PREPARE, format!("LOAD DATA LOCAL INFILE '{n:0>200}' INTO TABLE t").as_bytes())
}

fn statement(n: usize) -> Vec<u8> {
    command(COM_QUERY, format!("SELECT {n:0>1016}").as_bytes())
}

fn init_db(_: usize) -> Vec<u8> {
    command(COM_INIT_DB, &[0xff; 250])
}

fn change_user(_: usize) -> Vec<u8> {
    let user = [0xff; 250];
    command(COM_CHANGE_USER, &[&user[..], b"\0\0", &user, b"\0\x2d\0"].concat())
}

fn ping(_: usize) -> Vec<u8> {
    command(COM_PING, b"")
}

fn select_prepared(_: usize) -> Vec<u8> {
    command(COM_STMT_PREPARE, b"SELECT 1")
}

fn long_prepared(n: usize) -> Vec<u8> {
    command(COM_STMT_PREPARE, format!("SELECT {n}, {}", "ab, ".repeat(60)).as_bytes())
}

fn logged_in(plugin: &Plugin) -> Stream {
    let stream = plugin.connect(&ORDERS);
    play(&stream, &login(CLIENT_CAPABILITIES));
    stream
}

/// Response to COM_STMT_PREPARE that opens this statement.
fn prepared(id: u32) -> Vec<u8> {
    let mut head = prepare_ok(0, 0);
    head[1..5].copy_from_slice(&id.to_le_bytes());
    answer([head])
}

/// Passes each command in a separate callback, because equal commands of one callback share an entry. Returns the maximum
/// memory.
fn storm(vm: &Vm, stream: &Stream, worst: &Worst) -> usize {
    let mut most = 0;
    for n in 0..if worst.is_prepared { 16_400 } else { 1_024 } {
        vm.advance(Duration::from_micros(1));
        // A connection that a rule ends drops the client's bytes.
        let (outcome, _) = stream.pass_client(&(worst.command)(n), false);
        if worst.is_prepared && outcome != Outcome::Forwarded(Vec::new()) {
            stream.pass_server(&prepared(n as u32 + 1), false);
        }
        most = most.max(connection_state());
    }
    most
}

/// Passes responses to all commands, and closes all statements.
fn calm(stream: &Stream, worst: &Worst) {
    for n in 0..if worst.is_prepared { 16_400_u32 } else { 1_024 } {
        if worst.is_prepared {
            stream.pass_client(&command(COM_STMT_CLOSE, &(n + 1).to_le_bytes()), false);
        } else {
            stream.pass_server(&answer([ok()]), false);
        }
    }
}

/// Row of the table in `docs/memory.md`.
fn row(worst: &Worst) -> String {
    let idle = |tenths: usize| format!("{}.{} KiB", tenths / 10, tenths % 10);
    let idle = worst.idle.map_or("inspection has ended".to_owned(), idle);
    format!("| {} | {} KiB | {idle} |", worst.name, worst.most)
}

#[test]
fn the_document_lists_the_worst_clients() {
    let text = include_str!("../../../../docs/memory.md");
    let rows: Vec<_> =
        text.lines().skip_while(|line| !line.starts_with("| client sends |")).skip(2).collect();
    let rows: Vec<_> = rows.into_iter().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows, WORST.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn the_worst_client_of_each_setting_needs_the_documented_memory() {
    for worst in &WORST {
        let vm = Vm::start();
        let plugin = vm.plugin(worst.settings);
        let stream = logged_in(&plugin);
        let (idle, heap) = (connection_state(), vm.heap());
        let most = storm(&vm, &stream, worst);
        // Headers of shared texts and of boxes, and the lists that callbacks share.
        let beyond = (vm.heap() - heap) - (connection_state() as isize - idle as isize);
        assert!(beyond < 12 << 10, "{}: {beyond} bytes that are not counted", worst.name);
        calm(&stream, worst);
        plugin.flush();
        let is_opaque = sum(&vm, "opaque_total", &["reason=.=memory"]) == 1;
        let is_idle = (!is_opaque).then(|| (connection_state() * 10).div_ceil(KIB));
        assert_eq!((most.div_ceil(KIB), is_idle), (worst.most, worst.idle), "{}", worst.name);
        stream.close(Ending::ClientReset);
        assert_eq!(connection_state(), 0);
        plugin.end();
    }
}

/// Maximum number of connections in the tests of many.
const MANY: usize = 10_000;
/// Number of commands that each of them has in flight.
const IN_FLIGHT: usize = 9;

/// Memory that is counted for an inspected connection of [`crowd`], in bytes.
fn one_of_a_crowd(settings: &str) -> usize {
    let vm = Vm::start();
    let plugin = vm.plugin(settings);
    let stream = logged_in(&plugin);
    for _ in 0..IN_FLIGHT {
        vm.advance(Duration::from_micros(1));
        stream.client(&ping(0));
    }
    let counted = connection_state();
    stream.close(Ending::ClientReset);
    plugin.end();
    counted
}

/// Opens [`MANY`] connections, each of which logs in and has some commands in flight. Some may be closed if a rule protects
/// them. Returns the open connections, each with true if its last command was forwarded.
fn crowd(vm: &Vm, plugin: &Plugin, limit: usize) -> Vec<(Stream, bool)> {
    let mut open = Vec::new();
    for _ in 0..MANY {
        let (stream, _, calls) = plugin.connect_from(None, &ORDERS);
        if count(&calls, "close_stream") > 0 {
            stream.close(Ending::Drain);
            continue;
        }
        stream.pass_server(&greeting(), false);
        stream.pass_client(&packet(1, &handshake_response(CLIENT_CAPABILITIES)), false);
        stream.pass_server(&packet(2, &ok()), false);
        let mut is_forwarded = true;
        for _ in 0..IN_FLIGHT {
            vm.advance(Duration::from_micros(1));
            is_forwarded = stream.pass_client(&ping(0), false).0 == Outcome::Forwarded(ping(0));
        }
        assert!(connection_state() <= limit);
        open.push((stream, is_forwarded));
    }
    open
}

/// Closes the crowd, and asserts that none of its memory stays counted.
fn end(vm: &Vm, plugin: Plugin, open: Vec<(Stream, bool)>) {
    for (stream, _) in open {
        stream.close(Ending::ClientReset);
    }
    plugin.flush();
    assert_eq!(connection_state(), 0);
    assert_gauges_are_zero(vm);
    plugin.end();
}

#[test]
fn ten_thousand_connections_do_not_exceed_the_budget() {
    let settings = r#"{"access_log": ["user", "opaque_reason"]}"#;
    let inspected = 16 * MIB / one_of_a_crowd(settings);
    let vm = Vm::start();
    let plugin = vm.plugin(settings);
    let heap = vm.heap();
    let open = crowd(&vm, &plugin, 16 * MIB);
    assert_eq!(
        open.iter().filter(|(_, is_forwarded)| *is_forwarded).count(),
        MANY,
        "all traffic is forwarded"
    );
    let unread = open.iter().filter(|(stream, _)| stream.state("user").as_deref() == Some("%")).count();
    let named = open.iter().filter(|(stream, _)| stream.state("user").as_deref() == Some("app")).count();
    assert_eq!((named, unread), (inspected, MANY - inspected));
    // Contexts of the SDK, and lists that callbacks share, as the allocator of a native build counts them.
    let beyond = vm.heap() - heap - connection_state() as isize;
    assert!(beyond < 2 << 20, "{beyond} bytes that are not counted");
    plugin.flush();
    assert_eq!(sum(&vm, "opaque_total", &["reason=.=memory"]) as usize, MANY - inspected);
    assert_eq!(sum(&vm, "connection_state_bytes", &[]) as usize, connection_state());
    assert_eq!(sum(&vm, "protection_lost_total", &[]), 0);
    let bytes = 5 * IN_FLIGHT * MANY;
    let login = packet(1, &handshake_response(CLIENT_CAPABILITIES)).len() * MANY;
    assert_eq!(sum(&vm, "bytes_total", &["direction=.=outbound", "sender=.=client"]) as usize, bytes + login);
    end(&vm, plugin, open);
}

/// Some connections fit when they begin, but no longer when the server sends its greeting. So their login is not inspected.
#[test]
fn the_account_is_unreadable_if_inspection_ends_before_the_login() {
    let settings =
        r#"{"access_log": ["user"], "limits": {"connection_state": "1MiB"}, "log": {"level": "off"}}"#;
    let vm = Vm::start();
    let plugin = vm.plugin(settings);
    let mut open: Vec<_> = (0..1_000).map(|_| plugin.connect(&ORDERS)).collect();
    for stream in &open {
        play(stream, &login(CLIENT_CAPABILITIES));
        assert!(connection_state() <= MIB);
    }
    let of = |name: &str| open.iter().filter(|stream| stream.state("user").as_deref() == Some(name)).count();
    assert_eq!(of("app") + of("%"), 1_000);
    assert!(of("app") > 300 && of("%") > 300, "{} inspected", of("app"));
    for stream in open.drain(..) {
        stream.close(Ending::ClientReset);
    }
    plugin.end();
}

#[test]
fn protected_connections_beyond_the_budget_are_closed() {
    let inspected = 16 * MIB / one_of_a_crowd(BLOCKS);
    let vm = Vm::start();
    let plugin = vm.plugin(BLOCKS);
    let open = crowd(&vm, &plugin, 16 * MIB);
    assert_eq!(open.iter().filter(|(_, is_forwarded)| *is_forwarded).count(), inspected);
    let calls = [plugin.tick(), plugin.tick()].concat();
    // The others were closed when they began.
    assert_eq!(count(&calls, "close_stream"), 2 * (open.len() - inspected));
    let lost = sum(&vm, "protection_lost_total", &["reason=.=memory"]) as usize;
    assert_eq!(
        (lost, sum(&vm, "opaque_total", &["reason=.=memory"]) as usize),
        (MANY - inspected, MANY - inspected)
    );
    end(&vm, plugin, open);
}

#[test]
fn the_tick_ends_the_inspection_of_heavy_connections_only() {
    let settings = r#"{"access_log": ["opaque_reason"], "limits": {"connection_state": "1MiB"},
        "defaults": {"mysql": {"slow_command": "1ms"}}}"#;
    let vm = Vm::start();
    let plugin = vm.plugin(settings);
    let is_opaque = |stream: &Stream| stream.state("opaque_reason").is_some();
    let small: Vec<_> = (0..50).map(|_| logged_in(&plugin)).collect();
    let heavy: Vec<_> = (0..8).map(|_| logged_in(&plugin)).collect();
    for stream in &heavy {
        storm(&vm, stream, &WORST[1]);
    }
    let before = connection_state();
    assert!(before > 768 * KIB && before <= MIB, "{before}");
    plugin.tick();
    // The tick stops as soon as a quarter of the budget is free.
    assert_eq!(heavy.iter().filter(|stream| is_opaque(stream)).count(), 2);
    assert!(connection_state() <= 768 * KIB);
    plugin.tick();
    assert_eq!(heavy.iter().filter(|stream| is_opaque(stream)).count(), 2);
    assert_eq!(small.iter().filter(|stream| is_opaque(stream)).count(), 0);
    for stream in heavy.into_iter().chain(small) {
        stream.close(Ending::ClientReset);
    }
    assert_eq!(connection_state(), 0);
    plugin.end();
}

/// The budget belongs to the VM, so the share of a connection depends on the connections of all its plugins.
#[test]
fn connections_of_another_plugin_make_the_share_smaller() {
    let settings = r#"{"access_log": ["opaque_reason"], "limits": {"connection_state": "1MiB"},
        "defaults": {"mysql": {"slow_command": "1ms"}}}"#;
    let vm = Vm::start();
    let (plugin, other) = (vm.plugin(settings), vm.named_plugin("other", settings));
    let Ok(other) = other else { panic!("refused") };
    let small: Vec<_> = (0..50).map(|_| logged_in(&other)).collect();
    let heavy: Vec<_> = (0..7).map(|_| logged_in(&plugin)).collect();
    for stream in &heavy {
        storm(&vm, stream, &WORST[1]);
    }
    assert!(connection_state() > 768 * KIB);
    plugin.tick();
    // Each heavy connection has less than a seventh of three quarters of the budget.
    assert_eq!(heavy.iter().filter(|stream| stream.state("opaque_reason").is_some()).count(), 1);
    for stream in heavy.into_iter().chain(small) {
        stream.close(Ending::ClientReset);
    }
    plugin.end();
    other.end();
}

/// One client has 390,000 pings in flight to a server that sends no responses, and closes the connection.
#[test]
fn the_end_of_many_equal_commands_needs_no_memory() {
    for settings in ["{}", SLOW] {
        let vm = Vm::start();
        let plugin = vm.plugin(settings);
        let stream = logged_in(&plugin);
        let flood = ping(0).repeat(13_000);
        for _ in 0..30 {
            vm.advance(Duration::from_millis(1));
            stream.client(&flood);
        }
        plugin.flush();
        assert_eq!(sum(&vm, "commands_in_flight", &[]), 390_000);
        vm.advance(Duration::from_secs(1));
        let (before, _) = (vm.heap(), vm.peak());
        stream.close(Ending::ClientReset);
        let passing = vm.peak() - before;
        assert!(passing < 128 << 10, "{passing} bytes to emit the end of 390,000 commands");
        plugin.flush();
        assert_gauges_are_zero(&vm);
        plugin.end();
    }
}

/// Held bytes cannot be released when inspection ends, so bytes beyond the budget are not held.
#[test]
fn bytes_are_held_only_within_the_budget() {
    let settings =
        r#"{"rules": [{"mysql": {"hold_split_eof": "always"}}], "limits": {"connection_state": "1MiB"}}"#;
    let vm = Vm::start();
    let plugin = vm.plugin(settings);
    let open: Vec<_> = (0..100).map(|_| logged_in(&plugin)).collect();
    let mut held = 0;
    let definition = [column_def("a"), vec![0; 60_000]].concat();
    let [head, end] = [answer([prepare_ok(1, 0)]), packet(2, &definition)];
    for stream in &open {
        stream.client(&select_prepared(0));
        let (forwarded, _) = stream.pass_server(&[&head[..], &end].concat(), false);
        held += usize::from(forwarded == head);
        assert!(forwarded == head || forwarded.len() == head.len() + end.len());
        assert!(connection_state() <= MIB, "{}", connection_state());
    }
    // Each of these takes 60,105 bytes more. The others take only the memory of an uninspected connection.
    assert_eq!(held, 16);
    plugin.flush();
    // The tick has also ended the inspection of the connections with held bytes, because more than three quarters were used.
    assert_eq!(sum(&vm, "opaque_total", &["reason=.=memory"]), 100);
    for stream in open {
        let (rest, _) = stream.pass_server(&packet(3, &eof(AUTOCOMMIT)), false);
        let is_held = rest.len() > 9;
        assert_eq!(rest.len(), if is_held { end.len() + 9 } else { 9 });
        stream.close(Ending::ServerReset);
    }
    assert_eq!(connection_state(), 0);
    plugin.end();
}

/// A connection without room needs only the context of the SDK and its counts.
#[test]
fn a_connection_beyond_the_budget_takes_only_its_context() {
    let vm = Vm::start();
    let plugin = vm.plugin(r#"{"limits": {"connection_state": "1MiB"}, "log": {"level": "off"}}"#);
    let connect = |many: usize| -> Vec<_> { (0..many).map(|_| logged_in(&plugin)).collect() };
    // The lists of contexts double their memory, so both numbers are slightly above a power of two.
    let first = connect(1_800);
    let (counted, heap) = (connection_state(), vm.heap());
    let more = connect(2 * 1_800);
    assert_eq!(connection_state(), counted, "nothing more is counted");
    let each = (vm.heap() - heap) / 3_600;
    assert!(each <= 256, "{each} bytes");
    println!("{each}");
    for stream in first.into_iter().chain(more) {
        stream.close(Ending::ClientReset);
    }
    plugin.end();
}
