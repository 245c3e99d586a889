//! What the traffic that most tests play counts, in lines for [`crate::ledger`]. Lines of the same series add up, so that
//! these can be put together, and repeated; what a larger profile tells apart is taken off where it was told together.

/// What [`crate::traffic::login`] counts in the standard profile.
pub const LOGIN: &str = "
    connections_total{protocol=mysql} 1
    greeting_duration_seconds_count 1
    greetings_total{flavor=mariadb,release=10.11} 1
    server_first_detected_total{protocol=mysql} 1
    handshakes_total{result=ok} 1
    handshake_duration_seconds_count 1
    bytes_total{sender=client} 223
    bytes_total{sender=server} 115
";

/// What the full profile adds to [`LOGIN`].
pub const LOGIN_IN_FULL: &str = "
    clients_total{client=rust-mysql,client_series=28.0} 1
    packets_total{sender=client} 1
    packets_total{sender=server} 2
";

/// What [`crate::traffic::commands`] count in the standard profile.
pub const COMMANDS: &str = "
    commands_total{command=ping} 1
    commands_total{command=query} 6
    commands_total{command=quit} 1
    command_duration_seconds_count{command=other} 1
    command_duration_seconds_count{command=query} 6
    statements_total{verb=ddl} 1
    statements_total{verb=insert} 1
    statements_total{verb=select} 3
    statements_total{verb=update} 1
    errors_total{errno=1146} 1
    rows_total 4
    affected_rows_total 5
    no_index_used_total 1
    bytes_total{sender=client} 251
    bytes_total{sender=server} 382
";

/// What the full profile adds to [`COMMANDS`].
pub const COMMANDS_IN_FULL: &str = "
    command_duration_seconds_count{command=other} -1
    command_duration_seconds_count{command=query} -6
    command_duration_seconds_count{command=ping,verb=none} 1
    command_duration_seconds_count{command=query,verb=ddl} 1
    command_duration_seconds_count{command=query,verb=insert} 1
    command_duration_seconds_count{command=query,verb=select} 3
    command_duration_seconds_count{command=query,verb=update} 1
    command_first_byte_seconds_count{command=ping} 1
    command_first_byte_seconds_count{command=query} 6
    packets_total{sender=client} 8
    packets_total{sender=server} 18
    result_sets_total 2
";

/// Commands that no server answers.
const UNANSWERED: [&str; 2] = ["quit", "stmt_close"];

/// Commands whose durations are told apart by the verb of a statement; the lines have them.
const WITH_VERB: [&str; 3] = ["query", "stmt_execute", "stmt_prepare"];

/// The lines, and what else the full profile measures of the commands that they count, each of which was answered.
pub fn measured_in_full(lines: &str) -> String {
    let mut all = format!("{lines}\n");
    for line in lines.lines() {
        let command =
            line.trim().strip_prefix("commands_total{command=").and_then(|rest| rest.split_once("} "));
        let Some((command, count)) = command.filter(|(command, _)| !UNANSWERED.contains(command)) else {
            continue;
        };
        all.push_str(&format!("command_first_byte_seconds_count{{command={command}}} {count}\n"));
        if !WITH_VERB.contains(&command) {
            all.push_str(&format!("command_duration_seconds_count{{command={command},verb=none}} {count}\n"));
        }
    }
    all
}
