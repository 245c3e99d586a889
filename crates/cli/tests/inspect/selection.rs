//! What the user selects: connections with problems, one connection, the slowest commands. Also times of day and colours.

use serde_json::Value;

use crate::links::recorded_as;
use crate::run;
use crate::wire::{Talk, pcap};

/// Three connections: one with errors of commands, one that is refused in the handshake, one that the client resets.
const MARIADB: &str = "tests/captures/pcap/mariadb.pcap";
const TLS: &str = "tests/captures/pcap/mysql-9.7-tls.pcapng";

fn json(arguments: &[&str]) -> Value {
    run(&[&["-o", "json"], arguments].concat(), b"").json()
}

fn numbers(report: &Value) -> Vec<u64> {
    let connections = report["connections"].as_array().unwrap().iter();
    connections.map(|connection| connection["number"].as_u64().unwrap()).collect()
}

#[test]
fn one_connection_is_listed_by_its_number() {
    let all = json(&[MARIADB]);
    assert_eq!((numbers(&all), &all["not_selected"]), (vec![1, 2, 3], &0.into()));
    let second = json(&["--connection", "2", MARIADB]);
    assert_eq!((numbers(&second), &second["not_selected"]), (vec![2], &2.into()));
    assert_eq!(second["connections"][0], all["connections"][1]);
    assert_eq!(second["totals"], all["totals"]);
    let text = run(&["--connection", "2", MARIADB], b"").output;
    assert!(
        text.contains("  not listed 2 connections, as selected\n") && !text.contains("connection 1:"),
        "{text}"
    );
    let none = run(&["--connection", "4", MARIADB], b"");
    assert_eq!((none.code, none.output.as_str()), (2, ""));
    assert_eq!(
        none.problem,
        format!("{MARIADB}: expected the number of a connection from 1 to 3, found 4\n")
    );
}

#[test]
fn connections_without_a_problem_can_be_left_out() {
    assert_eq!(numbers(&json(&["--problems", MARIADB])), [1, 2, 3]);
    // A session without an error that ends by COM_QUIT.
    let quiet = pcap(&Talk::whole(&recorded_as("mariadb-auth-native")).frames);
    let report = run(&["-o", "json", "--problems", "-"], &quiet).json();
    assert_eq!((numbers(&report), &report["not_selected"]), (vec![], &1.into()));
    assert_eq!(report["totals"]["connections"], 1);
    // No greeting arrives, and the client waits.
    assert_eq!(numbers(&json(&["--problems", "tests/captures/pcap/silence.pcapng"])).len(), 1);
    // A number and a condition together.
    assert_eq!(numbers(&json(&["--problems", "--connection", "2", MARIADB])), [2]);
}

#[test]
fn the_slowest_commands_are_listed_in_order() {
    let all = json(&["--limit", "1000", "--slowest", "1000", MARIADB]);
    let commands = all["connections"].as_array().unwrap().iter().flat_map(|connection| {
        connection["commands"].as_array().unwrap().iter().map(move |command| (connection, command))
    });
    let mut expected: Vec<_> = commands
        .filter(|(_, command)| command["answer"].is_object())
        .map(|(connection, command)| {
            (
                command["answer"]["took_us"].as_u64().unwrap(),
                connection["number"].clone(),
                command["packet"].clone(),
            )
        })
        .collect();
    expected.sort_by_key(|(took, ..)| std::cmp::Reverse(*took));
    let slowest = |report: &Value| -> Vec<_> {
        let listed = report["slowest"].as_array().unwrap().iter();
        listed
            .map(|slow| {
                (slow["took_us"].as_u64().unwrap(), slow["connection"].clone(), slow["packet"].clone())
            })
            .collect()
    };
    assert!(expected.len() > 8);
    let took = |list: &[(u64, Value, Value)]| list.iter().map(|(took, ..)| *took).collect::<Vec<_>>();
    assert_eq!(took(&slowest(&all)), took(&expected));
    assert_eq!(slowest(&all)[0], expected[0]);
    // Also commands that the list of the connection leaves out.
    let three = json(&["--limit", "0", "--slowest", "3", MARIADB]);
    assert_eq!(slowest(&three), slowest(&all)[..3]);
    assert_eq!(json(&[MARIADB])["slowest"], Value::Array(Vec::new()));
    let text = run(&["--slowest", "3", MARIADB], b"").output;
    let table = text.find("  slowest    connection   packet").unwrap();
    assert!(table < text.find("\nconnection 1:").unwrap(), "{text}");
}

#[test]
fn totals_come_first_with_the_times_of_day() {
    let text = run(&[MARIADB], b"").output;
    let expected = format!(
        "{MARIADB}: 68 packets, 3 connections\n  from       2026-11-21T15:35:33.193810Z\n  to         2026-11-21T15:35:34.931757Z\n"
    );
    assert!(text.starts_with(&expected), "{text}");
    let report = json(&[MARIADB]);
    assert_eq!((&report["format"], &report["began"]), (&1.into(), &"2026-11-21T15:35:33.193810Z".into()));
    assert_eq!(report["ended"], "2026-11-21T15:35:34.931757Z");
    assert_eq!(report["connections"][1]["began"], "2026-11-21T15:35:33.327030Z");
}

#[test]
fn a_client_inside_tls_is_not_said_to_be_without_a_name() {
    let text = run(&[TLS], b"").output;
    assert!(text.contains("  client     (inside TLS)\n") && !text.contains("says no name"), "{text}");
    assert!(text.contains("1 of 1 MySQL connection used TLS, which hides their commands."), "{text}");
}

#[test]
fn colours_are_only_added_on_request() {
    let coloured = run(&["--color=always", MARIADB], b"").output;
    let plain = run(&["--color=never", MARIADB], b"").output;
    assert!(coloured.contains("\u{1b}[1mconnection 1: "), "{coloured}");
    assert_eq!(plain, run(&[MARIADB], b"").output);
    let without = without_colours(&coloured);
    assert_eq!(without, plain);
}

/// The text without sequences of ECMA-48 for colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |done, part| done + part.split_once('m').unwrap().1)
}
