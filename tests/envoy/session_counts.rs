//! Expected counts of the sessions in [`crate::traffic`], as lines for [`crate::counter_diff`].
//!
//! The lines of several constants can be combined and repeated, because counts of the same series are added. Where a larger
//! profile splits a series, its lines subtract the counts of the unsplit series.

use firstword::metrics::Profile;

/// Counts of [`crate::traffic::login`] in the standard profile.
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

/// Counts that the full profile adds to [`LOGIN`].
pub const LOGIN_FULL_PROFILE: &str = "
    clients_total{client=rust-mysql,client_series=28.0} 1
    packets_total{sender=client} 1
    packets_total{sender=server} 2
";

/// Counts of [`crate::traffic::commands`] in the standard profile.
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

/// Counts that the full profile adds to [`COMMANDS`].
pub const COMMANDS_FULL_PROFILE: &str = "
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

/// Counts of the end of a connection by the client in the command phase.
const CLOSED: &str = "connections_closed_total{closed_by=client,phase=command} 1
";

/// Counts of [`crate::traffic::session`] in the minimal profile.
const SESSION_MINIMAL: &str = "
    connections_total{protocol=mysql} 1
    server_first_detected_total{protocol=mysql} 1
    handshakes_total{result=ok} 1
    commands_total{command=ping} 1
    commands_total{command=query} 6
    commands_total{command=quit} 1
    errors_total{errno=other} 1
    bytes_total{sender=client} 474
    bytes_total{sender=server} 497
";

/// Counts of a connection with [`crate::traffic::session`] that the client closes.
pub fn session(profile: Profile) -> String {
    match profile {
        Profile::Minimal => SESSION_MINIMAL.to_owned(),
        Profile::Standard => [LOGIN, COMMANDS, CLOSED].concat(),
        Profile::Full => [LOGIN, LOGIN_FULL_PROFILE, COMMANDS, COMMANDS_FULL_PROFILE, CLOSED].concat(),
    }
}

/// Commands without a response.
const WITHOUT_RESPONSE: [&str; 2] = ["quit", "stmt_close"];

/// Commands with durations per verb. Tests state these durations themselves.
const WITH_VERB: [&str; 3] = ["query", "stmt_execute", "stmt_prepare"];

/// Adds to the lines the durations that the full profile counts for their commands. All commands had a response.
pub fn with_full_profile(lines: &str) -> String {
    let mut all = format!("{lines}\n");
    for line in lines.lines() {
        let command =
            line.trim().strip_prefix("commands_total{command=").and_then(|rest| rest.split_once("} "));
        let Some((command, count)) = command.filter(|(command, _)| !WITHOUT_RESPONSE.contains(command))
        else {
            continue;
        };
        all.push_str(&format!("command_first_byte_seconds_count{{command={command}}} {count}\n"));
        if !WITH_VERB.contains(&command) {
            all.push_str(&format!("command_duration_seconds_count{{command={command},verb=none}} {count}\n"));
        }
    }
    all
}
