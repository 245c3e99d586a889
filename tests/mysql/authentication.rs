//! How clients prove who they are, and what of it the filter sees.

use crate::counts::{QUIET, address, between, by, sum};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::PASSWORD;
use firstword_testing::mariadb::MariaDb;

/// `mysql_old_password` is the answer to a lone 0xfe.
#[test]
fn mariadb_asks_for_its_plugins() {
    let database = MariaDb::start(&["--plugin-load-add=auth_ed25519"]);
    for (user, plugin) in [("ed", "ed25519"), ("native", "mysql_native_password")] {
        let password = format!("PASSWORD('{PASSWORD}')");
        database.sql(&format!("CREATE USER {user}@'%' IDENTIFIED VIA {plugin} USING {password}"));
        database.sql(&format!("GRANT ALL ON *.* TO {user}@'%'"));
    }
    let envoy = between(&database);
    for (user, password) in [("ed", PASSWORD), ("native", PASSWORD)] {
        Client::login(address(&envoy), &Login::new(CLASSIC).user(user, password)).quit();
    }
    let refused = |user, password| {
        let login = Login::new(CLASSIC).user(user, password);
        Client::connect(address(&envoy)).log_in(&login).err()
    };
    assert_eq!(refused("ed", "wrong"), Some(1045));
    assert_eq!(refused("native", "wrong"), Some(1045));
    let metrics = envoy.stable(QUIET);
    assert_eq!(sum(&metrics, "handshakes_total", &[("result", "ok")]), 2);
    assert_eq!(
        sum(&metrics, "handshake_errors_total", &[("errno", "1045"), ("plugin", "client_ed25519")]),
        1
    );
    let native = [("errno", "1045"), ("plugin", "mysql_native_password")];
    assert_eq!(sum(&metrics, "handshake_errors_total", &native), 1);
    assert_eq!(by(&metrics, "auth_switches_total", "plugin")["client_ed25519"], 2);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
}
