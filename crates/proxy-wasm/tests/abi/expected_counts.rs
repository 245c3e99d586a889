//! Expected metrics of one connection: a fixture with every series, so that a test states only the values that differ.

use std::collections::BTreeMap;

use crate::host::Vm;
use crate::scripts::{Turn, bytes};
use crate::{OUTBOUND_ORDERS, assert_gauges_are_zero, under};

/// Series that exist from the start of a connection.
const FROM_THE_START: [&str; 54] = [
    "affected_rows_total",
    "bytes_total{sender=client}",
    "bytes_total{sender=server}",
    "commands_in_flight",
    "commands_stalled",
    "compressed_bytes_total{sender=client}",
    "compressed_bytes_total{sender=server}",
    "eof_hazard_clients_total",
    "greeting_timeouts_total",
    "handshakes_total{result=aborted}",
    "handshakes_total{result=error}",
    "handshakes_total{result=ok}",
    "handshakes_total{result=tls}",
    "hazards_total{kind=clear_password}",
    "hazards_total{kind=full_auth_without_tls}",
    "hazards_total{kind=host_blocked}",
    "hazards_total{kind=host_not_allowed}",
    "hazards_total{kind=idle_closed_by_proxy}",
    "hazards_total{kind=idle_closed_by_server}",
    "hazards_total{kind=local_infile_undecidable}",
    "hazards_total{kind=local_infile_unsolicited}",
    "hazards_total{kind=old_password}",
    "hazards_total{kind=packet_too_large}",
    "hazards_total{kind=split_eof}",
    "hazards_total{kind=tls_required}",
    "hazards_total{kind=too_many_connections}",
    "hazards_total{kind=unanswered_greeting}",
    "local_infile_blocked_total",
    "local_infile_total",
    "no_index_used_total",
    "opaque_total{reason=clone}",
    "opaque_total{reason=compressed}",
    "opaque_total{reason=configured}",
    "opaque_total{reason=desync}",
    "opaque_total{reason=late_start}",
    "opaque_total{reason=memory}",
    "opaque_total{reason=not_mysql}",
    "opaque_total{reason=replication}",
    "opaque_total{reason=tls}",
    "packets_total{sender=client}",
    "packets_total{sender=server}",
    "plaintext_full_auth_total",
    "prepare_eof_held_total",
    "prepare_eof_lost_total",
    "prepare_eof_splits_total",
    "prepared_statements_open",
    "protection_lost_total{reason=desync}",
    "protection_lost_total{reason=memory}",
    "protection_lost_total{reason=not_mysql}",
    "result_sets_total",
    "rows_total",
    "slow_flag_total",
    "transactions_open",
    "warnings_total",
];

/// Value of each series of a connection to `host::ORDERS`, without buckets. All durations are 0 unless a test sets them.
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Counts of a connection that the client closed in this phase, after bytes of a MySQL server.
    pub fn closed_in(phase: &str) -> Self {
        let zeros = FROM_THE_START.iter().map(|name| ((*name).to_owned(), 0));
        Self(zeros.collect())
            .set("connections_active{protocol=mysql}", 0)
            .set("connections_total{protocol=mysql}", 1)
            .set(&format!("connections_closed_total{{phase={phase},closed_by=client}}"), 1)
            .set("server_first_detected_total{protocol=mysql}", 1)
    }

    /// Adds the greeting of a server.
    pub fn greeting(self, flavor: &str, release: &str) -> Self {
        self.set("greeting_duration_microseconds_sum", 0)
            .set("greeting_duration_seconds_count", 1)
            .set(&format!("greetings_total{{flavor={flavor},release={release}}}"), 1)
    }

    /// Adds the greeting of the scripts' server, and its decision about a client without a name.
    pub fn handshake(self, result: &str) -> Self {
        self.greeting("mariadb", "10.11")
            .set("clients_total{client=none,client_series=none}", 1)
            .set("handshake_duration_microseconds_sum", 0)
            .set("handshake_duration_seconds_count", 1)
            .set(&format!("handshakes_total{{result={result}}}"), 1)
    }

    /// Counts of a connection whose client the server accepts. The client closes it.
    pub fn accepted() -> Self {
        Self::closed_in("command").handshake("ok")
    }

    /// Adds commands with a response: the command, the verb of its statement, and their number.
    pub fn responses(mut self, commands: &[(&str, &str, u64)]) -> Self {
        for (command, verb, count) in commands {
            let (of_command, with_verb) =
                (format!("command={command}"), format!("command={command},verb={verb}"));
            for name in [
                format!("commands_total{{{of_command}}}"),
                format!("command_duration_seconds_count{{{with_verb}}}"),
                format!("command_first_byte_seconds_count{{{of_command}}}"),
            ] {
                *self.0.entry(name).or_default() += count;
            }
            self = self
                .set(&format!("command_duration_microseconds_sum{{{with_verb}}}"), 0)
                .set(&format!("command_first_byte_microseconds_sum{{{of_command}}}"), 0);
        }
        self
    }

    /// Sets the values of these series.
    pub fn with(self, values: &[(&str, u64)]) -> Self {
        values.iter().fold(self, |counts, (name, value)| counts.set(name, *value))
    }

    /// Asserts that a VM with one connection, which played `script`, has exactly these metrics, zeros included.
    pub fn assert(self, vm: &Vm, script: &[Turn]) {
        let (client, server) = bytes(script);
        let counts = self.set("bytes_total{sender=client}", client).set("bytes_total{sender=server}", server);
        let mut expected: Vec<_> = counts.0.iter().map(|(name, value)| format!("{name} {value}")).collect();
        expected.sort();
        assert_eq!(under(vm, OUTBOUND_ORDERS), expected);
        assert_gauges_are_zero(vm);
    }

    fn set(mut self, name: &str, value: u64) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }
}
