//! Replication: a real replica that reads from a real primary through the filter.

use std::time::Duration;

use crate::counts::{QUIET, address, start_envoy, sum, sums_by};
use firstword_testing::database::{PASSWORD, USER};
use firstword_testing::mariadb::MariaDb;
use firstword_testing::wait_for;

#[test]
fn a_semi_synchronous_replica_receives_all_rows() {
    let options = ["--server-id=1", "--log-bin=log", "--rpl-semi-sync-master-enabled=1"];
    let primary = MariaDb::start(&options);
    let replica = MariaDb::start(&["--server-id=2", "--rpl-semi-sync-slave-enabled=1"]);
    let envoy = start_envoy(&primary);
    let port = address(&envoy).port();
    let [row] = primary.sql("SHOW MASTER STATUS").try_into().unwrap();
    replica.sql(&format!(
        "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='{USER}', \
         MASTER_PASSWORD='{PASSWORD}', MASTER_LOG_FILE='{}', MASTER_LOG_POS={}, MASTER_USE_GTID=no, MASTER_SSL=0",
        row[0], row[1]
    ));
    replica.sql("START SLAVE");
    wait_for("a semi-synchronous replica", Duration::from_secs(20), || {
        (primary.status("Rpl_semi_sync_master_clients") == 1).then_some(())
    });
    primary.sql("CREATE TABLE demo.copied (id INT PRIMARY KEY, text LONGTEXT)");
    for id in 0..50 {
        primary.sql(&format!("INSERT INTO demo.copied VALUES ({id}, REPEAT('x', {}))", id * 1000));
    }
    wait_for("all rows at the replica", Duration::from_secs(20), || {
        let tables = "SELECT 1 FROM information_schema.tables WHERE table_name = 'copied'";
        let there = !replica.sql(tables).is_empty();
        (there && replica.sql("SELECT COUNT(*) FROM demo.copied")[0][0] == "50").then_some(())
    });
    assert!(
        primary.status("Rpl_semi_sync_master_yes_tx") >= 50,
        "the primary received the replica's acknowledgements"
    );
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
    let commands = sums_by(&metrics, "commands_total", "command");
    assert_eq!((commands["register_slave"], commands["binlog_dump"]), (1, 1));
    assert_eq!(sum(&metrics, "commands_in_flight", &[]), 1, "the stream continues");
    replica.sql("STOP SLAVE");
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "commands_in_flight", &[]), 0);
    // Since MariaDB 11.3, a replica ends the primary's thread over another connection with TLS.
    let in_tls = sum(&metrics, "opaque_total", &[("reason", "tls")]);
    assert_eq!(sum(&metrics, "opaque_total", &[]), in_tls, "{}", envoy.log());
}
