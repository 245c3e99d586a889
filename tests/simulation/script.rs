//! The script of an honest session, and what it counts.

use std::collections::BTreeMap;

use firstword::event::Sender;
use firstword_testing::packets::*;
use firstword_testing::random::Random;

/// Bytes of one side, and what is counted when all of them have arrived: a metric with its label, and a number.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) sender: Sender,
    pub(crate) bytes: Vec<u8>,
    pub(crate) counts: Vec<(&'static str, &'static str, i64)>,
}

/// Sums of counts.
pub(crate) type Counts = BTreeMap<(&'static str, &'static str), i64>;

pub(crate) fn add(counts: &mut Counts, step: &Step) {
    for (metric, label, number) in &step.counts {
        *counts.entry((metric, label)).or_default() += number;
    }
}

fn step(sender: Sender, bytes: Vec<u8>, counts: &[(&'static str, &'static str, i64)]) -> Step {
    Step { sender, bytes, counts: counts.to_vec() }
}

/// The greeting of a server that offers TLS and compression.
pub(crate) fn greeting() -> Vec<u8> {
    let capabilities = MARIADB_CAPABILITIES | CLIENT_SSL | CLIENT_COMPRESS;
    packet(0, &handshake_v10("5.5.5-10.11.19-MariaDB", capabilities))
}

/// A session: the connection phase, some commands, and perhaps COM_QUIT.
pub(crate) fn script(random: &mut Random) -> Vec<Step> {
    let mut steps = vec![
        step(Sender::Server, greeting(), &[("server_first_detected_total", "protocol=mysql", 1)]),
        step(Sender::Client, packet(1, &handshake_response(CLIENT_CAPABILITIES)), &[]),
    ];
    if random.below(4) == 0 {
        let refused = packet(2, &err(1045));
        steps.push(step(Sender::Server, refused, &[("handshake_errors_total", "errno=1045", 1)]));
        return steps;
    }
    steps.push(step(Sender::Server, packet(2, &ok()), &[("handshakes_total", "result=ok", 1)]));
    for _ in 0..random.below(12) {
        match random.below(5) {
            0 => exchange(&mut steps, COM_PING, b"", "command=ping", [ok()], &[]),
            1 => {
                let counts = [("errors_total", "errno=1146", 1)];
                exchange(
                    &mut steps,
                    COM_QUERY,
                    b"SELECT x FROM nosuch",
                    "command=query",
                    [err(1146)],
                    &counts,
                );
            }
            2 => prepared(&mut steps),
            _ => {
                let rows = random.below(40);
                let values = vec!["value"; rows];
                let counts = [("rows_total", "", rows as i64)];
                exchange(&mut steps, COM_QUERY, b"SELECT a", "command=query", result_set(&values), &counts);
            }
        }
    }
    if random.below(3) > 0 {
        steps.push(step(Sender::Client, command(COM_QUIT, b""), &[("commands_total", "command=quit", 1)]));
    }
    steps
}

fn exchange(
    steps: &mut Vec<Step>,
    byte: u8,
    arguments: &[u8],
    label: &'static str,
    response: impl IntoIterator<Item = Vec<u8>>,
    counts: &[(&'static str, &'static str, i64)],
) {
    steps.push(step(Sender::Client, command(byte, arguments), &[("commands_total", label, 1)]));
    steps.push(step(Sender::Server, answer(response), counts));
}

/// A statement that is prepared, executed and closed.
fn prepared(steps: &mut Vec<Step>) {
    let response = [prepare_ok(1, 0), column_def("a"), eof(AUTOCOMMIT)];
    exchange(steps, COM_STMT_PREPARE, b"SELECT a", "command=stmt_prepare", response, &[]);
    let rows = [column_count(1), column_def("a"), eof(AUTOCOMMIT), binary_row("x"), eof(AUTOCOMMIT)];
    let arguments = [1, 0, 0, 0, 0, 1, 0, 0, 0];
    exchange(steps, COM_STMT_EXECUTE, &arguments, "command=stmt_execute", rows, &[("rows_total", "", 1)]);
    let close = command(COM_STMT_CLOSE, &1_u32.to_le_bytes());
    steps.push(step(Sender::Client, close, &[("commands_total", "command=stmt_close", 1)]));
}
