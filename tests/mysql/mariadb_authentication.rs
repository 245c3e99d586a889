//! Authentication plugins of MariaDB.

use crate::counts::{QUIET, address, start_envoy, sum, sums_by};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::database::PASSWORD;
use firstword_testing::mariadb::MariaDb;

#[test]
fn logins_with_the_plugins_of_mariadb_are_counted() {
    let database = MariaDb::start(&["--plugin-load-add=auth_ed25519"]);
    for (user, plugin) in [("ed", "ed25519"), ("native", "mysql_native_password")] {
        let password = format!("PASSWORD('{PASSWORD}')");
        database.sql(&format!("CREATE USER {user}@'%' IDENTIFIED VIA {plugin} USING {password}"));
        database.sql(&format!("GRANT ALL ON *.* TO {user}@'%'"));
    }
    let envoy = start_envoy(&database);
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
    assert_eq!(sums_by(&metrics, "auth_switches_total", "plugin")["client_ed25519"], 2);
    assert_eq!(sum(&metrics, "opaque_total", &[]), 0, "{}", envoy.log());
}
