//! What a capture tells is what the server counted of the same connection.

use std::collections::BTreeMap;

use firstword::event::{Event, Sender, Tally};

use crate::packets::packets;
use firstword_testing::capture::counted;
use firstword_testing::database::Oracle;
use firstword_testing::replay::{Captured, Replayed, captures, replay, whole};

/// What a server counts otherwise than it passes on the wire: captures whose names begin so, what is counted, and by how
/// much the server's count is higher. All measured on MariaDB 10.11 and MySQL 9.7.
const DIFFERENCES: &[(&str, &str, i64)] = &[
    // Rows that came before the error that ended their result set.
    ("mariadb-statements", "rows", -2),
    ("mysql-statements", "rows", -2),
    // Rows of cursors, RETURNING, COM_PROCESS_INFO.
    ("mariadb-prepared-", "rows", -5),
    ("mariadb-bulk-cached", "rows", -2),
    ("mariadb-removed", "rows", -2),
    // MariaDB's general log holds neither statements that cannot be prepared, nor what has a bad id, nor commands that were
    // removed, nor a schema that is not there; a bulk is an execution there.
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
    // It does not log a COM_CHANGE_USER of one byte.
    ("mariadb-greeted-again", "change_user", -2),
    // It counts rows that a routine reads from its cursors, and none of a COM_STMT_FETCH.
    ("mariadb-blocks", "rows", 18),
    ("mariadb-late-rows", "rows", 2),
    ("mariadb-cursors", "rows", 5 - 6),
    // MySQL counts each statement of a COM_QUERY, and those of procedures a second time.
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

/// Errors that a routine handles, which the client never sees: captures whose names begin so, the number, how many.
const HANDLED: (&str, u16, u64) = ("mariadb-handlers", 1242, 3);

/// What the answers to all commands held.
fn answers(told: &Replayed) -> impl Iterator<Item = Tally> {
    told.events.iter().filter_map(|event| match event {
        Event::CommandEnded { answer, .. } => answer.map(|answer| answer.tally),
        Event::ResponseContinued(tally) => Some(*tally),
        _ => None,
    })
}

/// Everything a server counts, by name, as the capture tells it.
fn told_counts(told: &Replayed, oracle: &Oracle) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> =
        oracle.counts.commands.keys().map(|label| (label.clone(), 0)).collect();
    for event in &told.events {
        if let Event::CommandSent(command) | Event::CommandStarted(command) = event {
            // MariaDB's log, for one, does not know them all.
            counts.entry(command.label().to_owned()).and_modify(|count| *count += 1);
        }
    }
    let sums = [
        ("rows", answers(told).map(|tally| tally.rows).sum()),
        ("affected_rows", answers(told).map(|tally| tally.affected_rows).sum()),
        ("failed", answers(told).filter(|tally| tally.errno.is_some()).count() as u64),
        ("bytes_received", told.bytes[Sender::Client as usize]),
        ("bytes_sent", told.bytes[Sender::Server as usize]),
    ];
    counts.extend(sums.map(|(name, sum)| (name.to_owned(), sum)));
    counts
}

/// The same as the server counted it.
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

#[test]
fn captures_tell_what_the_server_counted() {
    let mut problems = Vec::new();
    let mut used = vec![false; DIFFERENCES.len()];
    for Captured { name, text, chunks } in captures() {
        let told = replay(whole(&chunks));
        // What is compressed or encrypted cannot be seen.
        let Some(oracle) = counted(&text).filter(|_| !packets(&chunks).is_empty()) else { continue };
        let ours = told_counts(&told, &oracle);
        for (what, theirs) in server_counts(&oracle) {
            let mut expected = ours[&what] as i64;
            for (index, (front, counted, difference)) in DIFFERENCES.iter().enumerate() {
                if name.starts_with(front) && what == *counted {
                    used[index] = true;
                    expected += difference;
                }
            }
            if expected != theirs as i64 {
                problems.push(format!("{name}: {what} {expected}, the server counted {theirs}"));
            }
        }
        let mut errors = BTreeMap::new();
        answers(&told)
            .filter_map(|tally| tally.errno)
            .for_each(|errno| *errors.entry(errno).or_insert(0) += 1);
        let (front, errno, count) = HANDLED;
        if name.starts_with(front) {
            *errors.entry(errno).or_insert(0) += count;
        }
        // MySQL counts warnings among them.
        let mut counted = oracle.counts.errors.clone();
        if oracle.counts.warnings.is_some() {
            counted.retain(|errno, _| errors.contains_key(errno));
            counted
                .values_mut()
                .zip(errors.values())
                .for_each(|(theirs, ours)| *theirs = (*theirs).min(*ours));
        }
        if errors != counted {
            problems.push(format!("{name}: errors {errors:?}, the server counted {counted:?}"));
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
