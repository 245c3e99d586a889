//! The counts of a replay equal the counts of the server for the same connection.

use std::collections::BTreeMap;

use firstword::event::{Event, Sender, Tally};

use crate::packets::packets;
use firstword_testing::capture::counted;
use firstword_testing::database::Oracle;
use firstword_testing::replay::{Captured, Replayed, captures, replay, whole};

/// Differences between a server's counts and the packets on the wire: prefix of the captures' names, name of the count, and the
/// difference that the server counts more. Measured on MariaDB 10.11 and MySQL 9.7.
const DIFFERENCES: &[(&str, &str, i64)] = &[
    // Rows before the error that ended their result set.
    ("mariadb-statements", "rows", -2),
    ("mysql-statements", "rows", -2),
    // Rows of cursors, RETURNING, COM_PROCESS_INFO.
    ("mariadb-prepared-", "rows", -5),
    ("mariadb-bulk-cached", "rows", -2),
    ("mariadb-removed", "rows", -2),
    // MariaDB's general log omits statements that cannot be prepared, bad statement ids, removed commands and unknown
    // schemas. It logs a bulk as executions.
    ("mariadb-prepared-", "stmt_prepare", -2),
    ("mariadb-prepared-", "stmt_execute", -1),
    ("mariadb-prepared-", "stmt_reset", -1),
    ("mariadb-prepared-", "stmt_close", -1),
    ("mariadb-driver-prepared", "stmt_prepare", -1),
    ("mariadb-bulk-cached", "stmt_prepare", -1),
    ("mariadb-bulk-cached", "stmt_execute", 4 - 1),
    ("mariadb-removed", "create_db", -1),
    ("mariadb-removed", "drop_db", -1),
    ("mariadb-commands", "init_db", -1),
    // MariaDB does not log a COM_CHANGE_USER of one byte.
    ("mariadb-greeted-again", "change_user", -2),
    // MariaDB counts rows that a routine reads from its cursors, and no rows of a COM_STMT_FETCH.
    ("mariadb-blocks", "rows", 18),
    ("mariadb-late-rows", "rows", 2),
    ("mariadb-cursors", "rows", 5 - 6),
    // MySQL counts each statement of a COM_QUERY, and counts the statements of procedures again.
    ("mysql-statements", "query", 5),
    ("mysql-infile", "query", 1),
    ("mysql-procedures", "query", 2),
    ("mysql-procedures", "rows", 4),
    ("mysql-procedures", "affected_rows", 3),
    ("mysql-procedures", "failed", 3),
    ("mysql-handlers", "query", 1),
    ("mysql-handlers", "rows", 15),
    ("mysql-handlers", "failed", 3),
    ("mysql-cursors", "query", 1),
    ("mysql-cursors", "rows", 40),
    ("mysql-cursors", "affected_rows", 1),
    ("mysql-session-track", "query", 2),
    ("mysql-session-track", "rows", 1),
    ("mysql-session-track", "affected_rows", 4),
];

/// Errors that a routine handles, and that no client sees: prefix of the captures' names, errno, and how often it occurs.
const HANDLED: (&str, u16, u64) = ("mariadb-handlers", 1242, 3);

/// The tallies of the responses to all commands.
fn tallies(replayed: &Replayed) -> impl Iterator<Item = Tally> {
    replayed.events.iter().filter_map(|event| match event {
        Event::CommandEnded { response, .. } => response.map(|response| response.tally),
        Event::ResponseContinued(tally) => Some(*tally),
        _ => None,
    })
}

/// Counts of a replay, by name, for everything that the server counts.
fn our_counts(replayed: &Replayed, oracle: &Oracle) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> =
        oracle.counts.commands.keys().map(|label| (label.clone(), 0)).collect();
    for event in &replayed.events {
        if let Event::CommandSent(command) | Event::CommandStarted(command) = event {
            // The server does not count all commands: MariaDB's log omits some.
            counts.entry(command.label().to_owned()).and_modify(|count| *count += 1);
        }
    }
    let sums = [
        ("rows", tallies(replayed).map(|tally| tally.rows).sum()),
        ("affected_rows", tallies(replayed).map(|tally| tally.affected_rows).sum()),
        ("failed", tallies(replayed).filter(|tally| tally.errno.is_some()).count() as u64),
        ("bytes_received", replayed.bytes[Sender::Client as usize]),
        ("bytes_sent", replayed.bytes[Sender::Server as usize]),
    ];
    counts.extend(sums.map(|(name, sum)| (name.to_owned(), sum)));
    counts
}

/// Counts of the server, by name.
fn server_counts(oracle: &Oracle) -> BTreeMap<String, u64> {
    let mut counts = oracle.counts.commands.clone();
    let sums = [
        ("rows", Some(oracle.counts.rows)),
        ("affected_rows", oracle.counts.affected_rows),
        ("failed", oracle.counts.failed),
        ("bytes_received", Some(oracle.bytes_received)),
        ("bytes_sent", Some(oracle.bytes_sent)),
    ];
    counts.extend(sums.into_iter().filter_map(|(name, sum)| Some((name.to_owned(), sum?))));
    counts
}

/// Numbers of errors in a replay and in the server, in this order, by errno.
fn errors(name: &str, replayed: &Replayed, oracle: &Oracle) -> [BTreeMap<u16, u64>; 2] {
    let mut ours = BTreeMap::new();
    tallies(replayed).filter_map(|tally| tally.errno).for_each(|errno| *ours.entry(errno).or_insert(0) += 1);
    let (prefix, errno, count) = HANDLED;
    if name.starts_with(prefix) {
        *ours.entry(errno).or_insert(0) += count;
    }
    let mut theirs = oracle.counts.errors.clone();
    // MySQL counts warnings among its errors.
    if oracle.counts.warnings.is_some() {
        theirs.retain(|errno, _| ours.contains_key(errno));
        theirs.values_mut().zip(ours.values()).for_each(|(theirs, ours)| *theirs = (*theirs).min(*ours));
    }
    [ours, theirs]
}

#[test]
fn replays_count_the_same_as_the_server() {
    let mut problems = Vec::new();
    let mut used = vec![false; DIFFERENCES.len()];
    for Captured { name, text, chunks } in captures() {
        let replayed = replay(whole(&chunks));
        // Compressed and encrypted packets cannot be inspected.
        let Some(oracle) = counted(&text).filter(|_| !packets(&chunks).is_empty()) else { continue };
        let ours = our_counts(&replayed, &oracle);
        for (count, theirs) in server_counts(&oracle) {
            let mut expected = ours[&count] as i64;
            for (index, (prefix, counted, difference)) in DIFFERENCES.iter().enumerate() {
                if name.starts_with(prefix) && count == *counted {
                    used[index] = true;
                    expected += difference;
                }
            }
            if expected != theirs as i64 {
                problems.push(format!("{name}: {count} {expected}, the server counted {theirs}"));
            }
        }
        let [ours, theirs] = errors(&name, &replayed, &oracle);
        if ours != theirs {
            problems.push(format!("{name}: errors {ours:?}, the server counted {theirs:?}"));
        }
    }
    let unused = DIFFERENCES
        .iter()
        .zip(used)
        .filter(|(_, used)| !used)
        .map(|(entry, _)| format!("no use for {entry:?}"));
    problems.extend(unused);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
